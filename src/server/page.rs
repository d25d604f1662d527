//! The page at `/`: what a person wants to see at a glance.

use std::{io, sync::Arc, time::Duration};

use askama::Template;
use axum::{
    body::Body,
    http::{
        HeaderName, HeaderValue,
        header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};

use tokio::{sync::Mutex, task::spawn_blocking};

use super::{Served, published::Unrendered};
use crate::model::{SECONDS_PER_DAY, Snapshot, Status, ZoneState};

const HTML: (HeaderName, HeaderValue) = (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));

/// Names come from whoever made a signing request: nothing on the page may run or load anything.
const POLICY: (HeaderName, HeaderValue) =
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'"));

/// Makes the page, once a second for all who ask.
#[derive(Debug)]
pub(super) struct Pages {
    notice: Option<&'static str>,
    metrics_link: String,
    /// The last one, and the second that it is of.
    last: Mutex<Option<(i64, Arc<str>)>>,
}

impl Pages {
    pub(super) fn new(notice: Option<&'static str>, metrics_link: &str) -> Arc<Self> {
        Arc::new(Self { notice, metrics_link: metrics_link.to_owned(), last: Mutex::default() })
    }

    pub(super) async fn answer(self: &Arc<Self>, served: &Served) -> Result<Response, Unrendered> {
        let page = {
            let mut last = self.last.lock().await;
            let second = (served.now)().timestamp();
            match &*last {
                Some((of, page)) if *of == second => Arc::clone(page),
                _ => {
                    let (pages, snapshot) = (Arc::clone(self), served.published.latest().snapshot().clone());
                    let rendered = spawn_blocking(move || pages.render(&snapshot, second)).await;
                    let page = rendered.map_err(io::Error::other).flatten().map_err(|error| {
                        tracing::error!(%error, "The page cannot be rendered. Please report this.");
                        Unrendered
                    })?;
                    Arc::clone(&last.insert((second, page.into())).1)
                }
            }
        };
        Ok(([HTML, POLICY], Body::new(served.answers.page(page))).into_response())
    }

    fn render(&self, snapshot: &Snapshot, now: i64) -> io::Result<String> {
        let page = Page {
            version: env!("CARGO_PKG_VERSION"),
            notice: self.notice,
            metrics_link: &self.metrics_link,
            zones: snapshot.zones.iter().map(|zone| Row::new(zone, now)).collect(),
        };
        page.render().map_err(io::Error::other)
    }
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
