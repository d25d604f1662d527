//! One gzip member made of texts that are compressed apart.
//!
//! Each compressed text ends with a full flush (RFC 1951, and `Z_FULL_FLUSH` of zlib). Nothing after it refers to what
//! comes before it, so texts can be joined in any order, and their checksums are combined into that of the whole.
//! Members one after another would be simpler, but curl reads only the first.

use std::hash::{BuildHasher as _, RandomState};

use bytes::Bytes;
use crc32fast::Hasher as Crc;
use flate2::{Compress, Compression, FlushCompress};

/// Magic, deflate, no flags, no time, no word on the level, and Unix.
pub(super) const HEADER: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

/// An empty block that says that it is the last one.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// One step above the fastest, which makes half as much again of text that repeats itself this much.
const LEVEL: Compression = Compression::new(2);

/// A compressed text.
#[derive(Debug, Clone)]
pub(super) struct Compressed {
    pub(super) bytes: Bytes,
    /// Checksum and length of the text.
    pub(super) crc: Crc,
    /// Of the text. It is keyed, so that the author of a certificate's name cannot choose the hash.
    hash: u64,
}

/// Compresses texts, one after another.
pub(super) struct Compressor<'a> {
    deflate: Compress,
    hash_keys: &'a RandomState,
    output: Vec<u8>,
}

impl<'a> Compressor<'a> {
    /// `hash_keys` must be the same for all texts that are compared with each other.
    pub(super) fn new(hash_keys: &'a RandomState) -> Self {
        Self { deflate: Compress::new(LEVEL, false), hash_keys, output: Vec::new() }
    }

    /// The text compressed; `before` if that is the same text.
    pub(super) fn compress(&mut self, text: &str, before: Option<&Compressed>) -> Compressed {
        let mut crc = Crc::new();
        crc.update(text.as_bytes());
        let hash = self.hash_keys.hash_one(text);
        if let Some(before) = before
            && before.hash == hash
            && before.crc.total_len() == crc.total_len()
        {
            return before.clone();
        }
        Compressed { bytes: Bytes::copy_from_slice(self.deflate(text.as_bytes())), crc, hash }
    }

    fn deflate(&mut self, text: &[u8]) -> &[u8] {
        self.deflate.reset();
        self.output.clear();
        // Enough also for text that cannot be compressed, so one call takes all of it.
        self.output.reserve(text.len() + text.len() / 8 + 256);
        // It fails only for wrong parameters, and there are none.
        let _ = self.deflate.compress_vec(text, &mut self.output, FlushCompress::Full);
        &self.output
    }
}

/// The end of a member: a last text, and the checksum and length of the whole. `crc` is that of all texts before it.
pub(super) fn end(mut crc: Crc, text: &str) -> Vec<u8> {
    crc.update(text.as_bytes());
    let length = crc.total_len();
    let mut bytes = Compressor::new(&RandomState::new()).deflate(text.as_bytes()).to_vec();
    bytes.extend(LAST_BLOCK);
    bytes.extend(crc.finalize().to_le_bytes());
    // By its definition modulo 2^32.
    bytes.extend_from_slice(&length.to_le_bytes()[..4]);
    bytes
}
