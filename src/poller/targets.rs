//! The targets that are polled: what is published of them, when they are due, and what follows from a poll.

use std::{collections::HashMap, convert::Infallible, iter::zip, sync::Arc, time::Duration};

use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use super::{
    BudgetFit, Fetched, Job, Plan,
    schedule::{Planned, Schedule},
};
use crate::{
    cloudflare::{Priority, requests_for},
    log_throttle::LogThrottle,
    model::{
        Baseline, Cause, CredentialRefused, Failure, Listing, MissingIds, Reason, Scope, Snapshot, Target, TargetState,
    },
};

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

/// The zones, each at the same place in all of these.
pub(super) struct Targets<C> {
    plan: Arc<Plan<C>>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    pub(super) unpublished: Vec<UnpublishedState>,
    pub(super) schedule: Schedule,
    fit: BudgetFit,
    /// How many were never tried.
    untried: usize,
}

/// What is remembered of a zone in addition to what is published.
pub(super) struct UnpublishedState {
    /// When the listing was completed, by a clock that cannot be set.
    listed: Instant,
    /// What the last whole reading lacked of the last good listing.
    missing: Option<Arc<MissingIds>>,
    /// When it was last chosen to try a refused credential.
    probed: Option<Instant>,
    /// Decides when to log a failure: when it begins or changes, and hourly while it lasts.
    failure_log: LogThrottle<(Reason, String)>,
    /// Of the poll that runs, or ran last. When this is dropped, the poll is given up.
    pub(super) poll: Option<oneshot::Sender<Infallible>>,
}

impl<C: PartialEq> Targets<C> {
    pub(super) fn new(
        snapshots: watch::Sender<Arc<Snapshot>>,
        due_in: &[Option<i64>],
        plan: Arc<Plan<C>>,
        now: i64,
    ) -> Self {
        let states = snapshots.borrow().targets.clone();
        let instant = Instant::now();
        let remembered = |state: &Arc<TargetState>| {
            let age = state.listing.as_ref().map_or(0, |(_, completed)| now.saturating_sub(*completed));
            let age = Duration::from_secs(age.max(0).unsigned_abs());
            UnpublishedState { listed: instant.checked_sub(age).unwrap_or(instant), ..UnpublishedState::new() }
        };
        let due_in = due_in.iter().copied().chain(std::iter::repeat(None));
        let mut fit = budget_fit(plan.requests_per_5m, &states);
        fit.log_changes();
        let intervals: Vec<_> = (0..states.len()).map(|index| fit.interval(index)).collect();
        show_intervals(&snapshots, &intervals);
        let timings: Vec<_> = intervals.into_iter().zip(due_in).collect();
        Self {
            fit,
            plan,
            unpublished: states.iter().map(remembered).collect(),
            schedule: Schedule::new(&timings, instant),
            untried: states.iter().filter(|state| state.last_poll.is_none()).count(),
            snapshots,
        }
    }

    /// Where the zone is, if it is still there: in most cases where it was.
    pub(super) fn place(&self, before: usize, zone: &Target) -> Option<usize> {
        let states = &self.snapshots.borrow().targets;
        let is_it = |state: &Arc<TargetState>| state.target.key() == zone.key();
        if states.get(before).is_some_and(is_it) { Some(before) } else { states.iter().position(is_it) }
    }

