//! What is known of listings and certificates, from the status of a daemon or of a sweep of one's own.
//!
//! How bad that is, is not judged here.

use std::{collections::HashSet, sync::Arc, time::Duration};

use crate::{
    cli::sweep::SelectionFlags,
    exposition::{
        Exposition,
        json::{DiscoveryStatus, ListingStatus, PollFailure, ReadCertificate, ReadStatus, StatusParts, unix_second},
    },
    model::{Class, Kind, Rejection, SeriesSettings, Snapshot, Status, Suppression},
};

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
    /// Those that are shown, by id.
    pub(super) certificates: Vec<ReadCertificate>,
}

fn is_active(status: &str) -> bool {
    Status::from_label(status).is_some_and(|status| status.class() == Class::Active)
}

/// Whether the expiry of a certificate does not matter: another one has taken its place, or it is revoked. One that is
/// about to be revoked may still be accepted, so it counts.
pub(super) const fn is_suppressed(certificate: &ReadCertificate) -> bool {
    matches!(certificate.suppressed, Some(Suppression::Retired | Suppression::Superseded))
}

/// How many seconds the clock of the daemon and that of this machine can be apart before days cannot be trusted.
const CLOCKS_APART: u64 = 3600;

/// The status of a daemon that has this snapshot and no cap.
pub(super) fn status(snapshot: Snapshot, settings: SeriesSettings, now: i64) -> Result<ReadStatus, serde_json::Error> {
    let settings = SeriesSettings { max_certificates_per_zone: usize::MAX, ..settings };
    let parts = StatusParts::new(Arc::new(Exposition::new(settings).next(Arc::new(snapshot), now)), now);
    let document: Vec<u8> = (0..).map_while(|number| parts.part(number)).flatten().collect();
    serde_json::from_slice(&document)
}

/// What a status says, on a machine whose clock says `now`.
pub(super) fn observe(status: ReadStatus, now: i64) -> Result<Vec<ObservedListing>, String> {
    let ReadStatus { time, discoveries, mut listings } = status;
    let clock = unix_second(&time).ok_or_else(|| format!("{time:?} is not a time"))?;
    if listings.is_empty() {
        let why = discoveries.iter().find_map(|discovery| discovery.failure.as_ref());
        let why = why.map(|failure| format!(": zones cannot be discovered{}", because(Some(failure))));
        return Err(format!("no zones are watched{}", why.unwrap_or_default()));
    }
    listings.sort_by(|a, b| a.key().cmp(&b.key()));
    let kinds: HashSet<_> = listings.iter().map(|listing| listing.kind).collect();
    let observed = listings.into_iter().map(|listing| ObservedListing::new(listing, kinds.len() > 1, clock, now));
    let mut observed = observed.collect::<Result<Vec<_>, _>>()?;
    observed.extend(discoveries.iter().filter_map(|discovery| undiscovered(discovery, clock)));
    Ok(observed)
}

/// Keeps these zones and accounts, by name or id, and these kinds, or all if none is named. What is not there is a
/// listing of which nothing is known.
pub(super) fn keep(listings: &mut Vec<ObservedListing>, SelectionFlags { zones: wanted, kinds }: &SelectionFlags) {
    let is = |listing: &ObservedListing, wanted: &str| {
        listing.zone.eq_ignore_ascii_case(wanted) || listing.zone_id.eq_ignore_ascii_case(wanted)
    };
    let zones = wanted.iter().filter(|wanted| !listings.iter().any(|listing| is(listing, wanted)));
    let zones = zones.map(|zone| (zone.as_str(), "is none of the daemon's zones"));
    let missing_kinds = kinds.iter().filter(|kind| !listings.iter().any(|listing| listing.kind == **kind));
    let missing_kinds = missing_kinds.map(|kind| (kind.label(), "is not a kind that the daemon lists"));
    let missing = zones
        .chain(missing_kinds)
        .map(|(name, why)| ObservedListing { zone: name.to_owned(), ..ObservedListing::unknown(name, why) });
    let missing: Vec<_> = missing.collect();
    listings.retain(|listing| {
        let is_zone = wanted.is_empty() || wanted.iter().any(|wanted| is(listing, wanted));
        is_zone && (kinds.is_empty() || kinds.contains(&listing.kind) || listing.zone.is_empty())
    });
    listings.extend(missing);
}

/// Keeps what this owner has to act on: certificates, listings that are this owner's or hold one of them, and listings of
/// which too little is known to tell.
pub(super) fn keep_owner(listings: &mut Vec<ObservedListing>, owner: &str) {
    let is_unknown = |listing: &ObservedListing| listing.zone.is_empty();
    listings.retain_mut(|listing| {
        listing.certificates.retain(|certificate| certificate.owner == owner);
        listing.owner == owner || !listing.certificates.is_empty() || is_unknown(listing)
    });
    if listings.iter().all(is_unknown) {
        let why = "has no certificates and no listings; see [[labels]] in the configuration";
        listings.push(ObservedListing::unknown(&format!("owner {owner}"), why));
    }
}

