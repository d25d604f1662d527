//! What is polled: a zone, how often, and with which credential.

use std::{fmt, ops::RangeInclusive, str::FromStr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Kind;

/// One configured zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// What is listed in it.
    pub kind: Kind,
    /// Cloudflare's id of the zone.
    pub id: ZoneId,
    /// The name that the configuration gives; without one the API is asked.
    pub name: Option<Arc<str>>,
    /// The name of the credential that lists it.
    pub credential: Arc<str>,
    /// How often it is listed; within [`Zone::INTERVAL`].
    pub interval: Duration,
}

impl Zone {
    /// What `interval` can be.
    pub const INTERVAL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);

    /// What sets one listing from every other: two kinds can be listed in one zone.
    #[must_use]
    pub const fn key(&self) -> (Kind, &ZoneId) {
        (self.kind, &self.id)
    }
}

/// A zone id: 32 hexadecimal digits, kept in lower case as Cloudflare writes them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Box<str>")]
pub struct ZoneId(Arc<str>);

/// The text is no zone id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a zone id is 32 hexadecimal digits, as on the zone's overview page in the dashboard")]
pub struct InvalidZoneId;

impl ZoneId {
    /// The 32 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ZoneId {
    type Err = InvalidZoneId;

    fn from_str(text: &str) -> Result<Self, InvalidZoneId> {
        if text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self(text.to_ascii_lowercase().into()))
        } else {
            Err(InvalidZoneId)
        }
    }
}

impl TryFrom<Box<str>> for ZoneId {
    type Error = InvalidZoneId;

    fn try_from(text: Box<str>) -> Result<Self, InvalidZoneId> {
        text.parse()
    }
}

impl fmt::Display for ZoneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_id_is_32_hexadecimal_digits() {
        let id: ZoneId = "023E105F4ECEF8AD9CA31A8372D0C353".parse().unwrap();
        assert_eq!(id.as_str(), "023e105f4ecef8ad9ca31a8372d0c353");
        for wrong in [
            "",
            "example.com",
            "023e105f4ecef8ad9ca31a8372d0c35",
            "023e105f4ecef8ad9ca31a8372d0c3533",
            "g23e105f4ecef8ad9ca31a8372d0c353",
            "é23e105f4ecef8ad9ca31a8372d0c35",
        ] {
            assert_eq!(wrong.parse::<ZoneId>(), Err(InvalidZoneId), "{wrong:?}");
        }
    }
}
