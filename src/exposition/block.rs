//! What the text consists of: which blocks there are, and what each says.

use std::{fmt::Write as _, ops::Range, sync::Arc};

use super::{
    RenderContext,
    families::{FAMILIES, Family, ListingSamples, Subject},
    gzip::Compressed,
    target::TargetView,
    text::{self, label},
};
use crate::model::{Field, Texts};

/// Certificates in a block. Fewer compress worse and take more writes to send. With more, a day that is over for one of
/// them costs more.
const CERTIFICATES: usize = 512;

/// Targets in a block. One has up to a dozen samples of a family.
const TARGETS: usize = 128;

/// Parts of a block at most. Plain text is sent in parts, since a client that does not read holds some.
pub(super) const PARTS: usize = 4;

/// A block, as it was rendered last.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) place: BlockSubject,
    pub(super) compressed: Compressed,
    /// The Unix seconds at which its text is this one, if its targets stay the same.
    pub(super) valid: Range<i64>,
}

/// What a block is about: some certificates of one target, or some targets, or none, which is the head of a family.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct BlockSubject {
    family: usize,
    targets: Range<usize>,
    /// By their numbers in the listing.
    certificates: Range<usize>,
}

impl BlockSubject {
    /// All places, in the order of the text.
    pub(super) fn all(targets: &[Arc<TargetView>]) -> Vec<Self> {
        let mut places = Vec::new();
        for (family, Family { subject, .. }) in FAMILIES.iter().enumerate() {
            let mut add = |targets, certificates| places.push(Self { family, targets, certificates });
            add(0..0, 0..0);
            if let Subject::Listing(_) = subject {
                cut(targets.len(), TARGETS).for_each(|range| add(range, 0..0));
                continue;
            }
            for (number, view) in targets.iter().enumerate() {
                cut(view.certificates().len(), CERTIFICATES).for_each(|range| add(number..number + 1, range));
            }
        }
        places
    }

    /// How many parts it has.
    pub(super) fn parts(&self) -> usize {
        let (range, size) = self.to_cut();
        range.len().div_ceil(size).max(1)
    }

    /// One of its parts.
    pub(super) fn part(&self, number: usize) -> Self {
        let (range, size) = self.to_cut();
        let start = range.end.min(range.start + number * size);
        let part = start..range.end.min(start + size);
        if self.certificates.is_empty() {
            Self { targets: part, ..self.clone() }
        } else {
            Self { certificates: part, ..self.clone() }
        }
    }

    /// What its parts are cut from, and into which size.
    fn to_cut(&self) -> (&Range<usize>, usize) {
        if self.certificates.is_empty() {
            (&self.targets, TARGETS / PARTS)
        } else {
            (&self.certificates, CERTIFICATES / PARTS)
        }
    }

    /// Those of these targets that it is about.
    pub(super) fn targets<'a>(&self, targets: &'a [Arc<TargetView>]) -> &'a [Arc<TargetView>] {
        &targets[self.targets.clone()]
    }

    /// Appends the text of the block. Returns the Unix second from which on the text about the same targets is another
    /// one; the largest if there is none.
    pub(super) fn render(&self, targets: &[Arc<TargetView>], context: RenderContext<'_>, text: &mut String) -> i64 {
        let family = &FAMILIES[self.family];
        if self.targets.is_empty() {
            text::head(text, family.name, family.help);
        }
        let mut until = i64::MAX;
        for view in self.targets(targets) {
            until = until.min(match family.subject {
                Subject::Listing(add_samples) => {
                    add_samples(&mut ListingSamples { text, name: family.name, view, context });
                    view.counts_change_at(context)
                }
                _ => self.render_certificates(family, view, context.now, text),
            });
        }
        until
    }

    fn render_certificates(&self, family: &Family, view: &TargetView, now: i64, text: &mut String) -> i64 {
        let Some(listing) = view.listing() else { return i64::MAX };
        let start = format!("{}{{{}", family.name, view.certificate_labels());
        let mut until = i64::MAX;
        // The last certificate's texts that others have too, as labels: nearly always those of the next one as well.
        let mut shared: Option<(&Texts, String)> = None;
        for certificate in view.shown(self.certificates.clone()) {
            until = until.min(certificate.days_change_at(now).unwrap_or(i64::MAX));
            let value = match family.subject {
                Subject::Certificate(value) => value(listing, certificate, now),
                Subject::CertificateInfo => Some(1),
                Subject::Listing(_) => None,
            };
            let Some(value) = value else { continue };
            text.push_str(&start);
            let mut texts = certificate.texts.iter();
            for (field, value) in texts.by_ref().take(Field::KEY.len()) {
                label(text, field.label(), value);
            }
            if let Subject::CertificateInfo = family.subject {
                let kind = view.state.target.kind;
                label(text, kind.scope().id_label(), view.state.target.id.as_str());
                label(text, "status", certificate.status.label());
                let is_shown = |(field, _): &(Field, &str)| kind.details().contains(field);
                for (field, value) in texts.by_ref().take(Field::OWN - Field::KEY.len()).filter(is_shown) {
                    label(text, field.label(), value);
                }
                match &shared {
                    Some((of, labels)) if of.shares_with(&certificate.texts) => text.push_str(labels),
                    _ => {
                        let start = text.len();
                        texts.filter(is_shown).for_each(|(field, value)| label(text, field.label(), value));
                        shared = Some((&certificate.texts, text[start..].to_owned()));
                    }
                }
            }
            view.end_labels(text, certificate.common_name());
            // Writing to a string cannot fail.
            let _ = writeln!(text, "}} {value}");
        }
        until
    }
}

/// Cuts `0..length` into ranges of this size, of which the last may be smaller.
fn cut(length: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..length).step_by(size).map(move |start| start..length.min(start + size))
}
