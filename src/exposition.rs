//! The snapshot and the time, as the text that Prometheus reads.
//!
//! [`render`] is a pure function, written straight into one buffer: 100,000 certificates take milliseconds so, and
//! a third of a second through the structures of a metrics library. Text format 0.0.4.
//! What requests add up to is not here but in the registry of the `prometheus` crate.

mod process;

use std::{
    collections::{HashMap, HashSet},
    fmt::{Display, Write as _},
    ops::RangeInclusive,
    time::Duration,
};

use crate::model::{Certificate, Reason, Rejection, Snapshot, Status, ZoneState};

/// Which series there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesSettings {
    /// Certificates of these statuses get series of their own; the others are only counted.
    pub statuses: Vec<Status>,
    /// The most certificates of one zone that get series of their own; within [`SeriesSettings::MAX_CERTIFICATES`].
    pub max_certificates_per_zone: usize,
    /// The values of the `within_days` label, each once, each within [`SeriesSettings::WITHIN_DAYS`].
    pub expiring_within_days: Vec<u32>,
    /// A certificate that expired longer ago than this is only counted; within [`SeriesSettings::FORGET_AFTER`].
    pub forget_expired_after: Duration,
}

impl SeriesSettings {
    /// What `max_certificates_per_zone` can be.
    pub const MAX_CERTIFICATES: RangeInclusive<u32> = 0..=10_000_000;
    /// What an item of `expiring_within_days` can be.
    pub const WITHIN_DAYS: RangeInclusive<u32> = 1..=36_500;
    /// What `forget_expired_after` can be.
    pub const FORGET_AFTER: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(36_500 * 86_400);
}

/// Writes every metric of the zones and their certificates; `now` is Unix seconds.
#[must_use]
pub fn render(snapshot: &Snapshot, settings: &SeriesSettings, now: i64) -> String {
    let zones = view(snapshot, settings, now);
    let mut text = Text::default();
    certificates(&mut text, &zones, now);
    listings(&mut text, &zones, settings, now);
    polls(&mut text, &zones);
    text.0
}

/// Writes every metric of the program itself that is not in the registry.
#[must_use]
pub fn render_program() -> String {
    let mut text = Text::default();
    let name = "cloudflare_cert_exporter_build_info";
    text.family(name, "gauge", "Always 1; the labels say which build this is.");
    let labels = Labels::default()
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("revision", env!("BUILD_REVISION"))
        .with("rustversion", env!("BUILD_RUSTC"));
    text.sample(name, &labels.0, 1);
    process::render(&mut text);
    text.0
}

/// A zone, with what this rendering shows of it.
struct ZoneView<'a> {
    state: &'a ZoneState,
    /// `kind`, `zone` and `zone_id`.
    labels: Labels,
    /// With series of their own.
    shown: Vec<(&'a Certificate, Labels)>,
    /// Left out because of the cap.
    hidden: usize,
}

fn view<'a>(snapshot: &'a Snapshot, settings: &SeriesSettings, now: i64) -> Vec<ZoneView<'a>> {
    // Two zones can bear one name: a domain that moved between accounts is in both. The series of
    // certificates do not tell such zones apart, so an id is shown for the first of them.
    let mut namesakes = HashMap::<&str, usize>::new();
    for zone in &snapshot.zones {
        *namesakes.entry(&zone.name).or_default() += 1;
    }
    let mut taken = HashSet::new();
    snapshot
        .zones
        .iter()
        .map(|state| {
            let kind = Labels::default().with("kind", state.zone.kind.label());
            let short_labels = kind.with("zone", &state.name);
            let labels = short_labels.with("zone_id", state.zone.id.as_str());
            let mut eligible = eligible(state, settings, now);
            if namesakes[&*state.name] > 1 {
                eligible.retain(|certificate| taken.insert((&*state.name, &*certificate.id)));
            }
            let hidden = eligible.len().saturating_sub(settings.max_certificates_per_zone);
            eligible.truncate(settings.max_certificates_per_zone);
            let shown = eligible
                .into_iter()
                .map(|certificate| {
                    let labels = short_labels
                        .with("certificate_id", &certificate.id)
                        .with("common_name", &certificate.common_name);
                    (certificate, labels)
                })
                .collect();
            ZoneView { state, labels, shown, hidden }
        })
        .collect()
}

