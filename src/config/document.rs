//! A TOML document, read key by key, and the report of every mistake in it with line and key.
//!
//! The only place that knows toml. Which keys there are and what they mean is for its users.
//! It takes care that no secret gets into the report: a value is repeated only if it cannot be one.

use std::{cell::RefCell, fmt, ops::RangeInclusive, path::PathBuf, str::FromStr, time::Duration};

use toml::de::{DeTable, DeValue};

use super::suggestion::remedy;

/// Collects mistakes while a document is read.
#[derive(Debug)]
pub(super) struct Report {
    line_starts: Vec<usize>,
    mistakes: RefCell<Vec<Mistake>>,
}

/// One mistake, with the line it is in, where it is in one.
#[derive(Debug)]
pub(super) struct Mistake {
    /// Where it is not the configuration itself that it is in; or the name of a variable.
    pub(super) file: Option<PathBuf>,
    pub(super) line: Option<usize>,
    /// The full name of the key; empty where it is about the file itself.
    pub(super) key: String,
    pub(super) text: String,
}

/// What a mistake is about.
#[derive(Debug, Clone)]
pub(super) struct Place {
    key: String,
    offset: Option<usize>,
}

/// A table of which keys are asked for one by one, until what is left over is unknown.
#[derive(Debug)]
pub(super) struct Section<'a> {
    pub(super) place: Place,
    /// `None` where it is absent, or no table: it reads as an empty one.
    table: Option<&'a DeTable<'a>>,
    known: Vec<&'static str>,
    report: &'a Report,
}

/// A value and where it is.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) place: Place,
    value: &'a DeValue<'a>,
    report: &'a Report,
}

/// Reads the text. The error is every mistake in its syntax: what such a text means would be a guess.
pub(super) fn parse(text: &str) -> Result<(Report, DeTable<'_>), Vec<Mistake>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let report = Report {
        line_starts: text.match_indices('\n').map(|(offset, _)| offset + 1).collect(),
        mistakes: RefCell::default(),
    };
    for error in &errors {
        let place = Place { key: String::new(), offset: error.span().map(|span| span.start) };
        // `message` alone: the error's `Display` prints the source line, which may hold a secret.
        report.mistake(&place, format!("this is not valid TOML: {}", error.message()));
    }
    if errors.is_empty() {
        return Ok((report, table.into_inner()));
    }
    let mut mistakes = report.into_mistakes();
    // What else the parser says of a line follows from the first error in it.
    mistakes.dedup_by_key(|mistake| mistake.line);
    Err(mistakes)
}

impl Report {
    /// Adds a mistake.
    pub(super) fn mistake(&self, place: &Place, text: impl Into<String>) {
        let line = self.line(place);
        self.mistakes.borrow_mut().push(Mistake { file: None, line, key: place.key.clone(), text: text.into() });
    }

    /// Adds a mistake that is not in the document but in what is called so.
    pub(super) fn mistake_outside(&self, name: &str, text: String) {
        let file = Some(name.into());
        self.mistakes.borrow_mut().push(Mistake { file, line: None, key: String::new(), text });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.mistakes.borrow().is_empty()
    }

    /// The line of a place, counted from 1.
    pub(super) fn line(&self, place: &Place) -> Option<usize> {
        place.offset.map(|offset| self.line_starts.partition_point(|&start| start <= offset) + 1)
    }

    /// Every mistake, by line; those of the whole file come first.
    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        let mut mistakes = self.mistakes.into_inner();
        mistakes.sort_by_key(|mistake| mistake.line);
        mistakes
    }
}

impl Place {
    /// A key that is not in the document.
    pub(super) fn absent(key: &str) -> Self {
        Self { key: key.to_owned(), offset: None }
    }

    fn below(&self, key: &str, offset: Option<usize>) -> Self {
        let key = key_text(key);
        Self { key: if self.key.is_empty() { key } else { format!("{}.{key}", self.key) }, offset }
    }
}

impl<'a> Section<'a> {
    pub(super) const fn root(table: &'a DeTable<'a>, report: &'a Report) -> Self {
        Self { place: Place { key: String::new(), offset: None }, table: Some(table), known: Vec::new(), report }
    }

