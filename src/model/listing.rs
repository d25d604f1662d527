//! A whole listing of a zone: its certificates in order, and what follows from them together.

use std::collections::{HashMap, HashSet};

use super::{Certificate, Profiles, Rejection, SECONDS_PER_DAY, Status};

/// Every certificate of one zone, read whole.
///
/// It is made once and read many times, so what is asked of it at every scrape is worked out when it is made, as
/// far as that takes no more than a few bytes a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    certificates: Vec<Certificate>,
    by_status: [u64; Status::ALL.len()],
    rejected: [u64; Rejection::ALL.len()],
    /// The API said that there would be fewer entries.
    pub more_than_promised: bool,
    /// Sorted expiries of the certificates that are not revoked: numbers that change with time are found by
    /// halving, for eight bytes a certificate.
    expiries: Box<[i64]>,
    /// Names under which a certificate can be superseded. A name that is there once, as most are, is not in it.
    renewals: HashMap<Box<str>, Renewal>,
}

/// What decides which certificates of a name are superseded, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Renewal {
    /// Expiry of the active one that expires last.
    latest: i64,
    /// From this second on no more than two active ones are unexpired.
    from: i64,
}

/// The certificates of a name, as they are counted.
#[derive(Default)]
struct Namesakes {
    /// Expiry of the one that expires first, of any status.
    soonest: Option<i64>,
    /// Expiries of the three active ones that expire last, the latest in front.
    active: [Option<i64>; 3],
}

impl Namesakes {
    /// To be called in the order of expiry.
    fn add(&mut self, expiry: i64, is_active: bool) {
        self.soonest.get_or_insert(expiry);
        if is_active {
            self.active = [Some(expiry), self.active[0], self.active[1]];
        }
    }

    /// `None` if none of them is ever superseded.
    fn renewal(&self) -> Option<Renewal> {
        let latest = self.active[0].filter(|&latest| self.soonest < Some(latest))?;
        let from = self.active[2].map_or(Some(i64::MIN), |third| third.checked_add(1))?;
        Some(Renewal { latest, from })
    }
}

impl Listing {
    /// Judges the entries. Where an id is there twice, the last one counts: it was read last.
    #[must_use]
    pub fn new(mut entries: Vec<Certificate>) -> Self {
        let mut listing = Self::default();
        listing.rejected[Rejection::DuplicateId as usize] = drop_replaced(&mut entries) as u64;
        let mut profiles = Profiles::default();
        for entry in &mut entries {
            entry.profile = profiles.share(std::mem::take(&mut entry.profile));
        }
        // Only entries without an id can be equal so far. With the rest of what they say, the order of the
        // pages does not matter, nor whether equals change places.
        let order = |a: &Certificate, b: &Certificate| {
            // `None` is the undated: last.
            let key = |entry: &Certificate| (entry.not_after().is_none(), entry.not_after());
            key(a).cmp(&key(b)).then_with(|| a.cmp(b))
        };
        if !entries.is_sorted_by(|a, b| order(a, b).is_le()) {
            entries.sort_unstable_by(order);
            // Texts that are read one after another lie one after another: so all are written again in half the time.
            let identities: Vec<_> = entries.iter().map(|entry| entry.identity.clone()).collect();
            for (entry, identity) in entries.iter_mut().zip(identities) {
                entry.identity = identity;
            }
        }
        entries.shrink_to_fit();
        for certificate in &entries {
            listing.by_status[certificate.status as usize] += 1;
            if let Some(rejection) = certificate.rejection() {
                listing.rejected[rejection as usize] += 1;
            }
        }
        let usable = entries.iter().filter(|certificate| certificate.status != Status::Revoked);
        listing.expiries = usable.filter_map(Certificate::not_after).collect();
        listing.renewals = renewals(&entries);
        listing.certificates = entries;
        listing
    }

    /// The listing that was taken apart into [`certificates`](Self::certificates) and the two things that they do not tell.
    #[must_use]
    pub fn restored(certificates: Vec<Certificate>, duplicates: u64, more_than_promised: bool) -> Self {
        let mut listing = Self { more_than_promised, ..Self::new(certificates) };
        listing.rejected[Rejection::DuplicateId as usize] = duplicates;
        listing
    }

