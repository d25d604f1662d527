//! A whole listing of a target: its certificates in order, and what follows from them together.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Certificate, Class, Field, Interner, Kind, Rejection, SECONDS_PER_DAY, Status, text::is_as_given};

/// Every certificate of one target, read whole.
///
/// It is made once and read many times, so what is asked of it at every scrape is worked out when it is made, as
/// far as that takes no more than a few bytes a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    kind: Kind,
    certificates: Vec<Certificate>,
    /// Entries: one can hold several certificates, or none.
    by_status: [u64; Status::ALL.len()],
    rejected: [u64; Rejection::ALL.len()],
    /// The API said that there would be fewer entries.
    pub exceeds_total_count: bool,
    /// Sorted expiries of the usable certificates: numbers that change with time are found by
    /// halving, for eight bytes a certificate.
    expiries: Box<[i64]>,
    /// What can take the place of a certificate, by its name. Names under which nothing is superseded, as most,
    /// are not in it.
    successors: HashMap<Box<str>, Successors>,
    /// For kinds that say it themselves: the rank of the certificate that is in use, by [`Field::Purpose`].
    in_use: HashMap<Box<str>, i64>,
}

/// The active certificates of a name that can take the place of another one: expiry and time of issue, the soonest
/// expiry first.
///
/// One that expires no later than another and was issued no later either is left out, as it could only take a place
/// that the other takes too. So a chain of renewals is one entry, whatever its length.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Successors(Box<[(i64, i64)]>);

impl Successors {
    /// `None` if nothing of the name is ever superseded. `namesakes` are in the order of their expiry.
    fn of(namesakes: &[&Certificate]) -> Option<Self> {
        let active = || namesakes.iter().filter(|namesake| namesake.status.class() == Class::Active);
        if is_fleet(active().copied()) {
            return None;
        }
        let mut successors: Vec<(i64, i64)> = Vec::new();
        for namesake in active().rev().filter(|namesake| namesake.rejection().is_none()) {
            let (Some(expiry), Some(issued)) = (namesake.not_after(), issued(namesake)) else { continue };
            if successors.last().is_none_or(|&(_, last)| last < issued) {
                successors.push((expiry, issued));
            }
        }
        successors.reverse();
        (!successors.is_empty()).then(|| Self(successors.into()))
    }

    /// Whether one of them expires later, and was issued after half of the life between these two times had passed.
    fn any_for(&self, issued: i64, expiry: i64) -> bool {
        let Self(successors) = self;
        // Of those that expire later, the first one was issued last.
        let latest = successors.get(successors.partition_point(|&(time, _)| time <= expiry));
        latest.is_some_and(|&(_, latest)| 2 * i128::from(latest) > i128::from(issued) + i128::from(expiry))
    }
}

/// Whether more than two of these were ever valid at one moment. They are in the order of their expiry.
///
/// One whose times are not known could be valid at any.
fn is_fleet<'a>(active: impl Iterator<Item = &'a Certificate>) -> bool {
    let times = active.map(|active| (issued(active).unwrap_or(i64::MIN), active.not_after().unwrap_or(i64::MAX)));
    let (mut starts, ends): (Vec<_>, Vec<_>) = times.unzip();
    starts.sort_unstable();
    // When the third one begins and the first end is not over, three are valid, and so on. A certificate is good
    // through its last second.
    starts.iter().skip(2).zip(&ends).any(|(start, end)| start <= end)
}

/// When it was issued. A time after the expiry cannot be true, so it counts as unknown.
fn issued(certificate: &Certificate) -> Option<i64> {
    certificate.not_before.filter(|&issued| certificate.not_after().is_none_or(|expiry| issued <= expiry))
}

impl Listing {
    /// Client certificates.
    #[must_use]
    pub fn new(entries: Vec<Certificate>) -> Self {
        Self::of(Kind::Client, entries)
    }

