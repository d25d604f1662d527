//! What is polled: one kind of certificate in a zone or account, how often, and with which credential.

use std::{fmt, ops::RangeInclusive, str::FromStr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Kind, Zone};

/// One kind of certificate in one zone or account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What is listed in it.
    pub kind: Kind,
    /// Cloudflare's id of the zone or account.
    pub id: ScopeId,
    /// The name that the configuration or the discovery gives; without one the API is asked.
    pub name: Option<Arc<str>>,
    /// What the discovery says of the zone that is listed, if it was discovered.
    pub zone: Option<Arc<Zone>>,
    /// The name of the credential that lists it.
    pub credential: Arc<str>,
    /// How often it is listed; within [`Target::INTERVAL`].
    pub interval: Duration,
}

impl Target {
    /// What `interval` can be.
    pub const INTERVAL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);

    /// How often a kind is asked for that the plan does not include, unless its interval is longer.
    pub const NOT_ON_PLAN_AGAIN: Duration = Duration::from_secs(86_400);

    /// What sets one target apart from every other: several kinds can be listed in one zone.
    #[must_use]
    pub const fn key(&self) -> (Kind, &ScopeId) {
        (self.kind, &self.id)
    }
}

/// The id of a zone or account: 32 hexadecimal digits, kept in lower case as Cloudflare writes them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Box<str>")]
pub struct ScopeId(Arc<str>);

/// The text is no such id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("an id is 32 hexadecimal digits, as on the overview page of the zone or account in the dashboard")]
pub struct InvalidScopeId;

impl ScopeId {
    /// The 32 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ScopeId {
    type Err = InvalidScopeId;

    fn from_str(text: &str) -> Result<Self, InvalidScopeId> {
        if text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self(text.to_ascii_lowercase().into()))
        } else {
            Err(InvalidScopeId)
        }
    }
}

impl TryFrom<Box<str>> for ScopeId {
    type Error = InvalidScopeId;

    fn try_from(text: Box<str>) -> Result<Self, InvalidScopeId> {
        text.parse()
    }
}

impl fmt::Display for ScopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_id_is_32_hexadecimal_digits() {
        let id: ScopeId = "023E105F4ECEF8AD9CA31A8372D0C353".parse().unwrap();
        assert_eq!(id.as_str(), "023e105f4ecef8ad9ca31a8372d0c353");
        for wrong in [
            "",
            "example.com",
            "023e105f4ecef8ad9ca31a8372d0c35",
            "023e105f4ecef8ad9ca31a8372d0c3533",
            "g23e105f4ecef8ad9ca31a8372d0c353",
            "é23e105f4ecef8ad9ca31a8372d0c35",
        ] {
            assert_eq!(wrong.parse::<ScopeId>(), Err(InvalidScopeId), "{wrong:?}");
        }
    }
}
