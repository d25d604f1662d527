//! Text of certificates and errors is written by strangers: none of it may break what it ends up in.

use std::collections::{BTreeMap, HashSet};

use crate::support::{self, Daemon, config};
use cloudflare_sim::{ApiError, Canned, Fault, SimulatedApi, SimulatedZone, World};
use serde_json::{Value, json};

/// What is in every text of a certificate, as JSON writes it, since some of it is no text.
const TEXTS: [&str; 13] = [
    r#""quotes \" and ' backslashes \\ \\n \\\"""#,
    r#""line\nbreaks\r\nof\u0085every\u2028sort\u2029\u000b\u000c""#,
    r#""\u0000\u0001\u0007\b\t\u001f\u007f\u009b""#,
    r#""\u001b[31mred\u001b[2J\u001b]0;title\u0007""#,
    r#""\u202eexe.txt\u2066\u2069\u200e\u200f\u061c\u202a\u202c""#,
    r#""half \ud800 a pair \udfff\ud83d""#,
    r#""{{ 7 * 7 }} {% raw %} ${x} %s %n {0}""#,
    r#""<script>alert(1)</script><!-- --><b onclick=\"x\"> &amp; ]]>""#,
    r#"" # HELP x y } 1\n# TYPE up gauge\nup 7 ""#,
    r#""a,b;c|d\te=f \"g\" =1+1""#,
    r#""Zürich 証明書 👩‍👩‍👧 e\u0301\ufeff\ufffe""#,
    r#""un\u00ads\u200be\u2060e\u2064n\u3164\u180e\ufffa\udb40\udc41\udb40\udc7f""#,
    r#""""#,
];

/// The texts of a certificate, and the label that each is shown as.
const FIELDS: [&str; 11] = [
    "common_name",
    "serial_number",
    "fingerprint_sha256",
    "ski",
    "issuer",
    "signature",
    "organization",
    "organizational_unit",
    "country",
    "state",
    "location",
];

/// A text of so many bytes, of which every second one is markup.
fn long(bytes: usize) -> String {
    format!("\"{}\"", "<x".repeat(bytes / 2))
}

/// An entry with this id and what `text` says of each field, as JSON.
fn entry(id: &str, text: impl Fn(&str) -> String) -> String {
    let fields = FIELDS.map(|field| match field {
        "issuer" => format!("\"certificate_authority\":{{\"name\":{}}}", text(field)),
        field => format!("{field:?}:{}", text(field)),
    });
    let dates = r#""expires_on":"2099-01-01T00:00:00Z","issued_on":"2026-01-01T00:00:00Z""#;
    format!("{{\"id\":{id},\"status\":\"active\",{dates},{}}}", fields.join(","))
}

/// Certificates with each text in every field, and two of which every field is a megabyte in one of them.
fn entries() -> Vec<String> {
    // Texts can become equal, or nothing, by being made harmless; ids may not.
    let hostile =
        TEXTS.iter().enumerate().map(|(n, text)| entry(&format!("\"{n} {}", &text[1..]), |_| (*text).to_owned()));
    let megabyte = |odd: bool| {
        entry(&long(1_000_000).replacen('<', if odd { "1" } else { "2" }, 1), |field| {
            let position = FIELDS.iter().position(|other| *other == field).unwrap();
            if (position % 2 == 1) == odd { long(1_000_000) } else { "\"short\"".to_owned() }
        })
    };
    hostile.chain([megabyte(false), megabyte(true)]).collect()
}

