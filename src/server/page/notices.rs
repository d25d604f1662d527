//! What the page says above its tables: which shard it is of, how the discovery of zones goes, what is not on the plan,
//! and what is listed less often than configured.

use std::{collections::BTreeMap, sync::Arc};

use super::view::{age, duration};
use crate::{
    model::{DiscoveryState, Shard, Snapshot, TargetState},
    poller::in_words,
};

/// A sentence or two.
pub(super) struct Notice {
    pub(super) words: String,
    pub(super) class: &'static str,
}

impl Notice {
    /// Everything that there is to say at this Unix second.
    pub(super) fn all(snapshot: &Snapshot, now: i64) -> Vec<Self> {
        let discoveries = snapshot.discoveries.iter().map(|discovery| Self::of_discovery(discovery, now));
        let shard = Self::of_shard(snapshot.shard);
        let targets = &snapshot.targets;
        shard.into_iter().chain(discoveries).chain(Self::of_plans(targets)).chain(Self::of_intervals(targets)).collect()
    }

    /// Where others have the rest.
    fn of_shard(Shard { ordinal, total }: Shard) -> Option<Self> {
        let words = format!(
            "This is shard {ordinal} of {total}, counted from 0: the others watch the other zones and accounts."
        );
        (total > 1).then_some(Self { words, class: "dim" })
    }

    /// Kinds that Cloudflare does not list for the plan of a zone or account.
    fn of_plans(targets: &[Arc<TargetState>]) -> Option<Self> {
        let mut counts = BTreeMap::<_, usize>::new();
        for state in targets.iter().filter(|state| state.available == Some(false)) {
            *counts.entry(state.target.kind).or_default() += 1;
        }
        let counts: Vec<_> = counts.iter().map(|(kind, count)| format!("{} ({count})", kind.label())).collect();
        let words = format!("Not on the plan, and asked for once a day: {}.", counts.join(", "));
        (!counts.is_empty()).then_some(Self { words, class: "dim" })
    }

    fn of_discovery(discovery: &DiscoveryState, now: i64) -> Self {
        let DiscoveryState { credential, watched, unwatched, completed, failure, .. } = discovery;
        let found = match completed {
            Some(completed) => {
                let (all, ago) = (watched + unwatched, duration(age(*completed, now)));
                format!(
                    "Credential {credential} sees {all} zones, of which {watched} are watched here; discovered {ago} ago."
                )
            }
            None => format!("The zones that credential {credential} sees were not discovered yet."),
        };
        match failure {
            None => Self { words: found, class: "dim" },
            Some(failure) => Self { words: format!("{found} The last discovery failed: {failure}"), class: "notice" },
        }
    }

    /// Where the request budget is too small.
    fn of_intervals(targets: &[Arc<TargetState>]) -> Option<Self> {
        let mut longest = BTreeMap::new();
        for state in targets.iter().filter(|state| state.interval > state.target.interval) {
            let longest = longest.entry(state.target.kind).or_insert(state.interval);
            *longest = state.interval.max(*longest);
        }
        let stretched: Vec<_> = longest.into_iter().collect();
        (!stretched.is_empty()).then(|| {
            let intervals = in_words(&stretched);
            Self {
                words: format!(
                    "The request budget cannot carry the listings at their intervals, so these are listed less often: {intervals}. Watch fewer kinds or zones, raise the intervals, or raise api.requests_per_5m."
                ),
                class: "notice",
            }
        })
    }
}
