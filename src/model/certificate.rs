//! Certificates as Cloudflare lists them, and a whole listing of a zone.

use std::collections::{HashMap, HashSet};

/// One entry of a listing. Texts are [`clean`](super::clean); a text that is absent is empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Certificate {
    /// Cloudflare's id; empty where the entry had none.
    pub id: Box<str>,
    /// CN of the signing request. Not unique: see [`Listing::is_superseded`].
    pub common_name: Box<str>,
    /// Where it is in its life.
    pub status: Status,
    /// `expires_on`.
    pub expiry: Expiry,
    /// `issued_on`, where it can be read.
    pub not_before: Option<i64>,
    /// Opaque: decimal in some answers, hexadecimal in others.
    pub serial_number: Box<str>,
    /// Lower-case hexadecimal.
    pub fingerprint_sha256: Box<str>,
    /// Subject key identifier.
    pub ski: Box<str>,
    /// Name of the certificate authority.
    pub issuer: Box<str>,
    /// Signature algorithm.
    pub signature: Box<str>,
    /// O of the signing request.
    pub organization: Box<str>,
    /// OU of the signing request.
    pub organizational_unit: Box<str>,
    /// C of the signing request.
    pub country: Box<str>,
    /// ST of the signing request.
    pub state: Box<str>,
    /// L of the signing request.
    pub location: Box<str>,
}

impl Certificate {
    /// When it expires, where that is known.
    #[must_use]
    pub const fn not_after(&self) -> Option<i64> {
        match self.expiry {
            Expiry::At(time) => Some(time),
            Expiry::Missing | Expiry::Invalid => None,
        }
    }

    /// Why it has no series of its own, whatever the settings are.
    #[must_use]
    pub fn rejection(&self) -> Option<Rejection> {
        if self.id.is_empty() {
            return Some(Rejection::MissingId);
        }
        match self.expiry {
            Expiry::At(_) => None,
            Expiry::Missing => Some(Rejection::MissingExpiry),
            Expiry::Invalid => Some(Rejection::InvalidExpiry),
        }
    }

    /// Whether its expiry is over; a certificate is good through its last second.
    #[must_use]
    pub fn is_expired(&self, now: i64) -> bool {
        self.not_after().is_some_and(|time| time < now)
    }

    /// Whole days from `now` to the expiry, rounded down.
    #[must_use]
    pub fn days_until_expiry(&self, now: i64) -> Option<i64> {
        self.not_after().map(|time| time.saturating_sub(now).div_euclid(SECONDS_PER_DAY))
    }
}

/// Seconds in the days that are counted; certificates know no leap seconds.
pub const SECONDS_PER_DAY: i64 = 86_400;

/// What an entry says of its expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expiry {
    /// Unix seconds.
    At(i64),
    /// Absent, null, empty, or Go's zero time.
    Missing,
    /// There, but no date.
    Invalid,
}

/// Where a certificate is in its life. An expired one is still `active`: Cloudflare has no status for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Accepted.
    Active,
    /// Being restored.
    PendingReactivation,
    /// Being revoked, still accepted perhaps.
    PendingRevocation,
    /// No longer accepted; listed for ever.
    Revoked,
    /// Absent, or a word that is not documented.
    Unknown,
}

impl Status {
    /// Every status, in the order of the documentation.
    pub const ALL: [Self; 5] =
        [Self::Active, Self::PendingReactivation, Self::PendingRevocation, Self::Revoked, Self::Unknown];

    /// The word, as the API, the configuration and the metrics write it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::PendingReactivation => "pending_reactivation",
            Self::PendingRevocation => "pending_revocation",
            Self::Revoked => "revoked",
            Self::Unknown => "unknown",
        }
    }

    /// The status that the word means, if any.
    #[must_use]
    pub fn from_label(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.label() == word)
    }
}

/// Why an entry of a good listing has no series of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// Nothing to tell it from others.
    MissingId,
    /// No expiry.
    MissingExpiry,
    /// An expiry that is no date.
    InvalidExpiry,
    /// Listed before.
    DuplicateId,
}

