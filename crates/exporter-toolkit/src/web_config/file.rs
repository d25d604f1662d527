//! Files as bytes, of which some are secrets.

use std::{io, path::Path};

use secrecy::SecretBox;

use crate::files;

/// The bytes of a file; they are wiped when they are no longer needed.
pub(super) type FileBytes = SecretBox<Vec<u8>>;

pub(super) fn read_bytes(path: &Path) -> Result<FileBytes, String> {
    match files::read(path) {
        Ok(bytes) => Ok(SecretBox::new(Box::new(bytes))),
        // In the words of Go.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err("no such file or directory".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
