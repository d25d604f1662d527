//! Which share of the zones and accounts this process watches.
//!
//! The convention is that of kube-state-metrics: a jump consistent hash (Lamping and Veach, 2014) of the FNV-1a sum, in 64
//! bits, of the id. When the number of shards grows from n to n + 1, one in n + 1 ids moves, and each of these to the new
//! shard.

use std::ops::RangeInclusive;

use super::ScopeId;

/// One of several processes that share the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Which one, counted from 0.
    pub ordinal: u32,
    /// How many there are; at least 1.
    pub total: u32,
}

impl Shard {
    /// The one that does all the work.
    pub const WHOLE: Self = Self { ordinal: 0, total: 1 };

    /// How many there can be.
    pub const TOTAL: RangeInclusive<u32> = 1..=1000;

    /// Whether this shard watches the zone or account.
    #[must_use]
    pub fn owns(self, id: &ScopeId) -> bool {
        self.total == 1 || Self::of(id, self.total) == self.ordinal
    }

    /// This shard's part of a budget for all of them; never nothing.
    #[must_use]
    pub fn share_of(self, budget: u32) -> u32 {
        (budget / self.total).max(1)
    }

    /// The ordinal of the shard, of so many, that watches the zone or account.
    #[must_use]
    pub fn of(id: &ScopeId, total: u32) -> u32 {
        jump_hash(fnv1a(id.as_str().as_bytes()), total)
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self::WHOLE
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.iter().fold(OFFSET_BASIS, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(PRIME))
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the algorithm is defined by these conversions, and its numbers are small"
)]
fn jump_hash(mut key: u64, buckets: u32) -> u32 {
    let (mut bucket, mut next) = (0, 0);
    while next < u64::from(buckets) {
        bucket = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = ((bucket + 1) as f64 * ((1_u64 << 31) as f64 / ((key >> 33) + 1) as f64)) as u64;
    }
    bucket as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> ScopeId {
        format!("{number:032x}").parse().unwrap()
    }

    #[test]
    fn the_sum_is_fnv_1a() {
        // Test vectors of the algorithm's authors.
        for (text, sum) in
            [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)]
        {
            assert_eq!(fnv1a(text.as_bytes()), sum, "{text:?}");
        }
    }

    #[test]
    fn the_hash_is_the_published_one() {
        // Of the tests of the Go package that kube-state-metrics uses.
        for (key, buckets, bucket) in
            [(1, 1, 0), (42, 57, 43), (0xdead_10cc, 1, 0), (0xdead_10cc, 666, 361), (256, 1024, 520)]
        {
            assert_eq!(jump_hash(key, buckets), bucket, "{key} {buckets}");
        }
    }

    #[test]
    fn every_zone_has_one_shard_and_few_move_when_there_are_more() {
        const ZONES: u32 = 10_000;
        let mut moved = 0;
        for number in 0..ZONES {
            let owners = (0..3).filter(|&ordinal| Shard { ordinal, total: 3 }.owns(&id(number))).count();
            assert_eq!(owners, 1);
            let (before, after) = (Shard::of(&id(number), 3), Shard::of(&id(number), 4));
            assert!(before == after || after == 3, "{number} moves between old shards");
            moved += u32::from(before != after);
        }
        assert!((ZONES / 4 - 250..ZONES / 4 + 250).contains(&moved), "{moved} of {ZONES} moved");
    }
}
