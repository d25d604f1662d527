//! Bytes over the network: connections, their security, and limits on what is taken in.

use std::{error::Error as _, sync::Mutex, time::Duration};

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{
    RequestBuilder, StatusCode, Url,
    header::{ACCEPT, HeaderMap, HeaderValue},
    redirect::Policy,
};
use tokio::{task::spawn_blocking, time::timeout};

use super::{ApiSettings, lock};
use crate::model::{Failure, Reason};

/// A page of 50 certificates with PEM and CSR is about 200 kB; this is the most that is read of one response, decompressed.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// Only the error is read from a response that reports one.
const MAX_ERROR_BODY: usize = 64 * 1024;

/// A response, whatever it says.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The unpacked body, or why it could not be read.
    pub(super) body: Result<Vec<u8>, Failure>,
}

/// How often an idle HTTP/2 connection is pinged to find out whether it still lives.
const PING_EVERY: Duration = Duration::from_secs(30);

/// How long new connections are waited for: certificate authorities are read from a disk, which may hang.
const RENEWAL_PATIENCE: Duration = Duration::from_secs(5);

/// The connections to the API, which are replaced by new ones where they may be dead.
///
/// A connection can be dead while its socket lives: something on the way acknowledges and passes nothing on. Over
/// HTTP/2 a timeout ends a request and not the connection, so that every further request would use it again.
#[derive(Debug)]
pub(super) struct Transport {
    settings: ApiSettings,
    /// A client with its pool of connections, and how many there were before it.
    current: Mutex<(u64, reqwest::Client)>,
}

impl Transport {
    /// Opens no connection yet. Blocks.
    ///
    /// # Errors
    /// In words, if the machine's certificate authorities cannot be read, for example.
    pub(super) fn new(settings: &ApiSettings) -> Result<Self, String> {
        Ok(Self { settings: settings.clone(), current: Mutex::new((0, http_client(settings)?)) })
    }

    /// Sends a request and reads the response, all within `api.timeout`.
    pub(super) async fn get(&self, url: Url, headers: HeaderMap) -> Result<Response, Failure> {
        let (number, http) = lock(&self.current).clone();
        // Errors made at Cloudflare's edge are JSON too then.
        let request = http.get(url).headers(headers).header(ACCEPT, HeaderValue::from_static("application/json"));
        let (response, is_suspect) = match timeout(self.settings.timeout, exchange(request)).await {
            Ok(exchanged) => exchanged,
            Err(_) => {
                let limit = humantime::format_duration(self.settings.timeout);
                let message = format!("Cloudflare did not send a whole response within {limit} (api.timeout).");
                (Err(Failure::new(Reason::Timeout, message)), true)
            }
        };
        if is_suspect {
            self.renew(number).await;
        }
        response
    }

    /// From now on requests use other connections than these suspect ones. What is under way on those goes on.
    async fn renew(&self, suspect: u64) {
        let settings = self.settings.clone();
        // It reads the machine's certificate authorities.
        let renewed = timeout(RENEWAL_PATIENCE, spawn_blocking(move || http_client(&settings))).await;
        match renewed.map_err(|late| late.to_string()).and_then(|done| done.map_err(|bug| bug.to_string())).flatten() {
            Ok(http) => {
                let mut current = lock(&self.current);
                // Many timeouts at once renew them once.
                if current.0 == suspect {
                    *current = (suspect + 1, http);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "New connections cannot be prepared, so the old ones stay in use.");
            }
        }
    }
}

/// A client that follows no redirect, because the secret would travel along, and repeats no request on its own.
///
/// # Errors
/// In words, if the machine's certificate authorities cannot be read, for example.
fn http_client(settings: &ApiSettings) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .pool_max_idle_per_host(settings.concurrency as usize)
        // A ping that is not answered ends a connection no sooner than its oldest request would end: a peer that
        // answers requests and no pings costs no poll.
        .http2_keep_alive_interval(PING_EVERY)
        .http2_keep_alive_timeout(settings.timeout)
        .http2_keep_alive_while_idle(true);
    builder = if settings.base_url.is_plain() {
        // Plain text is for this machine: a proxy would carry the secret out of it, and a machine
        // without any certificate authority can still run the demo.
        builder.no_proxy().tls_certs_only([])
    } else {
        let roots = settings.ca_file.iter().flat_map(|file| file.roots());
        let roots = roots.map(|root| reqwest::Certificate::from_der(root));
        builder.tls_certs_merge(roots.collect::<Result<Vec<_>, _>>().map_err(|error| causes(&error).join(": "))?)
    };
    builder.build().map_err(|error| causes(&error).join(": "))
}

