//! What the page says, in words and numbers. Where something is not known it says so, and shows no number.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use askama::Template;
use chrono::DateTime;

use super::{
    notices::Notice,
    timeline::{self, Timeline},
};
use crate::{
    exposition::Exposition,
    model::{
        Certificate, Class, ExpiryCount, ExpiryCounts, Rejection, SECONDS_PER_DAY, SeriesSettings, Suppression,
        TargetState,
    },
};

pub(super) const STYLE: &str = include_str!("../../../templates/page.css");
pub(super) const SCRIPT: &str = include_str!("../../../templates/page.js");

/// The most certificates that are listed: of more, a browser takes its time, and no one reads them.
pub(super) const MAX_CERTIFICATES: usize = 5000;

/// Rows that the script shows at first; the style knows them, too.
pub(super) const FIRST_ZONES: usize = 25;
pub(super) const FIRST_CERTIFICATES: usize = 100;

/// More zones than these can be searched.
const SEARCHED: usize = 10;

/// A listing that is younger is not overdue, however short the interval is; the alert has the same limit.
const NEVER_OVERDUE: i64 = 600;

/// Sorts what is unknown behind everything else.
const LAST: i64 = i64::MAX;

const UNKNOWN: &str = "–";

#[derive(Template)]
#[template(path = "page.html")]
pub(super) struct PageView<'a> {
    style: &'static str,
    script: &'static str,
    version: &'static str,
    now: String,
    /// Of the oldest listing.
    age: Option<String>,
    notice: Option<&'static str>,
    notices: Vec<Notice>,
    /// What the numbers leave out.
    missing: Option<String>,
    metrics_link: &'a str,
    figures: [Figure; 7],
    /// `None` while nothing is known.
    timeline: Option<Timeline>,
    statuses: [&'static str; 4],
    zones: Vec<ZoneRow<'a>>,
    totals: Vec<Cell>,
    with_series: usize,
    /// Certificates that are in no table.
    only_counted: u64,
    certificates: Vec<ExpiryRow<'a>>,
}

impl<'a> PageView<'a> {
    /// The page at this Unix second.
    pub(super) fn new(
        exposition: &'a Exposition,
        now: i64,
        notice: Option<&'static str>,
        metrics_link: &'a str,
    ) -> Self {
        let settings = exposition.settings();
        let states = &exposition.snapshot().targets;
        let listings = || states.iter().filter_map(|zone| zone.listing.as_ref());
        let is_unlisted = |state: &&Arc<TargetState>| state.listing.is_none() && state.available != Some(false);
        let unlisted = states.iter().filter(is_unlisted).count();
        let is_known = unlisted < states.len() || states.is_empty() && exposition.snapshot().undiscovered() == 0;
        let names = NameQualifiers::new(states);

        let mut expiring = ExpiryCounts::default();
        let mut zones: Vec<_> = states
            .iter()
            .map(|zone| {
                let of_zone = zone.listing.as_ref().map(|(listing, _)| ExpiryCounts::new(listing, settings, now));
                of_zone.iter().for_each(|of_zone| expiring.add(of_zone));
                ZoneRow::new(zone, of_zone.as_ref(), &names, now)
            })
            .collect();
        let failed = zones.iter().filter(|zone| zone.health == Health::Failed).count();
        let overdue = zones.iter().filter(|zone| zone.is_overdue).count();
        zones.sort_by_key(|zone| zone.health);

        let totals = Class::ALL.map(|class| listings().map(|(listing, _)| listing.count_of(class)).sum());
        let usable = totals.iter().sum::<u64>() - totals[Class::Retired as usize];
        let (nearest, with_series) = nearest(exposition.certificates(), now);
        let number = |count| is_known.then_some(count);
        let of_certificates = |what, count: &ExpiryCount, class| Figure {
            class: if is_known && count.alarms() { class } else { "" },
            ..Figure { note: note(count), ..Figure::new(what, number(count.all)) }
        };
        Self {
            style: STYLE,
            script: SCRIPT,
            version: env!("CARGO_PKG_VERSION"),
            now: date(now, "%Y-%m-%d %H:%M:%S"),
            age: listings().map(|&(_, time)| age(time, now)).max().map(duration),
            notice,
            notices: Notice::all(exposition.snapshot(), now),
            missing: missing(unlisted, states.len(), exposition.snapshot().undiscovered()),
            metrics_link,
            figures: [
                of_certificates("Expired", &expiring.expired, "bad"),
                of_certificates("Expire within 7 days", &expiring.soon, "bad"),
                of_certificates("Expire within 30 days", &expiring.near, "warn"),
                Figure::new("Usable certificates", number(usable)),
                Figure::of_zones(names.figures()[0], states.len(), ""),
                Figure::of_zones(names.figures()[1], failed, "bad"),
                Figure::of_zones(names.figures()[2], overdue, "warn"),
            ],
            timeline: is_known.then(|| Timeline::new(states, settings, now)),
            statuses: Class::ALL.map(Class::label),
            zones,
            totals: counts(is_known.then_some((totals, expiring.expired.all, ""))),
            with_series,
            only_counted: usable.saturating_sub(with_series as u64),
            certificates: nearest
                .into_iter()
                .map(|(zone, certificate, expiry)| ExpiryRow::new(zone, certificate, expiry, &names, now, settings))
                .collect(),
        }
    }

