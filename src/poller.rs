//! Which zone is due next: the loop that fetches, applies and publishes.
//!
//! It knows no network. What a poll does is a function that it is given, so its tests run for
//! simulated days. It only waits on tokio's clock; wall time is a parameter.

mod demand;
mod schedule;

use std::{future::Future, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc::UnboundedReceiver, watch},
    time::{Instant, MissedTickBehavior, interval},
};

pub use demand::{Demand, Outlook};
use schedule::Schedule;

use crate::{
    cloudflare::Lane,
    model::{Failure, Listing, Snapshot, Zone, ZoneState},
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
    /// How much its answers are trusted to come.
    pub lane: Lane,
    /// Ask for the zone's name too.
    pub wants_name: bool,
}

/// What a good poll brings.
#[derive(Debug)]
pub struct Fetched {
    /// The whole listing.
    pub listing: Listing,
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
    /// Credentials whose failing zones deserve another try at once.
    pub revived: UnboundedReceiver<Arc<str>>,
    /// Shows that the loop lives: the time at which it last turned.
    pub pulse: watch::Sender<Instant>,
    /// The budget of each credential, in requests per five minutes.
    pub requests_per_5m: u32,
}

impl Poller {
    /// Polls until it is dropped.
    ///
    /// Polls run side by side within this one task: the credential's pace decides how many requests
    /// are out, and lets them go in the order in which the polls started.
    pub async fn run<F, P>(mut self, fetch: F, now: fn() -> DateTime<Utc>)
    where
        F: Fn(Job) -> P,
        P: Future<Output = Result<Fetched, Failure>>,
    {
        let mut zones = Zones::new(self.snapshots, self.requests_per_5m);
        let mut running = FuturesUnordered::new();
        // Its first tick is at once, which says at the start whether the budget is enough.
        // A loop that was held up has missed its pulse; beating faster later would hide that.
        let mut pulse = interval(PULSE_EVERY);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            while let Some(index) = zones.schedule.start_due(Instant::now()) {
                let (poll, started) = (fetch(zones.job(index)), Instant::now());
                running.push(async move { (index, started, poll.await) });
            }
            tokio::select! {
                Some((index, started, outcome)) = running.next(), if !running.is_empty() => {
                    zones.ended(index, started.elapsed(), outcome, now().timestamp());
                }
                Some(credential) = self.revived.recv() => zones.revive(&credential),
                () = zones.schedule.wait() => {}
                _ = pulse.tick() => {
                    self.pulse.send_replace(Instant::now());
                    zones.demand.say_changes();
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
    /// The failure that was last said, and when.
    said: Option<(Failure, Instant)>,
}

impl Zones {
    fn new(snapshots: watch::Sender<Arc<Snapshot>>, requests_per_5m: u32) -> Self {
        let states = snapshots.borrow().zones.clone();
        let zones = || states.iter().map(|state| &*state.zone);
        Self {
            memories: zones().map(|zone| Memory { wants_name: zone.name.is_none(), said: None }).collect(),
            schedule: Schedule::new(zones().map(|zone| zone.interval), Instant::now()),
            demand: Demand::new(requests_per_5m, zones()),
            untried: states.iter().filter(|state| state.last_poll.is_none()).count(),
            snapshots,
        }
    }

    fn state(&self, index: usize) -> Arc<ZoneState> {
        self.snapshots.borrow().zones[index].clone()
    }

    fn job(&self, index: usize) -> Job {
        let state = self.state(index);
        let proven = state.last_poll.as_ref().is_some_and(|poll| poll.failure.is_none());
        Job {
            zone: state.zone.clone(),
            lane: if proven { Lane::Proven } else { Lane::Doubtful },
            wants_name: self.memories[index].wants_name,
        }
    }

    /// Applies what came of a poll, and publishes it; `now` is Unix seconds.
    fn ended(&mut self, index: usize, duration: Duration, outcome: Result<Fetched, Failure>, now: i64) {
        let before = self.state(index);
        let memory = &mut self.memories[index];
        let after = match outcome {
            Ok(Fetched { listing, name }) => {
                self.schedule.succeeded(index, Instant::now());
                self.demand.sized(index, listing.certificates().len());
                memory.wants_name &= name == Name::Unknown;
                let mut state = before.succeeded(listing, now, duration);
                if let Name::Known(name) = name {
                    state.name = name.into();
                }
                memory.say_success(&state);
                state
            }
            Err(failure) => {
                self.schedule.failed(index, &failure, Instant::now());
                memory.say_failure(&before, &failure);
                before.failed(failure, duration)
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

    /// Lets the zones of a credential try again at once that failed because of something a person had to mend.
    fn revive(&mut self, credential: &str) {
        for index in 0..self.memories.len() {
            let state = self.state(index);
            let failure = state.last_poll.as_ref().and_then(|poll| poll.failure.as_ref());
            if *state.zone.credential == *credential && failure.is_some_and(|failure| failure.reason.needs_a_person()) {
                self.schedule.revive(index, Instant::now());
            }
        }
    }

    fn say_first_round(&self) {
        let snapshot = self.snapshots.borrow();
        let listed = snapshot.zones.iter().filter(|zone| zone.listing.is_some()).count();
        let failed = snapshot.zones.len() - listed;
        tracing::info!(zones = snapshot.zones.len(), listed, failed, "Every zone was tried once.");
    }
}

impl Memory {
    fn say_success(&mut self, state: &ZoneState) {
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
