//! `check`: whether anything expires soon, as monitoring plugins say it.
//!
//! The verdict is the worst that is certain or possible. What is known to be critical is CRITICAL, whatever else is
//! unknown: nothing could be worse. Otherwise a zone of which too little is known is UNKNOWN, since there could be
//! something critical in it, and that is worse than what is known to be a WARNING.

mod observations;

use std::{process::ExitCode, time::Duration};

use chrono::{DateTime, Utc};
use clap::Args;
use reqwest::Url;

use super::{
    AddressFlags, CommandError, complain,
    daemon::block_on,
    daemon_client::{self, AccessFlags, DaemonEndpoint},
    print,
    sweep::{SelectionFlags, sweep},
};
use crate::{
    config::{Config, ConfigErrors, Listening},
    exposition::json::ReadCertificate,
    model::clean,
};
use observations::{ObservedListing, count_zones, is_suppressed, keep, keep_owner, observe, status};

#[expect(clippy::doc_markdown, reason = "this is help for a terminal")]
#[derive(Debug, Args)]
pub(super) struct CheckOptions {
    /// WARNING if a certificate has fewer days left than this; 30 and 30: are the same.
    #[arg(long, short, value_name = "DAYS", default_value = "30", value_parser = days)]
    warning: u32,
    /// CRITICAL if a certificate has fewer days left than this, or has expired.
    #[arg(long, short, value_name = "DAYS", default_value = "7", value_parser = days)]
    critical: u32,
    #[command(flatten)]
    selection: SelectionFlags,
    /// Only what has this value of the label owner, as [[labels]] in the configuration gives it.
    #[arg(long, value_name = "OWNER")]
    owner: Option<String>,
    /// How long it may take, in seconds or with a unit [default: 10s, with --sweep 5m].
    #[arg(long, short, value_name = "DURATION", value_parser = daemon_client::timeout)]
    timeout: Option<Duration>,
    /// The daemon, such as https://exporter.example.com:10199; the URL of its metrics will do
    /// [default: as the options of the daemon or the running daemon say, else the first of server.listen_addresses of the configuration].
    #[arg(long, value_name = "URL", value_parser = daemon_client::url)]
    url: Option<Url>,
    #[command(flatten)]
    pub(super) daemon: AddressFlags,
    #[command(flatten)]
    access: AccessFlags,
    /// List all zones at Cloudflare instead of asking a daemon; costs what list costs.
    #[arg(
        long,
        conflicts_with_all = ["url", "listen_addresses", "telemetry_path", "web_config_file", "ca_file", "basic_auth_user", "basic_auth_password_file", "client_cert", "client_key"]
    )]
    pub(super) sweep: bool,
}

impl CheckOptions {
    fn level_of(&self, days: i64) -> Level {
        if days < 0 || days < self.critical.into() {
            Level::Critical
        } else if days < self.warning.into() {
            Level::Warning
        } else {
            Level::Ok
        }
    }
}

/// A number of days, of which fewer are too few.
fn days(text: &str) -> Result<u32, &'static str> {
    let number = text.strip_suffix(':').unwrap_or(text);
    // `u32` would take a sign.
    let number = Some(number).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    let days = number.and_then(|number| number.parse().ok());
    days.ok_or("it has to be a whole number of days such as 30, or 30: which is the same; days have no upper limit")
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
    const fn word_and_code(self) -> (&'static str, u8) {
        match self {
            Self::Ok => ("OK", 0),
            Self::Warning => ("WARNING", 1),
            Self::Critical => ("CRITICAL", 2),
            Self::Unknown => ("UNKNOWN", 3),
        }
    }
}

/// Asks or sweeps, and prints the verdict; returns the exit code.
pub(super) fn run(
    options: &CheckOptions,
    listening: impl FnOnce() -> Result<Listening, ConfigErrors>,
    load: impl FnOnce() -> Result<Config, ConfigErrors>,
    now: fn() -> DateTime<Utc>,
) -> Result<u8, CommandError> {
    if options.critical > options.warning {
        return Err(CommandError::usage("wrong usage: --critical may not be more days than --warning"));
    }
    let mut listings = block_on(async {
        if options.sweep {
            let timeout = options.timeout.unwrap_or(Duration::from_secs(5 * 60));
            let late = || format!("the sweep took longer than {}", humantime::format_duration(timeout));
            let in_time = tokio::time::timeout(timeout, from_sweep(&options.selection, load, now)).await;
            in_time.unwrap_or_else(|_| Err(CommandError::failed(late())))
        } else {
            let timeout = options.timeout.unwrap_or(Duration::from_secs(10));
            from_daemon(options, listening, timeout, now).await
        }
    })?;
    if let Some(owner) = &options.owner {
        keep_owner(&mut listings, owner);
    }
    let (level, text) = verdict(&listings, options);
    print(text.as_bytes()).map(|()| level.word_and_code().1)
}

