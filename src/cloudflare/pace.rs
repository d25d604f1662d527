//! When a request may go out: the budget, the requests in flight, and the times when none may.
//!
//! One `Pace` for each credential, since Cloudflare counts by user. It knows nothing of what is
//! asked, and waits on tokio's clock alone.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit},
    time::{Instant, sleep_until},
};

use super::limits::RateLimit;

/// Cloudflare counts requests over five minutes. A second more, and requests that took unequally
/// long to arrive still fall into different windows over there.
const WINDOW: Duration = Duration::from_secs(301);

/// How long Cloudflare blocks a user that asked too often; no pause for lack of budget is longer.
pub(super) const BLOCK: Duration = Duration::from_secs(300);

/// No pause is shorter: a server that says "at once" does not mean at once.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// Longer than this nobody waits for an answer; who comes meanwhile is told to come back.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A single 401 can be a passing fault; so many in a row are a dead token.
const UNAUTHORIZED_TO_STOP: u32 = 3;

/// A dead token is tried after a minute, then ever more rarely.
const FIRST_PROBE: Duration = Duration::from_secs(60);
const RAREST_PROBE: Duration = Duration::from_secs(3600);

/// Paces the requests of one credential.
#[derive(Debug)]
pub(super) struct Pace {
    budget: usize,
    /// Requests in flight; first come, first served.
    all: Semaphore,
    /// Of these, how many may be for zones that may never answer.
    doubtful: Semaphore,
    state: Mutex<State>,
    changed: Notify,
}

/// Whether a zone is likely to hold up what waits behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// It was listed well the last time.
    Proven,
    /// It failed the last time, or was never tried: such zones together leave one place free,
    /// so that however many of them hang, the others go on.
    Doubtful,
}

#[derive(Debug, Default)]
struct State {
    in_flight: usize,
    /// When the requests of the last window ended, oldest first.
    ended: VecDeque<Instant>,
    closure: Option<Closure>,
    unauthorized_in_a_row: u32,
}

/// No request goes out until a time; then a single one, whose answer decides.
#[derive(Debug, Clone, Copy)]
struct Closure {
    why: Why,
    until: Instant,
    /// How long it lasts or lasted.
    pause: Duration,
    /// The single request is out.
    probing: bool,
}

/// Why no request may go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// What is left is the owner's.
    Low,
    /// Cloudflare said 429.
    RateLimited,
    /// The token is dead.
    Unauthorized,
}

/// The credential is closed for longer than anybody waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) why: Why,
    /// How long it will stay so.
    pub(super) wait: Duration,
}

/// What the answer to a request means for the pace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Answer {
    /// The HTTP status, if there was an answer.
    pub(super) status: Option<u16>,
    /// It says that there were too many requests, in whatever way.
    pub(super) rate_limited: bool,
    pub(super) retry_after: Option<Duration>,
    pub(super) limits: Vec<RateLimit>,
}

/// What came of telling the pace of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Effect {
    /// The credential is closed from now on, for this long, by this very answer.
    pub(super) closed: Option<Closed>,
    /// The token, dead before, works again.
    pub(super) revived: bool,
}

/// Leave to send one request. It counts against the budget until a window after it is dropped.
#[derive(Debug)]
pub(super) struct Ticket<'a> {
    pace: &'a Pace,
    probe: bool,
    /// How long the budget was waited for.
    pub(super) waited: Duration,
    _all: SemaphorePermit<'a>,
    _doubtful: Option<SemaphorePermit<'a>>,
}

impl Pace {
    /// At most `requests_per_5m` in five minutes, and `concurrency` at a time.
    pub(super) fn new(requests_per_5m: u32, concurrency: u32) -> Self {
        let concurrency = concurrency as usize;
        Self {
            budget: requests_per_5m as usize,
            all: Semaphore::new(concurrency),
            doubtful: Semaphore::new((concurrency - 1).max(1)),
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Waits until one more request may go out.
    ///
    /// # Errors
    /// If the credential is closed for longer than [`PATIENCE`], or its token is dead.
    pub(super) async fn admit(&self, lane: Lane) -> Result<Ticket<'_>, Closed> {
        const OPEN: &str = "the semaphores are never closed";
        let doubtful = match lane {
            Lane::Proven => None,
            Lane::Doubtful => Some(self.doubtful.acquire().await.expect(OPEN)),
        };
        let all = self.all.acquire().await.expect(OPEN);
        let came = Instant::now();
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Before looking, so that no change after the look is missed.
            changed.as_mut().enable();
            let now = Instant::now();
            let look = self.state().look(now, self.budget);
            match look {
                Look::Go { probe } => {
                    return Ok(Ticket { pace: self, probe, waited: now - came, _all: all, _doubtful: doubtful });
                }
                Look::Closed(closed) => return Err(closed),
                Look::Until(Some(time)) => tokio::select! {
                    () = sleep_until(time) => {}
                    () = changed => {}
                },
                Look::Until(None) => changed.await,
            }
        }
    }

