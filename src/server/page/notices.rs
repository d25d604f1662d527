//! What the page says above its tables: which shard it is of, how the discovery of zones goes, what is not on the plan,
//! what is listed less often than configured, and what Cloudflare cannot issue.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::words::{age, duration};
use crate::{
    model::{DiscoveryState, Field, Shard, Snapshot, TargetState},
    poller::in_words,
};

/// Problems that are shown, and host names of each.
const MAX_PROBLEMS: usize = 3;
const MAX_HOSTS: usize = 3;

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
        let notices = shard.into_iter().chain(discoveries).chain(Self::of_plans(targets));
        notices.chain(Self::of_intervals(targets)).chain(Self::of_problems(targets)).collect()
    }

    /// What keeps Cloudflare from issuing or renewing a certificate, by its own words; of many, the first few.
    fn of_problems(targets: &[Arc<TargetState>]) -> Vec<Self> {
        let mut seen = HashSet::new();
        let entries = targets.iter().filter_map(|state| Some((state, &state.listing.as_ref()?.0)));
        let entries =
            entries.flat_map(|(state, listing)| listing.certificates().iter().map(move |entry| (state, entry)));
        let mut problems: Vec<_> = entries
            .filter(|(_, entry)| !entry.texts[Field::Problem].is_empty() && entry.status.is_usable())
            .filter(|(state, entry)| seen.insert((state.target.key(), entry.entry_id())))
            .collect();
        // Cloudflare tries no longer where the time is over.
        problems.sort_by_key(|(_, entry)| !entry.status.label().ends_with("timed_out"));
        let words = problems.iter().take(MAX_PROBLEMS).map(|(state, entry)| {
            let (kind, status) = (state.target.kind.label(), entry.status.label().replace('_', " "));
            let hosts = entry.texts.hosts().take(MAX_HOSTS).collect::<Vec<_>>().join(", ");
            let hosts = if hosts.is_empty() { entry.entry_id() } else { &hosts };
            format!("{}, {kind} for {hosts}: {status}. {}", state.name, &entry.texts[Field::Problem])
        });
        let left_out = problems.len().saturating_sub(MAX_PROBLEMS);
        let rest = (left_out > 0).then(|| format!("Entries with such a problem that are not shown here: {left_out}."));
        words.chain(rest).map(|words| Self { words, class: "notice" }).collect()
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
