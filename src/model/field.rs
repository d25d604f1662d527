//! The texts of a certificate, by field: what Cloudflare says about it in words.
//!
//! Each field stands here once. The API's answers, state files, metrics and lists loop over them.

use std::{borrow::Cow, collections::HashSet, fmt, ops::Index, sync::Arc};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, Visitor},
};

use super::{text::append_clean, words::words};

words! {
    /// A text that Cloudflare has about a certificate, in the order of the labels. Its word is the label name, or the key in a
    /// state file where it is no label.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Field {
        /// Cloudflare's id; empty where the entry had none.
        Id = "certificate_id",
        /// CN of the signing request. Not unique: see [`Listing::is_superseded`](super::Listing::is_superseded).
        CommonName = "common_name",
        /// Opaque: decimal in some answers, hexadecimal in others.
        SerialNumber = "serial_number",
        /// Lower-case hexadecimal.
        FingerprintSha256 = "fingerprint_sha256",
        /// Subject key identifier.
        Ski = "ski",
        /// Who has to renew it: `cloudflare` or `owner`.
        RenewedBy = "renewed_by",
        /// Name of the certificate authority.
        Issuer = "issuer",
        /// Signature algorithm.
        Signature = "signature",
        /// O of the signing request.
        Organization = "organization",
        /// OU of the signing request.
        OrganizationalUnit = "organizational_unit",
        /// C of the signing request.
        Country = "country",
        /// ST of the signing request.
        State = "state",
        /// L of the signing request.
        Location = "location",
        /// The host names that it is for, with a space between them. No label: there can be hundreds.
        Hosts = "hosts",
        /// Certificates of the same purpose take each other's place; empty where none does. No label.
        Purpose = "purpose",
        /// A number: of several certificates of one purpose, the one with the highest is in use. No label.
        Rank = "rank",
        /// Id of the entry that holds the certificate, where an entry can hold several or none. No label.
        Entry = "entry",
        /// What hinders Cloudflare from issuing or renewing it. No label.
        Problem = "problem",
    }
}

impl Field {
    /// The fields that are labels of every series of a certificate: the first of [`ALL`](Self::ALL).
    pub const KEY: &[Self] = Self::ALL.split_at(2).0;

    /// The first so many differ from certificate to certificate, nearly always. The others say who signed it, how, and
    /// for which subject, and are the same for all that are made in one way.
    pub(crate) const OWN: usize = 5;
}

/// A value for each field, in the order of [`Field::ALL`].
pub type ByField<T> = [T; Field::ALL.len()];

/// The texts of a certificate, which are [clean](super::clean); one that is absent is empty.
///
/// There can be millions of them. So those of a certificate's own are one allocation, and those that it has in common
/// with others are held once for all of them, if the same [`Interner`] made them. Common names are not shared though
/// some repeat: shared, each would take more memory where all differ, which is as usual.
///
/// They are ordered field by field.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Texts {
    // Clean texts hold no line break, and nothing that is less than one. So lines tell them apart, and texts are
    // equal and in order where their lines are.
    own: Box<str>,
    shared: Arc<str>,
    /// Where each line of `own` but the last ends. To look for the ends takes a fifth of what a scrape of plain text
    /// costs.
    own_ends: [u16; Field::OWN - 1],
}

impl Texts {
    /// The texts, once they are [clean](super::clean). They share nothing.
    pub fn new<T: AsRef<str>>(texts: &ByField<T>) -> Self {
        let (own, shared) = both_lines(texts);
        Self::from_lines(own, shared.into())
    }

    fn from_lines(own: String, shared: Arc<str>) -> Self {
        let mut own_ends = [0; Field::OWN - 1];
        for (own_end, (end, _)) in own_ends.iter_mut().zip(own.match_indices('\n')) {
            // Five clean texts are always shorter.
            *own_end = u16::try_from(end).unwrap_or(u16::MAX);
        }
        Self { own: own.into(), shared, own_ends }
    }

