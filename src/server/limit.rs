//! What is said of a limit that was reached: once in a while, with how often it was.

use std::time::Duration;

use tokio::time::Instant;

/// Whoever floods this program does not flood its log.
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(3600);

/// How often a limit was reached, and when that was last said.
#[derive(Debug)]
pub(super) struct Reached {
    unsaid: u64,
    said: Option<Instant>,
    say_again_after: Duration,
}

impl Default for Reached {
    /// It is said once an hour.
    fn default() -> Self {
        Self { unsaid: 0, said: None, say_again_after: SAY_AGAIN_AFTER }
    }
}

impl Reached {
    /// Counts some more, and tells how many there were since it last told, if it is time to say it again.
    pub(super) fn count(&mut self, more: u64) -> Option<u64> {
        self.unsaid += more;
        if self.said.is_some_and(|said| said.elapsed() < self.say_again_after) {
            return None;
        }
        self.said = Some(Instant::now());
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_limit_is_spoken_of_once_an_hour_with_all_that_was_kept_silent() {
        let mut reached = Reached::default();
        assert_eq!((reached.count(1), reached.count(1), reached.count(3)), (Some(1), None, None));
        advance(SAY_AGAIN_AFTER - Duration::from_secs(1)).await;
        assert_eq!(reached.count(1), None);
        advance(Duration::from_secs(1)).await;
        assert_eq!((reached.count(1), reached.count(1)), (Some(6), None));
    }
}
