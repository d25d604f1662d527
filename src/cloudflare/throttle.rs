//! When a request may go out: the budget, the requests in flight, and the times when none may.
//!
//! One `Pace` for each credential, since Cloudflare counts by user. It knows nothing of what is
//! asked, and waits on tokio's clock alone.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::limits::{LONGEST_WAIT, RateLimit, lowest_reset};

/// Cloudflare counts requests over five minutes. A second more, and requests that took unequally
/// long to arrive still fall into different windows over there.
const WINDOW: Duration = Duration::from_secs(301);

/// Requests that end within this time are remembered as one, by the last of them: a second of the
/// window is not worth holding a million times.
const GRAIN: Duration = Duration::from_secs(1);

/// How long Cloudflare blocks a user that asked too often.
pub(super) const BLOCK: Duration = Duration::from_secs(300);

/// No pause is shorter: a server that says "at once" does not mean at once.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// Longer than this nobody waits for an answer; who comes meanwhile is told to come back.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A single refusal can be a passing fault; so many in a row are a dead credential.
const REFUSALS_TO_STOP: u32 = 3;

/// A dead credential is tried after a minute, then ever more rarely.
const FIRST_PROBE: Duration = Duration::from_secs(60);
const RAREST_PROBE: Duration = Duration::from_secs(3600);

/// How long no request goes out after a lock-out: each that is refused may prolong it. Cloudflare does not say how long
/// it lasts.
const LOCK_OUT: Duration = Duration::from_secs(15 * 60);

/// Paces the requests of one credential.
#[derive(Debug)]
pub(crate) struct Pace {
    limits: Mutex<Limits>,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Requests in any [`WINDOW`].
    budget: usize,
    /// Requests in flight.
    concurrency: usize,
    /// Of these, how many may be for zones that may never answer.
    doubtful: usize,
}

impl Limits {
    fn new(requests_per_5m: u32, concurrency: u32) -> Self {
        Self { budget: requests_per_5m as usize, concurrency: 0, doubtful: 0 }.with_concurrency(concurrency as usize)
    }

    fn with_concurrency(self, concurrency: usize) -> Self {
        Self { concurrency, doubtful: (concurrency - 1).max(1), ..self }
    }
}

/// Whether a zone is likely to hold up what waits behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// It was listed well the last time.
    Proven,
    /// It failed the last time: such zones together leave one place free, so that however many of them hang, the
    /// others go on.
    Doubtful,
}

/// A place in the order of polls. All requests of a poll share one, so that a zone of many pages is
/// read in one go and not page by page between others, while its listing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn(u64);

/// The turn, and a number of its own for each request.
type Number = (Turn, u64);

#[derive(Debug, Default)]
struct State {
    /// Who waits: those of the earliest turn go first, whatever their lane, unless all places of the
    /// doubtful lane are taken.
    proven: BTreeMap<Number, Arc<Notify>>,
    doubtful: BTreeMap<Number, Arc<Notify>>,
    drawn: u64,
    in_flight: usize,
    doubtful_in_flight: usize,
    spent: Spent,
    closure: Option<Closure>,
    /// Since the last answer to a request with this secret that Cloudflare let in.
    refused_in_a_row: u32,
    /// There was such an answer. Before it, no more requests are out than may be refused.
    is_accepted: bool,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Why {
    /// What is left is the owner's.
    Low,
    /// Cloudflare said 429.
    RateLimited,
    /// Cloudflare refuses the credential, whatever is asked for with it.
    Refused,
}

/// The credential is closed for longer than anybody waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(super) why: Why,
    /// How long it will stay so.
    pub(super) wait: Duration,
}

/// What an answer says of the credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Verdict {
    /// Nothing: none came, or it is not the API's own.
    #[default]
    None,
    /// It was let in.
    Accepted,
    /// No, and that may be about what was asked for.
    Forbidden,
    /// No, whatever is asked for.
    Refused,
    /// The same, and so often that Cloudflare does not look at it any more.
    LockedOut,
}

/// What the answer to a request means for the pace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Answer {
    pub(super) verdict: Verdict,
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

/// What must be known of a credential after a restart; times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PaceRecord {
    /// When requests of the last window had ended at the latest, and how many.
    requests: Vec<(i64, usize)>,
    closed: Option<ClosureRecord>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct ClosureRecord {
    why: Why,
    until: i64,
    /// Seconds.
    pause: u64,
}

