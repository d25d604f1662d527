//! When to log what happens again and again: when it begins, when it changes, and hourly as long as it lasts.
//!
//! What is logged, and at which level, is up to the caller.

use std::time::Duration;

use tokio::time::Instant;

/// How long the log is quiet about something that lasts.
const HOUR: Duration = Duration::from_secs(3600);

/// Decides whether something that happens again and again is logged this time, and counts the times in between.
///
/// `M` is what sets one message from another: a change of it is logged at once. Without one, every time is the same.
#[derive(Debug)]
pub struct LogThrottle<M = ()> {
    /// `None` before it begins, and after its end.
    logged: Option<LastLogged<M>>,
    /// How often it has happened since.
    unlogged: u64,
}

#[derive(Debug)]
struct LastLogged<M> {
    message: M,
    at: Instant,
}

impl<M> Default for LogThrottle<M> {
    fn default() -> Self {
        Self { logged: None, unlogged: 0 }
    }
}

impl<M> LogThrottle<M> {
    /// It is over: should it happen again, that is logged at once.
    ///
    /// Returns whether it was logged, so that its end is worth a line too.
    pub fn end(&mut self) -> bool {
        self.unlogged = 0;
        self.logged.take().is_some()
    }
}

impl<M: PartialEq> LogThrottle<M> {
    /// Takes note that it happened once.
    ///
    /// If it has to be logged now, returns how often it happened since the last line about it, this time included.
    #[must_use]
    pub fn happened(&mut self, message: M) -> Option<u64> {
        self.happened_times(1, message)
    }

    fn happened_times(&mut self, times: u64, message: M) -> Option<u64> {
        if let Some(logged) = &self.logged {
            if logged.message != message {
                self.unlogged = 0;
            } else if logged.at.elapsed() < HOUR {
                self.unlogged += times;
                return None;
            }
        }
        self.logged = Some(LastLogged { message, at: Instant::now() });
        Some(std::mem::take(&mut self.unlogged) + times)
    }
}

impl LogThrottle {
    /// Takes note that it happened so many times, where every time is the same.
    ///
    /// If it has to be logged now, returns how often it happened since the last line about it, these times included.
    #[must_use]
    pub fn count(&mut self, times: u64) -> Option<u64> {
        self.happened_times(times, ())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_lasts_is_logged_hourly_with_a_count() {
        let mut throttle = LogThrottle::default();
        assert_eq!([1, 1, 3].map(|times| throttle.count(times)), [Some(1), None, None]);
        advance(HOUR - SECOND).await;
        assert_eq!(throttle.count(1), None);
        advance(SECOND).await;
        assert_eq!([1, 1].map(|times| throttle.count(times)), [Some(6), None]);
        advance(5 * HOUR).await;
        assert_eq!(throttle.count(1), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_logged_at_once_and_counted_from_there() {
        let mut throttle = LogThrottle::default();
        assert_eq!(
            ["a", "a", "b", "b", "a"].map(|message| throttle.happened(message)),
            [Some(1), None, Some(1), None, Some(1)]
        );
        // The hour is that of the last line.
        advance(HOUR - SECOND).await;
        assert_eq!(throttle.happened("b"), Some(1));
        advance(SECOND).await;
        assert_eq!(throttle.happened("b"), None);
        advance(HOUR).await;
        assert_eq!(throttle.happened("b"), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_begins_again_is_logged_at_once_and_an_end_only_after_a_beginning() {
        let mut throttle = LogThrottle::default();
        assert!(!throttle.end());
        assert_eq!(["a", "a"].map(|message| throttle.happened(message)), [Some(1), None]);
        assert_eq!([throttle.end(), throttle.end()], [true, false]);
        assert_eq!(["a", "a"].map(|message| throttle.happened(message)), [Some(1), None]);
    }
}