    /// Every entry once, soonest expiry first; those without a date come last.
    #[must_use]
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// How many have this status, entries without a usable date included: they use quota.
    #[must_use]
    pub const fn count(&self, status: Status) -> u64 {
        self.by_status[status as usize]
    }

    /// How many entries could not be used for this reason.
    #[must_use]
    pub const fn rejected(&self, rejection: Rejection) -> u64 {
        self.rejected[rejection as usize]
    }

    /// How many have expired, among those that are not revoked.
    #[must_use]
    pub fn expired(&self, now: i64) -> usize {
        self.expiries.partition_point(|&time| time < now)
    }

    /// The soonest expiry that is not over, among those that are not revoked.
    #[must_use]
    pub fn next_expiry(&self, now: i64) -> Option<i64> {
        self.expiries.get(self.expired(now)).copied()
    }

    /// How many are neither revoked nor expired and expire within so many days.
    #[must_use]
    pub fn expiring(&self, now: i64, days: u32) -> usize {
        let until = now.saturating_add(seconds(days));
        self.expiries.partition_point(|&time| time <= until) - self.expired(now)
    }

    /// The first second after `now` at which [`expired`](Self::expired), [`next_expiry`](Self::next_expiry) or
    /// [`expiring`](Self::expiring) within any of these `days` is not what it is at `now`; `None` if that is never.
    #[must_use]
    pub fn next_boundary(&self, now: i64, days: &[u32]) -> Option<i64> {
        // A certificate is good through its last second.
        let expires = self.next_expiry(now).and_then(|time| time.checked_add(1));
        let enters = days.iter().filter_map(|&days| {
            let until = now.saturating_add(seconds(days));
            let next = self.expiries.get(self.expiries.partition_point(|&time| time <= until))?;
            Some(next - seconds(days))
        });
        expires.into_iter().chain(enters).min()
    }

    /// Whether another active certificate of the same name expires later.
    ///
    /// Never for a name that says nothing of its holder, and never where more than two unexpired
    /// active certificates bear it: that is a fleet, not a renewal.
    #[must_use]
    pub fn is_superseded(&self, certificate: &Certificate, now: i64) -> bool {
        self.superseded_from(certificate).is_some_and(|from| from <= now)
    }

    /// From which Unix second on a certificate of this listing [is superseded](Self::is_superseded): `None` if it
    /// never is, `i64::MIN` if it always is. Time only takes members from a fleet, so it does not end.
    #[must_use]
    pub fn superseded_from(&self, certificate: &Certificate) -> Option<i64> {
        let own = certificate.not_after()?;
        let renewal = self.renewals.get(certificate.common_name())?;
        (renewal.latest > own).then_some(renewal.from)
    }
}

/// The names under which a certificate can be superseded. `certificates` are in the order of their expiry.
fn renewals(certificates: &[Certificate]) -> HashMap<Box<str>, Renewal> {
    let named = certificates.iter().filter_map(|certificate| {
        let time = certificate.not_after().filter(|_| names_one_holder(certificate.common_name()))?;
        Some((certificate, certificate.common_name(), time))
    });
    // Found out first, and by name alone: it is a handful out of a hundred thousand, as a rule.
    let mut seen = HashSet::new();
    let repeated = named.clone().filter(|(_, name, _)| !seen.insert(*name));
    let mut repeated: HashMap<_, _> = repeated.map(|(_, name, _)| (name, Namesakes::default())).collect();
    drop(seen);
    for (certificate, name, time) in named {
        if let Some(namesakes) = repeated.get_mut(name) {
            namesakes.add(time, certificate.status == Status::Active && certificate.rejection().is_none());
        }
    }
    let mut renewals: HashMap<_, _> =
        repeated.into_iter().filter_map(|(name, namesakes)| Some((name.into(), namesakes.renewal()?))).collect();
    renewals.shrink_to_fit();
    renewals
}

/// Takes out the entries whose id comes again, and says how many they were.
fn drop_replaced(entries: &mut Vec<Certificate>) -> usize {
    let mut seen = HashSet::with_capacity(entries.len());
    let numbered = entries.iter().enumerate().rev();
    let replaced = numbered.filter(|(_, entry)| !entry.id().is_empty() && !seen.insert(entry.id()));
    let replaced: Vec<usize> = replaced.map(|(number, _)| number).collect();
    let count = replaced.len();
    let mut replaced = replaced.into_iter().rev().peekable();
    let mut number = 0;
    entries.retain(|_| {
        number += 1;
        replaced.next_if_eq(&(number - 1)).is_none()
    });
    count
}

