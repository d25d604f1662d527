//! The directory of the state files, which one process has to itself.

use std::{
    fs::{DirBuilder, File, Metadata, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::PathBuf,
    sync::Mutex,
};

use super::lock;
use crate::model::clean;

/// A directory with a lock in it.
#[derive(Debug)]
pub(super) struct LockedDirectory {
    pub(super) path: PathBuf,
    /// Held as long as the process lives; `None` while the directory cannot be written.
    held: Mutex<Option<File>>,
}

impl LockedDirectory {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, held: Mutex::default() }
    }

    pub(super) fn is_held(&self) -> bool {
        lock(&self.held).is_some()
    }

    /// Makes sure that the directory is there and this process's own; `ResourceBusy` if another process has it.
    pub(super) fn take(&self) -> io::Result<()> {
        let mut held = lock(&self.held);
        let path = self.path.join("lock");
        let inode = |metadata: io::Result<Metadata>| metadata.map(|metadata| metadata.ino()).ok();
        if held.as_ref().is_some_and(|file| inode(file.metadata()) == inode(path.metadata())) {
            return Ok(());
        }
        // Not held yet, or somebody removed it, and another process may have made its own.
        *held = None;
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path).map_err(explained)?;
        if path.metadata().is_ok_and(|there| !there.is_file()) {
            return Err(io::Error::other("lock is not a regular file; remove it"));
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(explained)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // Only for the message.
                let _ = (&mut file).take(20).read_to_string(&mut pid);
                let (path, pid) = (self.path.display(), clean(pid.trim()));
                let pid = if pid.is_empty() { String::new() } else { format!(" (pid {pid})") };
                let in_use = format!(
                    "the state directory {path} is in use by another process{pid}; stop that one, or give this one a directory of its own ([state] directory)"
                );
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, in_use));
            }
            // Nothing is written without it: two processes would forget each other's requests, and then the budget is
            // spent twice.
            Err(TryLockError::Error(error)) => {
                let remedy = "it cannot be locked, which keeps other processes away; put [state] directory on a local disk, or mount this one with locks";
                return Err(io::Error::new(error.kind(), format!("{remedy} ({error})")));
            }
        }
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        *held = Some(file);
        Ok(())
    }

    /// Warns that others decide what is restored, where they can write too.
    pub(super) fn warn_if_open(&self) {
        let Ok(metadata) = self.path.metadata() else { return };
        if let Some(remedy) = remedy_if_open(&metadata) {
            let (directory, mode) = (self.path.display(), format!("{:04o}", metadata.mode() & 0o7777));
            tracing::warn!(%directory, mode, owner = metadata.uid(), remedy, "Others can write to the state directory, and so decide what a restart shows.");
        }
    }
}

/// What to do where the directory cannot be made, or no file in it.
fn explained(error: io::Error) -> io::Error {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "this user cannot write there; change the owner or mode of [state] directory"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "it is read-only for this process; under systemd, name it in StateDirectory= or ReadWritePaths="
        }
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            "a file is in its place; remove it, or choose another [state] directory"
        }
        _ => return error,
    };
    io::Error::new(error.kind(), format!("{remedy} ({error})"))
}

/// What to do about a directory in which others than its owner can write.
fn remedy_if_open(metadata: &Metadata) -> Option<String> {
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != user && owner != 0 {
        return Some(format!("chown it to the user {user}, as which the daemon runs"));
    }
    match metadata.mode() & 0o022 {
        0 => None,
        0o020 => Some("chmod g-w".to_owned()),
        0o002 => Some("chmod o-w".to_owned()),
        _ => Some("chmod go-w".to_owned()),
    }
}
