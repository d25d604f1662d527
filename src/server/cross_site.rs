//! Requests that a page of another site makes a browser send. A browser sends the password that it knows with them, so
//! what changes something refuses them.

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Uri,
    header::{HOST, ORIGIN},
};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a browser marks the request as one of another site. What is no browser sends no mark.
pub(super) fn is_cross_site(uri: &Uri, headers: &HeaderMap) -> bool {
    let site_is_ours = |site: &[u8]| matches!(site, b"same-origin" | b"none");
    let host = uri.authority().map(|authority| authority.as_str().as_bytes());
    let host = host.or_else(|| headers.get(HOST).map(HeaderValue::as_bytes)).unwrap_or_default();
    let origin_is_ours = |origin: &[u8]| is_origin_of(origin, host);
    let all = |name: HeaderName, is_ours: &dyn Fn(&[u8]) -> bool| {
        headers.get_all(name).iter().all(|value| is_ours(value.as_bytes()))
    };
    !all(SEC_FETCH_SITE, &site_is_ours) || !all(ORIGIN, &origin_is_ours)
}

/// Whether an origin, `SCHEME://HOST[:PORT]`, is this host. Its scheme may be another one: a proxy in front can speak
/// TLS for this server.
fn is_origin_of(origin: &[u8], host: &[u8]) -> bool {
    let without_port = |host: &[u8], port: &[u8]| host.strip_suffix(port).unwrap_or(host).to_ascii_lowercase();
    [(&b"http://"[..], &b":80"[..]), (b"https://", b":443")].iter().any(|(scheme, port)| {
        let named = origin.strip_prefix(*scheme).filter(|named| !named.is_empty());
        named.is_some_and(|named| without_port(named, port) == without_port(host, port))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_browsers_are_understood() {
        for (uri, headers, expected) in [
            ("/", &[("host", "a")][..], false),
            ("/", &[], false),
            ("/", &[("host", "a"), ("sec-fetch-site", "same-origin")], false),
            ("/", &[("host", "a"), ("sec-fetch-site", "none")], false),
            ("/", &[("host", "a"), ("sec-fetch-site", "same-origin"), ("origin", "http://a")], false),
            ("/", &[("host", "A.example:10199"), ("origin", "http://a.example:10199")], false),
            ("/", &[("host", "a:80"), ("origin", "http://a")], false),
            ("/", &[("host", "a"), ("origin", "https://a:443")], false),
            ("/", &[("host", "[::1]:10199"), ("origin", "http://[::1]:10199")], false),
            ("https://a/", &[("origin", "https://a")], false),
            ("/", &[("host", "a"), ("sec-fetch-site", "cross-site")], true),
            ("/", &[("host", "a"), ("sec-fetch-site", "same-site")], true),
            ("/", &[("host", "a"), ("sec-fetch-site", "")], true),
            ("/", &[("host", "a"), ("sec-fetch-site", "anything")], true),
            ("/", &[("host", "a"), ("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")], true),
            ("/", &[("host", "a"), ("sec-fetch-site", "cross-site"), ("origin", "http://a")], true),
            ("/", &[("host", "a"), ("sec-fetch-site", "same-origin"), ("origin", "http://b")], true),
            ("/", &[("host", "a"), ("origin", "null")], true),
            ("/", &[("host", "a"), ("origin", "")], true),
            ("/", &[("host", ""), ("origin", "http://")], true),
            ("/", &[("host", "null"), ("origin", "null")], true),
            ("/", &[("host", "a"), ("origin", "http://b")], true),
            ("/", &[("host", "a"), ("origin", "http://a:10199")], true),
            ("/", &[("host", "a:443"), ("origin", "http://a")], true),
            ("/", &[("host", "a"), ("origin", "http://a.example")], true),
            ("/", &[("host", "a"), ("origin", "http://a/")], true),
            ("/", &[("host", "a"), ("origin", "ftp://a")], true),
            ("/", &[("host", "a"), ("origin", "http://a"), ("origin", "http://b")], true),
            ("/", &[("origin", "http://a")], true),
            ("https://a/", &[("host", "b"), ("origin", "https://b")], true),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            assert_eq!(is_cross_site(&Uri::from_static(uri), &map), expected, "{uri} {headers:?}");
        }
    }
}
