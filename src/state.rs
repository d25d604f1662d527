//! What survives a restart: a file for each target, each credential and the zones that it sees, in one directory.
//!
//! Files are JSON, replaced whole and read with suspicion. One that is torn, foreign or of a newer format is reported
//! and kept aside, and costs only what was in it. A disk that fails costs a log line and a metric, never a poll. What a
//! credential's file holds is for `cloudflare` to know, and what a restored zone does next for the poller. No secret, no
//! PEM and no signing request is in any of them.

mod directory;
mod discovery;
mod file;
#[cfg(any(test, fuzzing))]
pub(crate) mod properties;
mod target;
mod writer;

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus::IntCounter;
use serde::{Serialize, de::DeserializeOwned};

use self::{directory::LockedDirectory, writer::Writer};
use crate::model::Target;

pub use discovery::SavedDiscovery;
pub use target::SavedTarget;

/// A directory for the state of this process alone.
#[derive(Debug, Clone)]
pub struct Directory(Arc<Writer>);

impl Directory {
    /// Takes the directory, and makes it where it is not there. `write_failures` counts what could not be written.
    ///
    /// One that cannot be written is reported and tried again with each write.
    ///
    /// # Errors
    /// If another process has it.
    pub fn open(path: &Path, write_failures: IntCounter) -> io::Result<Self> {
        let writer = Writer::new(LockedDirectory::new(path.to_owned()), write_failures);
        match writer.directory.take() {
            Ok(()) => writer.directory.warn_if_open(),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return Err(error),
            Err(error) => writer.failed("lock", &error),
        }
        Ok(Self(Arc::new(writer)))
    }

    /// Where what is known of a target is kept.
    #[must_use]
    pub fn target(&self, target: &Target) -> Slot {
        Slot { writer: Arc::clone(&self.0), file: file_of_target(target) }
    }

    /// Where a credential is kept.
    #[must_use]
    pub fn credential(&self, name: &str) -> Slot {
        Slot { writer: Arc::clone(&self.0), file: file_of_credential("credential", name) }
    }

    /// Where the zones are kept that were discovered with a credential.
    #[must_use]
    pub fn discovery(&self, credential: &str) -> Slot {
        Slot { writer: Arc::clone(&self.0), file: file_of_credential("discovery", credential) }
    }

    /// Removes the files of zones and credentials that are none of these, and what a killed process left half written.
    /// Blocks.
    pub fn keep_only(&self, slots: impl IntoIterator<Item = Slot>) {
        let directory = &self.0.directory;
        if !directory.is_held() {
            return;
        }
        let kept: HashSet<String> = slots.into_iter().map(|slot| slot.file).collect();
        let entries = directory.path.read_dir().into_iter().flatten().flatten();
        for name in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
            let (of, half_written) = match name.strip_suffix(file::TEMPORARY) {
                Some(of) => (of, true),
                None => (name.strip_suffix(file::KEPT_ASIDE).unwrap_or(&name), false),
            };
            let ours = ["zone-", "account-", "credential-", "discovery-"].iter().any(|start| of.starts_with(start))
                && of.ends_with(".state");
            if !ours || kept.contains(of) && !half_written {
                continue;
            }
            match std::fs::remove_file(directory.path.join(&name)) {
                Ok(()) if half_written => tracing::debug!(file = name, "Removed a half-written state file."),
                Ok(()) => tracing::info!(file = name, "Removed the state of what is no longer configured."),
                Err(error) => {
                    tracing::warn!(file = name, %error, "A state file that is no longer needed cannot be removed.");
                }
            }
        }
    }
}

/// One file of the directory.
#[derive(Debug, Clone)]
pub struct Slot {
    writer: Arc<Writer>,
    file: String,
}

impl Slot {
    /// What was saved last, if there is anything that can be used. `is_mine` tells a file that was put in the wrong place.
    ///
    /// Blocks. What cannot be used is reported, and kept aside for a person to look at.
    pub fn load<T: DeserializeOwned>(&self, is_mine: impl FnOnce(&T) -> bool) -> Option<T> {
        let path = self.path();
        let error = match file::read(&path) {
            Ok(None) => return None,
            Ok(Some(value)) if is_mine(&value) => return Some(value),
            Ok(Some(_)) => "it belongs to another zone or credential".to_owned(),
            Err(error) => error,
        };
        let file = path.display();
        match file::keep_aside(&path) {
            Ok(aside) => {
                let aside = aside.display();
                tracing::warn!(%file, %error, %aside, "A state file cannot be used and is kept aside; what it held is read from Cloudflare again.");
            }
            Err(kept) => {
                tracing::warn!(%file, %error, not_kept_aside = %kept, "A state file cannot be used; what it held is read from Cloudflare again.");
            }
        }
        None
    }

    /// Puts a value on disk, in place of the one before. With `durable` it survives a loss of power too.
    ///
    /// Returns when it is there, or when it is clear that it will not be soon. That is reported and counted, and it is
    /// tried again until it succeeds or a newer value comes.
    pub async fn save<T: Serialize + Send + Sync + 'static>(&self, value: T, durable: bool) {
        self.writer.write(&self.file, Arc::new(move |path| file::replace(path, &value, durable))).await;
    }

    /// Removes the file, since it is no longer of use, in its turn after what is being written. Does not wait for it.
    pub fn forget(&self) {
        let remove = |path: &Path| match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        drop(self.writer.put(&self.file, Arc::new(remove)));
    }

    fn path(&self) -> PathBuf {
        self.writer.directory.path.join(&self.file)
    }
}

fn file_of_target(target: &Target) -> String {
    format!("{}-{}-{}.state", target.kind.scope().label(), target.kind.label(), target.id)
}

/// The name of a credential can be any text, so a part of it and a sum stand for it.
fn file_of_credential(what: &str, name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let (part, sum) = (name.chars().take(40).map(safe).collect::<String>(), crc32fast::hash(name.as_bytes()));
    format!("{what}-{part}-{sum:08x}.state")
}

/// What another process saved of a target in its directory, without a trace: what cannot be used counts as not there.
/// Blocks.
#[must_use]
pub fn peek_at_target(directory: &Path, target: &Target) -> Option<SavedTarget> {
    let saved: Option<SavedTarget> = file::read(&directory.join(file_of_target(target))).ok()?;
    saved.filter(|saved| saved.is_of(target))
}

/// The same of the discovery with a credential.
#[must_use]
pub fn peek_at_discovery(directory: &Path, credential: &str) -> Option<SavedDiscovery> {
    let saved: Option<SavedDiscovery> =
        file::read(&directory.join(file_of_credential("discovery", credential))).ok()?;
    saved.filter(|saved| saved.is_of(credential))
}

/// Nothing that is done under a lock here can leave a value half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
