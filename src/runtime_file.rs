//! Where the running daemon answers, in a file of its runtime directory, so that `check` and `healthcheck` find it
//! although flags, port 0 or a socket of systemd's have put it elsewhere than its configuration says.
//!
//! The daemon holds a lock on the file while it lives, so one that was killed leaves nothing that is believed.

use std::{
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{config::Listening, files, server::ListenAddress};

const NAME: &str = "cloudflare-cert-exporter.json";

/// Addresses of one daemon take far less.
const MAX_BYTES: u64 = 64 * 1024;

#[derive(Debug, Serialize, Deserialize)]
struct SavedAddresses {
    addresses: Vec<String>,
    tls: bool,
    probe_address: Option<String>,
}

/// The file of this process; it is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct RuntimeFile {
    path: PathBuf,
    _locked: File,
}

impl RuntimeFile {
    /// Says where this process answers, for every user of this machine to read.
    ///
    /// # Errors
    /// If it cannot be written, or another process that lives has written it.
    pub(crate) fn write(directory: &Path, listening: &Listening) -> io::Result<Self> {
        let path = directory.join(NAME);
        if open_if_alive(&path).is_some() {
            return Err(io::Error::other("another daemon has this directory; give each one of its own"));
        }
        let content = SavedAddresses {
            addresses: listening.addresses.iter().map(ToString::to_string).collect(),
            tls: matches!(listening.is_tls, Ok(true)),
            probe_address: listening.probe_address.as_ref().map(ToString::to_string),
        };
        let temporary = directory.join(format!("{NAME}.tmp"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&temporary)?;
        file.try_lock()?;
        // The monitoring system has another user, and the umask of a daemon is strict.
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.write_all(serde_json::to_string(&content)?.as_bytes())?;
        fs::rename(&temporary, &path)?;
        Ok(Self { path, _locked: file })
    }
}

impl Drop for RuntimeFile {
    fn drop(&mut self) {
        // systemd may have removed the directory already.
        let _ = fs::remove_file(&self.path);
    }
}

/// Where a daemon answers that has this runtime directory; `None` if none does.
pub(crate) fn read(directory: &Path) -> Option<Listening> {
    let mut text = String::new();
    open_if_alive(&directory.join(NAME))?.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    let SavedAddresses { addresses, tls, probe_address } = serde_json::from_str(&text).ok()?;
    let addresses: Vec<ListenAddress> = addresses.iter().filter_map(|address| address.parse().ok()).collect();
    Some(Listening {
        addresses: Some(addresses).filter(|addresses| !addresses.is_empty())?,
        is_tls: Ok(tls),
        probe_address: probe_address.and_then(|address| address.parse().ok()),
    })
}

/// The file, if the process that has written it lives.
fn open_if_alive(path: &Path) -> Option<File> {
    let (file, _) = files::open(path).ok()?;
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_file_of_a_process_that_lives_is_believed() {
        let directory = tempfile::tempdir().unwrap();
        let listening = Listening {
            addresses: vec![":9100".parse().unwrap(), "[::1]:9101".parse().unwrap()],
            is_tls: Ok(true),
            probe_address: Some("127.0.0.1:9102".parse().unwrap()),
        };
        for probe_address in [listening.probe_address.clone(), None] {
            let listening = Listening { probe_address, is_tls: Ok(true), addresses: listening.addresses.clone() };
            let file = RuntimeFile::write(directory.path(), &listening).unwrap();
            assert_eq!(format!("{:?}", read(directory.path()).unwrap()), format!("{listening:?}"));
            // A second daemon does not take it from the first.
            assert!(RuntimeFile::write(directory.path(), &listening).is_err());
            assert!(read(directory.path()).is_some());
            let kept = directory.path().join("kept");
            fs::copy(directory.path().join(NAME), &kept).unwrap();
            drop(file);
            assert!(read(directory.path()).is_none());
            // As a process leaves it that was killed.
            fs::rename(kept, directory.path().join(NAME)).unwrap();
            assert!(read(directory.path()).is_none());
        }
        assert!(read(Path::new("/nonexistent")).is_none());
    }
}
