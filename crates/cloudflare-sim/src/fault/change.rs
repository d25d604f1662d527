//! Listings that change while they are read.

use serde_json::{Value, json};

use crate::world::{SimulatedCertificate, SimulatedZone, uuid};

/// How a listing changes while it is read.
#[derive(Debug, Clone, Copy)]
pub enum Change {
    /// A new entry comes first, so that all others move on by one and the last of a page is the first of the next.
    Grows,
    /// The first one goes, so that the first of a page is on the page before.
    Shrinks,
    /// The order is turned round.
    Reorders,
}

impl Change {
    pub(super) fn make<E: ListedEntry>(self, entries: &mut Vec<E>) {
        match self {
            Self::Grows => entries.insert(0, E::another(entries)),
            Self::Shrinks if entries.is_empty() => {}
            Self::Shrinks => drop(entries.remove(0)),
            Self::Reorders => entries.reverse(),
        }
    }
}

/// What a listing holds, as far as faults care.
pub(crate) trait ListedEntry: Sized {
    /// Another one, beside those that there are.
    fn another(entries: &[Self]) -> Self;

    /// The same entries as client certificates, if that is what they are.
    fn certificates(_entries: &mut Vec<Self>) -> Option<&mut Vec<SimulatedCertificate>> {
        None
    }
}

impl ListedEntry for SimulatedCertificate {
    fn another(entries: &[Self]) -> Self {
        let name = format!("issued-while-read-{}", entries.len());
        Self::new(&uuid(&name), &name, "active", "2026-01-01T00:00:00Z", "2036-01-01T00:00:00Z")
    }

    fn certificates(entries: &mut Vec<Self>) -> Option<&mut Vec<SimulatedCertificate>> {
        Some(entries)
    }
}

impl ListedEntry for SimulatedZone {
    fn another(entries: &[Self]) -> Self {
        Self::new(&format!("added-while-read-{}.example", entries.len()))
    }
}

impl ListedEntry for Value {
    fn another(entries: &[Self]) -> Self {
        let mut entry = entries.first().cloned().unwrap_or_else(|| json!({}));
        entry["id"] = json!(uuid(&format!("issued-while-read-{}", entries.len())));
        entry
    }
}
