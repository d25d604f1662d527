//! The zones that one credential sees: when they are discovered next, and which of them are still there.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    config::DiscoverySettings,
    log_throttle::LogThrottle,
    model::{CredentialRefused, DiscoveryState, Failure, FilterVerdict, NamePattern, Reason, ScopeId, Zone, ZoneList},
    state::SavedDiscovery,
};

/// A discovery that failed is tried again after this, then ever more rarely, and at its interval at the latest.
const FIRST_RETRY: Duration = Duration::from_secs(60);

/// Names of zones in one log line: more help no one.
const MAX_NAMES: usize = 20;

/// What is known of the zones that one credential sees.
#[derive(Debug)]
pub(super) struct Discovery {
    /// As it is shown, but for how many zones are watched.
    pub(super) state: DiscoveryState,
    /// All that were found, by name.
    pub(super) zones: Vec<Arc<Zone>>,
    /// Those that the last good discovery lacked. What the next one lacks too is gone.
    missing: HashSet<ScopeId>,
    /// Entries of the last good discovery that could not be read.
    unreadable: usize,
    pub(super) due: Instant,
    backoff: Duration,
    failure_log: LogThrottle<(Reason, String)>,
    /// Decides when to log names that are asked for and not there.
    unseen_log: LogThrottle<String>,
}

impl Discovery {
    /// Nothing was found yet, and it is due now.
    pub(super) fn new(credential: Arc<str>, interval: Duration) -> Self {
        Self {
            state: DiscoveryState {
                credential,
                interval,
                watched: 0,
                unwatched: 0,
                completed: None,
                is_tried: false,
                failure: None,
                failures: [0; Reason::ALL.len()],
            },
            zones: Vec::new(),
            missing: HashSet::new(),
            unreadable: 0,
            due: Instant::now(),
            backoff: FIRST_RETRY,
            failure_log: LogThrottle::default(),
            unseen_log: LogThrottle::default(),
        }
    }

    /// Goes on where the process before left it.
    pub(super) fn restore(&mut self, saved: SavedDiscovery, settings: &DiscoverySettings, now_ms: i64) {
        if saved.filter == filter_sum(settings) {
            let due_in = u64::try_from(saved.due_ms.saturating_sub(now_ms)).unwrap_or(0);
            self.due = Instant::now() + Duration::from_millis(due_in).min(settings.interval);
        }
        // A time in the future would pass for a fresh one until the clock is there.
        self.state.completed = Some(saved.completed.min(now_ms / 1000));
        self.zones = saved.zones.into_iter().map(Arc::new).collect();
        self.missing = saved.missing.into_iter().collect();
    }

    /// What has to survive a restart; nothing before the first good discovery.
    pub(super) fn saved(&self, settings: &DiscoverySettings, now_ms: i64) -> Option<SavedDiscovery> {
        let due_in = self.due.saturating_duration_since(Instant::now()).as_millis();
        Some(SavedDiscovery {
            credential: self.state.credential.to_string(),
            filter: filter_sum(settings),
            completed: self.state.completed?,
            due_ms: now_ms.saturating_add(i64::try_from(due_in).unwrap_or(i64::MAX)),
            zones: self.zones.iter().map(|zone| Zone::clone(zone)).collect(),
            missing: self.missing.iter().cloned().collect(),
        })
    }

    /// Every page was read, at this Unix second. Zones that are missing stay until they are missing once more. Where
    /// entries could not be read, nothing is known of zones that are missing, and nothing changes for them.
    pub(super) fn succeeded(&mut self, found: ZoneList, settings: &DiscoverySettings, now: i64) {
        let ZoneList { zones: found, unreadable } = found;
        let before = std::mem::take(&mut self.zones);
        let ids: HashSet<&ScopeId> = found.iter().map(|zone| &zone.id).collect();
        let (mut missing, mut gone) = (Vec::new(), Vec::new());
        // What another filter found and this one need not ask for is not missing.
        let is_asked_for = |zone: &Zone| {
            matches!(settings.filter.verdict(zone), FilterVerdict::Watched | FilterVerdict::ExcludedBy(_))
        };
        for zone in before.iter().filter(|zone| !ids.contains(&zone.id) && is_asked_for(zone)) {
            let is_gone = unreadable == 0 && self.missing.contains(&zone.id);
            let list = if is_gone { &mut gone } else { &mut missing };
            list.push(Arc::clone(zone));
        }
        let known: HashMap<&ScopeId, &Arc<Zone>> = before.iter().map(|zone| (&zone.id, zone)).collect();
        let new: Vec<&str> =
            found.iter().filter(|zone| !known.contains_key(&zone.id)).map(|zone| &*zone.name).collect();
        self.log(&new, if unreadable == 0 { &missing[..] } else { &[] }, &gone, found.len());
        if !found.iter().any(|zone| settings.filter.verdict(zone) == FilterVerdict::Watched) {
            tracing::warn!(credential = %self.state.credential, found = found.len(), "The discovery found no zone to watch. Check discovery.include, exclude and accounts, and that the token has the permission Zone: Zone: Read for the zones to be watched.");
        }
        self.log_unseen(&found, settings);
        self.log_unreadable(unreadable);
        let counts = |zone: &&Arc<Zone>| unreadable == 0 || self.missing.contains(&zone.id);
        self.missing = missing.iter().filter(counts).map(|zone| zone.id.clone()).collect();
        // Targets share what did not change.
        let shared = |zone: Zone| match known.get(&zone.id) {
            Some(&known) if **known == zone => Arc::clone(known),
            _ => Arc::new(zone),
        };
        self.zones = missing.into_iter().chain(found.into_iter().map(shared)).collect();
        self.zones.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        self.state = DiscoveryState { completed: Some(now), is_tried: true, failure: None, ..self.state.clone() };
        self.backoff = FIRST_RETRY;
        self.due = Instant::now() + settings.interval;
    }

