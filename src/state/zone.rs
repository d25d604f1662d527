//! A zone's last good listing as JSON: what the metrics need of it, and when the zone is due.
//!
//! The types of `model` are described once more here, field by field, so that they need not know of
//! files. A field that is added there and not here does not compile.

use std::{borrow::Cow, fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, SeqAccess, Visitor},
};

use crate::model::{Certificate, Expiry, Field, Interner, Listing, Rejection, Status, ZoneId, clean};

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
        let record = Record::<Rows>::deserialize(deserializer)?;
        let listing = Listing::restored(record.certificates.0, record.duplicates, record.more_than_promised);
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

/// The certificates as they are written, one after the other.
struct Written<'a>(&'a [Certificate]);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Row::from))
    }
}

/// The certificates as they were read. Each becomes one of the model at once, so that no two forms of all of them
/// are in memory.
struct Rows(Vec<Certificate>);

impl<'de> Deserialize<'de> for Rows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EachRow;
        impl<'de> Visitor<'de> for EachRow {
            type Value = Rows;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of certificates")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<Rows, A::Error> {
                let (mut certificates, mut interner) = (Vec::new(), Interner::default());
                while let Some(row) = rows.next_element::<Row<'_>>()? {
                    certificates.push(row.certificate(&mut interner));
                }
                Ok(Rows(certificates))
            }
        }
        deserializer.deserialize_seq(EachRow)
    }
}

/// One certificate. Its texts are borrowed: from the model, or from the file where nothing in them is escaped.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    common_name: Cow<'a, str>,
    #[serde(with = "StatusRecord")]
    status: Status,
    #[serde(with = "ExpiryRecord")]
    expiry: Expiry,
    #[serde(deserialize_with = "optional_time")]
    not_before: Option<i64>,
    #[serde(borrow)]
    serial_number: Cow<'a, str>,
    #[serde(borrow)]
    fingerprint_sha256: Cow<'a, str>,
    #[serde(borrow)]
    ski: Cow<'a, str>,
    #[serde(borrow)]
    issuer: Cow<'a, str>,
    #[serde(borrow)]
    signature: Cow<'a, str>,
    #[serde(borrow)]
    organization: Cow<'a, str>,
    #[serde(borrow)]
    organizational_unit: Cow<'a, str>,
    #[serde(borrow)]
    country: Cow<'a, str>,
    #[serde(borrow)]
    state: Cow<'a, str>,
    #[serde(borrow)]
    location: Cow<'a, str>,
}

impl<'a> From<&'a Certificate> for Row<'a> {
    fn from(certificate: &'a Certificate) -> Self {
        let Certificate { texts, status, expiry, not_before } = certificate;
        let [
            id,
            common_name,
            serial_number,
            fingerprint_sha256,
            ski,
            issuer,
            signature,
            organization,
            organizational_unit,
            country,
            state,
            location,
        ] = Field::ALL.map(|field| Cow::from(&texts[field]));
        Self {
            id,
            common_name,
            status: *status,
            expiry: *expiry,
            not_before: *not_before,
            serial_number,
            fingerprint_sha256,
            ski,
            issuer,
            signature,
            organization,
            organizational_unit,
            country,
            state,
            location,
        }
    }
}

impl Row<'_> {
    /// What is in a file was harmless when it was written; whoever can write files could have changed that.
    fn certificate(self, interner: &mut Interner) -> Certificate {
        Certificate {
            texts: interner.texts(&[
                self.id,
                self.common_name,
                self.serial_number,
                self.fingerprint_sha256,
                self.ski,
                self.issuer,
                self.signature,
                self.organization,
                self.organizational_unit,
                self.country,
                self.state,
                self.location,
            ]),
            status: self.status,
            expiry: self.expiry,
            not_before: self.not_before,
        }
    }
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

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    near(i64::deserialize(deserializer)?)
}

fn optional_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Option::<i64>::deserialize(deserializer)?.map(near).transpose()
}