    /// A key, if it is there; either way it is a known one from now on.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Entry<'a>> {
        self.known.push(key);
        let (name, value) = self.table?.get_key_value(key)?;
        let place = self.place.below(key, Some(name.span().start));
        Some(Entry { place, value: value.get_ref(), report: self.report })
    }

    /// The value of a key, if it is there and right.
    pub(super) fn read<T>(&mut self, key: &'static str, reader: impl Fn(&DeValue<'_>) -> Reading<T>) -> Option<T> {
        self.take(key)?.read(reader)
    }

    /// The section of a key; an empty one if it is not there.
    pub(super) fn section(&mut self, key: &'static str) -> Self {
        let absent = Self { place: self.place.below(key, None), table: None, known: Vec::new(), report: self.report };
        self.take(key).map_or(absent, |entry| entry.section(&format!("it must be a section, [{key}]")))
    }

    /// Each key that is a section of its own, with its name; `rule` says that each must be one.
    pub(super) fn sections(&self, rule: &str) -> Vec<(&'a str, Self)> {
        let rule_for = |name: &str| format!("{rule}{}", remedy_for_a_secret(name));
        let sections = self.entries().map(|(name, entry)| (name, entry.section(&rule_for(name))));
        sections.filter(|(_, section)| section.is_table()).collect()
    }

    /// Each key with its value, whatever it is.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, Entry<'a>)> + use<'a, '_> {
        self.table.into_iter().flatten().map(|(name, value)| {
            let place = self.place.below(name.get_ref(), Some(name.span().start));
            (&**name.get_ref(), Entry { place, value: value.get_ref(), report: self.report })
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.is_none_or(DeTable::is_empty)
    }

    /// Whether it is there, and a table.
    pub(super) const fn is_table(&self) -> bool {
        self.table.is_some()
    }

    /// Reports whatever was not asked for.
    pub(super) fn finish(self) {
        for (key, entry) in self.entries() {
            if !self.known.contains(&key) {
                let kind = if self.place.key.is_empty() { "section" } else { "key" };
                let rest = format!("the known {kind}s here are {}", self.known.join(", "));
                let known = remedy(key, self.known.iter().copied(), &rest);
                // A name that is merely mistyped is no value that somebody put there.
                let of_secret = if known == rest { remedy_for_a_secret(key) } else { "" };
                self.report.mistake(&entry.place, format!("unknown {kind}{of_secret}; {known}"));
            }
        }
    }
}

impl<'a> Entry<'a> {
    /// The value, if it is right.
    pub(super) fn read<T>(&self, reader: impl FnOnce(&DeValue<'_>) -> Reading<T>) -> Option<T> {
        reader(self.value).map_err(|text| self.report.mistake(&self.place, text)).ok()
    }

    /// The items of a list, if each is right and there once.
    pub(super) fn list<T: PartialEq>(&self, reader: impl Fn(&DeValue<'_>) -> Reading<T>) -> Option<Vec<T>> {
        let entries = self.items("it must be a list in square brackets")?;
        let mut items = Vec::with_capacity(entries.len());
        for entry in &entries {
            items.extend(entry.read(|value| match reader(value)? {
                item if items.contains(&item) => Err(format!("{} is in the list twice; remove one", shown(value))),
                item => Ok(item),
            }));
        }
        (items.len() == entries.len()).then_some(items)
    }

    /// The items of a list that must hold at least one; `item` is what that is called, with an example.
    pub(super) fn list_of_some<T: PartialEq>(
        &self,
        item: &str,
        reader: impl Fn(&DeValue<'_>) -> Reading<T>,
    ) -> Option<Vec<T>> {
        let items = self.list(reader)?;
        if items.is_empty() {
            self.report.mistake(&self.place, format!("it must hold at least one {item}"));
        }
        Some(items)
    }

    pub(super) fn is_empty_list(&self) -> bool {
        self.value.as_array().is_some_and(|items| items.is_empty())
    }

    /// The items of a list, each with its own line; `rule` says that it must be one.
    pub(super) fn items(&self, rule: &str) -> Option<Vec<Self>> {
        let DeValue::Array(array) = self.value else {
            self.report.mistake(&self.place, wrong_type(rule, self.value));
            return None;
        };
        let place = |offset| Place { key: self.place.key.clone(), offset: Some(offset) };
        let entry = |item: &'a toml::Spanned<DeValue<'a>>| Entry {
            place: place(item.span().start),
            value: item.get_ref(),
            report: self.report,
        };
        Some(array.iter().map(entry).collect())
    }

    /// The table; `rule` says that it must be one.
    pub(super) fn section(self, rule: &str) -> Section<'a> {
        let table = self.value.as_table();
        if table.is_none() {
            self.report.mistake(&self.place, wrong_type(rule, self.value));
        }
        Section { place: self.place, table, known: Vec::new(), report: self.report }
    }
}

/// What a reader makes of a value: what it means, or a sentence on what is wrong with it.
pub(super) type Reading<T> = Result<T, String>;

/// Reads text that means something; the error of `meaning` may not hold a secret.
pub(super) fn text_as<T, E: fmt::Display>(
    meaning: impl Fn(&str) -> Result<T, E>,
) -> impl Fn(&DeValue<'_>) -> Reading<T> {
    move |value| {
        let text = value.as_str().ok_or_else(|| wrong_type("it must be text in quotes", value))?;
        meaning(text).map_err(|error| error.to_string())
    }
}

/// Reads text that means something; no secret is expected there.
pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(value: &DeValue<'_>) -> Reading<T> {
    text_as(|text| text.parse().map_err(|error| format!("{} cannot be used: {error}", quoted(text))))(value)
}

pub(super) fn boolean(value: &DeValue<'_>) -> Reading<bool> {
    match value {
        DeValue::Boolean(value) => Ok(*value),
        other => Err(wrong_type("it must be true or false", other)),
    }
}

pub(super) fn integer(range: RangeInclusive<u32>) -> impl Fn(&DeValue<'_>) -> Reading<u32> {
    move |value| {
        let integer = value.as_integer().ok_or_else(|| wrong_type("it must be a whole number", value))?;
        match u32::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(format!("{integer} is outside {} to {}", range.start(), range.end())),
        }
    }
}

pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&DeValue<'_>) -> Reading<Duration> {
    move |value| {
        let rule = "it must be a number with its unit in quotes, such as \"90s\", \"15m\", \"1h\" or \"7d\"";
        let text = value.as_str().ok_or_else(|| wrong_type(rule, value))?;
        match parse_duration(text) {
            Ok(duration) if range.contains(&duration) => Ok(duration),
            Ok(_) => Err(format!("{} is outside {} to {}", shown(value), brief(*range.start()), brief(*range.end()))),
            Err(_) => Err(format!("{} is not a duration; {rule}", shown(value))),
        }
    }
}

