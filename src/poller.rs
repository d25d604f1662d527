//! Which zone is due next: the loop that fetches, applies and publishes.
//!
//! It knows no network. What a poll does is a function that it is given, so its tests run for
//! simulated days. It only waits on tokio's clock; wall time is a parameter.

mod budget_fit;
mod schedule;

use std::{collections::HashMap, convert::Infallible, future::Future, iter::zip, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc::UnboundedReceiver, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval},
};

pub use budget_fit::{BudgetFit, CredentialFit, in_words};
use schedule::{Planned, Schedule};

use crate::{
    cloudflare::{Priority, requests_for},
    log_throttle::LogThrottle,
    model::{
        Baseline, Cause, DeadToken, DiscoveryState, Failure, Listing, MissingIds, Reason, Scope, Snapshot, Target,
        TargetState,
    },
};

/// How often the loop shows that it lives, and looks at whether the budget carries the zones.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);

/// How often a target is asked for that the plan does not include.
const NOT_ON_PLAN_AGAIN: Duration = Duration::from_secs(86_400);

/// Logs something about a target.
macro_rules! log_target {
    ($level:ident, $state:expr, $($rest:tt)+) => {{
        let (state, kind) = (&$state, $state.target.kind);
        match kind.scope() {
            Scope::Zone => {
                tracing::$level!(kind = kind.label(), zone = %state.name, zone_id = %state.target.id, $($rest)+);
            }
            Scope::Account => {
                tracing::$level!(kind = kind.label(), account = %state.name, account_id = %state.target.id, $($rest)+);
            }
        }
    }};
}

/// What a poll has to do.
#[derive(Debug, Clone)]
pub struct Job<C> {
    /// What the zone is listed with.
    pub client: Arc<C>,
    /// The zone to list.
    pub target: Arc<Target>,
    /// What it is called so far: its id as long as that is not known.
    pub name: Arc<str>,
    /// How much its answers are trusted to come.
    pub priority: Priority,
    /// What the new listing is compared with.
    pub baseline: Baseline,
    /// Ask for the zone's name too.
    pub wants_name: bool,
    /// When the zone is due after this poll, if it goes well.
    pub next_due: Instant,
}

/// What a good poll brings.
#[derive(Debug)]
pub struct Fetched {
    /// The whole listing.
    pub listing: Arc<Listing>,
    /// Usable certificates of the listing before that are not in this one.
    pub vanished: u64,
    /// When it was completed, in Unix seconds.
    pub completed: i64,
    /// What was found out of the zone's name.
    pub name: ZoneNameLookup,
}

/// What was found out of a zone's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ZoneNameLookup {
    /// Not asked, or no answer: to be asked again if it is wanted.
    Unknown,
    /// This is it.
    Known(Box<str>),
    /// The API does not tell: the id stays the name.
    Refused,
}

/// What is polled, and with what. `C` is a client; two clients are equal if a poll may go on with either.
#[derive(Debug)]
pub struct Plan<C> {
    /// All zones there are.
    pub targets: Vec<Arc<Target>>,
    /// A client for the credential of each zone, by its name.
    pub clients: HashMap<Arc<str>, Arc<C>>,
    /// The budget of each credential, in requests per five minutes.
    pub requests_per_5m: u32,
    /// How the discovery of the zones goes, for the snapshot.
    pub discoveries: Arc<[DiscoveryState]>,
}

impl<C> Plan<C> {
    /// What a zone of this plan is polled with.
    fn client(&self, zone: &Target) -> &Arc<C> {
        // Each zone's credential is one of the configuration, and each of those has a client.
        &self.clients[&zone.credential]
    }
}

/// What the loop works with, in addition to the function that fetches.
#[derive(Debug)]
pub struct Poller<C> {
    /// What to poll at first.
    pub plan: Arc<Plan<C>>,
    /// What to poll from then on. Targets that stay keep what is known of them and their place in the schedule. A poll
    /// that runs is given up where its zone is gone or has another client, and begins again with that.
    pub plans: watch::Receiver<Arc<Plan<C>>>,
    /// Where snapshots are published; it starts with a state for each zone of the plan.
    pub snapshots: watch::Sender<Arc<Snapshot>>,
    /// In how many milliseconds each zone would be due if the program had never stopped, negative if that
    /// was before now; `None` for a zone that was never listed.
    pub due_in: Vec<Option<i64>>,
    /// Credentials that Cloudflare accepts again.
    pub recovered: UnboundedReceiver<Arc<str>>,
    /// Shows that the loop lives: the time at which it last turned.
    pub heartbeat: watch::Sender<Instant>,
}

