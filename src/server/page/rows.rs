//! The rows of the two tables, in words.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    timeline,
    words::{UNKNOWN, age, date, duration, number, until, urgency},
};
use crate::model::{Certificate, Class, ExpiryCounts, Rejection, SeriesSettings, Suppression, TargetState};

/// A listing that is younger is not overdue, however short the interval is; the alert has the same limit.
const NEVER_OVERDUE: i64 = 600;

/// Sorts what is unknown behind everything else.
const LAST: i64 = i64::MAX;

/// What has to stand beside a zone's name to tell it from others.
pub(super) struct NameQualifiers<'a> {
    pub(super) has_kinds: bool,
    /// Names that several zones have.
    pub(super) shared: HashSet<&'a str>,
}

impl<'a> NameQualifiers<'a> {
    pub(super) fn new(states: &'a [Arc<TargetState>]) -> Self {
        let mut ids = HashMap::with_capacity(states.len());
        let mut shared = HashSet::new();
        for state in states {
            let id = &state.target.id;
            if *ids.entry(&*state.name).or_insert(id) != id {
                shared.insert(&*state.name);
            }
        }
        Self { shared, has_kinds: states.windows(2).any(|pair| pair[0].target.kind != pair[1].target.kind) }
    }

    /// What one listing and several are called, and what is done to them.
    pub(super) const fn listings(&self) -> (&'static str, &'static str, &'static str) {
        if self.has_kinds { ("listing", "listings", "read") } else { ("zone", "zones", "listed") }
    }

    /// What the figures about listings are called: where there is one kind, a listing is a zone.
    pub(super) const fn figures(&self) -> [&'static str; 3] {
        if self.has_kinds {
            ["Listings", "Listings whose last poll failed", "Listings overdue or not read yet"]
        } else {
            ["Zones", "Zones whose last poll failed", "Zones overdue or not listed yet"]
        }
    }

    pub(super) fn kind(&self, zone: &TargetState) -> Option<&'static str> {
        self.has_kinds.then(|| zone.target.kind.label())
    }

    pub(super) fn id<'z>(&self, zone: &'z TargetState) -> Option<&'z str> {
        self.shared.contains(&*zone.name).then(|| zone.target.id.as_str())
    }
}

/// What a zone needs, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    Failed,
    /// Its listing is overdue, or there is none.
    Overdue,
    Good,
}

impl Health {
    pub(super) const fn order(self) -> u8 {
        self as u8
    }
}

/// A zone in words.
pub(super) struct ZoneRow<'a> {
    pub(super) name: &'a str,
    /// Where there are several.
    pub(super) kind: Option<&'static str>,
    /// Where the name alone does not tell.
    pub(super) id: Option<&'a str>,
    pub(super) rejected: u64,
    pub(super) cells: Vec<Cell>,
    pub(super) health: Health,
    pub(super) is_overdue: bool,
    pub(super) poll: String,
    pub(super) class: &'static str,
}

/// A cell of the table of zones.
pub(super) struct Cell {
    pub(super) label: &'static str,
    pub(super) is_number: bool,
    pub(super) words: String,
    pub(super) class: &'static str,
    /// What it is sorted by, if not by what it says.
    pub(super) value: Option<i64>,
    pub(super) tag: &'static str,
    /// Something else that it says, with its class.
    pub(super) then: Option<(String, &'static str)>,
}

impl Cell {
    pub(super) fn new(label: &'static str, words: String, class: &'static str, value: i64) -> Self {
        Self { label, is_number: false, words, class, value: Some(value), tag: "", then: None }
    }