    /// Whether there may be certificates of which nothing is known.
    fn awaits_more(&self) -> bool {
        self.missing.is_some() && self.only_counted == 0
    }
}

/// What has to stand beside a zone's name to tell it from others.
struct NameQualifiers<'a> {
    has_kinds: bool,
    /// Names that several zones have.
    shared: HashSet<&'a str>,
}

impl<'a> NameQualifiers<'a> {
    fn new(states: &'a [Arc<TargetState>]) -> Self {
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

    /// What the figures about listings are called: where there is one kind, a listing is a zone.
    const fn figures(&self) -> [&'static str; 3] {
        if self.has_kinds {
            ["Listings", "Listings whose last poll failed", "Listings overdue or not read yet"]
        } else {
            ["Zones", "Zones whose last poll failed", "Zones overdue or not listed yet"]
        }
    }

    fn kind(&self, zone: &TargetState) -> Option<&'static str> {
        self.has_kinds.then(|| zone.target.kind.label())
    }

    fn id<'z>(&self, zone: &'z TargetState) -> Option<&'z str> {
        self.shared.contains(&*zone.name).then(|| zone.target.id.as_str())
    }
}

fn missing(unlisted: usize, zones: usize, undiscovered: usize) -> Option<String> {
    Some(match (unlisted, zones) {
        (0, _) if undiscovered == 0 => return None,
        (0, _) => "The zones were not all discovered yet: nothing is known of the others.".into(),
        (1, 1) => "The zone was not listed yet: nothing is known of its certificates.".into(),
        _ if unlisted == zones => {
            format!("None of the {zones} zones was listed yet: nothing is known of their certificates.")
        }
        (1, _) => format!("1 of {zones} zones was not listed yet; its certificates are in none of these numbers."),
        _ => {
            format!("{unlisted} of {zones} zones were not listed yet; their certificates are in none of these numbers.")
        }
    })
}

/// Those whose expiry is nearest to now, ahead or behind, in the order of their expiry, and how many there are to
/// choose from.
fn nearest<'a>(
    all: impl Iterator<Item = (&'a TargetState, &'a Certificate)>,
    now: i64,
) -> (Vec<(&'a TargetState, &'a Certificate, i64)>, usize) {
    let (mut kept, mut count) = (Vec::new(), 0);
    for (zone, certificate) in all.filter(|(_, certificate)| certificate.status.is_usable()) {
        // What has series has a date.
        let Some(expiry) = certificate.not_after() else { continue };
        // The number keeps equals in their order.
        kept.push((expiry.abs_diff(now), count, zone, certificate, expiry));
        count += 1;
        if kept.len() == 2 * MAX_CERTIFICATES {
            keep_nearest(&mut kept);
        }
    }
    keep_nearest(&mut kept);
    kept.sort_unstable_by_key(|&(_, number, .., expiry)| (expiry, number));
    (kept.into_iter().map(|(.., zone, certificate, expiry)| (zone, certificate, expiry)).collect(), count)
}

fn keep_nearest<Z, C>(kept: &mut Vec<(u64, usize, Z, C, i64)>) {
    if kept.len() > MAX_CERTIFICATES {
        kept.select_nth_unstable_by_key(MAX_CERTIFICATES, |&(distance, number, ..)| (distance, number));
        kept.truncate(MAX_CERTIFICATES);
    }
}

/// A number at the top.
struct Figure {
    what: &'static str,
    /// `None` while nothing is known.
    count: Option<u64>,
    class: &'static str,
    note: String,
}

impl Figure {
    const fn new(what: &'static str, count: Option<u64>) -> Self {
        Self { what, count, class: "", note: String::new() }
    }

    fn of_zones(what: &'static str, count: usize, class: &'static str) -> Self {
        Self { class: if count > 0 { class } else { "" }, ..Self::new(what, Some(count as u64)) }
    }
}

/// Why it may be no reason to worry.
fn note(count: &ExpiryCount) -> String {
    let reasons = count.suppressed().enumerate().map(|(n, (suppression, count))| {
        format!("{count} {}{}", if n == 0 { "of them " } else { "" }, why(suppression))
    });
    reasons.collect::<Vec<_>>().join(", ")
}

