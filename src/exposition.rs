//! The snapshot and the time, as the text that Prometheus reads.
//!
//! The text consists of blocks: what one metric says about some certificates of one target, or about some targets. A
//! block is rendered, compressed and kept whole. [`Exposition::next`] makes an exposition from the one before it and
//! renders only the blocks whose targets changed or whose validity ended, as days do. The compressed text is kept, which
//! is a fifth of the text. The text itself is rendered again as it is sent, in smaller parts: hardly any client asks for
//! it.
//!
//! It is text format 0.0.4, written straight into a buffer: through the structures of a metrics library it takes twenty
//! times as long. Counters of requests and the like are not here but in the registry of the `prometheus` crate.

mod block;
mod discovery;
mod families;
mod gzip;
pub(crate) mod json;
#[cfg(target_os = "linux")]
mod process;
mod target;
mod text;

use std::{collections::HashMap, hash::RandomState, iter::zip, ops::Range, sync::Arc};

pub use crate::model::SeriesSettings;
use crate::model::{Certificate, Selection, Snapshot, TargetLabels, TargetState};
use block::{Block, BlockSubject, PARTS};
use bytes::Bytes;
use crc32fast::Hasher as Crc;
use gzip::Compressor;
use target::TargetView;
use text::label;

/// What a text depends on beside the targets.
#[derive(Clone, Copy)]
struct RenderContext<'a> {
    settings: &'a SeriesSettings,
    /// Unix seconds.
    now: i64,
}

/// Every metric of the targets and their certificates at one moment.
#[derive(Debug)]
pub struct Exposition {
    settings: Arc<SeriesSettings>,
    snapshot: Arc<Snapshot>,
    targets: Vec<Arc<TargetView>>,
    blocks: Vec<Block>,
    /// Checksum and length of the text.
    crc: Crc,
    /// The Unix seconds at which the text is this one.
    valid: Range<i64>,
    hash_keys: RandomState,
}

impl Exposition {
    /// Of no targets. Every other one is made from such a one by [`next`](Self::next).
    #[must_use]
    pub fn new(settings: SeriesSettings) -> Self {
        let nothing = Self {
            settings: Arc::new(settings),
            snapshot: Arc::default(),
            targets: Vec::new(),
            blocks: Vec::new(),
            crc: Crc::new(),
            valid: i64::MIN..i64::MAX,
            hash_keys: RandomState::new(),
        };
        nothing.next(Arc::default(), i64::MIN)
    }

    /// The snapshot at this Unix second. What did not change is taken from this exposition.
    #[must_use]
    pub fn next(&self, snapshot: Arc<Snapshot>, now: i64) -> Self {
        let context = RenderContext { settings: &self.settings, now };
        let targets = TargetView::all(&snapshot, &self.targets, context);
        let mut compressor = Compressor::new(&self.hash_keys);
        let mut text = String::new();
        let blocks_before: HashMap<_, _> = self.blocks.iter().map(|block| (&block.place, block)).collect();
        let blocks = BlockSubject::all(&targets).into_iter().map(|place| {
            let before = blocks_before.get(&place).copied();
            if let Some(before) = before
                && before.valid.contains(&now)
                && zip(place.targets(&self.targets), place.targets(&targets)).all(|(a, b)| Arc::ptr_eq(a, b))
            {
                return before.clone();
            }
            text.clear();
            let until = place.render(&targets, context, &mut text);
            let compressed = compressor.compress(&text, before.map(|before| &before.compressed));
            Block { place, compressed, valid: now..until }
        });
        let blocks: Vec<_> = blocks.collect();
        let mut crc = Crc::new();
        blocks.iter().for_each(|block| crc.combine(&block.compressed.crc));
        let ends =
            targets.iter().map(|view| view.selection.valid.end).chain(blocks.iter().map(|block| block.valid.end));
        let valid = now..ends.min().unwrap_or(i64::MAX);
        let settings = Arc::clone(&self.settings);
        Self { settings, snapshot, targets, blocks, crc, valid, hash_keys: self.hash_keys.clone() }
    }