    pub(super) fn number(label: &'static str, count: Option<u64>, class: &'static str) -> Self {
        let value = if count.is_some() { None } else { Some(-1) };
        Self { is_number: true, value, ..Self::new(label, number(count), class, 0) }
    }
}

/// One cell for each class of statuses, and one for the expired ones.
pub(super) fn counts(known: Option<([u64; 4], u64, &'static str)>) -> Vec<Cell> {
    let of_class = |class: Class| Cell::number(class.label(), known.map(|(counts, ..)| counts[class as usize]), "");
    let class = known.map_or("", |(.., class)| class);
    let expired = Cell::number("expired", known.map(|(_, expired, _)| expired), class);
    Class::ALL.into_iter().map(of_class).chain([expired]).collect()
}

impl<'a> ZoneRow<'a> {
    pub(super) fn new(
        zone: &'a TargetState,
        expiring: Option<&ExpiryCounts>,
        names: &NameQualifiers<'_>,
        now: i64,
    ) -> Self {
        let known = zone.listing.as_ref().zip(expiring);
        let mut cells = counts(known.map(|((listing, _), expiring)| {
            let class = if expiring.expired.alarms() { "bad" } else { "" };
            (Class::ALL.map(|class| listing.count_of(class)), expiring.expired.all, class)
        }));
        cells.push(match known.and_then(|((listing, _), expiring)| Some((listing.next_expiry(now)?, expiring))) {
            Some((time, expiring)) => next_expiry(time, expiring, now),
            None => Cell::new("next expiry", UNKNOWN.into(), "", LAST),
        });
        let interval = i64::try_from(zone.interval.as_secs()).unwrap_or(i64::MAX);
        let (listed, is_overdue) = match &zone.listing {
            _ if zone.available == Some(false) => (Cell::new("listed", "not on your plan".into(), "dim", LAST), false),
            None => (Cell::new("listed", "not yet".into(), "warn", LAST), true),
            Some((_, time)) => {
                let age = age(*time, now);
                let is_overdue = age > interval.saturating_mul(2).max(NEVER_OVERDUE);
                let (end, class) = if is_overdue { (", overdue", "warn") } else { ("", "") };
                (Cell::new("listed", format!("{} ago{end}", duration(age)), class, age), is_overdue)
            }
        };
        cells.push(listed);
        let (poll, class) = match (&zone.last_poll, zone.failure()) {
            // A clock that was set back tells no age.
            (Some(poll), Some(failure)) if poll.at <= now => {
                (format!("failed {} ago: {failure}", duration(age(poll.at, now))), "bad")
            }
            (_, Some(failure)) => (format!("failed: {failure}"), "bad"),
            (Some(_), None) if zone.available == Some(false) => {
                ("not on your plan: asked for again once a day".into(), "dim")
            }
            (Some(_), None) => ("good".into(), "good"),
            (None, None) if zone.listing.is_some() => ("not polled since the start".into(), "dim"),
            (None, None) => ("not polled yet".into(), "dim"),
        };
        Self {
            name: &zone.name,
            kind: names.kind(zone),
            id: names.id(zone),
            rejected: zone.listing.as_ref().map_or(0, |(listing, _)| {
                Rejection::ALL.into_iter().map(|rejection| listing.rejected(rejection)).sum()
            }),
            cells,
            health: match (zone.failure(), is_overdue) {
                (Some(_), _) => Health::Failed,
                (None, true) => Health::Overdue,
                (None, false) => Health::Good,
            },
            is_overdue,
            poll,
            class,
        }
    }
}

/// When the next certificate expires, and if no alert is about that one, also when the next does that has one.
pub(super) fn next_expiry(time: i64, expiring: &ExpiryCounts, now: i64) -> Cell {
    let suppression = expiring.next_suppressed;
    let class = if suppression.is_some() { "" } else { urgency(time, now) };
    let then = expiring.next_alarming.filter(|_| suppression.is_some());
    Cell {
        tag: suppression.map_or("", why),
        then: then.map(|time| (until(time, now), urgency(time, now))),
        ..Cell::new("next expiry", until(time, now), class, time)
    }
}

/// A certificate in words.
pub(super) struct ExpiryRow<'a> {
    pub(super) left: String,
    pub(super) class: &'static str,
    pub(super) date: String,
    pub(super) name: &'a str,
    pub(super) superseded: bool,
    pub(super) zone: &'a str,
    /// The week of the timeline that counts it.
    pub(super) week: Option<i64>,
    /// The owner's own labels, in words, and the one that is called `owner`.
    pub(super) labels: String,
    pub(super) owner: String,
    /// Where there are several.
    pub(super) kind: Option<&'static str>,
    /// Where the zone's name alone does not tell.
    pub(super) zone_id: Option<&'a str>,
    pub(super) status: String,
    pub(super) id: &'a str,
}

impl<'a> ExpiryRow<'a> {
    pub(super) fn new(
        zone: &'a TargetState,
        certificate: &'a Certificate,
        expiry: i64,
        names: &NameQualifiers<'_>,
        now: i64,
        settings: &SeriesSettings,
    ) -> Self {
        let listing = zone.listing.as_ref().map(|(listing, _)| listing);
        let suppression = listing.and_then(|listing| listing.suppression(certificate, settings, now));
        let labels = settings.labels.of_target(&zone.target, &zone.name);
        let mut owners = labels.of(certificate.common_name()).filter(|(name, _)| *name == "owner");
        Self {
            week: timeline::week(expiry, now).filter(|_| suppression.is_none()),
            left: until(expiry, now),
            class: if suppression.is_some() { "" } else { urgency(expiry, now) },
            date: date(expiry, "%Y-%m-%d %H:%M"),
            name: certificate.common_name(),
            superseded: listing.is_some_and(|listing| listing.is_superseded(certificate)),
            zone: &zone.name,
            owner: owners.next().map_or_else(String::new, |(_, owner)| owner.to_owned()),
            labels: labels.in_words(certificate.common_name()),
            kind: names.kind(zone),
            zone_id: names.id(zone),
            status: certificate.status.label().replace('_', " "),
            id: certificate.id(),
        }
    }
}

pub(super) const fn why(suppression: Suppression) -> &'static str {
    match suppression {
        Suppression::Retired => "retired",
        Suppression::PendingRevocation => "pending revocation",
        Suppression::Superseded => "superseded",
        Suppression::LongExpired => "forgotten",
    }
}