impl Rejection {
    /// Every rejection, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::MissingId, Self::MissingExpiry, Self::InvalidExpiry, Self::DuplicateId];

    /// The label value.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::MissingId => "missing_id",
            Self::MissingExpiry => "missing_expiry",
            Self::InvalidExpiry => "invalid_expiry",
            Self::DuplicateId => "duplicate_id",
        }
    }
}

/// Every certificate of one zone, read whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    certificates: Vec<Certificate>,
    by_status: [u64; Status::ALL.len()],
    rejected: [u64; Rejection::ALL.len()],
    /// The API said that there would be fewer entries.
    pub more_than_promised: bool,
    /// Sorted expiries of the active certificates of each name that can be renewed.
    renewals: HashMap<Box<str>, Vec<i64>>,
}

impl Listing {
    /// Judges the entries. Where an id is there twice, the last one counts: it was read last.
    #[must_use]
    pub fn new(entries: Vec<Certificate>) -> Self {
        let mut listing = Self::default();
        let total = entries.len();
        let mut seen = HashSet::with_capacity(total);
        let mut certificates: Vec<Certificate> =
            entries.into_iter().rev().filter(|entry| entry.id.is_empty() || seen.insert(entry.id.clone())).collect();
        // Sorting leaves equals, which entries without an id are, in the order in which they came.
        certificates.reverse();
        certificates.sort_by(|a, b| {
            // `None` is the undated: last.
            (a.not_after().is_none(), a.not_after(), &a.id).cmp(&(b.not_after().is_none(), b.not_after(), &b.id))
        });
        listing.rejected[Rejection::DuplicateId as usize] = (total - certificates.len()) as u64;
        for certificate in &certificates {
            listing.by_status[certificate.status as usize] += 1;
            if let Some(rejection) = certificate.rejection() {
                listing.rejected[rejection as usize] += 1;
            } else if let Some(time) = certificate.not_after()
                && certificate.status == Status::Active
                && names_one_holder(&certificate.common_name)
            {
                listing.renewals.entry(certificate.common_name.clone()).or_default().push(time);
            }
        }
        listing.certificates = certificates;
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
        let usable = self.certificates.iter().filter(|certificate| certificate.status != Status::Revoked);
        usable.filter(|certificate| certificate.is_expired(now)).count()
    }

    /// The soonest expiry that is not over, among those that are not revoked.
    #[must_use]
    pub fn next_expiry(&self, now: i64) -> Option<i64> {
        let usable = self.certificates.iter().filter(|certificate| certificate.status != Status::Revoked);
        usable.filter_map(Certificate::not_after).find(|&time| time >= now)
    }

    /// Whether another active certificate of the same name expires later.
    ///
    /// Never for a name that says nothing of its holder, and never where more than two unexpired
    /// active certificates bear it: that is a fleet, not a renewal.
    #[must_use]
    pub fn is_superseded(&self, certificate: &Certificate, now: i64) -> bool {
        let Some(own) = certificate.not_after() else { return false };
        self.renewals.get(&certificate.common_name).is_some_and(|expiries| {
            let unexpired = expiries.len() - expiries.partition_point(|&time| time < now);
            expiries.last().is_some_and(|&last| last > own) && unexpired <= 2
        })
    }
}

/// The dashboard gives `Cloudflare` to every key that it generates.
fn names_one_holder(common_name: &str) -> bool {
    !common_name.is_empty() && common_name != "Cloudflare"
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_521_600;
    const DAY: i64 = SECONDS_PER_DAY;

    fn certificate(id: &str, common_name: &str, status: Status, days: i64) -> Certificate {
        Certificate {
            id: id.into(),
            common_name: common_name.into(),
            status,
            expiry: Expiry::At(NOW + days * DAY),
            not_before: None,
            serial_number: "".into(),
            fingerprint_sha256: "".into(),
            ski: "".into(),
            issuer: "".into(),
            signature: "".into(),
            organization: "".into(),
            organizational_unit: "".into(),
            country: "".into(),
            state: "".into(),
            location: "".into(),
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
}
