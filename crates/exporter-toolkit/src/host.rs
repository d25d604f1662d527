//! Which host a request is for. RFC 9112 asks for exactly one, so that no proxy in front reads a request otherwise.

use axum::{
    extract::Request,
    http::{
        HeaderValue, StatusCode, Version,
        header::{CONNECTION, HOST},
        uri::Authority,
    },
    middleware::Next,
    response::{IntoResponse as _, Response},
};

/// Answers a request, or refuses it because of its `Host`.
pub(crate) async fn check(request: Request, next: Next) -> Response {
    let mut hosts = request.headers().get_all(HOST).iter();
    let why = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => "The request has more than one Host header; send one.\n",
        (Some(host), None) if !is_host(host.as_bytes()) => {
            "The Host header is no HOST or HOST:PORT; send one that is.\n"
        }
        (None, None) if request.version() == Version::HTTP_11 => {
            "The request has no Host header, which HTTP/1.1 needs; send one.\n"
        }
        // HTTP/1.0 needs none, and HTTP/2 has `:authority` in its place.
        _ => return next.run(request).await,
    };
    let mut refused = (StatusCode::BAD_REQUEST, why).into_response();
    if request.version() < Version::HTTP_2 {
        // What follows on the connection may be meant otherwise, too.
        refused.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    refused
}

/// Whether the bytes are a host and perhaps a port. An empty one is: this server has one host.
fn is_host(value: &[u8]) -> bool {
    value.is_empty()
        // `Authority` takes these.
        || !value.starts_with(b"[]") && Authority::try_from(value).is_ok_and(|authority| {
            // What is behind the host has to be a port, and `Authority` takes a user before it as well.
            let port = value.strip_prefix(authority.host().as_bytes());
            port.is_some_and(|port| matches!(port, b"" | b":") || authority.port_u16().is_some())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_distinguished_from_other_texts() {
        for good in [
            "",
            "a",
            "example.com",
            "example.com.",
            "ex_ample:10199",
            "example.com:",
            "127.0.0.1:80",
            "[::1]",
            "[fe80::1]:9100",
            "xn--bcher-kva.example",
        ] {
            assert!(is_host(good.as_bytes()), "{good:?}");
        }
        for bad in [
            "a b",
            "a, b",
            "a/b",
            "http://a",
            "user@a",
            "a:b",
            "a:80:80",
            "a:-1",
            "::1",
            "[",
            "[]",
            "[::1",
            "[::1]80",
            "[::1/64]",
            "a?b",
            "a#b",
            "a\"",
            "<a>",
            "a\\b",
            "b\u{fc}cher",
            // No client sends a percent sign.
            "a%20b",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad:?}");
        }
        assert!(!is_host(b"\xff"));
    }
}