/// Leave to send one request. It counts against the budget until a window after it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket<'a> {
    pace: &'a Pace,
    lane: Lane,
    probe: bool,
    /// How long the budget was waited for while this request was the next one.
    pub(super) waited: Duration,
}

impl Pace {
    /// At most `requests_per_5m` in five minutes, and `concurrency` at a time.
    pub(crate) fn new(requests_per_5m: u32, concurrency: u32) -> Self {
        Self { limits: Mutex::new(Limits::new(requests_per_5m, concurrency)), state: Mutex::default() }
    }

    /// From now on at most `requests_per_5m` in five minutes, those before included, and `concurrency` at a time.
    pub(super) fn set_limits(&self, requests_per_5m: u32, concurrency: u32) {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = Limits::new(requests_per_5m, concurrency);
        // Whoever waits looks again: more may be allowed now.
        let state = self.state();
        state.proven.values().chain(state.doubtful.values()).for_each(|waiting| waiting.notify_one());
    }

    /// Draws the next turn.
    pub(crate) fn turn(&self) -> Turn {
        Turn(self.state().draw())
    }

    /// Waits until one more request may go out.
    ///
    /// # Errors
    /// If the credential is closed for longer than [`PATIENCE`], or its token is dead.
    pub(crate) async fn admit(&self, turn: Turn, lane: Lane) -> Result<Ticket<'_>, Closed> {
        let place = Place::take(self, turn, lane);
        // Since when nothing but the budget is missing.
        let mut since = None;
        loop {
            let now = Instant::now();
            let look = self.state().look(place.number, lane, self.limits(), now);
            match look {
                Look::Go { probe } => {
                    let waited = since.map_or(Duration::ZERO, |since| now - since);
                    return Ok(Ticket { pace: self, lane, probe, waited });
                }
                Look::Closed(closed) => return Err(closed),
                Look::Until(time) => {
                    since.get_or_insert(now);
                    tokio::select! {
                        () = sleep_until(time) => {}
                        () = place.called.notified() => {}
                    }
                }
                Look::Wait => {
                    since = None;
                    place.called.notified().await;
                }
            }
        }
    }

    /// What a restart must not forget, at the Unix second `now`, which is rounded up. A request in flight may end as late
    /// as `timeout` from now.
    pub(super) fn record(&self, now: i64, timeout: Duration) -> PaceRecord {
        let state = self.state();
        let instant = Instant::now();
        let ended = state.spent.ended().map(|(ended, count)| {
            (now.saturating_sub_unsigned(instant.saturating_duration_since(ended).as_secs()), count)
        });
        let in_flight = (now.saturating_add_unsigned(timeout.as_secs()), state.in_flight);
        let closed = state.closure.filter(|closure| closure.why != Why::Refused).map(|closure| ClosureRecord {
            why: closure.why,
            until: now.saturating_add_unsigned(whole_seconds(closure.until.saturating_duration_since(instant))),
            pause: whole_seconds(closure.pause),
        });
        PaceRecord { requests: ended.chain([in_flight]).filter(|(_, count)| *count > 0).collect(), closed }
    }

    /// Goes on where another process has left off; `now` is Unix seconds.
    ///
    /// That a token was dead is not remembered: a restart is how some get a new one.
    pub(super) fn restore(&self, record: &PaceRecord, now: i64) {
        let mut state = self.state();
        let instant = Instant::now();
        let mut requests = record.requests.clone();
        requests.sort_unstable();
        for (ended, count) in requests {
            // What is said to be ahead was in flight, or the clock was set back: it counts as ended now.
            state.spent.restore(Duration::from_secs(now.saturating_sub(ended).max(0).unsigned_abs()), count, instant);
        }
        state.closure = record.closed.map(|ClosureRecord { why, until, pause }| {
            let pause = Duration::from_secs(pause).min(LONGEST_WAIT);
            let left = Duration::from_secs(until.saturating_sub(now).max(0).unsigned_abs()).min(pause);
            Closure { why, until: instant + left, pause, probing: false }
        });
    }

    /// Forgets that the token was dead, because there is another one.
    pub(super) fn token_changed(&self) {
        let mut state = self.state();
        state.refused_in_a_row = 0;
        state.is_accepted = false;
        if state.closure.is_some_and(|closure| closure.why == Why::Refused) {
            state.closure = None;
        }
        state.call_next(self.limits());
    }

    fn limits(&self) -> Limits {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything in it could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue, left when it is dropped.
struct Place<'a> {
    pace: &'a Pace,
    lane: Lane,
    number: Number,
    called: Arc<Notify>,
}