    /// Judges the entries. Where an id is there twice, the last one counts: it was read last. Of entries that hold the
    /// same certificate, one that is usable counts.
    #[must_use]
    pub fn of(kind: Kind, mut entries: Vec<Certificate>) -> Self {
        let mut listing = Self { kind, ..Self::default() };
        listing.rejected[Rejection::DuplicateId as usize] = drop_replaced(&mut entries) as u64;
        let mut interner = Interner::default();
        for entry in &mut entries {
            interner.share(&mut entry.texts);
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
            let texts: Vec<_> = entries.iter().map(|entry| entry.texts.clone()).collect();
            for (entry, texts) in entries.iter_mut().zip(texts) {
                entry.texts = texts;
            }
        }
        entries.shrink_to_fit();
        let mut counted = HashSet::new();
        for certificate in &entries {
            let entry = &certificate.texts[Field::Entry];
            if entry.is_empty() || counted.insert(entry) {
                listing.by_status[certificate.status as usize] += 1;
            }
            if let Some(rejection) = certificate.rejection() {
                listing.rejected[rejection as usize] += 1;
            }
        }
        let usable = entries.iter().filter(|certificate| certificate.status.is_usable());
        listing.expiries = usable.filter_map(Certificate::not_after).collect();
        match kind {
            Kind::Client => listing.successors = successors(&entries),
            _ => listing.in_use = ranks_in_use(&entries),
        }
        listing.certificates = entries;
        listing
    }

    /// What the certificates are.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Every certificate once, soonest expiry first; those without a date come last, and so does what stands for an
    /// entry without a certificate.
    #[must_use]
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// How many entries have this status, those without a usable date included: they use quota.
    #[must_use]
    pub const fn count(&self, status: Status) -> u64 {
        self.by_status[status as usize]
    }

    /// How many entries have a status of this class.
    #[must_use]
    pub fn count_of(&self, class: Class) -> u64 {
        let of_class = Status::ALL.into_iter().filter(|status| status.class() == class);
        of_class.map(|status| self.count(status)).sum()
    }

    /// How many entries there are.
    #[must_use]
    pub fn entries(&self) -> usize {
        usize::try_from(self.by_status.iter().sum::<u64>()).unwrap_or(usize::MAX)
    }

    /// How many entries could not be used for this reason.
    #[must_use]
    pub const fn rejected(&self, rejection: Rejection) -> u64 {
        self.rejected[rejection as usize]
    }

    /// How many have expired, among the usable.
    #[must_use]
    pub fn expired(&self, now: i64) -> usize {
        self.expiries.partition_point(|&time| time < now)
    }

    /// The soonest expiry that is not over, among the usable.
    #[must_use]
    pub fn next_expiry(&self, now: i64) -> Option<i64> {
        self.expiries.get(self.expired(now)).copied()
    }

    /// How many usable ones have not expired and do so within so many days.
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

    /// Whether another one has taken the place of this certificate of the listing.
    ///
    /// Of most kinds the entries say it: of those with one purpose, the highest rank is in use. A client certificate is
    /// superseded if an active one of the same name expires later, and was issued after half of this one's life had
    /// passed. Never for a name that says nothing of its holder, and never where more than two active certificates that bear
    /// it were ever valid at one moment: that is a fleet, not a renewal, until they are revoked. When in doubt, it is
    /// not superseded: an alert too many is better than none.
    #[must_use]
    pub fn is_superseded(&self, certificate: &Certificate) -> bool {
        if self.kind != Kind::Client {
            let in_use = self.in_use.get(&certificate.texts[Field::Purpose]);
            return in_use.zip(rank(certificate)).is_some_and(|(&in_use, own)| own < in_use);
        }
        let (Some(issued), Some(expiry)) = (issued(certificate), certificate.not_after()) else { return false };
        let successors = self.successors.get(certificate.common_name());
        successors.is_some_and(|successors| successors.any_for(issued, expiry))
    }
}

/// A listing as it is written: its certificates, and the two things that they do not tell.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parts<C> {
    /// State files of before there were others have none.
    #[serde(default)]
    kind: Kind,
    duplicates: u64,
    // The name from the first versions, so that their files stay readable.
    #[serde(rename = "more_than_promised")]
    exceeds_total_count: bool,
    certificates: C,
}

impl Serialize for Listing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { kind, exceeds_total_count, ref certificates, .. } = *self;
        Parts { kind, duplicates: self.rejected(Rejection::DuplicateId), exceeds_total_count, certificates }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Listing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Parts { kind, duplicates, exceeds_total_count, certificates } = Parts::deserialize(deserializer)?;
        let mut listing = Self { exceeds_total_count, ..Self::of(kind, certificates) };
        listing.rejected[Rejection::DuplicateId as usize] = duplicates;
        Ok(listing)
    }
}