impl<C: PartialEq> Poller<C> {
    /// Polls until it is dropped. `now` is the wall clock, in Unix seconds. `save` is called with what changed without a
    /// good poll, and of when it is due: times that were set back with that clock, and what is not on the plan.
    ///
    /// Polls run side by side within this one task: the credential's throttle decides how many requests
    /// are out, and lets them go in the order in which the polls started.
    pub async fn run<F, P>(
        mut self,
        fetch: F,
        now: impl Fn() -> i64,
        save: impl Fn(&TargetState, Instant),
    ) -> Infallible
    where
        F: Fn(Job<C>) -> P,
        P: Future<Output = Result<Fetched, Failure>>,
    {
        let mut zones = Targets::new(self.snapshots, &self.due_in, self.plan, now());
        let mut running = FuturesUnordered::new();
        // Its first tick is at once, which says at the start whether the budget is enough.
        // A loop that was held up has missed its heartbeat; beating faster later would hide that.
        let mut ticks = interval(HEARTBEAT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            while let Some(index) = zones.schedule.start_due(Instant::now()) {
                let (job, started) = (zones.job(index), Instant::now());
                let zone = job.target.clone();
                let poll = fetch(job);
                let (guard, given_up) = oneshot::channel::<Infallible>();
                zones.memories[index].poll = Some(guard);
                running.push(async move {
                    tokio::select! {
                        biased;
                        _ = given_up => None,
                        outcome = poll => Some((zone, started, outcome)),
                    }
                });
            }
            tokio::select! {
                Some(ended) = running.next(), if !running.is_empty() => {
                    if let Some((zone, started, outcome)) = ended
                        && let Some(index) = zones.place(&zone)
                    {
                        zones.ended(index, now(), started.elapsed(), outcome);
                        let state = zones.state(index);
                        if state.available == Some(false) {
                            save(&state, zones.schedule.next_due(index));
                        }
                    }
                }
                Ok(()) = self.plans.changed() => {
                    let plan = self.plans.borrow_and_update().clone();
                    zones.change(plan);
                }
                Some(credential) = self.recovered.recv() => zones.retry(&credential),
                () = zones.schedule.wait() => {}
                _ = ticks.tick() => {
                    self.heartbeat.send_replace(Instant::now());
                    zones.follow_budget();
                    zones.follow_clock(now(), &save);
                }
            }
        }
    }
}

/// The zones, each at the same place in all of these.
struct Targets<C> {
    plan: Arc<Plan<C>>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    memories: Vec<Memory>,
    schedule: Schedule,
    fit: BudgetFit,
    /// How many were never tried.
    untried: usize,
}

/// What is remembered of a zone in addition to what is published.
struct Memory {
    wants_name: bool,
    /// When the listing was completed, by a clock that cannot be set.
    listed: Instant,
    /// What the last whole reading lacked of the last good listing.
    missing: Option<Arc<MissingIds>>,
    /// When it was last chosen to try a refused credential.
    probed: Option<Instant>,
    /// Decides when to log a failure: when it begins or changes, and hourly while it lasts.
    failure_log: LogThrottle<(Reason, String)>,
    /// Of the poll that runs, or ran last. When this is dropped, the poll is given up.
    poll: Option<oneshot::Sender<Infallible>>,
}

impl<C: PartialEq> Targets<C> {
    fn new(snapshots: watch::Sender<Arc<Snapshot>>, due_in: &[Option<i64>], plan: Arc<Plan<C>>, now: i64) -> Self {
        let states = snapshots.borrow().targets.clone();
        let instant = Instant::now();
        let memory = |state: &Arc<TargetState>| {
            let age = state.listing.as_ref().map_or(0, |(_, completed)| now.saturating_sub(*completed));
            let age = Duration::from_secs(age.max(0).unsigned_abs());
            Memory { listed: instant.checked_sub(age).unwrap_or(instant), ..Memory::new(state) }
        };
        let due_in = due_in.iter().copied().chain(std::iter::repeat(None));
        let mut fit = budget_fit(plan.requests_per_5m, &states);
        fit.log_changes(None);
        let intervals: Vec<_> = (0..states.len()).map(|index| fit.interval(index)).collect();
        keep_intervals(&snapshots, &intervals);
        let timings: Vec<_> = intervals.into_iter().zip(due_in).collect();
        Self {
            fit,
            plan,
            memories: states.iter().map(memory).collect(),
            schedule: Schedule::new(&timings, instant),
            untried: states.iter().filter(|state| state.last_poll.is_none()).count(),
            snapshots,
        }
    }

