//! What is polled: the kinds and intervals of `[poll]`, the zones and the accounts.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use toml::de::DeValue;

use super::{
    Context, check_name,
    credentials::DEFAULT,
    document::{Entry, Reading, Section, duration, key_text, parsed, quoted, text_as},
    suggestion::remedy,
};
use crate::model::{Kind, Scope, ScopeId, Target};

/// What `[poll]` says of every zone and account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollDefaults {
    /// What is listed.
    pub kinds: Vec<Kind>,
    interval: Duration,
    /// By kind; beats `interval`.
    intervals: HashMap<Kind, Duration>,
}

/// How often kinds are listed in which hardly anything changes.
const SIX_HOURS: Duration = Duration::from_secs(6 * 3600);

impl PollDefaults {
    pub(super) fn read(poll: &mut Section<'_>) -> Self {
        let kinds = poll.take("kinds").and_then(|entry| kinds(&entry)).unwrap_or_else(|| vec![Kind::Client]);
        let interval = poll.read("interval", duration(Target::INTERVAL)).unwrap_or(Duration::from_secs(3600));
        let mut by_kind = poll.section("intervals");
        let intervals = Kind::ALL
            .into_iter()
            .filter_map(|kind| Some((kind, by_kind.read(kind.label(), duration(Target::INTERVAL))?)))
            .collect();
        by_kind.finish();
        Self { kinds, interval, intervals }
    }

    /// How often a kind is listed.
    #[must_use]
    pub fn interval(&self, kind: Kind) -> Duration {
        let usual = if kind.changes_rarely() { self.interval.max(SIX_HOURS) } else { self.interval };
        self.intervals.get(&kind).copied().unwrap_or(usual)
    }
}

/// Reads which kinds there are to poll: all, or a list.
fn kinds(entry: &Entry<'_>) -> Option<Vec<Kind>> {
    let is_all = |value: &DeValue<'_>| value.as_str() == Some("all");
    if entry.read(|value| Ok(is_all(value)))? {
        return Some(Kind::ALL.to_vec());
    }
    let kinds = entry.list(kind)?;
    if kinds.is_empty() {
        return entry.read(|_| Err("it must hold at least one kind, such as \"client\", or be \"all\"".to_owned()));
    }
    Some(kinds)
}

/// The remedy for a word that is not a kind.
pub fn remedy_for_kind(word: &str) -> String {
    let known = Kind::ALL.map(Kind::label);
    remedy(word, known, &format!("the kinds are {}", known.join(", ")))
}

fn kind(value: &DeValue<'_>) -> Reading<Kind> {
    text_as(|word| {
        Kind::from_label(word).ok_or_else(|| format!("{} is not a kind; {}", quoted(word), remedy_for_kind(word)))
    })(value)
}

/// Sections in which nothing is listed, and kinds that are listed nowhere.
pub(super) fn without_effect(
    has_zones: bool,
    has_accounts: bool,
    discovers: bool,
    targets: &[Arc<Target>],
    kinds: &[Kind],
) -> Vec<String> {
    let of_accounts: Vec<_> =
        kinds.iter().filter(|kind| kind.scope() == Scope::Account).map(|kind| kind.label()).collect();
    let is_idle = |scope| !targets.iter().any(|target| target.kind.scope() == scope);
    let mut sentences = Vec::new();
    if !of_accounts.is_empty() && !has_accounts && !discovers {
        sentences.push(format!(
            "The account kinds of poll.kinds ({}) are not listed, as no account is known; add [[accounts]] or [discovery].",
            of_accounts.join(", ")
        ));
    }
    if has_accounts && is_idle(Scope::Account) {
        let known: Vec<_> =
            Kind::ALL.into_iter().filter(|kind| kind.scope() == Scope::Account).map(Kind::label).collect();
        sentences.push(format!(
            "Nothing is listed in [[accounts]], as poll.kinds holds no account kind; add some of {}.",
            known.join(", ")
        ));
    }
    if has_zones && is_idle(Scope::Zone) {
        sentences.push(
            "Nothing is listed in [[zones]], as poll.kinds holds no zone kind; add some, such as client.".to_owned(),
        );
    }
    sentences
}

