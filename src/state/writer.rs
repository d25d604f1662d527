//! The one task that writes state files. It keeps the newest value of each file until that is on disk.
//!
//! What is in a file is not known here.

use std::{
    collections::{HashMap, HashSet},
    fmt::{self, Display},
    io,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use prometheus::IntCounter;
use tokio::{
    sync::{Notify, oneshot},
    task::spawn_blocking,
    time::{Instant, timeout, timeout_at},
};

use super::{directory::LockedDirectory, lock};
use crate::log_throttle::LogThrottle;

/// How long a caller waits for a value to be on disk before it goes on without.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How long it is until what could not be written is tried again, unless a newer value comes before.
pub(super) const TRY_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Puts a value on disk, at this path.
pub(super) type FileAction = Arc<dyn Fn(&Path) -> io::Result<()> + Send + Sync>;

#[derive(Debug)]
pub(super) struct Writer {
    pub(super) directory: LockedDirectory,
    pub(super) write_failures: IntCounter,
    pub(super) queue: Mutex<WriteQueue>,
    /// Something came that is to be written at once.
    renewed: Notify,
}

/// What is to be written, and how that goes.
#[derive(Debug, Default)]
pub(super) struct WriteQueue {
    /// The newest value of each file that is not on disk.
    waiting: HashMap<String, PendingWrite>,
    /// The task runs; it ends when nothing waits.
    is_served: bool,
    /// The disk did not answer in time, so nothing waits for it until it does.
    pub(super) is_stuck: bool,
    /// When the disk answered last.
    answered: Option<Instant>,
    /// The files whose last write failed.
    pub(super) failing: HashSet<String>,
    failure: LogThrottle,
}

struct PendingWrite {
    action: FileAction,
    due: Instant,
    /// Hear when it was tried, whether it succeeded or not.
    callers: Vec<oneshot::Sender<()>>,
}

impl fmt::Debug for PendingWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingWrite").field("due", &self.due).finish_non_exhaustive()
    }
}

impl Writer {
    pub(super) fn new(directory: LockedDirectory, write_failures: IntCounter) -> Self {
        Self { directory, write_failures, queue: Mutex::default(), renewed: Notify::new() }
    }

    /// Writes a value. Returns when it is on disk, or when it is clear that it will not be soon: it is tried again until
    /// it succeeds or a newer value comes. A disk that does not answer is logged and counted, and one that is only slow,
    /// because many values are written to it, is not.
    pub(super) async fn write(self: &Arc<Self>, file: &str, action: FileAction) {
        let patience = if lock(&self.queue).is_stuck { Duration::ZERO } else { PATIENCE };
        let tried = self.put(file, action);
        if timeout(patience, tried).await.is_err() {
            let mut queue = lock(&self.queue);
            if queue.is_stuck || queue.answered.is_none_or(|answered| answered.elapsed() >= PATIENCE) {
                queue.is_stuck = true;
                drop(queue);
                self.failed(file, &"the disk does not answer");
            }
        }
    }

    /// Takes the place of what waits to be done to a file. What is returned hears when it was tried.
    pub(super) fn put(self: &Arc<Self>, file: &str, action: FileAction) -> oneshot::Receiver<()> {
        let (caller, tried) = oneshot::channel();
        let mut queue = lock(&self.queue);
        let before = queue.waiting.remove(file);
        let mut callers = before.map(|before| before.callers).unwrap_or_default();
        callers.push(caller);
        queue.waiting.insert(file.to_owned(), PendingWrite { action, due: Instant::now(), callers });
        if std::mem::replace(&mut queue.is_served, true) {
            self.renewed.notify_one();
        } else {
            tokio::spawn(Arc::clone(self).serve());
        }
        tried
    }

    /// Writes one file after the other until nothing waits.
    async fn serve(self: Arc<Self>) {
        while let Some((file, due)) = self.next() {
            if due > Instant::now() {
                let _ = timeout_at(due, self.renewed.notified()).await;
                continue;
            }
            let Some(waiting) = lock(&self.queue).waiting.remove(&file) else { continue };
            let path = self.directory.path.join(&file);
            let (writer, action) = (Arc::clone(&self), Arc::clone(&waiting.action));
            let written = spawn_blocking(move || {
                writer.directory.take()?;
                action(&path)
            });
            self.tried(file, waiting, written.await.map_err(io::Error::other).flatten());
        }
    }

    /// The file whose turn is next, and when. Credentials come first: they are on record before a request goes out.
    fn next(&self) -> Option<(String, Instant)> {
        let now = Instant::now();
        let mut queue = lock(&self.queue);
        let turn = |(file, waiting): &(&String, &PendingWrite)| {
            (waiting.due.max(now), !file.starts_with("credential-"), waiting.due)
        };
        let next = queue.waiting.iter().min_by_key(turn).map(|(file, waiting)| (file.clone(), waiting.due));
        queue.is_served = next.is_some();
        next
    }

    fn tried(&self, file: String, waiting: PendingWrite, written: io::Result<()>) {
        let mut queue = lock(&self.queue);
        (queue.is_stuck, queue.answered) = (false, Some(Instant::now()));
        drop(queue);
        let PendingWrite { action, callers, .. } = waiting;
        match written {
            Ok(()) => self.succeeded(&file),
            Err(error) => {
                self.failed(&file, &error);
                let again = PendingWrite { action, due: Instant::now() + TRY_AGAIN_AFTER, callers: Vec::new() };
                lock(&self.queue).waiting.entry(file).or_insert(again);
            }
        }
        for caller in callers {
            // It may have given up.
            let _ = caller.send(());
        }
    }

    /// Counts it, and logs it when it begins and hourly while it lasts.
    pub(super) fn failed(&self, file: &str, error: &dyn Display) {
        self.write_failures.inc();
        let mut queue = lock(&self.queue);
        queue.failing.insert(file.to_owned());
        if queue.failure.happened(()).is_some() {
            let directory = self.directory.path.display();
            tracing::warn!(%directory, file, %error, "State cannot be written, so a restart will not know the listings from now on. Polls and scrapes continue.");
        }
    }

    fn succeeded(&self, file: &str) {
        let mut queue = lock(&self.queue);
        // Where a file can be written, the lock is held.
        let is_over = queue.failing.remove("lock") | queue.failing.remove(file);
        if is_over && queue.failing.is_empty() {
            queue.failure.end();
            tracing::info!(directory = %self.directory.path.display(), "State is written again.");
        }
    }
}