/// Reads a duration such as `90s` or `1h 30m`.
///
/// # Errors
/// In words, if it is none.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    /// No sane duration is longer, and the sums of `humantime` overflow with some that are.
    const MAX_BYTES: usize = 24;
    if text.len() > MAX_BYTES {
        return Err(format!("it is longer than {MAX_BYTES} characters, as no duration has to be"));
    }
    humantime::parse_duration(text).map_err(|_| "it is not a duration such as 30d, 12h or 1h 30m".to_owned())
}

/// A key as it is written in a document, unless it could be a secret.
pub(super) fn key_text(key: &str) -> String {
    if may_be_secret(key) {
        "(not shown)".to_owned()
    } else if !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')) {
        key.to_owned()
    } else {
        format!("{key:?}")
    }
}

/// Whether a text could be a pasted secret, or more of the document than was meant.
///
/// Cloudflare's tokens and keys are longer than 30 characters and hold neither a slash nor a dot.
pub(super) fn may_be_secret(text: &str) -> bool {
    text.chars().any(char::is_control) || text.chars().count() >= 30 && !text.contains(['/', '.'])
}

/// A text for a message, unless it could be a secret.
pub(super) fn quoted(text: &str) -> String {
    if may_be_secret(text) { "the value (not shown, it may be a secret)".to_owned() } else { format!("{text:?}") }
}

fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(integer) => integer.to_string(),
        _ => "the value".to_owned(),
    }
}

fn wrong_type(rule: &str, value: &DeValue<'_>) -> String {
    let found = value.type_str();
    format!("{rule}, not {} {found}", if found.starts_with(['a', 'i']) { "an" } else { "a" })
}

fn remedy_for_a_secret(key: &str) -> &'static str {
    let key = key.to_ascii_lowercase();
    if ["token", "key", "secret", "password"].iter().any(|word| key.contains(word)) {
        " (a secret is never a value in this file: use api_token_file or api_token_env)"
    } else {
        ""
    }
}

/// A duration of whole seconds in its largest unit, as the documentation writes it.
fn brief(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let (size, unit) =
        units.into_iter().find(|(size, _)| seconds >= *size && seconds.is_multiple_of(*size)).unwrap_or((1, "s"));
    format!("{}{unit}", seconds / size)
}