/// Prints that nothing is known and why; returns the exit code.
pub(super) fn unknown(why: &str) -> u8 {
    let why = harmless(&why.trim_end().lines().collect::<Vec<_>>().join("; "), 1000);
    let (word, code) = Level::Unknown.word_and_code();
    let line = format!("CERTIFICATES {word} - {why}\n");
    if let Err(error) = print(line.as_bytes()) {
        complain(&error.text);
    }
    code
}

/// Says so of a command line that is none; to monitoring, the usual exit code is an alarm.
pub(super) fn wrong_usage(error: &clap::Error) -> ExitCode {
    complain(&error.to_string());
    let text = error.to_string();
    let first = text.lines().take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    unknown(&format!("wrong usage: {}", first.trim_start_matches("error: "))).into()
}

async fn from_daemon(
    options: &CheckOptions,
    listening: impl FnOnce() -> Result<Listening, ConfigErrors>,
    timeout: Duration,
    now: fn() -> DateTime<Utc>,
) -> Result<Vec<ObservedListing>, CommandError> {
    let urls = match &options.url {
        Some(url) => daemon_client::status_urls(url),
        None => {
            vec![daemon_client::address(&listening()?, DaemonEndpoint::Status).map_err(CommandError::failed)?]
        }
    };
    let mut refused = String::new();
    for url in urls {
        let response = daemon_client::get(&url, DaemonEndpoint::Status, &options.access, timeout).await;
        let response = response.map_err(CommandError::failed)?;
        let remedy = match response.status {
            200 => {
                // Ages are by the clock that the times were taken with.
                let now = response.date.unwrap_or_else(|| now().timestamp());
                let status = response.json().await.map_err(CommandError::failed)?;
                let unusable = |why| CommandError::failed(format!("the response of {url} cannot be used: {why}"));
                let mut listings = observe(status, now).map_err(unusable)?;
                keep(&mut listings, &options.selection);
                return Ok(listings);
            }
            404 => {
                refused = format!("{url} returned 404; --url must name a daemon of this version");
                continue;
            }
            401 => "give --basic-auth-user and --basic-auth-password-file",
            429 => "its web configuration limits the rate of requests",
            _ => "read its log",
        };
        return Err(CommandError::failed(format!("{url} returned {}; {remedy}", response.status)));
    }
    Err(CommandError::failed(refused))
}

async fn from_sweep(
    selection: &SelectionFlags,
    load: impl FnOnce() -> Result<Config, ConfigErrors>,
    now: fn() -> DateTime<Utc>,
) -> Result<Vec<ObservedListing>, CommandError> {
    let config = load()?;
    let swept = sweep(&config, selection, now).await?;
    let now = now().timestamp();
    let status = status(swept.snapshot, config.series, now).map_err(CommandError::failed)?;
    observe(status, now).map_err(CommandError::failed)
}

/// Lines of certificates, and of zones.
const MAX_LINES: usize = 10;
/// Some receivers cut off what is longer.
const MAX_BYTES: usize = 4000;
/// Of one name.
const MAX_CHARS: usize = 64;

/// How bad it is, and the text that says so.
fn verdict(listings: &[ObservedListing], options: &CheckOptions) -> (Level, String) {
    let findings = CheckFindings::new(listings, options);
    let level = findings.level();
    // In any script it leaves room for the rest.
    let summary = harmless(&findings.summary().join(", "), 700);
    let (word, _) = level.word_and_code();
    let mut text = format!("CERTIFICATES {word} - {summary} | {}\n", findings.performance_data());
    for line in findings.lines() {
        if text.len() + line.len() < MAX_BYTES {
            text.push_str(&line);
            text.push('\n');
        }
    }
    (level, text)
}

/// A certificate and its listing.
type Observed<'a> = (&'a ObservedListing, &'a ReadCertificate);

