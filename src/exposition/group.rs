//! Some zones that follow one another, with what is written of them: which of their certificates have series of their
//! own, and each family's samples as they were packed last.

use std::{fmt::Write as _, iter::zip, ops::Range, sync::Arc};

use super::{
    SeriesSettings,
    families::{FAMILIES, Family, Of, Value, ZoneSamples},
    packed::{Packed, Packer},
    text::{Text, escape, label},
};
use crate::model::{Certificate, Field, Selection, Texts, ZoneState};

/// Zones of a group: of fewer, small ones pack badly, and of more, the poll of one costs the writing of many.
pub(super) const ZONES: usize = 8;

/// Certificates that are packed together: fewer pack badly, and of more, a day that is over for one costs more.
const CHUNK: usize = 512;

/// A zone, and those before it that bear its name.
pub(super) type Related = (Arc<ZoneState>, Vec<Arc<ZoneState>>);

/// Neighbouring zones as they are shown at a moment.
#[derive(Debug)]
pub(super) struct Group {
    members: Vec<Arc<Member>>,
    chunks: Vec<Vec<Slice>>,
    /// For each family, one for each place.
    parts: Vec<Vec<Part>>,
    /// The Unix seconds at which all of it is right.
    pub(super) valid: Range<i64>,
}

/// A zone, with what this moment shows of it.
#[derive(Debug)]
struct Member {
    related: Related,
    selection: Selection,
    /// `kind` and `zone`.
    short_labels: String,
    /// With `zone_id`.
    labels: String,
}

/// Some of the certificates of a member, shown or not.
#[derive(Debug)]
struct Slice {
    member: usize,
    range: Range<usize>,
}

/// What one family says in one place: of a chunk of certificates, or of all zones of the group.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) packed: Packed,
    /// The Unix seconds at which it says this.
    valid: Range<i64>,
}

/// What a text depends on beside the zones.
#[derive(Clone, Copy)]
pub(super) struct Moment<'a> {
    pub(super) settings: &'a SeriesSettings,
    /// Unix seconds.
    pub(super) now: i64,
}

/// Where in a group something is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub(super) family: usize,
    pub(super) place: usize,
    /// Counts the certificates of the place.
    pub(super) item: usize,
}

/// How far something was written.
pub(super) struct Written {
    /// With which item to go on; `None` at the end.
    pub(super) next: Option<usize>,
    /// The Unix second from which on another text would be right.
    until: i64,
}

impl Group {
    /// What is the same as `before` is taken from there; that is the same group at another moment.
    pub(super) fn new(zones: Vec<Related>, before: Option<&Self>, moment: Moment<'_>, packer: &mut Packer<'_>) -> Self {
        let old_members = before.map(|before| before.members.as_slice()).unwrap_or_default();
        let members = zones.into_iter().enumerate().map(|(n, related)| match old_members.get(n) {
            Some(old) if is_same(&old.related, &related) && old.selection.valid.contains(&moment.now) => {
                Arc::clone(old)
            }
            _ => Arc::new(Member::new(related, moment)),
        });
        let members: Vec<_> = members.collect();
        let same = members.len() == old_members.len() && zip(&members, old_members).all(|(a, b)| Arc::ptr_eq(a, b));

        let mut group = Self { chunks: chunks(&members), members, parts: Vec::new(), valid: i64::MIN..i64::MAX };
        let mut text = Text::default();
        for family in 0..FAMILIES.len() {
            let part = |place| {
                let old: Option<&Part> = before.and_then(|before| before.parts.get(family)?.get(place));
                if let Some(old) = old.filter(|old| same && old.valid.contains(&moment.now)) {
                    return old.clone();
                }
                text.0.clear();
                let written = group.write(At { family, place, item: 0 }, usize::MAX, moment, &mut text);
                Part { packed: packer.pack(&text.0, old.map(|old| &old.packed)), valid: moment.now..written.until }
            };
            let parts = (0..group.places(family)).map(part).collect();
            group.parts.push(parts);
        }
        let selections = group.members.iter().map(|member| &member.selection.valid);
        let valid = selections.chain(group.parts.iter().flatten().map(|part| &part.valid));
        group.valid = valid.fold(i64::MIN..i64::MAX, |all, one| all.start.max(one.start)..all.end.min(one.end));
        group
    }