    /// Where the zone is, if it is still there.
    fn place(&self, zone: &Target) -> Option<usize> {
        self.snapshots.borrow().targets.iter().position(|state| state.target.key() == zone.key())
    }

    fn change(&mut self, plan: Arc<Plan<C>>) {
        let of = |plan: &Plan<C>| (plan.requests_per_5m, plan.clients.clone());
        if plan.targets == self.plan.targets && of(&plan) == of(&self.plan) {
            self.snapshots.send_modify(|snapshot| {
                Arc::make_mut(snapshot).discoveries = Arc::clone(&plan.discoveries);
            });
            self.plan = plan;
            return;
        }
        let before = self.snapshots.borrow().targets.clone();
        let places: HashMap<_, _> =
            before.iter().enumerate().map(|(place, state)| (state.target.key(), place)).collect();
        let mut memories: Vec<_> = std::mem::take(&mut self.memories).into_iter().map(Some).collect();
        let mut states = Vec::new();
        let mut places_before = Vec::new();
        for zone in &plan.targets {
            let place = places.get(&zone.key()).copied();
            let known = place.and_then(|place| Some((place, memories[place].take()?)));
            let Some((place, mut memory)) = known else {
                let state = Arc::new(TargetState::new(Arc::clone(zone)));
                self.memories.push(Memory::new(&state));
                places_before.push((None, false));
                states.push(state);
                continue;
            };
            let old = &before[place];
            let has_other_client = plan.client(zone) != self.plan.client(&old.target);
            let is_polled = !self.schedule.is_waiting(place);
            // A zone that failed may do well with another client.
            let is_urgent = is_polled
                || old.failure().is_some()
                || old.available == Some(false)
                || old.target.credential != zone.credential;
            let begins_again = has_other_client && is_urgent;
            if begins_again {
                memory.poll = None;
            }
            let state =
                if old.target == *zone { Arc::clone(old) } else { Arc::new(old.reconfigured(Arc::clone(zone))) };
            memory.wants_name = state.is_nameless() && (memory.wants_name || begins_again || !old.is_nameless());
            self.memories.push(memory);
            places_before.push((Some(place), begins_again));
            states.push(state);
        }
        let fit = budget_fit(plan.requests_per_5m, &states);
        let before = std::mem::replace(&mut self.fit, fit);
        self.fit.log_changes(Some(before));
        let mut timings = Vec::with_capacity(states.len());
        for (index, (state, (place, begins_again))) in zip(&mut states, places_before).enumerate() {
            let interval = self.fit.interval(index);
            timings.push(Planned { interval, place, begins_again });
            keep_interval(state, interval);
        }
        self.schedule.change(&timings, Instant::now());
        self.untried = states.iter().filter(|state| state.last_poll.is_none()).count();
        self.snapshots.send_replace(Arc::new(Snapshot { targets: states, discoveries: Arc::clone(&plan.discoveries) }));
        self.plan = plan;
    }

    fn state(&self, index: usize) -> Arc<TargetState> {
        self.snapshots.borrow().targets[index].clone()
    }

    fn job(&self, index: usize) -> Job<C> {
        let state = self.state(index);
        Job {
            client: Arc::clone(self.plan.client(&state.target)),
            target: state.target.clone(),
            name: state.name.clone(),
            priority: if state.failure().is_some() { Priority::Failing } else { Priority::Healthy },
            baseline: Baseline {
                listing: state.listing.as_ref().map(|(listing, _)| listing.clone()),
                completed: state.listing.as_ref().map_or(0, |(_, completed)| *completed),
                missing: self.memories[index].missing.clone(),
            },
            wants_name: self.memories[index].wants_name,
            next_due: self.schedule.next_due(index),
        }
    }

