//! `check`: whether anything expires soon, as monitoring plugins say it.
//!
//! The verdict is the worst that is certain or possible. What is known to be critical is CRITICAL, whatever else is
//! unknown: nothing could be worse. Otherwise a zone of which too little is known is UNKNOWN, since there could be
//! something critical in it, and that is worse than what is known to be a WARNING.

mod observations;

use std::{fmt, process::ExitCode, str::FromStr, time::Duration};

use chrono::{DateTime, Utc};
use clap::Args;
use reqwest::Url;

use super::{
    complain,
    daemon::block_on,
    daemon_client::{self, Access, DaemonFlags, Endpoint},
    list, print,
};
use crate::{
    cloudflare::{ClientMaker, announce_proxy},
    config::{Config, ConfigErrors, Listening},
    model::{Zone, clean},
};
use observations::{Observations, ObservedCertificate, ObservedZone};

/// Options of `check`.
#[expect(clippy::doc_markdown, reason = "this is help for a terminal")]
#[derive(Debug, Args)]
pub(super) struct Options {
    /// WARNING if a certificate has fewer days left than this; 30 and 30: are the same.
    #[arg(long, short, value_name = "DAYS", default_value = "30")]
    warning: Days,
    /// CRITICAL if a certificate has fewer days left than this, or has expired.
    #[arg(long, short, value_name = "DAYS", default_value = "7")]
    critical: Days,
    /// Only this zone, by name or id; can be repeated.
    #[arg(long = "zone", value_name = "NAME_OR_ID")]
    zones: Vec<String>,
    /// How long it may take, in seconds or with a unit [default: 10s, with --sweep 5m].
    #[arg(long, short, value_name = "DURATION", value_parser = daemon_client::timeout)]
    timeout: Option<Duration>,
    /// Metrics of the daemon, such as https://exporter.example.com:10199/metrics
    /// [default: as the options of the daemon or the running daemon say, else the first of server.listen_addresses of the configuration, with server.telemetry_path].
    #[arg(long, value_name = "URL", value_parser = daemon_client::url)]
    url: Option<Url>,
    #[command(flatten)]
    pub(super) daemon: DaemonFlags,
    #[command(flatten)]
    access: Access,
    /// List all zones at Cloudflare instead of asking a daemon; costs what list costs.
    #[arg(
        long,
        conflicts_with_all = ["url", "listen_addresses", "telemetry_path", "web_config_file", "ca_file", "basic_auth_user", "basic_auth_password_file", "client_cert", "client_key"]
    )]
    sweep: bool,
}

/// A number of days, of which fewer are too few.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Days(u32);

impl FromStr for Days {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_suffix(':').unwrap_or(text);
        // `u32` would take a sign.
        let number = Some(number).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
        let days = number.and_then(|number| number.parse().ok()).map(Self);
        days.ok_or("it has to be a whole number of days such as 30, or 30: which is the same; days have no upper limit")
    }
}

/// As a range in performance data: less than this alarms.
impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.0)
    }
}

/// From good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Ok,
    Warning,
    Unknown,
    Critical,
}

impl Level {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Unknown => "UNKNOWN",
            Self::Critical => "CRITICAL",
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }
}

/// Asks or sweeps, and prints the verdict; returns the exit code.
pub(super) fn run(
    options: &Options,
    listening: impl FnOnce() -> Result<Listening, ConfigErrors>,
    load: impl FnOnce() -> Result<Config, ConfigErrors>,
    now: fn() -> DateTime<Utc>,
) -> u8 {
    if options.critical > options.warning {
        return unknown("wrong usage: --critical may not be more days than --warning");
    }
    let timeout = options.timeout.unwrap_or(Duration::from_secs(if options.sweep { 5 * 60 } else { 10 }));
    let mut observations = Err("the program could not start its threads".to_owned());
    block_on(async {
        observations = if options.sweep {
            let in_time = tokio::time::timeout(timeout, sweep(&options.zones, load, now)).await;
            in_time
                .unwrap_or_else(|_| Err(format!("the sweep took longer than {}", humantime::format_duration(timeout))))
        } else {
            from_daemon(options, listening, timeout, now).await
        };
        0
    });
    match observations {
        Ok(observations) => {
            let (level, text) = verdict(&observations, options);
            finish(level, &text)
        }
        Err(why) => unknown(&why),
    }
}

/// Prints that nothing is known and why; returns the exit code.
pub(super) fn unknown(why: &str) -> u8 {
    let why = harmless(&why.trim_end().lines().collect::<Vec<_>>().join("; "), 1000);
    finish(Level::Unknown, &format!("CERTIFICATES UNKNOWN - {why}\n"))
}