    /// Whether the last good discovery lacked a zone that is still kept.
    pub(super) fn lacks(&self, zone: &Zone) -> bool {
        self.missing.contains(&zone.id)
    }

    /// It failed, which changes no zone.
    pub(super) fn failed(&mut self, failure: Failure, interval: Duration) {
        let wait = match failure.credential_refused {
            // It costs nothing to find out whether the credential is accepted again.
            Some(CredentialRefused::Skipped) => FIRST_RETRY.min(interval),
            Some(CredentialRefused::ProbeAfter(wait)) => wait,
            None => self.backoff.min(interval),
        };
        self.backoff = (self.backoff * 2).min(interval.max(FIRST_RETRY));
        self.due = Instant::now() + wait.max(failure.wait_at_least);
        self.state.is_tried = true;
        self.state.failures[failure.reason as usize] += 1;
        if self.failure_log.happened((failure.reason, failure.message.clone())).is_some() {
            let shows = if self.state.completed.is_some() {
                "those of the last good discovery stay"
            } else {
                "none are known yet"
            };
            tracing::warn!(credential = %self.state.credential, reason = failure.reason.label(), error = %failure, "Zones cannot be discovered; {shows}.");
        }
        self.state.failure = Some(failure);
    }

    /// A name without a star is meant to be there.
    fn log_unseen(&mut self, found: &[Zone], settings: &DiscoverySettings) {
        let is_seen = |name: &&str| found.iter().any(|zone| zone.name.eq_ignore_ascii_case(name));
        let wanted = settings.filter.include.iter().filter_map(NamePattern::only_name);
        let unseen: Vec<_> = wanted.filter(|name| !is_seen(name)).collect();
        if unseen.is_empty() {
            self.unseen_log.end();
            return;
        }
        let names = names(unseen.into_iter());
        if self.unseen_log.happened(names.clone()).is_some() {
            tracing::warn!(credential = %self.state.credential, names, "The credential sees no zones of these names, which discovery.include holds. Correct them, or give the token these zones.");
        }
    }

    /// Says it when it begins or changes, not at every discovery.
    fn log_unreadable(&mut self, unreadable: usize) {
        if std::mem::replace(&mut self.unreadable, unreadable) != unreadable && unreadable > 0 {
            tracing::warn!(credential = %self.state.credential, unreadable, "The list of zones holds entries without a usable id. These are not watched, and no zone is dropped as long as there are any.");
        }
    }

    fn log(&mut self, new: &[&str], missing: &[Arc<Zone>], gone: &[Arc<Zone>], found: usize) {
        let credential = &self.state.credential;
        if self.failure_log.end() {
            tracing::info!(%credential, found, "Zones are discovered again.");
        }
        if !new.is_empty() {
            tracing::info!(%credential, found, new = new.len(), names = names(new.iter().copied()), "New zones were discovered.");
        }
        let of = |zones: &[Arc<Zone>]| names(zones.iter().map(|zone| &*zone.name));
        if !missing.is_empty() {
            tracing::warn!(%credential, found, missing = missing.len(), names = of(missing), "The discovery lacks zones that it found before. They are dropped if the next one lacks them too.");
        }
        if !gone.is_empty() {
            tracing::warn!(%credential, found, gone = gone.len(), names = of(gone), "Zones are no longer watched, because two discoveries in a row did not find them.");
        }
    }
}

/// Tells filters from one another: what was found with one is not all that there is with another.
fn filter_sum(settings: &DiscoverySettings) -> u32 {
    crc32fast::hash(format!("{:?}", settings.filter).as_bytes())
}

/// Some of these names, for a log line.
fn names<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(MAX_NAMES);
    let mut text = names.take(MAX_NAMES).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}
