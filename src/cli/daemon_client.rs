//! Asking the running daemon: where it is, and one request to it.
//!
//! What is made of the answer is not here.

use std::{
    error::Error as _,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use exporter_toolkit::WebConfig;
use reqwest::{Certificate, Client, Identity, Url, redirect::Policy};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    cloudflare::read_roots,
    config::Listening,
    files,
    server::{ListenAddress, TelemetryPath},
};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Health,
    Metrics,
}

/// Where the daemon with this configuration answers; the one place that decides it.
///
/// # Errors
/// In words, if the configuration does not tell.
pub(super) fn address(listening: &Listening, endpoint: Endpoint) -> Result<Url, String> {
    let path = match endpoint {
        Endpoint::Health => HEALTH_PATH,
        Endpoint::Metrics => listening.telemetry_path.as_str(),
    };
    let unknown = || {
        "the address does not tell where the daemon listens, and no running one says it: --url URL names where it answers".to_owned()
    };
    let probe = listening.probe_address.as_ref().filter(|_| endpoint == Endpoint::Health);
    let scheme = match &listening.is_tls {
        _ if probe.is_some() => "http",
        Ok(is_tls) => {
            if *is_tls {
                "https"
            } else {
                "http"
            }
        }
        Err(why) => {
            return Err(format!(
                "{why}; it tells whether the daemon speaks TLS, and --url https://HOST:PORT{path} (or http://) says so without it"
            ));
        }
    };
    let host_and_port = probe.or(listening.addresses.first()).and_then(ListenAddress::reachable).ok_or_else(unknown)?;
    format!("{scheme}://{host_and_port}{path}").parse().map_err(|_| unknown())
}

const HEALTH_PATH: &str = "/-/healthy";

/// Reads what is given for `--url`.
///
/// # Errors
/// In words, if nothing could be asked there.
pub(super) fn url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("it is no URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        Err("it has to begin with http:// or https://".to_owned())
    } else if !url.username().is_empty() || url.password().is_some() {
        Err("others can read the command line, so it may hold no password".to_owned())
    } else {
        Ok(url)
    }
}

/// The same URL; if it has no path, with the usual one.
pub(super) fn completed(mut url: Url, endpoint: Endpoint) -> Url {
    if url.path() == "/" {
        url.set_path(match endpoint {
            Endpoint::Health => HEALTH_PATH,
            Endpoint::Metrics => "/metrics",
        });
    }
    url
}

/// Reads a duration, in seconds if it has no unit, as monitoring plugins take it.
///
/// # Errors
/// In words, if it is none, or nothing could be done in it.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    let timeout = seconds.map_or_else(|| crate::config::parse_duration(text), Ok)?;
    if timeout.is_zero() { Err("it has to be longer than nothing".to_owned()) } else { Ok(timeout) }
}

/// What tells where the daemon answers if it was started with the same.
#[expect(clippy::doc_markdown, reason = "this is help for a terminal")]
#[derive(Debug, Args, Default)]
pub(super) struct DaemonFlags {
    /// As the daemon was given it; the first is asked
    /// [default: what the running daemon says in its runtime directory, else server.listen_addresses of the configuration].
    #[arg(long = "web.listen-address", value_name = "ADDR")]
    listen_addresses: Vec<ListenAddress>,
    /// As the daemon was given it.
    #[arg(long = "web.telemetry-path", value_name = "PATH")]
    telemetry_path: Option<TelemetryPath>,
    /// As the daemon was given it; it tells whether to ask over TLS.
    #[arg(long = "web.config.file", value_name = "FILE")]
    web_config_file: Option<PathBuf>,
}

impl DaemonFlags {
    pub(super) const fn is_default(&self) -> bool {
        self.listen_addresses.is_empty() && self.telemetry_path.is_none() && self.web_config_file.is_none()
    }

    /// What is set on the command line beats what is in the file.
    pub(super) fn apply(&self, mut listening: Listening) -> Listening {
        if !self.listen_addresses.is_empty() {
            listening.addresses.clone_from(&self.listen_addresses);
        }
        if let Some(path) = &self.telemetry_path {
            listening.telemetry_path = path.clone();
        }
        if let Some(file) = &self.web_config_file {
            listening.is_tls = WebConfig::asks_for_tls(file);
        }
        listening
    }
}

/// What a daemon with a web configuration may ask for.
#[derive(Debug, Args, Default)]
pub(super) struct Access {
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

/// What the daemon answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
    /// What its clock says, in Unix seconds.
    pub(super) date: Option<i64>,
}

