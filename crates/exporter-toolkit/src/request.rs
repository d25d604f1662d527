//! What is kept of a request of HTTP/2 while it waits for its turn.
//!
//! A byte of HPACK can stand for a header of four thousand, and the password has not been asked for yet. So a request is
//! copied, with what responses depend on and no more.

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Request, Uri,
        header::{ACCEPT_ENCODING, AUTHORIZATION, HOST, ORIGIN},
    },
};

/// The headers that responses depend on.
const READ_HEADERS: [HeaderName; 5] =
    [ACCEPT_ENCODING, AUTHORIZATION, HOST, ORIGIN, HeaderName::from_static("sec-fetch-site")];

/// Values of each that are kept. None may be there more than once, or it does not matter how often.
const MAX_VALUES: usize = 2;

/// Bytes of a value that are kept, and of a host. No browser sends as many.
const MAX_VALUE: usize = 512;

/// The same of `Authorization`. A password that is cut off is wrong; bcrypt reads 72 bytes of it.
const MAX_AUTHORIZATION: usize = 1024;

/// Bytes of a path that are kept. No path is as long, so nothing is there under one that was cut off.
const MAX_PATH: usize = 4 * 1024;

/// Bytes of a method. Longer ones are kept in memory of their own.
const MAX_METHOD: usize = 15;

/// A copy without the body, the query, and every header that nothing reads.
pub(crate) fn bounded_copy<B>(request: Request<B>) -> Request<Body> {
    let (mut parts, _) = request.into_parts();
    parts.headers = bounded_headers(&parts.headers);
    parts.uri = bounded_uri(parts.uri);
    if parts.method.as_str().len() > MAX_METHOD {
        // No route takes this one either.
        parts.method = Method::TRACE;
    }
    Request::from_parts(parts, Body::empty())
}

fn bounded_headers(sent: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in READ_HEADERS {
        let most = if name == AUTHORIZATION { MAX_AUTHORIZATION } else { MAX_VALUE };
        for value in sent.get_all(&name).iter().take(MAX_VALUES) {
            let bytes = value.as_bytes();
            if let Ok(value) = HeaderValue::from_bytes(bytes.get(..most).unwrap_or(bytes)) {
                kept.append(name.clone(), value);
            }
        }
    }
    kept
}

fn bounded_uri(uri: Uri) -> Uri {
    let cut = |text: &str, most| text.chars().take(most).collect::<String>();
    let mut parts = uri.into_parts();
    parts.path_and_query = parts.path_and_query.and_then(|path| cut(path.path(), MAX_PATH).parse().ok());
    parts.authority = parts.authority.and_then(|host| cut(host.as_str(), MAX_VALUE).parse().ok());
    Uri::from_parts(parts).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use hyper::body::Body as _;

    use super::*;

    #[test]
    fn of_a_request_that_waits_what_answers_depend_on_is_kept_and_no_more() {
        let long = "x".repeat(2 * MAX_PATH);
        let request =
            |uri: &str| Request::post(uri).header("host", "a").header("accept-encoding", "gzip").header("x", "y");
        let kept =
            bounded_copy(request("https://a:1/-/reload?x=y").header("origin", &long).body(long.clone()).unwrap());
        assert_eq!((kept.method().as_str(), kept.uri().to_string()), ("POST", "https://a:1/-/reload".to_owned()));
        assert_eq!((kept.headers().len(), &kept.headers()["accept-encoding"]), (3, &HeaderValue::from_static("gzip")));
        assert_eq!(kept.headers()["origin"].len(), MAX_VALUE);
        assert!(kept.body().is_end_stream());
        let twice = request("/metrics").header("accept-encoding", "gzip;q=0").header("host", "b").body(()).unwrap();
        let kept = bounded_copy(twice);
        assert_eq!((kept.uri().path(), kept.headers().get_all("host").iter().count()), ("/metrics", 2));
        assert_eq!(kept.headers().get_all("accept-encoding").iter().count(), 2);
        let kept = bounded_copy(request(&format!("https://a/{long}?{long}")).body(()).unwrap());
        assert_eq!(kept.uri().path().len(), MAX_PATH);
        assert_eq!(bounded_copy(request("*").body(()).unwrap()).uri().path(), "*");
    }

    #[test]
    fn of_a_request_that_waits_little_is_kept_however_much_its_few_bytes_stand_for() {
        let long = "x".repeat(4000);
        let size = |request: &Request<Body>| {
            let headers: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
            (request.headers().len(), headers + request.method().as_str().len() + request.uri().to_string().len())
        };
        // Each of these fits into the header of a request, of which the most is an index into what was sent before.
        for (name, values, value, most) in
            [("accept-encoding", 7, &*long, 1100), ("authorization", 7, &long, 2100), ("host", 900, "", 100)]
        {
            let request = (0..values).fold(Request::get("https://a/"), |request, _| request.header(name, value));
            let (headers, bytes) = size(&bounded_copy(request.body(()).unwrap()));
            assert!(headers == 2 && bytes < most, "{name}: {headers} headers, {bytes} bytes");
        }
        let request = Request::builder().method(&*long).uri(format!("https://{long}/{long}")).body(()).unwrap();
        let (_, bytes) = size(&bounded_copy(request));
        assert!(bytes < MAX_PATH + MAX_VALUE + 100, "{bytes}");
        // What a real client sends is kept whole.
        let basic = format!("Basic {}", "x".repeat(600));
        let kept = bounded_copy(Request::get("/").header("authorization", &basic).body(()).unwrap());
        assert_eq!(kept.headers()["authorization"], basic);
    }
}
