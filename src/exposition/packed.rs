//! One gzip member made of parts that are packed apart, and packed again apart when they change.
//!
//! Each part ends with a full flush (RFC 1951, and `Z_FULL_FLUSH` of zlib), after which nothing refers to what came
//! before, so that parts can be put together in any order. The checksum of the whole is combined from theirs.
//! Members that follow one another would be simpler and are no way to do it: curl gives up after the first.

use std::hash::{BuildHasher as _, RandomState};

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress};

/// Magic, deflate, no flags, no time, no word on the level, and Unix.
pub(super) const HEADER: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

/// An empty block that says that it is the last one.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// One step above the fastest, which makes half as much again of what is so much alike.
const LEVEL: Compression = Compression::new(2);

/// A text, packed.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    pub(super) bytes: Bytes,
    pub(super) sum: Sum,
    /// Keyed, so that nobody who chooses a name can choose it as well.
    hash: u64,
}

/// What has to be known of a text to go on after it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    /// Bytes of the text.
    pub(super) length: u64,
    /// Of the text, as gzip computes it.
    crc: u32,
}

impl Sum {
    fn of(text: &str) -> Self {
        Self { length: text.len() as u64, crc: crc32fast::hash(text.as_bytes()) }
    }

    /// Of this text and another one behind it.
    pub(super) fn and(self, next: Self) -> Self {
        let mut sum = crc32fast::Hasher::new_with_initial_len(self.crc, self.length);
        sum.combine(&crc32fast::Hasher::new_with_initial_len(next.crc, next.length));
        Self { length: self.length + next.length, crc: sum.finalize() }
    }
}

/// Packs texts.
pub(super) struct Packer<'a> {
    deflate: Compress,
    keys: &'a RandomState,
    /// How many texts were packed, for tests.
    pub(super) packed: usize,
}

impl<'a> Packer<'a> {
    /// `keys` are the same for all texts that are compared with one another.
    pub(super) fn new(keys: &'a RandomState) -> Self {
        Self { deflate: Compress::new(LEVEL, false), keys, packed: 0 }
    }

    /// The text packed, or `before` if that is the same text.
    pub(super) fn pack(&mut self, text: &str, before: Option<&Packed>) -> Packed {
        let (sum, hash) = (Sum::of(text), self.keys.hash_one(text));
        if let Some(before) = before.filter(|before| (before.sum.length, before.hash) == (sum.length, hash)) {
            return before.clone();
        }
        self.packed += 1;
        let mut bytes = if text.is_empty() { Vec::new() } else { self.deflate(text.as_bytes()) };
        // It is kept for long.
        bytes.shrink_to_fit();
        Packed { bytes: bytes.into(), sum, hash }
    }

    fn deflate(&mut self, text: &[u8]) -> Vec<u8> {
        self.deflate.reset();
        let mut packed = Vec::with_capacity(text.len() / 4 + 64);
        loop {
            let taken = usize::try_from(self.deflate.total_in()).unwrap_or(usize::MAX);
            // It fails for wrong parameters alone, and there are none.
            let _ = self.deflate.compress_vec(text.get(taken..).unwrap_or_default(), &mut packed, FlushCompress::Full);
            // It ended before the room did.
            if packed.len() < packed.capacity() {
                return packed;
            }
            packed.reserve(packed.capacity());
        }
    }
}

/// The end of a member: a last text, and what gzip says of all of it. `before` is of what precedes it.
pub(super) fn ending(before: Sum, text: &str) -> Vec<u8> {
    let sum = before.and(Sum::of(text));
    let mut bytes = Packer::new(&RandomState::new()).deflate(text.as_bytes());
    bytes.extend(LAST_BLOCK);
    bytes.extend(sum.crc.to_le_bytes());
    // By its definition modulo 2^32.
    bytes.extend_from_slice(&sum.length.to_le_bytes()[..4]);
    bytes
}