/// Sends a GET.
///
/// # Errors
/// In words, if there is no answer.
pub(super) async fn get(url: &Url, endpoint: Endpoint, access: &Access, timeout: Duration) -> Result<Answer, String> {
    // A proxy would only stand in the way to a daemon of one's own network; and where a daemon sends one is not asked.
    let mut builder = Client::builder()
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .no_proxy()
        .timeout(timeout);
    if let Some(roots) = access.roots()? {
        builder = builder.tls_certs_only(roots);
    } else if url.scheme() == "http" || (endpoint == Endpoint::Health && is_loopback(url)) {
        // Reading this machine's authorities takes long, and some have none. Health holds no secret and is told none,
        // and a certificate never names the loopback address.
        builder = builder.tls_certs_only([]).tls_danger_accept_invalid_certs(url.scheme() == "https");
    }
    if let Some(identity) = access.identity()? {
        builder = builder.identity(identity);
    }
    let client = builder.build().map_err(|error| format!("TLS cannot be set up: {}", causes(&error)))?;
    let mut request = client.get(url.clone());
    if let (Some(user), Some(password)) = (&access.basic_auth_user, access.password()?) {
        request = request.basic_auth(user, Some(password.expose_secret()));
    }
    let failed = |error: &reqwest::Error| {
        if error.is_timeout() {
            format!("no answer from {url} in {}", humantime::format_duration(timeout))
        } else {
            format!("no answer from {url}: {}", causes(error))
        }
    };
    let mut response = request.send().await.map_err(|error| failed(&error))?;
    let status = response.status().as_u16();
    let date = response.headers().get("date").and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    let date = date.and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok());
    let date = date.and_then(|since| i64::try_from(since.as_secs()).ok());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(&error))? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(format!("{url} answers with more than {MAX_BODY} bytes, so that is no exporter"));
        }
        body.extend_from_slice(&chunk);
    }
    let body = String::from_utf8(body).map_err(|_| format!("what {url} answers is not UTF-8 text"))?;
    Ok(Answer { status, body, date })
}

/// Metrics of a million certificates, unpacked.
const MAX_BODY: usize = 2 << 30;

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    ip.map_or_else(|_| host.eq_ignore_ascii_case("localhost"), |ip| ip.is_loopback())
}

/// What is behind an error, from the top down. Each layer tends to repeat the one below.
fn causes(error: &reqwest::Error) -> String {
    let mut causes: Vec<String> = Vec::new();
    for cause in std::iter::successors(error.source(), |cause| (*cause).source()).map(ToString::to_string) {
        if !causes.iter().any(|known| known.contains(&cause)) {
            causes.push(cause);
        }
    }
    if causes.is_empty() { error.to_string() } else { causes.join(": ") }
}

impl Access {
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
    use super::*;

    #[test]
    fn the_daemon_is_asked_where_it_listens() {
        let asked = |address: &str, endpoint| {
            let listening = Listening {
                addresses: vec![address.parse().unwrap()],
                telemetry_path: "/m".parse().unwrap(),
                ..Listening::default()
            };
            super::address(&listening, endpoint).map(String::from)
        };
        for (listens, answers) in [
            ("127.0.0.1:10199", "http://127.0.0.1:10199/m"),
            (":10199", "http://127.0.0.1:10199/m"),
            ("0.0.0.0:80", "http://127.0.0.1/m"),
            ("[::]:10199", "http://[::1]:10199/m"),
            ("[fd00::1]:10199", "http://[fd00::1]:10199/m"),
            ("exporter.example.com:1", "http://exporter.example.com:1/m"),
        ] {
            assert_eq!(asked(listens, Endpoint::Metrics).unwrap(), answers, "{listens}");
        }
        assert_eq!(asked(":1", Endpoint::Health).unwrap(), "http://127.0.0.1:1/-/healthy");
        assert!(asked("127.0.0.1:0", Endpoint::Metrics).unwrap_err().contains("--url"));
        let tls = Listening { is_tls: Ok(true), ..Listening::default() };
        assert_eq!(address(&tls, Endpoint::Health).unwrap().as_str(), "https://127.0.0.1:10199/-/healthy");
        let probed = Listening { probe_address: Some(":10200".parse().unwrap()), ..tls };
        assert_eq!(address(&probed, Endpoint::Health).unwrap().as_str(), "http://127.0.0.1:10200/-/healthy");
        assert_eq!(address(&probed, Endpoint::Metrics).unwrap().as_str(), "https://127.0.0.1:10199/metrics");
        // Where that is not known, only a probe can be asked.
        let unknown = || WebConfig::asks_for_tls("nowhere/web.yml".as_ref());
        let untold = Listening { is_tls: unknown(), ..Listening::default() };
        for (endpoint, remedy) in [
            (Endpoint::Metrics, "--url https://HOST:PORT/metrics (or http://)"),
            (Endpoint::Health, "--url https://HOST:PORT/-/healthy (or http://)"),
        ] {
            let why = address(&untold, endpoint).unwrap_err();
            assert!(why.starts_with("nowhere/web.yml: ") && why.contains(remedy) && !why.contains('\n'), "{why}");
        }
        let probed = Listening { is_tls: unknown(), ..probed };
        assert_eq!(address(&probed, Endpoint::Health).unwrap().as_str(), "http://127.0.0.1:10200/-/healthy");
    }

    #[test]
    fn a_url_without_a_path_gets_the_usual_one() {
        for (text, endpoint, full) in [
            ("https://x", Endpoint::Health, "https://x/-/healthy"),
            ("http://x:1/", Endpoint::Metrics, "http://x:1/metrics"),
            ("http://x/behind/a/proxy", Endpoint::Metrics, "http://x/behind/a/proxy"),
        ] {
            assert_eq!(completed(url(text).unwrap(), endpoint).as_str(), full);
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
}