    pub(super) fn change(&mut self, plan: Arc<Plan<C>>) {
        let of = |plan: &Plan<C>| (plan.requests_per_5m, plan.clients.clone());
        if plan.targets == self.plan.targets && of(&plan) == of(&self.plan) {
            self.snapshots.send_modify(|snapshot| {
                *snapshot = Arc::new(plan.snapshot(snapshot.targets.clone()));
            });
            self.plan = plan;
            return;
        }
        let before = self.snapshots.borrow().targets.clone();
        let places: HashMap<_, _> =
            before.iter().enumerate().map(|(place, state)| (state.target.key(), place)).collect();
        let mut unpublished: Vec<_> = std::mem::take(&mut self.unpublished).into_iter().map(Some).collect();
        let mut states = Vec::new();
        let mut planned = Vec::new();
        for zone in &plan.targets {
            let place = places.get(&zone.key()).copied();
            let known = place.and_then(|place| Some((place, unpublished[place].take()?)));
            let Some((place, mut unpublished)) = known else {
                let state = Arc::new(TargetState::new(Arc::clone(zone)));
                self.unpublished.push(UnpublishedState::new());
                planned.push(Planned {
                    place: None,
                    interval: zone.interval,
                    is_as_configured_before: false,
                    begins_again: false,
                });
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
                unpublished.poll = None;
            }
            let state =
                if old.target == *zone { Arc::clone(old) } else { Arc::new(old.reconfigured(Arc::clone(zone))) };
            self.unpublished.push(unpublished);
            planned.push(Planned {
                place: Some(place),
                interval: zone.interval,
                is_as_configured_before: zone.interval == old.target.interval,
                begins_again,
            });
            states.push(state);
        }
        self.stretch(plan.requests_per_5m, &mut states, &mut planned);
        self.schedule.change(&planned, Instant::now());
        self.untried = states.iter().filter(|state| state.last_poll.is_none()).count();
        self.snapshots.send_replace(Arc::new(plan.snapshot(states)));
        self.plan = plan;
    }

    /// Stretches the intervals of these targets to the budget. Those so far stay where little has changed.
    fn stretch(&mut self, requests_per_5m: u32, states: &mut [Arc<TargetState>], planned: &mut [Planned]) {
        let before = std::mem::replace(&mut self.fit, budget_fit(requests_per_5m, states));
        self.fit.settle(Some(before));
        self.fit.log_changes();
        for (index, (state, planned)) in zip(states, planned).enumerate() {
            planned.interval = self.fit.interval(index);
            show_interval(state, planned.interval);
        }
    }

    pub(super) fn state(&self, index: usize) -> Arc<TargetState> {
        self.snapshots.borrow().targets[index].clone()
    }

    pub(super) fn job(&self, index: usize) -> Job<C> {
        let state = self.state(index);
        Job {
            client: Arc::clone(self.plan.client(&state.target)),
            target: state.target.clone(),
            name: state.name.clone(),
            priority: match state.failure() {
                Some(_) => Priority::Failing,
                None if state.target.kind.changes_rarely() => Priority::Healthy,
                None => Priority::Urgent,
            },
            baseline: Baseline {
                listing: state.listing.as_ref().map(|(listing, _)| listing.clone()),
                completed: state.listing.as_ref().map_or(0, |(_, completed)| *completed),
                missing: self.unpublished[index].missing.clone(),
            },
            wants_name: state.is_nameless(),
            next_due: self.schedule.next_due(index),
        }
    }

    /// Applies what came of a poll that ended at the Unix second `now`, and publishes it.
    pub(super) fn ended(&mut self, index: usize, now: i64, duration: Duration, outcome: Result<Fetched, Failure>) {
        let before = self.state(index);
        let unpublished = &mut self.unpublished[index];
        let mut after = match outcome {
            Ok(Fetched { listing, vanished, completed, name }) => {
                self.schedule.succeeded(index, Instant::now());
                self.fit.sized(index, requests(&listing));
                unpublished.listed = Instant::now();
                unpublished.missing = None;
                let mut state = before.succeeded(listing, completed, duration);
                state.vanished += vanished;
                // The configuration may have named it while it was polled, and knows better.
                if let Some(name) = name
                    && before.target.name.is_none()
                {
                    state.name = name;
                }
                unpublished.log_success(&before, &state);
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
                self.schedule.succeeded_for(index, Target::NOT_ON_PLAN_AGAIN, Instant::now());
                self.fit.not_on_plan(index);
                unpublished.failure_log.end();
                if before.available != Some(false) {
                    log_target!(info, before, response = %failure, "The plan does not include this kind of certificate. It is requested again once a day.");
                }
                before.not_available(now, duration)
            }
            Err(mut failure) => {
                if let Some(missing) = failure.missing.take() {
                    unpublished.missing = Some(missing);
                }
                self.schedule.failed(index, &failure, Instant::now());
                if let Some(CredentialRefused::ProbeAfter(wait)) = failure.credential_refused {
                    self.choose_prober(&before.target.credential, wait);
                }
                let unpublished = &mut self.unpublished[index];
                unpublished.log_failure(&before, &failure);
                before.failed(failure, now, duration)
            }
        };
        after.interval = self.fit.interval(index);
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
        let prober = (0..self.unpublished.len())
            .filter(|&index| *self.state(index).target.credential == *credential && self.schedule.is_waiting(index))
            .min_by_key(|&index| {
                let state = self.state(index);
                let asked = state
                    .failure()
                    .is_some_and(|failure| failure.credential_refused != Some(CredentialRefused::Skipped));
                (state.listing.is_none(), self.unpublished[index].probed, asked)
            });
        if let Some(prober) = prober {
            self.unpublished[prober].probed = Some(Instant::now());
            self.schedule.set_due(prober, Instant::now() + wait);
        }
    }

