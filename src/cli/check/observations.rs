//! What is known of zones and certificates, from the daemon's metrics or from a sweep of one's own.
//!
//! How bad that is, is not judged here.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    cli::scrape::{NoMetric, samples},
    config::Config,
    model::{Failure, Listing, Rejection, Status, Suppression, Zone},
};

/// Everything that the check has to know.
#[derive(Debug, Default)]
pub(super) struct Observations {
    pub(super) zones: Vec<ObservedZone>,
    pub(super) certificates: Vec<ObservedCertificate>,
}

#[derive(Debug, Default)]
pub(super) struct ObservedZone {
    pub(super) name: String,
    pub(super) id: String,
    /// Why what is known of it may no longer be so.
    pub(super) not_fresh: Option<String>,
    /// Certificates that are counted and not shown.
    pub(super) hidden: u64,
    pub(super) active: u64,
    /// Of the active ones, how many are shown.
    shown: u64,
    /// Of all but the revoked ones.
    expired: u64,
    /// Entries without an id or a usable date. They count as active, too.
    pub(super) rejected: u64,
}

impl ObservedZone {
    /// Why nothing is known of its active certificates although there are some.
    pub(super) fn unseen(&self) -> Option<String> {
        let Self { hidden, active, shown, expired, rejected, .. } = *self;
        // Those that expired long ago are not shown, so if all are expired that is as it should be.
        if shown > 0 || hidden > 0 || active <= expired {
            return None;
        }
        let why = if rejected > 0 { "their dates or ids are missing or unreadable" } else { "see metrics.statuses" };
        Some(format!("shows none of its {active} active certificates; {why}"))
    }
}

#[derive(Debug)]
pub(super) struct ObservedCertificate {
    /// The place of its zone.
    pub(super) zone: usize,
    pub(super) id: String,
    pub(super) common_name: String,
    pub(super) days: i64,
    /// Its expiry matters to nobody: another one has taken its place, or it is revoked.
    pub(super) is_quiet: bool,
}

/// How many seconds the clock of the daemon and that of this machine can be apart before days cannot be trusted.
const CLOCKS_APART: u64 = 3600;

impl Observations {
    /// Reads the metrics of a daemon, on a machine whose clock says `now`.
    ///
    /// # Errors
    /// In words, if they are none of this program.
    pub(super) fn from_metrics(text: &str, now: i64) -> Result<Self, String> {
        let foreign = |error: NoMetric| format!("the answer is not in the format of metrics: {error}");
        /// A zone, its last success and its interval.
        type Told = (ObservedZone, Option<f64>, Option<f64>);
        let mut zones = BTreeMap::<(String, String), Told>::new();
        let (mut found, mut clock) = (Vec::new(), now);
        let (mut quiet, mut active, mut zone_ids) = (HashSet::new(), HashSet::new(), HashMap::new());
        for sample in samples(text) {
            let sample = sample.map_err(foreign)?;
            let label = |name: &str| sample.label(name).to_owned();
            let key = || ["kind", "zone", "certificate_id"].map(label);
            let mut zone = |change: &dyn Fn(&mut Told)| {
                change(zones.entry((label("zone"), label("zone_id"))).or_default());
            };
            match sample.name {
                "cloudflare_certificate_days_until_expiry" => found.push((key(), label("common_name"), sample.value)),
                "cloudflare_certificate_superseded" if sample.value == 1.0 => {
                    quiet.insert(key());
                }
                "cloudflare_certificate_info" => {
                    match Status::from_label(sample.label("status")) {
                        Some(Status::Revoked) => quiet.insert(key()),
                        Some(Status::Active) => active.insert(key()),
                        _ => false,
                    };
                    zone_ids.insert(key(), label("zone_id"));
                }
                "cloudflare_certificates" if sample.label("status") == Status::Active.label() => {
                    zone(&|zone| zone.0.active += count(sample.value));
                }
                "cloudflare_certificates_expired" => zone(&|zone| zone.0.expired += count(sample.value)),
                // One that is there twice is shown once.
                "cloudflare_certificates_rejected" if sample.label("reason") != Rejection::DuplicateId.label() => {
                    zone(&|zone| zone.0.rejected += count(sample.value));
                }
                "cloudflare_certificates_hidden" => zone(&|zone| zone.0.hidden += count(sample.value)),
                "cloudflare_certificates_last_success_timestamp_seconds" => zone(&|zone| zone.1 = Some(sample.value)),
                "cloudflare_certificates_poll_interval_seconds" => zone(&|zone| zone.2 = Some(sample.value)),
                "cloudflare_cert_exporter_clock_timestamp_seconds" => clock = whole(sample.value),
                _ => {}
            }
        }
        // Each zone has an interval from the start, whether it could be listed or not.
        if zones.values().all(|(_, _, interval)| interval.is_none()) {
            return Err("the answer holds no zones, so that is not cloudflare-cert-exporter".to_owned());
        }
        let mut seen = Self::default();
        for ((name, id), (zone, last_success, interval)) in zones {
            // Its times are by its own clock.
            let not_fresh = clocks_apart(clock, now).or_else(|| not_fresh(last_success, interval, clock));
            seen.zones.push(ObservedZone { name, id, not_fresh, ..zone });
        }
        // Two zones can have one name.
        let names: Vec<_> = seen.zones.iter().map(|zone| (zone.name.clone(), zone.id.clone())).collect();
        let places = names.iter().enumerate();
        let by_id: HashMap<_, _> = places.clone().map(|(place, (name, id))| ((&**name, &**id), place)).collect();
        let by_name: HashMap<_, _> = places.rev().map(|(place, (name, _))| (&**name, place)).collect();
        for (key, common_name, days) in found {
            let (is_quiet, is_active) = (quiet.contains(&key), active.contains(&key));
            let zone = zone_ids.get(&key).and_then(|zone_id| by_id.get(&(&*key[1], zone_id)));
            let zone = zone.or_else(|| by_name.get(&*key[1])).copied();
            let [_, _, id] = key;
            let (Some(zone), true) = (zone, days.is_finite()) else {
                return Err(format!("the metrics do not fit together: certificate {id:?} has no zone or no expiry"));
            };
            seen.zones[zone].shown += u64::from(is_active);
            seen.certificates.push(ObservedCertificate { zone, id, common_name, days: whole(days), is_quiet });
        }
        Ok(seen)
    }

