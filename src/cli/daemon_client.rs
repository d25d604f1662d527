//! Asking the running daemon: where it is, and one request to it.
//!
//! What is made of the response is not here.

use std::{
    error::Error as _,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::DateTime;
use clap::Args;
use reqwest::{Certificate, Client, Identity, Url, redirect::Policy};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;

use crate::{cloudflare::read_roots, config::Listening, files, server::ListenAddress};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DaemonEndpoint {
    Health,
    Status,
}

impl DaemonEndpoint {
    const fn path(self) -> &'static str {
        match self {
            Self::Health => "/-/healthy",
            Self::Status => "/-/status.json",
        }
    }
}

/// Where the daemon with this configuration answers; the one place that decides it.
pub(super) fn address(listening: &Listening, endpoint: DaemonEndpoint) -> Result<Url, String> {
    let path = endpoint.path();
    let unknown = || {
        "the port of the daemon is not in the configuration, and no running daemon has recorded it; name its address with --url".to_owned()
    };
    let probe = listening.probe_address.as_ref().filter(|_| endpoint == DaemonEndpoint::Health);
    let scheme = match &listening.is_tls {
        Ok(true) if probe.is_none() => "https",
        Err(why) if probe.is_none() => {
            return Err(format!(
                "{why}; without this file, name the daemon with --url https://HOST:PORT{path} or http://HOST:PORT{path}"
            ));
        }
        _ => "http",
    };
    let host_and_port = probe.or(listening.addresses.first()).and_then(ListenAddress::reachable).ok_or_else(unknown)?;
    format!("{scheme}://{host_and_port}{path}").parse().map_err(|_| unknown())
}

/// Reads what is given for `--url`.
pub(super) fn url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("it is not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        Err("it must begin with http:// or https://".to_owned())
    } else if !url.username().is_empty() || url.password().is_some() {
        Err("others can read the command line, so it may hold no password".to_owned())
    } else {
        Ok(url)
    }
}

/// Where health is asked, if `--url` names this: there, or at the usual path if it has none.
pub(super) fn health_url(mut url: Url) -> Url {
    if url.path() == "/" {
        url.set_path(DaemonEndpoint::Health.path());
    }
    url
}

/// Where the status is asked, if `--url` names this. Each but the last may not be there.
///
/// It may be the URL of the metrics or of the page, and a proxy may serve all of the daemon below a path of its own:
/// the status is beside either. Metrics at a longer path have it at the root.
pub(super) fn status_urls(url: &Url) -> Vec<Url> {
    let path = DaemonEndpoint::Status.path();
    if url.path().ends_with(path) {
        return vec![url.clone()];
    }
    let mut beside = url.clone();
    beside.set_query(None);
    let directory = url.path().rsplit_once('/').map_or("", |(directory, _)| directory);
    beside.set_path(&format!("{directory}{path}"));
    let mut at_root = beside.clone();
    at_root.set_path(path);
    if beside == at_root { vec![at_root] } else { vec![beside, at_root] }
}

/// Reads a duration, in seconds if it has no unit, as monitoring plugins take it.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    let timeout = seconds.map_or_else(|| crate::config::parse_duration(text), Ok)?;
    if timeout.is_zero() { Err("it has to be longer than nothing".to_owned()) } else { Ok(timeout) }
}

/// What a daemon with a web configuration may ask for.
#[derive(Debug, Args, Default)]
pub(super) struct AccessFlags {
    /// Certificate authorities that the daemon's certificate has to come from, as a PEM file [default: those of this machine].
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// User for basic authentication.
    #[arg(long, value_name = "NAME", requires = "basic_auth_password_file")]
    basic_auth_user: Option<String>,
    /// File with the password for basic authentication.
    #[arg(long, value_name = "FILE", requires = "basic_auth_user")]
    basic_auth_password_file: Option<PathBuf>,
    /// Client certificate, with those between it and its authority, as a PEM file.
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// Key of the client certificate, as a PEM file.
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
}

/// What the daemon responds. The body is read afterwards.
#[derive(Debug)]
pub(super) struct DaemonResponse {
    pub(super) status: u16,
    /// What its clock says, in Unix seconds.
    pub(super) date: Option<i64>,
    response: reqwest::Response,
    timeout: Duration,
}

