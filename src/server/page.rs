//! The page at `/`: what a person wants to see at a glance.
//!
//! Made once a second at most, of what the metrics show at that moment. How it looks and what it does in a browser is
//! in `templates/`.

use std::{io, sync::Arc};

use askama::Template;
use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    body::Body,
    http::{
        HeaderName, HeaderValue,
        header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use chrono::DateTime;
use tokio::{sync::Mutex, task::spawn_blocking};

use super::{Served, published::Unrendered};
use crate::{
    exposition::Exposition,
    model::{Certificate, SECONDS_PER_DAY, Status, ZoneState},
};

const HTML: (HeaderName, HeaderValue) = (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));

const STYLE: &str = include_str!("../../templates/page.css");
const SCRIPT: &str = include_str!("../../templates/page.js");

/// The most certificates that are listed: of more, a browser takes its time, and nobody reads them.
const MAX_CERTIFICATES: usize = 5000;

/// Rows that the script shows at first; the style knows them, too.
const FIRST_ZONES: usize = 25;
const FIRST_CERTIFICATES: usize = 100;

/// More zones than these can be searched.
const SEARCHED: usize = 10;

/// Certificates that expire within so many days are marked.
const SOON: i64 = 7;
const NEAR: i64 = 30;

/// Sorts what is unknown behind everything else.
const LAST: i64 = i64::MAX;

/// Makes the page, once a second for all who ask.
#[derive(Debug)]
pub(super) struct Pages {
    notice: Option<&'static str>,
    metrics_link: String,
    policy: HeaderValue,
    /// The last one, and the second that it is of.
    last: Mutex<Option<(i64, Arc<str>)>>,
}

impl Pages {
    pub(super) fn new(notice: Option<&'static str>, metrics_link: &str) -> Arc<Self> {
        Arc::new(Self { notice, metrics_link: metrics_link.to_owned(), policy: policy(), last: Mutex::default() })
    }

    pub(super) async fn answer(self: &Arc<Self>, served: &Served) -> Result<Response, Unrendered> {
        let page = {
            let mut last = self.last.lock().await;
            let second = (served.now)().timestamp();
            match &*last {
                Some((of, page)) if *of == second => Arc::clone(page),
                _ => {
                    let (pages, exposition) = (Arc::clone(self), served.published.latest());
                    let rendered = spawn_blocking(move || pages.render(&exposition, second)).await;
                    let page = rendered.map_err(io::Error::other).flatten().map_err(|error| {
                        tracing::error!(%error, "The page cannot be rendered. Please report this.");
                        Unrendered
                    })?;
                    Arc::clone(&last.insert((second, page.into())).1)
                }
            }
        };
        let policy = (CONTENT_SECURITY_POLICY, self.policy.clone());
        Ok(([HTML, policy], Body::new(served.answers.page(page))).into_response())
    }

    fn render(&self, exposition: &Exposition, now: i64) -> io::Result<String> {
        let zones = &exposition.snapshot().zones;
        let listings = || zones.iter().filter_map(|zone| zone.listing.as_ref()).map(|(listing, _)| listing);
        let expiring = |days| listings().map(|listing| listing.expiring(now, days)).sum::<usize>() as u64;
        let expired = listings().map(|listing| listing.expired(now)).sum::<usize>() as u64;
        let totals = Status::ALL.map(|status| listings().map(|listing| listing.count(status)).sum());
        let usable = totals.iter().sum::<u64>() - totals[Status::Revoked as usize];
        let failed = zones.iter().filter(|zone| zone.failure().is_some()).count() as u64;

        let (soonest, with_series) = soonest(exposition.certificates(), now);
        let mut zones: Vec<_> = zones.iter().map(|zone| ZoneRow::new(zone, now)).collect();
        zones.sort_by_key(|zone| zone.class != "bad");
        let page = Page {
            style: STYLE,
            script: SCRIPT,
            version: env!("CARGO_PKG_VERSION"),
            now: date(now, "%Y-%m-%d %H:%M:%S"),
            notice: self.notice,
            metrics_link: &self.metrics_link,
            figures: [
                Figure { what: "Expired", count: expired, class: "bad" },
                Figure { what: "Expire within 7 days", count: expiring(7), class: "bad" },
                Figure { what: "Expire within 30 days", count: expiring(30), class: "warn" },
                Figure { what: "Certificates that are not revoked", count: usable, class: "" },
                Figure { what: "Zones", count: zones.len() as u64, class: "" },
                Figure { what: "Zones whose last poll failed", count: failed, class: "bad" },
            ],
            headings: ["Active", "Pending reactivation", "Pending revocation", "Revoked", "Unknown"],
            zones,
            totals,
            expired,
            shown: soonest.len(),
            with_series,
            certificates: soonest.into_iter().map(|(zone, certificate)| Row::new(zone, certificate, now)).collect(),
        };
        page.render().map_err(io::Error::other)
    }
}

