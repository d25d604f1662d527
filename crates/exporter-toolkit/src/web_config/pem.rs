//! What `tls_server_config` names in PEM form: in a file or inline, read, and what is wrong with it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject as _},
};
use secrecy::{ExposeSecret as _, SecretBox, SecretString};

use super::{
    document::{Secret, Text},
    file::{FileBytes, read_bytes},
    report::{HIDDEN, WebMistake, line, may_be_secret},
};

pub(super) const SECTION: &str = "tls_server_config";

/// Something in PEM form and where it is.
#[derive(Debug)]
pub(super) struct PemSetting {
    pub(super) key: &'static str,
    pub(super) line: Option<usize>,
    source: PemSource,
}

#[derive(Debug)]
enum PemSource {
    Inline(SecretString),
    File {
        path: PathBuf,
        /// It in a message.
        shown: String,
    },
}

/// What the files of the settings hold.
#[derive(Debug)]
pub(super) struct TlsFiles {
    pub(super) cert: FileBytes,
    pub(super) key: FileBytes,
    pub(super) client_ca: Option<FileBytes>,
}

impl PemSetting {
    /// What the two keys say; the file wins.
    pub(super) fn of(
        [file_key, inline_key]: [&'static str; 2],
        file: Text,
        inline: Secret,
        directory: &Path,
    ) -> Option<Self> {
        if let Some(file) = file.filter(|file| !file.value.is_empty()) {
            let path = directory.join(&file.value);
            let shown = if may_be_secret(&file.value) { HIDDEN.to_owned() } else { format!("({})", path.display()) };
            let source = PemSource::File { path, shown };
            return Some(Self { key: file_key, line: line(file.referenced.line()), source });
        }
        let inline = inline.filter(|inline| !inline.value.expose_secret().is_empty())?;
        Some(Self { key: inline_key, line: line(inline.referenced.line()), source: PemSource::Inline(inline.value) })
    }

    pub(super) fn read(&self) -> Result<FileBytes, WebMistake> {
        match &self.source {
            PemSource::Inline(text) => Ok(SecretBox::new(Box::new(text.expose_secret().as_bytes().to_vec()))),
            // The usual way to name an empty file; what it lacks says more than that it is a device.
            PemSource::File { path, .. } if path == Path::new("/dev/null") => Ok(SecretBox::default()),
            PemSource::File { path, shown } => read_bytes(path).map_err(|error| {
                let remedy = "name a file that this user can read; a path starts at the directory of this file";
                self.mistake(format!("failed to read {} {shown}: {error}; {remedy}", self.key))
            }),
        }
    }

    /// What to say if everybody can read the file. A group may be how this program reads it.
    pub(super) fn warning_if_open(&self) -> Option<String> {
        let PemSource::File { path, shown } = &self.source else { return None };
        let mode = fs::metadata(path).ok()?.permissions().mode() & 0o7777;
        (mode & 0o004 != 0).then(|| {
            format!(
                "{SECTION}.{} {shown} can be read by every user of this machine (mode {mode:04o}), and anyone who has it can pose as this server: chmod 600 it, or 640 with a group without other members",
                self.key
            )
        })
    }

    pub(super) fn unusable(&self, why: impl std::fmt::Display) -> WebMistake {
        self.mistake(format!("failed to load X509KeyPair: {why}"))
    }

    pub(super) fn mistake(&self, text: String) -> WebMistake {
        WebMistake { line: self.line, key: format!("{SECTION}.{}", self.key), text }
    }
}

impl TlsFiles {
    /// All of it.
    pub(super) fn parts(&self) -> Vec<&[u8]> {
        let parts = [&self.cert, &self.key].into_iter().chain(&self.client_ca);
        parts.map(|bytes| bytes.expose_secret().as_slice()).collect()
    }
}

pub(super) const NO_CERTIFICATE: &str = "it holds no certificate in PEM form; one begins with BEGIN CERTIFICATE";
pub(super) const DAMAGED: &str = "its PEM is damaged; copy it again, from the first line with dashes to the last";

pub(super) fn certificates(pem: &FileBytes) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.expose_secret()).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(NO_CERTIFICATE),
        Ok(certificates) => Ok(certificates),
        Err(_) => Err(DAMAGED),
    }
}

pub(super) fn private_key(pem: &FileBytes) -> Result<PrivateKeyDer<'static>, &'static str> {
    let pem = pem.expose_secret();
    let says = |words: &str| pem.windows(words.len()).any(|window| window == words.as_bytes());
    if says("BEGIN ENCRYPTED PRIVATE KEY") || says("Proc-Type: 4,ENCRYPTED") {
        return Err(
            "it is encrypted with a password, which a daemon cannot ask for; write it without one: `openssl pkey -in FILE -out NEW_FILE`",
        );
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        pem::Error::NoItemsFound => "it holds no private key in PEM form; one begins with BEGIN PRIVATE KEY",
        _ => DAMAGED,
    })
}