    /// Every field with its text, in the order of [`Field::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Field, &str)> {
        let mut start = 0;
        let ends = self.own_ends.iter().map(|&end| usize::from(end)).chain([self.own.len()]);
        let own = ends.map(move |end| {
            let line = start..end;
            start = line.end + 1;
            self.own.get(line).unwrap_or_default()
        });
        Field::ALL.into_iter().zip(own.chain(self.shared.split('\n')))
    }

    /// The same with another text in one field.
    #[cfg(any(test, fuzzing))]
    #[must_use]
    pub(crate) fn with(&self, field: Field, text: &str) -> Self {
        let mut texts = Field::ALL.map(|field| &self[field]);
        texts[field as usize] = text;
        Self::new(&texts)
    }

    /// The host names, one after the other.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self[Field::Hosts].split(' ').filter(|host| !host.is_empty())
    }

    /// Whether the texts behind the first [`Field::OWN`] are those of the other one, as far as a pointer tells.
    #[must_use]
    pub(crate) fn shares_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Index<Field> for Texts {
    type Output = str;

    fn index(&self, field: Field) -> &str {
        self.iter().nth(field as usize).map_or("", |(_, text)| text)
    }
}

impl Default for Texts {
    fn default() -> Self {
        Self::new(&ByField::<&str>::default())
    }
}

/// The fields that are not named are empty.
impl<T: AsRef<str>, const N: usize> From<[(Field, T); N]> for Texts {
    fn from(named: [(Field, T); N]) -> Self {
        let mut texts = ByField::<&str>::default();
        for (field, text) in &named {
            texts[*field as usize] = text.as_ref();
        }
        Self::new(&texts)
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().filter(|(_, text)| !text.is_empty())).finish()
    }
}

/// A text for each label; those that are empty are left out.
impl Serialize for Texts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let texts = self.iter().filter(|(_, text)| !text.is_empty());
        serializer.collect_map(texts.map(|(field, text)| (field.label(), text)))
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

        struct ByLabel;
        impl<'de> Visitor<'de> for ByLabel {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("texts by label")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
                let mut texts = ByField::<Cow<'de, str>>::default();
                while let Some((Text(label), Text(text))) = map.next_entry()? {
                    let field = Field::from_label(&label).ok_or_else(|| A::Error::unknown_field(&label, &[]))?;
                    texts[field as usize] = text;
                }
                Ok(Texts::new(&texts))
            }
        }
        deserializer.deserialize_map(ByLabel)
    }
}

/// Makes texts that share what they have in common, for as long as certificates are put together.
#[derive(Debug, Default)]
pub struct Interner {
    known: HashSet<Arc<str>>,
    /// What was used last is used next, nearly always.
    last: Option<Arc<str>>,
}

impl Interner {
    /// The texts, once they are [clean](super::clean).
    pub fn texts<T: AsRef<str>>(&mut self, texts: &ByField<T>) -> Texts {
        let (own, shared) = both_lines(texts);
        let shared = self.known(&shared).unwrap_or_else(|| self.add(shared.into()));
        Texts::from_lines(own, shared)
    }

    /// Has the texts share what those before them shared.
    pub fn share(&mut self, texts: &mut Texts) {
        match self.known(&texts.shared) {
            Some(known) => texts.shared = known,
            None => drop(self.add(Arc::clone(&texts.shared))),
        }
    }

    fn known(&mut self, shared: &str) -> Option<Arc<str>> {
        if let Some(last) = self.last.as_ref().filter(|last| ***last == *shared) {
            return Some(Arc::clone(last));
        }
        let known = self.known.get(shared)?;
        self.last = Some(Arc::clone(known));
        self.last.clone()
    }

    fn add(&mut self, shared: Arc<str>) -> Arc<str> {
        self.known.insert(Arc::clone(&shared));
        self.last = Some(Arc::clone(&shared));
        shared
    }
}