impl<'a> Place<'a> {
    fn take(pace: &'a Pace, turn: Turn, lane: Lane) -> Self {
        let called = Arc::new(Notify::new());
        let mut state = pace.state();
        let number = (turn, state.draw());
        state.queue(lane).insert(number, called.clone());
        drop(state);
        Self { pace, lane, number, called }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.pace.state();
        state.queue(self.lane).remove(&self.number);
        state.call_next(self.pace.limits());
    }
}

/// What the state allows at one moment.
enum Look {
    Go {
        probe: bool,
    },
    Closed(Closed),
    /// Nothing before this time, unless called.
    Until(Instant),
    /// Nothing unless called.
    Wait,
}

impl State {
    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    fn queue(&mut self, lane: Lane) -> &mut BTreeMap<Number, Arc<Notify>> {
        match lane {
            Lane::Proven => &mut self.proven,
            Lane::Doubtful => &mut self.doubtful,
        }
    }

    /// Whose turn it is.
    fn next(&self, limits: Limits) -> Option<(&Number, &Arc<Notify>)> {
        let doubtful = self.doubtful.first_key_value().filter(|_| self.doubtful_in_flight < limits.doubtful);
        let proven = self.proven.first_key_value();
        [doubtful, proven].into_iter().flatten().min_by_key(|(number, _)| **number)
    }

    /// Lets whose turn it is look again. Each change ends with this.
    fn call_next(&self, limits: Limits) {
        if let Some((_, next)) = self.next(self.at_present(limits)) {
            next.notify_one();
        }
    }

    /// The limits that hold now.
    fn at_present(&self, limits: Limits) -> Limits {
        if self.is_accepted {
            limits
        } else {
            limits.with_concurrency(limits.concurrency.min(REFUSALS_TO_STOP as usize))
        }
    }

    fn look(&mut self, number: Number, lane: Lane, limits: Limits, now: Instant) -> Look {
        let limits = self.at_present(limits);
        let mut probe = false;
        if let Some(closure) = &self.closure {
            let wait = closure.until.saturating_duration_since(now);
            match closure.why {
                // Whoever it is: there is no point in queueing.
                Why::Refused if !wait.is_zero() => return Look::Closed(Closed { why: closure.why, wait }),
                Why::RateLimited if wait > PATIENCE => return Look::Closed(Closed { why: closure.why, wait }),
                _ if !wait.is_zero() => return Look::Until(closure.until),
                _ if closure.probing => return Look::Wait,
                _ => probe = true,
            }
        }
        if self.next(limits).is_none_or(|(next, _)| *next != number) || self.in_flight >= limits.concurrency {
            return Look::Wait;
        }
        if self.in_flight.saturating_add(self.spent.count(now)) >= limits.budget {
            return self.spent.next_free().map_or(Look::Wait, Look::Until);
        }
        self.in_flight += 1;
        self.doubtful_in_flight += usize::from(lane == Lane::Doubtful);
        if let Some(closure) = self.closure.as_mut().filter(|_| probe) {
            closure.probing = true;
        }
        Look::Go { probe }
    }

    /// What an answer changes. `probe` is the single request that a closure lets through.
    fn learn(&mut self, answer: &Answer, probe: bool, now: Instant) -> Effect {
        let before = self.closure;
        let was_dead = before.is_some_and(|closure| closure.why == Why::Refused);
        match answer.verdict {
            Verdict::Refused => self.refused_in_a_row += 1,
            Verdict::Accepted => {
                self.refused_in_a_row = 0;
                self.is_accepted = true;
            }
            // These say nothing of the credential.
            Verdict::Forbidden | Verdict::LockedOut | Verdict::None => {}
        }
        let next = self.closed_by(answer, probe && was_dead, now);
        // Answers to what was sent before the doors closed do not open them, nor make it longer but for a 429 or a
        // lock-out.
        let decides = before.is_none_or(|closure| probe && closure.until <= now);
        if decides {
            self.closure = next;
            return Effect {
                closed: next.map(Closure::told),
                revived: was_dead && next.is_none_or(|next| next.why != Why::Refused),
            };
        }
        match (before, next) {
            (Some(before), Some(next))
                if (answer.rate_limited || answer.verdict == Verdict::LockedOut)
                    && next.until > before.until + SHORTEST_PAUSE =>
            {
                self.closure = Some(Closure { probing: before.probing, ..next });
                Effect { closed: Some(next.told()), revived: false }
            }
            _ => Effect::default(),
        }
    }

