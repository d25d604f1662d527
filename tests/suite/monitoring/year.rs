//! Years of certificates: what the program shows at each of their moments, and which alerts Prometheus has of it.

use std::{collections::BTreeMap, ops::Range, sync::Arc, time::Duration};

use cloudflare_cert_exporter::{
    exposition::{Exposition, SeriesSettings},
    model::{
        Certificate, Expiry, Failure, Field, Kind, LabelRule, LabelRules, Listing, NamePattern, Reason,
        SECONDS_PER_DAY, Scope, Snapshot, Status, Target, TargetState, Texts,
    },
};
use serde_json::{Value, json};

use super::promtool_agrees;
use crate::support::tests_rules;

const DAY: i64 = SECONDS_PER_DAY;
const YEAR: i64 = 400 * DAY;

/// Certificates are listed, scraped and judged so often: twice a day, or every hour for `just year`.
fn step() -> i64 {
    let hourly = std::env::var("CLOUDFLARE_CERT_EXPORTER_TEST_YEAR").is_ok_and(|value| value == "hourly");
    if hourly { 3600 } else { 12 * 3600 }
}

/// All moments of the year.
fn moments() -> impl Iterator<Item = i64> {
    (0..YEAR).step_by(usize::try_from(step()).unwrap())
}

/// A certificate of the year, which begins at 0.
struct Life {
    kind: Kind,
    name: String,
    issued: i64,
    expires: i64,
    status: Status,
    /// When another one takes its place.
    superseded: Option<i64>,
    /// While it is revoked, or not in the list any more.
    revoked: Range<i64>,
}

impl Life {
    fn new(name: &str, issued: i64, expires: i64) -> Self {
        Self::of(Kind::Client, name, issued, expires)
    }

    fn of(kind: Kind, name: &str, issued: i64, expires: i64) -> Self {
        // So that nothing happens in the very moment of a scrape.
        let (issued, expires) = (issued * DAY + 4266, expires * DAY + 8977);
        Self { kind, name: name.to_owned(), issued, expires, status: Status::Active, superseded: None, revoked: 0..0 }
    }

    /// Revoked or removed from one day to another.
    fn revoked(self, days: Range<i64>) -> Self {
        Self { revoked: days.start * DAY + 4266..days.end * DAY, ..self }
    }

    /// Its warning and its critical alert begin so many seconds before its expiry.
    fn limits(&self) -> (i64, i64) {
        let life = self.expires - self.issued;
        match self.kind {
            Kind::Edge => ((life * 16 / 100).min(15 * DAY), (life * 6 / 100).min(5 * DAY)),
            Kind::MtlsCa | Kind::AccessCa | Kind::GatewayCa | Kind::TrustStore => (90 * DAY, 30 * DAY),
            _ => ((life * 33 / 100).min(30 * DAY), (life / 10).min(7 * DAY)),
        }
    }

    /// Which alert it is to have, by what was listed last.
    fn alert(&self, now: i64, listed: i64) -> Option<&'static str> {
        let (warning, critical) = self.limits();
        match self.expires - now {
            _ if self.issued > listed || self.revoked.contains(&listed) => None,
            _ if self.superseded.is_some_and(|at| at <= listed) => None,
            left if left >= warning => None,
            left if left >= critical => Some("CloudflareCertificateExpiring"),
            left if left >= 0 => Some("CloudflareCertificateExpiringVerySoon"),
            left if left >= -90 * DAY => Some("CloudflareCertificateExpired"),
            _ => None,
        }
    }

    fn listed(&self, number: usize, now: i64) -> Option<Certificate> {
        let is_revoked = self.revoked.contains(&now);
        let renewed_by = if self.kind == Kind::Edge { "cloudflare" } else { "owner" };
        let id = format!("c{number}");
        // Only client certificates stay in the list.
        (self.issued <= now && (self.kind == Kind::Client || !is_revoked)).then(|| Certificate {
            texts: Texts::from([(Field::Id, &*id), (Field::CommonName, &self.name), (Field::RenewedBy, renewed_by)]),
            status: if is_revoked { Status::Revoked } else { self.status },
            expiry: Expiry::At(self.expires),
            not_before: Some(self.issued),
        })
    }
}

