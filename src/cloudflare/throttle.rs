//! When a request may go out. One throttle for each credential, since Cloudflare counts by user.
//!
//! It joins three parts that neither lock nor wait: [`budget`] counts the requests of five minutes, [`breaker`] stops
//! all of them as responses demand it, and [`queue`] decides whose request is next. What is requested is not its
//! business, and it waits on tokio's clock alone.

mod breaker;
mod budget;
mod queue;

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use breaker::{Admission, CircuitBreaker, PauseRecord};
use budget::SlidingWindow;
use queue::{QueuePlace, RequestQueue};

use super::lock;

pub(super) use breaker::{PauseReason, Paused, ResponseSummary, Transition, Verdict};
pub use queue::{Priority, Ticket};

/// No request waits longer than this for a response, nor for the end of a pause.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Throttles the requests of one credential, as one of its clients uses it. What was used of the budget belongs to the
/// credential, and outlives the client.
#[derive(Debug)]
pub(crate) struct Throttle {
    shared: Arc<Mutex<ThrottleState>>,
    limits: Limits,
    /// Numbers the secrets that the credential had.
    secret: u64,
}

#[derive(Debug)]
struct ThrottleState {
    limits: Limits,
    /// The secret that is used now.
    secret: u64,
    queue: RequestQueue,
    window: SlidingWindow,
    breaker: CircuitBreaker,
    in_flight: usize,
    failing_in_flight: usize,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Requests in any window.
    budget: usize,
    /// Requests in flight.
    concurrency: usize,
}

impl Limits {
    const fn new(requests_per_5m: u32, concurrency: u32) -> Self {
        Self { budget: requests_per_5m as usize, concurrency: concurrency as usize }
    }
}

/// What must be known of a credential after a restart; times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ThrottleRecord {
    /// When requests of the last window had ended at the latest, and how many.
    requests: Vec<(i64, usize)>,
    pause: Option<PauseRecord>,
}

/// Leave to send one request. It counts against the budget until a window after it is dropped.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    throttle: &'a Throttle,
    priority: Priority,
    is_probe: bool,
    /// How long the budget was waited for while this request was the next one.
    pub(super) waited: Duration,
}

impl Throttle {
    /// At most `requests_per_5m` in five minutes, and `concurrency` at a time.
    pub(crate) fn new(requests_per_5m: u32, concurrency: u32) -> Self {
        let limits = Limits::new(requests_per_5m, concurrency);
        let state = ThrottleState {
            limits,
            secret: 0,
            queue: RequestQueue::default(),
            window: SlidingWindow::default(),
            breaker: CircuitBreaker::default(),
            in_flight: 0,
            failing_in_flight: 0,
        };
        Self { shared: Arc::new(Mutex::new(state)), limits, secret: 0 }
    }

    /// The throttle of the client that takes the place of this one's, once it [takes over](Self::activate).
    pub(super) fn successor(&self, requests_per_5m: u32, concurrency: u32, has_another_secret: bool) -> Self {
        let limits = Limits::new(requests_per_5m, concurrency);
        Self { shared: Arc::clone(&self.shared), limits, secret: self.secret + u64::from(has_another_secret) }
    }

    /// From now on these limits hold, requests before included. With another secret, it is forgotten that the one before
    /// was refused or accepted, and responses about that one no longer count.
    ///
    /// Returns whether there is another secret.
    pub(super) fn activate(&self) -> bool {
        let mut state = self.state();
        let has_another_secret = state.secret < self.secret;
        if has_another_secret {
            state.secret = self.secret;
            state.breaker.forget_verdicts();
        }
        state.limits = self.limits;
        // More may be allowed now.
        state.queue.wake_all();
        has_another_secret
    }

    /// Draws the ticket of a poll: the earlier it is drawn, the earlier its requests go out.
    pub(crate) fn next_ticket(&self) -> Ticket {
        self.state().queue.next_ticket()
    }

