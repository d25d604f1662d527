//! Certificate authorities that are trusted in addition to the system's, from a PEM file: `api.ca_file`.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use thiserror::Error;

use crate::files::{
    self,
    watch::{Fingerprint, wait_for_change},
};

/// The bundles of whole systems have a quarter of a megabyte.
const MAX_BYTES: u64 = 10 * 1024 * 1024;

/// What a file of certificate authorities held when it was read. Two are equal if they hold the same certificates.
#[derive(Debug)]
pub struct CaFile {
    path: PathBuf,
    roots: Vec<CertificateDer<'static>>,
    seen: Fingerprint,
}

impl PartialEq for CaFile {
    fn eq(&self, other: &Self) -> bool {
        self.roots == other.roots
    }
}

/// Why a file of certificate authorities cannot be used.
#[derive(Debug, Error)]
pub enum CaFileError {
    /// The file cannot be read.
    #[error("{0}")]
    Unreadable(io::Error),
    /// No block at all.
    #[error("it holds no certificate in PEM form, which begins with {BEGINNING}")]
    None,
    /// Blocks, and none of use.
    #[error("no certificate in it can be read; copy it again, from the first line with dashes to the last")]
    Damaged,
}

impl CaFile {
    /// Reads the file, and warns of blocks in it that are of no use.
    ///
    /// # Errors
    /// If there is no certificate in it that can be used.
    pub fn load(path: PathBuf) -> Result<Self, CaFileError> {
        let mut seen = Fingerprint::default();
        let pem = read(&path)?;
        seen.changes(&[&pem]);
        Self::parse(path, &pem, seen)
    }

    fn parse(path: PathBuf, pem: &[u8], seen: Fingerprint) -> Result<Self, CaFileError> {
        let Roots { certificates, damaged } = read_roots(pem)?;
        if !damaged.is_empty() {
            tracing::warn!(
                file = %path.display(),
                ?damaged,
                "Certificates of these numbers in this file cannot be used. The others in it are trusted."
            );
        }
        Ok(Self { path, roots: certificates, seen })
    }

    /// Waits until the file holds other certificates, and returns it with those. One that cannot be used is logged.
    pub async fn changed(self: Arc<Self>) -> Arc<Self> {
        wait_for_change(self, Self::reread, |error| {
            tracing::warn!(%error, "The file that api.ca_file names cannot be used. The certificate authorities read before stay in use.");
        })
        .await
    }

    fn reread(&self) -> Result<Option<Self>, CaFileError> {
        let mut seen = self.seen.clone();
        let pem = read(&self.path)?;
        if seen.changes(&[&pem]) { Self::parse(self.path.clone(), &pem, seen).map(Some) } else { Ok(None) }
    }

    pub(super) fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CaFileError> {
    files::read_at_most(path, MAX_BYTES).map(|(pem, _)| pem).map_err(CaFileError::Unreadable)
}

const BEGINNING: &str = "-----BEGIN CERTIFICATE-----";

/// What a PEM file of certificate authorities holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Roots {
    /// At least one.
    pub certificates: Vec<CertificateDer<'static>>,
    /// Which of its certificates, counted from 1, cannot be used.
    pub damaged: Vec<usize>,
}

/// Reads the certificates of a PEM file. Other blocks in it, such as keys, are left alone.
///
/// # Errors
/// If there is none that can be used.
pub fn read_roots(pem: &[u8]) -> Result<Roots, CaFileError> {
    let text = String::from_utf8_lossy(pem);
    let (mut certificates, mut damaged) = (Vec::new(), Vec::new());
    // One without an end must not take the next one with it.
    for (number, block) in text.split(BEGINNING).enumerate().skip(1) {
        match CertificateDer::from_pem_slice(format!("{BEGINNING}{block}").as_bytes()) {
            // reqwest looks at what is inside only when the first connection is made.
            Ok(block) if RootCertStore::empty().add(block.clone()).is_ok() => certificates.push(block),
            _ => damaged.push(number),
        }
    }
    match (certificates.is_empty(), damaged.is_empty()) {
        (false, _) => Ok(Roots { certificates, damaged }),
        (true, false) => Err(CaFileError::Damaged),
        (true, true) => Err(CaFileError::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(content: &str) -> String {
        format!("-----BEGIN CERTIFICATE-----\n{content}\n-----END CERTIFICATE-----\n")
    }

    fn good() -> String {
        let params = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn a_certificate_has_to_be_one_inside_too() {
        for (text, why) in [
            (pem("aGVsbG8="), "no certificate in it can be read"),
            (pem(&"AAAA".repeat(100)), "no certificate in it can be read"),
            (format!("# a comment\n\n{}", pem("!")), "no certificate in it can be read"),
            (pem("!").repeat(9), "no certificate in it can be read"),
            (good().replace("-----END CERTIFICATE-----", ""), "no certificate in it can be read"),
            (String::new(), "it holds no certificate in PEM form"),
            ("no PEM".into(), "it holds no certificate in PEM form"),
            (good().replace("CERTIFICATE", "PRIVATE KEY"), "it holds no certificate in PEM form"),
        ] {
            let error = read_roots(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{error} for {text}");
        }
    }

    #[test]
    fn a_damaged_block_spoils_no_other() {
        let (one, two) = (good(), good());
        let cut = one.lines().take(4).collect::<Vec<_>>().join("\n");
        for (text, certificates, damaged) in [
            (format!("{one}{two}"), 2, None),
            (format!("{one}{}{two}", pem("AAAA")), 2, Some(2)),
            (format!("{one}{}{two}", pem("!")), 2, Some(2)),
            (format!("{cut}\n{two}"), 1, Some(1)),
            (format!("{one}{cut}"), 1, Some(2)),
            (format!("\u{feff}{one}").replace('\n', "\r\n"), 1, None),
            (format!("some words\n{}{one}", two.replace("CERTIFICATE", "PRIVATE KEY")), 1, None),
            (format!("{one}{}", pem("AAAA").replace("CERTIFICATE", "TRUSTED CERTIFICATE")), 1, None),
        ] {
            let roots = read_roots(text.as_bytes()).unwrap();
            assert_eq!((roots.certificates.len(), roots.damaged.first().copied()), (certificates, damaged), "{text}");
        }
        for utf16 in [u16::to_le_bytes, u16::to_be_bytes] {
            for text in [one.clone(), format!("\u{feff}{one}")] {
                let bytes: Vec<u8> = text.encode_utf16().flat_map(utf16).collect();
                assert!(matches!(read_roots(&bytes), Err(CaFileError::None)));
            }
        }
    }
}
