//! The snapshot and the time, as the text that Prometheus reads.
//!
//! An [`Exposition`] is all of it at one moment, made from the one before: what did not change is not written again.
//! It keeps the text packed with gzip, a fifth of its size, and writes the plain text piece by piece for whom wants
//! that. Text format 0.0.4, written straight into a buffer: through the structures of a metrics library it takes
//! twenty times as long. What requests add up to is not here but in the registry of the `prometheus` crate.

mod families;
mod group;
pub(crate) mod json;
mod packed;
mod process;
mod text;

use std::{collections::HashMap, hash::RandomState, ops::Range, sync::Arc};

pub use crate::model::SeriesSettings;
use crate::model::{Certificate, Selection, Snapshot, ZoneState};
use bytes::Bytes;
use families::FAMILIES;
use group::{At, Group, Moment, Related};
use packed::{Packed, Packer, Sum};
use text::{Text, label};

/// Every metric of the zones and their certificates, as they are shown at one moment.
#[derive(Debug)]
pub struct Exposition {
    settings: Arc<SeriesSettings>,
    snapshot: Arc<Snapshot>,
    /// The HELP and TYPE of each family.
    heads: Arc<[Packed]>,
    groups: Vec<Arc<Group>>,
    /// What the whole consists of, in its order.
    pieces: Vec<Piece>,
    sum: Sum,
    gzip_length: u64,
    /// When it was made, in Unix seconds, and when something of it changes by itself.
    valid: Range<i64>,
    keys: RandomState,
}

/// What is packed at a time, unless it is empty.
#[derive(Debug, Clone, Copy)]
enum Piece {
    /// Of the gzip member alone.
    Start,
    /// Of this family.
    Head(usize),
    Samples {
        family: usize,
        group: usize,
        place: usize,
    },
}

/// How far it was written, in one of its two forms.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    piece: usize,
    /// Certificates of a piece of the plain text.
    item: usize,
}

impl Progress {
    /// With this item, or with the next piece.
    fn goes_on(&mut self, next: Option<usize>) {
        self.piece += usize::from(next.is_none());
        self.item = next.unwrap_or(0);
    }
}

impl Exposition {
    /// Nothing of no zones.
    #[must_use]
    pub fn new(settings: SeriesSettings) -> Self {
        let keys = RandomState::new();
        let mut packer = Packer::new(&keys);
        let head = |family: &families::Family| {
            let mut text = Text::default();
            text.family(family.name, family.kind, family.help);
            packer.pack(&text.0, None)
        };
        let heads: Arc<[_]> = FAMILIES.iter().map(head).collect();
        let (settings, snapshot) = (Arc::new(settings), Arc::default());
        Self::assembled(settings, snapshot, heads, Vec::new(), i64::MIN, keys)
    }

    /// The snapshot at this Unix second. What is the same in this one is taken from it.
    #[must_use]
    pub fn next(&self, snapshot: Arc<Snapshot>, now: i64) -> Self {
        let (keys, moment) = (self.keys.clone(), Moment { settings: &self.settings, now });
        let mut packer = Packer::new(&keys);
        let mut related = related(&snapshot);
        let mut groups = Vec::new();
        while !related.is_empty() {
            let zones: Vec<_> = related.drain(..related.len().min(group::ZONES)).collect();
            let before = self.groups.get(groups.len());
            groups.push(match before {
                Some(before) if before.is_right(&zones, now) => Arc::clone(before),
                _ => Arc::new(Group::new(zones, before.map(|before| &**before), moment, &mut packer)),
            });
        }
        Self::assembled(self.settings.clone(), snapshot, self.heads.clone(), groups, now, keys)
    }