/// The lines of the texts that are a certificate's own, and of the others.
fn both_lines<T: AsRef<str>>(texts: &ByField<T>) -> (String, String) {
    let (own, shared) = texts.split_at(Field::OWN);
    let (own_fields, shared_fields) = Field::ALL.split_at(Field::OWN);
    (lines(own_fields, own), lines(shared_fields, shared))
}

/// The texts of these fields, clean, each on a line of its own.
fn lines<T: AsRef<str>>(fields: &[Field], texts: &[T]) -> String {
    let mut lines = String::with_capacity(texts.iter().map(|text| text.as_ref().len() + 1).sum::<usize>() - 1);
    for (place, (field, text)) in fields.iter().zip(texts).enumerate() {
        if place > 0 {
            lines.push('\n');
        }
        if *field != Field::Hosts {
            append_clean(&mut lines, text.as_ref());
            continue;
        }
        // One host name has the length of a text at most, and there can be hundreds.
        for host in text.as_ref().split(' ').filter(|host| !host.is_empty()) {
            append_clean(&mut lines, host);
            lines.push(' ');
        }
        lines.truncate(lines.trim_end_matches(' ').len());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_found_by_its_field() {
        let named = Field::ALL.map(|field| (field, field.label()));
        let texts = Texts::from(named);
        for (place, field) in Field::ALL.into_iter().enumerate() {
            assert_eq!((field as usize, &texts[field]), (place, field.label()));
            assert_eq!(
                Texts::from([(field, "alone")]).iter().filter(|(_, text)| !text.is_empty()).collect::<Vec<_>>(),
                [(field, "alone")]
            );
        }
        assert!(texts.iter().eq(named));
        assert!(Texts::default().iter().eq(Field::ALL.map(|field| (field, ""))));
    }

    #[test]
    fn there_can_be_more_host_names_than_fit_into_a_text() {
        let hosts: Vec<_> = (0..200).map(|n| format!("host-{n}.example")).collect();
        let texts = Texts::from([(Field::Hosts, format!(" {}\u{85}  x ", hosts.join(" ")))]);
        let expected = hosts.iter().map(String::as_str).take(199).chain(["host-199.example\u{fffd}", "x"]);
        assert!(texts.hosts().eq(expected), "{texts:?}");
        assert_eq!(Texts::from([(Field::Hosts, " ")]).hosts().count(), 0);
    }

    #[test]
    fn texts_are_clean_and_in_order_field_by_field() {
        let texts = |id, common_name| Texts::from([(Field::Id, id), (Field::CommonName, common_name)]);
        let hostile = texts("two\nlines", "\u{85}\u{2028}");
        assert_eq!((&hostile[Field::Id], &hostile[Field::CommonName]), ("two\u{fffd}lines", "\u{fffd}\u{fffd}"));
        let in_order =
            [texts("", ""), texts("", " "), texts("a", "z"), texts("a ", ""), texts("ab", "b"), texts("b", "a")];
        assert!(in_order.is_sorted_by(|a, b| a < b));
        let longest = "😀".repeat(1000);
        let texts = Texts::from(Field::ALL.map(|field| (field, &longest)));
        let kept = crate::model::clean(&longest);
        assert!(texts.iter().eq(Field::ALL.map(|field| (field, &*kept))));
    }

    #[test]
    fn what_certificates_have_in_common_is_one_allocation() {
        let texts = |organization| {
            let mut texts = ByField::<&str>::default();
            texts[Field::Organization as usize] = organization;
            texts
        };
        let mut interner = Interner::default();
        let first = interner.texts(&texts("two\nlines"));
        let mut other = interner.texts(&texts("other"));
        let mut elsewhere = Texts::from([(Field::Organization, "two\nlines")]);
        assert!(elsewhere == first && !elsewhere.shares_with(&first));
        interner.share(&mut elsewhere);
        for again in [interner.texts(&texts("two\nlines")), interner.texts(&texts("two\u{fffd}lines")), elsewhere] {
            assert!(again.shares_with(&first));
        }
        let before = other.clone();
        interner.share(&mut other);
        assert!(other.shares_with(&before) && !other.shares_with(&first));
    }
}
