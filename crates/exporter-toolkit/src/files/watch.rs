//! Files that are looked at once a second, and read again when they hold something else.
//!
//! What is in a file says whether it changed, and not its time: it can be written twice within one tick of the file
//! system's clock. What becomes of a change is up to the caller.

use std::{
    fmt::Display,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{sleep, timeout},
};

use crate::log_throttle::LogThrottle;

/// How long after one look the next one begins.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A look that takes longer is late, since its disk hangs.
pub const PATIENCE: Duration = Duration::from_secs(4);

/// Remembers what files held, as a hash, since they may hold secrets.
///
/// Only one and its clones can be compared: each other one hashes in its own way.
#[derive(Debug, Default, Clone)]
pub struct Fingerprint {
    hasher: RandomState,
    last: Option<u64>,
}

impl PartialEq for Fingerprint {
    fn eq(&self, other: &Self) -> bool {
        self.last == other.last
    }
}

impl Fingerprint {
    /// Remembers these parts in the place of those before. Returns whether they differ.
    pub fn changes(&mut self, parts: &[&[u8]]) -> bool {
        let now = Some(self.hasher.hash_one(parts));
        std::mem::replace(&mut self.last, now) != now
    }

    /// Whatever comes next is a change.
    pub const fn forget(&mut self) {
        self.last = None;
    }
}

/// Looks at files once a second.
#[derive(Debug)]
pub struct Watch<T, F> {
    look: F,
    looking: Option<JoinHandle<T>>,
}

impl<T, F> Watch<T, F>
where
    T: Send + 'static,
    F: Fn() -> T + Clone + Send + 'static,
{
    /// Looks by calling `look`, which may block: it runs on a thread of its own, one call at a time.
    pub const fn new(look: F) -> Self {
        Self { look, looking: None }
    }

    /// Waits for the end of a look, and returns what it found.
    ///
    /// `None` if it takes longer than [`PATIENCE`] and still goes on, again and again as long as it hangs, or if it
    /// panicked, which the log shows.
    pub async fn next(&mut self) -> Option<T> {
        if self.looking.is_none() {
            sleep(LOOK_EVERY).await;
        }
        let looking = self.looking.get_or_insert_with(|| spawn_blocking(self.look.clone()));
        let looked = timeout(PATIENCE, looking).await.ok()?;
        self.looking = None;
        looked.ok()
    }
}

/// Waits until a file holds something else than `current`, and returns that.
///
/// `reread` returns `None` while the file is as it was. What is wrong with it is reported when that begins or changes,
/// and hourly while it lasts.
pub async fn wait_for_change<T, E>(
    mut current: Arc<T>,
    reread: fn(&T) -> Result<Option<T>, E>,
    report: impl Fn(E),
) -> Arc<T>
where
    T: PartialEq + Send + Sync + 'static,
    E: Display + Send + 'static,
{
    let mut unusable = LogThrottle::default();
    loop {
        let known = Arc::clone(&current);
        let mut watch = Watch::new(move || reread(&known));
        let read = loop {
            match watch.next().await {
                Some(Ok(Some(read))) => break read,
                Some(Ok(None)) => _ = unusable.end(),
                Some(Err(error)) if unusable.happened(error.to_string()).is_some() => report(error),
                Some(Err(_)) | None => {}
            }
        };
        unusable.end();
        if read != *current {
            return Arc::new(read);
        }
        // The same in other words, such as with a line break at its end.
        current = Arc::new(read);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
        mpsc,
    };

    use tokio::time::{Instant, advance};

    use super::*;

    #[test]
    fn only_other_contents_are_a_change() {
        let mut fingerprint = Fingerprint::default();
        for (parts, changes) in [
            (&[&b"ab"[..], b"c"][..], true),
            (&[b"ab", b"c"], false),
            (&[b"a", b"bc"], true),
            (&[b"a", b"bc", b""], true),
            (&[], true),
            (&[], false),
        ] {
            assert_eq!(fingerprint.changes(parts), changes, "{parts:?}");
        }
        fingerprint.forget();
        assert!(fingerprint.changes(&[]));
    }

    #[tokio::test(start_paused = true)]
    async fn files_are_looked_at_once_a_second_also_after_a_panic() {
        let looks = Arc::new(AtomicU32::new(0));
        let mut watch = Watch::new(move || {
            let look = looks.fetch_add(1, SeqCst) + 1;
            assert!(look != 2, "the fault of a test");
            look
        });
        let started = Instant::now();
        for expected in [Some(1), None, Some(3)] {
            assert_eq!(watch.next().await, expected);
        }
        assert_eq!(started.elapsed().as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_hangs_is_late_and_no_second_one_begins() {
        let (release, held) = mpsc::channel();
        let held = Arc::new(Mutex::new(held));
        let looks = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&looks);
        let mut watch = Watch::new(move || {
            counted.fetch_add(1, SeqCst);
            held.lock().unwrap().recv().unwrap()
        });
        for _ in 0..2 {
            // The clock does not go on while a thread is at work, unless it is made to.
            let seconds = async {
                for _ in 0..6 {
                    advance(LOOK_EVERY).await;
                }
            };
            assert_eq!(tokio::join!(watch.next(), seconds).0, None);
        }
        release.send("found").unwrap();
        assert_eq!(watch.next().await, Some("found"));
        assert_eq!(looks.load(SeqCst), 1);
    }
}
