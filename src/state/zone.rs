//! A zone's last good listing as JSON: what the metrics need of it, and when the zone is due.
//!
//! The types of `model` are described once more here, field by field, so that they need not know of
//! files. A field that is added there and not here does not compile.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::model::{Certificate, Expiry, Listing, Rejection, Status, ZoneId, clean};

/// No date that is read is further from 1970 than this many seconds, some 300,000 years.
const FARTHEST: i64 = 10_000_000_000_000;

/// A zone as it survives a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedZone {
    /// Which zone.
    pub id: ZoneId,
    /// What the API says that it is called, if that was asked.
    pub name: Option<Arc<str>>,
    /// The last good listing.
    pub listing: Arc<Listing>,
    /// When it was completed, in Unix seconds.
    pub completed: i64,
    /// When the zone is to be listed next, in Unix milliseconds: intervals can be as short as a second.
    pub due_ms: i64,
}

/// The same as it stands in the file, with the certificates to be written or as they were read.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record<C> {
    zone_id: Box<str>,
    name: Option<Box<str>>,
    completed: i64,
    due_ms: i64,
    more_than_promised: bool,
    duplicates: u64,
    certificates: C,
}

impl Serialize for SavedZone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let record = Record {
            zone_id: self.id.as_str().into(),
            name: self.name.as_deref().map(Box::from),
            completed: self.completed,
            due_ms: self.due_ms,
            more_than_promised: self.listing.more_than_promised,
            duplicates: self.listing.rejected(Rejection::DuplicateId),
            certificates: Written(self.listing.certificates()),
        };
        record.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SavedZone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let record = Record::<Vec<Read>>::deserialize(deserializer)?;
        let certificates = record.certificates.into_iter().map(|Read(certificate)| certificate).collect();
        let listing = Listing::restored(certificates, record.duplicates, record.more_than_promised);
        Ok(Self {
            id: record.zone_id.parse().map_err(D::Error::custom)?,
            name: record.name.map(|name| clean(&name).into()),
            listing: Arc::new(listing),
            completed: near(record.completed)?,
            due_ms: near(record.due_ms / 1000).map(|_| record.due_ms)?,
        })
    }
}

fn near<E: serde::de::Error>(time: i64) -> Result<i64, E> {
    if (-FARTHEST..=FARTHEST).contains(&time) { Ok(time) } else { Err(E::custom("a time is out of range")) }
}

struct Written<'a>(&'a [Certificate]);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Row<'a>(&'a Certificate);
        impl Serialize for Row<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                CertificateRecord::serialize(self.0, serializer)
            }
        }
        serializer.collect_seq(self.0.iter().map(Row))
    }
}

#[derive(Deserialize)]
struct Read(#[serde(with = "CertificateRecord")] Certificate);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Certificate", deny_unknown_fields)]
struct CertificateRecord {
    #[serde(with = "text")]
    id: Box<str>,
    #[serde(with = "text")]
    common_name: Box<str>,
    #[serde(with = "StatusRecord")]
    status: Status,
    #[serde(with = "ExpiryRecord")]
    expiry: Expiry,
    #[serde(deserialize_with = "optional_time")]
    not_before: Option<i64>,
    #[serde(with = "text")]
    serial_number: Box<str>,
    #[serde(with = "text")]
    fingerprint_sha256: Box<str>,
    #[serde(with = "text")]
    ski: Box<str>,
    #[serde(with = "text")]
    issuer: Box<str>,
    #[serde(with = "text")]
    signature: Box<str>,
    #[serde(with = "text")]
    organization: Box<str>,
    #[serde(with = "text")]
    organizational_unit: Box<str>,
    #[serde(with = "text")]
    country: Box<str>,
    #[serde(with = "text")]
    state: Box<str>,
    #[serde(with = "text")]
    location: Box<str>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Status", rename_all = "snake_case")]
enum StatusRecord {
    Active,
    PendingReactivation,
    PendingRevocation,
    Revoked,
    Unknown,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Expiry", rename_all = "snake_case")]
enum ExpiryRecord {
    At(#[serde(deserialize_with = "time")] i64),
    Missing,
    Invalid,
}

/// What is in a file was harmless when it was written; whoever can write files could have changed that.
mod text {
    use std::fmt;

    use serde::{Deserializer, Serializer, de::Visitor};

    use crate::model::clean;

    pub(super) fn serialize<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<str>, D::Error> {
        struct Clean;
        impl Visitor<'_> for Clean {
            type Value = Box<str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<Box<str>, E> {
                Ok(clean(text))
            }
        }
        deserializer.deserialize_str(Clean)
    }
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    near(i64::deserialize(deserializer)?)
}

fn optional_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Option::<i64>::deserialize(deserializer)?.map(near).transpose()
}