/// The certificates that could have series of their own, in the order in which the cap takes them:
/// unexpired ones first, soonest first, then expired ones, latest first.
fn eligible<'a>(state: &'a ZoneState, settings: &SeriesSettings, now: i64) -> Vec<&'a Certificate> {
    let Some((listing, _)) = &state.listing else { return Vec::new() };
    let forget_before = now.saturating_sub_unsigned(settings.forget_expired_after.as_secs());
    let wanted = |certificate: &&Certificate| {
        let forgotten = certificate.status != Status::Revoked && certificate.not_after() < Some(forget_before);
        certificate.rejection().is_none() && settings.statuses.contains(&certificate.status) && !forgotten
    };
    let certificates = listing.certificates();
    let (expired, unexpired) = certificates.split_at(certificates.partition_point(|c| c.is_expired(now)));
    unexpired.iter().chain(expired.iter().rev()).filter(wanted).collect()
}

/// The series of single certificates.
fn certificates(text: &mut Text, zones: &[ZoneView<'_>], now: i64) {
    let shown = || {
        zones.iter().flat_map(|zone| zone.shown.iter().map(move |(certificate, labels)| (zone, *certificate, labels)))
    };

    let name = "cloudflare_certificate_not_after_timestamp_seconds";
    text.family(name, "gauge", "When the certificate expires, as Unix time. Polled and cached.");
    for (_, certificate, labels) in shown() {
        text.sample_if(name, &labels.0, certificate.not_after());
    }
    let name = "cloudflare_certificate_not_before_timestamp_seconds";
    text.family(name, "gauge", "When the certificate was issued, as Unix time. Polled and cached.");
    for (_, certificate, labels) in shown() {
        text.sample_if(name, &labels.0, certificate.not_before);
    }
    let name = "cloudflare_certificate_days_until_expiry";
    text.family(name, "gauge", "Whole days until the certificate expires, rounded down, negative once it expired. Computed at the scrape from polled and cached data.");
    for (_, certificate, labels) in shown() {
        text.sample_if(name, &labels.0, certificate.days_until_expiry(now));
    }
    let name = "cloudflare_certificate_superseded";
    text.family(
        name,
        "gauge",
        "1 if another active certificate of the same zone and common name expires later. Polled and cached.",
    );
    for (zone, certificate, labels) in shown() {
        if let Some((listing, _)) = &zone.state.listing {
            text.sample(name, &labels.0, u8::from(listing.is_superseded(certificate, now)));
        }
    }
    let name = "cloudflare_certificate_info";
    text.family(name, "gauge", "Always 1; the labels say what Cloudflare tells of the certificate. Polled and cached.");
    for (zone, certificate, labels) in shown() {
        let labels = labels
            .with("zone_id", zone.state.zone.id.as_str())
            .with("status", certificate.status.label())
            .with("serial_number", &certificate.serial_number)
            .with("fingerprint_sha256", &certificate.fingerprint_sha256)
            .with("ski", &certificate.ski)
            .with("issuer", &certificate.profile.issuer)
            .with("signature", &certificate.profile.signature)
            .with("organization", &certificate.profile.organization)
            .with("organizational_unit", &certificate.profile.organizational_unit)
            .with("country", &certificate.profile.country)
            .with("state", &certificate.profile.state)
            .with("location", &certificate.profile.location);
        text.sample(name, &labels.0, 1);
    }
}

/// What the last good listing of each zone adds up to.
fn listings(text: &mut Text, zones: &[ZoneView<'_>], settings: &SeriesSettings, now: i64) {
    let listed = || zones.iter().filter_map(|zone| Some((zone, &*zone.state.listing.as_ref()?.0)));

    let name = "cloudflare_certificates";
    text.family(
        name,
        "gauge",
        "Certificates of the zone by status, those without a usable date included. Polled and cached.",
    );
    for (zone, listing) in listed() {
        for status in Status::ALL {
            text.sample(name, &zone.labels.with("status", status.label()).0, listing.count(status));
        }
    }
    let name = "cloudflare_certificates_expired";
    text.family(name, "gauge", "Certificates that have expired and are not revoked, at the scrape. Polled and cached.");
    for (zone, listing) in listed() {
        text.sample(name, &zone.labels.0, listing.expired(now));
    }
    let name = "cloudflare_certificates_expiring";
    text.family(name, "gauge", "Certificates that are neither revoked nor expired and expire within so many days, at the scrape. Polled and cached.");
    for (zone, listing) in listed() {
        for &days in &settings.expiring_within_days {
            text.sample(name, &zone.labels.with("within_days", days).0, listing.expiring(now, days));
        }
    }
    let name = "cloudflare_certificates_next_expiry_timestamp_seconds";
    text.family(
        name,
        "gauge",
        "The soonest expiry still ahead among certificates that are not revoked, as Unix time. Polled and cached.",
    );
    for (zone, listing) in listed() {
        text.sample_if(name, &zone.labels.0, listing.next_expiry(now));
    }
    let name = "cloudflare_certificates_rejected";
    text.family(
        name,
        "gauge",
        "Entries of the last good listing that could not be used, by reason. Polled and cached.",
    );
    for (zone, listing) in listed() {
        for rejection in Rejection::ALL {
            text.sample(name, &zone.labels.with("reason", rejection.label()).0, listing.rejected(rejection));
        }
    }
    let name = "cloudflare_certificates_hidden";
    text.family(
        name,
        "gauge",
        "Certificates that are counted but have no series of their own because of the cap. Polled and cached.",
    );
    for (zone, _) in listed() {
        text.sample(name, &zone.labels.0, zone.hidden);
    }
}

/// How the polls of each zone go.
fn polls(text: &mut Text, zones: &[ZoneView<'_>]) {
    let polled = || zones.iter().filter_map(|zone| Some((zone, zone.state.last_poll.as_ref()?)));

    let name = "cloudflare_certificates_up";
    text.family(name, "gauge", "1 if the last poll of the zone succeeded. If not, the last good listing stays.");
    for (zone, poll) in polled() {
        text.sample(name, &zone.labels.0, u8::from(poll.failure.is_none()));
    }
    let name = "cloudflare_certificates_last_success_timestamp_seconds";
    text.family(name, "gauge", "When the last good listing of the zone was completed, as Unix time.");
    for zone in zones {
        text.sample_if(name, &zone.labels.0, zone.state.listing.as_ref().map(|(_, time)| time));
    }
    let name = "cloudflare_certificates_poll_duration_seconds";
    text.family(name, "gauge", "How long the last poll of the zone took, waiting for the request budget included.");
    for (zone, poll) in polled() {
        text.sample(name, &zone.labels.0, poll.duration.as_secs_f64());
    }
    let name = "cloudflare_certificates_poll_interval_seconds";
    text.family(name, "gauge", "How often the zone is due to be polled.");
    for zone in zones {
        text.sample(name, &zone.labels.0, zone.state.zone.interval.as_secs_f64());
    }
    let name = "cloudflare_certificates_polls_total";
    text.family(name, "counter", "Polls of the zone that ended.");
    for zone in zones {
        text.sample(name, &zone.labels.0, zone.state.polls);
    }
    let name = "cloudflare_certificates_poll_failures_total";
    text.family(name, "counter", "Polls of the zone that failed, by reason.");
    for zone in zones {
        for reason in Reason::ALL {
            text.sample(name, &zone.labels.with("reason", reason.label()).0, zone.state.failures(reason));
        }
    }
}

/// The text of a response, as it grows.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        if labels.is_empty() {
            self.line(format_args!("{name} {value}\n"));
        } else {
            self.line(format_args!("{name}{{{labels}}} {value}\n"));
        }
    }

    /// What is unknown has no series.
    fn sample_if(&mut self, name: &str, labels: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.sample(name, labels, value);
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.0.write_fmt(line);
    }
}

/// Labels as they stand between the braces.
#[derive(Default, Clone)]
struct Labels(String);

impl Labels {
    /// The same and one more.
    fn with(&self, name: &str, value: impl Display) -> Self {
        let mut labels = String::with_capacity(self.0.len() + 64);
        labels.push_str(&self.0);
        if !labels.is_empty() {
            labels.push(',');
        }
        labels.push_str(name);
        labels.push_str("=\"");
        // Writing to a string cannot fail.
        let _ = write!(Escaped(&mut labels), "{value}");
        labels.push('"');
        Self(labels)
    }
}

/// Escapes what is written to it by the rules for label values.
struct Escaped<'a>(&'a mut String);

impl std::fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for c in text.chars() {
            match c {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
