//! The exposition as an HTTP response.

use axum::{
    http::{
        HeaderMap, HeaderValue,
        header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY, X_CONTENT_TYPE_OPTIONS},
    },
    response::Response,
};
use prometheus::{Registry, TextEncoder};

use super::{Served, current_exposition::RenderError, response::Content};
use crate::{exposition, model::Snapshot};

/// Without it, Prometheus 3 refuses the scrape.
const TEXT_FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Answers a scrape.
pub(super) async fn answer(served: &Served, headers: &HeaderMap) -> Result<Response, RenderError> {
    let exposition = served.exposition.up_to_date().await?;
    let program = program(&served.registry, exposition.snapshot(), (served.now)().timestamp())?;
    let gzip = accepts_gzip(headers);
    let mut response = if gzip {
        let end = exposition.gzip_end(&program);
        served.responses.response(Content::Gzip(exposition), end.into())
    } else {
        served.responses.response(Content::Text(exposition), program.into())
    };
    response.headers_mut().insert(CONTENT_TYPE, TEXT_FORMAT);
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept-encoding"));
    // Names in it come from strangers, and no browser shall take them for a page.
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if gzip {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

/// The metrics of the program itself at this Unix second.
fn program(registry: &Registry, snapshot: &Snapshot, now: i64) -> Result<String, RenderError> {
    let mut text = exposition::render_program(snapshot, now);
    TextEncoder::new().encode_utf8(&registry.gather(), &mut text).map_err(|error| {
        tracing::error!(%error, "The metrics of the program cannot be rendered. Please report this.");
        RenderError
    })?;
    Ok(text)
}

/// Whether gzip is named, or everything is, and not with a quality of zero. What cannot be understood is taken for a
/// refusal, since everybody can read what is not packed; that is sent also to clients that refuse it.
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let (mut gzip, mut anything) = (None, None);
    for line in headers.get_all(ACCEPT_ENCODING) {
        for item in String::from_utf8_lossy(line.as_bytes()).split(',') {
            let mut parts = item.split(';').map(str::trim);
            let coding = parts.next().unwrap_or_default();
            let accepted = if ["gzip", "x-gzip"].iter().any(|gzip| coding.eq_ignore_ascii_case(gzip)) {
                &mut gzip
            } else if coding == "*" {
                &mut anything
            } else {
                continue;
            };
            // One refusal is enough where it is named twice.
            *accepted = Some(accepted.unwrap_or(true) && parts.all(is_no_refusal));
        }
    }
    gzip.or(anything).unwrap_or(false)
}

/// Whether a parameter of a coding is anything but a quality of zero, or one that is none.
fn is_no_refusal(parameter: &str) -> bool {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    if !name.trim_end().eq_ignore_ascii_case("q") {
        return true;
    }
    let value = value.trim().trim_matches('"');
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    is_number && value.parse::<f64>().is_ok_and(|quality| quality > 0.0 && quality <= 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_those_who_accept_it() {
        for (accept, gzip) in [
            (&["gzip"][..], true),
            (&["GZIP"], true),
            (&["x-gzip"], true),
            (&["deflate, gzip;q=0.5"], true),
            (&["deflate,gzip ; Q = 0.001"], true),
            (&["gzip;q=1.000"], true),
            (&["gzip;"], true),
            (&["gzip;level=9"], true),
            (&["*"], true),
            (&["*;q=0.1"], true),
            (&["gzip, *;q=0"], true),
            (&["gzip;q=1.0, identity; q=0.5, *;q=0"], true),
            (&["identity;q=0, gzip"], true),
            (&["br", "gzip"], true),
            (&["\u{e9}, gzip"], true),
            (&[], false),
            (&["identity"], false),
            (&[""], false),
            (&["br, xgzip, gzipped"], false),
            (&["identity;q=0"], false),
            (&["gzip;q=0"], false),
            (&["gzip;q=0."], false),
            (&["gzip;q=.0"], false),
            (&["gzip; q=0.000"], false),
            (&["gzip;q=0.0000000"], false),
            (&["gzip;q=00"], false),
            (&["GZIP;Q=0"], false),
            (&["x-gzip;q=0"], false),
            (&["gzip;\tQ=0.0"], false),
            (&["gzip ; q = 0"], false),
            (&["gzip;q=\"0\""], false),
            (&["gzip;level=9;q=0"], false),
            (&["gzip;q=0;level=9"], false),
            (&["gzip;q=0,"], false),
            (&["*, gzip;q=0"], false),
            (&["gzip;q=0, *"], false),
            (&["gzip, gzip;q=0"], false),
            (&["gzip", "gzip;q=0"], false),
            (&["*", "gzip;q=0"], false),
            (&["\u{e9}, *, gzip;q=0"], false),
            (&["*;q=0"], false),
            (&["* ; Q=0.0"], false),
            (&["gzip;q"], false),
            (&["gzip;q="], false),
            (&["gzip;q=x"], false),
            (&["gzip;q=."], false),
            (&["gzip;q=-1"], false),
            (&["gzip;q=1.5"], false),
            (&["gzip;q=inf"], false),
            (&["gzip;q=1e0"], false),
        ] {
            let mut headers = HeaderMap::new();
            for line in accept {
                headers.append(ACCEPT_ENCODING, HeaderValue::from_bytes(line.as_bytes()).unwrap());
            }
            assert_eq!(accepts_gzip(&headers), gzip, "{accept:?}");
        }
    }
}
