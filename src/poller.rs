//! Which zone is due next: the loop that fetches, applies and publishes.
//!
//! It knows no network. What a poll does is a function that it is given, so its tests run for
//! simulated days. It only waits on tokio's clock; wall time is a parameter.

mod demand;
mod schedule;

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    fmt,
    future::Future,
    sync::Arc,
    time::Duration,
};

use futures_util::{
    StreamExt as _,
    future::{AbortHandle, abortable},
    stream::FuturesUnordered,
};
use tokio::{
    sync::{mpsc::UnboundedReceiver, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval},
};

pub use demand::{Demand, Outlook};
use schedule::Schedule;

use crate::{
    cloudflare::{Priority, Revival},
    model::{Baseline, DeadToken, Failure, Listing, MissingIds, Snapshot, Zone, ZoneState},
};

/// A failure that lasts is said again this often.
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(3600);

/// How often the loop shows that it lives, and looks at whether the budget carries the zones.
pub const PULSE_EVERY: Duration = Duration::from_secs(10);

/// What a poll has to do.
#[derive(Debug, Clone)]
pub struct Job {
    /// The zone to list.
    pub zone: Arc<Zone>,
    /// What it is called so far: its id if nobody has told yet.
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
    pub name: Name,
}

/// What was found out of a zone's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// Not asked, or no answer: to be asked again if it is wanted.
    Unknown,
    /// This is it.
    Known(Box<str>),
    /// The API does not tell: the id stays the name.
    Refused,
}

/// What the loop works with, besides the function that fetches.
#[derive(Debug)]
pub struct Poller {
    /// Where snapshots are published; it starts with a state for each zone.
    pub snapshots: watch::Sender<Arc<Snapshot>>,
    /// In how many milliseconds each zone would be due if the program had never stopped, negative if that
    /// was before now; `None` for a zone that was never listed.
    pub due_in: Vec<Option<i64>>,
    /// Credentials whose failing zones deserve another try at once.
    pub revived: UnboundedReceiver<(Arc<str>, Revival)>,
    /// What is to be polled from now on.
    pub changes: UnboundedReceiver<Change>,
    /// Shows that the loop lives: the time at which it last turned.
    pub pulse: watch::Sender<Instant>,
    /// The budget of each credential, in requests per five minutes.
    pub requests_per_5m: u32,
}

/// Other zones, or another budget. Zones that stay keep what is known of them and their place in the schedule.
pub struct Change {
    /// All zones there are then.
    pub zones: Vec<Arc<Zone>>,
    /// The budget of each credential, in requests per five minutes.
    pub requests_per_5m: u32,
    /// Credentials with which is asked in another way from now on. Polls with them that run are given up, and begin
    /// anew at once.
    pub renewed: HashSet<Arc<str>>,
    /// Exchanges what polls ask with: called when none that is given up goes on, and before any other begins.
    pub exchange: Box<dyn FnOnce() + Send>,
    /// Told once all of it is so.
    pub applied: oneshot::Sender<()>,
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("zones", &self.zones)
            .field("requests_per_5m", &self.requests_per_5m)
            .field("renewed", &self.renewed)
            .finish_non_exhaustive()
    }
}

