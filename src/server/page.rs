//! The page at `/`: what a person wants to see at a glance.
//!
//! Made once a second at most, of what the metrics show at that moment. What it says is in the modules of this one, and how it
//! looks and what it does in a browser is in `templates/`.

mod notices;
mod rows;
mod timeline;
mod view;
mod words;

use std::{
    io::{self, Write as _},
    sync::Arc,
};

use askama::Template as _;
use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    body::Bytes,
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{
            CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, VARY,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use flate2::{Compression, write::GzEncoder};
use tokio::{sync::Mutex, task::spawn_blocking};

use super::{Served, current_exposition::RenderError, metrics::accepts_gzip, response::Content};
use crate::exposition::Exposition;
use view::{PageView, SCRIPT, STYLE};

/// As that of the metrics: a sixth of the page is left, and a higher one takes longer than it saves.
const LEVEL: Compression = Compression::new(2);

/// What every page is sent with, in addition to its policy.
const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
    // One that a browser had kept would say that all is well, long after that.
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (VARY, HeaderValue::from_static("accept-encoding")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

/// Makes the page, once a second for all who ask.
#[derive(Debug)]
pub(super) struct PageCache {
    notice: Option<&'static str>,
    metrics_link: String,
    policy: HeaderValue,
    /// Held while it is made, even if the client that asked for it is gone.
    last: Arc<Mutex<Option<RenderedPage>>>,
}

/// A page in its two forms.
#[derive(Debug, Clone)]
struct RenderedPage {
    /// The Unix second that it is of.
    second: i64,
    plain: Arc<[u8]>,
    packed: Arc<[u8]>,
}

impl PageCache {
    pub(super) fn new(notice: Option<&'static str>, metrics_link: &str) -> Arc<Self> {
        Arc::new(Self { notice, metrics_link: metrics_link.to_owned(), policy: policy(), last: Arc::default() })
    }

    pub(super) async fn answer(
        self: &Arc<Self>,
        served: &Served,
        headers: &HeaderMap,
    ) -> Result<Response, RenderError> {
        let exposition = || served.exposition.latest();
        let made = self.made(exposition, || (served.now)().timestamp()).await?;
        let gzip = accepts_gzip(headers);
        let page = if gzip { made.packed } else { made.plain };
        let mut response = served.responses.response(Content::Page(page), Bytes::new());
        response.headers_mut().extend(HEADERS);
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        if gzip {
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(response)
    }

    /// The page of this second.
    async fn made(
        self: &Arc<Self>,
        exposition: impl FnOnce() -> Arc<Exposition>,
        now: impl FnOnce() -> i64,
    ) -> Result<RenderedPage, RenderError> {
        let mut last = Arc::clone(&self.last).lock_owned().await;
        let second = now();
        if let Some(made) = last.as_ref().filter(|made| made.second == second) {
            return Ok(made.clone());
        }
        let (pages, exposition) = (Arc::clone(self), exposition());
        // The next client waits for this one, and does not start another.
        let make = move || io::Result::Ok(last.insert(pages.make(&exposition, second)?).clone());
        spawn_blocking(make).await.map_err(io::Error::other).flatten().map_err(|error| {
            tracing::error!(%error, "The page cannot be rendered. Please report this.");
            RenderError
        })
    }

    fn make(&self, exposition: &Exposition, second: i64) -> io::Result<RenderedPage> {
        let page = PageView::new(exposition, second, self.notice, &self.metrics_link);
        let text = page.render().map_err(io::Error::other)?;
        let mut packer = GzEncoder::new(Vec::with_capacity(text.len() / 4), LEVEL);
        packer.write_all(text.as_bytes())?;
        Ok(RenderedPage { second, plain: text.into_bytes().into(), packed: packer.finish()?.into() })
    }
}

/// Names come from the author of a signing request. Nothing may run or load but the style and the script of this
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

#[cfg(test)]
mod tests;