    fn assembled(
        settings: Arc<SeriesSettings>,
        snapshot: Arc<Snapshot>,
        heads: Arc<[Packed]>,
        groups: Vec<Arc<Group>>,
        now: i64,
        keys: RandomState,
    ) -> Self {
        let until = groups.iter().map(|group| group.valid.end).min().unwrap_or(i64::MAX);
        let (mut pieces, mut sum, mut gzip_length) = (vec![Piece::Start], Sum::default(), packed::HEADER.len() as u64);
        let mut add = |piece, packed: &Packed| {
            if packed.sum.length > 0 {
                pieces.push(piece);
                sum = sum.and(packed.sum);
                gzip_length += packed.bytes.len() as u64;
            }
        };
        for (family, head) in heads.iter().enumerate() {
            add(Piece::Head(family), head);
            for (number, group) in groups.iter().enumerate() {
                for place in 0..group.places(family) {
                    add(Piece::Samples { family, group: number, place }, group.packed(family, place));
                }
            }
        }
        Self { settings, snapshot, heads, groups, pieces, sum, gzip_length, valid: now..until, keys }
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

    /// The certificates that have series of their own, each with its zone.
    pub fn certificates(&self) -> impl Iterator<Item = (&ZoneState, &Certificate)> {
        self.groups.iter().flat_map(|group| group.certificates())
    }

    /// Which certificates have series of their own, of the zone at this place of the snapshot.
    pub(crate) fn selection(&self, place: usize) -> &Selection {
        self.groups[place / group::ZONES].selection(place % group::ZONES)
    }

    /// Whether it is what its snapshot is at this Unix second.
    #[must_use]
    pub fn is_right_at(&self, now: i64) -> bool {
        self.valid.contains(&now)
    }

    /// The Unix second at which something of it changes by itself, as days do.
    #[must_use]
    pub const fn changes_at(&self) -> i64 {
        self.valid.end
    }

    /// Bytes of the plain text.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.sum.length
    }

    /// The next piece of the plain text: `room` bytes and little more, or all that is left.
    #[must_use]
    pub fn text(&self, progress: &mut Progress, room: usize) -> String {
        let mut text = Text(String::with_capacity(room + room / 8));
        while text.0.len() < room
            && let Some(&piece) = self.pieces.get(progress.piece)
        {
            let next = match piece {
                Piece::Start => None,
                Piece::Head(family) => {
                    let family = &FAMILIES[family];
                    text.family(family.name, family.kind, family.help);
                    None
                }
                Piece::Samples { family, group, place } => {
                    let moment = Moment { settings: &self.settings, now: self.valid.start };
                    let at = At { family, place, item: progress.item };
                    self.groups[group].write(at, room - text.0.len(), moment, &mut text).next
                }
            };
            progress.goes_on(next);
        }
        text.0
    }

    /// Bytes of the beginning of a gzip member that holds the text.
    #[must_use]
    pub const fn gzip_length(&self) -> u64 {
        self.gzip_length
    }

    /// The next piece of that, which is shared and not copied; `None` at the end.
    #[must_use]
    pub fn gzip(&self, progress: &mut Progress) -> Option<Bytes> {
        let bytes = match *self.pieces.get(progress.piece)? {
            Piece::Start => Bytes::from_static(packed::HEADER),
            Piece::Head(family) => self.heads[family].bytes.clone(),
            Piece::Samples { family, group, place } => self.groups[group].packed(family, place).bytes.clone(),
        };
        progress.goes_on(None);
        Some(bytes)
    }

    /// The end of the gzip member, if `rest` is what follows in the text.
    #[must_use]
    pub fn gzip_end(&self, rest: &str) -> Vec<u8> {
        packed::ending(self.sum, rest)
    }
}

/// Writes every metric of the program itself that is not in the registry, at this Unix second.
#[must_use]
pub fn render_program(now: i64) -> String {
    let mut text = Text::default();
    let name = "cloudflare_cert_exporter_clock_timestamp_seconds";
    text.family(
        name,
        "gauge",
        "The exporter's own time at the scrape, as Unix time. Its other times are by this clock.",
    );
    text.sample(name, "", now);
    let name = "cloudflare_cert_exporter_build_info";
    text.family(name, "gauge", "Always 1; the labels say which build this is.");
    let mut labels = String::new();
    label(&mut labels, "version", env!("CARGO_PKG_VERSION"));
    label(&mut labels, "revision", env!("BUILD_REVISION"));
    label(&mut labels, "rustversion", env!("BUILD_RUSTC"));
    text.sample(name, &labels, 1);
    process::render(&mut text);
    text.0
}

/// Each zone with those before it that bear its name, of the same kind.
///
/// A domain that moved between accounts is in both. The series of certificates do not tell such zones apart, so an id
/// is shown for the first of them.
fn related(snapshot: &Snapshot) -> Vec<Related> {
    let mut namesakes = HashMap::<_, Vec<_>>::with_capacity(snapshot.zones.len());
    let relate = |zone: &Arc<ZoneState>| {
        let before = namesakes.entry((zone.zone.kind, zone.name.clone())).or_default();
        let related = (Arc::clone(zone), before.clone());
        before.push(Arc::clone(zone));
        related
    };
    snapshot.zones.iter().map(relate).collect()
}

#[cfg(test)]
mod tests;