/// Says so of a command line that is none; to monitoring, the usual exit code is an alarm.
pub(super) fn wrong_usage(error: &clap::Error) -> ExitCode {
    complain(&error.to_string());
    let text = error.to_string();
    let first = text.lines().take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    unknown(&format!("wrong usage: {}", first.trim_start_matches("error: "))).into()
}

fn finish(level: Level, text: &str) -> u8 {
    // Nobody has read what could not be printed.
    if print(text.as_bytes()) == 0 { level.code() } else { Level::Unknown.code() }
}

async fn from_daemon(
    options: &Options,
    listening: impl FnOnce() -> Result<Listening, ConfigErrors>,
    timeout: Duration,
    now: fn() -> DateTime<Utc>,
) -> Result<Observations, String> {
    let url = match &options.url {
        Some(url) => daemon_client::completed(url.clone(), Endpoint::Metrics),
        None => daemon_client::address(&listening().map_err(|errors| errors.to_string())?, Endpoint::Metrics)?,
    };
    let answer = daemon_client::get(&url, Endpoint::Metrics, &options.access, timeout).await?;
    let remedy = match answer.status {
        200 => {
            // Ages are by the clock that the times were taken with.
            let mut observations =
                Observations::from_metrics(&answer.body, answer.date.unwrap_or_else(|| now().timestamp()))
                    .map_err(|why| format!("{url}: {why}"))?;
            observations.keep(&options.zones);
            return Ok(observations);
        }
        401 => "it wants --basic-auth-user and --basic-auth-password-file",
        404 => "--url has to end with its server.telemetry_path",
        429 => "its web configuration limits the rate of requests",
        _ => "its log may say why",
    };
    Err(format!("{url} answers {}; {remedy}", answer.status))
}

async fn sweep(
    wanted: &[String],
    load: impl FnOnce() -> Result<Config, ConfigErrors>,
    now: fn() -> DateTime<Utc>,
) -> Result<Observations, String> {
    let config = load().map_err(|errors| errors.to_string())?;
    announce_proxy(&config.api);
    let clients = ClientMaker::for_one_sweep(now).make(&config.api, &config.credentials);
    let clients = clients.map_err(|error| error.to_string())?;
    let client = |zone: &Zone| clients[&zone.credential].clone();
    let requests = || clients.values().map(|client| client.requests_sent()).sum::<u64>();
    let zones = list::chosen(&config.zones, wanted, client).await?;
    let (listings, failures) = list::sweep(zones, client, requests, now).await;
    Ok(Observations::from_sweep(&config, &listings, &failures, now().timestamp()))
}

/// Lines of certificates, and of zones.
const MAX_LINES: usize = 10;
/// Some receivers cut off what is longer.
const MAX_BYTES: usize = 4000;
/// Of one name.
const MAX_CHARS: usize = 64;