    /// The closure that follows from an answer alone; `of_the_dead` if it tried a token that was dead before.
    fn closed_by(&self, answer: &Answer, of_the_dead: bool, now: Instant) -> Option<Closure> {
        let close = |why, pause| Some(Closure { why, until: now + pause, pause, probing: false });
        let before = self.closure.map_or(Duration::ZERO, |closure| closure.pause);
        match answer.verdict {
            _ if answer.rate_limited => {
                close(Why::RateLimited, answer.retry_after.unwrap_or(BLOCK).max(SHORTEST_PAUSE))
            }
            Verdict::LockedOut => {
                let longer = if of_the_dead { before * 2 } else { Duration::ZERO };
                close(Why::Refused, longer.min(RAREST_PROBE).max(LOCK_OUT).max(answer.retry_after.unwrap_or_default()))
            }
            // Cloudflare does not always say that it is about the credential.
            Verdict::Refused | Verdict::Forbidden if of_the_dead => close(Why::Refused, (before * 2).min(RAREST_PROBE)),
            Verdict::Refused if self.refused_in_a_row >= REFUSALS_TO_STOP => close(Why::Refused, FIRST_PROBE),
            // No word from the API itself: what was true before still is.
            Verdict::None if of_the_dead => close(Why::Refused, before),
            Verdict::None if self.closure.is_some() => close(Why::Low, SHORTEST_PAUSE),
            // Nothing says that all is over when the time is: so one request looks.
            _ => close(Why::Low, lowest_reset(&answer.limits)?.max(SHORTEST_PAUSE)),
        }
    }
}

/// The requests that ended within the last window.
#[derive(Debug, Default)]
struct Spent {
    /// Oldest first.
    batches: VecDeque<Batch>,
    count: usize,
}

/// Requests that ended within a [`GRAIN`].
#[derive(Debug)]
struct Batch {
    /// When the first of them ended.
    begun: Instant,
    /// When they are no longer in the window.
    free: Instant,
    count: usize,
}

impl Spent {
    fn add(&mut self, now: Instant) {
        self.count += 1;
        match self.batches.back_mut() {
            Some(batch) if now < batch.begun + GRAIN => {
                batch.free = now + WINDOW;
                batch.count += 1;
            }
            _ => self.batches.push_back(Batch { begun: now, free: now + WINDOW, count: 1 }),
        }
    }

    /// Adds what ended before this process was there; the oldest has to come first.
    fn restore(&mut self, age: Duration, count: usize, now: Instant) {
        if let Some(left) = WINDOW.checked_sub(age).filter(|left| !left.is_zero()) {
            self.count = self.count.saturating_add(count);
            // No request of this process goes into its batch, since all of them end later.
            let begun = now.checked_sub(GRAIN).unwrap_or(now);
            self.batches.push_back(Batch { begun, free: now + left, count });
        }
    }

    /// How many there are now.
    fn count(&mut self, now: Instant) -> usize {
        while let Some(batch) = self.batches.front().filter(|batch| batch.free <= now) {
            self.count = self.count.saturating_sub(batch.count);
            self.batches.pop_front();
        }
        self.count
    }

    /// When there are fewer.
    fn next_free(&self) -> Option<Instant> {
        self.batches.front().map(|batch| batch.free)
    }

    /// When each batch ended, as far as this process can tell the time, and how many are in it.
    fn ended(&self) -> impl Iterator<Item = (Instant, usize)> {
        self.batches.iter().map(|batch| (batch.free.checked_sub(WINDOW).unwrap_or(batch.begun), batch.count))
    }
}

