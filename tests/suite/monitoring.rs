//! What is shipped in `monitoring/`: alert rules, their runbook, and the dashboard.
//!
//! No test shows the dashboard: there is no Grafana to be had from a package registry. It is checked
//! against Grafana's published types and the rules of its linter, and every query is asked of Prometheus.

mod answers;
mod dashboard;
mod gaps;
mod names;
mod promql;
mod types;
mod year;

use std::{collections::BTreeMap, fs, process::Command, time::Duration};

use crate::support::{
    self, Daemon, has_program, is_there,
    prometheus::{Prometheus, Series},
    tests_everything, until_ok,
};
use dashboard::{label_values, panels, targets, text, variables};
use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: &str) -> String {
    fs::read_to_string(format!("{ROOT}/{path}")).unwrap()
}

fn dashboard() -> Value {
    serde_json::from_str(&read("monitoring/dashboard.json")).unwrap()
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap()
}

/// Of `alerts.yml`, recording rules and alerts.
fn rules() -> Vec<Value> {
    let file = yaml("monitoring/alerts.yml");
    let groups = file["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

fn alerts() -> Vec<Value> {
    let alerts: Vec<_> = rules().into_iter().filter(|rule| rule.get("alert").is_some()).collect();
    assert!(!alerts.is_empty());
    alerts
}

/// Fails if promtool finds one of these tests of rules and expressions untrue.
fn promtool_agrees(tests: &Value) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tests.yml");
    // JSON is YAML, too.
    fs::write(&file, tests.to_string()).unwrap();
    let test = || Command::new("promtool").args(["test", "rules"]).arg(&file).output().unwrap();
    let mut output = test();
    // Over months of samples, promtool was seen to lose one, in one of seven runs.
    // What is really untrue is so a second time.
    if !output.status.success() {
        output = test();
    }
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// The daemon on its simulated API, with everything that it ever shows: every zone, and when its token expires.
async fn demo() -> Daemon {
    let directory = tempfile::tempdir().unwrap();
    let command = support::command(directory.path(), "", &["demo", "--web.listen-address", "127.0.0.1:0"], &[]);
    let daemon = Daemon::wait_until_it_listens(command, directory);
    daemon.ready().await;
    let token = "\ncloudflare_api_token_expires_timestamp_seconds{";
    support::until("the expiry of the token", async || daemon.get("/metrics").await.1.contains(token).then_some(()))
        .await;
    daemon
}

fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool").args(arguments).current_dir(ROOT).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "promtool {arguments:?}: {}", String::from_utf8_lossy(&said));
}

#[test]
fn promtool_accepts_the_rules() {
    if is_there("promtool", "prometheus", has_program("promtool")) {
        promtool(&["check", "rules", "--lint=all", "--lint-fatal", "monitoring/alerts.yml"]);
    }
}

#[test]
fn every_expression_is_short_enough_to_read() {
    for rule in rules() {
        let lines = text(&rule, "expr").lines().count();
        assert!(lines <= 12, "{lines} lines: {rule}");
    }
}

#[test]
fn alertmanager_sends_alerts_to_their_owner() {
    if !is_there("amtool", "prometheus-alertmanager", has_program("amtool")) {
        return;
    }
    let amtool = |arguments: &[&str]| {
        let output = Command::new("amtool").args(arguments).current_dir(ROOT).output().unwrap();
        assert!(output.status.success(), "amtool {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    amtool(&["check-config", "monitoring/alertmanager.yml"]);
    let test = ["config", "routes", "test", "--config.file=monitoring/alertmanager.yml"];
    for (alert, receiver) in [
        (&["alertname=CloudflareCertificateExpiring", "severity=warning", "owner=payments"][..], "payments"),
        (&["alertname=CloudflareCertificateExpired", "severity=critical", "owner=payments"], "payments-on-call"),
        (&["alertname=CloudflareCertificateExpired", "severity=critical"], "platform"),
        (&["alertname=CloudflareCertExporterAbsent", "severity=critical"], "platform"),
        (&["alertname=NodeDown", "severity=critical", "owner=payments"], "default"),
    ] {
        assert_eq!(amtool(&[&test[..], alert].concat()).trim(), receiver, "{alert:?}");
    }
}

/// Half a minute of a processor, and nothing in it is of the program: so `just rules` runs it after a change of the
/// rules, and `./tests/run` always.
#[test]
fn every_alert_passes_its_promtool_tests() {
    if tests_everything() && is_there("promtool", "prometheus", has_program("promtool")) {
        promtool(&["test", "rules", "monitoring/alerts_test.yml"]);
    }
}

#[test]
fn every_alert_has_a_severity_and_a_runbook_section() {
    let runbook = read("monitoring/RUNBOOK.md");
    let mut sections: Vec<_> = runbook.lines().filter_map(|line| line.strip_prefix("## Cloudflare")).collect();
    for alert in alerts() {
        let name = text(&alert, "alert");
        let (labels, annotations) = (&alert["labels"], &alert["annotations"]);
        assert!(["warning", "critical"].contains(&text(labels, "severity")), "{name}: {labels}");
        assert!(alert["for"].is_string(), "{name} is gone with one scrape");
        let [summary, description] = ["summary", "description"].map(|key| text(annotations, key));
        assert!(summary.ends_with('.') && !summary.contains("{{"), "{name}: {summary}");
        assert!(description.ends_with('.'), "{name}: {description}");
        let place = "https://example.com/cloudflare-cert-exporter/monitoring/RUNBOOK.md";
        assert_eq!(text(annotations, "runbook_url"), format!("{place}#{}", name.to_lowercase()));
        let section = name.strip_prefix("Cloudflare").unwrap();
        let at = sections.iter().position(|found| *found == section).unwrap_or_else(|| panic!("no section {name}"));
        assert_eq!(at, 0, "the sections are in the order of the alerts");
        sections.remove(at);
    }
    assert_eq!(sections, [""; 0], "these alerts are no more");

    for link in runbook.split("](#").skip(1) {
        let target = link.split(')').next().unwrap();
        let is_there = |line: &str| line.strip_prefix("## ").is_some_and(|title| title.to_lowercase() == target);
        assert!(runbook.lines().any(is_there), "no section #{target}");
    }
}

#[test]
fn every_alert_is_tested_both_firing_and_silent() {
    let file = yaml("monitoring/alerts_test.yml");
    let (mut firing, mut silent) = (Vec::new(), Vec::new());
    for case in file["tests"].as_array().unwrap().iter().flat_map(|test| test["alert_rule_test"].as_array().unwrap()) {
        let alerts = case["exp_alerts"].as_array().map_or(&[][..], Vec::as_slice);
        assert!(alerts.iter().all(|alert| alert["exp_annotations"]["description"].is_string()), "{case}");
        if alerts.is_empty() { &mut silent } else { &mut firing }.push(text(case, "alertname").to_owned());
    }
    for alert in alerts() {
        let name = text(&alert, "alert").to_owned();
        assert!(firing.contains(&name), "{name} never fires");
        assert!(silent.contains(&name), "{name} is never silent");
    }
}

#[tokio::test]
async fn every_query_of_rules_and_dashboard_returns_data_from_a_real_prometheus() {
    if !is_there("prometheus", "prometheus", has_program("prometheus")) {
        return;
    }
    let daemon = demo().await;
    let often = read("monitoring/alerts.yml").replace("interval: 1m", "interval: 1s");
    let prometheus = Prometheus::start_with_rules(&daemon, &often).await;

    expect_alerts_of_the_demo(&prometheus).await;
    // As many as there are in the window of a rate.
    let enough = |series: &[Series]| series.iter().any(|series| series.value >= 4.0);
    prometheus.wait_for("four scrapes", "count_over_time(up[1m])", enough).await;
    let dashboard = dashboard();
    for variable in variables(&dashboard).filter(|variable| variable["type"] == "query") {
        let (selector, label) = label_values(text(variable, "query")).unwrap();
        let series = prometheus.query(&substituted(selector, &dashboard, "")).await;
        assert!(series.iter().any(|series| !series.label(label).is_empty()), "{variable} has no values");
    }
    for panel in panels(&dashboard) {
        for target in targets(panel) {
            let expression = substituted(text(target, "expr"), &dashboard, &rate_interval(target));
            // Two scrapes of the four seconds of a rate can be late on a busy machine.
            let series = prometheus.wait_for(text(panel, "title"), &expression, |series| !series.is_empty()).await;
            // No request may have been sent between two scrapes, and then there is no quantile of them.
            let is_number = |series: &Series| !series.value.is_nan() || expression.starts_with("histogram_quantile");
            assert!(series.iter().all(is_number), "{expression}: {series:?}");
        }
    }
}

/// What Grafana puts in for `$__rate_interval`: four of the shortest steps of the query, or of the 15 seconds
/// that a data source has where no other is set. Prometheus scrapes once a minute by default, and 60 times as
/// often here, so this is the 60th part of it.
fn rate_interval(target: &Value) -> String {
    let step = target["interval"].as_str().unwrap_or("15s");
    let step: Duration = humantime::parse_duration(step).unwrap();
    format!("{}ms", (4 * step / 60).as_millis())
}

/// With the variables as they are when the dashboard is opened.
fn substituted(expression: &str, dashboard: &Value, rate_interval: &str) -> String {
    let mut expression = expression.replace("$__rate_interval", rate_interval);
    for variable in variables(dashboard).filter(|variable| variable["type"] != "datasource") {
        let all = variable.get("allValue").and_then(Value::as_str);
        let value = all.unwrap_or_else(|| text(&variable["current"], "value"));
        expression = expression.replace(&format!("${}", text(variable, "name")), value);
    }
    assert!(!expression.contains('$'), "{expression}");
    expression
}

/// All rules are evaluated without an error, and those find something that should.
async fn expect_alerts_of_the_demo(prometheus: &Prometheus) {
    const EXPECTED: [&str; 6] = [
        "CloudflareCertificateEntriesRejected",
        "CloudflareCertificateExpired",
        "CloudflareCertificateExpiring",
        "CloudflareCertificateExpiringVerySoon",
        "CloudflareCertificateIssuancePending",
        "CloudflareCertificateStuckPending",
    ];
    let evaluated = async || {
        let (_, body) = prometheus.get("/api/v1/rules").await;
        let answer: Value = serde_json::from_str(&body).unwrap();
        let groups = answer["data"]["groups"].as_array().unwrap().clone();
        let rules: Vec<_> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).cloned().collect();
        if let Some(bad) = rules.iter().find(|rule| rule["health"] == "err") {
            panic!("{bad}");
        }
        let all = rules.len() == self::rules().len() && rules.iter().all(|rule| rule["health"] == "ok");
        // A rule that builds on others finds what is there only after they were evaluated with all that is scraped.
        let names = names_by_alert(&rules);
        if all && names.keys().eq(&EXPECTED) { Ok(names) } else { Err(format!("{EXPECTED:?} alone: {names:?}")) }
    };
    let names = until_ok(evaluated).await;
    // "billing-service" has five days left and a successor.
    let expired = ["pos-terminal-spare", "pull.iot.example", "sensor-calibration"];
    assert_eq!(names["CloudflareCertificateExpired"], expired);
    assert_eq!(
        names["CloudflareCertificateExpiringVerySoon"],
        ["courier-app", "partner-northwind", "pay.shop.example"]
    );
    assert_eq!(names["CloudflareCertificateStuckPending"], ["field-tablet-07", "field-tablet-08"]);
    let expiring = &names["CloudflareCertificateExpiring"];
    assert!(["kiosk-lobby", "warehouse-scanner"].iter().all(|name| expiring.iter().any(|found| found == name)));
}

/// The common names for which each alert fires or is about to.
fn names_by_alert(rules: &[Value]) -> BTreeMap<String, Vec<String>> {
    let mut names = BTreeMap::new();
    for rule in rules {
        let alerts = rule["alerts"].as_array().into_iter().flatten();
        let mut of_rule: Vec<_> = alerts.map(|alert| text(&alert["labels"], "common_name").to_owned()).collect();
        of_rule.sort();
        if !of_rule.is_empty() {
            names.insert(text(rule, "name").to_owned(), of_rule);
        }
    }
    names
}