/// Names come from whoever made a signing request. Nothing may run or load but the style and the script of this
/// program, which are known by their hashes: these are of the very texts that are sent, are the same for every
/// page, and take neither a path of their own nor a secret number.
fn policy() -> HeaderValue {
    let hash = |text: &str| BASE64.encode(digest(&SHA256, text.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types",
        hash(STYLE),
        hash(SCRIPT)
    );
    HeaderValue::try_from(policy).expect("these words and base64 are visible ASCII")
}

/// Those that expire next, soonest first, and how many there are to choose from. Like the metrics it prefers what is
/// still good, and then what expired last.
fn soonest<'a>(
    all: impl Iterator<Item = (&'a ZoneState, &'a Certificate)>,
    now: i64,
) -> (Vec<(&'a ZoneState, &'a Certificate)>, usize) {
    let urgency = |certificate: &Certificate| {
        let expiry = certificate.not_after().unwrap_or(LAST);
        if certificate.is_expired(now) { (true, expiry.saturating_neg()) } else { (false, expiry) }
    };
    let (mut kept, mut count) = (Vec::new(), 0);
    for (zone, certificate) in all.filter(|(_, certificate)| certificate.status != Status::Revoked) {
        // The number keeps equals in their order.
        kept.push((urgency(certificate), count, zone, certificate));
        count += 1;
        if kept.len() == 2 * MAX_CERTIFICATES {
            keep_soonest(&mut kept);
        }
    }
    keep_soonest(&mut kept);
    kept.sort_unstable_by_key(|&(_, number, _, certificate)| (certificate.not_after(), number));
    (kept.into_iter().map(|(.., zone, certificate)| (zone, certificate)).collect(), count)
}

fn keep_soonest<T: Ord + Copy, Z, C>(kept: &mut Vec<(T, usize, Z, C)>) {
    if kept.len() > MAX_CERTIFICATES {
        kept.select_nth_unstable_by_key(MAX_CERTIFICATES, |&(urgency, number, ..)| (urgency, number));
        kept.truncate(MAX_CERTIFICATES);
    }
}

#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    style: &'static str,
    script: &'static str,
    version: &'static str,
    now: String,
    notice: Option<&'static str>,
    metrics_link: &'a str,
    figures: [Figure; 6],
    /// Of every status, in their order.
    headings: [&'static str; 5],
    zones: Vec<ZoneRow<'a>>,
    totals: [u64; 5],
    expired: u64,
    shown: usize,
    with_series: usize,
    certificates: Vec<Row<'a>>,
}

/// A number at the top. The class is for one that is not zero.
struct Figure {
    what: &'static str,
    count: u64,
    class: &'static str,
}

/// A zone in words.
struct ZoneRow<'a> {
    name: &'a str,
    listed: Option<Listed>,
    poll: String,
    class: &'static str,
}

struct Listed {
    counts: [u64; 5],
    expired: usize,
    next_expiry: Moment,
    age: Moment,
}

/// A time in words, with what it is sorted by.
struct Moment {
    words: String,
    value: i64,
    class: &'static str,
}

impl<'a> ZoneRow<'a> {
    fn new(zone: &'a ZoneState, now: i64) -> Self {
        let listed = zone.listing.as_ref().map(|(listing, time)| Listed {
            counts: Status::ALL.map(|status| listing.count(status)),
            expired: listing.expired(now),
            next_expiry: match listing.next_expiry(now) {
                None => Moment { words: "–".into(), value: LAST, class: "" },
                Some(time) => Moment { words: until(time, now), value: time, class: urgency(time, now) },
            },
            age: {
                let age = now.saturating_sub(*time).max(0);
                let interval = i64::try_from(zone.zone.interval.as_secs()).unwrap_or(i64::MAX);
                let is_overdue = age > interval.saturating_mul(2);
                let (end, class) = if is_overdue { (", overdue", "warn") } else { ("", "") };
                Moment { words: format!("{} ago{end}", duration(age)), value: age, class }
            },
        });
        let (poll, class) = match (&zone.last_poll, zone.failure()) {
            (_, Some(failure)) => (format!("failed: {failure}"), "bad"),
            (Some(_), None) => ("good".into(), "good"),
            (None, None) => ("not polled yet".into(), "dim"),
        };
        Self { name: &zone.name, listed, poll, class }
    }
}

