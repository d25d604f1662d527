//! What is known of listings and certificates, from the daemon's status or from a sweep of one's own.
//!
//! How bad that is, is not judged here.

use std::{collections::HashSet, time::Duration};

use crate::{
    cli::sweep::{SelectionFlags, Sweep, name_or_id},
    config::Config,
    exposition::json::{DiscoveryStatus, ListingStatus, ReadCertificate, ReadStatus, unix_second},
    model::{Class, Kind, Rejection, Status, Suppression, Target, TargetLabels},
};

/// Everything that the check has to know.
#[derive(Debug, Default)]
pub(super) struct Observations {
    pub(super) listings: Vec<ObservedListing>,
    pub(super) certificates: Vec<ObservedCertificate>,
}

/// One kind of certificate in one zone.
#[derive(Debug, Default)]
pub(super) struct ObservedListing {
    kind: Kind,
    zone: String,
    zone_id: String,
    /// The label of this name.
    owner: String,
    /// The zone, and where there are several kinds, which.
    pub(super) title: String,
    /// Why what is known of it may no longer be so.
    pub(super) stale_reason: Option<String>,
    /// Certificates that are counted and not shown.
    pub(super) hidden: u64,
    pub(super) active: u64,
    /// Of the active ones, how many are shown.
    shown: u64,
    /// Of the usable ones.
    expired: u64,
    /// Entries without an id or a usable date. They count as active, too.
    pub(super) rejected: u64,
}

impl ObservedListing {
    /// Why nothing is known of its active certificates although there are some.
    pub(super) fn no_visible_certificates(&self) -> Option<String> {
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
    /// The place of its listing.
    pub(super) listing: usize,
    pub(super) id: String,
    pub(super) common_name: String,
    pub(super) days: i64,
    /// The label of this name.
    owner: String,
    /// Its expiry does not matter: another one has taken its place, or it is revoked.
    pub(super) is_suppressed: bool,
}

fn is_active(status: &str) -> bool {
    Status::from_label(status).is_some_and(|status| status.class() == Class::Active)
}

/// One that is about to be revoked may still be accepted, so it counts.
const fn is_suppressed(suppression: Option<Suppression>) -> bool {
    matches!(suppression, Some(Suppression::Retired | Suppression::Superseded))
}

/// How many seconds the clock of the daemon and that of this machine can be apart before days cannot be trusted.
const CLOCKS_APART: u64 = 3600;

impl Observations {
    /// What a daemon says, on a machine whose clock says `now`.
    ///
    /// # Errors
    /// In words, if it does not fit together.
    pub(super) fn from_status(status: ReadStatus, now: i64) -> Result<Self, String> {
        let ReadStatus { time, discoveries, mut listings } = status;
        let clock = unix_second(&time).ok_or_else(|| format!("{time:?} is not a time"))?;
        if listings.is_empty() {
            let why = discoveries.iter().find_map(|discovery| discovery.failure.as_ref());
            let why = why.map(|failure| format!(": zones cannot be discovered: {}", failure.message));
            return Err(format!("the daemon watches no zones{}", why.unwrap_or_default()));
        }
        listings.sort_by(|a, b| a.key().cmp(&b.key()));
        let mut observed = Self::default();
        for mut listing in listings {
            let certificates = std::mem::take(&mut listing.certificates);
            let is_active = |certificate: &&ReadCertificate| is_active(&certificate.status);
            let shown = certificates.iter().filter(is_active).count() as u64;
            let place = observed.listings.len();
            observed.listings.push(ObservedListing { shown, ..ObservedListing::from_status(listing, clock, now)? });
            observed.certificates.extend(certificates.into_iter().map(|certificate| ObservedCertificate {
                listing: place,
                id: certificate.certificate_id,
                common_name: certificate.common_name,
                owner: certificate.owner,
                days: certificate.days_until_expiry,
                is_suppressed: is_suppressed(certificate.suppressed),
            }));
        }
        let mut observed = observed.titled();
        let discoveries =
            discoveries.into_iter().filter_map(|discovery| ObservedListing::of_discovery(&discovery, clock));
        observed.listings.extend(discoveries);
        Ok(observed)
    }

