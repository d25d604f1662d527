//! Whatever is named in rules, dashboard and documents is compared with what the program really shows.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    alerts, dashboard,
    dashboard::{label_values, panels, targets, text, variables},
    demo,
    promql::named,
    read, rules, yaml,
};

/// What Prometheus adds to every series.
const OF_THE_TARGET: [&str; 2] = ["job", "instance"];

/// Labels whose values are words from a closed list.
const CLOSED: [&str; 3] = ["kind", "status", "reason"];

/// Each metric with its labels, and each label with its values.
#[derive(Default)]
struct Known {
    metrics: BTreeMap<String, BTreeSet<String>>,
    values: BTreeMap<String, BTreeSet<String>>,
}

impl Known {
    /// What a scrape of the demo shows, and what the rules make of it.
    async fn gather() -> Self {
        let mut known = Self::default();
        let (_, body) = demo().await.get("/metrics").await;
        for line in body.lines().filter(|line| !line.starts_with('#')) {
            let series = named(line.rsplit_once(' ').unwrap().0).selectors.remove(0);
            if let Some(histogram) = series.metric.strip_suffix("_bucket") {
                known.metrics.entry(histogram.to_owned()).or_default();
            }
            let labels = known.metrics.entry(series.metric).or_default();
            for (label, _, value) in series.matchers {
                labels.insert(label.clone());
                known.values.entry(label).or_default().insert(value);
            }
        }
        known.metrics.insert("up".to_owned(), BTreeSet::new());
        let of_alerts = ["alertname", "alertstate"].map(str::to_owned);
        known.metrics.insert("ALERTS".to_owned(), BTreeSet::from(of_alerts));
        for rule in rules().iter().filter(|rule| rule.get("record").is_some()) {
            for (label, value) in rule["labels"].as_object().into_iter().flatten() {
                known.values.entry(label.clone()).or_default().insert(value.as_str().unwrap().to_owned());
            }
        }
        let all: BTreeSet<_> = known.values.keys().cloned().collect();
        for rule in rules() {
            if let Some(name) = rule["record"].as_str() {
                known.metrics.insert(name.to_owned(), all.clone());
            }
        }
        known
    }

    fn is_label(&self, name: &str) -> bool {
        self.values.contains_key(name) || OF_THE_TARGET.contains(&name)
    }

    /// What of this expression is nowhere to be found.
    fn unknown_in(&self, expression: &str) -> Vec<String> {
        let named = named(expression);
        let mut unknown: Vec<_> = named.labels.iter().filter(|label| !self.is_label(label)).cloned().collect();
        for selector in named.selectors {
            let Some(labels) = self.metrics.get(&selector.metric) else {
                unknown.push(selector.metric);
                continue;
            };
            for (label, _, value) in selector.matchers {
                if !labels.contains(&label) && !OF_THE_TARGET.contains(&label.as_str()) {
                    unknown.push(format!("{}{{{label}}}", selector.metric));
                }
                let is_plain = value.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '_' | '|'));
                if CLOSED.contains(&label.as_str()) && is_plain {
                    let missing = |word: &&str| !word.is_empty() && !self.values[&label].contains(*word);
                    unknown.extend(value.split('|').filter(missing).map(|word| format!("{label}={word}")));
                }
            }
        }
        unknown
    }

    fn expect(&self, expression: &str, place: &str) {
        let unknown = self.unknown_in(expression);
        assert!(unknown.is_empty(), "{place}: the program shows no {unknown:?}");
    }
}