/// What a zone needs, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Health {
    Failed,
    /// Its listing is overdue, or there is none.
    Overdue,
    Good,
}

impl Health {
    const fn order(self) -> u8 {
        self as u8
    }
}

/// A zone in words.
struct ZoneRow<'a> {
    name: &'a str,
    /// Where there are several.
    kind: Option<&'static str>,
    /// Where the name alone does not tell.
    id: Option<&'a str>,
    rejected: u64,
    cells: Vec<Cell>,
    health: Health,
    is_overdue: bool,
    poll: String,
    class: &'static str,
}

/// A cell of the table of zones.
struct Cell {
    label: &'static str,
    is_number: bool,
    words: String,
    class: &'static str,
    /// What it is sorted by, if not by what it says.
    value: Option<i64>,
    tag: &'static str,
    /// Something else that it says, with its class.
    then: Option<(String, &'static str)>,
}

impl Cell {
    fn new(label: &'static str, words: String, class: &'static str, value: i64) -> Self {
        Self { label, is_number: false, words, class, value: Some(value), tag: "", then: None }
    }

    fn number(label: &'static str, count: Option<u64>, class: &'static str) -> Self {
        let value = if count.is_some() { None } else { Some(-1) };
        Self { is_number: true, value, ..Self::new(label, number(count), class, 0) }
    }
}

/// One cell for each class of statuses, and one for the expired ones.
fn counts(known: Option<([u64; 4], u64, &'static str)>) -> Vec<Cell> {
    let of_class = |class: Class| Cell::number(class.label(), known.map(|(counts, ..)| counts[class as usize]), "");
    let class = known.map_or("", |(.., class)| class);
    let expired = Cell::number("expired", known.map(|(_, expired, _)| expired), class);
    Class::ALL.into_iter().map(of_class).chain([expired]).collect()
}

impl<'a> ZoneRow<'a> {
    fn new(zone: &'a TargetState, expiring: Option<&ExpiryCounts>, names: &NameQualifiers<'_>, now: i64) -> Self {
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
fn next_expiry(time: i64, expiring: &ExpiryCounts, now: i64) -> Cell {
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
struct ExpiryRow<'a> {
    left: String,
    class: &'static str,
    date: String,
    name: &'a str,
    superseded: bool,
    zone: &'a str,
    /// The week of the timeline that counts it.
    week: Option<i64>,
    /// The owner's own labels, in words, and the one that is called `owner`.
    labels: String,
    owner: String,
    /// Where there are several.
    kind: Option<&'static str>,
    /// Where the zone's name alone does not tell.
    zone_id: Option<&'a str>,
    status: String,
    id: &'a str,
}

impl<'a> ExpiryRow<'a> {
    fn new(
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

const fn why(suppression: Suppression) -> &'static str {
    match suppression {
        Suppression::Retired => "retired",
        Suppression::PendingRevocation => "pending revocation",
        Suppression::Superseded => "superseded",
        Suppression::LongExpired => "forgotten",
    }
}

fn number(count: Option<u64>) -> String {
    count.map_or_else(|| UNKNOWN.into(), |count| count.to_string())
}

pub(super) fn urgency(expiry: i64, now: i64) -> &'static str {
    let days = expiry.saturating_sub(now).div_euclid(SECONDS_PER_DAY);
    if days < i64::from(ExpiryCounts::SOON) {
        "bad"
    } else if days < i64::from(ExpiryCounts::NEAR) {
        "warn"
    } else {
        ""
    }
}

/// UTC; a dash for what no calendar has.
pub(super) fn date(time: i64, format: &str) -> String {
    DateTime::from_timestamp(time, 0).map_or_else(|| UNKNOWN.into(), |time| time.format(format).to_string())
}

/// Seconds since then.
pub(super) fn age(time: i64, now: i64) -> i64 {
    now.saturating_sub(time).max(0)
}

/// How far an expiry is ahead, in whole days as the metrics have them, or behind. There the metrics round the other
/// way, -3 for two days and a bit, so that the hours are there, too.
pub(super) fn until(expiry: i64, now: i64) -> String {
    let left = expiry.saturating_sub(now);
    let ago = left.saturating_neg();
    if left >= 0 {
        format!("in {}", duration(left))
    } else if ago >= SECONDS_PER_DAY {
        format!("expired {} d {} h ago", ago / SECONDS_PER_DAY, ago % SECONDS_PER_DAY / 3_600)
    } else {
        format!("expired {} ago", duration(ago))
    }
}

/// In the largest unit alone.
pub(super) fn duration(seconds: i64) -> String {
    let units = [(SECONDS_PER_DAY, "day"), (3_600, "hour"), (60, "minute")];
    let (unit, name) = units.into_iter().find(|&(unit, _)| seconds >= unit).unwrap_or((1, "second"));
    let count = seconds / unit;
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}
