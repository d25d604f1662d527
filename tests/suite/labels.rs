//! Labels of the owner's own from outside: on every series, after a reload, in `list`, `check`, the page and
//! `check-config`.

use chrono::{SecondsFormat, TimeDelta, Utc};
use cloudflare_sim::{SimulatedApi, SimulatedCertificate, SimulatedZone, World};
use serde_json::Value;

use crate::support::{Daemon, config, metrics::Metrics, run, until};

const RULES: &str = "\
[[labels]]
match = { zone = \"shop.*\", common_name = \"pos-*\" }
labels = { owner = \"payments\" }
[[labels]]
match = { zone = \"shop.*\" }
labels = { owner = \"platform\", team = 'a \"b\"' }
[[labels]]
match = { zone = \"gone.example\" }
labels = { owner = \"someone\" }
";

#[expect(clippy::disallowed_methods, reason = "the daemon has the clock of this machine")]
fn in_days(days: i64) -> String {
    (Utc::now() + TimeDelta::days(days) + TimeDelta::hours(1)).to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A zone with a till and a gateway whose expiry is near, and one that no rule matches.
async fn api() -> (SimulatedApi, String) {
    let certificate = |id: &str, name: &str, days| {
        SimulatedCertificate::new(id, name, "active", "2026-01-01T00:00:00Z", &in_days(days))
    };
    let mut shop = SimulatedZone::new("shop.example");
    shop.certificates = vec![certificate("c1", "pos-1", 3), certificate("c2", "gateway", 20)];
    let mut other = SimulatedZone::new("other.example");
    other.certificates = vec![certificate("c3", "pos-9", 300)];
    let api = SimulatedApi::start(World::of([shop, other])).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    (api, token)
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_stand_last_on_every_series_and_follow_a_reload() {
    let (api, token) = api().await;
    let text = config(&api, RULES);
    let daemon = Daemon::start(&text, &[], &[("CLOUDFLARE_API_TOKEN", &token)]);
    daemon.ready().await;
    let body = daemon.get("/metrics").await.1;
    for (line, end) in [
        (
            "cloudflare_certificate_not_after_timestamp_seconds{kind=\"client\",zone=\"shop.example\",certificate_id=\"c1\",common_name=\"pos-1\"",
            ",owner=\"payments\",team=\"a \\\"b\\\"\"}",
        ),
        (
            "cloudflare_certificate_superseded{kind=\"client\",zone=\"shop.example\",certificate_id=\"c2\",common_name=\"gateway\"",
            ",owner=\"platform\",team=\"a \\\"b\\\"\"}",
        ),
        (
            "cloudflare_certificate_days_until_expiry{kind=\"client\",zone=\"other.example\",certificate_id=\"c3\",common_name=\"pos-9\"",
            ",owner=\"\",team=\"\"}",
        ),
        (
            "cloudflare_certificate_info{kind=\"client\",zone=\"shop.example\",certificate_id=\"c2\"",
            ",owner=\"platform\",team=\"a \\\"b\\\"\"}",
        ),
    ] {
        let found = body.lines().find(|found| found.starts_with(line)).unwrap_or_else(|| panic!("no {line}"));
        assert!(found.contains(end), "{found}");
    }
    // Every series of a listing has them last, and nothing else has them.
    let of_listings = body.lines().filter(|line| line.starts_with("cloudflare_certificates"));
    for line in of_listings {
        let is_shop = line.contains("shop.example");
        let end = if is_shop { ",owner=\"platform\",team=\"a \\\"b\\\"\"} " } else { ",owner=\"\",team=\"\"} " };
        assert!(line.contains(end), "{line}");
    }
    assert!(!body.lines().any(|line| !line.starts_with("cloudflare_certificate") && line.contains("owner=")), "{body}");

    daemon.configure(&text.replace("payments", "tills"));
    daemon.signal("HUP");
    until("the new owner", async || {
        let metrics = Metrics::of(&daemon).await;
        metrics.get("cloudflare_certificate_info", &[("certificate_id", "c1"), ("owner", "tills")])
    })
    .await;
    let page = daemon.get("/").await.1;
    assert!(page.contains("owner: tills, team: a"), "{page}");
    let status: Value = serde_json::from_str(&daemon.get("/-/status.json").await.1).unwrap();
    let shop = status["listings"].as_array().unwrap().iter().find(|listing| listing["zone"] == "shop.example").unwrap();
    assert_eq!((&shop["labels"]["owner"], &shop["certificates"][0]["owner"]), (&"platform".into(), &"tills".into()));

    // Each owner is only alarmed by what is theirs.
    let check = |owner: &str| {
        let url = format!("http://{}", daemon.address());
        run("", &["check", "--url", &url, "--owner", owner], &[])
    };
    for (owner, code, words) in [
        ("tills", 2, "1 below 7 days"),
        ("platform", 1, "1 below 30 days"),
        ("someone", 3, "owner someone has no certificates and no listings"),
    ] {
        let checked = check(owner);
        assert_eq!(checked.code, Some(code), "{owner}: {}", checked.stdout);
        assert!(checked.stdout.contains(words), "{owner}: {}", checked.stdout);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn list_check_and_check_config_know_the_labels() {
    let (api, token) = api().await;
    let state = tempfile::tempdir().unwrap();
    let text = format!("{}[state]\ndirectory = {:?}\n", config(&api, RULES), state.path());
    let environment = [("CLOUDFLARE_API_TOKEN", &*token)];
    let listed = run(&text, &["list", "--output", "json"], &environment);
    let rows: Vec<Value> = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!((&rows[0]["owner"], &rows[0]["team"]), (&"payments".into(), &"a \"b\"".into()));
    assert_eq!((&rows[2]["owner"], &rows[2]["team"]), (&"".into(), &"".into()));
    let csv = run(&text, &["list", "--output", "csv"], &environment).stdout;
    assert!(csv.lines().next().unwrap().ends_with(",days_until_expiry,owner,team"), "{csv}");
    assert!(csv.lines().nth(1).unwrap().ends_with(",3,payments,\"a \"\"b\"\"\""), "{csv}");
    let table = run(&text, &["list"], &environment).stdout;
    assert!(table.lines().next().unwrap().trim_end().ends_with("TEAM") && table.contains("payments"), "{table}");
    let swept = run(&text, &["check", "--sweep", "--owner", "platform"], &environment);
    assert_eq!(swept.code, Some(1), "{}", swept.stdout);

    let offline = run(&text, &["check-config"], &environment).stdout;
    assert!(
        offline.contains("Rule 3 of [[labels]] (owner=\"someone\"): matches nothing, so it has no effect"),
        "{offline}"
    );
    // What a daemon saved is looked at while it runs.
    let daemon = Daemon::start(&text, &[], &environment);
    daemon.ready().await;
    until("the saved listings", async || {
        let checked = run(&text, &["check-config"], &environment).stdout;
        let first = "Rule 1 of [[labels]] (owner=\"payments\"): matches 1 zones or accounts, and 1 certificates";
        let second = "matches 1 zones or accounts, and 2 certificates of the saved state";
        (checked.contains(first) && checked.contains(second)).then_some(())
    })
    .await;
}