    /// Applies what came of a poll that ended at the Unix second `now`, and publishes it.
    fn ended(&mut self, index: usize, now: i64, duration: Duration, outcome: Result<Fetched, Failure>) {
        let before = self.state(index);
        let memory = &mut self.memories[index];
        let after = match outcome {
            Ok(Fetched { listing, vanished, completed, name }) => {
                self.schedule.succeeded(index, Instant::now());
                self.fit.sized(index, requests(&listing));
                memory.wants_name &= name == ZoneNameLookup::Unknown;
                memory.listed = Instant::now();
                memory.missing = None;
                let mut state = before.succeeded(listing, completed, duration);
                state.vanished += vanished;
                // The configuration may have named it while it was polled, and knows better.
                if let ZoneNameLookup::Known(name) = name
                    && before.target.name.is_none()
                {
                    state.name = name.into();
                }
                memory.log_success(&before, &state);
                if vanished > 0 {
                    log_target!(
                        warn,
                        state,
                        vanished,
                        "Usable certificates have vanished from the listing. Their alerts end; see cloudflare_certificates_vanished_total."
                    );
                }
                state
            }
            Err(failure) if failure.cause == Some(Cause::NotOnPlan) => {
                self.schedule.succeeded_for(index, NOT_ON_PLAN_AGAIN, Instant::now());
                self.fit.not_on_plan(index);
                memory.wants_name = false;
                memory.failure_log.end();
                if before.available != Some(false) {
                    log_target!(info, before, response = %failure, "The plan does not include this kind of certificate. It is requested again once a day.");
                }
                before.not_available(now, duration)
            }
            Err(mut failure) => {
                if let Some(missing) = failure.missing.take() {
                    memory.missing = Some(missing);
                }
                self.schedule.failed(index, &failure, Instant::now());
                if let Some(DeadToken::TryAfter(wait)) = failure.dead_token {
                    self.choose_prober(&before.target.credential, wait);
                }
                let memory = &mut self.memories[index];
                memory.log_failure(&before, &failure);
                before.failed(failure, now, duration)
            }
        };
        self.snapshots.send_modify(|snapshot| Arc::make_mut(snapshot).targets[index] = Arc::new(after));
        if before.last_poll.is_none() {
            self.untried -= 1;
            if self.untried == 0 {
                self.log_first_round();
            }
        }
    }

    /// Chooses the zone that tries a refused credential next.
    ///
    /// A zone that was listed before tells more than one that may have no permission of its own, and
    /// they take turns, so that a single odd zone cannot keep the others from being asked.
    fn choose_prober(&mut self, credential: &str, wait: Duration) {
        let prober = (0..self.memories.len())
            .filter(|&index| *self.state(index).target.credential == *credential && self.schedule.is_waiting(index))
            .min_by_key(|&index| {
                let state = self.state(index);
                let asked = state.failure().is_some_and(|failure| failure.dead_token != Some(DeadToken::NotAsked));
                (state.listing.is_none(), self.memories[index].probed, asked)
            });
        if let Some(prober) = prober {
            self.memories[prober].probed = Some(Instant::now());
            self.schedule.set_due(prober, Instant::now() + wait);
        }
    }

    /// Lets zones try again at once that were not polled because their credential was refused.
    fn retry(&mut self, credential: &str) {
        for index in 0..self.memories.len() {
            let state = self.state(index);
            let was_not_asked = state.failure().is_some_and(|failure| failure.dead_token == Some(DeadToken::NotAsked));
            if was_not_asked && *state.target.credential == *credential {
                self.schedule.set_due(index, Instant::now());
            }
        }
    }

    /// Stretches intervals to what the budget carries, or lets them go back to what is configured.
    fn follow_budget(&mut self) {
        if !self.fit.follow_sizes() {
            return;
        }
        self.fit.log_changes(None);
        let intervals: Vec<_> = (0..self.memories.len()).map(|index| self.fit.interval(index)).collect();
        keep_intervals(&self.snapshots, &intervals);
        let planned = |(place, interval)| Planned { interval, place: Some(place), begins_again: false };
        let timings: Vec<_> = intervals.into_iter().enumerate().map(planned).collect();
        self.schedule.change(&timings, Instant::now());
    }