fn seconds(days: u32) -> i64 {
    i64::from(days) * SECONDS_PER_DAY
}

/// The dashboard gives `Cloudflare` to every key that it generates.
fn names_one_holder(common_name: &str) -> bool {
    !common_name.is_empty() && common_name != "Cloudflare"
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{Expiry, Identity, Profile};

    const NOW: i64 = 1_795_521_600;
    const DAY: i64 = SECONDS_PER_DAY;

    fn certificate(id: &str, common_name: &str, status: Status, days: i64) -> Certificate {
        Certificate {
            identity: Identity { id, common_name, serial_number: "", fingerprint_sha256: "", ski: "" }.into(),
            status,
            expiry: Expiry::At(NOW + days * DAY),
            not_before: None,
            profile: Arc::default(),
        }
    }

    #[test]
    fn a_certificate_is_superseded_by_a_later_active_one_of_its_name() {
        use Status::{Active, PendingRevocation, Revoked};
        type Row = (&'static str, Vec<(&'static str, Status, i64)>, Vec<bool>);
        let rows: Vec<Row> = vec![
            ("alone", vec![("x", Active, 5)], vec![false]),
            ("renewed", vec![("x", Active, 5), ("x", Active, 365)], vec![true, false]),
            ("another name", vec![("x", Active, 5), ("y", Active, 365)], vec![false, false]),
            ("expired and renewed", vec![("x", Active, -5), ("x", Active, 365)], vec![true, false]),
            ("both expired", vec![("x", Active, -5), ("x", Active, -1)], vec![true, false]),
            ("at the same time", vec![("x", Active, 5), ("x", Active, 5)], vec![false, false]),
            ("by a revoked one", vec![("x", Active, 5), ("x", Revoked, 365)], vec![false, false]),
            ("being revoked", vec![("x", PendingRevocation, 5), ("x", Active, 365)], vec![true, false]),
            ("a fleet", vec![("x", Active, 5), ("x", Active, 6), ("x", Active, 365)], vec![false, false, false]),
            ("renewed twice", vec![("x", Active, -5), ("x", Active, 6), ("x", Active, 365)], vec![true, true, false]),
            ("no name", vec![("", Active, 5), ("", Active, 365)], vec![false, false]),
            ("made by the dashboard", vec![("Cloudflare", Active, 5), ("Cloudflare", Active, 365)], vec![false, false]),
        ];
        for (name, entries, expected) in rows {
            let entries = entries.into_iter().enumerate();
            let listing = Listing::new(
                entries.map(|(n, (cn, status, days))| certificate(&n.to_string(), cn, status, days)).collect(),
            );
            let superseded: Vec<_> = listing.certificates().iter().map(|c| listing.is_superseded(c, NOW)).collect();
            assert_eq!(superseded, expected, "{name}");
        }
    }

    #[test]
    fn an_id_that_is_listed_twice_is_one_certificate_as_it_was_read_last() {
        let listing = Listing::new(vec![
            certificate("same", "", Status::Active, 5),
            certificate("other", "", Status::Active, 5),
            certificate("same", "", Status::Revoked, 5),
            certificate("", "", Status::Active, 5),
            certificate("", "", Status::Active, 5),
        ]);
        assert_eq!((listing.count(Status::Active), listing.count(Status::Revoked)), (3, 1));
        assert_eq!((listing.rejected(Rejection::DuplicateId), listing.rejected(Rejection::MissingId)), (1, 2));
    }

    #[test]
    fn certificates_that_agree_have_one_profile() {
        let with_profile = |id| {
            let profile = Profile { issuer: "Managed CA".into(), ..Profile::default() };
            Certificate { profile: Arc::new(profile), ..certificate(id, "", Status::Active, 5) }
        };
        let listing = Listing::new(vec![with_profile("a"), certificate("b", "", Status::Active, 5), with_profile("c")]);
        let [a, b, c] = listing.certificates() else { panic!("{listing:?}") };
        assert!(Arc::ptr_eq(&a.profile, &c.profile) && !Arc::ptr_eq(&a.profile, &b.profile));
    }

    #[test]
    fn a_name_that_is_there_once_takes_no_memory() {
        let entries = (0..100).map(|n| certificate(&n.to_string(), &n.to_string(), Status::Active, n));
        assert_eq!(Listing::new(entries.collect()).renewals.capacity(), 0);
    }

    /// Few names, and expiries so near each other that all of them matter.
    fn any_listing() -> impl Strategy<Value = Listing> {
        let time = prop_oneof![20 => -6..6_i64, 1 => any::<i64>(), 1 => Just(i64::MIN), 1 => Just(i64::MAX)];
        let expiry = prop_oneof![8 => time.prop_map(Expiry::At), 1 => Just(Expiry::Missing)];
        let status = prop_oneof![3 => Just(Status::Active), 1 => proptest::sample::select(&Status::ALL[..])];
        let name = proptest::sample::select(&["", "x", "y", "Cloudflare"][..]);
        let entry = (0..30_u32, name, status, expiry).prop_map(|(id, name, status, expiry)| {
            let id = if id == 0 { String::new() } else { id.to_string() };
            Certificate { expiry, ..certificate(&id, name, status, 0) }
        });
        proptest::collection::vec(entry, 0..16).prop_map(Listing::new)
    }

    fn any_now() -> impl Strategy<Value = i64> {
        prop_oneof![20 => -200_000..200_000_i64, 20 => -9..9_i64, 1 => Just(i64::MIN), 1 => Just(i64::MAX)]
    }

    proptest! {
        #[test]
        fn what_is_superseded_is_what_the_definition_says(listing in any_listing(), now in any_now()) {
            for certificate in listing.certificates() {
                let namesakes = listing.certificates().iter().filter(|other| {
                    other.common_name() == certificate.common_name()
                        && other.status == Status::Active
                        && other.rejection().is_none()
                });
                let expiries: Vec<_> = namesakes.filter_map(Certificate::not_after).collect();
                let own = certificate.not_after();
                let expected = names_one_holder(certificate.common_name())
                    && own.is_some_and(|own| expiries.iter().any(|&time| time > own))
                    && expiries.iter().filter(|&&time| time >= now).count() <= 2;
                prop_assert_eq!(listing.is_superseded(certificate, now), expected);
                let from = listing.superseded_from(certificate);
                prop_assert_eq!(from.is_some_and(|from| from <= now), expected);
            }
        }

        #[test]
        fn what_changes_with_time_is_what_the_definition_says(listing in any_listing(), now in any_now(), days in 0..4_u32) {
            let usable = listing.certificates().iter().filter(|certificate| certificate.status != Status::Revoked);
            let times: Vec<_> = usable.filter_map(Certificate::not_after).collect();
            let until = now.saturating_add(i64::from(days) * DAY);
            prop_assert_eq!(listing.expired(now), times.iter().filter(|&&time| time < now).count());
            prop_assert_eq!(listing.next_expiry(now), times.iter().copied().filter(|&time| time >= now).min());
            prop_assert_eq!(listing.expiring(now, days), times.iter().filter(|&&time| (now..=until).contains(&time)).count());
        }

        #[test]
        fn the_next_boundary_is_where_something_changes_first(
            listing in any_listing(),
            now in any_now(),
            days in proptest::collection::vec(0..4_u32, 0..3),
        ) {
            let look = |now| {
                let expiring: Vec<_> = days.iter().map(|&days| listing.expiring(now, days)).collect();
                (listing.expired(now), listing.next_expiry(now), expiring)
            };
            // Wherever anything could change at all, and the seconds around it.
            let times = listing.certificates().iter().filter_map(Certificate::not_after);
            let places = times.flat_map(|time| (0..4).map(move |days| time.saturating_sub(days * DAY)));
            let mut moments: Vec<_> = places.flat_map(|place| (-2..=2).map(move |by| place.saturating_add(by))).collect();
            moments.sort_unstable();
            let changed = moments.into_iter().find(|&moment| moment > now && look(moment) != look(now));
            prop_assert_eq!(listing.next_boundary(now, &days), changed);
        }
    }
}
