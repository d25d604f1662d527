//! What the dashboard answers where replicas, namesakes and unneeded certificates could be counted wrongly.

use serde_json::{Value, json};

use super::{
    dashboard,
    dashboard::{panels, targets, text},
    promtool_agrees, rate_interval, substituted,
};
use crate::support::{has_program, is_there};

/// Replica `b` failed after the first listing, and replica `a` did not. Two zones in two accounts bear one name.
fn shown() -> Vec<Value> {
    let mut shown = Vec::new();
    let mut show = |name: &str, labels: &str, value: i64| {
        shown.push(json!({ "series": format!("{name}{{{labels}}}"), "values": format!("{value}x5") }));
    };
    for (replica, up, listed, status) in [("a", 1, 60, "pending_reactivation"), ("b", 0, 0, "active")] {
        let target = format!(r#"job="x", instance="{replica}", kind="client", zone="shop.example""#);
        for zone_id in ["z1", "z2"] {
            let labels = format!(r#"{target}, zone_id="{zone_id}""#);
            show("cloudflare_certificates_up", &labels, up);
            show("cloudflare_certificates_last_success_timestamp_seconds", &labels, listed);
            show("cloudflare_certificates_expired", &labels, 1);
        }
        let certificates = [
            ("first", "z1", 4, 0, status),
            ("second", "z2", 20, 0, "active"),
            ("third", "z2", 40, 0, "active"),
            ("superseded", "z1", 3, 1, "active"),
            ("revoked", "z1", 2, 0, "revoked"),
            ("going", "z2", 1, 0, "pending_revocation"),
        ];
        for (id, zone_id, days, superseded, status) in certificates {
            let labels = format!(r#"{target}, certificate_id="{id}", common_name="{id}""#);
            show("cloudflare_certificate_days_until_expiry", &labels, days);
            show("cloudflare_certificate_not_after_timestamp_seconds", &labels, days * 86400);
            show("cloudflare_certificate_superseded", &labels, superseded);
            show("cloudflare_certificate_info", &format!(r#"{labels}, zone_id="{zone_id}", status="{status}""#), 1);
        }
    }
    for replica in ["a", "b"] {
        let target = format!(r#"{{job="x", instance="{replica}"}}"#);
        shown.push(json!({ "series": format!("up{target}"), "values": "1x5" }));
        shown.push(json!({ "series": format!("cloudflare_cert_exporter_shard_ordinal{target}"), "values": "0x5" }));
    }
    shown
}

/// The title of a panel, the id of a query, and the series of its answer.
type Row = (&'static str, &'static str, &'static [(&'static str, i64)]);

/// Of what `shown` shows.
const ROWS: [Row; 14] = [
    ("Expired", "A", &[("{}", 2)]),
    ("Expiring very soon", "A", &[("{}", 1)]),
    ("Expiring soon", "A", &[("{}", 2)]),
    ("Listings that fail", "A", &[("{}", 0)]),
    (
        "Soonest to expire",
        "A",
        &[
            (r#"{kind="client", zone="shop.example", certificate_id="superseded", common_name="superseded"}"#, 3),
            (r#"{kind="client", zone="shop.example", certificate_id="first", common_name="first"}"#, 4),
        ],
    ),
    (
        "Soonest to expire",
        "B",
        &[
            (r#"{kind="client", zone="shop.example", certificate_id="superseded"}"#, -8),
            (r#"{kind="client", zone="shop.example", certificate_id="first"}"#, 2),
        ],
    ),
    (
        "Soonest to expire",
        "C",
        &[
            (r#"{kind="client", zone="shop.example", certificate_id="superseded"}"#, 259_200_000),
            (r#"{kind="client", zone="shop.example", certificate_id="first"}"#, 345_600_000),
        ],
    ),
    // The value is of no interest.
    (
        "Soonest to expire",
        "D",
        &[
            (r#"{kind="client", zone="shop.example", certificate_id="superseded", status="active"}"#, 60),
            (r#"{kind="client", zone="shop.example", certificate_id="first", status="pending_reactivation"}"#, 60),
        ],
    ),
    // Without `[[labels]]` there is no owner; the variables at All keep what has none.
    ("Who has to act", "A", &[(r#"{kind="client"}"#, 2)]),
    ("Who has to act", "B", &[(r#"{kind="client"}"#, 1)]),
    (
        "Expiries ahead, by week and kind",
        "A",
        &[
            (r#"{kind="client", week="0"}"#, 1),
            (r#"{kind="client", week="2"}"#, 1),
            (r#"{kind="client", week="5"}"#, 1),
        ],
    ),
    ("Shards that answer", "A", &[(r#"{job="x"}"#, 1)]),
    ("By zone", "C", &[(r#"{zone_id="z1"}"#, 1), (r#"{zone_id="z2"}"#, 1)]),
    ("By zone", "H", &[(r#"{zone="shop.example", zone_id="z1"}"#, 1), (r#"{zone="shop.example", zone_id="z2"}"#, 1)]),
];

#[test]
fn each_certificate_and_zone_is_counted_once() {
    if !is_there("promtool", "prometheus", has_program("promtool")) {
        return;
    }
    let dashboard = dashboard();
    let cases = ROWS.map(|(title, id, samples)| {
        let panel = panels(&dashboard).find(|panel| text(panel, "title") == title).unwrap();
        let target = targets(panel).find(|target| target["refId"] == id).unwrap();
        // The table ends in the middle of what there is.
        let expression = text(target, "expr").replace("$rows", "2");
        let samples: Vec<_> =
            samples.iter().map(|(labels, value)| json!({ "labels": labels, "value": value })).collect();
        json!({
            "expr": substituted(&expression, &dashboard, &rate_interval(target)),
            "eval_time": "3m",
            "exp_samples": samples,
        })
    });
    let none = json!({
        "expr": cases[1]["expr"],
        "eval_time": "3m",
        "exp_samples": [{ "labels": "{}", "value": 0 }],
    });
    let zone: Vec<_> = shown().into_iter().filter(|shown| !text(shown, "series").contains("certificate_id")).collect();
    let tests = json!({
        "evaluation_interval": "1m",
        "tests": [
            { "interval": "1m", "input_series": shown(), "promql_expr_test": cases },
            // Zones without any certificate have none that expires, rather than no answer.
            { "interval": "1m", "input_series": zone, "promql_expr_test": [none] },
        ],
    });
    promtool_agrees(&tests);
}

/// A CA of an account, with and without an owner, a certificate of Cloudflare's in its usual renewal, and one that is
/// late: each is compared with the days that fit it, and none is lost for a label that it has not.
#[test]
fn owners_and_accounts_are_kept_apart_and_found_at_all() {
    if !is_there("promtool", "prometheus", has_program("promtool")) {
        return;
    }
    let mut shown = Vec::new();
    let certificates = [
        (r#"kind="mtls_ca", account="a1", owner="sre""#, "ca", 80, "owner"),
        (r#"kind="mtls_ca", account="a2""#, "other-ca", 20, "owner"),
        (r#"kind="edge", zone="shop.example", owner="web""#, "usual", 20, "cloudflare"),
        (r#"kind="edge", zone="shop.example", owner="web""#, "late", 14, "cloudflare"),
    ];
    for (labels, id, days, renewed_by) in certificates {
        let labels = format!(r#"job="x", instance="a", {labels}, certificate_id="{id}""#);
        let days_left = format!("cloudflare_certificate_days_until_expiry{{{labels}}}");
        let info = format!(r#"cloudflare_certificate_info{{{labels}, status="active", renewed_by="{renewed_by}"}}"#);
        shown.push(json!({ "series": days_left, "values": format!("{days}x5") }));
        shown.push(json!({ "series": info, "values": "1x5" }));
    }
    let dashboard = dashboard();
    let panel = panels(&dashboard).find(|panel| text(panel, "title") == "Who has to act").unwrap();
    let answer = |chosen: &[(&str, &str)], id: usize, samples: &[(&str, i64)]| {
        let mut expression = text(targets(panel).nth(id).unwrap(), "expr").to_owned();
        for (variable, value) in chosen {
            expression = expression.replace(variable, value);
        }
        let samples: Vec<_> =
            samples.iter().map(|(labels, value)| json!({ "labels": labels, "value": value })).collect();
        json!({ "expr": substituted(&expression, &dashboard, ""), "eval_time": "3m", "exp_samples": samples })
    };
    let (sre, unowned, web) =
        (r#"{kind="mtls_ca", owner="sre"}"#, r#"{kind="mtls_ca"}"#, r#"{kind="edge", owner="web"}"#);
    let cases = [
        answer(&[], 0, &[(sre, 1), (unowned, 1), (web, 1)]),
        answer(&[], 1, &[(unowned, 1)]),
        answer(&[("$owner", "web")], 0, &[(web, 1)]),
        answer(&[("$kind", "mtls_ca")], 0, &[(sre, 1), (unowned, 1)]),
        // Those of zones have no account, and stay.
        answer(&[("$account", "a1")], 0, &[(sre, 1), (web, 1)]),
        answer(&[("$zone", "shop.example")], 0, &[(web, 1)]),
    ];
    let tests = json!({
        "evaluation_interval": "1m",
        "tests": [{ "interval": "1m", "input_series": shown, "promql_expr_test": cases }],
    });
    promtool_agrees(&tests);
}
