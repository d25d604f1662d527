//! Certificate authorities that are trusted in addition to the system's, from a PEM file: `api.ca_file`.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use thiserror::Error;

use super::encoding::{is_utf16, without_mark};
use crate::files::{
    self,
    watch::{Fingerprint, wait_for_change},
};

/// The bundles of whole systems have a quarter of a megabyte.
const MAX_BYTES: u64 = 10 * 1024 * 1024;

/// More damaged blocks than this are not named one by one.
const MAX_NAMED: usize = 5;

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
    /// What is in it is of no use.
    #[error(transparent)]
    Invalid(#[from] InvalidRoots),
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
                damaged = %named(&damaged),
                "A part of this file is no certificate that can be used. The others in it are trusted."
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

    /// The certificates.
    pub(super) fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CaFileError> {
    files::read_at_most(path, MAX_BYTES).map(|(pem, _)| pem).map_err(CaFileError::Unreadable)
}

/// What a PEM file of certificate authorities holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Roots {
    /// At least one.
    pub certificates: Vec<CertificateDer<'static>>,
    /// Blocks that say that they are certificates and are none that can be used.
    pub damaged: Vec<DamagedBlock>,
}

/// A block of a PEM file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedBlock {
    /// Counts the blocks with certificates from 1.
    pub number: usize,
    /// Where it begins; the first line is 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: &'static str,
}

impl fmt::Display for DamagedBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificate {} in line {}: {}", self.number, self.line, self.why)
    }
}

/// Why bytes are no PEM file of certificate authorities.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidRoots {
    /// No block at all.
    #[error("it holds no certificate in PEM form, which begins with -----BEGIN CERTIFICATE-----")]
    None,
    /// Blocks, and none of use.
    #[error("no certificate in it can be read ({})", named(.0))]
    Damaged(Vec<DamagedBlock>),
    /// An editor's fault.
    #[error("it is UTF-16; save it as UTF-8")]
    Utf16,
}

fn named(damaged: &[DamagedBlock]) -> String {
    let mut words: Vec<_> = damaged.iter().take(MAX_NAMED).map(ToString::to_string).collect();
    if damaged.len() > MAX_NAMED {
        words.push(format!("and {} more", damaged.len() - MAX_NAMED));
    }
    words.join("; ")
}

/// Reads the certificates of a PEM file. Other blocks in it, such as keys, are left alone.
///
/// # Errors
/// If there is none that can be used.
pub fn read_roots(pem: &[u8]) -> Result<Roots, InvalidRoots> {
    if is_utf16(pem) {
        return Err(InvalidRoots::Utf16);
    }
    let text = String::from_utf8_lossy(without_mark(pem));
    let (mut certificates, mut damaged) = (Vec::new(), Vec::new());
    for (number, (line, block)) in (1..).zip(blocks(&text)) {
        match certificate(&block) {
            Ok(certificate) => certificates.push(certificate),
            Err(why) => damaged.push(DamagedBlock { number, line, why }),
        }
    }
    match (certificates.is_empty(), damaged.is_empty()) {
        (false, _) => Ok(Roots { certificates, damaged }),
        (true, false) => Err(InvalidRoots::Damaged(damaged)),
        (true, true) => Err(InvalidRoots::None),
    }
}

/// The blocks with certificates, each with the line in which it begins. One without an end ends where the next begins.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks: Vec<(usize, String)> = Vec::new();
    let mut is_open = false;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.starts_with("-----BEGIN ") {
            is_open = line == "-----BEGIN CERTIFICATE-----";
            if is_open {
                blocks.push((number, String::new()));
            }
        }
        if let Some((_, block)) = blocks.last_mut().filter(|_| is_open) {
            block.push_str(line);
            block.push('\n');
        }
        is_open &= !line.starts_with("-----END ");
    }
    blocks
}

fn certificate(block: &str) -> Result<CertificateDer<'static>, &'static str> {
    if !block.contains("-----END CERTIFICATE-----") {
        return Err("it has no line -----END CERTIFICATE-----");
    }
    let certificate = CertificateDer::from_pem_slice(block.as_bytes()).map_err(|_| "it is not base64")?;
    // reqwest looks at what is inside only when the first connection is made.
    RootCertStore::empty().add(certificate.clone()).map_err(|_| "what is inside is no certificate")?;
    Ok(certificate)
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
            (pem("aGVsbG8="), "certificate 1 in line 1: what is inside is no certificate"),
            (pem(&"AAAA".repeat(100)), "certificate 1 in line 1: what is inside is no certificate"),
            (format!("# a comment\n\n{}", pem("!")), "certificate 1 in line 3: it is not base64"),
            (good().replace("-----END CERTIFICATE-----", ""), "in line 1: it has no line -----END CERTIFICATE-----"),
            (String::new(), "it holds no certificate in PEM form"),
            ("no PEM".into(), "it holds no certificate in PEM form"),
            (good().replace("CERTIFICATE", "PRIVATE KEY"), "it holds no certificate in PEM form"),
        ] {
            let error = read_roots(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{error} for {text}");
        }
        let many = read_roots(pem("!").repeat(9).as_bytes()).unwrap_err().to_string();
        assert!(many.contains("certificate 5 in line 13") && many.ends_with("; and 4 more)"), "{many}");
    }

    #[test]
    fn a_damaged_block_spoils_no_other() {
        let (one, two) = (good(), good());
        let cut = one.lines().take(4).collect::<Vec<_>>().join("\n");
        let lines = one.lines().count();
        for (text, certificates, damaged) in [
            (format!("{one}{two}"), 2, None),
            (format!("{one}{}{two}", pem("AAAA")), 2, Some((2, lines + 1))),
            (format!("{cut}\n{two}"), 1, Some((1, 1))),
            (format!("{one}{cut}"), 1, Some((2, lines + 1))),
            (format!("\u{feff}{one}").replace('\n', "\r\n"), 1, None),
            (format!("some words\n{}{one}", two.replace("CERTIFICATE", "PRIVATE KEY")), 1, None),
            (format!("{one}{}", pem("AAAA").replace("CERTIFICATE", "TRUSTED CERTIFICATE")), 1, None),
        ] {
            let roots = read_roots(text.as_bytes()).unwrap();
            let found = roots.damaged.first().map(|block| (block.number, block.line));
            assert_eq!((roots.certificates.len(), found), (certificates, damaged), "{text}");
        }
        for utf16 in [u16::to_le_bytes, u16::to_be_bytes] {
            for text in [one.clone(), format!("\u{feff}{one}")] {
                let bytes: Vec<u8> = text.encode_utf16().flat_map(utf16).collect();
                assert_eq!(read_roots(&bytes), Err(InvalidRoots::Utf16));
            }
        }
    }
}