/// A listing of these entries, one on each page, which keeps pages below the limit.
fn listing(entries: &[String]) -> Fault {
    let pages = entries.iter().zip(1..).map(|(entry, number)| {
        let info = json!({"page": number, "per_page": 1, "count": 1, "total_count": entries.len(), "total_pages": entries.len()});
        let body = format!(r#"{{"success":true,"errors":[],"messages":[],"result":[{entry}],"result_info":{info}}}"#);
        Fault::Instead(Canned::new(200, "application/json", body)).on_page(number)
    });
    Fault::All(pages.collect())
}

/// A zone whose certificates, name and headers are hostile, and one whose errors are.
fn world() -> World {
    let mut zone = SimulatedZone::new("certificates");
    zone.fault = Some(listing(&entries()));
    let name = r#"{"success":true,"result":{"name":"<b>z\"\\\n\u202e{{ 1 }}\u001b[31m\ud800"}}"#;
    zone.name_fault = Some(Fault::Instead(Canned::new(200, "application/json", name)));

    let text = |n: usize| serde_json::from_str::<Value>(TEXTS[n]).unwrap();
    let nested = json!([{ "code": i64::MIN, "message": text(1) }, { "code": "<b>", "message": text(3) }]);
    let errors = json!([
        { "code": i64::MAX, "message": text(7), "documentation_url": text(4), "source": { "pointer": text(2) }, "error_chain": nested },
        { "code": text(7), "message": "x".repeat(20_000) },
        { "code": 1e300, "message": text(0) },
        { "message": text(8) },
        { "code": 5, "message": text(6) },
    ]);
    let mut failing = SimulatedZone::new("errors");
    let ray = Fault::Header("cf-ray", format!("<b>\"\\ level=info\t{}", "y".repeat(1000)));
    failing.fault = Some(Fault::All(vec![ApiError { status: 403, errors }.into(), ray]));
    let policies = Fault::Header("ratelimit", r#""<b>\"x\\";r=1000;t=1, "a{}=,";r=9;q=10;t=1"#.into());
    World { fault: Some(policies), ..World::of([zone, failing]) }
}

/// What the documentation says that nothing which is shown can hold.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{ad}' | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}')
        || matches!(c, '\u{3164}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A line of output, without its end.
fn assert_is_harmless(line: &str) {
    assert!(!line.contains(is_harmful), "{line:?}");
}

/// A series: its name and labels.
type Series = (String, BTreeMap<String, String>);

/// Reads the text format as strictly as it is described, and more so: families are whole, and no series is there twice.
fn read(text: &str) -> Vec<Series> {
    let (mut families, mut seen, mut all) = (HashSet::new(), HashSet::new(), Vec::new());
    let mut family = String::new();
    let body = text.strip_suffix('\n').unwrap();
    for line in body.split('\n') {
        assert_is_harmless(line);
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split_once(' ').unwrap().0.to_owned();
            assert!(families.insert(family.clone()), "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(name == family && ["gauge", "counter", "histogram"].contains(&kind), "{line}");
        } else {
            let series = series(line).unwrap_or_else(|| panic!("{line}"));
            let of_a_histogram = ["_bucket", "_sum", "_count"].map(|suffix| series.0.strip_suffix(suffix));
            assert!(series.0 == family || of_a_histogram.contains(&Some(&family)), "{line} is in {family}");
            assert!(seen.insert(series.clone()), "{line} is there twice");
            all.push(series);
        }
    }
    all
}

/// A sample's series, `None` if it is not written by the rules.
fn series(line: &str) -> Option<Series> {
    let word = |text: &str| text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|end| *end > 0);
    let (name, mut rest) = line.split_at(word(line)?);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, value) = rest.split_at(word(rest)?);
            let mut chars = value.strip_prefix("=\"")?.chars();
            let mut text = String::new();
            loop {
                match chars.next()? {
                    '"' => break,
                    '\\' => match chars.next()? {
                        'n' => text.push('\n'),
                        c @ ('\\' | '"') => text.push(c),
                        _ => return None,
                    },
                    c => text.push(c),
                }
            }
            labels.insert(label.to_owned(), text).is_none().then_some(())?;
            rest = chars.as_str();
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('}')?;
    }
    rest.strip_prefix(' ')?.parse::<f64>().ok()?;
    Some((name.to_owned(), labels))
}

