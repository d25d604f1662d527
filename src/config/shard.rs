//! The section `[shard]`, and the flags that beat it.

use std::ops::RangeInclusive;

use super::{
    Context,
    document::{Entry, Place, Section, integer},
};
use crate::model::Shard;

/// What the command line says of the shard. It beats the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardFlags {
    /// Which one, counted from 0.
    pub ordinal: Option<u32>,
    /// How many there are; within [`Shard::TOTAL`].
    pub total: Option<u32>,
}

impl Context<'_> {
    pub(super) fn read_shard(&self, mut section: Section<'_>) -> Shard {
        let number = |entry: Option<&Entry<'_>>, range: RangeInclusive<u32>, default| {
            entry.map_or(Some(default), |entry| entry.read(integer(range)))
        };
        let entry = section.take("ordinal");
        let ordinal = number(entry.as_ref(), 0..=*Shard::TOTAL.end() - 1, Shard::WHOLE.ordinal);
        let total = number(section.take("total").as_ref(), Shard::TOTAL, Shard::WHOLE.total);
        section.finish();
        let (Some(ordinal), Some(total)) = (self.flags.ordinal.or(ordinal), self.flags.total.or(total)) else {
            return Shard::WHOLE;
        };
        if ordinal >= total {
            let text = format!("{ordinal} is not below the number of shards, {total}; ordinals begin with 0");
            match entry {
                _ if self.flags.ordinal.is_some() => self.report.mistake_outside("--shard", text),
                Some(entry) => self.report.mistake(&entry.place, text),
                None => self.report.mistake(&Place::absent("shard.ordinal"), text),
            }
        }
        Shard { ordinal, total }
    }
}
