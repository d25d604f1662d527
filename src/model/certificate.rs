//! Certificates as Cloudflare lists them.

use std::{cmp::Ordering, collections::HashSet, sync::Arc};

use super::{
    clean,
    text::{MAX_TEXT_CHARS, append_clean},
};

/// One entry of a listing. Texts are [`clean`]; a text that is absent is empty.
///
/// There can be a million of these. So nothing is kept that is not shown, the texts of its own are one allocation,
/// and what it has in common with others is held once for all of them. Common names are not shared though some
/// repeat: shared, each would take 16 bytes more where all differ, which is as usual.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Certificate {
    /// What no other has, nearly always.
    pub identity: PackedIdentity,
    /// Where it is in its life.
    pub status: Status,
    /// `expires_on`.
    pub expiry: Expiry,
    /// `issued_on`, where it can be read.
    pub not_before: Option<i64>,
    /// What it has in common with others; one allocation for all of a listing that agree.
    pub profile: Arc<Profile>,
}

/// The texts that tell a certificate from others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity<T> {
    /// Cloudflare's id; empty where the entry had none.
    pub id: T,
    /// CN of the signing request. Not unique: see [`Listing::is_superseded`](super::Listing::is_superseded).
    pub common_name: T,
    /// Opaque: decimal in some answers, hexadecimal in others.
    pub serial_number: T,
    /// Lower-case hexadecimal.
    pub fingerprint_sha256: T,
    /// Subject key identifier.
    pub ski: T,
}

impl<T: AsRef<str>> Identity<T> {
    /// The texts, in the order of the fields.
    #[must_use]
    pub fn texts(&self) -> [&str; 5] {
        let Self { id, common_name, serial_number, fingerprint_sha256, ski } = self;
        [id, common_name, serial_number, fingerprint_sha256, ski].map(AsRef::as_ref)
    }
}

/// An identity in one allocation: by itself each text takes up to 31 bytes more, and whoever reads a hundred thousand
/// certificates waits for memory most of the time.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PackedIdentity {
    texts: Box<str>,
    /// Where each text but the last one ends.
    ends: [u16; 4],
}

// An end is no larger than this.
const _: () = assert!(5 * MAX_TEXT_CHARS * 4 <= u16::MAX as usize);

impl PackedIdentity {
    /// The identity with these texts, once they are [`clean`](super::clean).
    pub fn new<T: AsRef<str>>(identity: &Identity<T>) -> Self {
        let texts = identity.texts();
        let mut all = String::with_capacity(texts.iter().map(|text| text.len()).sum());
        let ends = texts.map(|text| {
            append_clean(&mut all, text);
            u16::try_from(all.len()).unwrap_or(u16::MAX)
        });
        Self { texts: all.into(), ends: [ends[0], ends[1], ends[2], ends[3]] }
    }

    /// The texts.
    #[must_use]
    pub fn unpacked(&self) -> Identity<&str> {
        let [id, common_name, serial_number, fingerprint_sha256] = self.ends;
        let text = |start: u16, end: usize| self.texts.get(start.into()..end).unwrap_or_default();
        Identity {
            id: text(0, id.into()),
            common_name: text(id, common_name.into()),
            serial_number: text(common_name, serial_number.into()),
            fingerprint_sha256: text(serial_number, fingerprint_sha256.into()),
            ski: text(fingerprint_sha256, self.texts.len()),
        }
    }
}

impl std::fmt::Debug for PackedIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.unpacked().fmt(f)
    }
}

impl PartialOrd for PackedIdentity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PackedIdentity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.unpacked().cmp(&other.unpacked())
    }
}

impl<T: AsRef<str>> From<Identity<T>> for PackedIdentity {
    fn from(identity: Identity<T>) -> Self {
        Self::new(&identity)
    }
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
    /// Cloudflare's id; empty where the entry had none.
    #[must_use]
    pub fn id(&self) -> &str {
        self.identity.unpacked().id
    }

    /// CN of the signing request.
    #[must_use]
    pub fn common_name(&self) -> &str {
        self.identity.unpacked().common_name
    }

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
        if self.identity.ends[0] == 0 {
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
