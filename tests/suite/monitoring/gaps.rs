//! Alerts while scrapes fail: each that should fire fires at every minute of an hour, whatever scrapes are missed.

use std::collections::BTreeMap;

use serde_json::json;

use super::promtool_agrees;
use crate::support::tests_rules;

/// Minutes that are simulated. Alerts are counted in the last hour.
const MINUTES: i64 = 270;
const DAY: i64 = 86_400;

/// Which scrapes of which target, by its number, are missed.
type IsMissed = Box<dyn Fn(usize, i64) -> bool>;

/// The value of a series at a second.
type Value = fn(i64) -> i64;

/// A target, by its job and instance, and what each scrape of it finds at that second.
struct Target {
    job: &'static str,
    instance: &'static str,
    /// Whether it ever answers at that minute.
    lives: fn(i64) -> bool,
    series: Vec<(String, Value)>,
}

impl Target {
    /// An exporter, whose clock is so many seconds behind.
    fn new(job: &'static str, instance: &'static str, lives: fn(i64) -> bool, clock: Value) -> Self {
        let mut target = Self { job, instance, lives, series: Vec::new() };
        target.shows("cloudflare_cert_exporter_build_info", "", |_| 1);
        target.shows("cloudflare_cert_exporter_clock_timestamp_seconds", "", clock);
        target
    }

    fn shows(&mut self, name: &str, labels: &str, value: Value) {
        let labels = if labels.is_empty() { String::new() } else { format!(", {labels}") };
        self.series.push((format!("{name}{{job=\"{}\", instance=\"{}\"{labels}}}", self.job, self.instance), value));
    }

    /// What is shown of a zone that was listed at that second, but for its certificates.
    fn shows_zone(&mut self, zone: &str, up: Value, listed: Option<Value>) {
        let zone = format!("kind=\"client\", zone=\"{zone}.example\", zone_id=\"of-{zone}\"");
        self.shows("cloudflare_certificates_up", &zone, up);
        self.shows("cloudflare_certificates_poll_interval_seconds", &zone, |_| 3600);
        if let Some(listed) = listed {
            self.shows("cloudflare_certificates_last_success_timestamp_seconds", &zone, listed);
            self.shows("cloudflare_certificates", &format!("{zone}, status=\"active\""), |_| 10);
        }
    }

    fn shows_certificate(&mut self, zone: &str, status: &str, expiry: Value) {
        let labels = format!(
            "kind=\"client\", zone=\"{zone}.example\", certificate_id=\"of-{zone}\", common_name=\"of-{zone}\""
        );
        self.shows("cloudflare_certificate_not_after_timestamp_seconds", &labels, expiry);
        self.shows("cloudflare_certificate_superseded", &labels, |_| 0);
        let more = format!("{labels}, zone_id=\"of-{zone}\", status=\"{status}\"");
        self.shows("cloudflare_certificate_info", &more, |_| 1);
    }

    /// As promtool reads it. A scrape that is missed leaves a marker, and then nothing.
    fn scraped(&self, is_missed: impl Fn(i64) -> bool) -> impl Iterator<Item = serde_json::Value> {
        let answers = |minute| (self.lives)(minute) && !is_missed(minute);
        let found: Vec<_> = (0..MINUTES).map(answers).collect();
        let up = found.iter().map(|&found| if found { "1" } else { "0" }.to_owned()).collect::<Vec<_>>();
        let up = (format!("up{{job=\"{}\", instance=\"{}\"}}", self.job, self.instance), up);
        let all = self.series.iter().map(move |(name, value)| {
            let mut before = false;
            let values = (0..).zip(&found).map(|(minute, &found)| {
                let marker = if before { "stale" } else { "_" };
                before = found;
                if found { value(minute * 60).to_string() } else { marker.to_owned() }
            });
            (name.clone(), values.collect())
        });
        all.chain([up]).map(|(series, values)| json!({ "series": series, "values": values.join(" ") }))
    }
}

/// What was listed in the last hour.
const fn hourly(now: i64) -> i64 {
    now - now % 3600
}

