//! Certificates as Cloudflare lists them.

use std::{collections::HashSet, sync::Arc};

use super::clean;

/// One entry of a listing. Texts are [`clean`]; a text that is absent is empty.
///
/// There can be a million of these. So nothing is kept that is not shown, texts of its own take no more than
/// their bytes, and what it has in common with others is held once for all of them. Common names are not
/// shared though some repeat: shared, each would take 16 bytes more where all differ, which is as usual.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Certificate {
    /// Cloudflare's id; empty where the entry had none.
    pub id: Box<str>,
    /// CN of the signing request. Not unique: see [`Listing::is_superseded`](super::Listing::is_superseded).
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
    /// What it has in common with others; one allocation for all of a listing that agree.
    pub profile: Arc<Profile>,
}

/// What certificates have in common that are made in the same way: who signed them, how, and for which subject
/// but for its common name. A zone with a hundred thousand of them has a handful of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Profile<T = Box<str>> {
    /// Name of the certificate authority.
    pub issuer: T,
    /// Signature algorithm.
    pub signature: T,
    /// O of the signing request.
    pub organization: T,
    /// OU of the signing request.
    pub organizational_unit: T,
    /// C of the signing request.
    pub country: T,
    /// ST of the signing request.
    pub state: T,
    /// L of the signing request.
    pub location: T,
}

impl<T: AsRef<str>> Profile<T> {
    /// The texts, in the order of the fields.
    #[must_use]
    pub fn texts(&self) -> [&str; 7] {
        let Self { issuer, signature, organization, organizational_unit, country, state, location } = self;
        [issuer, signature, organization, organizational_unit, country, state, location].map(AsRef::as_ref)
    }
}

/// Holds each profile once, for as long as certificates are put together.
#[derive(Debug, Default)]
pub struct Profiles {
    known: HashSet<Arc<Profile>>,
    /// What was asked for last is asked for next, nearly always.
    last: Option<Arc<Profile>>,
}

impl Profiles {
    /// The profile with these texts, once they are [`clean`].
    pub fn of<T: AsRef<str>>(&mut self, texts: &Profile<T>) -> Arc<Profile> {
        // What is equal to a clean text is clean.
        if let Some(last) = self.last.as_ref().filter(|last| last.texts() == texts.texts()) {
            return Arc::clone(last);
        }
        let [issuer, signature, organization, organizational_unit, country, state, location] = texts.texts().map(clean);
        let profile = Profile { issuer, signature, organization, organizational_unit, country, state, location };
        self.share(Arc::new(profile))
    }

    /// The profile that is equal to this one and was there before, or this one from now on.
    pub fn share(&mut self, profile: Arc<Profile>) -> Arc<Profile> {
        if let Some(last) = self.last.as_ref().filter(|last| **last == profile) {
            return Arc::clone(last);
        }
        let shared = match self.known.get(&profile) {
            Some(known) => Arc::clone(known),
            None => {
                self.known.insert(Arc::clone(&profile));
                profile
            }
        };
        self.last = Some(Arc::clone(&shared));
        shared
    }
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Expiry {
    /// Unix seconds.
    At(i64),
    /// Absent, null, empty, or Go's zero time.
    Missing,
    /// There, but no date.
    Invalid,
}

/// Where a certificate is in its life. An expired one is still `active`: Cloudflare has no status for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_that_agree_are_one_allocation_and_clean() {
        let texts = |organization| Profile { organization, ..Profile::default() };
        let mut profiles = Profiles::default();
        let first = profiles.of(&texts("two\nlines"));
        let other = profiles.of(&texts("other"));
        assert_eq!(&*first.organization, "two\u{fffd}lines");
        for again in [
            profiles.of(&texts("two\nlines")),
            profiles.of(&texts("two\u{fffd}lines")),
            profiles.share(Arc::new(Profile::clone(&first))),
        ] {
            assert!(Arc::ptr_eq(&again, &first));
        }
        assert!(Arc::ptr_eq(&profiles.share(Arc::clone(&other)), &other));
        assert!(!Arc::ptr_eq(&first, &other));
    }
}
