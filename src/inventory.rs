//! What there is to poll: what the configuration lists and what is discovered, as far as this shard watches it.
//!
//! The daemon makes the discoveries and hands over what they found, or why they failed; commands have them made here, once.
//! What is to be polled follows from that and from the configuration. A discovery that failed removes no zone.

mod discovery;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::{
    cloudflare::{Clients, Priority},
    config::{Config, DiscoverySettings, PollDefaults},
    model::{
        Account, DiscoveryState, Failure, FilterVerdict, Scope, ScopeId, Shard, Target, Zone, ZoneFilter, ZoneList,
    },
    state::{Directory, SavedDiscovery, Slot},
};
use discovery::Discovery;

/// All that was discovered, and what of that and of the configuration is watched.
#[derive(Debug)]
pub(crate) struct Inventory {
    configured: Vec<Arc<Target>>,
    settings: Option<DiscoverySettings>,
    defaults: PollDefaults,
    shard: Shard,
    /// In the order of the settings: a zone that several find belongs to the first.
    discoveries: Vec<Discovery>,
}

/// A discovery that is to be made.
#[derive(Debug)]
pub(crate) struct DueDiscovery {
    pub(crate) credential: Arc<str>,
    pub(crate) filter: ZoneFilter,
    pub(crate) due: Instant,
    pub(crate) priority: Priority,
}

/// A zone that was discovered, and whether it is watched.
#[derive(Debug)]
pub(crate) struct ZoneVerdict<'a> {
    pub(crate) zone: &'a Arc<Zone>,
    /// The name of the credential that found it.
    pub(crate) credential: &'a Arc<str>,
    pub(crate) watched: Watched<'a>,
}