    /// Whether it is right for these zones at this moment.
    pub(super) fn is_right(&self, zones: &[Related], now: i64) -> bool {
        let same = || zip(&self.members, zones).all(|(member, related)| is_same(&member.related, related));
        self.members.len() == zones.len() && self.valid.contains(&now) && same()
    }

    /// The certificates that have series of their own, each with its zone.
    pub(super) fn certificates(&self) -> impl Iterator<Item = (&ZoneState, &Certificate)> {
        self.members.iter().flat_map(|member| {
            let state = &*member.related.0;
            let all = state.listing.as_ref().map_or(&[][..], |(listing, _)| listing.certificates());
            member.selection.shown().iter().map(move |&place| (state, &all[place]))
        })
    }

    pub(super) fn selection(&self, member: usize) -> &Selection {
        &self.members[member].selection
    }

    /// In how many places the family is written.
    pub(super) fn places(&self, family: usize) -> usize {
        match FAMILIES[family].of {
            Of::Certificates(_) | Of::Details => self.chunks.len(),
            Of::Zones(_) => 1,
        }
    }

    pub(super) fn packed(&self, family: usize, place: usize) -> &Packed {
        &self.parts[family][place].packed
    }

    /// Writes what stands there, until `room` bytes are used or the end of the place is reached.
    pub(super) fn write(&self, at: At, room: usize, moment: Moment<'_>, text: &mut Text) -> Written {
        let family = &FAMILIES[at.family];
        match family.of {
            Of::Zones(samples) => self.write_zones(family.name, samples, moment, text),
            Of::Certificates(_) | Of::Details => self.write_certificates(family, at, room, moment, text),
        }
    }

