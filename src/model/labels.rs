//! Labels of the owner's own, such as who has to act: which rule gives which label to what.

use std::sync::Arc;

use super::{Kind, NamePattern, Scope, Target};

/// The rules of `[[labels]]`. For each label, the first rule that matches decides; where none does, it is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelRules {
    /// The names of all labels, each once, in alphabetical order; at most [`LabelRules::MAX_NAMES`].
    pub names: Vec<Arc<str>>,
    /// In the order of the configuration.
    pub rules: Vec<LabelRule>,
}

/// What a rule matches, and the labels that it gives. Every pattern has to match; one that is not there does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelRule {
    /// Matches the name of a zone or its id. What is listed in an account has no zone.
    pub zone: Option<NamePattern>,
    /// Matches the label of a kind.
    pub kind: Option<NamePattern>,
    /// Matches the name of an account or its id. What is not known matches `*` alone.
    pub account: Option<NamePattern>,
    /// Matches the common name of a certificate. A listing as a whole has none, which matches `*` alone.
    pub common_name: Option<NamePattern>,
    /// Names with values.
    pub labels: Vec<(Arc<str>, Arc<str>)>,
}

/// The labels of a target and its certificates: for each name, what decides about its value.
#[derive(Debug, Default)]
pub struct TargetLabels(Vec<(Arc<str>, Vec<Candidate>)>);

/// A value, for certificates whose common name matches.
type Candidate = (Option<NamePattern>, Arc<str>);

impl LabelRules {
    /// More names would make every series long.
    pub const MAX_NAMES: usize = 10;

    /// The labels of a target that is called so.
    #[must_use]
    pub fn of_target(&self, target: &Target, name: &str) -> TargetLabels {
        let matching: Vec<_> = self.rules.iter().filter(|rule| rule.matches(target, name)).collect();
        let candidates = |name: &Arc<str>| {
            let given = matching.iter().filter_map(|rule| {
                let (_, value) = rule.labels.iter().find(|(given, _)| given == name)?;
                Some((rule.common_name.clone(), Arc::clone(value)))
            });
            (Arc::clone(name), given.collect())
        };
        TargetLabels(self.names.iter().map(candidates).collect())
    }
}

impl LabelRule {
    /// Whether it matches a target that is called so, as far as that does not depend on the certificate.
    #[must_use]
    pub fn matches(&self, target: &Target, name: &str) -> bool {
        let (id, kind) = (target.id.as_str(), target.kind);
        let account = match kind.scope() {
            Scope::Account => Some((name, id)),
            Scope::Zone => {
                let account = target.zone.as_ref().and_then(|zone| zone.account.as_ref());
                account.map(|account| (&*account.name, account.id.as_str()))
            }
        };
        let zone = (kind.scope() == Scope::Zone).then_some((name, id));
        let is = |pattern: &Option<NamePattern>, known: Option<(&str, &str)>| {
            let (name, id) = known.unwrap_or_default();
            pattern.as_ref().is_none_or(|pattern| pattern.matches(name) || pattern.matches(id))
        };
        is(&self.zone, zone) && is(&self.account, account) && self.matches_kind(kind)
    }

    /// Whether it matches a kind.
    #[must_use]
    pub fn matches_kind(&self, kind: Kind) -> bool {
        self.kind.as_ref().is_none_or(|pattern| pattern.matches(kind.label()))
    }
}

impl TargetLabels {
    /// Every label with its value, for a certificate of this common name; for the listing, the name is empty.
    pub fn of<'a>(&'a self, common_name: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().map(move |(name, candidates)| {
            let mut matching = candidates
                .iter()
                .filter(|(pattern, _)| pattern.as_ref().is_none_or(|pattern| pattern.matches(common_name)));
            (&**name, matching.next().map_or("", |(_, value)| &**value))
        })
    }

    /// The labels in one text, for people: those that are not empty.
    #[must_use]
    pub fn in_words(&self, common_name: &str) -> String {
        let given = self.of(common_name).filter(|(_, value)| !value.is_empty());
        given.map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join(", ")
    }

    /// Whether every certificate has the labels of the listing.
    #[must_use]
    pub fn are_the_same_for_all(&self) -> bool {
        self.0.iter().all(|(_, candidates)| candidates.iter().all(|(pattern, _)| pattern.is_none()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Account, Zone};

    fn rule(patterns: [&str; 4], labels: &[(&str, &str)]) -> LabelRule {
        let [zone, kind, account, common_name] =
            patterns.map(|text| (!text.is_empty()).then(|| NamePattern::new(text).unwrap()));
        let labels = labels.iter().map(|&(name, value)| (name.into(), value.into())).collect();
        LabelRule { zone, kind, account, common_name, labels }
    }

    fn target(kind: Kind, name: &str, account: Option<&str>) -> Target {
        let id: crate::model::ScopeId = "023e105f4ecef8ad9ca31a8372d0c353".parse().unwrap();
        let account = account.map(|name| Account { id: "1".repeat(32).parse().unwrap(), name: name.into() });
        let zone = Zone { id: id.clone(), name: name.into(), status: "active".into(), account };
        let zone = (kind.scope() == Scope::Zone).then(|| Arc::new(zone));
        let credential = "default".into();
        let interval = Duration::from_secs(3600);
        Target { kind, id, name: Some(name.into()), zone, credential, interval }
    }

    #[test]
    fn the_first_rule_that_matches_decides_for_each_label() {
        let rules = LabelRules {
            names: vec!["owner".into(), "team".into()],
            rules: vec![
                rule(["*.pay.example", "client", "", "pos-*"], &[("owner", "payments")]),
                rule(["*.pay.example", "", "", ""], &[("owner", "platform"), ("team", "a")]),
                rule(["", "mtls_ca", "Example *", ""], &[("owner", "pki")]),
                rule(["", "", &"1".repeat(32), ""], &[("team", "b")]),
                rule(["*", "", "*", "*"], &[("team", "rest")]),
            ],
        };
        let of_target = |target: &Target| rules.of_target(target, target.name.as_deref().unwrap());
        let of = |target: &Target, common_name: &str| {
            let labels = of_target(target);
            labels.of(common_name).map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
        };
        let shop = target(Kind::Client, "shop.pay.example", None);
        assert_eq!(of(&shop, "POS-7"), ["payments", "a"]);
        assert_eq!(of(&shop, "other"), ["platform", "a"]);
        assert_eq!(of(&shop, ""), ["platform", "a"]);
        assert_eq!(of(&target(Kind::Edge, "shop.pay.example", None), "pos-7"), ["platform", "a"]);
        assert_eq!(of(&target(Kind::MtlsCa, "Example Ltd", None), ""), ["pki", "rest"]);
        assert_eq!(of(&target(Kind::Edge, "x.example", Some("Example Ltd")), ""), ["", "b"]);
        // Whatever is not known matches a star.
        assert_eq!(of(&target(Kind::Edge, "x.example", None), ""), ["", "rest"]);
        assert!(!of_target(&shop).are_the_same_for_all());
        assert_eq!(of_target(&shop).in_words("pos-1"), "owner: payments, team: a");
    }
}