    /// What it shows.
    #[must_use]
    pub const fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Which series are in it.
    #[must_use]
    pub fn settings(&self) -> &SeriesSettings {
        &self.settings
    }

    /// The certificates that have series of their own, each with its target.
    pub fn certificates(&self) -> impl Iterator<Item = (&TargetState, &Certificate)> {
        self.targets.iter().flat_map(|view| view.shown(0..usize::MAX).map(|certificate| (&*view.state, certificate)))
    }

    /// Which certificates have series of their own, of the target at this place of the snapshot.
    pub(crate) fn selection(&self, place: usize) -> &Selection {
        &self.targets[place].selection
    }

    /// The owner's own labels, of the target at this place of the snapshot.
    pub(crate) fn own_labels(&self, place: usize) -> &TargetLabels {
        &self.targets[place].own_labels
    }

    /// Whether the text is that of its snapshot at this Unix second.
    #[must_use]
    pub fn is_valid_at(&self, now: i64) -> bool {
        self.valid.contains(&now)
    }

    /// The Unix second from which on the text is another one without a change of the snapshot.
    #[must_use]
    pub const fn valid_until(&self) -> i64 {
        self.valid.end
    }

    /// A part of the text, which can be empty; `None` behind the last one.
    #[must_use]
    pub fn text(&self, part: usize) -> Option<String> {
        let block = self.blocks.get(part / PARTS)?;
        let (part, parts) = (part % PARTS, block.place.parts());
        if part >= parts {
            return Some(String::new());
        }
        let length = usize::try_from(block.compressed.crc.total_len()).unwrap_or(0) / parts;
        // They are not quite of one length.
        let mut text = String::with_capacity(length + length / 8);
        let context = RenderContext { settings: &self.settings, now: self.valid.start };
        block.place.part(part).render(&self.targets, context, &mut text);
        Some(text)
    }

    /// Bytes of the text of all blocks.
    #[must_use]
    pub fn text_length(&self) -> u64 {
        self.crc.total_len()
    }

    /// A part of a gzip member that holds the text, shared and not copied; `None` behind the last one.
    #[must_use]
    pub fn gzip(&self, part: usize) -> Option<Bytes> {
        match part.checked_sub(1) {
            None => Some(Bytes::from_static(gzip::HEADER)),
            Some(block) => self.blocks.get(block).map(|block| block.compressed.bytes.clone()),
        }
    }

    /// Bytes of all these parts.
    #[must_use]
    pub fn gzip_length(&self) -> u64 {
        let blocks = self.blocks.iter().map(|block| block.compressed.bytes.len());
        (gzip::HEADER.len() + blocks.sum::<usize>()) as u64
    }

    /// The end of the gzip member, if `rest` is what follows in the text.
    #[must_use]
    pub fn gzip_end(&self, rest: &str) -> Vec<u8> {
        gzip::end(self.crc.clone(), rest)
    }
}

/// Writes every metric of the program itself that is not in the registry, at this Unix second, and those of the
/// discovery of zones.
#[must_use]
pub fn render_program(snapshot: &Snapshot, now: i64) -> String {
    let mut text = discovery::render(&snapshot.discoveries);
    let name = "cloudflare_cert_exporter_clock_timestamp_seconds";
    let help =
        "The exporter's own clock at the scrape, as Unix time in seconds. Its other times are read from this clock.";
    text::head(&mut text, name, help);
    text::sample(&mut text, name, &[], now);
    let name = "cloudflare_cert_exporter_build_info";
    text::head(&mut text, name, "Always 1. The labels identify the build.");
    let mut labels = String::new();
    label(&mut labels, "version", env!("CARGO_PKG_VERSION"));
    label(&mut labels, "revision", env!("BUILD_REVISION"));
    label(&mut labels, "rustversion", env!("BUILD_RUSTC"));
    text::sample(&mut text, name, &[&labels], 1);
    #[cfg(target_os = "linux")]
    process::render(&mut text);
    text
}

#[cfg(test)]
mod tests;
