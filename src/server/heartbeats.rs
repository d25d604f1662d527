//! Whether the daemon does its work, for `/-/healthy` and the watchdog: the poll loop and the server each have a
//! heartbeat.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

use crate::poller::HEARTBEAT_EVERY as POLL_LOOP_EVERY;

/// The poll loop is taken for dead when its heartbeat is this old. Nothing it does takes nearly as long.
const POLL_LOOP_LOST_AFTER: Duration = Duration::from_secs(6 * POLL_LOOP_EVERY.as_secs());

/// How often it is tried whether requests can be answered.
pub(super) const SERVER_EVERY: Duration = Duration::from_secs(5);

/// Requests count as unanswered when the last success is this old. A busy disk, or a clock that was set, is no reason.
const SERVER_LOST_AFTER: Duration = Duration::from_secs(6 * SERVER_EVERY.as_secs());

/// When each of the two last showed that it works.
#[derive(Debug, Clone)]
pub struct Heartbeats {
    poll_loop: watch::Receiver<Instant>,
    server: watch::Sender<Option<Instant>>,
    started: Instant,
}

impl Heartbeats {
    /// Of this poll loop, and of a server that starts now.
    #[must_use]
    pub fn new(poll_loop: watch::Receiver<Instant>) -> Self {
        Self { poll_loop, server: watch::Sender::new(None), started: Instant::now() }
    }

    /// What does not work. The first heartbeat of the server has as long from the start as each from the one before.
    #[must_use]
    pub fn problem(&self) -> Option<&'static str> {
        let is_polling =
            self.poll_loop.has_changed().is_ok() && self.poll_loop.borrow().elapsed() < POLL_LOOP_LOST_AFTER;
        if !is_polling {
            return Some("The poll loop does not turn: nothing is being updated.");
        }
        let is_serving = self.server.borrow().unwrap_or(self.started).elapsed() < SERVER_LOST_AFTER;
        (!is_serving).then_some("Requests cannot be answered, or only with what is out of date; the log says why.")
    }

    /// Waits until requests are answered.
    pub async fn server_works(&self) {
        // No error: the sender is here.
        let _ = self.server.subscribe().wait_for(Option::is_some).await;
    }

    /// Requests can be answered, and with what is right.
    pub(super) fn beat(&self) {
        self.server.send_replace(Some(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_first_heartbeat_that_never_comes_is_missed_like_any_other() {
        let poll_loop = watch::Sender::new(Instant::now());
        let heartbeats = Heartbeats::new(poll_loop.subscribe());
        let lost = || heartbeats.problem().is_some_and(|problem| problem.starts_with("Requests cannot be answered"));
        assert!(!lost());
        advance(SERVER_LOST_AFTER - Duration::from_millis(1)).await;
        assert!(!lost());
        advance(Duration::from_millis(1)).await;
        assert!(lost());
        heartbeats.beat();
        poll_loop.send_replace(Instant::now());
        assert_eq!(heartbeats.problem(), None);
        advance(SERVER_LOST_AFTER).await;
        assert!(lost());
    }

    #[tokio::test(start_paused = true)]
    async fn a_poll_loop_that_is_held_up_or_gone_is_a_problem() {
        let poll_loop = watch::Sender::new(Instant::now());
        let heartbeats = Heartbeats::new(poll_loop.subscribe());
        let is_lost = || heartbeats.problem().is_some_and(|problem| problem.starts_with("The poll loop does not turn"));
        advance(POLL_LOOP_LOST_AFTER - Duration::from_millis(1)).await;
        assert!(!is_lost());
        advance(Duration::from_millis(1)).await;
        assert!(is_lost());
        poll_loop.send_replace(Instant::now());
        assert!(!is_lost());
        drop(poll_loop);
        assert!(is_lost());
    }
}
