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
    /// So many go from the beginning to the end.
    Rotates(usize),
    /// Every entry gets another value in a field.
    Sets(&'static str, fn() -> String),
}

impl Change {
    pub(super) fn make<E: ListedEntry>(self, entries: &mut Vec<E>) {
        match self {
            Self::Grows => entries.insert(0, E::another(entries)),
            Self::Shrinks => drop(entries.drain(..entries.len().min(1))),
            Self::Reorders => entries.reverse(),
            Self::Rotates(by) => entries.rotate_left(by),
            Self::Sets(field, value) => {
                let value = value();
                entries.iter_mut().for_each(|entry| entry.set(field, &value));
            }
        }
    }
}

/// What a listing holds, as far as faults care.
pub(crate) trait ListedEntry: Sized {
    /// Another one, beside those that there are.
    fn another(entries: &[Self]) -> Self;

    /// Gives a field another value.
    fn set(&mut self, field: &str, value: &str);
}

impl ListedEntry for SimulatedCertificate {
    fn another(entries: &[Self]) -> Self {
        let name = format!("issued-while-read-{}", entries.len());
        Self::new(&uuid(&name), &name, "active", "2026-01-01T00:00:00Z", "2036-01-01T00:00:00Z")
    }

    fn set(&mut self, field: &str, value: &str) {
        Self::set(self, field, value);
    }
}

impl ListedEntry for SimulatedZone {
    fn another(entries: &[Self]) -> Self {
        Self::new(&format!("added-while-read-{}.example", entries.len()))
    }

    /// The fields of a zone are its own.
    fn set(&mut self, _field: &str, _value: &str) {}
}

impl ListedEntry for Value {
    fn another(entries: &[Self]) -> Self {
        let mut entry = entries.first().cloned().unwrap_or_else(|| json!({"id": ""}));
        for id in ["/id", "/certificates/0/id", "/ssl/certificates/0/id"] {
            if let Some(old) = entry.pointer_mut(id) {
                *old = json!(uuid(&format!("issued-while-read-{}{id}", entries.len())));
            }
        }
        entry
    }

    fn set(&mut self, field: &str, value: &str) {
        self[field] = json!(value);
    }
}
