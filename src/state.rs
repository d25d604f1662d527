//! What survives a restart: a file for each zone and each credential, in one directory.
//!
//! Files are replaced whole and read with suspicion. One that is torn, foreign or of a newer format
//! is reported and kept aside, and costs only what was in it. A disk that fails costs a log line
//! and a metric, never a poll. What a credential's file holds is for `cloudflare` to know, and what
//! a restored zone does next for the poller. No secret, no PEM and no signing request is in any of them.

mod file;
#[cfg(any(test, fuzzing))]
pub(crate) mod properties;
mod zone;

use std::{
    collections::{HashMap, HashSet},
    fmt::Display,
    fs::{DirBuilder, File, Metadata, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use prometheus::IntCounter;
use rustix::io::Errno;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::spawn_blocking,
    time::{Instant, timeout},
};

pub use zone::SavedZone;

use crate::model::{Zone, clean};

/// How many files are written at a time: waiting for a disk costs a thread each.
const WRITERS: usize = 4;

/// How long somebody waits for something to be on disk before it goes on without.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it is until what could not be written is tried again, unless a newer value comes before.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// A failure that lasts is said again this often.
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(3600);

/// A directory for the state of this process alone.
#[derive(Debug, Clone)]
pub struct Directory(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// Held as long as the process lives; `None` while the directory cannot be written.
    lock: Mutex<Option<File>>,
    writers: Arc<Semaphore>,
    /// What is to be written, for each file.
    queues: Mutex<HashMap<String, Arc<Queue>>>,
    write_failures: IntCounter,
    /// The disk did not answer in time; whoever comes meanwhile does not wait for it.
    stuck: AtomicBool,
    trouble: Mutex<Trouble>,
}

/// What cannot be written.
#[derive(Debug, Default)]
struct Trouble {
    /// The files whose last write failed.
    files: HashSet<String>,
    /// When it was last said.
    said: Option<Instant>,
}

/// Another process has the directory.
#[derive(Debug, thiserror::Error)]
#[error(
    "the state directory {} is in use by another process{}; stop that one, or give this one a directory of its own ([state] directory)",
    path.display(),
    pid.as_ref().map(|pid| format!(" (pid {pid})")).unwrap_or_default()
)]
pub struct InUse {
    path: PathBuf,
    pid: Option<Box<str>>,
}

/// Why the directory cannot be made this process's own.
enum NotReady {
    InUse(InUse),
    Io(io::Error),
}

impl Directory {
    /// Takes the directory, and makes it where it is not there. `write_failures` counts what could not be written.
    ///
    /// One that cannot be written is reported and tried again with each write.
    ///
    /// # Errors
    /// If another process has it.
    pub fn open(path: &Path, write_failures: IntCounter) -> Result<Self, InUse> {
        let directory = Self(Arc::new(Shared {
            path: path.to_owned(),
            lock: Mutex::default(),
            writers: Arc::new(Semaphore::new(WRITERS)),
            queues: Mutex::default(),
            write_failures,
            stuck: AtomicBool::new(false),
            trouble: Mutex::default(),
        }));
        match directory.0.take() {
            Ok(()) => directory.0.warn_if_open(),
            Err(NotReady::InUse(in_use)) => return Err(in_use),
            Err(NotReady::Io(error)) => directory.0.failed("lock", &error),
        }
        Ok(directory)
    }

    /// Where a zone is kept.
    #[must_use]
    pub fn zone(&self, zone: &Zone) -> Slot {
        Slot::new(self, format!("zone-{}-{}.state", zone.kind.label(), zone.id), self.0.writers.clone())
    }

    /// Where a credential is kept. Its name can be any text, so a part of it and a sum stand for it.
    #[must_use]
    pub fn credential(&self, name: &str) -> Slot {
        let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let (part, sum) = (name.chars().take(40).map(safe).collect::<String>(), crc32fast::hash(name.as_bytes()));
        // On record before a request goes out, so it does not wait behind zones.
        Slot::new(self, format!("credential-{part}-{sum:08x}.state"), Arc::new(Semaphore::new(1)))
    }

    /// Removes the files of zones and credentials that are none of these, and what a killed process left half written.
    pub fn keep_only(&self, slots: impl IntoIterator<Item = Slot>) {
        if lock(&self.0.lock).is_none() {
            return;
        }
        let kept: HashSet<String> = slots.into_iter().map(|slot| slot.name).collect();
        let entries = self.0.path.read_dir().into_iter().flatten().flatten();
        for name in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
            let (of, half_written) = match name.strip_suffix(file::TEMPORARY) {
                Some(of) => (of, true),
                None => (name.strip_suffix(file::KEPT_ASIDE).unwrap_or(&name), false),
            };
            let ours = (of.starts_with("zone-") || of.starts_with("credential-")) && of.ends_with(".state");
            if !ours || kept.contains(of) && !half_written {
                continue;
            }
            match std::fs::remove_file(self.0.path.join(&name)) {
                Ok(()) if half_written => tracing::debug!(file = name, "Removed a half-written state file."),
                Ok(()) => tracing::info!(file = name, "Removed the state of what is no longer configured."),
                Err(error) => {
                    tracing::warn!(file = name, %error, "A state file that is no longer needed cannot be removed.");
                }
            }
        }
    }
}