/// What can take the place of certificates, by name. `certificates` are in the order of their expiry.
fn successors(certificates: &[Certificate]) -> HashMap<Box<str>, Successors> {
    let named = certificates.iter().map(|certificate| (certificate.common_name(), certificate));
    let named = named.filter(|(name, _)| names_one_holder(name));
    // Found out first, and by name alone: it is a handful out of a hundred thousand, as a rule.
    let mut seen = HashSet::new();
    let repeated = named.clone().filter(|(name, _)| !seen.insert(*name));
    let mut repeated: HashMap<_, Vec<_>> = repeated.map(|(name, _)| (name, Vec::new())).collect();
    drop(seen);
    if repeated.is_empty() {
        return HashMap::new();
    }
    for (name, certificate) in named {
        if let Some(namesakes) = repeated.get_mut(name) {
            namesakes.push(certificate);
        }
    }
    let successors = repeated.into_iter().filter_map(|(name, of)| Some((name.into(), Successors::of(&of)?)));
    let mut successors: HashMap<_, _> = successors.collect();
    successors.shrink_to_fit();
    successors
}

/// The highest rank of the active certificates of each purpose that several have.
fn ranks_in_use(certificates: &[Certificate]) -> HashMap<Box<str>, i64> {
    let mut ranks = HashMap::new();
    let active = certificates.iter().filter(|certificate| certificate.status.class() == Class::Active);
    for certificate in active.filter(|certificate| certificate.rejection().is_none()) {
        let purpose = &certificate.texts[Field::Purpose];
        if let (false, Some(rank)) = (purpose.is_empty(), rank(certificate)) {
            let highest = ranks.entry(Box::from(purpose)).or_insert(rank);
            *highest = rank.max(*highest);
        }
    }
    ranks
}

/// What decides which of several certificates of one purpose is in use: the expiry, unless the kind has something better.
fn rank(certificate: &Certificate) -> Option<i64> {
    match &certificate.texts[Field::Rank] {
        "" => certificate.not_after(),
        rank => rank.parse().ok(),
    }
}

/// Takes out the certificates whose id comes again, and says how many they were.
///
/// The last one counts, unless it is of another entry and is not usable. An entry that holds none any more stays.
fn drop_replaced(certificates: &mut Vec<Certificate>) -> usize {
    let mut kept = HashMap::with_capacity(certificates.len());
    let mut replaced = HashSet::new();
    for (number, certificate) in certificates.iter().enumerate().rev().filter(|(_, one)| !one.id().is_empty()) {
        let Some(&later) = kept.get(certificate.id()) else {
            kept.insert(certificate.id(), number);
            continue;
        };
        let other = &certificates[later];
        let is_better = certificate.status.is_usable() && !other.status.is_usable();
        if is_better && certificate.entry_id() != other.entry_id() {
            kept.insert(certificate.id(), number);
            replaced.insert(later);
        } else {
            replaced.insert(number);
        }
    }
    if replaced.is_empty() {
        return 0;
    }
    let mut numbers = 0..;
    let lost: Vec<_> = certificates.extract_if(.., |_| numbers.next().is_some_and(|n| replaced.contains(&n))).collect();
    let mut known: HashSet<&str> = certificates.iter().flat_map(|one| [one.id(), one.entry_id()]).collect();
    let alone = lost.iter().rev().filter(|one| known.insert(one.entry_id()));
    let alone: Vec<_> = alone.map(Certificate::entry_alone).collect();
    certificates.extend(alone);
    lost.len()
}

fn seconds(days: u32) -> i64 {
    i64::from(days) * SECONDS_PER_DAY
}