/// What happens to the exporter in some days of the year.
#[derive(Clone, Copy, PartialEq)]
enum Mishap {
    /// No poll succeeds.
    Fails(Reason),
    /// It is not there.
    Down,
    /// Its clock is so many seconds ahead.
    Clock(i64),
}

/// Days in which something happens.
type Mishaps = [(Range<i64>, Mishap)];

fn mishaps_at(mishaps: &Mishaps, now: i64) -> impl Iterator<Item = Mishap> {
    mishaps.iter().filter(move |(days, _)| days.contains(&now.div_euclid(DAY))).map(|(_, mishap)| *mishap)
}

/// When the exporter has last listed, if it is there.
fn listed_at(mishaps: &Mishaps, now: i64) -> Option<i64> {
    let can_list = |at: &i64| !mishaps_at(mishaps, *at).any(|mishap| !matches!(mishap, Mishap::Clock(_)));
    let is_there = !mishaps_at(mishaps, now).any(|mishap| mishap == Mishap::Down);
    is_there.then(|| (0..=now / step()).rev().map(|n| n * step()).find(can_list)).flatten()
}

/// Whose the certificates of each kind are.
const OWNERS: [(Kind, &str); 3] = [(Kind::Client, "stores"), (Kind::OriginCa, "web"), (Kind::Edge, "platform")];

fn owner(kind: Kind) -> Option<&'static str> {
    OWNERS.iter().find(|(owned, _)| *owned == kind).map(|(_, owner)| *owner)
}

fn settings() -> SeriesSettings {
    let rule = |(kind, owner): (Kind, &str)| LabelRule {
        kind: Some(NamePattern::new(kind.label()).unwrap()),
        labels: vec![("owner".into(), owner.into())],
        ..LabelRule::default()
    };
    SeriesSettings {
        statuses: Status::ALL.into_iter().filter(|&status| status != Status::Revoked).collect(),
        max_certificates_per_zone: 5000,
        expiring_within_days: vec![30],
        forget_expired_after: Duration::from_secs(90 * 86_400),
        labels: LabelRules { names: vec!["owner".into()], rules: OWNERS.into_iter().map(rule).collect() },
    }
}

fn target(kind: Kind) -> Arc<Target> {
    Arc::new(Target {
        kind,
        id: "0123456789abcdef0123456789abcdef".parse().unwrap(),
        name: Some(if kind.scope() == Scope::Zone { "shop.example".into() } else { "Example Ltd".into() }),
        zone: None,
        credential: "default".into(),
        interval: Duration::from_secs(3600),
    })
}

/// What the program shows through the year, as series of a test of promtool.
fn shown(lives: &[Life], mishaps: &Mishaps) -> Vec<Value> {
    let mut kinds: Vec<_> = lives.iter().map(|life| life.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let mut states: Vec<_> = kinds.iter().map(|&kind| TargetState::new(target(kind))).collect();
    let mut exposition = Exposition::new(settings());
    let mut series = BTreeMap::<String, Vec<String>>::new();
    for (step, now) in moments().enumerate() {
        let mut text = String::from("up{} 0\n");
        if listed_at(mishaps, now).is_some() {
            let ahead =
                mishaps_at(mishaps, now).map(|mishap| if let Mishap::Clock(ahead) = mishap { ahead } else { 0 });
            let clock = now + ahead.sum::<i64>();
            let fails = mishaps_at(mishaps, now).find_map(|mishap| match mishap {
                Mishap::Fails(reason) => Some(reason),
                Mishap::Down | Mishap::Clock(_) => None,
            });
            for state in &mut states {
                let kind = state.target.kind;
                let listed = lives.iter().enumerate().filter(|(_, life)| life.kind == kind);
                let listed = listed.filter_map(|(number, life)| life.listed(number, now)).collect();
                *state = match fails {
                    Some(reason) => state.failed(Failure::new(reason, reason.label()), clock, Duration::from_secs(1)),
                    None => state.succeeded(Listing::of(kind, listed), clock, Duration::from_secs(1)),
                };
            }
            let targets = states.iter().cloned().map(Arc::new).collect();
            exposition = exposition.next(Arc::new(Snapshot { targets, ..Snapshot::default() }), clock);
            text = (0..).map_while(|block| exposition.text(block)).collect();
            text += "up{} 1\ncloudflare_cert_exporter_build_info{} 1\n";
            text += &format!("cloudflare_cert_exporter_clock_timestamp_seconds{{}} {clock}\n");
        }
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.contains("days")) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let values = series.entry(name.to_owned()).or_default();
            values.resize(step, "stale".to_owned());
            values.push(value.to_owned());
        }
    }
    series.into_iter().map(|(name, values)| as_promtool_reads_it(&name, &values)).collect()
}