/// Logs the proxy that requests go through, and each variable that names one that cannot be used.
///
/// reqwest reads the same variables, and logs nothing.
pub fn announce_proxy(settings: &ApiSettings) {
    if settings.base_url.is_plain() {
        return;
    }
    let url = settings.base_url.join("", None);
    let proxy = |matcher: &Matcher| {
        let proxy = matcher.intercept(&url.as_str().parse().ok()?)?;
        proxy.uri().scheme_str().is_some_and(|scheme| matches!(scheme, "http" | "https")).then_some(proxy)
    };
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        let Some(value) = std::env::var_os(variable).filter(|value| !value.is_empty()) else { continue };
        if value.to_str().and_then(|value| proxy(&Matcher::builder().all(value).build())).is_none() {
            tracing::warn!(
                variable,
                "This variable names no proxy that can be used, so requests go without it or fail. Set it to http://HOST:PORT or https://HOST:PORT. Its value is not shown, since it may hold a password."
            );
        }
    }
    if let Some(proxy) = proxy(&Matcher::from_env()) {
        // Put together again: what is left of a password with an @ in it would be shown otherwise.
        let (uri, password) = (proxy.uri(), proxy.basic_auth().is_some());
        let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
        let address = format!("{}://{}{port}", uri.scheme_str().unwrap_or_default(), uri.host().unwrap_or_default());
        tracing::info!(
            proxy = address,
            password,
            "Requests to Cloudflare go through the proxy that the environment names."
        );
    }
}

/// Sends a request and reads its response. Also tells whether it broke off on a connection that there was.
async fn exchange(request: RequestBuilder) -> (Result<Response, Failure>, bool) {
    let mut response = match request.send().await {
        Ok(response) => response,
        Err(error) => return (Err(failure(&error)), !error.is_connect()),
    };
    let status = response.status();
    let headers = std::mem::take(response.headers_mut());
    let limit = if status.is_success() { MAX_BODY } else { MAX_ERROR_BODY };
    let mut body = Vec::new();
    let body = loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > limit => {
                break Err(Failure::new(Reason::TooLarge, format!("The response is larger than {limit} bytes.")));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break Ok(body),
            Err(error) => break Err(failure(&error)),
        }
    };
    let broke = matches!(&body, Err(failure) if failure.reason == Reason::Connect);
    (Ok(Response { status, headers, body }), broke)
}

/// The errors that caused this one, from the top down.
fn chain<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |cause| (*cause).source())
}

/// The same in words. Each layer tends to repeat the one below.
fn causes(error: &reqwest::Error) -> Vec<String> {
    let mut causes: Vec<String> = Vec::new();
    for cause in chain(error).map(ToString::to_string) {
        // The layer that calls the others, which says no more.
        if !cause.starts_with("client error (") && !causes.iter().any(|known| known.contains(&cause)) {
            causes.push(cause);
        }
    }
    causes
}

