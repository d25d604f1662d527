//! Which zone is due next: the loop that fetches, applies and publishes.
//!
//! It knows no network. What a poll does is a function that it is given, so its tests run for
//! simulated days. It only waits on tokio's clock; wall time is a parameter.

mod budget_fit;
mod schedule;
mod targets;

use std::{collections::HashMap, convert::Infallible, future::Future, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc::UnboundedReceiver, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval},
};

pub use budget_fit::{BudgetFit, CredentialFit, in_words};
use targets::Targets;

use crate::{
    cloudflare::Priority,
    model::{Baseline, DiscoveryState, Failure, Listing, Shard, Snapshot, Target, TargetState},
};

/// How often the loop shows that it lives, and looks at whether the budget carries the zones.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);

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
    /// The zone's name, if it was asked for and is known.
    pub name: Option<Arc<str>>,
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
    /// Whose targets these are, for the snapshot.
    pub shard: Shard,
}

impl<C> Plan<C> {
    /// What is known, with what this plan says of it.
    fn snapshot(&self, targets: Vec<Arc<TargetState>>) -> Snapshot {
        Snapshot { targets, discoveries: Arc::clone(&self.discoveries), shard: self.shard }
    }

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
                zones.unpublished[index].poll = Some(guard);
                running.push(async move {
                    tokio::select! {
                        biased;
                        _ = given_up => None,
                        outcome = poll => Some((index, zone, started, outcome)),
                    }
                });
            }
            tokio::select! {
                Some(ended) = running.next(), if !running.is_empty() => {
                    if let Some((index, zone, started, outcome)) = ended
                        && let Some(index) = zones.place(index, &zone)
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

#[cfg(test)]
mod tests;