    /// Forgets that the token was dead, because there is another one.
    pub(super) fn token_changed(&self) {
        let mut state = self.state();
        state.unauthorized_in_a_row = 0;
        if state.closure.is_some_and(|closure| closure.why == Why::Unauthorized) {
            state.closure = None;
        }
        drop(state);
        self.changed.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything in it could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the state allows at one moment.
enum Look {
    Go {
        probe: bool,
    },
    Closed(Closed),
    /// Nothing changes before this time, unless somebody says so.
    Until(Option<Instant>),
}

impl State {
    fn look(&mut self, now: Instant, budget: usize) -> Look {
        let mut probe = false;
        if let Some(closure) = &self.closure {
            let wait = closure.until.saturating_duration_since(now);
            match closure.why {
                Why::Unauthorized if !wait.is_zero() => return Look::Closed(Closed { why: closure.why, wait }),
                Why::RateLimited if wait > PATIENCE => return Look::Closed(Closed { why: closure.why, wait }),
                _ if !wait.is_zero() => return Look::Until(Some(closure.until)),
                _ if closure.probing => return Look::Until(None),
                _ => probe = true,
            }
        }
        while self.ended.front().is_some_and(|&ended| ended + WINDOW <= now) {
            self.ended.pop_front();
        }
        if self.in_flight + self.ended.len() >= budget {
            return Look::Until(self.ended.front().map(|&ended| ended + WINDOW));
        }
        self.in_flight += 1;
        if let Some(closure) = self.closure.as_mut().filter(|_| probe) {
            closure.probing = true;
        }
        Look::Go { probe }
    }

    /// What an answer changes. `probe` is the single request that a closure lets through.
    fn learn(&mut self, answer: &Answer, probe: bool, now: Instant) -> Effect {
        let unauthorized = answer.status == Some(401);
        self.unauthorized_in_a_row = if unauthorized { self.unauthorized_in_a_row + 1 } else { 0 };
        let before = self.closure;
        let close = |why, pause| Some(Closure { why, until: now + pause, pause, probing: false });
        let next = if answer.rate_limited {
            close(Why::RateLimited, answer.retry_after.unwrap_or(BLOCK).max(SHORTEST_PAUSE))
        } else if unauthorized && self.unauthorized_in_a_row >= UNAUTHORIZED_TO_STOP {
            let pause = match before {
                Some(closure) if closure.why == Why::Unauthorized => (closure.pause * 2).min(RAREST_PROBE),
                _ => FIRST_PROBE,
            };
            close(Why::Unauthorized, pause)
        } else if let Some(reset) = answer.limits.iter().filter(|limit| limit.is_low()).map(|limit| limit.reset).max() {
            // Nothing says that all is over when the time is: so one request looks.
            close(Why::Low, reset.clamp(SHORTEST_PAUSE, BLOCK))
        } else if answer.status.is_none_or(|status| status >= 500) {
            // No word from the API itself: what was true before still is.
            before.and_then(|closure| match closure.why {
                Why::Unauthorized => close(closure.why, closure.pause),
                Why::Low | Why::RateLimited => close(closure.why, SHORTEST_PAUSE),
            })
        } else {
            None
        };
        match (before, next) {
            // Answers to what was sent before the doors closed do not open them, nor make it longer but for a 429.
            (Some(closure), next) if !probe => {
                if let Some(next) = next.filter(|next| next.why == Why::RateLimited && next.until > closure.until) {
                    self.closure = Some(Closure { probing: closure.probing, ..next });
                    return Effect { closed: Some(next.told()), revived: false };
                }
                Effect::default()
            }
            (before, next) => {
                self.closure = next;
                let was_dead = before.is_some_and(|closure| closure.why == Why::Unauthorized);
                let is_dead = next.is_some_and(|closure| closure.why == Why::Unauthorized);
                Effect { closed: next.map(Closure::told), revived: was_dead && !is_dead }
            }
        }
    }
}

impl Closure {
    const fn told(self) -> Closed {
        Closed { why: self.why, wait: self.pause }
    }
}

impl Ticket<'_> {
    /// Tells what came of the request.
    pub(super) fn report(self, answer: &Answer) -> Effect {
        self.pace.state().learn(answer, self.probe, Instant::now())
        // Dropped here, which frees the place.
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut state = self.pace.state();
        state.in_flight -= 1;
        state.ended.push_back(Instant::now());
        if self.probe
            && let Some(closure) = &mut state.closure
        {
            closure.probing = false;
        }
        drop(state);
        self.pace.changed.notify_waiters();
    }
}
