//! What a list can hold.

use std::hash::Hash;

use crate::model::{Baseline, Certificate, Comparison, Field, Zone};

/// What a list holds: an entry of it, or a part of one.
pub(in crate::cloudflare) trait Item: Hash + Sized {
    /// Its id; empty if it has none.
    fn id(&self) -> &str;

    /// Tells the entry that it is a part of from others; empty if it is the whole of one.
    fn entry(&self) -> &str {
        ""
    }

    /// Compares the whole list with what was known of it.
    fn compare(_baseline: &Baseline, _items: &[Self]) -> Comparison {
        Comparison::Believed { vanished: 0 }
    }

    /// The id of its entry.
    fn entry_id(&self) -> &str {
        match self.entry() {
            "" => self.id(),
            entry => entry,
        }
    }
}

impl Item for Certificate {
    fn id(&self) -> &str {
        self.id()
    }

    fn entry(&self) -> &str {
        &self.texts[Field::Entry]
    }

    fn compare(baseline: &Baseline, items: &[Self]) -> Comparison {
        baseline.compare(&items.iter().map(Self::id).collect())
    }
}

/// Zones that are gone are not doubted here: it takes two discoveries to believe that.
impl Item for Zone {
    fn id(&self) -> &str {
        self.id.as_str()
    }
}