impl Shared {
    /// Makes sure that the directory is there and this process's own.
    fn take(&self) -> Result<(), NotReady> {
        let mut held = lock(&self.lock);
        let path = self.path.join("lock");
        let inode = |metadata: io::Result<Metadata>| metadata.map(|metadata| metadata.ino()).ok();
        if held.as_ref().is_some_and(|file| inode(file.metadata()) == inode(path.metadata())) {
            return Ok(());
        }
        // Not held yet, or somebody removed it, and another process may have made its own.
        *held = None;
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path).map_err(NotReady::Io)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        if path.metadata().is_ok_and(|there| !there.is_file()) {
            return Err(NotReady::Io(io::Error::other("lock is not a regular file; remove it")));
        }
        let mut file = options.open(&path).map_err(NotReady::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // Only for the message.
                let _ = (&mut file).take(20).read_to_string(&mut pid);
                let pid = Some(clean(pid.trim())).filter(|pid| !pid.is_empty());
                return Err(NotReady::InUse(InUse { path: self.path.clone(), pid }));
            }
            Err(TryLockError::Error(error)) => return Err(NotReady::Io(explained(error))),
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(NotReady::Io)?;
        *held = Some(file);
        self.succeeded("lock");
        Ok(())
    }

    /// Says that others decide what is restored, where they can write too.
    fn warn_if_open(&self) {
        let Ok(metadata) = self.path.metadata() else { return };
        if let Some(remedy) = remedy_if_open(&metadata) {
            let (directory, mode) = (self.path.display(), format!("{:04o}", metadata.mode() & 0o7777));
            tracing::warn!(%directory, mode, owner = metadata.uid(), remedy, "Others can write to the state directory, and so decide what a restart shows.");
        }
    }

    /// Counts it, and says it when it begins and hourly while it lasts.
    fn failed(&self, file: &str, error: &dyn Display) {
        self.write_failures.inc();
        let mut trouble = lock(&self.trouble);
        trouble.files.insert(file.to_owned());
        if trouble.said.is_none_or(|said| said.elapsed() >= SAY_AGAIN_AFTER) {
            trouble.said = Some(Instant::now());
            let directory = self.path.display();
            tracing::warn!(%directory, file, %error, "State cannot be written: a restart will not know what happens from now on. Everything else goes on.");
        }
    }

    fn succeeded(&self, file: &str) {
        let mut trouble = lock(&self.trouble);
        if trouble.files.remove(file) && trouble.files.is_empty() {
            trouble.said = None;
            tracing::info!(directory = %self.path.display(), "State is written again.");
        }
    }
}

/// What to do where a lock cannot be had from the file system.
///
/// Nothing is written without it: two processes would forget each other's requests, and then the budget is spent twice.
fn explained(error: io::Error) -> io::Error {
    const WITHOUT_LOCKS: [Errno; 4] = [Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL];
    if WITHOUT_LOCKS.into_iter().any(|without| error.raw_os_error() == Some(without.raw_os_error())) {
        let remedy = "its file system has no locks, which keep other processes away; put [state] directory on a local disk, or mount this one with locks";
        return io::Error::new(error.kind(), format!("{remedy} ({error})"));
    }
    error
}

/// What to do about a directory in which others than its owner can write.
fn remedy_if_open(metadata: &Metadata) -> Option<String> {
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != user && owner != 0 {
        return Some(format!("chown it to the user {user}, whom the daemon runs as"));
    }
    match metadata.mode() & 0o022 {
        0 => None,
        0o020 => Some("chmod g-w".to_owned()),
        0o002 => Some("chmod o-w".to_owned()),
        _ => Some("chmod go-w".to_owned()),
    }
}

/// Nothing that is done under a lock here can leave a value half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One file of the directory.
#[derive(Debug, Clone)]
pub struct Slot {
    directory: Directory,
    name: String,
    /// Who wants to write needs one of these, so that a disk that hangs costs few threads.
    writers: Arc<Semaphore>,
    queue: Arc<Queue>,
}

/// The value that a file is to have. Only the newest is kept, however long the disk takes.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// A newer value came.
    renewed: Notify,
    /// Which value was dealt with last, whether it could be written or not.
    done: watch::Sender<u64>,
}

