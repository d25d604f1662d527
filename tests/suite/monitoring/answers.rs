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
    shown
}

/// The title of a panel, the id of a query, and the series of its answer.
type Row = (&'static str, &'static str, &'static [(&'static str, i64)]);

#[test]
fn each_certificate_and_zone_is_counted_once() {
    if !is_there("promtool", "prometheus", has_program("promtool")) {
        return;
    }
    let rows: [Row; 10] = [
        ("Expired", "A", &[("{}", 2)]),
        ("Expiring very soon", "A", &[("{}", 1)]),
        ("Expiring soon", "A", &[("{}", 2)]),
        ("Zones that fail", "A", &[("{}", 0)]),
        (
            "Soonest to expire",
            "A",
            &[
                (r#"{zone="shop.example", certificate_id="superseded", common_name="superseded"}"#, 3),
                (r#"{zone="shop.example", certificate_id="first", common_name="first"}"#, 4),
            ],
        ),
        ("Soonest to expire", "B", &[(r#"{certificate_id="superseded"}"#, -8), (r#"{certificate_id="first"}"#, 2)]),
        (
            "Soonest to expire",
            "C",
            &[(r#"{certificate_id="superseded"}"#, 259_200_000), (r#"{certificate_id="first"}"#, 345_600_000)],
        ),
        // The value is of no interest.
        (
            "Soonest to expire",
            "D",
            &[
                (r#"{certificate_id="superseded", status="active"}"#, 60),
                (r#"{certificate_id="first", status="pending_reactivation"}"#, 60),
            ],
        ),
        ("By zone", "C", &[(r#"{zone_id="z1"}"#, 1), (r#"{zone_id="z2"}"#, 1)]),
        (
            "By zone",
            "H",
            &[(r#"{zone="shop.example", zone_id="z1"}"#, 1), (r#"{zone="shop.example", zone_id="z2"}"#, 1)],
        ),
    ];
    let dashboard = dashboard();
    let cases = rows.map(|(title, id, samples)| {
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