/// Sends a GET. The timeout is for the body, too.
pub(super) async fn get(
    url: &Url,
    endpoint: DaemonEndpoint,
    access: &AccessFlags,
    timeout: Duration,
) -> Result<DaemonResponse, String> {
    // A proxy would only stand in the way to a daemon of one's own network; and where a daemon sends one is not asked.
    let mut builder = Client::builder()
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .no_proxy()
        .timeout(timeout);
    if let Some(roots) = access.roots()? {
        builder = builder.tls_certs_only(roots);
    } else if url.scheme() == "http" || (endpoint == DaemonEndpoint::Health && is_loopback(url)) {
        // Reading this machine's authorities takes long, and some have none. Health holds no secret and gets none,
        // and a certificate never names the loopback address.
        builder = builder.tls_certs_only([]).tls_danger_accept_invalid_certs(url.scheme() == "https");
    }
    if let Some(identity) = access.identity()? {
        builder = builder.identity(identity);
    }
    let client = builder.build().map_err(|error| format!("TLS cannot be set up: {}", cause(&error)))?;
    let mut request = client.get(url.clone());
    if let (Some(user), Some(password)) = (&access.basic_auth_user, access.password()?) {
        request = request.basic_auth(user, Some(password.expose_secret()));
    }
    let response = request.send().await.map_err(|error| failed(url, &error, timeout))?;
    let status = response.status().as_u16();
    let date = response.headers().get("date").and_then(|date| DateTime::parse_from_rfc2822(date.to_str().ok()?).ok());
    let date = date.map(|date| date.timestamp());
    Ok(DaemonResponse { status, date, response, timeout })
}

fn failed(url: &Url, error: &reqwest::Error, timeout: Duration) -> String {
    if error.is_timeout() {
        return format!("no response from {url} in {}", humantime::format_duration(timeout));
    }
    let is_refused = |cause: &io::Error| cause.kind() == io::ErrorKind::ConnectionRefused;
    let is_refused = sources(error).any(|cause| cause.downcast_ref().is_some_and(is_refused));
    let remedy = if is_refused { "; start the daemon, or name its address with --url" } else { "" };
    format!("no response from {url}: {}{remedy}", cause(error))
}

impl DaemonResponse {
    /// The first line of the body, as far as it comes in one piece; empty if there is none.
    pub(super) async fn first_line(mut self) -> String {
        let piece = self.response.chunk().await.ok().flatten().unwrap_or_default();
        String::from_utf8_lossy(&piece).lines().next().unwrap_or_default().to_owned()
    }

    /// Reads the body as JSON.
    pub(super) async fn json<T: DeserializeOwned>(self) -> Result<T, String> {
        let Self { response, timeout, .. } = self;
        let url = response.url().clone();
        let body = response.bytes().await.map_err(|error| failed(&url, &error, timeout))?;
        serde_json::from_slice(&body).map_err(|error| {
            format!("the response of {url} is not the status of this version of cloudflare-cert-exporter: {error}")
        })
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    ip.map_or_else(|_| host.eq_ignore_ascii_case("localhost"), |ip| ip.is_loopback())
}

/// The errors that caused this one, from the top down.
fn sources(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |cause| (*cause).source())
}