/// How many zones these listings are of.
pub(super) fn count_zones<'a>(listings: impl IntoIterator<Item = &'a ObservedListing>) -> usize {
    let zones: HashSet<_> = listings.into_iter().map(|listing| (&listing.zone, &listing.zone_id)).collect();
    zones.iter().filter(|(zone, _)| !zone.is_empty()).count()
}

/// Stands for the zones of a credential that a daemon whose clock says `clock` does not know, or no longer, and for what
/// is listed in them.
fn undiscovered(discovery: &DiscoveryStatus, clock: i64) -> Option<ObservedListing> {
    let why = match discovery.last_success_on.as_deref().and_then(unix_second) {
        None => "were never discovered".to_owned(),
        Some(completed) => {
            let age = clock.saturating_sub(completed);
            if age <= whole(2.0 * discovery.interval_seconds) {
                return None;
            }
            format!("were last discovered {} ago", words(age))
        }
    };
    let title = format!("zones of credential {}", discovery.credentials);
    Some(ObservedListing::unknown(&title, &(why + &because(discovery.failure.as_ref()))))
}

impl ObservedListing {
    /// Something of which nothing is known.
    fn unknown(title: &str, why: &str) -> Self {
        Self { title: title.to_owned(), stale_reason: Some(why.to_owned()), ..Self::default() }
    }

    /// A listing of a daemon whose clock says `clock`.
    fn new(status: ListingStatus<ReadCertificate>, names_kind: bool, clock: i64, now: i64) -> Result<Self, String> {
        let zone = status.scope.name().to_owned();
        let mut certificates = status.certificates;
        certificates.sort_by(|a, b| a.certificate_id.cmp(&b.certificate_id));
        let mut observed = Self {
            kind: status.kind,
            title: if names_kind { format!("{zone} ({})", status.kind.label()) } else { zone.clone() },
            zone,
            zone_id: status.scope.id().to_owned(),
            owner: status.labels.get("owner").cloned().unwrap_or_default(),
            shown: certificates.iter().filter(|certificate| is_active(&certificate.status)).count() as u64,
            certificates,
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
        let stale_reason = stale_reason(completed, status.poll_interval_seconds, clock).map(|why| {
            let failure = status.last_poll.as_ref().and_then(|poll| poll.failure.as_ref());
            why + &because(failure.filter(|_| completed.is_none()))
        });
        // What the plan does not include is not listed.
        let stale_reason = stale_reason.filter(|_| status.available != Some(false));
        observed.stale_reason = clocks_apart(clock, now).or(stale_reason);
        Ok(observed)
    }

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

/// The end of a sentence, where a failure is behind it.
fn because(failure: Option<&PollFailure>) -> String {
    failure.map(|failure| format!(": {}: {}", failure.reason, failure.message)).unwrap_or_default()
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
            let observed = observe(status(clock, listed, &[("client", "a1", "")]), NOW).unwrap();
            let stale_reason = &observed[0].stale_reason;
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
        let mut observed = observe(status(NOW, NOW, &zones), NOW).unwrap();
        assert_eq!(observed.iter().map(|listing| listing.active + listing.hidden).sum::<u64>(), 18);
        assert_eq!(observed[0].rejected, 1, "one that is there twice is shown once");
        keep(&mut observed, &zones_named(&["B2"]));
        let [listing] = &observed[..] else { panic!("{observed:?}") };
        let [certificate] = &listing.certificates[..] else { panic!("{observed:?}") };
        assert_eq!((&*certificate.certificate_id, is_suppressed(certificate)), ("of-b2", true));
        assert_eq!(&*listing.zone_id, "b2");
        keep(&mut observed, &zones_named(&["x", "y"]));
        let certificates: usize = observed.iter().map(|listing| listing.certificates.len()).sum();
        assert_eq!((observed.len(), certificates), (2, 1));
        assert!(observed[1].stale_reason.is_some());
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
            let observed = observe(status(NOW, NOW, &zones), NOW).unwrap();
            assert_eq!(is_suppressed(&observed[0].certificates[0]), !alarms, "{suppressed}");
        }
    }

    #[test]
    fn a_status_without_zones_or_time_is_none() {
        assert!(observe(status(NOW, NOW, &[]), NOW).unwrap_err().contains("no zones"));
        let mut timeless = status(NOW, NOW, &[("client", "a1", "")]);
        timeless.time = "noon".to_owned();
        assert!(observe(timeless, NOW).unwrap_err().contains("noon"));
    }
}
