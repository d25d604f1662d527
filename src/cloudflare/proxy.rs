//! Why a proxy refuses to connect to Cloudflare: the HTTP library does not pass its status on.

use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{StatusCode, Url};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::model::{Failure, Reason};

/// A proxy that has just refused does so again in no time.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the HTTP library tells apart where a proxy refused a connection.
pub(super) enum ProxyRefusal {
    /// 407.
    NoPassword,
    /// Any other status, or something that is no HTTP.
    Other,
}

impl ProxyRefusal {
    /// Finds it in the text of an error.
    pub(super) fn find(error: &str) -> Option<Self> {
        match error {
            "tunnel error: proxy authorization required" => Some(Self::NoPassword),
            "tunnel error: unsuccessful" => Some(Self::Other),
            _ => None,
        }
    }

    /// The failure of a request to this URL. Asks the proxy once more where the status is not known.
    pub(super) async fn failure(self, url: Option<&Url>) -> Failure {
        let status = match (self, url) {
            (Self::NoPassword, _) => Some(StatusCode::PROXY_AUTHENTICATION_REQUIRED),
            (Self::Other, Some(url)) => timeout(PATIENCE, connect_status(url)).await.ok().flatten(),
            (Self::Other, None) => None,
        };
        let message = match status {
            Some(StatusCode::PROXY_AUTHENTICATION_REQUIRED) => {
                "The proxy refused the connection to Cloudflare with 407 Proxy Authentication Required: check the user and password in HTTPS_PROXY, or in ALL_PROXY.".to_owned()
            }
            Some(status) => format!(
                "The proxy refused the connection to Cloudflare with {status}: allow CONNECT to {} in its rules, and check that it can connect there.",
                url.and_then(target).unwrap_or_else(|| "api.cloudflare.com:443".to_owned())
            ),
            None => "The proxy refused the connection to Cloudflare with an unknown status: read the log of the proxy.".to_owned(),
        };
        Failure::new(Reason::Connect, message)
    }
}

/// What a proxy has to connect to for this URL.
fn target(url: &Url) -> Option<String> {
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}

/// Asks the proxy of the environment for a connection, and returns the status with which it refuses.
async fn connect_status(url: &Url) -> Option<StatusCode> {
    let proxy = Matcher::from_env().intercept(&url.as_str().parse().ok()?)?;
    if proxy.uri().scheme_str() != Some("http") {
        return None;
    }
    let host = proxy.uri().host()?.trim_matches(['[', ']']);
    let mut stream = TcpStream::connect((host, proxy.uri().port_u16().unwrap_or(80))).await.ok()?;
    let target = target(url)?;
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(password) = proxy.basic_auth() {
        request.extend([b"Proxy-Authorization: ", password.as_bytes(), b"\r\n"].concat());
    }
    request.extend(b"\r\n");
    stream.write_all(&request).await.ok()?;
    // It may keep the connection open: the first line is enough.
    let mut answer = [0; 64];
    let mut length = 0;
    while length < answer.len() && !answer[..length].contains(&b'\n') {
        match stream.read(&mut answer[length..]).await.ok()? {
            0 => break,
            read => length += read,
        }
    }
    status(&answer[..length])
}

/// The status in the first line of a response, unless it is a success.
fn status(answer: &[u8]) -> Option<StatusCode> {
    let line = String::from_utf8_lossy(answer);
    let code = line.strip_prefix("HTTP/1.")?.split_ascii_whitespace().nth(1)?;
    StatusCode::from_bytes(code.as_bytes()).ok().filter(|status| !status.is_success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_a_status() {
        for (answer, expected) in [
            ("HTTP/1.1 403 Forbidden\r\n", Some(403)),
            ("HTTP/1.0 502", Some(502)),
            ("HTTP/1.1 200 Connection established\r\n", None),
            ("HTTP/1.1 4x3 No\r\n", None),
            ("SSH-2.0-OpenSSH", None),
            ("", None),
        ] {
            assert_eq!(status(answer.as_bytes()).map(|status| status.as_u16()), expected, "{answer}");
        }
    }
}
