//! What is saved of the discovery of zones with one credential.

use serde::{Deserialize, Serialize};

use crate::model::{ScopeId, Zone};

/// The zones that a credential sees, as they survive a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedDiscovery {
    /// The name of the credential.
    pub credential: String,
    /// Tells which filter the zones were asked for with.
    pub filter: u32,
    /// When the last good discovery was completed, in Unix seconds.
    pub completed: i64,
    /// When the zones are to be discovered next, in Unix milliseconds.
    pub due_ms: i64,
    /// Every zone that was found, whether it is watched or not.
    pub zones: Vec<Zone>,
    /// Those of them that the last good discovery lacked.
    pub missing: Vec<ScopeId>,
}

impl SavedDiscovery {
    /// Whether it was saved for the credential of this name.
    #[must_use]
    pub fn is_of(&self, credential: &str) -> bool {
        self.credential == credential
    }
}
