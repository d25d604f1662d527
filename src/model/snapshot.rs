//! What is known at one moment: everything that is shown is a function of this and the time.

use std::{sync::Arc, time::Duration};

use super::{Failure, Listing, Reason, Scope, Shard, Target};

/// All targets, in the order of the inventory, and how the discovery of zones goes.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Zones are replaced whole, so no reader ever sees half a zone.
    pub targets: Vec<Arc<TargetState>>,
    /// One for each credential that zones are discovered with; none if the configuration lists all zones.
    pub discoveries: Arc<[DiscoveryState]>,
    /// Whose targets these are.
    pub shard: Shard,
}

/// How the discovery of zones goes with one credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveryState {
    /// The name of the credential.
    pub credential: Arc<str>,
    /// How often zones are discovered.
    pub interval: Duration,
    /// Zones of the last good discovery that are watched.
    pub watched: usize,
    /// Zones of the last good discovery that are not: others are asked for, or another shard or credential has them.
    pub unwatched: usize,
    /// When the last good discovery was completed, in Unix seconds.
    pub completed: Option<i64>,
    /// Whether one was tried since the start.
    pub is_tried: bool,
    /// Why the last one failed, if it did.
    pub failure: Option<Failure>,
    /// How many failed, by reason.
    pub failures: [u64; Reason::ALL.len()],
}

impl Snapshot {
    /// How many targets were neither tried nor restored: nothing at all is known of them.
    #[must_use]
    pub fn untried(&self) -> usize {
        let is_unknown = |target: &&Arc<TargetState>| {
            target.last_poll.is_none() && target.listing.is_none() && target.available.is_none()
        };
        self.targets.iter().filter(is_unknown).count()
    }

    /// How many discoveries were neither tried nor restored: which zones they would bring is not known.
    #[must_use]
    pub fn undiscovered(&self) -> usize {
        let is_unknown = |discovery: &&DiscoveryState| !discovery.is_tried && discovery.completed.is_none();
        self.discoveries.iter().filter(is_unknown).count()
    }
}

/// One zone: its last good listing and how its polls went.
#[derive(Debug, Clone)]
pub struct TargetState {
    /// What the configuration says.
    pub target: Arc<Target>,
    /// The zone's name; its id while no name is known.
    pub name: Arc<str>,
    /// How often it is really listed: its interval, or a longer one where the request budget is too small. That the
    /// interval is shorter again shows with the next poll, since the listing may be as old as the longer one until then.
    pub interval: Duration,
    /// The last good listing and the Unix time at which it was completed.
    pub listing: Option<(Arc<Listing>, i64)>,
    /// How the last poll went.
    pub last_poll: Option<LastPoll>,
    /// Polls ended.
    pub polls: u64,
    /// Certificates that were missing from a listing that was believed, and are [missed](super::Comparison).
    pub vanished: u64,
    /// Whether the plan includes the kind, by what Cloudflare said last; `None` before the first poll.
    pub available: Option<bool>,
    failures: [u32; Reason::ALL.len()],
}

/// How a poll went.
#[derive(Debug, Clone)]
pub struct LastPoll {
    /// When it ended, in Unix seconds; of a good one, when its listing was completed.
    pub at: i64,
    /// How long it took, waiting for the request budget included.
    pub duration: Duration,
    /// Why it failed, if it did.
    pub failure: Option<Box<Failure>>,
}

impl TargetState {
    /// A zone that was never polled.
    #[must_use]
    pub fn new(target: Arc<Target>) -> Self {
        let name = target.name.clone().unwrap_or_else(|| target.id.as_str().into());
        Self {
            interval: target.interval,
            target,
            name,
            listing: None,
            last_poll: None,
            polls: 0,
            vanished: 0,
            available: None,
            failures: [0; Reason::ALL.len()],
        }
    }

    /// A zone that was not polled yet by this process, with the listing that another one completed at this Unix second,
    /// and the name that it found out, if the configuration gives none.
    #[must_use]
    pub fn restored(target: Arc<Target>, listing: Option<(Arc<Listing>, i64)>, name: Option<Arc<str>>) -> Self {
        let state = Self::new(target);
        let name = name.filter(|_| state.target.name.is_none()).unwrap_or_else(|| state.name.clone());
        Self { name, listing, ..state }
    }