impl Poller {
    /// Polls until it is dropped. `now` is the wall clock, in Unix seconds. `corrected` is told of a listing
    /// whose time was set back with that clock, and of when its zone is due.
    ///
    /// Polls run side by side within this one task: the credential's throttle decides how many requests
    /// are out, and lets them go in the order in which the polls started.
    pub async fn run<F, P>(
        mut self,
        fetch: F,
        now: impl Fn() -> i64,
        corrected: impl Fn(&ZoneState, Instant),
    ) -> Infallible
    where
        F: Fn(Job) -> P,
        P: Future<Output = Result<Fetched, Failure>>,
    {
        let mut zones = Zones::new(self.snapshots, &self.due_in, self.requests_per_5m, now());
        let mut running = FuturesUnordered::new();
        // Its first tick is at once, which says at the start whether the budget is enough.
        // A loop that was held up has missed its pulse; beating faster later would hide that.
        let mut pulse = interval(PULSE_EVERY);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            while let Some(index) = zones.schedule.start_due(Instant::now()) {
                let (job, started) = (zones.job(index), Instant::now());
                let zone = job.zone.clone();
                let (poll, abort) = abortable(fetch(job));
                zones.memories[index].poll = Some(abort);
                running.push(async move { (zone, started, poll.await) });
            }
            tokio::select! {
                Some((zone, started, outcome)) = running.next(), if !running.is_empty() => {
                    // A poll that was given up belongs to a zone that is gone, or that is polled anew.
                    if let Ok(outcome) = outcome
                        && let Some(index) = zones.place(&zone)
                    {
                        zones.ended(index, now(), started.elapsed(), outcome);
                    }
                }
                Some(change) = self.changes.recv() => zones.change(change),
                Some((credential, revival)) = self.revived.recv() => zones.revive(&credential, revival),
                () = zones.schedule.wait() => {}
                _ = pulse.tick() => {
                    self.pulse.send_replace(Instant::now());
                    zones.demand.say_changes();
                    zones.follow_clock(now(), &corrected);
                }
            }
        }
    }
}

/// The zones, each at the same place in all of these.
struct Zones {
    snapshots: watch::Sender<Arc<Snapshot>>,
    memories: Vec<Memory>,
    schedule: Schedule,
    demand: Demand,
    /// How many were never tried.
    untried: usize,
}

/// What is remembered of a zone besides what is published.
struct Memory {
    wants_name: bool,
    /// When the listing was completed, by a clock that nobody sets.
    listed: Instant,
    /// What the last whole reading lacked of the last good listing.
    missing: Option<Arc<MissingIds>>,
    /// When it was last chosen to try a refused credential.
    probed: Option<Instant>,
    /// The failure that was last said, and when.
    said: Option<(Failure, Instant)>,
    /// Gives up the poll that runs, or ran last.
    poll: Option<AbortHandle>,
}

impl Zones {
    fn new(snapshots: watch::Sender<Arc<Snapshot>>, due_in: &[Option<i64>], requests_per_5m: u32, now: i64) -> Self {
        let states = snapshots.borrow().zones.clone();
        let instant = Instant::now();
        let memory = |state: &Arc<ZoneState>| {
            let age = state.listing.as_ref().map_or(0, |(_, completed)| now.saturating_sub(*completed));
            let age = Duration::from_secs(age.max(0).unsigned_abs());
            Memory { listed: instant.checked_sub(age).unwrap_or(instant), ..Memory::new(state) }
        };
        let due_in = due_in.iter().copied().chain(std::iter::repeat(None));
        let timings: Vec<_> = states.iter().map(|state| state.zone.interval).zip(due_in).collect();
        let demand = demand(requests_per_5m, &states);
        Self {
            memories: states.iter().map(memory).collect(),
            schedule: Schedule::new(&timings, instant),
            demand,
            untried: states.iter().filter(|state| state.last_poll.is_none()).count(),
            snapshots,
        }
    }

    /// Where the zone is, if it is still there and listed with the same credential.
    fn place(&self, zone: &Zone) -> Option<usize> {
        let snapshot = self.snapshots.borrow();
        let is_it =
            |state: &Arc<ZoneState>| is_same_zone(&state.zone, zone) && state.zone.credential == zone.credential;
        snapshot.zones.iter().position(is_it)
    }