/// What a verdict follows from.
struct CheckFindings<'a> {
    listings: &'a [ObservedListing],
    options: &'a CheckOptions,
    /// The certificate that expires first, however far away that is.
    soonest: Option<Observed<'a>>,
    /// How bad it is for certain.
    known: Level,
    /// The certificates that alarm, the worst one first.
    urgent: Vec<Observed<'a>>,
    expired: usize,
    critical: usize,
    warning: usize,
    // Listings of which too little is known, and why.
    stale: Vec<&'a ObservedListing>,
    without_visible: Vec<&'a ObservedListing>,
    cap_hides_worse: Vec<&'a ObservedListing>,
}

impl<'a> CheckFindings<'a> {
    fn new(listings: &'a [ObservedListing], options: &'a CheckOptions) -> Self {
        let all = listings.iter().flat_map(|listing| listing.certificates.iter().map(move |one| (listing, one)));
        let mut urgent: Vec<_> = all.filter(|(_, certificate)| !is_suppressed(certificate)).collect();
        // Those of one day stay in the order of listings and ids.
        urgent.sort_by_key(|(_, certificate)| certificate.days_until_expiry);
        let level_of = |(_, certificate): &Observed<'_>| options.level_of(certificate.days_until_expiry);
        let soonest = urgent.first().copied();
        let known = soonest.as_ref().map_or(Level::Ok, level_of);
        urgent.retain(|one| level_of(one) > Level::Ok);
        let expired = urgent.iter().filter(|(_, certificate)| certificate.days_until_expiry < 0).count();
        let warning = urgent.iter().filter(|one| level_of(one) == Level::Warning).count();
        Self {
            listings,
            options,
            soonest,
            known,
            expired,
            critical: urgent.len() - expired - warning,
            warning,
            urgent,
            stale: listings.iter().filter(|listing| listing.stale_reason.is_some()).collect(),
            without_visible: listings.iter().filter(|listing| listing.no_visible_certificates().is_some()).collect(),
            cap_hides_worse: listings
                .iter()
                .filter(|listing| listing.hidden > 0 && worst_hidden(listing, options) > known)
                .collect(),
        }
    }

    fn level(&self) -> Level {
        let is_all_known = self.stale.is_empty() && self.cap_hides_worse.is_empty() && self.without_visible.is_empty();
        if is_all_known { self.known } else { self.known.max(Level::Unknown) }
    }

    /// What is said in the first line.
    fn summary(&self) -> Vec<String> {
        let CheckOptions { warning: warning_days, critical: critical_days, .. } = self.options;
        let listings = self.listings;
        let zones = count_zones(listings);
        let mut said = Vec::new();
        for (number, what) in [
            (self.expired, "expired".to_owned()),
            (self.critical, format!("below {critical_days} days")),
            (self.warning, format!("below {warning_days} days")),
        ] {
            if number > 0 {
                said.push(format!("{number} {what}"));
            }
        }
        if said.is_empty() {
            said.push(format!("none below {warning_days} days"));
        }
        said.extend(self.soonest.map(|one| format!("first is {}", line(one))));
        let hides_worse = "hide certificates that could be worse";
        said.extend(doubt(&self.cap_hides_worse, zones, hides_worse, |listing| name(&listing.title)));
        said.extend(doubt(&self.without_visible, zones, "not seen", invisible_line));
        said.extend(doubt(&self.stale, zones, "not fresh", stale_line));
        let hidden: u64 = listings.iter().map(|listing| listing.hidden).sum();
        if hidden > 0 {
            said.push(format!("{hidden} later or expired ones hidden by metrics.max_certificates_per_zone"));
        }
        let rejected: u64 = listings.iter().map(|listing| listing.rejected).sum();
        if rejected > 0 {
            said.push(format!("{rejected} not watched, as their dates or ids are missing or unreadable"));
        }
        said
    }

    /// Numbers for graphs.
    fn performance_data(&self) -> String {
        let Self { expired, critical, warning, .. } = self;
        let CheckOptions { warning: warning_days, critical: critical_days, .. } = self.options;
        let days =
            self.soonest.map_or_else(|| "U".to_owned(), |(_, certificate)| certificate.days_until_expiry.to_string());
        let active: u64 = self.listings.iter().map(|listing| listing.active).sum();
        let zones = count_zones(self.listings);
        let zones_not_fresh = count_zones(self.stale.iter().copied());
        format!(
            "soonest_days={days};{warning_days}:;{critical_days}: expired={expired};;;0 critical={critical};;;0 \
             warning={warning};;;0 active={active};;;0 zones={zones};;;0 zones_not_fresh={zones_not_fresh};;;0"
        )
    }

