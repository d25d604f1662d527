//! The rules that Grafana's dashboard-linter has for a dashboard, under its names for them. The linter
//! itself is in no package registry.

use serde_json::Value;

use super::promql::{Selector, named};

/// Rules that the dashboard breaks, and where.
pub(crate) fn complaints(dashboard: &Value) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut expect = |holds: bool, rule: &str, place: &str| {
        if !holds {
            complaints.push(format!("{rule}: {place}"));
        }
    };
    expect(dashboard["editable"] == false, "uneditable-dashboard", "");

    let sources: Vec<_> = variables(dashboard).filter(|variable| variable["type"] == "datasource").collect();
    let is_right = |source: &&Value| {
        let [name, label, query] = ["name", "label", "query"].map(|key| text(source, key));
        (name, label, query) == ("datasource", "Data source", "prometheus")
    };
    expect(sources.len() == 1 && sources.iter().all(is_right), "template-datasource-rule", "");
    for (name, label) in [("job", "Job"), ("instance", "Instance")] {
        let is_right = |variable: &Value| {
            let [query, multi, all] = ["type", "multi", "allValue"].map(|key| &variable[key]);
            query == "query" && multi == true && all == ".+" && variable["label"] == label && is_variable(variable)
        };
        let found = variables(dashboard).find(|variable| variable["name"] == name);
        expect(found.is_some_and(is_right), &format!("template-{name}-rule"), "");
    }
    for variable in variables(dashboard).filter(|variable| variable["type"] == "query") {
        let name = text(variable, "name");
        expect(is_variable(variable), "panel-datasource-rule", name);
        expect(variable["refresh"] == 2, "template-on-time-change-reload-rule", name);
        expect(label_values(text(variable, "query")).is_some(), "template-label-promql-rule", name);
    }

    for panel in panels(dashboard) {
        let title = text(panel, "title");
        expect(is_variable(panel), "panel-datasource-rule", title);
        expect(!title.is_empty() && !text(panel, "description").is_empty(), "panel-title-description-rule", title);
        let unit = text(&panel["fieldConfig"]["defaults"], "unit");
        expect(UNITS.contains(&unit), "panel-units-rule", title);
        expect(targets(panel).next().is_some(), "panel-no-targets-rule", title);
        for selector in targets(panel).flat_map(|target| named(text(target, "expr")).selectors) {
            let place = format!("{title}: {}", selector.metric);
            for name in ["job", "instance"] {
                let wanted = (name.to_owned(), "=~".to_owned(), format!("${name}"));
                expect(selector.matchers.contains(&wanted), &format!("target-{name}-rule"), &place);
            }
            let Selector { metric, function, range, .. } = selector;
            let is_rate = ["rate", "irate", "increase"].contains(&function.as_str());
            expect(!is_rate || range.contains("$__rate_interval"), "target-rate-interval-rule", &place);
            expect(is_rate || !metric.ends_with("_total"), "target-counter-agg-rule", &place);
        }
    }
    complaints
}

/// Those of Grafana's units that are used; a slip of the pen would be shown as text behind the number.
const UNITS: [&str; 4] = ["none", "s", "percentunit", "reqps"];

fn is_variable(of: &Value) -> bool {
    of["datasource"]["uid"] == "$datasource"
}

pub(crate) fn variables(dashboard: &Value) -> impl Iterator<Item = &Value> {
    dashboard["templating"]["list"].as_array().unwrap().iter()
}

/// All that show something.
pub(crate) fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row")
}

pub(crate) fn targets(panel: &Value) -> impl Iterator<Item = &Value> {
    panel["targets"].as_array().into_iter().flatten()
}

pub(crate) fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    of[key].as_str().unwrap_or_default()
}

/// The selector and the label of `label_values(SELECTOR, LABEL)`.
pub(crate) fn label_values(query: &str) -> Option<(&str, &str)> {
    query.strip_prefix("label_values(")?.strip_suffix(')')?.rsplit_once(", ")
}

#[test]
fn the_dashboard_follows_every_rule() {
    assert_eq!(complaints(&super::dashboard()), [""; 0]);
}

#[test]
fn the_variables_choose_in_every_panel_about_certificates() {
    let dashboard = super::dashboard();
    let choices = [("kind", "$kind"), ("account", "$account|"), ("zone", "$zone"), ("owner", "$owner")];
    for (name, _) in choices {
        let variable = variables(&dashboard).find(|variable| variable["name"] == name).unwrap();
        // It matches series without the label, too.
        assert!(variable["multi"] == true && variable["includeAll"] == true && variable["allValue"] == ".*", "{name}");
    }
    let mut found = 0;
    for panel in panels(&dashboard) {
        for selector in targets(panel).flat_map(|target| named(text(target, "expr")).selectors) {
            if selector.metric.starts_with("cloudflare_certificate") {
                found += 1;
                for (label, value) in choices {
                    let wanted = (label.to_owned(), "=~".to_owned(), value.to_owned());
                    let place = (text(panel, "title"), &selector.metric);
                    assert!(selector.matchers.contains(&wanted), "{place:?} does not use {value}");
                }
            }
        }
    }
    assert!(found > 20, "{found}");
}

#[test]
fn every_broken_dashboard_rule_is_noticed() {
    let rows = [
        ("uneditable-dashboard", "/editable", Value::from(true)),
        ("template-datasource-rule", "/templating/list/0/name", "DS_PROMETHEUS".into()),
        ("template-datasource-rule", "/templating/list/0/query", "loki".into()),
        ("template-job-rule", "/templating/list/1/allValue", ".*".into()),
        ("template-instance-rule", "/templating/list/2/multi", false.into()),
        ("template-on-time-change-reload-rule", "/templating/list/3/refresh", 1.into()),
        ("template-label-promql-rule", "/templating/list/3/query", "zones".into()),
        ("panel-datasource-rule", "/panels/1/datasource/uid", "abc".into()),
        ("panel-datasource-rule", "/templating/list/3/datasource/uid", "abc".into()),
        ("panel-title-description-rule", "/panels/1/description", "".into()),
        ("panel-units-rule", "/panels/1/fieldConfig/defaults/unit", "day".into()),
        ("panel-no-targets-rule", "/panels/1/targets", Value::Array(Vec::new())),
        ("target-job-rule", "/panels/1/targets/0/expr", r#"up{instance=~"$instance"}"#.into()),
        ("target-instance-rule", "/panels/1/targets/0/expr", r#"up{job=~"$job", instance="a"}"#.into()),
        (
            "target-rate-interval-rule",
            "/panels/1/targets/0/expr",
            r#"rate(x_total{job=~"$job", instance=~"$instance"}[5m])"#.into(),
        ),
        (
            "target-counter-agg-rule",
            "/panels/1/targets/0/expr",
            r#"sum(x_total{job=~"$job", instance=~"$instance"})"#.into(),
        ),
    ];
    for (rule, place, value) in rows {
        let mut dashboard = super::dashboard();
        *dashboard.pointer_mut(place).unwrap() = value;
        let complaints = complaints(&dashboard);
        assert!(complaints.len() == 1 && complaints[0].starts_with(rule), "{rule}: {complaints:?}");
    }
}