    fn change(&mut self, Change { zones, requests_per_5m, renewed, exchange, applied }: Change) {
        let before = self.snapshots.borrow().zones.clone();
        let places: HashMap<_, _> =
            before.iter().enumerate().map(|(place, state)| ((state.zone.kind, &state.zone.id), place)).collect();
        let mut memories: Vec<_> = std::mem::take(&mut self.memories).into_iter().map(Some).collect();
        let (mut states, mut timings) = (Vec::new(), Vec::new());
        for zone in zones {
            let place = places.get(&(zone.kind, &zone.id)).copied();
            let interval = zone.interval;
            match place.and_then(|place| Some((&before[place], memories[place].take()?))) {
                Some((old, mut memory)) => {
                    let is_polled = place.is_some_and(|place| !self.schedule.is_waiting(place));
                    let begins_anew =
                        old.zone.credential != zone.credential || (is_polled && renewed.contains(&zone.credential));
                    let state = old.reconfigured(zone);
                    memory.wants_name = state.is_nameless() && (memory.wants_name || !old.is_nameless());
                    if begins_anew {
                        // What is answered to what was asked before says nothing any more.
                        memory.give_up();
                    }
                    self.memories.push(memory);
                    timings.push((interval, place, begins_anew));
                    states.push(Arc::new(state));
                }
                None => {
                    let state = Arc::new(ZoneState::new(zone));
                    self.memories.push(Memory::new(&state));
                    timings.push((interval, None, false));
                    states.push(state);
                }
            }
        }
        memories.iter().flatten().for_each(Memory::give_up);
        self.schedule.change(&timings, Instant::now());
        self.demand = demand(requests_per_5m, &states);
        self.untried = states.iter().filter(|state| state.last_poll.is_none()).count();
        self.snapshots.send_replace(Arc::new(Snapshot { zones: states }));
        // What was given up goes on no more, since it runs within this very task.
        exchange();
        // Whoever asked for it may have gone.
        let _ = applied.send(());
    }

    fn state(&self, index: usize) -> Arc<ZoneState> {
        self.snapshots.borrow().zones[index].clone()
    }

    fn job(&self, index: usize) -> Job {
        let state = self.state(index);
        Job {
            zone: state.zone.clone(),
            name: state.name.clone(),
            priority: if state.failure().is_some() { Priority::Failing } else { Priority::Healthy },
            baseline: Baseline {
                listing: state.listing.as_ref().map(|(listing, _)| listing.clone()),
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
                self.demand.sized(index, listing.certificates().len());
                memory.wants_name &= name == Name::Unknown;
                memory.listed = Instant::now();
                memory.missing = None;
                let mut state = before.succeeded(listing, completed, duration);
                state.vanished += vanished;
                // The configuration may have named it while it was polled, and knows better.
                if let Name::Known(name) = name
                    && before.zone.name.is_none()
                {
                    state.name = name.into();
                }
                memory.say_success(&before, &state);
                if vanished > 0 {
                    tracing::warn!(zone = %state.name, zone_id = %state.zone.id, vanished, "Certificates that were usable have vanished from two listings in a row. Their alerts end; see cloudflare_certificates_vanished_total.");
                }
                state
            }
            Err(mut failure) => {
                if let Some(missing) = failure.missing.take() {
                    memory.missing = Some(missing);
                }
                self.schedule.failed(index, &failure, Instant::now());
                if let Some(DeadToken::TryAfter(wait)) = failure.dead_token {
                    self.choose_prober(&before.zone.credential, wait);
                }
                let memory = &mut self.memories[index];
                memory.say_failure(&before, &failure);
                before.failed(failure, now, duration)
            }
        };
        self.snapshots.send_modify(|snapshot| Arc::make_mut(snapshot).zones[index] = Arc::new(after));
        if before.last_poll.is_none() {
            self.untried -= 1;
            if self.untried == 0 {
                self.say_first_round();
            }
        }
    }