    /// The same zone as the configuration has it now. A name that the configuration no longer gives is asked for.
    #[must_use]
    pub fn reconfigured(&self, target: Arc<Target>) -> Self {
        let name = target.name.clone().or_else(|| self.found_name()).unwrap_or_else(|| target.id.as_str().into());
        let interval = if target.interval == self.target.interval { self.interval } else { target.interval };
        Self { interval, target, name, ..self.clone() }
    }

    /// The name that Cloudflare gave, if it did; not one of the configuration.
    #[must_use]
    pub fn found_name(&self) -> Option<Arc<str>> {
        match &self.target.zone {
            Some(zone) => Some(zone.name.clone()),
            None => {
                Some(self.name.clone()).filter(|name| self.target.name.is_none() && **name != *self.target.id.as_str())
            }
        }
    }

    /// How often it is really polled.
    #[must_use]
    pub fn poll_interval(&self) -> Duration {
        if self.available == Some(false) { self.interval.max(Target::NOT_ON_PLAN_AGAIN) } else { self.interval }
    }

    /// Whether the API has yet to be asked for the name of a zone. That of an account takes another permission.
    #[must_use]
    pub fn is_nameless(&self) -> bool {
        self.target.kind.scope() == Scope::Zone && self.target.name.is_none() && *self.name == *self.target.id.as_str()
    }

    /// Why the last poll failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.last_poll.as_ref()?.failure.as_deref()
    }

    /// How many polls failed for this reason.
    #[must_use]
    pub const fn failures(&self, reason: Reason) -> u32 {
        self.failures[reason as usize]
    }

    /// The state after a poll that read the whole listing; `now` is Unix seconds.
    ///
    /// A listing that is equal to the last one gives way to it, so that code that keeps something that follows from
    /// a listing can tell by the pointer that it still holds.
    #[must_use]
    pub fn succeeded(&self, listing: impl Into<Arc<Listing>>, now: i64, duration: Duration) -> Self {
        let listing = listing.into();
        let last = self.listing.as_ref().map(|(last, _)| last).filter(|last| **last == listing);
        Self {
            listing: Some((last.cloned().unwrap_or(listing), now)),
            last_poll: Some(LastPoll { at: now, duration, failure: None }),
            polls: self.polls + 1,
            available: Some(true),
            ..self.clone()
        }
    }

    /// The state after Cloudflare said that the plan does not include the kind. What was listed before stays, until it
    /// says so once more: then there is nothing any longer that could be looked after.
    #[must_use]
    pub fn not_available(&self, now: i64, duration: Duration) -> Self {
        let said_before = self.available == Some(false);
        Self {
            listing: self.listing.clone().filter(|_| !said_before),
            last_poll: Some(LastPoll { at: now, duration, failure: None }),
            polls: self.polls + 1,
            available: Some(false),
            ..self.clone()
        }
    }

    /// The state after a poll that failed at the Unix second `now`: the last good listing stays.
    #[must_use]
    pub fn failed(&self, failure: Failure, now: i64, duration: Duration) -> Self {
        let mut next = self.clone();
        next.failures[failure.reason as usize] += 1;
        next.polls += 1;
        next.available.get_or_insert(true);
        next.last_poll = Some(LastPoll { at: now, duration, failure: Some(Box::new(failure)) });
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Certificate, Expiry, Field, Kind, Status, Texts};

    #[test]
    fn a_poll_that_finds_nothing_new_keeps_the_listing() {
        let certificate = |common_name: &str| Certificate {
            texts: Texts::from([(Field::Id, "a"), (Field::CommonName, common_name)]),
            status: Status::Active,
            expiry: Expiry::At(1_795_521_600),
            not_before: None,
        };
        let zone = Target {
            kind: Kind::Client,
            id: "023e105f4ecef8ad9ca31a8372d0c353".parse().unwrap(),
            name: None,
            zone: None,
            credential: "default".into(),
            interval: Duration::from_secs(3600),
        };
        let polled = |state: &TargetState, name, now| {
            let state = state.succeeded(Listing::new(vec![certificate(name)]), now, Duration::ZERO);
            let (listing, completed) = state.listing.clone().unwrap();
            assert_eq!((listing.certificates()[0].common_name(), completed), (name, now));
            (state, listing)
        };
        let (first, of_first) = polled(&TargetState::new(Arc::new(zone)), "x", 1);
        let (second, of_second) = polled(&first, "x", 2);
        let (_, of_third) = polled(&second, "y", 3);
        assert!(Arc::ptr_eq(&of_first, &of_second) && !Arc::ptr_eq(&of_second, &of_third));
    }
}
