//! What the page says, in words and numbers. Where something is not known it says so, and shows no number.

use std::sync::Arc;

use askama::Template;

use super::{
    notices::Notice,
    rows::{Cell, ExpiryRow, Health, NameQualifiers, ZoneRow, counts, why},
    timeline::Timeline,
    words::{UNKNOWN, age, date, duration},
};
use crate::{
    exposition::Exposition,
    model::{Certificate, Class, ExpiryCount, ExpiryCounts, TargetState},
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
            missing: missing(unlisted, states.len(), exposition.snapshot().undiscovered(), &names),
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

fn missing(unlisted: usize, all: usize, undiscovered: usize, names: &NameQualifiers<'_>) -> Option<String> {
    let (one, several, read) = names.listings();
    Some(match (unlisted, all) {
        (0, _) if undiscovered == 0 => return None,
        (0, _) => "The zones were not all discovered yet: nothing is known of the others.".into(),
        (1, 1) => format!("The {one} was not {read} yet: nothing is known of its certificates."),
        _ if unlisted == all => {
            format!("None of the {all} {several} was {read} yet: nothing is known of their certificates.")
        }
        (1, _) => format!("1 of {all} {several} was not {read} yet; its certificates are in none of these numbers."),
        _ => format!(
            "{unlisted} of {all} {several} were not {read} yet; their certificates are in none of these numbers."
        ),
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