    /// Waits until one more request may go out: without end, where another secret has taken over.
    ///
    /// # Errors
    /// If the credential is paused for longer than [`PATIENCE`], or Cloudflare refuses it.
    pub(crate) async fn acquire(&self, ticket: Ticket, priority: Priority) -> Result<Permit<'_>, Paused> {
        let guard = QueueGuard::enter(self, ticket, priority);
        // Since when nothing but time is missing.
        let mut since = None;
        loop {
            let now = Instant::now();
            let admission = self.admission(&guard, now);
            match admission {
                Admission::Granted { is_probe } => {
                    let waited = since.map_or(Duration::ZERO, |since| now - since);
                    return Ok(Permit { throttle: self, priority, is_probe, waited });
                }
                Admission::Denied(paused) => return Err(paused),
                Admission::NotBefore(time) => {
                    since.get_or_insert(now);
                    tokio::select! {
                        () = sleep_until(time) => {}
                        () = guard.woken.notified() => {}
                    }
                }
                Admission::NotYet => {
                    since = None;
                    guard.woken.notified().await;
                }
            }
        }
    }

    fn admission(&self, guard: &QueueGuard<'_>, now: Instant) -> Admission {
        let mut state = self.state();
        if state.secret != self.secret {
            return Admission::NotYet;
        }
        state.admission(guard.place, guard.priority, now)
    }

    /// What a restart must not forget, at the Unix second `now`, which is rounded up. A request in flight may end as late
    /// as `timeout` from now.
    pub(super) fn record(&self, now: i64, timeout: Duration) -> ThrottleRecord {
        let state = self.state();
        let instant = Instant::now();
        let ended = state.window.ended().map(|(ended, count)| {
            (now.saturating_sub_unsigned(instant.saturating_duration_since(ended).as_secs()), count)
        });
        let in_flight = (now.saturating_add_unsigned(timeout.as_secs()), state.in_flight);
        ThrottleRecord {
            requests: ended.chain([in_flight]).filter(|(_, count)| *count > 0).collect(),
            pause: state.breaker.record(instant, now),
        }
    }

    /// Goes on where another process has left off; `now` is Unix seconds.
    ///
    /// That the credential was refused is not remembered: a restart is how some get a new secret.
    pub(super) fn restore(&self, record: &ThrottleRecord, now: i64) {
        let mut state = self.state();
        let instant = Instant::now();
        let mut requests = record.requests.clone();
        requests.sort_unstable();
        for (ended, count) in requests {
            // What seems to lie ahead was in flight, or the clock was set back: it counts as ended now.
            let age = Duration::from_secs(now.saturating_sub(ended).max(0).unsigned_abs());
            state.window.restore(age, count, instant);
        }
        if let Some(pause) = record.pause {
            state.breaker.restore(pause, instant, now);
        }
    }

    fn state(&self) -> MutexGuard<'_, ThrottleState> {
        lock(&self.shared)
    }
}

impl ThrottleState {
    fn max_in_flight(&self) -> usize {
        self.breaker.max_in_flight(self.limits.concurrency)
    }

    /// Whether polls that failed may use one more place in flight: the last one is for the others.
    fn failing_may_go(&self) -> bool {
        self.failing_in_flight < (self.max_in_flight() - 1).max(1)
    }

    /// Wakes the request that is next. Each change ends with this.
    fn wake_next(&self) {
        self.queue.wake_next(self.failing_may_go());
    }

    /// Whether the request at this place may go out now. If so, it is in flight from here on.
    fn admission(&mut self, place: QueuePlace, priority: Priority, now: Instant) -> Admission {
        let by_breaker = self.breaker.admission(now);
        let Admission::Granted { is_probe } = by_breaker else { return by_breaker };
        if !self.queue.is_next(place, self.failing_may_go()) || self.in_flight >= self.max_in_flight() {
            return Admission::NotYet;
        }
        if self.in_flight.saturating_add(self.window.count(now)) >= self.limits.budget {
            return self.window.next_free().map_or(Admission::NotYet, Admission::NotBefore);
        }
        self.in_flight += 1;
        self.failing_in_flight += usize::from(priority == Priority::Failing);
        if is_probe {
            self.breaker.begin_probe();
        }
        Admission::Granted { is_probe }
    }
}

/// A place in the queue, left when this is dropped.
struct QueueGuard<'a> {
    throttle: &'a Throttle,
    priority: Priority,
    place: QueuePlace,
    woken: Arc<Notify>,
}

impl<'a> QueueGuard<'a> {
    fn enter(throttle: &'a Throttle, ticket: Ticket, priority: Priority) -> Self {
        let (place, woken) = throttle.state().queue.enter(ticket, priority);
        Self { throttle, priority, place, woken }
    }
}

impl Drop for QueueGuard<'_> {
    fn drop(&mut self) {
        let mut state = self.throttle.state();
        state.queue.leave(self.place, self.priority);
        state.wake_next();
    }
}

impl Permit<'_> {
    /// Ends the request with its response. What that says about a secret that is no longer used is ignored.
    pub(super) fn record_response(self, response: &ResponseSummary) -> Transition {
        let mut state = self.throttle.state();
        let verdict = if self.throttle.secret == state.secret { response.verdict } else { Verdict::None };
        state.breaker.record_response(&ResponseSummary { verdict, ..*response }, self.is_probe, Instant::now())
        // Dropped here, which frees its place.
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.throttle.state();
        state.in_flight -= 1;
        state.failing_in_flight -= usize::from(self.priority == Priority::Failing);
        state.window.add(Instant::now());
        if self.is_probe {
            state.breaker.end_probe();
        }
        state.wake_next();
    }
}

#[cfg(test)]
mod tests;