/// Everything that each alert is about, once.
fn targets() -> Vec<Target> {
    let always = |_| true;
    let right = |now| now;
    let mut a = Target::new("x", "a", always, right);
    for (zone, expiry) in [
        ("warning", (|_| 20 * DAY) as Value),
        ("critical", |_| 3 * DAY),
        ("expired", |_| -DAY),
        ("healthy", |_| 200 * DAY),
    ] {
        a.shows_zone(zone, |_| 1, Some(hourly));
        a.shows_certificate(zone, "active", expiry);
    }
    for zone in ["quota", "stuck", "rejected", "hidden"] {
        a.shows_zone(zone, |_| 1, Some(hourly));
    }
    let labels = |zone: &str| format!("kind=\"client\", zone=\"{zone}.example\", zone_id=\"of-{zone}\"");
    a.series.retain(|(name, _)| !(name.starts_with("cloudflare_certificates{") && name.contains("quota")));
    a.shows("cloudflare_certificates", &format!("{}, status=\"active\"", labels("quota")), |_| 95);
    a.shows_certificate("stuck", "pending_revocation", |_| 200 * DAY);
    a.shows("cloudflare_certificates_rejected", &format!("{}, reason=\"missing_id\"", labels("rejected")), |_| 2);
    a.shows("cloudflare_certificates_hidden", &labels("hidden"), |_| 2);
    a.shows("cloudflare_certificates_vanished_total", &labels("hidden"), |now| if now < 600 { 0 } else { 5 });
    a.shows_zone("old", |_| 0, Some(|_| 0));
    a.shows_zone("very-old", |_| 0, Some(|_| -DAY));
    a.shows_zone("never", |_| 0, None);
    a.shows_zone("refused", |_| 0, Some(|_| 0));
    let refusals = format!("{}, reason=\"forbidden\"", labels("refused"));
    a.shows("cloudflare_certificates_poll_failures_total", &refusals, |now| now / 1800);
    a.shows("cloudflare_cert_exporter_config_last_reload_successful", "", |_| 0);
    a.shows("cloudflare_cert_exporter_state_write_failures_total", "", |now| now / 60);
    a.shows("cloudflare_api_throttled_seconds_total", "credentials=\"slow\"", |now| now / 60 * 45);
    a.shows("cloudflare_api_token_expires_timestamp_seconds", "credentials=\"expiring\"", |_| 10 * DAY);
    a.shows("cloudflare_api_token_expires_timestamp_seconds", "credentials=\"expired\"", |_| 0);
    a.shows_zone("half", |_| 0, Some(|_| 0));
    let mut b = Target::new("x", "b", always, right);
    b.shows_zone("half", |_| 1, Some(hourly));
    // Its listings are as new as those of others, but not by its clock.
    let mut slow_clock = Target::new("x", "slow-clock", always, |now| now - DAY);
    slow_clock.shows_zone("slow-clock", |_| 1, Some(|now| hourly(now) - DAY));
    let down = Target::new("x", "down", |minute| minute < 5, right);
    let gone = Target::new("gone", "gone", |minute| minute < 60, right);
    vec![a, b, slow_clock, down, gone]
}

#[test]
fn alerts_keep_firing_while_scrapes_fail() {
    if !tests_rules() {
        return;
    }
    let expected = [
        ("CloudflareApiBudgetStarving", 1),
        ("CloudflareApiTokenExpired", 1),
        ("CloudflareApiTokenExpiring", 1),
        ("CloudflareCertExporterAbsent", 1),
        ("CloudflareCertExporterClockWrong", 1),
        ("CloudflareCertExporterDown", 1),
        ("CloudflareCertExporterPollsFail", 1),
        ("CloudflareCertExporterReloadFailed", 1),
        ("CloudflareCertExporterStateNotWritten", 1),
        ("CloudflareCertificateEntriesRejected", 1),
        ("CloudflareCertificateExpired", 1),
        ("CloudflareCertificateExpiring", 1),
        ("CloudflareCertificateExpiringVerySoon", 1),
        ("CloudflareCertificateQuotaNearlyUsed", 1),
        ("CloudflareCertificateStuckPending", 1),
        ("CloudflareCertificatesHidden", 1),
        ("CloudflareCertificatesVanished", 1),
        ("CloudflareZoneListingOld", 2),
        ("CloudflareZoneListingVeryOld", 1),
        ("CloudflareZoneNeverListed", 1),
        ("CloudflareZoneRefused", 1),
    ];
    let random: Vec<Vec<bool>> = {
        let mut random = fastrand::Rng::with_seed(11);
        (0..5).map(|_| (0..MINUTES).map(|_| random.u8(..10) == 0).collect()).collect()
    };
    // One in ten at a time of its own for each, or for all; at random; ten in a row; none. And how many targets have
    // an alert about it.
    let patterns: [(&str, IsMissed, Option<i64>); 5] = [
        ("in turn", Box::new(|target, minute| (minute + 3 * i64::try_from(target).unwrap()) % 10 == 9), Some(3)),
        ("together", Box::new(|_, minute| minute % 10 == 9), Some(3)),
        ("random", Box::new(move |target, minute| random[target][usize::try_from(minute).unwrap()]), None),
        ("bursts", Box::new(|target, minute| (minute + 15 * i64::try_from(target).unwrap()) % 50 >= 40), None),
        ("none", Box::new(|_, _| false), Some(0)),
    ];
    let tests = patterns.iter().map(|(name, is_missed, flaky)| {
        let series = targets()
            .into_iter()
            .enumerate()
            .flat_map(|(number, target)| target.scraped(|minute| is_missed(number, minute)).collect::<Vec<_>>());
        let mut counts = BTreeMap::from(expected);
        let mut query = r#"ALERTS{alertstate="firing", alertname!="CloudflareCertExporterScrapesFail"}"#;
        if let Some(flaky) = flaky {
            query = r#"ALERTS{alertstate="firing"}"#;
            counts.extend((*flaky > 0).then_some(("CloudflareCertExporterScrapesFail", *flaky)));
        }
        let samples = counts
            .iter()
            .map(|(alert, count)| json!({ "labels": format!("{{alertname={alert:?}}}"), "value": 60 * count }));
        json!({
            "name": format!("Scrapes are missed: {name}"),
            "interval": "1m",
            "input_series": series.collect::<Vec<_>>(),
            "promql_expr_test": [{
                "expr": format!("sum by (alertname) (count_over_time({query}[59m]))"),
                "eval_time": format!("{}m", MINUTES - 1),
                "exp_samples": samples.collect::<Vec<_>>(),
            }],
        })
    });
    promtool_agrees(&json!({
        "rule_files": [concat!(env!("CARGO_MANIFEST_DIR"), "/monitoring/alerts.yml")],
        "evaluation_interval": "1m",
        "tests": tests.collect::<Vec<_>>(),
    }));
}
