//! The exposition as an HTTP response.

use std::{
    io::{self, Write as _},
    sync::Arc,
};

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderValue,
        header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY},
    },
    response::Response,
};
use flate2::{Compression, write::GzEncoder};
use prometheus::TextEncoder;

use super::{
    Sources,
    rendering::{Renderer, Renderings, Unrendered},
};
use crate::exposition;

/// Without it, Prometheus 3 refuses the scrape.
const TEXT_FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// The exposition in both forms in which it is asked for.
#[derive(Clone)]
pub(super) struct Metrics {
    plain: Arc<Renderer>,
    gzip: Arc<Renderer>,
}

impl Metrics {
    pub(super) fn new(sources: &Sources, renderings: &Arc<Renderings>) -> Self {
        let [plain, packed] = [sources.clone(), sources.clone()];
        Self {
            plain: Renderer::new("metrics", renderings, move || render(&plain).map(String::into_bytes)),
            gzip: Renderer::new("metrics", renderings, move || gzip(&render(&packed)?)),
        }
    }

    pub(super) async fn answer(&self, headers: &HeaderMap) -> Result<Response, Unrendered> {
        let gzip = accepts_gzip(headers);
        let body = if gzip { &self.gzip } else { &self.plain }.body().await?;
        let mut response = Response::new(Body::new(body));
        response.headers_mut().insert(CONTENT_TYPE, TEXT_FORMAT);
        response.headers_mut().insert(VARY, HeaderValue::from_static("accept-encoding"));
        if gzip {
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(response)
    }
}

fn render(sources: &Sources) -> io::Result<String> {
    let snapshot = sources.snapshots.borrow().clone();
    let mut text = exposition::render(&snapshot, &sources.series, (sources.now)().timestamp());
    text.push_str(&exposition::render_program());
    TextEncoder::new().encode_utf8(&sources.registry.gather(), &mut text).map_err(io::Error::other)?;
    Ok(text)
}

/// One step above the fastest, which makes half as much again of what is so much alike.
const LEVEL: Compression = Compression::new(2);

fn gzip(text: &str) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), LEVEL);
    encoder.write_all(text.as_bytes())?;
    encoder.finish()
}

/// Whether gzip is named, or everything is, and not with a quality of zero.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let quality_of = |wanted: &str| {
        headers
            .get_all(ACCEPT_ENCODING)
            .iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','))
            .find_map(|item| {
                let (coding, parameters) = item.split_once(';').unwrap_or((item, ""));
                let quality = parameters.trim().strip_prefix("q=").map_or(Some(1.0), |q| q.trim().parse::<f64>().ok());
                coding.trim().eq_ignore_ascii_case(wanted).then_some(quality.unwrap_or(0.0))
            })
    };
    quality_of("gzip").or_else(|| quality_of("*")).is_some_and(|quality| quality > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_whom_accepts_it() {
        for (accept, gzip) in [
            ("gzip", true),
            ("GZIP", true),
            ("deflate, gzip;q=0.5", true),
            ("*", true),
            ("gzip;q=1.0, identity; q=0.5, *;q=0", true),
            ("identity", false),
            ("", false),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("*, gzip;q=0", false),
            ("*;q=0", false),
            ("gzip;q=x", false),
            ("br, xgzip", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(accept))]);
            assert_eq!(accepts_gzip(&headers), gzip, "{accept:?}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
