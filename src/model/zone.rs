//! A zone and its account, as `GET /zones` describes them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ScopeId;

/// A zone that a credential sees.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// Cloudflare's id of it.
    pub id: ScopeId,
    /// Its domain.
    pub name: Arc<str>,
    /// Cloudflare's word for its state, such as `active` or `pending`. Any word is possible.
    pub status: Arc<str>,
    /// The account that it belongs to, where Cloudflare says so.
    pub account: Option<Account>,
}

/// What a whole list of zones holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ZoneList {
    /// Each zone once, by name.
    pub zones: Vec<Zone>,
    /// Entries without a usable id. Any zone that the list lacks may be one of them.
    pub unreadable: usize,
}

impl From<Vec<Zone>> for ZoneList {
    fn from(zones: Vec<Zone>) -> Self {
        Self { zones, unreadable: 0 }
    }
}

/// An account, as its zones describe it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Cloudflare's id of it.
    pub id: ScopeId,
    /// What its owner calls it; its id where there is no name.
    pub name: Arc<str>,
}
