//! What is discovered: which zones, with which credentials, and how often.

use std::{sync::Arc, time::Duration};

use crate::model::ZoneFilter;

/// The discovery of zones, where the configuration asks for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoverySettings {
    /// Which zones are watched.
    pub filter: ZoneFilter,
    /// How often they are discovered.
    pub interval: Duration,
    /// The names of the credentials that are asked. A zone that several see belongs to the first of them.
    pub credentials: Vec<Arc<str>>,
}