fn failure(error: &reqwest::Error) -> Failure {
    let tls = chain(error).find_map(tls_error);
    // reqwest calls a broken connection a decoding error too, but hyper is the cause then.
    let garbled = error.is_decode() && error.source().is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
    let causes = crate::model::clean(&causes(error).join(": ")).into_string();
    // The HTTP library passes on nothing else of what a proxy returned.
    if causes.contains("proxy authorization required") {
        let message = "The proxy refused the connection to Cloudflare with 407 Proxy Authentication Required: check the user and password in HTTPS_PROXY, or in ALL_PROXY.";
        Failure::new(Reason::Connect, message)
    } else if causes.contains("tunnel error") {
        let message = format!(
            "The proxy refused the connection to Cloudflare ({causes}): allow CONNECT to the host of api.base_url in its rules, and read its log."
        );
        Failure::new(Reason::Connect, message)
    } else if let Some(tls) = tls {
        let remedy = remedy_for_tls(tls);
        Failure::new(Reason::Tls, format!("The connection to Cloudflare is not secure ({causes}): {remedy}."))
    } else if error.is_timeout() && error.is_connect() {
        let message = format!("Cannot connect to Cloudflare in time ({causes}): check the firewall and the proxy.");
        Failure::new(Reason::Timeout, message)
    } else if error.is_timeout() {
        Failure::new(Reason::Timeout, format!("Cloudflare did not respond within api.timeout ({causes})."))
    } else if garbled {
        Failure::new(Reason::Decode, format!("The response cannot be decompressed ({causes})."))
    } else if error.is_connect() {
        let message = format!("Cannot connect to Cloudflare ({causes}): check DNS, the firewall and the proxy.");
        Failure::new(Reason::Connect, message)
    } else {
        Failure::new(Reason::Connect, format!("The connection to Cloudflare broke ({causes})."))
    }
}

const fn remedy_for_tls(error: &rustls::Error) -> &'static str {
    use rustls::{CertificateError as Wrong, Error};
    match error {
        Error::InvalidCertificate(
            Wrong::Expired | Wrong::ExpiredContext { .. } | Wrong::NotValidYet | Wrong::NotValidYetContext { .. },
        ) => "check the clock of this machine",
        Error::InvalidCertificate(Wrong::UnknownIssuer) => {
            "if a proxy inspects TLS, name its CA in api.ca_file, else install the system's CA certificates"
        }
        Error::InvalidCertificate(Wrong::NotValidForName | Wrong::NotValidForNameContext { .. }) => {
            "another server responds under this name; check DNS, the proxy and api.base_url"
        }
        Error::InvalidMessage(_) => "what responds does not speak TLS; check the proxy and api.base_url",
        _ => "check the clock of this machine, and api.ca_file if a proxy inspects TLS",
    }
}

/// rustls hands its errors on inside of I/O errors, and hyper puts those into others, which do not name them as their source.
fn tls_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let inner = || tls_error(cause.downcast_ref::<std::io::Error>()?.get_ref()?);
    cause.downcast_ref().or_else(inner)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// Why a body that claims to be compressed cannot be read; the connection ends behind it.
    async fn failure_of(head: &str, body: &[u8]) -> Option<Reason> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let response =
            [format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n{head}\r\n\r\n").as_bytes(), body].concat();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(&response).await.unwrap();
        });
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let response = exchange(client.get(url)).await.0.unwrap();
        server.await.unwrap();
        response.body.err().map(|failure| failure.reason)
    }

    #[tokio::test]
    async fn a_body_that_is_there_and_cannot_be_decompressed_is_no_broken_connection() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&(0..2000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>()).unwrap();
        let whole = encoder.finish().unwrap();
        let (half, length) = (&whole[..whole.len() / 2], whole.len());
        let short = half.len();
        let chunk =
            |bytes: &[u8], end: &str| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, end.as_bytes()].concat();
        for (what, head, body, expected) in [
            ("whole", format!("content-length: {length}"), whole.clone(), None),
            ("no gzip", "content-length: 11".into(), b"not so much".to_vec(), Some(Reason::Decode)),
            ("short gzip", format!("content-length: {short}"), half.to_vec(), Some(Reason::Decode)),
            (
                "short gzip in a chunk",
                "transfer-encoding: chunked".into(),
                chunk(half, "\r\n0\r\n\r\n"),
                Some(Reason::Decode),
            ),
            ("one byte", "content-length: 1".into(), b"\x1f".to_vec(), Some(Reason::Decode)),
            ("cut", format!("content-length: {length}"), half.to_vec(), Some(Reason::Connect)),
            (
                "cut in a chunk",
                "transfer-encoding: chunked".into(),
                chunk(&whole, "")[..short].to_vec(),
                Some(Reason::Connect),
            ),
            ("cut between chunks", "transfer-encoding: chunked".into(), chunk(half, "\r\n"), Some(Reason::Connect)),
        ] {
            assert_eq!(failure_of(&head, &body).await, expected, "{what}");
        }
    }
}
