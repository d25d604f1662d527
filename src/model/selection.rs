//! Which certificates matter: which have series of their own, and which of these no alert is about.
//!
//! The one place that decides it, for the metrics, the page and `check` alike. What their numbers look like is not here.

use std::{
    collections::HashSet,
    ops::{Range, RangeInclusive},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Certificate, LabelRules, Listing, Status};

/// Which series there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesSettings {
    /// Certificates of these statuses get series of their own; the others are only counted.
    pub statuses: Vec<Status>,
    /// The most certificates of one zone that get series of their own; within [`SeriesSettings::MAX_CERTIFICATES`].
    pub max_certificates_per_zone: usize,
    /// The values of the `within_days` label, each once, each within [`SeriesSettings::WITHIN_DAYS`].
    pub expiring_within_days: Vec<u32>,
    /// A certificate that expired longer ago than this is only counted; within [`SeriesSettings::FORGET_AFTER`].
    pub forget_expired_after: Duration,
    /// Labels of the owner's own, on every series of certificates and listings.
    pub labels: LabelRules,
}

impl SeriesSettings {
    /// What `max_certificates_per_zone` can be.
    pub const MAX_CERTIFICATES: RangeInclusive<u32> = 0..=10_000_000;
    /// What an item of `expiring_within_days` can be.
    pub const WITHIN_DAYS: RangeInclusive<u32> = 1..=36_500;
    /// What `forget_expired_after` can be.
    pub const FORGET_AFTER: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(36_500 * 86_400);

    /// Whether a certificate can have series of its own, unless it expired too long ago or the cap leaves it out.
    #[must_use]
    pub fn can_show(&self, certificate: &Certificate) -> bool {
        let is_dated = certificate.not_after().is_some();
        is_dated && certificate.rejection().is_none() && self.statuses.contains(&certificate.status)
    }

    /// Whether a usable certificate expired longer ago, at this Unix second, than `forget_expired_after`.
    #[must_use]
    pub fn is_long_expired(&self, certificate: &Certificate, now: i64) -> bool {
        let since = now.saturating_sub_unsigned(self.forget_expired_after.as_secs());
        certificate.status.is_usable() && certificate.is_expired(since)
    }
}

/// Why no alert is about a certificate, although it expires or has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suppression {
    /// It is revoked, deleted or not deployed.
    Retired,
    /// It is about to be revoked, and may still be accepted.
    PendingRevocation,
    /// Another one has taken its place.
    Superseded,
    /// It expired longer ago than `forget_expired_after`.
    LongExpired,
}

impl Suppression {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Retired, Self::PendingRevocation, Self::Superseded, Self::LongExpired];
}

impl Listing {
    /// Why the expiry of a certificate of this listing does not matter at this Unix second; `None` if it does.
    #[must_use]
    pub fn suppression(&self, certificate: &Certificate, settings: &SeriesSettings, now: i64) -> Option<Suppression> {
        let is_superseded = self.is_superseded(certificate) && !self.kind().may_be_in_use_though_superseded();
        match certificate.status {
            status if !status.is_usable() => Some(Suppression::Retired),
            _ if is_superseded => Some(Suppression::Superseded),
            Status::PendingRevocation => Some(Suppression::PendingRevocation),
            _ if settings.is_long_expired(certificate, now) => Some(Suppression::LongExpired),
            _ => None,
        }
    }
}

/// Which certificates of a listing have series of their own.
#[derive(Debug)]
pub struct Selection {
    /// Their places in the listing.
    shown: Vec<usize>,
    /// How many others would have them but for the cap.
    pub hidden: usize,
    /// The Unix seconds at which it is these.
    pub valid: Range<i64>,
}

impl Selection {
    /// Selects at this Unix second. Certificates whose ids are `taken` have no series.
    ///
    /// The cap takes unexpired ones first, soonest first, then expired ones, latest first. The listing is sorted by
    /// expiry, so these are neighbours.
    #[must_use]
    pub fn new(listing: &Listing, taken: &HashSet<&str>, settings: &SeriesSettings, now: i64) -> Self {
        let certificates = listing.certificates();
        let is_eligible = |place: &usize| {
            let certificate = &certificates[*place];
            settings.can_show(certificate)
                && !settings.is_long_expired(certificate, now)
                && !taken.contains(certificate.id())
        };
        let mut shown: Vec<_> = (0..certificates.len()).filter(is_eligible).collect();
        let cap = settings.max_certificates_per_zone;
        let hidden = shown.len().saturating_sub(cap);
        let expired = shown.partition_point(|&place| certificates[place].is_expired(now));
        shown.truncate(expired.saturating_add(cap));
        shown.drain(..shown.len().saturating_sub(cap));
        shown.shrink_to_fit();

        // The next one that expired too long ago, and the next one that expires if that moves the cap.
        let forget_after = settings.forget_expired_after.as_secs();
        let next_to_expire = |since: i64| {
            let next = certificates.get(certificates.partition_point(|certificate| certificate.is_expired(since)));
            next.and_then(Certificate::not_after)
        };
        let leaves = next_to_expire(now.saturating_sub_unsigned(forget_after));
        let leaves = leaves.and_then(|time| time.checked_add_unsigned(forget_after));
        let expires = next_to_expire(now).filter(|_| hidden > 0);
        let ends = leaves.into_iter().chain(expires).filter_map(|last_second| last_second.checked_add(1));
        Self { shown, hidden, valid: now..ends.min().unwrap_or(i64::MAX) }
    }

