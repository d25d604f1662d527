//! The `[[labels]]` sections: labels of the owner's own.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Context,
    document::{Entry, Place, Section, quoted, text_as},
    targets::remedy_for_kind,
};
use crate::model::{Field, Kind, LabelRule, LabelRules, NamePattern, clean};

/// Labels of the program and of its rules, and names that its JSON has beside them, but for those of [`Field`].
const OWN: &str = "account account_id alertname code credentials days_until_expiry endpoint expires_on issued_on kind \
                   labels ordinal policy reason revision rustversion severity status suppressed total version watched \
                   within_days zone zone_id";

const OF_PROMETHEUS: [&str; 4] = ["job", "instance", "le", "quantile"];

impl Context<'_> {
    pub(super) fn read_labels(&self, entry: Option<Entry<'_>>) -> LabelRules {
        let rule = "each rule must be a section of its own, [[labels]] in double brackets";
        let entries = entry.and_then(|entry| entry.items(rule)).unwrap_or_default();
        let sections = entries.into_iter().map(|entry| entry.section(rule)).filter(Section::is_table);
        let rules: Vec<_> = sections.map(|section| self.read_label_rule(section)).collect();
        let names: BTreeSet<Arc<str>> =
            rules.iter().flat_map(|rule| &rule.labels).map(|(name, _)| Arc::clone(name)).collect();
        if names.len() > LabelRules::MAX_NAMES {
            let text = format!("there are {} names of labels; use at most {}", names.len(), LabelRules::MAX_NAMES);
            self.report.mistake(&Place::absent("labels"), text);
        }
        LabelRules { names: names.into_iter().collect(), rules }
    }

    fn read_label_rule(&self, mut section: Section<'_>) -> LabelRule {
        let mut patterns = section.section("match");
        let pattern = text_as(NamePattern::new);
        let kind = text_as(|text| {
            let pattern = NamePattern::new(text).map_err(str::to_owned)?;
            if Kind::ALL.into_iter().any(|kind| pattern.matches(kind.label())) {
                Ok(pattern)
            } else {
                Err(format!("{} matches no kind; {}", quoted(text), remedy_for_kind(text)))
            }
        });
        let mut rule = LabelRule {
            zone: patterns.read("zone", &pattern),
            kind: patterns.read("kind", kind),
            account: patterns.read("account", &pattern),
            common_name: patterns.read("common_name", &pattern),
            labels: Vec::new(),
        };
        patterns.finish();
        let labels = section.section("labels");
        if !labels.is_table() {
            self.report.mistake(&section.place, "a rule needs labels, such as labels = { owner = \"payments\" }");
        } else if labels.is_empty() {
            self.report.mistake(&labels.place, "it must hold at least one label, such as owner = \"payments\"");
        }
        for (name, value) in labels.entries() {
            if let Err(mistake) = check_label_name(name) {
                self.report.mistake(&value.place, mistake);
            }
            rule.labels.extend(value.read(text_as(checked_value)).map(|value| (Arc::from(name), value)));
        }
        section.finish();
        rule
    }
}

/// The legacy character set, and none of the names that something else needs.
fn check_label_name(name: &str) -> Result<(), String> {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_legacy = name.starts_with(is_first) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    // The fields behind the hosts are shown nowhere.
    let is_of_a_certificate = Field::from_label(name).is_some_and(|field| field as usize <= Field::Hosts as usize);
    if !is_legacy {
        Err("the name of a label may hold letters, digits and underscores, and not begin with a digit".to_owned())
    } else if name.starts_with("__") || OF_PROMETHEUS.contains(&name) {
        Err(format!("{name} is a label of Prometheus; take another name"))
    } else if is_of_a_certificate || OWN.split(' ').any(|own| own == name) {
        Err(format!("{name} is a label of this program or of its rules; take another name"))
    } else {
        Ok(())
    }
}

fn checked_value(text: &str) -> Result<Arc<str>, &'static str> {
    if *clean(text) == *text {
        Ok(text.into())
    } else {
        Err("the value of a label may hold no control, bidirectional or invisible characters, and at most 256 in all")
    }
}
