//! The page at `/`: what a person wants to see at a glance.

use std::{io, sync::Arc, time::Duration};

use askama::Template;
use axum::{
    body::Body,
    http::{
        HeaderName, HeaderValue,
        header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE},
    },
    response::IntoResponse,
};

use super::{
    Sources,
    rendering::{Renderer, Renderings, Unrendered},
};
use crate::model::{SECONDS_PER_DAY, Status, ZoneState};

const HTML: (HeaderName, HeaderValue) = (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));

/// Names come from whoever made a signing request: nothing on the page may run or load anything.
const POLICY: (HeaderName, HeaderValue) =
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'"));

pub(super) fn renderer(sources: &Sources, metrics_link: &str, renderings: &Arc<Renderings>) -> Arc<Renderer> {
    let (sources, metrics_link) = (sources.clone(), metrics_link.to_owned());
    Renderer::new("page", renderings, move || render(&sources, &metrics_link).map(String::into_bytes))
}

pub(super) async fn answer(page: &Arc<Renderer>) -> Result<impl IntoResponse + use<>, Unrendered> {
    Ok(([HTML, POLICY], Body::new(page.body().await?)))
}

fn render(sources: &Sources, metrics_link: &str) -> io::Result<String> {
    let snapshot = sources.snapshots.borrow().clone();
    let now = (sources.now)().timestamp();
    let page = Page {
        version: env!("CARGO_PKG_VERSION"),
        notice: sources.notice,
        metrics_link,
        zones: snapshot.zones.iter().map(|zone| Row::new(zone, now)).collect(),
    };
    page.render().map_err(io::Error::other)
}

#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    version: &'static str,
    notice: Option<&'static str>,
    metrics_link: &'a str,
    zones: Vec<Row<'a>>,
}

/// A zone in words.
struct Row<'a> {
    name: &'a str,
    active: String,
    expired: String,
    next_expiry: String,
    listed: String,
    state: String,
    failed: bool,
}

impl<'a> Row<'a> {
    fn new(zone: &'a ZoneState, now: i64) -> Self {
        let nothing = || "–".to_owned();
        let failure = zone.last_poll.as_ref().map(|poll| poll.failure.as_ref());
        let (active, expired, next_expiry, listed) = match &zone.listing {
            None => (nothing(), nothing(), nothing(), "never".into()),
            Some((listing, time)) => {
                let next_expiry = listing.next_expiry(now).map_or_else(nothing, |time| ahead(time - now));
                let (active, expired) = (listing.count(Status::Active).to_string(), listing.expired(now).to_string());
                (active, expired, next_expiry, age(now - time))
            }
        };
        Self {
            name: &zone.name,
            active,
            expired,
            next_expiry,
            listed,
            failed: matches!(failure, Some(Some(_))),
            state: match failure {
                None => "not polled yet".into(),
                Some(None) => "good".into(),
                Some(Some(failure)) => failure.to_string(),
            },
        }
    }
}

/// How far ahead, in whole days.
fn ahead(seconds: i64) -> String {
    match seconds.div_euclid(SECONDS_PER_DAY) {
        0 => "within a day".into(),
        1 => "in 1 day".into(),
        days => format!("in {days} days"),
    }
}

/// How long ago, in the largest unit alone.
fn age(seconds: i64) -> String {
    let seconds = u64::try_from(seconds).unwrap_or_default();
    let unit = [86_400, 3_600, 60, 1].into_iter().find(|&unit| seconds >= unit).unwrap_or(1);
    format!("{} ago", humantime::format_duration(Duration::from_secs(seconds - seconds % unit)))
}