    /// The places of the certificates in the listing, soonest expiry first.
    #[must_use]
    pub fn shown(&self) -> &[usize] {
        &self.shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Expiry, Field, SECONDS_PER_DAY, Texts};

    const NOW: i64 = 1_795_521_600;
    const DAY: i64 = SECONDS_PER_DAY;

    fn certificate(common_name: &str, status: Status, left: i64) -> Certificate {
        let id = format!("{common_name} {left}");
        Certificate {
            texts: Texts::from([(Field::Id, &*id), (Field::CommonName, common_name)]),
            status,
            expiry: Expiry::At(NOW + left),
            not_before: Some(NOW + left - 365 * DAY),
        }
    }

    fn settings(max_certificates_per_zone: usize) -> SeriesSettings {
        SeriesSettings {
            statuses: vec![Status::Active, Status::PendingRevocation, Status::Revoked],
            max_certificates_per_zone,
            expiring_within_days: Vec::new(),
            forget_expired_after: Duration::from_secs(90 * 86_400),
            labels: Default::default(),
        }
    }

    #[test]
    fn one_rule_says_why_an_expiry_does_not_matter() {
        use Status::{Active, PendingReactivation, PendingRevocation, Revoked, Unknown};
        use Suppression::{LongExpired, Retired, Superseded};
        let rows = [
            ("active", Active, DAY, None),
            ("expired", Active, -DAY, None),
            ("unknown", Unknown, DAY, None),
            ("reactivated", PendingReactivation, DAY, None),
            ("revoked", Revoked, DAY, Some(Retired)),
            ("long revoked", Revoked, -91 * DAY, Some(Retired)),
            ("about to be", PendingRevocation, DAY, Some(Suppression::PendingRevocation)),
            ("renewed", Active, DAY, Some(Superseded)),
            ("renewed", Active, 300 * DAY, None),
            ("both", PendingRevocation, DAY, Some(Superseded)),
            ("both", Active, 300 * DAY, None),
            ("for 90 days", Active, -90 * DAY, None),
            ("for longer", Active, -90 * DAY - 1, Some(LongExpired)),
        ];
        let listing = Listing::new(rows.map(|(name, status, left, _)| certificate(name, status, left)).into());
        for (name, status, left, expected) in rows {
            let found = listing.suppression(&certificate(name, status, left), &settings(0), NOW);
            assert_eq!(found, expected, "{name} {left}");
        }
    }

    #[test]
    fn a_selection_says_until_when_it_holds() {
        let left = [-91 * DAY, -89 * DAY, -DAY, DAY, 2 * DAY];
        let listing = Listing::new(left.map(|left| certificate("x", Status::Active, left)).into());
        for (cap, shown, hidden, end) in [
            (9, vec![-89 * DAY, -DAY, DAY, 2 * DAY], 0, NOW + DAY + 1),
            (3, vec![-DAY, DAY, 2 * DAY], 1, NOW + DAY + 1),
            (1, vec![DAY], 3, NOW + DAY + 1),
            (0, vec![], 4, NOW + DAY + 1),
        ] {
            let settings = settings(cap);
            let selection = Selection::new(&listing, &HashSet::new(), &settings, NOW);
            let times = selection.shown().iter().filter_map(|&place| listing.certificates()[place].not_after());
            assert_eq!(times.map(|time| time - NOW).collect::<Vec<_>>(), shown, "{cap}");
            assert_eq!((selection.hidden, selection.valid.clone()), (hidden, NOW..end), "{cap}");
        }
        // Without the one that expires too long ago tomorrow, the next expiry decides, and only where the cap matters.
        let later = Listing::new(listing.certificates()[2..].to_vec());
        for (cap, end) in [(3, NOW + 89 * DAY + 1), (2, NOW + DAY + 1)] {
            assert_eq!(Selection::new(&later, &HashSet::new(), &settings(cap), NOW).valid.end, end, "{cap}");
        }
        let taken = format!("x {DAY}");
        assert_eq!(Selection::new(&later, &HashSet::from([&*taken]), &settings(1), NOW).hidden, 1);
    }
}