    /// Chooses the zone that tries a refused credential next.
    ///
    /// A zone that was listed before tells more than one that may have no permission of its own, and
    /// they take turns, so that a single odd zone cannot keep the others from being asked.
    fn choose_prober(&mut self, credential: &str, wait: Duration) {
        let prober = (0..self.memories.len())
            .filter(|&index| *self.state(index).zone.credential == *credential && self.schedule.is_waiting(index))
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

    /// Lets zones of a credential that failed try again at once.
    fn revive(&mut self, credential: &str, revival: Revival) {
        for index in 0..self.memories.len() {
            let state = self.state(index);
            let Some(failure) = state.failure().filter(|_| *state.zone.credential == *credential) else { continue };
            if revival == Revival::NewSecret {
                self.schedule.forget_failures(index);
                self.memories[index].wants_name |= state.is_nameless();
            }
            if revival == Revival::NewSecret || failure.dead_token == Some(DeadToken::NotAsked) {
                self.schedule.set_due(index, Instant::now());
            }
        }
    }

    /// Keeps the age of each listing true where the wall clock was set back: a listing that seems to come
    /// from the future would pass for a fresh one until the clock is there again.
    ///
    /// A clock that was set forward makes listings seem too old until the next poll. That errs on the
    /// safe side, and cannot be told from a machine that was asleep.
    fn follow_clock(&self, now: i64, corrected: impl Fn(&ZoneState, Instant)) {
        let is_ahead = |state: &ZoneState| state.listing.as_ref().is_some_and(|(_, completed)| *completed > now);
        if !self.snapshots.borrow().zones.iter().any(|state| is_ahead(state)) {
            return;
        }
        tracing::warn!("The clock was set back; the times of listings are set back with it.");
        self.snapshots.send_modify(|snapshot| {
            for (index, state) in Arc::make_mut(snapshot).zones.iter_mut().enumerate() {
                if let Some((_, completed)) = is_ahead(state).then(|| Arc::make_mut(state).listing.as_mut()).flatten() {
                    *completed = now.saturating_sub_unsigned(self.memories[index].listed.elapsed().as_secs());
                    corrected(state, self.schedule.next_due(index));
                }
            }
        });
    }

    fn say_first_round(&self) {
        let snapshot = self.snapshots.borrow();
        let listed = snapshot.zones.iter().filter(|zone| zone.listing.is_some()).count();
        let failed = snapshot.zones.len() - listed;
        tracing::info!(zones = snapshot.zones.len(), listed, failed, "Every zone was tried once.");
    }
}

fn is_same_zone(one: &Zone, other: &Zone) -> bool {
    one.kind == other.kind && one.id == other.id
}

/// What the zones need of the budget, by what is known of their size.
fn demand(requests_per_5m: u32, states: &[Arc<ZoneState>]) -> Demand {
    let mut demand = Demand::new(requests_per_5m, states.iter().map(|state| &*state.zone));
    for (index, state) in states.iter().enumerate() {
        if let Some((listing, _)) = &state.listing {
            demand.sized(index, listing.certificates().len());
        }
    }
    demand
}

impl Memory {
    fn new(state: &ZoneState) -> Self {
        Self {
            wants_name: state.is_nameless(),
            listed: Instant::now(),
            missing: None,
            probed: None,
            said: None,
            poll: None,
        }
    }

    fn give_up(&self) {
        self.poll.iter().for_each(AbortHandle::abort);
    }

    fn say_success(&mut self, before: &ZoneState, state: &ZoneState) {
        let promised_less =
            |state: &ZoneState| state.listing.as_ref().is_some_and(|(listing, _)| listing.more_than_promised);
        if promised_less(state) && !promised_less(before) {
            tracing::warn!(zone = %state.name, zone_id = %state.zone.id, "The listing holds more certificates than it says.");
        }
        let certificates = state.listing.as_ref().map_or(0, |(listing, _)| listing.certificates().len());
        if self.said.take().is_some() {
            tracing::info!(zone = %state.name, zone_id = %state.zone.id, certificates, "The zone is listed again.");
        } else {
            tracing::debug!(zone = %state.name, zone_id = %state.zone.id, certificates, "The zone was listed.");
        }
    }

    /// Says a failure when it begins or changes, and hourly while it lasts.
    fn say_failure(&mut self, state: &ZoneState, failure: &Failure) {
        let known =
            self.said.as_ref().filter(|(said, _)| (said.reason, &said.message) == (failure.reason, &failure.message));
        if known.is_some_and(|(_, when)| when.elapsed() < SAY_AGAIN_AFTER) {
            return;
        }
        let reason = failure.reason.label();
        let zone = &state.name;
        let shows = if state.listing.is_some() { "its last good listing stays" } else { "nothing is known of it yet" };
        tracing::warn!(%zone, zone_id = %state.zone.id, reason, error = %failure, "The zone cannot be listed; {shows}.");
        self.said = Some((failure.clone(), Instant::now()));
    }
}

#[cfg(test)]
mod tests;
