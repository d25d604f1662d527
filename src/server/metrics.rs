//! The exposition as an HTTP response.

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderValue,
        header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY, X_CONTENT_TYPE_OPTIONS},
    },
    response::Response,
};
use prometheus::{Registry, TextEncoder};

use super::{Served, published::Unrendered};
use crate::exposition;

/// Without it, Prometheus 3 refuses the scrape.
const TEXT_FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Answers a scrape.
pub(super) async fn answer(served: &Served, headers: &HeaderMap) -> Result<Response, Unrendered> {
    let exposition = served.published.now().await?;
    let program = program(&served.registry)?;
    let gzip = accepts_gzip(headers);
    let body = if gzip { served.answers.gzip(exposition, &program) } else { served.answers.text(exposition, program) };
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(CONTENT_TYPE, TEXT_FORMAT);
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept-encoding"));
    // Names in it come from strangers, and no browser shall take them for a page.
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if gzip {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

/// What the program tells of itself at this moment.
fn program(registry: &Registry) -> Result<String, Unrendered> {
    let mut text = exposition::render_program();
    TextEncoder::new().encode_utf8(&registry.gather(), &mut text).map_err(|error| {
        tracing::error!(%error, "The metrics of the program cannot be rendered. Please report this.");
        Unrendered
    })?;
    Ok(text)
}

/// Whether gzip is named, or everything is, and not with a quality of zero.
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
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
