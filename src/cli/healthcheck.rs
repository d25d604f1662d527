//! `healthcheck`: whether the running daemon lives, for containers.

use std::time::Duration;

use clap::Args;
use reqwest::Url;

use super::{
    AddressFlags, CommandError, FAILED,
    daemon::block_on,
    daemon_client::{self, AccessFlags, DaemonEndpoint},
    print,
};
use crate::{
    config::{ConfigErrors, Listening},
    model::clean,
};

#[expect(clippy::doc_markdown, reason = "this is help for a terminal")]
#[derive(Debug, Args)]
pub(super) struct HealthcheckOptions {
    /// Where the daemon answers, such as http://127.0.0.1:10199
    /// [default: as the options of the daemon or the running daemon say, else the first of server.listen_addresses of the configuration].
    #[arg(long, value_name = "URL", value_parser = daemon_client::url)]
    url: Option<Url>,
    #[command(flatten)]
    pub(super) daemon: AddressFlags,
    /// How long an answer is waited for.
    #[arg(long, short, value_name = "DURATION", default_value = "5s", value_parser = daemon_client::timeout)]
    timeout: Duration,
}

/// Asks and prints one line; returns the exit code.
pub(super) fn run(
    options: &HealthcheckOptions,
    listening: impl FnOnce() -> Result<Listening, ConfigErrors>,
) -> Result<u8, CommandError> {
    let (line, code) = match block_on(is_healthy(options, listening)) {
        Ok(url) => (format!("healthy: {url} answers.\n"), 0),
        Err(error) => (format!("unhealthy: {}.\n", error.text.replace('\n', "; ")), FAILED),
    };
    print(line.as_bytes()).map(|()| code)
}

async fn is_healthy(
    options: &HealthcheckOptions,
    listening: impl FnOnce() -> Result<Listening, ConfigErrors>,
) -> Result<Url, CommandError> {
    let url = match &options.url {
        Some(url) => daemon_client::health_url(url.clone()),
        None => daemon_client::address(&listening()?, DaemonEndpoint::Health).map_err(CommandError::failed)?,
    };
    let why = match daemon_client::get(&url, DaemonEndpoint::Health, &AccessFlags::default(), options.timeout).await {
        Err(why) if url.scheme() == "https" => format!("{why}; {PROBE} if it is about certificates"),
        Err(why) => why,
        Ok(answer) => match answer.status {
            200 => return Ok(url),
            401 => format!("{url} requires a password; {PROBE}"),
            429 => format!("{url} returned 429, the rate limit of the daemon's web configuration; {PROBE}"),
            404 => format!("{url} returned 404; --url must name the daemon"),
            status => {
                let why = clean(answer.first_line().await.trim_end_matches('.'));
                format!("{url} returned {status}{}{why}", if why.is_empty() { "" } else { ": " })
            }
        },
    };
    Err(CommandError::failed(why))
}

const PROBE: &str = "set server.probe_listen_address, where health needs no password, certificate or quota";