    /// What a sweep came back with: the same certificates as the daemon would show, but without a cap.
    pub(super) fn from_sweep(
        config: &Config,
        listings: &[(Arc<Zone>, Arc<str>, Arc<Listing>)],
        failures: &[(Arc<Zone>, Failure)],
        now: i64,
    ) -> Self {
        let mut seen = Self::default();
        for (zone, name, listing) in listings {
            let shown = listing.certificates().iter().filter(|certificate| {
                config.series.can_show(certificate) && !config.series.is_long_expired(certificate, now)
            });
            let is_rejected = |reason: &Rejection| *reason != Rejection::DuplicateId;
            seen.zones.push(ObservedZone {
                name: name.to_string(),
                id: zone.id.as_str().to_owned(),
                active: listing.count(Status::Active),
                shown: shown.clone().filter(|certificate| certificate.status == Status::Active).count() as u64,
                expired: listing.expired(now) as u64,
                rejected: Rejection::ALL.into_iter().filter(is_rejected).map(|reason| listing.rejected(reason)).sum(),
                ..ObservedZone::default()
            });
            let zone = seen.zones.len() - 1;
            seen.certificates.extend(shown.filter_map(|certificate| {
                Some(ObservedCertificate {
                    zone,
                    id: certificate.id().to_owned(),
                    common_name: certificate.common_name().to_owned(),
                    days: certificate.days_until_expiry(now)?,
                    is_quiet: matches!(
                        listing.suppression(certificate, &config.series, now),
                        Some(Suppression::Retired | Suppression::Superseded)
                    ),
                })
            }));
        }
        for (zone, failure) in failures {
            seen.zones.push(ObservedZone {
                name: zone.name.as_deref().unwrap_or(zone.id.as_str()).to_owned(),
                id: zone.id.as_str().to_owned(),
                not_fresh: Some(format!("could not be listed: {}: {failure}", failure.reason.label())),
                ..ObservedZone::default()
            });
        }
        seen
    }

    /// Keeps these zones, by name or id, or all if none is named. One that is not there is a zone of which nothing
    /// is known.
    pub(super) fn keep(&mut self, wanted: &[String]) {
        if wanted.is_empty() {
            return;
        }
        let is = |zone: &ObservedZone, wanted: &str| zone.name == wanted || zone.id.eq_ignore_ascii_case(wanted);
        let missing: Vec<_> =
            wanted.iter().filter(|wanted| !self.zones.iter().any(|zone| is(zone, wanted))).cloned().collect();
        let mut places = Vec::new();
        let mut kept = Vec::new();
        for zone in self.zones.drain(..) {
            let keep = wanted.iter().any(|wanted| is(&zone, wanted));
            places.push(keep.then_some(kept.len()));
            if keep {
                kept.push(zone);
            }
        }
        self.zones = kept;
        self.certificates = std::mem::take(&mut self.certificates)
            .into_iter()
            .filter_map(|certificate| Some(ObservedCertificate { zone: places[certificate.zone]?, ..certificate }))
            .collect();
        self.zones.extend(missing.into_iter().map(|name| ObservedZone {
            name,
            not_fresh: Some("is none of the daemon's zones".to_owned()),
            ..ObservedZone::default()
        }));
    }
}

/// Why nothing that the daemon says of days can be trusted.
fn clocks_apart(clock: i64, now: i64) -> Option<String> {
    let apart = clock.abs_diff(now);
    (apart > CLOCKS_APART).then(|| {
        let apart = humantime::format_duration(Duration::from_secs(apart));
        format!("is counted by a clock that is {apart} apart from that of this machine; one of the two is wrong")
    })
}