    /// What a sweep came back with: the same certificates as the daemon would show, but without a cap.
    pub(super) fn from_sweep(
        config: &Config,
        Sweep { listings, failures, undiscovered, .. }: &Sweep,
        now: i64,
    ) -> Self {
        let settings = &config.series;
        let mut observed = Self::default();
        let owner = |labels: &TargetLabels, common_name: &str| {
            let owner = labels.of(common_name).find(|(name, _)| *name == "owner");
            owner.map_or_else(String::new, |(_, value)| value.to_owned())
        };
        for (zone, name, listing) in listings {
            let labels = settings.labels.of_target(zone, name);
            let shown = listing
                .certificates()
                .iter()
                .filter(|certificate| settings.can_show(certificate) && !settings.is_long_expired(certificate, now));
            let is_rejected = |reason: &Rejection| *reason != Rejection::DuplicateId;
            let place = observed.listings.len();
            observed.listings.push(ObservedListing {
                active: listing.count_of(Class::Active),
                shown: shown.clone().filter(|certificate| certificate.status.class() == Class::Active).count() as u64,
                expired: listing.expired(now) as u64,
                rejected: Rejection::ALL.into_iter().filter(is_rejected).map(|reason| listing.rejected(reason)).sum(),
                owner: owner(&labels, ""),
                ..ObservedListing::of(zone, name)
            });
            observed.certificates.extend(shown.filter_map(|certificate| {
                Some(ObservedCertificate {
                    listing: place,
                    id: certificate.id().to_owned(),
                    common_name: certificate.common_name().to_owned(),
                    owner: owner(&labels, certificate.common_name()),
                    days: certificate.days_until_expiry(now)?,
                    is_suppressed: is_suppressed(listing.suppression(certificate, settings, now)),
                })
            }));
        }
        for (zone, failure) in failures {
            observed.listings.push(ObservedListing {
                stale_reason: Some(format!("could not be listed: {}: {failure}", failure.reason.label())),
                owner: owner(&settings.labels.of_target(zone, name_or_id(zone)), ""),
                ..ObservedListing::of(zone, name_or_id(zone))
            });
        }
        let mut observed = observed.titled();
        for (credential, failure) in undiscovered {
            let why = format!("could not be discovered: {}: {failure}", failure.reason.label());
            observed.listings.push(ObservedListing::undiscovered(credential, why));
        }
        observed
    }

    /// Names the kind where there are several.
    fn titled(mut self) -> Self {
        let kinds: HashSet<_> = self.listings.iter().map(|listing| listing.kind).collect();
        for listing in &mut self.listings {
            listing.title.clone_from(&listing.zone);
            if kinds.len() > 1 {
                listing.title = format!("{} ({})", listing.zone, listing.kind.label());
            }
        }
        self
    }

    /// Keeps these zones and accounts, by name or id, and these kinds, or all if none is named. What is not there is a
    /// listing of which nothing is known.
    pub(super) fn keep(&mut self, SelectionFlags { zones: wanted, kinds }: &SelectionFlags) {
        let is = |listing: &ObservedListing, wanted: &str| {
            listing.zone == wanted || listing.zone_id.eq_ignore_ascii_case(wanted)
        };
        let unknown = |name: &str, why: &str| ObservedListing {
            title: name.to_owned(),
            zone: name.to_owned(),
            stale_reason: Some(why.to_owned()),
            ..ObservedListing::default()
        };
        let zones = wanted.iter().filter(|wanted| !self.listings.iter().any(|listing| is(listing, wanted)));
        let zones = zones.map(|zone| unknown(zone, "is none of the daemon's zones"));
        let missing_kinds = kinds.iter().filter(|kind| !self.listings.iter().any(|listing| listing.kind == **kind));
        let missing_kinds = missing_kinds.map(|kind| unknown(kind.label(), "is not a kind that the daemon lists"));
        let missing: Vec<_> = zones.chain(missing_kinds).collect();
        self.keep_listings(|_, listing| {
            let is_zone = wanted.is_empty() || wanted.iter().any(|wanted| is(listing, wanted));
            is_zone && (kinds.is_empty() || kinds.contains(&listing.kind) || listing.zone.is_empty())
        });
        self.listings.extend(missing);
    }

    /// Keeps what this owner has to act on: certificates, listings that are this owner's or hold one of them, and
    /// listings of which too little is known to tell.
    pub(super) fn keep_owner(&mut self, owner: Option<&str>) {
        let Some(owner) = owner else { return };
        self.certificates.retain(|certificate| certificate.owner == owner);
        let with_one: HashSet<_> = self.certificates.iter().map(|certificate| certificate.listing).collect();
        let is_unknown = |listing: &ObservedListing| listing.zone.is_empty();
        self.keep_listings(|place, listing| listing.owner == owner || with_one.contains(&place) || is_unknown(listing));
        if self.listings.iter().all(is_unknown) {
            self.listings.push(ObservedListing {
                title: format!("owner {owner}"),
                stale_reason: Some(
                    "has no certificates and no listings; see [[labels]] in the configuration".to_owned(),
                ),
                ..ObservedListing::default()
            });
        }
    }

