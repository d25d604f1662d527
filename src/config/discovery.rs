//! What is discovered: which zones, with which credentials, and how often.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    Context, check_name,
    credentials::DEFAULT,
    document::{Entry, Place, duration, parsed, text_as},
    targets::unknown_credential,
};
use crate::model::{NamePattern, Target, ZoneFilter};

/// The discovery of zones, where the configuration asks for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoverySettings {
    /// Which zones are watched.
    pub filter: ZoneFilter,
    /// How often they are discovered.
    pub interval: Duration,
    /// The names of the credentials that are asked. A zone that several see belongs to the first of them.
    pub credentials: Vec<Arc<str>>,
}

impl DiscoverySettings {
    /// How often zones are discovered, unless the configuration says otherwise: soon enough for a new zone, at one request
    /// for each 50 zones.
    pub const INTERVAL: Duration = Duration::from_secs(3600);
}

impl Context<'_> {
    /// Reads the section. Without it, zones are discovered where none is configured.
    pub(super) fn read_discovery(
        &self,
        entry: Option<Entry<'_>>,
        has_zones: bool,
        names: &BTreeSet<&str>,
    ) -> Option<DiscoverySettings> {
        let usual = ZoneFilter::everything();
        let Some(entry) = entry else {
            let settings = || DiscoverySettings {
                filter: usual,
                interval: DiscoverySettings::INTERVAL,
                credentials: self.usual_credential(&Place::absent("discovery"), names),
            };
            return (!has_zones).then(settings);
        };
        let place = entry.place.clone();
        let mut section = entry.section("it must be a section, [discovery]");
        let pattern = text_as(NamePattern::new);
        let include = section.take("include").and_then(|entry| entry.list_of_some("pattern, such as \"*\"", &pattern));
        let exclude = section.take("exclude").and_then(|entry| entry.list(&pattern));
        let account = text_as(|text| check_name(text).map(|()| Box::<str>::from(text)));
        let accounts = section.take("accounts").and_then(|entry| entry.list(account));
        let interval = section.read("interval", duration(Target::INTERVAL));
        let credentials = section.take("credentials").map(|entry| self.known_credentials(&entry, names));
        section.finish();
        Some(DiscoverySettings {
            filter: ZoneFilter {
                include: include.unwrap_or(usual.include),
                exclude: exclude.unwrap_or_default(),
                accounts: accounts.unwrap_or_default(),
            },
            interval: interval.unwrap_or(DiscoverySettings::INTERVAL),
            credentials: credentials.unwrap_or_else(|| self.usual_credential(&place, names)),
        })
    }

    /// Those that are named. Each must exist.
    fn known_credentials(&self, entry: &Entry<'_>, names: &BTreeSet<&str>) -> Vec<Arc<str>> {
        let credentials: Vec<String> = entry.list_of_some("name, such as \"default\"", parsed).unwrap_or_default();
        // Where no section has a name, the report says so already.
        for unknown in credentials.iter().filter(|name| !names.is_empty() && !names.contains(&***name)) {
            let text = unknown_credential(unknown, names, "set discovery.credentials to some of");
            self.report.mistake(&entry.place, text);
        }
        credentials.into_iter().map(Arc::from).collect()
    }

    /// The one with the usual name, or else the only one.
    fn usual_credential(&self, place: &Place, names: &BTreeSet<&str>) -> Vec<Arc<str>> {
        let only = names.first().filter(|_| names.len() == 1);
        if only.is_none() && !names.is_empty() && !names.contains(DEFAULT) {
            self.report.mistake(place, unknown_credential(DEFAULT, names, "set discovery.credentials to some of"));
        }
        vec![only.map_or(DEFAULT, |name| *name).into()]
    }
}
