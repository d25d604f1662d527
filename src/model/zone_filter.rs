//! Which of the zones that a credential sees are watched.

use super::{Zone, clean};

/// A pattern of names: `*` stands for any run of characters, and case does not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern {
    text: Box<str>,
    /// What has to be in a name between the stars, in lower case.
    parts: Box<[Box<str>]>,
}

impl NamePattern {
    /// # Errors
    /// In words, if it could match no name.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        if text.trim().is_empty() {
            Err("a pattern may not be empty; \"*\" matches every name")
        } else if *clean(text) != *text {
            Err("a pattern may hold no control, bidirectional or invisible characters, and at most 256 in all")
        } else {
            Ok(Self { text: text.into(), parts: text.to_lowercase().split('*').map(Box::from).collect() })
        }
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The one name that it matches, if it has no star.
    #[must_use]
    pub fn only_name(&self) -> Option<&str> {
        (self.parts.len() == 1).then_some(&*self.text)
    }

    /// Whether it matches a name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        let [first, middle @ .., last] = &*self.parts else {
            return self.parts.first().is_some_and(|only| **only == *name);
        };
        let Some(mut rest) = name.strip_prefix(&**first) else { return false };
        for part in middle {
            match rest.split_once(&**part) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        rest.ends_with(&**last)
    }
}

/// Which zones of a discovery are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneFilter {
    /// A zone is watched if one of these matches its name.
    pub include: Vec<NamePattern>,
    /// And none of these does.
    pub exclude: Vec<NamePattern>,
    /// Ids or names of the accounts whose zones are watched; of all accounts if there are none.
    pub accounts: Vec<Box<str>>,
}

/// Whether a zone is watched, or why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterVerdict<'a> {
    /// It is.
    Watched,
    /// No pattern includes it.
    NotIncluded,
    /// This pattern excludes it.
    ExcludedBy(&'a NamePattern),
    /// It belongs to an account that is not asked for.
    OtherAccount,
}

impl ZoneFilter {
    /// Every zone is watched.
    #[must_use]
    pub fn everything() -> Self {
        let any = NamePattern { text: "*".into(), parts: ["".into(), "".into()].into() };
        Self { include: vec![any], exclude: Vec::new(), accounts: Vec::new() }
    }

    /// Whether a zone is watched.
    #[must_use]
    pub fn verdict(&self, zone: &Zone) -> FilterVerdict<'_> {
        let has_account = |wanted: &str| {
            zone.account.as_ref().is_some_and(|account| {
                account.id.as_str().eq_ignore_ascii_case(wanted) || account.name.to_lowercase() == wanted.to_lowercase()
            })
        };
        if !self.accounts.is_empty() && !self.accounts.iter().any(|wanted| has_account(wanted)) {
            FilterVerdict::OtherAccount
        } else if !self.include.iter().any(|pattern| pattern.matches(&zone.name)) {
            FilterVerdict::NotIncluded
        } else if let Some(pattern) = self.exclude.iter().find(|pattern| pattern.matches(&zone.name)) {
            FilterVerdict::ExcludedBy(pattern)
        } else {
            FilterVerdict::Watched
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Account;

    #[test]
    fn a_star_matches_any_run_of_characters_and_case_does_not_matter() {
        for (pattern, matching, others) in [
            ("*", &["a.example", ""][..], &[][..]),
            ("shop.example", &["shop.example", "SHOP.example"], &["a.shop.example", "shop.example.", ""]),
            (
                "*.Pay.example",
                &["a.pay.example", "a.b.PAY.example", ".pay.example"],
                &["pay.example", "a.pay.example.com"],
            ),
            ("shop*", &["shop", "shopping.example"], &["a.shop"]),
            ("*shop*", &["shop", "a.shop.example"], &["sho.p"]),
            ("a*b*a", &["aba", "a.b.b.a"], &["aa", "ab", "abab", "xaba"]),
            ("a*a", &["aa", "aba"], &["a"]),
            ("**", &["", "x"], &[]),
            ("m\u{fc}nchen*", &["M\u{dc}NCHEN.example"], &["munchen.example"]),
        ] {
            let pattern = NamePattern::new(pattern).unwrap();
            for name in matching {
                assert!(pattern.matches(name), "{pattern:?} {name}");
            }
            for name in others {
                assert!(!pattern.matches(name), "{pattern:?} {name}");
            }
        }
        for wrong in ["", " ", "a\nb"] {
            assert!(NamePattern::new(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_zone_that_is_not_watched_says_why() {
        let patterns = |texts: &[&str]| texts.iter().map(|text| NamePattern::new(text).unwrap()).collect();
        let filter = ZoneFilter {
            include: patterns(&["*.example", "one.test"]),
            exclude: patterns(&["*.dev.example", "old*"]),
            accounts: vec!["11CBE197C050C9E422AAA103CFE30ED8".into(), "Example Ltd".into()],
        };
        let zone = |name: &str, account: Option<(&str, &str)>| Zone {
            id: "023e105f4ecef8ad9ca31a8372d0c353".parse().unwrap(),
            name: name.into(),
            status: "active".into(),
            account: account.map(|(id, name)| Account { id: id.repeat(32).parse().unwrap(), name: name.into() }),
        };
        let ours = Some(("1", "example ltd"));
        for (zone, expected) in [
            (zone("shop.example", ours), FilterVerdict::Watched),
            (zone("one.test", ours), FilterVerdict::Watched),
            (zone("two.test", ours), FilterVerdict::NotIncluded),
            (zone("a.dev.example", ours), FilterVerdict::ExcludedBy(&filter.exclude[0])),
            (zone("old.example", ours), FilterVerdict::ExcludedBy(&filter.exclude[1])),
            (zone("shop.example", Some(("2", "Example"))), FilterVerdict::OtherAccount),
            (zone("shop.example", None), FilterVerdict::OtherAccount),
        ] {
            assert_eq!(filter.verdict(&zone), expected, "{zone:?}");
        }
    }
}