    fn keep_listings(&mut self, is_kept: impl Fn(usize, &ObservedListing) -> bool) {
        let mut places = Vec::new();
        let mut kept = Vec::new();
        for (place, listing) in self.listings.drain(..).enumerate() {
            let keep = is_kept(place, &listing);
            places.push(keep.then_some(kept.len()));
            if keep {
                kept.push(listing);
            }
        }
        self.listings = kept;
        self.certificates = std::mem::take(&mut self.certificates)
            .into_iter()
            .filter_map(|certificate| {
                Some(ObservedCertificate { listing: places[certificate.listing]?, ..certificate })
            })
            .collect();
    }
}

/// How many zones these listings are of.
pub(super) fn count_zones<'a>(listings: impl IntoIterator<Item = &'a ObservedListing>) -> usize {
    let zones: HashSet<_> = listings.into_iter().map(|listing| (&listing.zone, &listing.zone_id)).collect();
    zones.iter().filter(|(zone, _)| !zone.is_empty()).count()
}

impl ObservedListing {
    fn of(zone: &Target, name: &str) -> Self {
        Self { kind: zone.kind, zone: name.to_owned(), zone_id: zone.id.as_str().to_owned(), ..Self::default() }
    }

    /// Stands for the zones of a credential that are not known, and for what is listed in them.
    fn undiscovered(credential: &str, why: String) -> Self {
        Self { title: format!("zones of credential {credential}"), stale_reason: Some(why), ..Self::default() }
    }

    /// The same where a daemon whose clock says `clock` does not know them, or no longer.
    fn of_discovery(discovery: &DiscoveryStatus, clock: i64) -> Option<Self> {
        let completed = discovery.last_success_on.as_deref().and_then(unix_second);
        let why = match completed {
            None => "were never discovered".to_owned(),
            Some(completed) => {
                let age = clock.saturating_sub(completed);
                if age <= whole(2.0 * discovery.interval_seconds) {
                    return None;
                }
                format!("were last discovered {} ago", words(age))
            }
        };
        let failure = discovery.failure.as_ref().map(|failure| format!(": {}", failure.message));
        Some(Self::undiscovered(&discovery.credentials, why + &failure.unwrap_or_default()))
    }

    /// A listing of a daemon whose clock says `clock`.
    fn from_status(status: ListingStatus<ReadCertificate>, clock: i64, now: i64) -> Result<Self, String> {
        let mut observed = Self {
            kind: status.kind,
            zone: status.scope.name().to_owned(),
            zone_id: status.scope.id().to_owned(),
            owner: status.labels.get("owner").cloned().unwrap_or_default(),
            ..Self::default()
        };
        let mut completed = None;
        if let Some(listing) = status.last_success {
            let time = unix_second(&listing.completed_on);
            completed = Some(time.ok_or_else(|| format!("{:?} is not a time", listing.completed_on))?);
            let rejected = listing.rejected.iter().filter(|(reason, _)| **reason != Rejection::DuplicateId.label());
            observed.rejected = rejected.map(|(_, count)| count).sum();
            let active = listing.by_status.iter().filter(|(status, _)| is_active(status));
            observed.active = active.map(|(_, count)| count).sum();
            observed.expired = listing.expired;
            observed.hidden = listing.hidden;
        }
        // The times of the daemon are by its own clock.
        // What the plan does not include is not listed.
        let stale_reason =
            || stale_reason(completed, status.poll_interval_seconds, clock).filter(|_| status.available != Some(false));
        observed.stale_reason = clocks_apart(clock, now).or_else(stale_reason);
        Ok(observed)
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

/// Why a zone that was listed then is no longer fresh: what happened since is not known. Both clocks in Unix seconds.
fn stale_reason(completed: Option<i64>, interval_seconds: f64, now: i64) -> Option<String> {
    let Some(completed) = completed else { return Some("was never listed".to_owned()) };
    let age = now.saturating_sub(completed);
    (age > whole(2.0 * interval_seconds))
        .then(|| format!("was last listed {} ago, and is due every {}", words(age), words(whole(interval_seconds))))
}

fn words(seconds: i64) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(seconds.max(0).unsigned_abs()))
}