fn as_promtool_reads_it(name: &str, values: &[String]) -> Value {
    let target = name.replacen('{', "{job=\"x\",instance=\"a\",", 1);
    let runs = values.chunk_by(|a, b| a == b).map(|run| match &*run[0] {
        "stale" => format!("stale _x{}", run.len() - 1),
        value => format!("{value}x{}", run.len() - 1),
    });
    json!({ "series": target, "values": runs.collect::<Vec<_>>().join(" ") })
}

/// That at each moment these alerts about expiry and no others are there, waiting or firing, and those about the exporter
/// at the end of each mishap. Returns what there was, in words.
fn expect(lives: &[Life], mishaps: &Mishaps) -> String {
    let alert = |life: &Life, now| listed_at(mishaps, now).and_then(|listed| life.alert(now, listed));
    let mut cases = Vec::new();
    let mut announced = 0;
    for now in moments().skip(2) {
        let samples = lives.iter().enumerate().filter_map(|(n, life)| {
            let name = alert(life, now)?;
            // Each waits for a few minutes, so until the next moment.
            let state = if alert(life, now - step()) == Some(name) { "firing" } else { "pending" };
            announced += u32::from(state == "pending");
            let owner = owner(life.kind).map(|owner| format!(", owner={owner:?}")).unwrap_or_default();
            let kind = life.kind.label();
            let labels =
                format!("{{alertname={name:?}, alertstate={state:?}, kind={kind:?}, certificate_id=\"c{n}\"{owner}}}");
            Some(json!({ "labels": labels, "value": 1 }))
        });
        cases.push(json!({
            "expr": r#"count by (alertname, alertstate, kind, certificate_id, owner) (ALERTS{alertname=~"CloudflareCertificateExp.+"})"#,
            "eval_time": format!("{now}s"),
            "exp_samples": samples.collect::<Vec<_>>(),
        }));
    }
    for (days, mishap) in mishaps {
        let (name, zones) = match mishap {
            Mishap::Fails(Reason::Unauthorized | Reason::Forbidden) => ("CloudflareZoneRefused", 4),
            Mishap::Fails(_) => ("CloudflareZoneListingVeryOld", 4),
            Mishap::Down => ("CloudflareCertExporterAbsent", 1),
            Mishap::Clock(_) => ("CloudflareCertExporterClockWrong", 1),
        };
        cases.push(json!({
            "expr": format!("count(ALERTS{{alertname={name:?}, alertstate=\"firing\"}})"),
            "eval_time": format!("{}s", days.end * DAY - step()),
            "exp_samples": [{ "labels": "{}", "value": zones }],
        }));
    }
    let interval = format!("{}s", step());
    promtool_agrees(&json!({
        "rule_files": [concat!(env!("CARGO_MANIFEST_DIR"), "/monitoring/alerts.yml")],
        "evaluation_interval": interval,
        "tests": [{ "interval": interval, "input_series": shown(lives, mishaps), "promql_expr_test": cases }],
    }));
    let expiries = lives
        .iter()
        .filter(|life| life.expires < YEAR && alert(life, life.expires - life.expires % step() + step()).is_some());
    format!(
        "A year, every {} hours: {} certificates, {} expire unrenewed, {announced} alerts expected and seen, 0 false, 0 gaps.",
        step() / 3600,
        lives.len(),
        expiries.count(),
    )
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
        let last = lives.pop().unwrap();
        lives.push(last.revoked(revoked..400));
    }
    println!("{}", expect(&lives, &[]));
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
            renewed(
                Life::new(&format!("chain-{chain}"), issued, issued + if n == 6 { 400 } else { 80 }),
                issued + every,
            )
        })
    });
    // Of 30 days, renewed with 11 to 13 of them left.
    let short = (17..20).flat_map(|every| {
        (0..=20).map(move |n| {
            let life = Life::new(&format!("every-{every}"), n * every, n * every + if n == 20 { 400 } else { 30 });
            renewed(life, (n + 1) * every)
        })
    });
    // Cloudflare renews packs of 14 days 3 days before the end, of 30 days 7, and of 90 days or a year 30, and removes the old one.
    let packs = [(14, 3), (30, 7), (90, 30), (365, 30)].into_iter().flat_map(|(days, left)| {
        let every = days - left;
        (0..=400 / every).map(move |n| {
            let name = format!("pack-{days}.example");
            Life::of(Kind::Edge, &name, n * every, n * every + days).revoked((n + 1) * every..900)
        })
    });
    // Of each kind, one is replaced by its owner before any threshold, that of authorities included.
    let replaced = Kind::ALL.into_iter().flat_map(|kind| {
        let life = |issued, expires| Life::of(kind, &format!("{}-replaced", kind.label()), issued, expires);
        [life(0, 180).revoked(85..900), life(84, 600)]
    });
    let report = expect(&chains.chain(short).chain(packs).chain(replaced).collect::<Vec<_>>(), &[]);
    assert!(report.contains(" 0 alerts expected"), "{report}");
    println!("{report}");
}