/// Why a zone that was listed then is no longer fresh: nobody knows what happened since.
fn not_fresh(last_success: Option<f64>, interval: Option<f64>, now: i64) -> Option<String> {
    let Some(last_success) = last_success else { return Some("was never listed".to_owned()) };
    let Some(interval) = interval else { return Some("has no interval".to_owned()) };
    let age = now.saturating_sub(whole(last_success));
    (age > whole(2.0 * interval)).then(|| {
        let words = |seconds: i64| humantime::format_duration(Duration::from_secs(seconds.max(0).unsigned_abs()));
        format!("was last listed {} ago, and is due every {}", words(age), words(whole(interval)))
    })
}

#[expect(clippy::cast_possible_truncation, reason = "such a cast stops at the largest and smallest number")]
fn whole(value: f64) -> i64 {
    value.floor() as i64
}

fn count(value: f64) -> u64 {
    whole(value).try_into().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_521_600;

    #[test]
    fn two_intervals_are_fresh_and_a_second_more_is_not() {
        for (last_success, interval, reason) in [
            (Some(NOW - 1800), Some(900), None),
            (Some(NOW - 1801), Some(900), Some("was last listed 30m 1s ago, and is due every 15m")),
            (Some(NOW + 5), Some(900), None),
            (None, Some(900), Some("was never listed")),
        ] {
            let reason = reason.map(str::to_owned);
            let float = |number: i64| number as f64;
            assert_eq!(not_fresh(last_success.map(float), interval.map(float), NOW), reason, "{last_success:?}");
        }
    }

    #[test]
    fn times_of_the_daemon_are_by_its_own_clock_unless_that_is_far_off() {
        for (clock, listed, fresh) in [
            (NOW - 3000, NOW - 3100, true),
            (NOW - 3000, NOW - 4900, false),
            (NOW + 3000, NOW - 100, false),
            (NOW + 3000, NOW + 2900, true),
            (NOW + 3601, NOW + 3600, false),
            (NOW - 86_400, NOW - 86_400, false),
        ] {
            let zone = "kind=\"client\",zone=\"x\",zone_id=\"a1\"";
            let text = format!(
                "cloudflare_certificates_last_success_timestamp_seconds{{{zone}}} {listed}\n\
                 cloudflare_certificates_poll_interval_seconds{{{zone}}} 900\n\
                 cloudflare_cert_exporter_clock_timestamp_seconds {clock}\n"
            );
            let seen = Observations::from_metrics(&text, NOW).unwrap();
            assert_eq!(seen.zones[0].not_fresh.is_none(), fresh, "{clock} {listed}: {:?}", seen.zones[0].not_fresh);
        }
        assert_eq!(
            clocks_apart(NOW - 7200, NOW).unwrap(),
            "is counted by a clock that is 2h apart from that of this machine; one of the two is wrong"
        );
    }

    #[test]
    fn certificates_of_zones_with_one_name_stay_apart() {
        let mut text = String::new();
        for (zone_id, status) in [("a1", "active"), ("b2", "revoked")] {
            let zone = format!("kind=\"client\",zone=\"x\",zone_id=\"{zone_id}\"");
            let certificate = format!("kind=\"client\",zone=\"x\",certificate_id=\"of-{zone_id}\",common_name=\"\"");
            text.push_str(&format!(
                "cloudflare_certificate_days_until_expiry{{{certificate}}} -1\n\
                 cloudflare_certificate_superseded{{{certificate}}} 0\n\
                 cloudflare_certificate_info{{{certificate},zone_id=\"{zone_id}\",status=\"{status}\"}} 1\n\
                 cloudflare_certificates{{{zone},status=\"active\"}} 7\n\
                 cloudflare_certificates_hidden{{{zone}}} 2\n\
                 cloudflare_certificates_last_success_timestamp_seconds{{{zone}}} {NOW}\n\
                 cloudflare_certificates_poll_interval_seconds{{{zone}}} 900\n"
            ));
        }
        let mut seen = Observations::from_metrics(&text, NOW).unwrap();
        assert_eq!(seen.zones.iter().map(|zone| zone.active + zone.hidden).sum::<u64>(), 18);
        seen.keep(&["B2".to_owned()]);
        let kept: Vec<_> = seen.certificates.iter().map(|seen| (seen.zone, &*seen.id, seen.is_quiet)).collect();
        assert_eq!(kept, [(0, "of-b2", true)]);
        assert_eq!((seen.zones.len(), &*seen.zones[0].id), (1, "b2"));
        seen.keep(&["x".to_owned(), "y".to_owned()]);
        assert_eq!((seen.zones.len(), seen.certificates.len()), (2, 1));
        assert!(seen.zones[1].not_fresh.is_some());
    }

    #[test]
    fn metrics_of_another_program_are_no_answer() {
        for text in ["", "up 1\n", "cloudflare_cert_exporter_build_info 1\n", "<html>\n"] {
            assert!(Observations::from_metrics(text, NOW).is_err(), "{text}");
        }
        let orphan = "cloudflare_certificates_poll_interval_seconds{zone=\"x\"} 900\ncloudflare_certificate_days_until_expiry{zone=\"y\"} 1\n";
        assert!(Observations::from_metrics(orphan, NOW).unwrap_err().contains("do not fit together"));
    }
}