/// What is behind an error. The layers above it say no more.
fn cause(error: &reqwest::Error) -> String {
    sources(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}

impl AccessFlags {
    fn roots(&self) -> Result<Option<Vec<Certificate>>, String> {
        let Some(file) = &self.ca_file else { return Ok(None) };
        let unusable = |error: &dyn std::fmt::Display| format!("{} cannot be used: {error}", file.display());
        let roots = read_roots(&read(file)?).map_err(|error| unusable(&error))?.certificates;
        let roots = roots.iter().map(|root| Certificate::from_der(root)).collect::<Result<_, _>>();
        roots.map(Some).map_err(|error| unusable(&error))
    }

    fn identity(&self) -> Result<Option<Identity>, String> {
        let (Some(certificate), Some(key)) = (&self.client_cert, &self.client_key) else { return Ok(None) };
        let mut pem = read(key)?;
        pem.push(b'\n');
        pem.extend(read(certificate)?);
        let files = || format!("{} and {}", certificate.display(), key.display());
        let unusable = |_| format!("{} cannot be used: they have to hold a certificate and its key as PEM", files());
        Identity::from_pem(&pem).map(Some).map_err(unusable)
    }

    fn password(&self) -> Result<Option<SecretString>, String> {
        let Some(file) = &self.basic_auth_password_file else { return Ok(None) };
        let text = String::from_utf8(read(file)?);
        // The bytes are part of the error.
        let mut text = text.map_err(|_| format!("{} cannot be used: it is not UTF-8 text", file.display()))?;
        if text.ends_with('\n') {
            text.pop();
        }
        Ok(Some(text.into()))
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    files::read(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use exporter_toolkit::WebConfig;

    use super::*;

    #[test]
    fn the_daemon_is_asked_where_it_listens() {
        let asked = |address: &str, endpoint| {
            let listening = Listening { addresses: vec![address.parse().unwrap()], ..Listening::default() };
            super::address(&listening, endpoint).map(String::from)
        };
        for (listens, answers) in [
            ("127.0.0.1:10199", "http://127.0.0.1:10199/-/status.json"),
            (":10199", "http://127.0.0.1:10199/-/status.json"),
            ("0.0.0.0:80", "http://127.0.0.1/-/status.json"),
            ("[::]:10199", "http://[::1]:10199/-/status.json"),
            ("[fd00::1]:10199", "http://[fd00::1]:10199/-/status.json"),
            ("exporter.example.com:1", "http://exporter.example.com:1/-/status.json"),
        ] {
            assert_eq!(asked(listens, DaemonEndpoint::Status).unwrap(), answers, "{listens}");
        }
        assert_eq!(asked(":1", DaemonEndpoint::Health).unwrap(), "http://127.0.0.1:1/-/healthy");
        assert!(asked("127.0.0.1:0", DaemonEndpoint::Status).unwrap_err().contains("--url"));
        let tls = Listening { is_tls: Ok(true), ..Listening::default() };
        assert_eq!(address(&tls, DaemonEndpoint::Health).unwrap().as_str(), "https://127.0.0.1:10199/-/healthy");
        let probed = Listening { probe_address: Some(":10200".parse().unwrap()), ..tls };
        assert_eq!(address(&probed, DaemonEndpoint::Health).unwrap().as_str(), "http://127.0.0.1:10200/-/healthy");
        assert_eq!(address(&probed, DaemonEndpoint::Status).unwrap().as_str(), "https://127.0.0.1:10199/-/status.json");
        // Where that is not known, only a probe can be asked.
        let unknown = || WebConfig::asks_for_tls("nowhere/web.yml".as_ref());
        let untold = Listening { is_tls: unknown(), ..Listening::default() };
        for (endpoint, remedy) in [
            (DaemonEndpoint::Status, "--url https://HOST:PORT/-/status.json or http://HOST:PORT/-/status.json"),
            (DaemonEndpoint::Health, "--url https://HOST:PORT/-/healthy or http://HOST:PORT/-/healthy"),
        ] {
            let why = address(&untold, endpoint).unwrap_err();
            assert!(why.starts_with("nowhere/web.yml: ") && why.contains(remedy) && !why.contains('\n'), "{why}");
        }
        let probed = Listening { is_tls: unknown(), ..probed };
        assert_eq!(address(&probed, DaemonEndpoint::Health).unwrap().as_str(), "http://127.0.0.1:10200/-/healthy");
    }

    #[test]
    fn a_url_leads_to_what_is_asked_for() {
        for (text, health) in
            [("https://x", "https://x/-/healthy"), ("http://x/behind/a/proxy", "http://x/behind/a/proxy")]
        {
            assert_eq!(health_url(url(text).unwrap()).as_str(), health);
        }
        for (text, status) in [
            ("https://x", &["https://x/-/status.json"][..]),
            ("http://x:1/metrics", &["http://x:1/-/status.json"]),
            ("http://x:1/metrics?a=b", &["http://x:1/-/status.json"]),
            ("http://x:1/-/status.json", &["http://x:1/-/status.json"]),
            ("http://x/a/proxy/metrics", &["http://x/a/proxy/-/status.json", "http://x/-/status.json"]),
            ("http://x/a/proxy/", &["http://x/a/proxy/-/status.json", "http://x/-/status.json"]),
            ("http://x/a/proxy/-/status.json", &["http://x/a/proxy/-/status.json"]),
        ] {
            assert_eq!(status_urls(&url(text).unwrap()).iter().map(Url::as_str).collect::<Vec<_>>(), status);
        }
        for wrong in ["", "x:10199", "ftp://x", "http://user:password@x", "http://user@x"] {
            assert!(url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_timeout_without_a_unit_is_in_seconds() {
        assert_eq!(timeout("10"), Ok(Duration::from_secs(10)));
        assert_eq!(timeout("500ms"), Ok(Duration::from_millis(500)));
        assert!(["", "0", "0s", "-1", "soon"].iter().all(|wrong| timeout(wrong).is_err()));
    }

    #[test]
    fn only_addresses_of_this_machine_are_loopback() {
        let is = |text: &str| is_loopback(&text.parse().unwrap());
        assert!(
            ["https://127.0.0.1", "https://127.9.9.9:1", "https://[::1]:1", "https://LOCALHOST"].into_iter().all(is)
        );
        assert!(!["https://10.0.0.1", "https://[::2]", "https://localhost.example.com"].into_iter().any(is));
    }

    #[tokio::test]
    async fn a_body_that_stops_or_breaks_off_is_not_mistaken_for_another_document() {
        for (stays_open, expected) in [(true, " in 300ms"), (false, "end of file before message length reached")] {
            let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url: Url = format!("http://{}/", server.local_addr().unwrap()).parse().unwrap();
            let answering = tokio::spawn(async move {
                let (mut stream, _) = server.accept().await.unwrap();
                let answer =
                    b"HTTP/1.1 200 OK\r\ndate: Tue, 24 Nov 2026 12:00:00 GMT\r\ncontent-length: 100\r\n\r\n[1,";
                tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 4096]).await.unwrap();
                tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
                if stays_open {
                    std::future::pending::<()>().await;
                }
            });
            let timeout = Duration::from_millis(300);
            let response = get(&url, DaemonEndpoint::Status, &AccessFlags::default(), timeout).await.unwrap();
            assert_eq!(response.date, Some(1_795_521_600));
            let error = response.json::<Vec<u8>>().await.unwrap_err();
            answering.abort();
            assert!(error.contains(&format!(" from {url}")) && error.ends_with(expected), "{error}");
        }
    }
}