#[tokio::test]
async fn metrics_named_in_rules_dashboard_and_documentation_exist() {
    let known = Known::gather().await;

    let strange = r#"sum by (zonne) (cloudflare_certificates{statsu="x", reason="unauthorised"}) / cloudflare_certs"#;
    let unknown = [
        "zonne",
        "cloudflare_certificates{statsu}",
        "cloudflare_certificates{reason}",
        "reason=unauthorised",
        "cloudflare_certs",
    ];
    assert_eq!(known.unknown_in(strange), unknown);

    for rule in rules() {
        known.expect(text(&rule, "expr"), text(&rule, "alert"));
    }
    for alert in alerts() {
        let annotations = alert["annotations"].to_string();
        for (at, start) in annotations.match_indices("$labels.") {
            let label: String =
                annotations[at + start.len()..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(known.is_label(&label), "{}: {label}", text(&alert, "alert"));
        }
    }
    // What tells replicas apart is not the program's.
    let of_tests = |label: &String| label.ends_with("{pod}") || label.ends_with("{node}");
    for test in yaml("monitoring/alerts_test.yml")["tests"].as_array().unwrap() {
        for series in test["input_series"].as_array().unwrap() {
            let mut unknown = known.unknown_in(text(series, "series"));
            unknown.retain(|label| !of_tests(label));
            assert!(unknown.is_empty(), "{}: the program shows no {unknown:?}", text(test, "name"));
        }
    }

    let dashboard = dashboard();
    for variable in variables(&dashboard).filter(|variable| variable["type"] == "query") {
        let (selector, label) = label_values(text(variable, "query")).unwrap();
        known.expect(selector, text(variable, "name"));
        assert!(known.is_label(label), "{label}");
    }
    for panel in panels(&dashboard) {
        targets(panel).for_each(|target| known.expect(text(target, "expr"), text(panel, "title")));
        expect_columns(panel);
    }

    for path in DOCUMENTS {
        let document = read(path);
        for name in metrics_in(&document) {
            assert!(known.metrics.contains_key(name), "{path}: the program shows no {name}");
        }
        for block in document.split("```promql\n").skip(1) {
            block.split("```").next().unwrap().lines().for_each(|line| known.expect(line, path));
        }
    }
}

/// What names metrics, apart from `docs/metrics.md`, which is generated.
const DOCUMENTS: [&str; 8] = [
    "README.md",
    "SECURITY.md",
    "docs/check.md",
    "docs/configuration.md",
    "docs/operations.md",
    "docs/web-configuration.md",
    "monitoring/README.md",
    "monitoring/RUNBOOK.md",
];

/// Where the table in `docs/metrics.md` begins; it goes on to the end.
const TABLE: &str = "| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n";

/// The table is what the program says of its metrics. `INSTA_UPDATE=always` writes it into the document.
#[tokio::test]
async fn the_metrics_table_equals_the_help_texts() {
    let (_, body) = demo().await.get("/metrics").await;
    let known = Known::gather().await;
    let types = body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let types: BTreeMap<&str, &str> = types.collect();
    let mut table = TABLE.to_owned();
    for (name, help) in body.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' ')) {
        if name.starts_with("process_") {
            continue;
        }
        let series = if types[name] == "histogram" { format!("{name}_bucket") } else { name.to_owned() };
        // The demo has an owner from `[[labels]]`, and a configuration without that has none.
        let labels = known.metrics[&series].iter().filter(|label| !["le", "owner"].contains(&label.as_str()));
        let labels: Vec<_> = labels.map(|label| format!("`{label}`")).collect();
        table.push_str(&format!("| `{name}` | {} | {} | {help} |\n", types[name], labels.join(", ")));
    }
    let document = read("docs/metrics.md");
    let (introduction, written) = document.split_at(document.find(TABLE).unwrap());
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md"), format!("{introduction}{table}"))
            .unwrap();
    } else {
        assert_eq!(written, table, "run INSTA_UPDATE=always cargo test --test suite monitoring::names");
    }
}

/// Words that are written like the name of a metric of this program, or of a rule about one.
fn metrics_in(document: &str) -> impl Iterator<Item = &str> {
    let words = document.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | ':')));
    words.filter(|word| word.contains("cloudflare_"))
}

/// Columns that a table joins, keeps, orders, renames, sorts by or colours come from one of its queries.
fn expect_columns(panel: &Value) {
    if panel["type"] != "table" {
        return;
    }
    let mut columns: BTreeSet<String> = BTreeSet::new();
    for target in targets(panel) {
        columns.extend(named(text(target, "expr")).labels);
        columns.insert(format!("Value #{}", text(target, "refId")));
    }
    let mut used = Vec::new();
    let mut shown = Vec::new();
    for transformation in panel["transformations"].as_array().unwrap() {
        let options = &transformation["options"];
        used.extend(options["byField"].as_str());
        used.extend(options["include"]["names"].as_array().into_iter().flatten().filter_map(Value::as_str));
        for key in ["indexByName", "renameByName"] {
            used.extend(options[key].as_object().into_iter().flat_map(|fields| fields.keys().map(String::as_str)));
        }
        let renamed = options["renameByName"].as_object();
        shown.extend(renamed.into_iter().flat_map(|fields| fields.values().filter_map(Value::as_str)));
    }
    let title = text(panel, "title");
    assert!(used.iter().all(|name| columns.contains(*name)), "{title}: {used:?}, of {columns:?}");
    let sorted = panel["options"]["sortBy"].as_array().unwrap().iter().map(|by| text(by, "displayName"));
    let coloured = panel["fieldConfig"]["overrides"].as_array().unwrap().iter();
    for name in sorted.chain(coloured.map(|field| text(&field["matcher"], "options"))) {
        assert!(shown.contains(&name), "{title}: there is no column {name:?}");
    }
}
