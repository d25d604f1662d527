//! A year of certificates that share a name: what the program shows at each of its moments, and which alerts
//! Prometheus has of it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use cloudflare_cert_exporter::{
    exposition::{Exposition, SeriesSettings},
    model::{Certificate, Expiry, Field, Kind, Listing, SECONDS_PER_DAY, Snapshot, Status, Target, TargetState, Texts},
};
use serde_json::{Value, json};

use super::promtool_agrees;
use crate::support::tests_rules;

/// Certificates are listed, scraped and judged so often.
const STEP: i64 = 12 * 3600;
const DAY: i64 = SECONDS_PER_DAY;
const YEAR: i64 = 400 * DAY;

/// A certificate of the year, which begins at 0.
struct Life {
    name: String,
    issued: i64,
    expires: i64,
    revoked: Option<i64>,
}

impl Life {
    fn new(name: &str, issued: i64, expires: i64) -> Self {
        // So that nothing happens in the very moment of a scrape.
        Self { name: name.to_owned(), issued: issued * DAY + 3600, expires: expires * DAY + 7200, revoked: None }
    }

    /// Which alert it is to have, if nothing replaces it.
    fn alert(&self, now: i64) -> Option<&'static str> {
        let life = self.expires - self.issued;
        match self.expires - now {
            _ if self.revoked.is_some_and(|revoked| revoked <= now) => None,
            left if left >= (life / 3).min(30 * DAY) => None,
            left if left >= (life / 10).min(7 * DAY) => Some("CloudflareCertificateExpiring"),
            left if left >= 0 => Some("CloudflareCertificateExpiringVerySoon"),
            left if left >= -90 * DAY => Some("CloudflareCertificateExpired"),
            _ => None,
        }
    }
}

/// What the program shows through the year, as series of a test of promtool.
fn shown(lives: &[Life]) -> Vec<Value> {
    let zone = Arc::new(Target {
        kind: Kind::Client,
        id: "0123456789abcdef0123456789abcdef".parse().unwrap(),
        name: Some("shop.example".into()),
        zone: None,
        credential: "default".into(),
        interval: Duration::from_secs(3600),
    });
    let mut state = TargetState::new(zone);
    let mut exposition = Exposition::new(SeriesSettings {
        statuses: Status::ALL.into_iter().filter(|&status| status != Status::Revoked).collect(),
        max_certificates_per_zone: 5000,
        expiring_within_days: vec![30],
        forget_expired_after: Duration::from_secs(90 * 86_400),
        labels: Default::default(),
    });
    let mut series = BTreeMap::<String, Vec<String>>::new();
    for (step, now) in (0..YEAR).step_by(usize::try_from(STEP).unwrap()).enumerate() {
        let issued = lives.iter().enumerate().filter(|(_, life)| life.issued <= now);
        let entries = issued.map(|(n, life)| Certificate {
            texts: Texts::from([(Field::Id, &*format!("c{n}")), (Field::CommonName, &life.name)]),
            status: if life.revoked.is_some_and(|at| at <= now) { Status::Revoked } else { Status::Active },
            expiry: Expiry::At(life.expires),
            not_before: Some(life.issued),
        });
        state = state.succeeded(Listing::new(entries.collect()), now, Duration::from_secs(1));
        exposition =
            exposition.next(Arc::new(Snapshot { targets: vec![Arc::new(state.clone())], ..Snapshot::default() }), now);
        let text: String = (0..).map_while(|block| exposition.text(block)).collect();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.contains("days")) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let values = series.entry(name.to_owned()).or_default();
            values.resize(step, "stale".to_owned());
            values.push(value.to_owned());
        }
    }
    series
        .into_iter()
        .map(|(name, values)| {
            let target = name.replacen('{', "{job=\"x\",instance=\"a\",", 1);
            let runs = values.chunk_by(|a, b| a == b).map(|run| match &*run[0] {
                "stale" => format!("stale _x{}", run.len() - 1),
                value => format!("{value}x{}", run.len() - 1),
            });
            json!({ "series": target, "values": runs.collect::<Vec<_>>().join(" ") })
        })
        .collect()
}

/// That in each half of a day these alerts and no others about expiry fire, as `expected` says.
fn expect(lives: &[Life], expected: impl Fn(&Life, i64) -> Option<&'static str>) {
    let mut cases = Vec::new();
    for now in (2 * STEP..YEAR).step_by(usize::try_from(STEP).unwrap()) {
        // Each alert waits for a few minutes, so until the next step: one of the two is there.
        let alerts = lives.iter().enumerate().filter(|(_, life)| life.issued <= now - STEP);
        let samples: Option<Vec<_>> = alerts
            .map(|(n, life)| {
                let alert = expected(life, now);
                (alert == expected(life, now - STEP)).then_some((n, alert))
            })
            .collect();
        let Some(samples) = samples else { continue };
        let samples = samples.into_iter().filter_map(|(n, alert)| {
            Some(json!({ "labels": format!("{{alertname={:?}, certificate_id=\"c{n}\"}}", alert?), "value": 1 }))
        });
        cases.push(json!({
            "expr": r#"count by (alertname, certificate_id) (ALERTS{alertname=~"CloudflareCertificateExp.+", alertstate="firing"})"#,
            "eval_time": format!("{now}s"),
            "exp_samples": samples.collect::<Vec<_>>(),
        }));
    }
    promtool_agrees(&json!({
        "rule_files": [concat!(env!("CARGO_MANIFEST_DIR"), "/monitoring/alerts.yml")],
        "evaluation_interval": "12h",
        "tests": [{ "interval": "12h", "input_series": shown(lives), "promql_expr_test": cases }],
    }));
}

#[test]
fn certificates_that_are_not_renewed_alert_until_they_are_revoked_or_forgotten() {
    if !tests_rules() {
        return;
    }
    let mut lives = Vec::new();
    for devices in 2..=4 {
        let device = |n: i64| Life::new(&format!("fleet-of-{devices}"), n * 9, 100 + n * 40);
        lives.extend((0..devices).map(device));
    }
    lives.extend([14, 30, 60].map(|days| Life::new(&format!("short-{days}"), 200, 200 + days)));
    // They expire together, one after the other, and in the order in which they were not issued.
    lives.extend((0..3_i64).map(|n| Life::new("together", n, 120)));
    lives.extend((0..3_i64).map(|n| Life::new("backwards", n * 5, 250 - n * 60)));
    // Of three, one is revoked before its time, or in the middle of its alert.
    for (name, revoked) in [("revoked-early", 50), ("revoked-late", 130)] {
        lives.extend((0..3_i64).map(|n| Life::new(name, n * 3, 110 + n * 30)));
        lives.last_mut().unwrap().revoked = Some(revoked * DAY);
    }
    expect(&lives, Life::alert);
}

#[test]
fn renewed_certificates_have_no_alert() {
    if !tests_rules() {
        return;
    }
    let chains = (0..20).flat_map(|chain| {
        // Renewed with 31 to 35 of 80 days left; the last one is good to the end of the year and on.
        let every = 45 + chain % 5;
        (0..=6).map(move |n| {
            let issued = chain + n * every;
            Life::new(&format!("chain-{chain}"), issued, issued + if n == 6 { 400 } else { 80 })
        })
    });
    // Of 30 days, renewed with 11 to 13 of them left.
    let short = (17..20).flat_map(|every| {
        (0..=20)
            .map(move |n| Life::new(&format!("every-{every}"), n * every, n * every + if n == 20 { 400 } else { 30 }))
    });
    expect(&chains.chain(short).collect::<Vec<_>>(), |_, _| None);
}