/// How bad it is, and the text that says so.
fn verdict(observations: &Observations, options: &Options) -> (Level, String) {
    let level_of = |days: i64| match days {
        days if days < 0 || days < options.critical.0.into() => Level::Critical,
        days if days < options.warning.0.into() => Level::Warning,
        _ => Level::Ok,
    };
    let mut urgent: Vec<_> = observations.certificates.iter().filter(|certificate| !certificate.is_quiet).collect();
    urgent.sort_by_key(|certificate| (certificate.days, certificate.zone, &certificate.id));
    let soonest = urgent.first().copied();
    let known = soonest.map_or(Level::Ok, |certificate| level_of(certificate.days));
    urgent.retain(|certificate| level_of(certificate.days) > Level::Ok);
    let number =
        |is: &dyn Fn(&ObservedCertificate) -> bool| urgent.iter().filter(|certificate| is(certificate)).count();
    let expired = number(&|certificate| certificate.days < 0);
    let critical = number(&|certificate| level_of(certificate.days) == Level::Critical) - expired;
    let warning = urgent.len() - expired - critical;

    let not_fresh: Vec<_> = observations
        .zones
        .iter()
        .filter_map(|zone| Some(format!("{} {}", name(&zone.name), harmless(zone.not_fresh.as_ref()?, 300))))
        .collect();
    let too_hidden = too_hidden(observations, |floor| floor.map_or(Level::Critical, level_of) > known);
    let unseen: Vec<_> =
        observations.zones.iter().filter_map(|zone| Some(format!("{} {}", name(&zone.name), zone.unseen()?))).collect();
    let is_all_known = not_fresh.is_empty() && too_hidden.is_empty() && unseen.is_empty();
    let level = if is_all_known { known } else { known.max(Level::Unknown) };

    let mut said = Vec::new();
    for (number, what) in [
        (expired, "expired".to_owned()),
        (critical, format!("below {} days", options.critical.0)),
        (warning, format!("below {} days", options.warning.0)),
    ] {
        if number > 0 {
            said.push(format!("{number} {what}"));
        }
    }
    if said.is_empty() {
        said.push(format!("none below {} days", options.warning.0));
    }
    said.extend(soonest.map(|certificate| format!("first is {}", line(observations, certificate))));
    if let Some(first) = too_hidden.first() {
        said.push(format!(
            "{} of {} zones hide certificates that could be worse: {}",
            too_hidden.len(),
            observations.zones.len(),
            name(&first.name)
        ));
    }
    if let Some(first) = unseen.first() {
        said.push(format!("{} of {} zones not seen: {first}", unseen.len(), observations.zones.len()));
    }
    if let Some(first) = not_fresh.first() {
        said.push(format!("{} of {} zones not fresh: {first}", not_fresh.len(), observations.zones.len()));
    }
    let hidden: u64 = observations.zones.iter().map(|zone| zone.hidden).sum();
    if hidden > 0 {
        said.push(format!("{hidden} later or expired ones hidden by metrics.max_certificates_per_zone"));
    }
    let rejected: u64 = observations.zones.iter().map(|zone| zone.rejected).sum();
    if rejected > 0 {
        said.push(format!("{rejected} not watched, as their dates or ids are missing or unreadable"));
    }
    let active: u64 = observations.zones.iter().map(|zone| zone.active).sum();
    let Options { warning: w, critical: c, .. } = options;
    let days = soonest.map_or_else(|| "U".to_owned(), |certificate| certificate.days.to_string());
    let mut text = format!(
        "CERTIFICATES {} - {} | soonest_days={days};{w};{c} expired={expired};;;0 critical={critical};;;0 warning={warning};;;0 active={active};;;0 zones={};;;0 zones_not_fresh={};;;0\n",
        level.word(),
        // In any script it leaves room for the rest.
        harmless(&said.join(", "), 700),
        observations.zones.len(),
        not_fresh.len(),
    );
    let lines = |lines: Vec<String>| {
        let more = lines.len().saturating_sub(MAX_LINES);
        let more = (more > 0).then(|| format!("and {more} more"));
        lines.into_iter().take(MAX_LINES).chain(more).collect::<Vec<_>>()
    };
    let certificates = urgent.iter().map(|certificate| line(observations, certificate)).collect();
    let zones = unseen.iter().map(|zone| format!("not seen: {zone}"));
    let zones = zones.chain(not_fresh.iter().map(|zone| format!("not fresh: {zone}"))).collect();
    for line in lines(certificates).into_iter().chain(lines(zones)) {
        if text.len() + line.len() < MAX_BYTES {
            text.push_str(&line);
            text.push('\n');
        }
    }
    (level, text)
}

/// Zones whose hidden certificates could be worse than what is known.
///
/// The cap leaves out those that expire last, so a hidden one has at least as many days as every one that is shown; and
/// where none is shown, any number. It leaves out expired ones too, and they were looked at until they expired.
fn too_hidden(observations: &Observations, is_worse: impl Fn(Option<i64>) -> bool) -> Vec<&ObservedZone> {
    let hides = |(place, zone): (usize, _)| {
        let shown = observations.certificates.iter().filter(|certificate| certificate.zone == place);
        is_worse(shown.map(|certificate| certificate.days).max()).then_some(zone)
    };
    observations.zones.iter().enumerate().filter(|(_, zone)| zone.hidden > 0).filter_map(hides).collect()
}

fn line(observations: &Observations, certificate: &ObservedCertificate) -> String {
    let ObservedCertificate { zone, id, common_name, days, .. } = certificate;
    let state = if *days < 0 { "expired, " } else { "" };
    format!("{}: {} ({}), {state}{days} days", name(&observations.zones[*zone].name), name(common_name), name(id))
}

fn name(text: &str) -> String {
    harmless(text, MAX_CHARS)
}

/// What is left of a text that can stand in a line of plugin output: a bar begins the performance data.
fn harmless(text: &str, most: usize) -> String {
    // Pieces, since what is longer than a name is cut.
    let characters: Vec<_> = text.chars().collect();
    let cleaned =
        characters.chunks(128).flat_map(|chunk| clean(&chunk.iter().collect::<String>()).chars().collect::<Vec<_>>());
    let mut kept: String = cleaned.map(|c| if c == '|' { ' ' } else { c }).take(most).collect();
    if characters.len() > most {
        kept.pop();
        kept.push('…');
    }
    kept
}