#[expect(clippy::cast_possible_truncation, reason = "such a cast stops at the largest and smallest number")]
fn whole(value: f64) -> i64 {
    value.floor() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::json::date;

    const NOW: i64 = 1_795_521_600;

    /// The status of a daemon whose clock says `clock`. Each listing has one certificate, which has expired.
    fn status(clock: i64, completed: i64, listings: &[(&str, &str, &str)]) -> ReadStatus {
        let listing = |&(kind, zone_id, suppressed): &(&str, &str, &str)| {
            let suppressed = Some(suppressed).filter(|word| !word.is_empty());
            serde_json::json!({
                "kind": kind, "zone": "x", "zone_id": zone_id, "poll_interval_seconds": 900.0,
                "last_success": {
                    "completed_on": date(completed), "by_status": { "active": 7, "revoked": 1 }, "expired": 1,
                    "expiring_within_days": { "7": 0 }, "next_expiry_on": null,
                    "rejected": { "missing_id": 1, "duplicate_id": 4 }, "hidden": 2, "vanished": 0,
                },
                "last_poll": null,
                "certificates": [{
                    "certificate_id": format!("of-{zone_id}"), "common_name": "", "status": "active",
                    "days_until_expiry": -1, "suppressed": suppressed, "another": "member",
                }],
            })
        };
        let listings: Vec<_> = listings.iter().map(listing).collect();
        serde_json::from_value(serde_json::json!({ "time": date(clock), "listings": listings })).unwrap()
    }

    fn zones_named(names: &[&str]) -> SelectionFlags {
        SelectionFlags { zones: names.iter().map(ToString::to_string).collect(), kinds: Vec::new() }
    }

    #[test]
    fn two_intervals_are_fresh_and_a_second_more_is_not() {
        for (completed, reason) in [
            (Some(NOW - 1800), None),
            (Some(NOW - 1801), Some("was last listed 30m 1s ago, and is due every 15m")),
            (Some(NOW + 5), None),
            (None, Some("was never listed")),
        ] {
            assert_eq!(stale_reason(completed, 900.0, NOW), reason.map(str::to_owned), "{completed:?}");
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
            let observed = Observations::from_status(status(clock, listed, &[("client", "a1", "")]), NOW).unwrap();
            let stale_reason = &observed.listings[0].stale_reason;
            assert_eq!(stale_reason.is_none(), fresh, "{clock} {listed}: {stale_reason:?}");
        }
        assert_eq!(
            clocks_apart(NOW - 7200, NOW).unwrap(),
            "is counted by a clock that is 2h apart from that of this machine; one of the two is wrong"
        );
    }

    #[test]
    fn certificates_of_zones_with_one_name_stay_apart() {
        let zones = [("client", "a1", ""), ("client", "b2", "superseded")];
        let mut observed = Observations::from_status(status(NOW, NOW, &zones), NOW).unwrap();
        assert_eq!(observed.listings.iter().map(|listing| listing.active + listing.hidden).sum::<u64>(), 18);
        assert_eq!(observed.listings[0].rejected, 1, "one that is there twice is shown once");
        observed.keep(&zones_named(&["B2"]));
        let [certificate] = &observed.certificates[..] else { panic!("{observed:?}") };
        assert_eq!((certificate.listing, &*certificate.id, certificate.is_suppressed), (0, "of-b2", true));
        assert_eq!((observed.listings.len(), &*observed.listings[0].zone_id), (1, "b2"));
        observed.keep(&zones_named(&["x", "y"]));
        assert_eq!((observed.listings.len(), observed.certificates.len()), (2, 1));
        assert!(observed.listings[1].stale_reason.is_some());
    }

    #[test]
    fn one_rule_says_what_alarms() {
        for (suppressed, alarms) in [
            ("", true),
            ("pending_revocation", true),
            ("long_expired", true),
            ("superseded", false),
            ("retired", false),
        ] {
            let zones = [("client", "a1", suppressed)];
            let observed = Observations::from_status(status(NOW, NOW, &zones), NOW).unwrap();
            assert_eq!(observed.certificates[0].is_suppressed, !alarms, "{suppressed}");
        }
    }

    #[test]
    fn a_status_without_zones_or_time_is_none() {
        assert!(Observations::from_status(status(NOW, NOW, &[]), NOW).unwrap_err().contains("no zones"));
        let mut timeless = status(NOW, NOW, &[("client", "a1", "")]);
        timeless.time = "noon".to_owned();
        assert!(Observations::from_status(timeless, NOW).unwrap_err().contains("noon"));
    }
}
