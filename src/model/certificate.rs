//! Certificates as Cloudflare lists them.

use serde::{Deserialize, Serialize};

use super::{Field, Status, Texts, words::words};

/// One entry of a listing.
///
/// There can be a million of these, so nothing is kept that is not shown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// What Cloudflare says about it in words.
    pub texts: Texts,
    /// Where it is in its life.
    pub status: Status,
    /// `expires_on`.
    pub expiry: Expiry,
    /// `issued_on`, where it can be read.
    pub not_before: Option<i64>,
}

impl Certificate {
    /// Cloudflare's id; empty where the entry had none.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.texts[Field::Id]
    }

    /// CN of the signing request.
    #[must_use]
    pub fn common_name(&self) -> &str {
        &self.texts[Field::CommonName]
    }

    /// The id that the API gives to the entry: that of the certificate, unless an entry can hold several.
    #[must_use]
    pub fn entry_id(&self) -> &str {
        match &self.texts[Field::Entry] {
            "" => self.id(),
            entry => entry,
        }
    }

    /// What stands for its entry if that holds no certificate.
    pub(super) fn entry_alone(&self) -> Self {
        let texts = Field::ALL.map(|field| match field {
            Field::Id => self.entry_id(),
            Field::SerialNumber | Field::FingerprintSha256 | Field::Ski | Field::Signature | Field::Rank => "",
            field => &self.texts[field],
        });
        Self { texts: Texts::new(&texts), status: self.status, expiry: Expiry::NoCertificate, not_before: None }
    }

    /// When it expires, where that is known.
    #[must_use]
    pub const fn not_after(&self) -> Option<i64> {
        match self.expiry {
            Expiry::At(time) => Some(time),
            Expiry::Missing | Expiry::Invalid | Expiry::NoCertificate => None,
        }
    }

    /// Why it has no series of its own, whatever the settings are.
    #[must_use]
    pub fn rejection(&self) -> Option<Rejection> {
        if self.id().is_empty() {
            return Some(Rejection::MissingId);
        }
        match self.expiry {
            Expiry::At(_) | Expiry::NoCertificate => None,
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

    /// The first second after `now` at which [`days_until_expiry`](Self::days_until_expiry) is another number.
    #[must_use]
    pub fn days_change_at(&self, now: i64) -> Option<i64> {
        let rest_of_day = self.not_after()?.saturating_sub(now).rem_euclid(SECONDS_PER_DAY);
        now.checked_add(rest_of_day + 1)
    }
}

/// Seconds in the days that are counted; certificates know no leap seconds.
pub const SECONDS_PER_DAY: i64 = 86_400;

/// What an entry says of its expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expiry {
    /// Unix seconds.
    At(i64),
    /// Absent, null, empty, or Go's zero time.
    Missing,
    /// There, but no date.
    Invalid,
    /// The entry holds no certificate, as while the first one is being issued.
    NoCertificate,
}

words! {
    /// Why an entry of a good listing has no series of its own.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Rejection {
        /// Nothing to tell it from others.
        MissingId = "missing_id",
        /// No expiry.
        MissingExpiry = "missing_expiry",
        /// An expiry that is no date.
        InvalidExpiry = "invalid_expiry",
        /// Listed before.
        DuplicateId = "duplicate_id",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_days_change_where_it_says() {
        let mut certificate = Certificate {
            texts: Texts::default(),
            status: Status::Active,
            expiry: Expiry::At(10 * SECONDS_PER_DAY),
            not_before: None,
        };
        for now in [0, 1, SECONDS_PER_DAY - 1, SECONDS_PER_DAY, 10 * SECONDS_PER_DAY, 10 * SECONDS_PER_DAY + 1] {
            let change = certificate.days_change_at(now).unwrap();
            let days = certificate.days_until_expiry(now).unwrap();
            assert_eq!(certificate.days_until_expiry(change - 1), Some(days), "{now}");
            assert_eq!(certificate.days_until_expiry(change), Some(days - 1), "{now}");
        }
        certificate.expiry = Expiry::Missing;
        assert_eq!(certificate.days_change_at(0), None);
    }

    #[test]
    fn a_certificate_takes_no_more_memory_than_it_must() {
        assert!(size_of::<Certificate>() <= 80, "{}", size_of::<Certificate>());
    }
}
