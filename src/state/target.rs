//! What is saved of a zone: its last good listing, and when it is due.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::model::{Kind, Listing, ScopeId, Target, clean};

/// A zone as it survives a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedTarget {
    /// What is listed in it.
    pub kind: Kind,
    /// Which zone.
    #[serde(rename = "zone_id")]
    pub id: ScopeId,
    /// What the API says that it is called, if that was asked.
    #[serde(deserialize_with = "name")]
    pub name: Option<Arc<str>>,
    /// When the listing was completed, or else when it was polled, in Unix seconds.
    #[serde(deserialize_with = "time")]
    pub completed: i64,
    /// When the zone is to be listed next, in Unix milliseconds: intervals can be as short as a second.
    #[serde(deserialize_with = "time")]
    pub due_ms: i64,
    /// The last good listing; `None` if there was none, as what is not on the plan has none.
    pub listing: Option<Arc<Listing>>,
    /// Whether the plan includes the kind.
    pub available: bool,
}

impl SavedTarget {
    /// Whether it was saved for this zone.
    #[must_use]
    pub fn is_of(&self, zone: &Target) -> bool {
        self.kind == zone.kind && self.id == zone.id
    }
}

/// What is in a file was harmless when it was written; anyone who can write files could have changed that.
fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Arc<str>>, D::Error> {
    let name = Option::<Box<str>>::deserialize(deserializer)?;
    Ok(name.map(|name| clean(&name).into()))
}

/// A time that can be reckoned with, in seconds and in milliseconds.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    const FARTHEST: i64 = i64::MAX / 2000;
    let time = i64::deserialize(deserializer)?;
    if (-FARTHEST..=FARTHEST).contains(&time) { Ok(time) } else { Err(D::Error::custom("a time is out of range")) }
}