#[derive(Default)]
struct Waiting {
    /// How many values there were so far, which numbers them.
    values: u64,
    newest: Option<Write>,
    /// A task takes care of it.
    is_served: bool,
}

/// Puts a value on disk, at this path.
type Write = Arc<dyn Fn(&Path) -> io::Result<()> + Send + Sync>;

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting")
            .field("values", &self.values)
            .field("is_served", &self.is_served)
            .finish_non_exhaustive()
    }
}

impl Slot {
    fn new(directory: &Directory, name: String, writers: Arc<Semaphore>) -> Self {
        let queue = lock(&directory.0.queues).entry(name.clone()).or_default().clone();
        Self { directory: directory.clone(), name, writers, queue }
    }

    /// What was saved last, if there is anything that can be used. `is_mine` tells a file that was put in the wrong place.
    ///
    /// Blocks. What cannot be used is reported, and kept aside for a person to look at.
    pub fn load<T: DeserializeOwned>(&self, is_mine: impl FnOnce(&T) -> bool) -> Option<T> {
        let path = self.path();
        let error = match file::read(&path) {
            Ok(None) => return None,
            Ok(Some(value)) if is_mine(&value) => return Some(value),
            Ok(Some(_)) => file::Unusable::Misplaced,
            Err(error) => error,
        };
        let file = path.display();
        match file::keep_aside(&path) {
            Ok(aside) => {
                let aside = aside.display();
                tracing::warn!(%file, %error, %aside, "A state file cannot be used and is kept aside; what it held is found out anew.");
            }
            Err(kept) => {
                tracing::warn!(%file, %error, not_kept_aside = %kept, "A state file cannot be used; what it held is found out anew.");
            }
        }
        None
    }

    /// Puts a value on disk, in place of the one before. With `durable` it survives a loss of power too.
    ///
    /// Returns when it is there, or when it is clear that it will not be soon. That is reported and counted, and it is
    /// tried again until it succeeds or a newer value comes.
    pub async fn save<T: Serialize + Send + Sync + 'static>(&self, value: T, durable: bool) {
        let shared = &self.directory.0;
        let mut done = self.queue.done.subscribe();
        let number = self.put(Arc::new(move |path| file::replace(path, &value, durable)));
        let patience = if shared.stuck.load(Ordering::Relaxed) { Duration::ZERO } else { PATIENCE };
        // The sender is in the queue, so it is there.
        if timeout(patience, done.wait_for(|done| *done >= number)).await.is_err() {
            shared.stuck.store(true, Ordering::Relaxed);
            shared.failed(&self.name, &"the disk does not answer");
        }
    }

    /// Removes the file, since it is no longer of use, in its turn after what is being written. Does not wait for it.
    pub fn forget(&self) {
        self.put(Arc::new(|path| match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }));
    }

    /// Takes the place of what waits to be written; returns its number.
    fn put(&self, write: Write) -> u64 {
        let mut waiting = lock(&self.queue.waiting);
        waiting.values += 1;
        waiting.newest = Some(write);
        if std::mem::replace(&mut waiting.is_served, true) {
            self.queue.renewed.notify_one();
        } else {
            tokio::spawn(self.clone().serve());
        }
        waiting.values
    }

    /// Writes until there is nothing that is to be written.
    async fn serve(self) {
        let Queue { waiting, renewed, done } = &*self.queue;
        loop {
            // It is never closed.
            let permit = self.writers.clone().acquire_owned().await;
            let (number, write) = {
                let mut waiting = lock(waiting);
                let Some(write) = waiting.newest.take() else {
                    waiting.is_served = false;
                    return;
                };
                (waiting.values, write)
            };
            let (slot, again) = (self.clone(), write.clone());
            let written = spawn_blocking(move || slot.write(&*write)).await.map_err(io::Error::other).flatten();
            drop(permit);
            let shared = &self.directory.0;
            shared.stuck.store(false, Ordering::Relaxed);
            match written {
                Ok(()) => {
                    shared.succeeded(&self.name);
                    done.send_replace(number);
                }
                Err(error) => {
                    shared.failed(&self.name, &error);
                    lock(waiting).newest.get_or_insert(again);
                    done.send_replace(number);
                    let _ = timeout(TRY_AGAIN_AFTER, renewed.notified()).await;
                }
            }
        }
    }

    fn write(&self, write: &dyn Fn(&Path) -> io::Result<()>) -> io::Result<()> {
        self.directory.0.take().map_err(|error| match error {
            NotReady::InUse(in_use) => io::Error::other(in_use),
            NotReady::Io(error) => error,
        })?;
        write(&self.path())
    }

    fn path(&self) -> PathBuf {
        self.directory.0.path.join(&self.name)
    }
}

#[cfg(test)]
mod tests;