/// The configuration for this world, without names of zones, and its token.
fn settings(api: &SimulatedApi) -> (String, String) {
    let text = config(api, "[poll]\nconcurrency = 2");
    let text = text.lines().filter(|line| !line.starts_with("name")).map(|line| format!("{line}\n")).collect();
    (text, api.change(|world| world.token().to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_text_breaks_neither_metrics_nor_page_nor_log() {
    let api = SimulatedApi::start(world()).await.unwrap();
    let (text, token) = settings(&api);
    for format in ["logfmt", "json"] {
        let arguments = ["--log.level", "debug", "--log.format", format];
        let daemon = Daemon::start(&text, &arguments, &[("CLOUDFLARE_API_TOKEN", &token)]);
        daemon.ready().await;
        let series = read(&daemon.get("/metrics").await.1);
        let infos: Vec<_> = series.iter().filter(|(name, _)| name == "cloudflare_certificate_info").collect();
        assert_eq!(infos.len(), entries().len(), "{}", daemon.log());
        for (_, labels) in &infos {
            assert_eq!(labels["zone"], "<b>z\"\\\u{fffd}\u{fffd}{{ 1 }}\u{fffd}[31m\u{fffd}\u{fffd}\u{fffd}");
            assert!(labels.values().all(|value| value.chars().count() <= 256), "{labels:?}");
            let [fields_of_it, id] =
                [FIELDS.map(|field| labels[field].as_str()), [labels["certificate_id"].as_str(); 11]];
            match id[0].split_once(' ').and_then(|(number, _)| TEXTS.get(number.parse::<usize>().ok()?)) {
                Some(text) => {
                    // What is half of a pair is no text to this library.
                    let Ok(text) = serde_json::from_str::<String>(text) else { continue };
                    let text = text.replace(is_harmful, "\u{fffd}");
                    assert!(fields_of_it.iter().all(|field| *field == text) && id[0].ends_with(&text), "{labels:?}");
                }
                None => {
                    let cut = |text: &&str| text.chars().count() == 256 && text.ends_with('…');
                    let whole = fields_of_it.iter().filter(|field| **field == "short").count();
                    assert_eq!(fields_of_it.iter().copied().filter(cut).count() + whole, FIELDS.len(), "{labels:?}");
                    assert!(cut(&id[0]) && (5..=6).contains(&whole), "{labels:?}");
                }
            }
        }
        let policies: Vec<_> = series.iter().filter_map(|(_, labels)| labels.get("policy")).collect();
        assert!(policies.iter().any(|policy| *policy == "<b>\"x\\"), "{policies:?}");

        let page = daemon.get("/").await.1;
        page.lines().for_each(assert_is_harmless);
        assert!(page.contains("&#60;b&#62;z") && page.contains("&#60;script&#62;"), "{page}");
        for markup in ["<b>", "<b ", "<script>alert", "<!--"] {
            assert!(!page.contains(markup), "{markup} in {page}");
        }
        assert_eq!(page.matches("<script").count(), 1, "the page has one of its own: {page}");

        for said in ["alert(1)", "Certificates were listed", "Every target was tried once"] {
            daemon.until_logged(&[said]).await;
        }
        let log = daemon.log();
        for line in log.lines() {
            assert_is_harmless(line);
            let is_whole = match format {
                "json" => serde_json::from_str::<Value>(line).is_ok_and(|line| line["level"].is_string()),
                _ => line.starts_with("ts="),
            };
            assert!(is_whole && line.len() < 8192, "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_text_does_not_break_the_list_command() {
    let api = SimulatedApi::start(world()).await.unwrap();
    let (text, token) = settings(&api);
    let list = |output| {
        let printed = support::run(&text, &["list", "--output", output], &[("CLOUDFLARE_API_TOKEN", &token)]);
        assert_eq!(printed.code, Some(1), "one zone cannot be listed: {}", printed.stderr);
        printed.stderr.lines().chain(printed.stdout.lines()).for_each(assert_is_harmless);
        printed.stdout
    };
    let (table, json, csv) = tokio::task::block_in_place(|| (list("table"), list("json"), list("csv")));
    let count = entries().len();
    assert_eq!(table.lines().count(), count + 1, "{table}");
    assert_eq!(csv.lines().count(), count + 1, "{csv}");
    let records: Vec<_> = csv::Reader::from_reader(csv.as_bytes()).into_records().map(Result::unwrap).collect();
    let rows: Vec<BTreeMap<String, Value>> = serde_json::from_str(&json).unwrap();
    assert_eq!(records.len(), count);
    assert_eq!(rows.len(), count);
    for (record, row) in records.iter().zip(&rows) {
        let texts: Vec<_> = FIELDS.iter().filter_map(|field| row[*field].as_str()).collect();
        assert_eq!(texts.len(), FIELDS.len(), "{row:?}");
        assert!(texts.iter().all(|text| text.chars().count() <= 256), "{row:?}");
        assert!(texts.iter().all(|text| record.iter().any(|field| field == *text)), "{record:?} {row:?}");
    }
}