    /// What is said below the first line: certificates, then zones.
    fn lines(&self) -> Vec<String> {
        let certificates = self.urgent.iter().copied().map(line);
        let unseen = self.without_visible.iter().map(|listing| format!("not seen: {}", invisible_line(listing)));
        let stale = self.stale.iter().map(|listing| format!("not fresh: {}", stale_line(listing)));
        let mut lines = at_most(MAX_LINES, certificates.collect());
        lines.extend(at_most(MAX_LINES, unseen.chain(stale).collect()));
        lines
    }
}

/// How bad a hidden certificate could be.
///
/// The cap leaves out those that expire last, so a hidden one has at least as many days as every one that is shown; and
/// where none is shown, any number. It leaves out expired ones too, and they were looked at until they expired.
fn worst_hidden(listing: &ObservedListing, options: &CheckOptions) -> Level {
    let most_days = listing.certificates.iter().map(|certificate| certificate.days_until_expiry).max();
    most_days.map_or(Level::Critical, |days| options.level_of(days))
}

/// The first lines, and how many more there are.
fn at_most(most: usize, mut lines: Vec<String>) -> Vec<String> {
    let more = lines.len().saturating_sub(most);
    lines.truncate(most);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}

/// How many zones these listings are of, and what is wrong with the first; nothing if there are none.
fn doubt(
    listings: &[&ObservedListing],
    zones: usize,
    what: &str,
    line: impl FnOnce(&ObservedListing) -> String,
) -> Option<String> {
    let first = line(listings.first()?);
    Some(match count_zones(listings.iter().copied()) {
        // Something that is no zone, such as the zones of a credential.
        0 => format!("{what}: {first}"),
        count => format!("{count} of {zones} zones {what}: {first}"),
    })
}

fn invisible_line(listing: &ObservedListing) -> String {
    format!("{} {}", name(&listing.title), listing.no_visible_certificates().unwrap_or_default())
}

fn stale_line(listing: &ObservedListing) -> String {
    let why = listing.stale_reason.as_deref().unwrap_or_default();
    format!("{} {}", name(&listing.title), harmless(why, 300))
}

fn line((listing, certificate): Observed<'_>) -> String {
    let days = certificate.days_until_expiry;
    let state = if days < 0 { "expired, " } else { "" };
    let [title, common_name, id] =
        [&listing.title, &certificate.common_name, &certificate.certificate_id].map(|text| name(text));
    format!("{title}: {common_name} ({id}), {state}{days} days")
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::model::{SeriesSettings, Status, two_kinds};

    const NOW: i64 = 1_795_521_600;

    #[derive(clap::Parser)]
    struct Arguments {
        #[command(flatten)]
        options: CheckOptions,
    }

    #[test]
    fn kinds_of_one_zone_are_kept_apart() {
        let settings = SeriesSettings {
            statuses: vec![Status::Active],
            max_certificates_per_zone: 9,
            expiring_within_days: Vec::new(),
            forget_expired_after: Duration::ZERO,
            labels: Default::default(),
        };
        let read = || observe(status(two_kinds::snapshot(NOW), settings.clone(), NOW).unwrap(), NOW).unwrap();
        let Arguments { options } = Arguments::parse_from(["check"]);
        let (level, text) = verdict(&read(), &options);
        assert_eq!(level, Level::Critical);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].contains(" active=2;;;0 zones=1;;;0 zones_not_fresh=1;;;0"), "{text}");
        assert_eq!(lines[1], "a.example (origin_ca): same (same), 3 days");
        assert_eq!(lines[2], "not fresh: a.example (origin_ca) was last listed 10h ago, and is due every 1h");
        assert_eq!(lines.len(), 3, "{text}");
        // What is known of the fresh one is fine, and the other one is still not fresh.
        let Arguments { options } = Arguments::parse_from(["check", "-w", "2", "-c", "2"]);
        assert_eq!(verdict(&read(), &options).0, Level::Unknown);
    }
}
