//! What has to hold whatever a configuration file says. See `src/properties.rs`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc, reason = "a property that fails panics")]

use std::{collections::HashSet, path::Path};

use super::{Config, DiscoverySettings, check_name};
use crate::{
    cloudflare::ApiSettings,
    exposition::SeriesSettings,
    model::{Shard, StandIn, Target},
};

/// The length of one of Cloudflare's.
const SECRET_LENGTH: usize = 40;
/// There is no such directory, so that no file of this machine matters.
const FILE: &str = "/nonexistent/config.toml";

/// The bytes are a configuration file, in which the word SECRET stands for one.
pub fn configuration(bytes: &[u8]) {
    let secret = StandIn::of(bytes, SECRET_LENGTH);
    let lines = String::from_utf8_lossy(bytes);
    let text: String = lines.split_inclusive('\n').map(|line| planted(&secret, line, bytes)).collect();
    let environment = |name: &str| (name == "CLOUDFLARE_API_TOKEN").then(|| secret.text().to_owned());
    match Config::parse(&text, Path::new(FILE), &environment) {
        Ok(config) => {
            assert_in_range(&config);
            let debug = format!("{config:?}");
            assert!(!secret.is_in(&debug), "{debug}");
        }
        Err(report) => {
            let report = report.to_string();
            assert!(!secret.is_in(&report), "{report}");
            for line in report.lines() {
                let is_placed = line.strip_prefix(FILE).is_some_and(|rest| rest.starts_with(':'));
                assert!(is_placed || line.ends_with(&format!(" mistakes in {FILE}")), "{line}");
            }
        }
    }
}

/// The line with a secret in it, unless that can become a part of a longer value with a slash or
/// a dot: such a value is shown, since no secret has either.
fn planted(secret: &StandIn, line: &str, document: &[u8]) -> String {
    let is_text = line.contains(['"', '\'']) || document.windows(3).any(|three| matches!(three, b"\"\"\"" | b"'''"));
    let is_shown = is_text && line.contains(['/', '.', '\\']);
    line.replace("SECRET", if is_shown { "x" } else { secret.text() })
}

fn assert_in_range(config: &Config) {
    let api = &config.api;
    assert!(ApiSettings::TIMEOUT.contains(&api.timeout));
    assert!(ApiSettings::REQUESTS_PER_5M.contains(&api.requests_per_5m));
    assert!(ApiSettings::CONCURRENCY.contains(&api.concurrency));
    let series = &config.series;
    assert!(series.max_certificates_per_zone <= *SeriesSettings::MAX_CERTIFICATES.end() as usize);
    assert!(series.expiring_within_days.iter().all(|days| SeriesSettings::WITHIN_DAYS.contains(days)));
    assert!(SeriesSettings::FORGET_AFTER.contains(&series.forget_expired_after));
    assert_different(&series.statuses);
    assert_different(&series.expiring_within_days);
    assert!(!config.listen_addresses.is_empty());
    assert_different(&config.listen_addresses);
    assert!(config.telemetry_path.as_str().starts_with('/') && !config.telemetry_path.as_str().starts_with("/-/"));

    let names: Vec<_> = config.credentials.iter().map(|credential| credential.name()).collect();
    assert_different(&names);
    assert!(names.iter().all(|name| check_name(name).is_ok()));
    assert!(config.discovery.is_some() || !config.targets.is_empty());
    assert_different(&config.targets.iter().map(|zone| zone.key()).collect::<Vec<_>>());
    for zone in &config.targets {
        assert!(Target::INTERVAL.contains(&zone.interval) && names.contains(&&zone.credential), "{zone:?}");
        assert!(zone.name.as_deref().is_none_or(|name| check_name(name).is_ok()), "{zone:?}");
    }
    if let Some(DiscoverySettings { filter, interval, credentials }) = &config.discovery {
        assert!(Target::INTERVAL.contains(interval) && !filter.include.is_empty());
        assert!(!credentials.is_empty() && credentials.iter().all(|name| names.contains(&name)));
        assert_different(credentials);
        assert_different(&filter.accounts);
    }
    assert!(Shard::TOTAL.contains(&config.shard.total) && config.shard.ordinal < config.shard.total);
    assert_eq!(config.api.requests_per_5m, config.shard.share_of(config.requests_per_5m));
}

fn assert_different<T: Eq + std::hash::Hash>(items: &[T]) {
    assert_eq!(items.iter().collect::<HashSet<_>>().len(), items.len());
}