/// One that another one follows at that day.
fn renewed(life: Life, day: i64) -> Life {
    Life { superseded: Some(day * DAY + 4266), ..life }
}

#[test]
fn whatever_happens_to_the_exporter_what_expires_is_announced_as_long_as_it_is_there() {
    if !tests_rules() {
        return;
    }
    let mut lives = Vec::new();
    // Cloudflare renews them with 30 days left; one is not renewed, and times out.
    lives.extend((0..7).map(|n| Life::of(Kind::Edge, "shop.example", n * 60, n * 60 + 90).revoked(n * 60 + 61..500)));
    lives.push(Life { status: Status::ValidationTimedOut, ..Life::of(Kind::Edge, "late.example", 60, 150) });
    // Their owner replaces them with 40 days left, in the middle of the warning, after the expiry, or never.
    for (name, days) in [("in-time", 60), ("late", 80), ("after", 120), ("never", 500)] {
        for start in [0, 105, 210] {
            lives.push(Life::of(Kind::OriginCa, name, start, start + 100).revoked(start + days..500));
        }
    }
    lives.push(Life::of(Kind::MtlsCa, "Devices CA 1", -300, 250));
    lives.push(Life::of(Kind::MtlsCa, "Devices CA 2", -300, 330).revoked(235..500));
    lives.extend((0..7).map(|n| renewed(Life::new("pos-1", n * 50, n * 50 + 90), (n + 1) * 50)));
    lives.last_mut().unwrap().superseded = None;
    lives.extend([60, 120, 180, 240, 300].map(|end| Life::new(&format!("forgotten-{end}"), 0, end)));
    // Revoked in the middle of an alert, and active again a week later.
    lives.push(Life::new("reactivated", 0, 100).revoked(80..87));
    use Mishap::{Clock, Down, Fails};
    let mishaps = [
        (20..23, Fails(Reason::ServerError)),
        (55..62, Fails(Reason::Unauthorized)),
        (90..91, Down),
        (115..122, Fails(Reason::Forbidden)),
        (140..141, Clock(DAY)),
        (172..179, Down),
        (205..206, Clock(-DAY)),
        (236..239, Fails(Reason::Timeout)),
        (290..291, Down),
    ];
    println!("{}", expect(&lives, &mishaps));
}