/// Rounded up.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
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
        state.doubtful_in_flight -= usize::from(self.lane == Lane::Doubtful);
        state.spent.add(Instant::now());
        if self.probe
            && let Some(closure) = &mut state.closure
        {
            closure.probing = false;
        }
        state.call_next(self.pace.limits());
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
    use proptest::prelude::*;
    use tokio::time::{advance, sleep};

    use super::*;
    use crate::properties::tests_everything;

    fn status(status: u16) -> Answer {
        let verdict = match status {
            401 => Verdict::Refused,
            403 => Verdict::Forbidden,
            500.. => Verdict::None,
            _ => Verdict::Accepted,
        };
        Answer { verdict, ..Answer::default() }
    }

    fn locked_out() -> Answer {
        Answer { verdict: Verdict::LockedOut, ..Answer::default() }
    }

    fn too_many(retry_after: Option<u64>) -> Answer {
        Answer { rate_limited: true, retry_after: retry_after.map(Duration::from_secs), ..status(429) }
    }

    fn left(remaining: u64, reset: u64) -> Answer {
        let limit = RateLimit {
            policy: "default".into(),
            quota: Some(1200),
            remaining: Some(remaining),
            reset: Duration::from_secs(reset),
        };
        Answer { limits: vec![limit], ..status(200) }
    }

    /// Sends a request that is answered at once.
    async fn send(pace: &Pace, answer: Answer) -> Effect {
        pace.admit(pace.turn(), Lane::Proven).await.unwrap().report(&answer)
    }

    /// How long it takes until a request may go out.
    async fn time_to_send(pace: &Pace) -> Duration {
        let started = Instant::now();
        send(pace, status(200)).await;
        started.elapsed()
    }

    /// Sends `requests` as fast as it may, each with the latency that `latency` draws, and returns when each was sent.
    async fn run(pace: &Pace, requests: usize, mut latency: impl FnMut() -> Duration) -> Vec<Instant> {
        let sent = RefCell::new(Vec::new());
        let mut running: FuturesUnordered<_> = (0..requests)
            .map(|_| {
                let latency = latency();
                let sent = &sent;
                async move {
                    let ticket = pace.admit(pace.turn(), Lane::Proven).await.unwrap();
                    sent.borrow_mut().push(Instant::now());
                    sleep(latency).await;
                    ticket.report(&status(200));
                }
            })
            .collect();
        while running.next().await.is_some() {}
        drop(running);
        sent.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn no_five_minutes_hold_more_requests_than_the_budget_and_little_of_it_is_wasted() {
        let (budget, hours) = (600, if tests_everything() { 24 } else { 6 });
        let pace = Pace::new(budget, 4);
        let requests = budget as usize * 12 * hours;
        let mut random = fastrand::Rng::with_seed(1);
        let started = Instant::now();
        let sent = run(&pace, requests, || Duration::from_millis(random.u64(20..500))).await;
        for (first, beyond) in sent.iter().zip(&sent[budget as usize..]) {
            assert!(*beyond - *first > Duration::from_secs(300));
        }
        let ideal = Duration::from_secs(hours as u64 * 3600).as_secs_f64();
        let used = ideal / started.elapsed().as_secs_f64();
        assert!(used >= 0.95, "only {used:.3} of the budget was used");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_budget_holds_whatever_the_latencies_are(budget in 1..40_u32, concurrency in 1..20_u32, seed: u64) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let pace = Pace::new(budget, concurrency);
                let mut random = fastrand::Rng::with_seed(seed);
                let sent = run(&pace, 300, || Duration::from_millis(random.u64(0..40_000))).await;
                // As it arrives over there: up to a second late.
                let mut arrived: Vec<_> = sent.iter().map(|time| *time + Duration::from_millis(random.u64(0..1000))).collect();
                arrived.sort_unstable();
                for (first, beyond) in arrived.iter().zip(&arrived[budget as usize..]) {
                    assert!(*beyond - *first >= Duration::from_secs(300));
                }
            });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_requests_are_out_at_a_time() {
        let pace = Pace::new(600, 3);
        let tickets: Vec<_> =
            (0..3).map(|_| pace.admit(pace.turn(), Lane::Proven).now_or_never().unwrap().unwrap()).collect();
        assert!(pace.admit(pace.turn(), Lane::Proven).now_or_never().is_none());
        drop(tickets);
        assert!(pace.admit(pace.turn(), Lane::Proven).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn zones_that_may_hang_leave_a_place_free() {
        for (concurrency, doubtful) in [(1, 1), (2, 1), (4, 3)] {
            let pace = Pace::new(600, concurrency);
            send(&pace, status(200)).await;
            let hanging: Vec<_> = std::iter::from_fn(|| pace.admit(pace.turn(), Lane::Doubtful).now_or_never())
                .take(10)
                .map(Result::unwrap)
                .collect();
            assert_eq!(hanging.len(), doubtful);
            assert_eq!(
                pace.admit(pace.turn(), Lane::Proven).now_or_never().is_some(),
                concurrency > 1,
                "{concurrency}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_below_a_fifth_is_the_owners() {
        let pace = Pace::new(600, 4);
        send(&pace, left(240, 1)).await;
        assert_eq!(time_to_send(&pace).await, Duration::ZERO);
        for (reset, seconds) in [(30, 30), (0, 1), (3000, 3000)] {
            send(&pace, left(239, reset)).await;
            assert_eq!(time_to_send(&pace).await, Duration::from_secs(seconds), "{reset}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_pause_one_request_looks_before_others_follow() {
        let pace = Pace::new(600, 4);
        send(&pace, left(100, 10)).await;
        let probe = pace.admit(pace.turn(), Lane::Proven).await.unwrap();
        advance(Duration::from_secs(5)).await;
        assert!(pace.admit(pace.turn(), Lane::Proven).now_or_never().is_none());
        // Still low: everything waits again. No word: likewise, for a second.
        assert_eq!(probe.report(&left(100, 20)).closed, Some(Closed { why: Why::Low, wait: Duration::from_secs(20) }));
        let probe = pace.admit(pace.turn(), Lane::Proven).await.unwrap();
        probe.report(&Answer::default());
        let probe = pace.admit(pace.turn(), Lane::Proven).await.unwrap();
        assert!(pace.admit(pace.turn(), Lane::Proven).now_or_never().is_none());
        probe.report(&left(1000, 1));
        let open: Vec<_> = (0..4).map(|_| pace.admit(pace.turn(), Lane::Proven).now_or_never().unwrap()).collect();
        assert_eq!(open.len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_is_given_up_lets_another_one_look() {
        let pace = Pace::new(600, 4);
        send(&pace, left(100, 10)).await;
        drop(pace.admit(pace.turn(), Lane::Proven).await.unwrap());
        assert_eq!(time_to_send(&pace).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_stops_the_credential_as_a_whole() {
        for (retry_after, seconds) in [(Some(0), 1), (Some(60), 60), (Some(61), 61), (None, 300), (Some(3600), 3600)] {
            let pace = Pace::new(600, 4);
            let under_way = pace.admit(pace.turn(), Lane::Proven).await.unwrap();
            let wait = Duration::from_secs(seconds);
            assert_eq!(send(&pace, too_many(retry_after)).await.closed, Some(Closed { why: Why::RateLimited, wait }));
            // What was sent before does not open it again.
            under_way.report(&status(200));
            if wait > PATIENCE {
                let closed = pace.admit(pace.turn(), Lane::Proven).now_or_never().unwrap().unwrap_err();
                assert_eq!(closed, Closed { why: Why::RateLimited, wait });
                advance(wait).await;
            } else {
                assert_eq!(time_to_send(&pace).await, wait);
            }
            assert_eq!(time_to_send(&pace).await, Duration::ZERO);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_when_a_long_block_begins_is_told() {
        let pace = Pace::new(1, 2);
        let first = pace.admit(pace.turn(), Lane::Proven).await.unwrap();
        let mut waiting = std::pin::pin!(pace.admit(pace.turn(), Lane::Proven));
        assert!(waiting.as_mut().now_or_never().is_none());
        first.report(&too_many(Some(600)));
        assert!(waiting.await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_token_is_tried_ever_more_rarely() {
        let pace = Pace::new(600, 4);
        assert_eq!(send(&pace, status(401)).await, Effect::default());
        assert_eq!(send(&pace, status(401)).await, Effect::default());
        let mut waits = Vec::new();
        for _ in 0..8 {
            let closed = send(&pace, status(401)).await.closed.unwrap();
            assert_eq!(pace.admit(pace.turn(), Lane::Proven).now_or_never().unwrap().unwrap_err(), closed);
            assert_eq!(closed.why, Why::Refused);
            advance(closed.wait - Duration::from_secs(1)).await;
            assert!(pace.admit(pace.turn(), Lane::Proven).now_or_never().unwrap().is_err());
            advance(Duration::from_secs(1)).await;
            waits.push(closed.wait.as_secs());
        }
        assert_eq!(waits, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert!(send(&pace, status(200)).await.revived);
        assert_eq!(time_to_send(&pace).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_out_stops_the_credential_at_once_and_for_longer() {
        let dead = |minutes: u64| Effect {
            closed: Some(Closed { why: Why::Refused, wait: Duration::from_secs(60 * minutes) }),
            revived: false,
        };
        let pace = Pace::new(600, 4);
        let under_way: Vec<_> =
            (0..2).map(|_| pace.admit(pace.turn(), Lane::Proven).now_or_never().unwrap().unwrap()).collect();
        assert_eq!(send(&pace, locked_out()).await, dead(15));
        // What was sent before is answered in the same way, and says nothing new.
        for ticket in under_way {
            assert_eq!(ticket.report(&locked_out()), Effect::default());
        }
        for minutes in [30, 60, 60] {
            let closed = pace.admit(pace.turn(), Lane::Proven).now_or_never().unwrap().unwrap_err();
            advance(closed.wait).await;
            assert_eq!(send(&pace, locked_out()).await, dead(minutes));
        }
        // A pause that had begun becomes longer.
        let pace = Pace::new(600, 4);
        let under_way = pace.admit(pace.turn(), Lane::Proven).await.unwrap();
        for _ in 0..3 {
            send(&pace, status(401)).await;
        }
        assert_eq!(under_way.report(&locked_out()), dead(15));
        // What the server asks for counts, and a new token does too.
        let pace = Pace::new(600, 4);
        let retry_after = Some(Duration::from_secs(2 * 3600));
        assert_eq!(send(&pace, Answer { retry_after, ..locked_out() }).await, dead(120));
        pace.token_changed();
        assert_eq!(time_to_send(&pace).await, Duration::ZERO);
    }

    /// A credential that was refused three times, a minute ago.
    async fn refused() -> Pace {
        let pace = Pace::new(600, 4);
        for _ in 0..3 {
            send(&pace, status(401)).await;
        }
        advance(FIRST_PROBE).await;
        pace
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_good_answer_brings_a_dead_token_back() {
        let dead = |seconds| Effect {
            closed: Some(Closed { why: Why::Refused, wait: Duration::from_secs(seconds) }),
            revived: false,
        };
        for (answers, effects) in [
            (vec![status(403)], vec![dead(120)]),
            (vec![status(503), status(401)], vec![dead(60), dead(120)]),
            (vec![Answer::default(), status(401), status(401)], vec![dead(60), dead(120), dead(240)]),
            (vec![status(503), status(200)], vec![dead(60), Effect { closed: None, revived: true }]),
            (vec![status(404)], vec![Effect { closed: None, revived: true }]),
        ] {
            let pace = refused().await;
            for (answer, effect) in answers.iter().zip(effects) {
                assert_eq!(send(&pace, answer.clone()).await, effect, "{answers:?}");
                advance(effect.closed.map_or(Duration::ZERO, |closed| closed.wait)).await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_does_not_open_what_a_429_closed_meanwhile() {
        let pace = Pace::new(600, 4);
        let under_way = pace.admit(pace.turn(), Lane::Proven).await.unwrap();
        send(&pace, left(100, 1)).await;
        let probe = pace.admit(pace.turn(), Lane::Proven).await.unwrap();
        under_way.report(&too_many(Some(3600)));
        assert_eq!(probe.report(&status(200)), Effect::default());
        assert!(pace.admit(pace.turn(), Lane::Proven).now_or_never().unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn all_requests_of_a_poll_go_before_those_of_later_polls() {
        let pace = Pace::new(600, 1);
        let first = pace.turn();
        let under_way = pace.admit(first, Lane::Proven).await.unwrap();
        let order = RefCell::new(Vec::new());
        let (pace, order) = (&pace, &order);
        let wait = async |name: &'static str, turn: Turn| {
            drop(pace.admit(turn, Lane::Proven).await.unwrap());
            order.borrow_mut().push(name);
        };
        let later = pace.turn();
        let mut waiting: FuturesUnordered<_> = [("later", later), ("page 2", first), ("page 3", first)]
            .map(|(name, turn)| wait(name, turn))
            .into_iter()
            .collect();
        assert!(waiting.next().now_or_never().is_none());
        drop(under_way);
        while waiting.next().await.is_some() {}
        assert_eq!(*order.borrow(), ["page 2", "page 3", "later"]);
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_are_counted_since_the_last_answer_that_says_that_the_secret_is_good() {
        for (other, resets) in [
            (status(200), true),
            (status(404), true),
            (status(403), false),
            (status(500), false),
            (Answer::default(), false),
        ] {
            let pace = Pace::new(600, 4);
            for answer in [status(401), status(401), other.clone()] {
                assert_eq!(send(&pace, answer).await, Effect::default());
            }
            assert_eq!(send(&pace, status(401)).await.closed.is_none(), resets, "{other:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_that_was_not_accepted_yet_is_sent_three_times_at_once_at_most() {
        let pace = Pace::new(600, 100);
        let admitted = || -> Vec<_> {
            std::iter::from_fn(|| pace.admit(pace.turn(), Lane::Proven).now_or_never()).map(Result::unwrap).collect()
        };
        assert_eq!(admitted().len(), 3);
        send(&pace, status(200)).await;
        assert_eq!(admitted().len(), 100);
        pace.token_changed();
        assert_eq!(admitted().len(), 3);
    }

    const WALL: i64 = 1_795_521_600;

    fn record(pace: &Pace) -> PaceRecord {
        pace.record(WALL, Duration::from_secs(30))
    }

    /// The pace of a process that begins so many seconds after the record.
    fn restarted(record: &PaceRecord, budget: u32, after: i64) -> Pace {
        let pace = Pace::new(budget, 4);
        pace.restore(record, WALL + after);
        pace
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_forgets_no_request_of_the_last_five_minutes() {
        let pace = Pace::new(3, 4);
        send(&pace, status(200)).await;
        advance(Duration::from_secs(100)).await;
        send(&pace, status(200)).await;
        let _in_flight = pace.admit(pace.turn(), Lane::Proven).await.unwrap();
        let record = record(&pace);
        // Seconds after the record, and after the restart until the first, second and third request may go out.
        for (after, waits) in [
            (0, [201, 301, 301]),
            (20, [181, 281, 301]),
            (60, [141, 241, 271]),
            (250, [0, 51, 81]),
            (271, [0, 30, 60]),
            (400, [0, 0, 0]),
            // The clock was set back: as if all had just been.
            (-5000, [301, 301, 301]),
        ] {
            let next = restarted(&record, 3, after);
            let started = Instant::now();
            let mut tickets = Vec::new();
            for wait in waits {
                tickets.push(next.admit(next.turn(), Lane::Proven).await.unwrap());
                assert_eq!(started.elapsed(), Duration::from_secs(wait), "{after}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_forgets_no_block() {
        for (retry_after, after, wait) in
            [(600, 0, 600), (600, 599, 1), (600, 600, 0), (600, 9999, 0), (600, -5000, 600), (86_400, 3600, 82_800)]
        {
            let pace = Pace::new(600, 4);
            send(&pace, too_many(Some(retry_after))).await;
            let next = restarted(&record(&pace), 600, after);
            if wait > 60 {
                let closed = next.admit(next.turn(), Lane::Proven).now_or_never().unwrap().unwrap_err();
                assert_eq!(closed, Closed { why: Why::RateLimited, wait: Duration::from_secs(wait) }, "{after}");
                advance(Duration::from_secs(wait)).await;
            } else {
                let probe = next.admit(next.turn(), Lane::Proven).await.unwrap();
                assert!(
                    next.admit(next.turn(), Lane::Proven).now_or_never().is_none(),
                    "one looks before others follow"
                );
                probe.report(&status(200));
            }
            assert_eq!(time_to_send(&next).await, Duration::ZERO, "{after}");
        }
        let pace = Pace::new(600, 4);
        send(&pace, left(100, 10)).await;
        assert_eq!(time_to_send(&restarted(&record(&pace), 600, 4)).await, Duration::from_secs(6));
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_tries_a_dead_token_again_since_it_may_be_another_one() {
        let pace = Pace::new(600, 4);
        for _ in 0..3 {
            send(&pace, status(401)).await;
        }
        assert_eq!(time_to_send(&restarted(&record(&pace), 600, 0)).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_million_requests_are_recorded_by_the_second() {
        let pace = Pace::new(1_000_000, 100);
        for _ in 0..10 {
            for _ in 0..500 {
                send(&pace, status(200)).await;
            }
            advance(Duration::from_millis(400)).await;
        }
        let record = record(&pace);
        assert!(record.requests.len() <= 5, "{record:?}");
        assert_eq!(record.requests.iter().map(|(_, count)| count).sum::<usize>(), 5000);
        assert!(record.requests.iter().all(|(ended, _)| (WALL - 5..=WALL).contains(ended)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_record_is_too_odd(requests: Vec<(i64, usize)>, until: i64, pause: u64, now: i64, limited: bool) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let pace = Pace::new(600, 4);
                let why = if limited { Why::RateLimited } else { Why::Low };
                pace.restore(&PaceRecord { requests, closed: Some(ClosureRecord { why, until, pause }) }, now);
                pace.record(now, Duration::from_secs(600));
                // Whatever it says, it is over after a day and a window.
                advance(LONGEST_WAIT + WINDOW).await;
                assert!(pace.admit(pace.turn(), Lane::Proven).now_or_never().unwrap().is_ok());
            });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_token_is_tried_at_once() {
        let pace = Pace::new(600, 4);
        for _ in 0..3 {
            send(&pace, status(401)).await;
        }
        pace.token_changed();
        assert_eq!(time_to_send(&pace).await, Duration::ZERO);
    }
}