    /// Lets zones try again at once that were not polled because their credential was refused.
    pub(super) fn retry(&mut self, credential: &str) {
        for index in 0..self.unpublished.len() {
            let state = self.state(index);
            let was_not_asked =
                state.failure().is_some_and(|failure| failure.credential_refused == Some(CredentialRefused::Skipped));
            if was_not_asked && *state.target.credential == *credential {
                self.schedule.set_due(index, Instant::now());
            }
        }
    }

    /// Stretches intervals to what the budget carries, or lets them go back to what is configured.
    pub(super) fn follow_budget(&mut self) {
        if !self.fit.follow_sizes() {
            return;
        }
        self.fit.log_changes();
        let intervals: Vec<_> = (0..self.unpublished.len()).map(|index| self.fit.interval(index)).collect();
        show_intervals(&self.snapshots, &intervals);
        let planned = |(place, interval)| Planned {
            place: Some(place),
            interval,
            is_as_configured_before: true,
            begins_again: false,
        };
        let timings: Vec<_> = intervals.into_iter().enumerate().map(planned).collect();
        self.schedule.change(&timings, Instant::now());
    }

    /// Keeps the age of each listing true where the wall clock was set back: a listing that seems to come
    /// from the future would pass for a fresh one until the clock is there again.
    ///
    /// A clock that was set forward makes listings seem too old until the next poll. That errs on the
    /// safe side, and looks like a machine that was asleep.
    pub(super) fn follow_clock(&self, now: i64, corrected: impl Fn(&TargetState, Instant)) {
        let is_ahead = |state: &TargetState| state.listing.as_ref().is_some_and(|(_, completed)| *completed > now);
        if !self.snapshots.borrow().targets.iter().any(|state| is_ahead(state)) {
            return;
        }
        tracing::warn!("The clock was set back; the times of listings are set back with it.");
        self.snapshots.send_modify(|snapshot| {
            for (index, state) in Arc::make_mut(snapshot).targets.iter_mut().enumerate() {
                if let Some((_, completed)) = is_ahead(state).then(|| Arc::make_mut(state).listing.as_mut()).flatten() {
                    *completed = now.saturating_sub_unsigned(self.unpublished[index].listed.elapsed().as_secs());
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
    fit.settle(None);
    fit
}

/// Shows how often each target is really listed.
fn show_intervals(snapshots: &watch::Sender<Arc<Snapshot>>, intervals: &[Duration]) {
    snapshots.send_if_modified(|snapshot| {
        let is_longer = zip(&snapshot.targets, intervals).any(|(state, interval)| state.interval < *interval);
        if is_longer {
            zip(&mut Arc::make_mut(snapshot).targets, intervals)
                .for_each(|(state, &interval)| show_interval(state, interval));
        }
        is_longer
    });
}

/// A shorter interval is shown with the next poll only: until then, the listing may be as old as the longer one.
fn show_interval(state: &mut Arc<TargetState>, interval: Duration) {
    if state.interval < interval {
        Arc::make_mut(state).interval = interval;
    }
}

impl UnpublishedState {
    fn new() -> Self {
        Self { listed: Instant::now(), missing: None, probed: None, failure_log: LogThrottle::default(), poll: None }
    }

    fn log_success(&mut self, before: &TargetState, state: &TargetState) {
        let promised_less =
            |state: &TargetState| state.listing.as_ref().is_some_and(|(listing, _)| listing.exceeds_total_count);
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
        let shows = if state.listing.is_some() { "the last good listing stays" } else { "there is no data yet" };
        log_target!(warn, state, reason, error = %failure, "Certificates cannot be listed; {shows}.");
    }
}