    /// Keeps the age of each listing true where the wall clock was set back: a listing that seems to come
    /// from the future would pass for a fresh one until the clock is there again.
    ///
    /// A clock that was set forward makes listings seem too old until the next poll. That errs on the
    /// safe side, and looks like a machine that was asleep.
    fn follow_clock(&self, now: i64, corrected: impl Fn(&TargetState, Instant)) {
        let is_ahead = |state: &TargetState| state.listing.as_ref().is_some_and(|(_, completed)| *completed > now);
        if !self.snapshots.borrow().targets.iter().any(|state| is_ahead(state)) {
            return;
        }
        tracing::warn!("The clock was set back; the times of listings are set back with it.");
        self.snapshots.send_modify(|snapshot| {
            for (index, state) in Arc::make_mut(snapshot).targets.iter_mut().enumerate() {
                if let Some((_, completed)) = is_ahead(state).then(|| Arc::make_mut(state).listing.as_mut()).flatten() {
                    *completed = now.saturating_sub_unsigned(self.memories[index].listed.elapsed().as_secs());
                    corrected(state, self.schedule.next_due(index));
                }
            }
        });
    }

    fn log_first_round(&self) {
        let snapshot = self.snapshots.borrow();
        let listed = snapshot.targets.iter().filter(|zone| zone.listing.is_some()).count();
        let not_on_plan = snapshot.targets.iter().filter(|zone| zone.available == Some(false)).count();
        let failed = snapshot.targets.iter().filter(|zone| zone.failure().is_some()).count();
        tracing::info!(targets = snapshot.targets.len(), listed, not_on_plan, failed, "Every target was tried once.");
    }
}

/// Requests of one poll of a target that holds these.
fn requests(listing: &Listing) -> usize {
    requests_for(listing.kind(), listing.entries())
}

/// How the targets fit the budget, by what is known of their size.
fn budget_fit(requests_per_5m: u32, states: &[Arc<TargetState>]) -> BudgetFit {
    let mut fit = BudgetFit::new(requests_per_5m, states.iter().map(|state| &*state.target));
    for (index, state) in states.iter().enumerate() {
        if state.available == Some(false) {
            fit.not_on_plan(index);
        } else if let Some((listing, _)) = &state.listing {
            fit.sized(index, requests(listing));
        }
    }
    fit.follow_sizes();
    fit
}

/// Shows how often each target is really listed.
fn keep_intervals(snapshots: &watch::Sender<Arc<Snapshot>>, intervals: &[Duration]) {
    snapshots.send_if_modified(|snapshot| {
        let is_other = zip(&snapshot.targets, intervals).any(|(state, interval)| state.interval != *interval);
        if is_other {
            zip(&mut Arc::make_mut(snapshot).targets, intervals)
                .for_each(|(state, &interval)| keep_interval(state, interval));
        }
        is_other
    });
}

fn keep_interval(state: &mut Arc<TargetState>, interval: Duration) {
    if state.interval != interval {
        Arc::make_mut(state).interval = interval;
    }
}

impl Memory {
    fn new(state: &TargetState) -> Self {
        Self {
            wants_name: state.is_nameless(),
            listed: Instant::now(),
            missing: None,
            probed: None,
            failure_log: LogThrottle::default(),
            poll: None,
        }
    }

    fn log_success(&mut self, before: &TargetState, state: &TargetState) {
        let promised_less =
            |state: &TargetState| state.listing.as_ref().is_some_and(|(listing, _)| listing.more_than_promised);
        if promised_less(state) && !promised_less(before) {
            log_target!(warn, state, "The listing holds more certificates than it says.");
        }
        let certificates = state.listing.as_ref().map_or(0, |(listing, _)| listing.certificates().len());
        if self.failure_log.end() {
            log_target!(info, state, certificates, "Certificates are listed again.");
        } else {
            log_target!(debug, state, certificates, "Certificates were listed.");
        }
    }

    fn log_failure(&mut self, state: &TargetState, failure: &Failure) {
        if self.failure_log.happened((failure.reason, failure.message.clone())).is_none() {
            return;
        }
        let reason = failure.reason.label();
        let shows = if state.listing.is_some() { "its last good listing stays" } else { "it has no data yet" };
        log_target!(warn, state, reason, error = %failure, "Certificates cannot be listed; {shows}.");
    }
}

#[cfg(test)]
mod tests;