/// Whether a zone that was discovered is watched, or why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watched<'a> {
    Yes,
    /// The settings of the discovery leave it out.
    Filtered(FilterVerdict<'a>),
    /// A credential of another name found it too, and comes first.
    ByCredential(&'a Arc<str>),
    /// The shard of this ordinal watches it.
    ByShard(u32),
}

impl Inventory {
    /// Nothing is discovered yet.
    pub(crate) fn new(config: &Config) -> Self {
        let discoveries = config.discovery.iter().flat_map(|settings| {
            settings.credentials.iter().map(|credential| Discovery::new(Arc::clone(credential), settings.interval))
        });
        Self {
            configured: config.targets.clone(),
            settings: config.discovery.clone(),
            defaults: config.poll_defaults.clone(),
            shard: config.shard,
            discoveries: discoveries.collect(),
        }
    }

    /// Goes over to another configuration. What was discovered stays; where something else is asked for, it is
    /// discovered again at once.
    pub(crate) fn reconfigure(&mut self, config: &Config) {
        config.log_without_effect();
        let before = std::mem::replace(self, Self::new(config));
        let Some(settings) = &self.settings else { return };
        let is_same_filter = before.settings.is_some_and(|before| before.filter == settings.filter);
        for mut old in before.discoveries {
            if let Some(new) = self.discoveries.iter_mut().find(|new| new.state.credential == old.state.credential) {
                old.state.interval = settings.interval;
                // One that failed may do well with what changed.
                let is_at_once = !is_same_filter || old.state.failure.is_some();
                old.due = if is_at_once { Instant::now() } else { old.due.min(Instant::now() + settings.interval) };
                *new = old;
            }
        }
    }

    /// Goes on where the process before left it, as far as that can be read. `load` reads what is saved of a credential.
    pub(crate) fn restore(&mut self, load: impl Fn(&str) -> Option<SavedDiscovery>, now: DateTime<Utc>) {
        let Some(settings) = &self.settings else { return };
        for discovery in &mut self.discoveries {
            if let Some(saved) = load(&discovery.state.credential) {
                discovery.restore(saved, settings, now.timestamp_millis());
            }
        }
    }

    /// Puts on disk what is known of a credential's zones.
    pub(crate) async fn save(&self, directory: &Directory, credential: &str, now: DateTime<Utc>) {
        let discovery = self.discoveries.iter().find(|discovery| *discovery.state.credential == *credential);
        if let Some((discovery, settings)) = discovery.zip(self.settings.as_ref())
            && let Some(saved) = discovery.saved(settings, now.timestamp_millis())
        {
            directory.discovery(credential).save(saved, true).await;
        }
    }

    pub(crate) fn slots(&self, directory: &Directory) -> Vec<Slot> {
        self.discoveries.iter().map(|discovery| directory.discovery(&discovery.state.credential)).collect()
    }

    /// Whether it knows every zone that there is to watch, as far as discoveries go.
    pub(crate) fn is_complete(&self) -> bool {
        self.discoveries.iter().all(|discovery| discovery.state.completed.is_some())
    }

    /// The discoveries that are to be made, and when.
    pub(crate) fn due(&self) -> impl Iterator<Item = DueDiscovery> {
        let due = |(settings, discovery): (&DiscoverySettings, &Discovery)| DueDiscovery {
            credential: Arc::clone(&discovery.state.credential),
            filter: settings.filter.clone(),
            due: discovery.due,
            priority: if discovery.state.failure.is_some() { Priority::Failing } else { Priority::Healthy },
        };
        let settings = self.settings.iter();
        settings.flat_map(|settings| self.discoveries.iter().map(move |discovery| (settings, discovery))).map(due)
    }

    /// Takes what came of a discovery that ended at this Unix second.
    pub(crate) fn discovered(&mut self, credential: &str, outcome: Result<ZoneList, Failure>, now: i64) {
        let discovery = self.discoveries.iter_mut().find(|discovery| *discovery.state.credential == *credential);
        let Some((discovery, settings)) = discovery.zip(self.settings.as_ref()) else { return };
        match outcome {
            Ok(zones) => discovery.succeeded(zones, settings, now),
            Err(failure) => discovery.failed(failure, settings.interval),
        }
    }

    /// Makes every discovery once, side by side, and asks for what this filter wants where there is one. Returns those
    /// that failed.
    pub(crate) async fn discover(
        &mut self,
        clients: &Clients,
        filter: Option<&ZoneFilter>,
        now: fn() -> DateTime<Utc>,
    ) -> Vec<(Arc<str>, Failure)> {
        let discover = async |due: DueDiscovery| {
            let DueDiscovery { credential, filter: own, priority, .. } = due;
            // The configuration holds each of these credentials, and each has a client.
            let outcome = clients[&credential].zones(filter.unwrap_or(&own), priority).await;
            (credential, outcome)
        };
        let outcomes = join_all(self.due().map(discover)).await;
        let mut failures = Vec::new();
        for (credential, outcome) in outcomes {
            match outcome {
                Ok(zones) => self.discovered(&credential, Ok(zones), now().timestamp()),
                Err(failure) => failures.push((credential, failure)),
            }
        }
        failures
    }

    /// Every zone that was discovered, by credential and name, and whether it is watched. Zones that the configuration
    /// lists are watched whatever the settings of the discovery are.
    pub(crate) fn verdicts(&self) -> Vec<ZoneVerdict<'_>> {
        let mut finders: HashMap<&ScopeId, &Arc<str>> = HashMap::new();
        let configured: HashSet<&ScopeId> = self.configured.iter().map(|target| &target.id).collect();
        // A zone that moved to another token is watched with that one at once.
        for discovery in &self.discoveries {
            for zone in discovery.zones.iter().filter(|zone| !discovery.lacks(zone)) {
                finders.entry(&zone.id).or_insert(&discovery.state.credential);
            }
        }
        let mut verdicts = Vec::new();
        for (settings, discovery) in
            self.settings.iter().flat_map(|settings| self.discoveries.iter().map(move |it| (settings, it)))
        {
            let credential = &discovery.state.credential;
            for zone in &discovery.zones {
                let of_filter = settings.filter.verdict(zone);
                let is_wanted = of_filter == FilterVerdict::Watched || configured.contains(&zone.id);
                let finder = *finders.entry(&zone.id).or_insert(credential);
                let watched = if finder != credential {
                    Watched::ByCredential(finder)
                } else if !is_wanted {
                    Watched::Filtered(of_filter)
                } else if !self.shard.owns(&zone.id) {
                    Watched::ByShard(Shard::of(&zone.id, self.shard.total))
                } else {
                    Watched::Yes
                };
                verdicts.push(ZoneVerdict { zone, credential, watched });
            }
        }
        verdicts
    }

    /// How its discoveries go.
    pub(crate) fn states(&self) -> Arc<[DiscoveryState]> {
        let verdicts = self.verdicts();
        let state = |discovery: &Discovery| {
            let of_this = || verdicts.iter().filter(|verdict| *verdict.credential == discovery.state.credential);
            let watched = of_this().filter(|verdict| verdict.watched == Watched::Yes).count();
            DiscoveryState { watched, unwatched: of_this().count() - watched, ..discovery.state.clone() }
        };
        self.discoveries.iter().map(state).collect()
    }

    /// What is to be polled by this shard: zones that the configuration lists, those that were discovered, accounts that
    /// the configuration lists, and those of the zones that were discovered.
    pub(crate) fn targets(&self) -> Vec<Arc<Target>> {
        let configured: HashSet<&ScopeId> = self.configured.iter().map(|target| &target.id).collect();
        let verdicts = self.verdicts();
        let known: HashMap<&ScopeId, &Arc<Zone>> =
            verdicts.iter().rev().map(|found| (&found.zone.id, found.zone)).collect();
        // The shard is looked at below, since an account can be another shard's than its zones.
        let is_wanted = |verdict: &&ZoneVerdict<'_>| matches!(verdict.watched, Watched::Yes | Watched::ByShard(_));
        let wanted = || verdicts.iter().filter(is_wanted);
        let mut accounts: HashMap<&ScopeId, &Account> = HashMap::new();
        let mut found_accounts = Vec::new();
        for (account, credential) in wanted().filter_map(|found| Some((found.zone.account.as_ref()?, found.credential)))
        {
            if accounts.insert(&account.id, account).is_none() && !configured.contains(&account.id) {
                found_accounts.push((account, credential));
            }
        }
        let named = |target: &Arc<Target>| {
            let mut target = Target::clone(target);
            match target.kind.scope() {
                Scope::Zone => {
                    target.zone = known.get(&target.id).map(|zone| Arc::clone(zone));
                    target.name = target.name.or_else(|| target.zone.as_ref().map(|zone| Arc::clone(&zone.name)));
                }
                Scope::Account => {
                    target.name =
                        target.name.or_else(|| accounts.get(&target.id).map(|account| Arc::clone(&account.name)));
                }
            }
            Arc::new(target)
        };
        let of_scope =
            |scope: Scope| self.configured.iter().filter(move |target| target.kind.scope() == scope).map(named);
        let found_zones = wanted().filter(|found| !configured.contains(&found.zone.id));
        let zones = found_zones.flat_map(|found| {
            self.discovered_targets(Scope::Zone, &found.zone.id, &found.zone.name, Some(found.zone), found.credential)
        });
        let accounts = found_accounts.into_iter().flat_map(|(account, credential)| {
            self.discovered_targets(Scope::Account, &account.id, &account.name, None, credential)
        });
        let all = of_scope(Scope::Zone).chain(zones).chain(of_scope(Scope::Account)).chain(accounts);
        all.filter(|target| self.shard.owns(&target.id)).collect()
    }

    /// The kinds of a zone or account that was discovered.
    fn discovered_targets(
        &self,
        scope: Scope,
        id: &ScopeId,
        name: &Arc<str>,
        zone: Option<&Arc<Zone>>,
        credential: &Arc<str>,
    ) -> impl Iterator<Item = Arc<Target>> {
        let kinds = self.defaults.kinds.iter().filter(move |kind| kind.scope() == scope);
        kinds.map(move |&kind| {
            Arc::new(Target {
                kind,
                id: id.clone(),
                name: Some(Arc::clone(name)),
                zone: zone.cloned(),
                credential: Arc::clone(credential),
                interval: self.defaults.interval(kind),
            })
        })
    }
}

#[cfg(test)]
mod tests;