/// A certificate in words.
struct Row<'a> {
    left: String,
    class: &'static str,
    date: String,
    name: &'a str,
    superseded: bool,
    zone: &'a str,
    status: &'static str,
    id: &'a str,
}

impl<'a> Row<'a> {
    fn new(zone: &'a ZoneState, certificate: &'a Certificate, now: i64) -> Self {
        let superseded = zone.listing.as_ref().is_some_and(|(listing, _)| listing.is_superseded(certificate, now));
        let expiry = certificate.not_after().unwrap_or(LAST);
        Self {
            left: until(expiry, now),
            // Nobody has to do anything about one that has a successor.
            class: if superseded { "" } else { urgency(expiry, now) },
            date: date(expiry, "%Y-%m-%d %H:%M"),
            name: certificate.common_name(),
            superseded,
            zone: &zone.name,
            status: words(certificate.status),
            id: certificate.id(),
        }
    }
}

const fn words(status: Status) -> &'static str {
    match status {
        Status::Active => "active",
        Status::PendingReactivation => "pending reactivation",
        Status::PendingRevocation => "pending revocation",
        Status::Revoked => "revoked",
        Status::Unknown => "unknown",
    }
}

fn urgency(expiry: i64, now: i64) -> &'static str {
    match expiry.saturating_sub(now).div_euclid(SECONDS_PER_DAY) {
        ..SOON => "bad",
        SOON..NEAR => "warn",
        _ => "",
    }
}

/// UTC; a dash for what no calendar has.
fn date(time: i64, format: &str) -> String {
    DateTime::from_timestamp(time, 0).map_or_else(|| "–".into(), |time| time.format(format).to_string())
}

/// How far an expiry is ahead, in whole days as the metrics have them, or behind.
fn until(expiry: i64, now: i64) -> String {
    let left = expiry.saturating_sub(now);
    match left.div_euclid(SECONDS_PER_DAY) {
        ..0 => format!("expired {} ago", duration(left.saturating_neg())),
        0 => "within a day".into(),
        1 => "in 1 day".into(),
        days => format!("in {days} days"),
    }
}

/// In the largest unit alone.
fn duration(seconds: i64) -> String {
    let units = [(SECONDS_PER_DAY, "day"), (3_600, "hour"), (60, "minute")];
    let (unit, name) = units.into_iter().find(|&(unit, _)| seconds >= unit).unwrap_or((1, "second"));
    let count = seconds / unit;
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_521_600;

    #[test]
    fn times_are_told_in_words() {
        let day = SECONDS_PER_DAY;
        for (left, words, class) in [
            (-2 * day, "expired 2 days ago", "bad"),
            (-day, "expired 1 day ago", "bad"),
            (-3_599, "expired 59 minutes ago", "bad"),
            (-1, "expired 1 second ago", "bad"),
            (0, "within a day", "bad"),
            (day, "in 1 day", "bad"),
            (7 * day - 1, "in 6 days", "bad"),
            (7 * day, "in 7 days", "warn"),
            (30 * day - 1, "in 29 days", "warn"),
            (30 * day, "in 30 days", ""),
        ] {
            let expiry = NOW + left;
            assert_eq!((until(expiry, NOW), urgency(expiry, NOW)), (words.into(), class), "{left}");
        }
        for extreme in [i64::MIN, i64::MAX] {
            assert!(!until(extreme, -extreme.signum()).is_empty());
        }
        assert_eq!(date(NOW, "%Y-%m-%d %H:%M"), "2026-11-24 12:00");
        assert_eq!(date(i64::MAX, "%Y"), "–");
    }

    #[test]
    fn nothing_runs_that_is_not_known_by_its_hash() {
        let policy = policy();
        let policy = policy.to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
        // They would end the element that they are in.
        assert!(!STYLE.contains("</") && !SCRIPT.contains("</") && !SCRIPT.contains("<!--"));
    }
}