    fn write_zones(
        &self,
        name: &'static str,
        samples: fn(&mut ZoneSamples<'_>),
        moment: Moment<'_>,
        text: &mut Text,
    ) -> Written {
        let Moment { settings, now } = moment;
        let mut until = i64::MAX;
        for member in &self.members {
            let (zone, labels, hidden) = (&member.related.0, &member.labels, member.selection.hidden);
            samples(&mut ZoneSamples { text, name, labels, zone, settings, now, hidden });
            let boundary = zone
                .listing
                .as_ref()
                .and_then(|(listing, _)| listing.next_boundary(now, &settings.expiring_within_days));
            until = until.min(boundary.unwrap_or(i64::MAX));
        }
        Written { next: None, until }
    }

    fn write_certificates(&self, family: &Family, at: At, room: usize, moment: Moment<'_>, text: &mut Text) -> Written {
        let (room, mut until) = (text.0.len().saturating_add(room), i64::MAX);
        // What all samples of a zone begin with.
        let mut start = String::new();
        let (mut details, mut digits, mut skipped) = (Details::default(), itoa::Buffer::new(), 0);
        for slice in &self.chunks[at.place] {
            let member = &self.members[slice.member];
            let Some((listing, _)) = &member.related.0.listing else { continue };
            start.clear();
            let _ = write!(start, "{}{{{},{}=\"", family.name, member.short_labels, Field::Id.label());
            let skip = at.item.saturating_sub(skipped).min(slice.range.len());
            skipped += skip;
            for index in slice.range.clone().skip(skip) {
                if text.0.len() >= room {
                    return Written { next: Some(skipped), until };
                }
                skipped += 1;
                let certificate = &listing.certificates()[index];
                if member.selection.shown().binary_search(&index).is_err() {
                    continue;
                }
                let value = match family.of {
                    Of::Certificates(value) => value(listing, certificate, moment.now),
                    Of::Details => Some(Value::fixed(1)),
                    Of::Zones(_) => None,
                };
                let Some(value) = value else { continue };
                until = until.min(value.until);
                text.0.push_str(&start);
                for (place, &field) in Field::KEY.iter().enumerate() {
                    if place > 0 {
                        start_label(&mut text.0, field);
                    }
                    escape(&mut text.0, &certificate.texts[field]);
                }
                if matches!(family.of, Of::Details) {
                    details.write(&mut text.0, &member.related.0, certificate);
                }
                text.0.push_str("\"} ");
                text.0.push_str(digits.format(value.value));
                text.0.push('\n');
            }
        }
        Written { next: None, until }
    }
}

impl Member {
    fn new(related: Related, moment: Moment<'_>) -> Self {
        let state = &related.0;
        let mut short_labels = String::new();
        label(&mut short_labels, "kind", state.zone.kind.label());
        label(&mut short_labels, "zone", &state.name);
        let mut labels = short_labels.clone();
        label(&mut labels, "zone_id", state.zone.id.as_str());
        let selection = select(&related, moment);
        Self { related, selection, short_labels, labels }
    }
}

/// Which certificates of the zone are shown. An id that a zone of the same name shows is shown there alone.
fn select((state, namesakes): &Related, Moment { settings, now }: Moment<'_>) -> Selection {
    let nothing = Arc::default();
    let listing = |zone: &ZoneState| zone.listing.as_ref().map_or(&nothing, |(listing, _)| listing).clone();
    let listings: Vec<_> = namesakes.iter().map(|namesake| listing(namesake)).collect();
    let certificates = listings.iter().flat_map(|listing| listing.certificates());
    let taken = certificates.filter(|certificate| settings.can_show(certificate)).map(Certificate::id).collect();
    Selection::new(&listing(state), &taken, settings, now)
}

/// Cuts the certificates of all members. Where one zone is cut does not depend on the others, unless they are small.
fn chunks(members: &[Arc<Member>]) -> Vec<Vec<Slice>> {
    let mut chunks: Vec<Vec<Slice>> = Vec::new();
    let mut room = 0;
    for (member, certificates) in members.iter().enumerate() {
        let length = certificates.related.0.listing.as_ref().map_or(0, |(listing, _)| listing.certificates().len());
        for start in (0..length).step_by(CHUNK) {
            let slice = Slice { member, range: start..length.min(start + CHUNK) };
            match chunks.last_mut() {
                Some(chunk) if slice.range.len() <= room => {
                    room -= slice.range.len();
                    chunk.push(slice);
                }
                _ => {
                    room = CHUNK - slice.range.len();
                    chunks.push(vec![slice]);
                }
            }
        }
    }
    chunks
}

fn is_same((a, of_a): &Related, (b, of_b): &Related) -> bool {
    Arc::ptr_eq(a, b) && of_a.len() == of_b.len() && zip(of_a, of_b).all(|(a, b)| Arc::ptr_eq(a, b))
}

/// Writes the labels that the info metric has beside those of the others.
#[derive(Default)]
struct Details<'a> {
    /// The last certificate's texts, and what was written of those that the next one shares, nearly always.
    last: Option<(&'a Texts, String)>,
}

impl<'a> Details<'a> {
    /// But for the last quote.
    fn write(&mut self, text: &mut String, state: &ZoneState, certificate: &'a Certificate) {
        text.push_str("\",zone_id=\"");
        escape(text, state.zone.id.as_str());
        text.push_str("\",status=\"");
        text.push_str(certificate.status.label());
        for (field, value) in certificate.texts.own().skip(Field::KEY.len()) {
            start_label(text, field);
            escape(text, value);
        }
        if let Some((_, written)) = self.last.as_ref().filter(|(last, _)| last.shares_with(&certificate.texts)) {
            text.push_str(written);
            return;
        }
        let start = text.len();
        for (field, value) in certificate.texts.shared() {
            start_label(text, field);
            escape(text, value);
        }
        self.last = Some((&certificate.texts, text[start..].to_owned()));
    }
}

/// Ends the label before, and begins this one.
fn start_label(text: &mut String, field: Field) {
    text.push_str("\",");
    text.push_str(field.label());
    text.push_str("=\"");
}