/// The dashboard gives `Cloudflare` to every key that it generates, and names that differ can be equal once they are
/// made clean.
fn names_one_holder(common_name: &str) -> bool {
    !common_name.is_empty() && common_name != "Cloudflare" && is_as_given(common_name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Expiry, Field, Texts};

    const NOW: i64 = 1_795_521_600;
    const DAY: i64 = SECONDS_PER_DAY;

    fn certificate(id: &str, common_name: &str, status: Status, days: i64) -> Certificate {
        Certificate {
            texts: Texts::from([(Field::Id, id), (Field::CommonName, common_name)]),
            status,
            expiry: Expiry::At(NOW + days * DAY),
            not_before: None,
        }
    }

    /// Name, status, days of issue and expiry, and whether it is superseded.
    type Row = (&'static str, Status, i64, i64, bool);

    fn assert_superseded(what: &str, rows: &[Row]) {
        let entries = rows.iter().enumerate().map(|(n, &(name, status, issued, expiry, _))| Certificate {
            not_before: Some(NOW + issued * DAY),
            ..certificate(&n.to_string(), name, status, expiry)
        });
        let listing = Listing::new(entries.collect());
        for certificate in listing.certificates() {
            let row = rows[certificate.id().parse::<usize>().unwrap()];
            assert_eq!(listing.is_superseded(certificate), row.4, "{what}: {row:?}");
        }
    }

    #[test]
    fn a_certificate_is_superseded_by_an_active_one_of_its_name_that_was_issued_late_in_its_life() {
        use Status::{Active, PendingRevocation, Revoked};
        let rows: &[(&str, &[Row])] = &[
            ("alone", &[("x", Active, 0, 365, false)]),
            ("renewed", &[("x", Active, 0, 365, true), ("x", Active, 340, 705, false)]),
            ("another name", &[("x", Active, 0, 365, false), ("y", Active, 340, 705, false)]),
            ("renewed after the expiry", &[("x", Active, 0, 365, true), ("x", Active, 400, 765, false)]),
            ("at exactly half", &[("x", Active, 0, 100, false), ("x", Active, 50, 150, false)]),
            ("just after half", &[("x", Active, 0, 99, true), ("x", Active, 50, 149, false)]),
            ("by a short one", &[("x", Active, 0, 365, true), ("x", Active, 360, 366, false)]),
            ("by one that ends with it", &[("x", Active, 0, 365, false), ("x", Active, 340, 365, false)]),
            ("by one that ends before", &[("x", Active, 0, 365, false), ("x", Active, 340, 364, false)]),
            ("by a revoked one", &[("x", Active, 0, 365, false), ("x", Revoked, 340, 705, false)]),
            ("being revoked", &[("x", PendingRevocation, 0, 365, true), ("x", Active, 340, 705, false)]),
            ("of two, the late one", &[("x", Active, 1, 400, true), ("x", Active, 390, 420, false)]),
            ("no name", &[("", Active, 0, 365, false), ("", Active, 340, 705, false)]),
            ("of the dashboard", &[("Cloudflare", Active, 0, 365, false), ("Cloudflare", Active, 340, 705, false)]),
            ("no life", &[("x", Active, 5, 5, true), ("x", Active, 6, 6, false)]),
            // Others may have had another name before it was made clean.
            ("replaced", &[("x\n", Active, 0, 365, false), ("x\t", Active, 340, 705, false)]),
            ("half a character", &[("x\u{fffd}", Active, 0, 365, false), ("x\u{fffd}", Active, 340, 705, false)]),
            // One of the two cannot be true.
            ("issued after its end", &[("x", Active, 9, 5, false), ("x", Active, 340, 705, false)]),
            ("by one issued after its end", &[("x", Active, 0, 365, false), ("x", Active, 900, 705, false)]),
        ];
        rows.iter().for_each(|(what, rows)| assert_superseded(what, rows));
    }

    #[test]
    fn of_a_fleet_nothing_is_superseded_until_its_certificates_are_revoked() {
        use Status::{Active, PendingReactivation, Revoked};
        let rows: &[(&str, &[Row])] = &[
            ("two devices", &[("x", Active, 0, 365, false), ("x", Active, 2, 367, false)]),
            ("three", &[("x", Active, 0, 365, false), ("x", Active, 300, 700, false), ("x", Active, 301, 800, false)]),
            // They were valid together long ago.
            (
                "expired",
                &[("x", Active, -900, -500, false), ("x", Active, -600, -200, false), ("x", Active, -501, -1, false)],
            ),
            (
                "for one day",
                &[("x", Active, 0, 100, false), ("x", Active, 90, 200, false), ("x", Active, 100, 300, false)],
            ),
            (
                "one was revoked",
                &[("x", Revoked, 0, 365, true), ("x", Active, 2, 367, true), ("x", Active, 350, 800, false)],
            ),
            (
                "one is not active yet",
                &[
                    ("x", PendingReactivation, 0, 365, true),
                    ("x", Active, 0, 366, true),
                    ("x", Active, 350, 800, false),
                ],
            ),
            (
                "a chain",
                &[
                    ("x", Active, 0, 100, true),
                    ("x", Active, 90, 190, true),
                    ("x", Active, 180, 280, true),
                    ("x", Active, 270, 370, true),
                    ("x", Active, 360, 460, false),
                ],
            ),
            (
                "beside another name",
                &[("x", Active, 0, 365, true), ("x", Active, 340, 705, false), ("y", Active, 0, 705, false)],
            ),
        ];
        rows.iter().for_each(|(what, rows)| assert_superseded(what, rows));
    }

    #[test]
    fn what_is_not_known_of_a_certificate_counts_against_its_being_superseded() {
        let renewed = |more: Option<Certificate>| {
            let old = Certificate { not_before: Some(NOW), ..certificate("old", "x", Status::Active, 365) };
            let new = Certificate { not_before: Some(NOW + 340 * DAY), ..certificate("new", "x", Status::Active, 705) };
            let listing = Listing::new([old.clone(), new].into_iter().chain(more).collect());
            listing.is_superseded(&old)
        };
        let third = || Certificate { not_before: Some(NOW + 370 * DAY), ..certificate("3", "x", Status::Active, 735) };
        assert!(renewed(None) && renewed(Some(third())));
        // It could be the third one of day 350.
        assert!(!renewed(Some(Certificate { not_before: None, ..third() })));
        assert!(!renewed(Some(Certificate { expiry: Expiry::Missing, not_before: None, ..third() })));
        assert!(!renewed(Some(Certificate { not_before: Some(NOW + 736 * DAY), ..third() })));
        assert!(renewed(Some(Certificate { expiry: Expiry::Invalid, ..third() })), "it was issued after day 365");

        let old = Certificate { not_before: Some(NOW), ..certificate("old", "x", Status::Active, 365) };
        let without_id = Certificate { not_before: Some(NOW + 340 * DAY), ..certificate("", "x", Status::Active, 705) };
        let undated = Certificate { not_before: None, ..certificate("new", "x", Status::Active, 705) };
        for successor in [without_id, undated] {
            assert!(!Listing::new(vec![old.clone(), successor]).is_superseded(&old));
        }
    }

    #[test]
    fn a_chain_of_renewals_takes_the_memory_of_one() {
        let chain = |name: &'static str, length: i64| {
            (0..length).map(move |n| Certificate {
                not_before: Some(NOW + n * 90 * DAY),
                ..certificate(&format!("{name}-{n}"), name, Status::Active, n * 90 + 100)
            })
        };
        let listing = Listing::new(chain("x", 50_000).chain(chain("y", 3)).collect());
        assert!(listing.successors.values().all(|Successors(of)| of.len() == 1));
        let superseded = listing.certificates().iter().filter(|certificate| listing.is_superseded(certificate));
        assert_eq!(superseded.count(), 50_001);
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
    fn entries_that_hold_the_same_certificate_count_and_the_usable_one_has_it() {
        let packed = |entry, id, status| {
            let certificate = certificate(id, "", status, 5);
            Certificate { texts: certificate.texts.with(Field::Entry, entry), ..certificate }
        };
        let (a, b) = (packed("a", "x", Status::Active), packed("b", "x", Status::BackupIssued));
        let of_b = packed("b", "y", Status::BackupIssued);
        for (mut packs, expected) in
            [(vec![a.clone(), b.clone()], [("x", "a"), ("b", "b")]), (vec![a, b, of_b], [("x", "a"), ("y", "b")])]
        {
            for _ in 0..2 {
                packs.reverse();
                let listing = Listing::of(Kind::Edge, packs.clone());
                assert_eq!((listing.count(Status::Active), listing.count(Status::BackupIssued)), (1, 1));
                assert_eq!((listing.rejected(Rejection::DuplicateId), listing.expiring(NOW, 7)), (1, 1));
                let rows = listing.certificates().iter().map(|one| (one.id(), one.entry_id()));
                assert!(rows.eq(expected), "{listing:?}");
                // After a restart they are judged again.
                let again = Listing::of(Kind::Edge, listing.certificates().to_vec());
                assert_eq!(again.by_status, listing.by_status);
            }
        }
    }

    #[test]
    fn certificates_that_agree_share_their_texts() {
        let issued_by = |id, issuer| Certificate {
            texts: Texts::from([(Field::Id, id), (Field::Issuer, issuer)]),
            ..certificate("", "", Status::Active, 5)
        };
        let listing = Listing::new(vec![issued_by("a", "x"), issued_by("b", "y"), issued_by("c", "x")]);
        let [a, b, c] = listing.certificates() else { panic!("{listing:?}") };
        assert!(a.texts.shares_with(&c.texts) && !a.texts.shares_with(&b.texts));
    }

    #[test]
    fn a_name_that_is_there_once_takes_no_memory() {
        let entries = (0..100).map(|n| certificate(&n.to_string(), &n.to_string(), Status::Active, n));
        assert_eq!(Listing::new(entries.collect()).successors.capacity(), 0);
    }

    /// Few names, and times so near each other that all of them matter.
    fn any_listing() -> impl Strategy<Value = Listing> {
        let time = || prop_oneof![40 => -9..9_i64, 1 => any::<i64>(), 1 => Just(i64::MIN), 1 => Just(i64::MAX)];
        let expiry = prop_oneof![8 => time().prop_map(Expiry::At), 1 => Just(Expiry::Missing)];
        let issued = prop_oneof![9 => time().prop_map(Some), 1 => Just(None)];
        let status = prop_oneof![3 => Just(Status::Active), 1 => proptest::sample::select(Kind::Client.statuses())];
        let name = proptest::sample::select(&["", "a", "b", "c", "d", "e", "Cloudflare"][..]);
        let entry = (0..30_u32, name, status, expiry, issued).prop_map(|(id, name, status, expiry, not_before)| {
            let id = if id == 0 { String::new() } else { id.to_string() };
            Certificate { expiry, not_before, ..certificate(&id, name, status, 0) }
        });
        proptest::collection::vec(entry, 0..16).prop_map(Listing::new)
    }

    /// Whether a certificate is good at this second, as far as its dates tell.
    fn could_be_valid(certificate: &Certificate, at: i64) -> bool {
        let (issued, expiry) = (certificate.not_before, certificate.not_after());
        let contradicts = issued.zip(expiry).is_some_and(|(issued, expiry)| issued > expiry);
        expiry.is_none_or(|expiry| at <= expiry) && (contradicts || issued.is_none_or(|issued| issued <= at))
    }

    fn any_now() -> impl Strategy<Value = i64> {
        prop_oneof![20 => -200_000..200_000_i64, 20 => -9..9_i64, 1 => Just(i64::MIN), 1 => Just(i64::MAX)]
    }

    proptest! {
        #[test]
        fn what_is_superseded_is_what_the_definition_says(listing in any_listing()) {
            for certificate in listing.certificates() {
                let namesakes = listing.certificates().iter().filter(|other| {
                    other.common_name() == certificate.common_name() && other.status == Status::Active
                });
                let namesakes: Vec<_> = namesakes.collect();
                // More are valid at no other moment than at some beginning or end, or at the first or last moment.
                let times = namesakes.iter().flat_map(|namesake| [namesake.not_before, namesake.not_after()]);
                let mut moments = times.flatten().chain([i64::MIN, i64::MAX]);
                let is_fleet = moments.any(|moment| {
                    namesakes.iter().filter(|namesake| could_be_valid(namesake, moment)).count() > 2
                });
                let life = |certificate: &Certificate| {
                    let (issued, expiry) = (certificate.not_before?, certificate.not_after()?);
                    (issued <= expiry).then_some((i128::from(issued), i128::from(expiry)))
                };
                let takes_its_place = |other: &Certificate| {
                    let (Some(own), Some(its)) = (life(certificate), life(other)) else { return false };
                    let (passed, lifetime) = (its.0 - own.0, own.1 - own.0);
                    other.rejection().is_none() && its.1 > own.1 && passed * 2 > lifetime
                };
                let expected = names_one_holder(certificate.common_name())
                    && !is_fleet
                    && namesakes.iter().any(|other| takes_its_place(other));
                prop_assert_eq!(listing.is_superseded(certificate), expected, "{:?}", certificate);
            }
        }

        #[test]
        fn what_changes_with_time_is_what_the_definition_says(listing in any_listing(), now in any_now(), days in 0..4_u32) {
            let usable = listing.certificates().iter().filter(|certificate| certificate.status.is_usable());
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