impl Context<'_> {
    /// Reads the sections of one scope: `[[zones]]` or `[[accounts]]`.
    pub(super) fn read_targets(
        &self,
        scope: Scope,
        entry: Option<Entry<'_>>,
        defaults: &PollDefaults,
        names: &BTreeSet<&str>,
    ) -> Vec<Arc<Target>> {
        let scope_word = scope.label();
        let rule = format!("each {scope_word} must be a section of its own, [[{scope_word}s]] in double brackets");
        let entries = entry.and_then(|entry| entry.items(&rule)).unwrap_or_default();
        let mut first_lines = HashMap::new();
        let sections = entries.into_iter().map(|entry| entry.section(&rule)).filter(Section::is_table);
        let targets =
            sections.filter_map(|section| self.read_target(scope, section, defaults, names, &mut first_lines));
        targets.flatten().collect()
    }

    /// Reads one zone or account: a target for each of its kinds.
    fn read_target(
        &self,
        scope: Scope,
        mut section: Section<'_>,
        defaults: &PollDefaults,
        names: &BTreeSet<&str>,
        first_lines: &mut HashMap<ScopeId, usize>,
    ) -> Option<Vec<Arc<Target>>> {
        let id = self.read_id(scope, &mut section, first_lines);
        let name = section.read("name", text_as(|name| check_name(name).map(|()| Arc::<str>::from(name))));
        let credential = self.read_credential_name(&mut section, names);
        let (mut own_kinds, mut own_interval) = (None, None);
        if scope == Scope::Zone {
            own_kinds = section.take("kinds").and_then(|entry| self.kinds_of_zone(&entry));
            own_interval = section.read("interval", duration(Target::INTERVAL));
        }
        section.finish();
        let (id, credential) = (id?, credential?);
        let kinds = own_kinds.as_ref().unwrap_or(&defaults.kinds).iter().filter(|kind| kind.scope() == scope);
        let target = |&kind: &Kind| {
            let interval = own_interval.unwrap_or_else(|| defaults.interval(kind));
            Arc::new(Target {
                kind,
                id: id.clone(),
                name: name.clone(),
                zone: None,
                credential: credential.clone(),
                interval,
            })
        };
        Some(kinds.map(target).collect())
    }

    fn read_id(
        &self,
        scope: Scope,
        section: &mut Section<'_>,
        first_lines: &mut HashMap<ScopeId, usize>,
    ) -> Option<ScopeId> {
        let (what, remedy) = match scope {
            Scope::Zone => ("a zone", "copy it from the zone's overview page in the dashboard"),
            Scope::Account => ("an account", "copy it from the dashboard's address"),
        };
        let Some(entry) = section.take("id") else {
            self.report.mistake(&section.place, format!("{what} needs its id, id = \"...\"; {remedy}"));
            return None;
        };
        let no_id =
            |text: &str| format!("{} is not {what} id, which has 32 hexadecimal digits; {remedy}", quoted(text));
        let id: ScopeId = entry.read(text_as(|text| text.parse().map_err(|_| no_id(text))))?;
        let line = self.report.line(&entry.place)?;
        if let Some(first) = first_lines.get(&id) {
            let text = format!("{id} is there already, in line {first}; remove one of the two");
            self.report.mistake(&entry.place, text);
        }
        first_lines.entry(id.clone()).or_insert(line);
        Some(id)
    }

    /// Which kinds a zone has, in place of those of `[poll]`.
    fn kinds_of_zone(&self, entry: &Entry<'_>) -> Option<Vec<Kind>> {
        let kinds = kinds(entry)?;
        let of_account = kinds.iter().find(|kind| kind.scope() == Scope::Account);
        if let (Some(kind), false) = (of_account, kinds.len() == Kind::ALL.len()) {
            let text = format!(
                "{} is listed in accounts and not in zones; name it in poll.kinds, and the account in [[accounts]]",
                kind.label()
            );
            self.report.mistake(&entry.place, text);
            return None;
        }
        Some(kinds)
    }

    /// Which credential a zone or account has; there must be one of that name.
    fn read_credential_name(&self, section: &mut Section<'_>, names: &BTreeSet<&str>) -> Option<Arc<str>> {
        let entry = section.take("credentials");
        let name = entry.as_ref().map_or_else(|| Some(DEFAULT.to_owned()), |entry| entry.read(parsed))?;
        // Where no section has a name, the report says so already.
        if !names.is_empty() && !names.contains(&*name) {
            let place = entry.as_ref().map_or(&section.place, |entry| &entry.place);
            self.report.mistake(place, unknown_credential(&name, names, "set credentials = \"...\" to one of"));
        }
        Some(name.into())
    }
}

/// The report of a name that no credential has, with how to name one of those that there are.
pub(super) fn unknown_credential(name: &str, names: &BTreeSet<&str>, instead: &str) -> String {
    let known = names.iter().map(|name| key_text(name)).collect::<Vec<_>>().join(", ");
    let remedy = remedy(name, names.iter().copied(), &format!("{instead} {known}"));
    format!("there is no section [credentials.{}]; {remedy}", key_text(name))
}
