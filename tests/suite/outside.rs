//! The program from outside: the real binary against the simulated API, over real sockets.

use std::time::Duration;

use crate::support::{self, Daemon, config, metrics::Metrics, start, until};
use cloudflare_sim::{AcceptedCredential, Canned, Delivery, Ending, Fault, SimulatedApi, SimulatedZone, World};
use serde_json::{Value, json};

#[tokio::test]
async fn a_poll_takes_one_request_per_fifty_certificates() {
    let sizes = [(237, 5), (50, 1), (0, 1), (1, 1), (51, 2)];
    let zones = sizes.map(|(size, _)| SimulatedZone::of_size(&format!("{size}.example"), size));
    let (api, daemon) = start(World::of(zones), "").await;
    daemon.ready().await;
    let metrics = Metrics::of(&daemon).await;
    for (size, requests) in sizes {
        let zone = format!("{size}.example");
        let id = api.change(|world| world.zones.iter().find(|other| other.name == zone).unwrap().id.clone());
        let made: Vec<_> = api.requests().into_iter().filter(|request| request.path.contains(&id)).collect();
        assert_eq!(made.len(), requests, "{zone}");
        for request in made {
            assert_eq!(request.parameter("status"), Some("all"));
            assert_eq!(request.parameter("per_page"), Some("50"));
            assert!(request.path.ends_with("/client_certificates"));
        }
        assert_eq!(metrics.counts(&zone)[0], Some(size as f64), "{zone}");
        assert_eq!(metrics.all("cloudflare_certificate_days_until_expiry", &[("zone", &zone)]).count(), size);
        assert_eq!(metrics.up(&zone), Some(1.0));
    }
}

#[tokio::test]
async fn a_failed_poll_keeps_the_last_good_listing_and_a_good_one_replaces_it() {
    let zones = ["a.example", "b.example"].map(|name| SimulatedZone::of_size(name, 60));
    let (api, daemon) = start(World::of(zones), "[poll]\ninterval = \"1s\"").await;
    daemon.ready().await;
    let first = Metrics::of(&daemon).await;
    api.change(|world| {
        world.zones[0].fault = Some(Fault::error(403, 10_000, "Authentication error"));
        for certificate in &mut world.zones[1].certificates[10..] {
            certificate.set("status", "revoked");
        }
    });
    let metrics = until("zone a failing and most of zone b being revoked", async || {
        let metrics = Metrics::of(&daemon).await;
        (metrics.up("a.example") == Some(0.0) && metrics.counts("b.example")[0] == Some(10.0)).then_some(metrics)
    })
    .await;
    assert_eq!(metrics.reasons("a.example"), ["forbidden"]);
    assert_eq!(metrics.counts("a.example"), first.counts("a.example"));
    let ids = |metrics: &Metrics, zone| {
        let mut series: Vec<_> = metrics
            .all("cloudflare_certificate_info", &[("zone", zone)])
            .map(|(series, _)| series.to_owned())
            .collect();
        series.sort();
        series
    };
    assert_eq!(ids(&metrics, "a.example"), ids(&first, "a.example"));
    assert_eq!(metrics.counts("b.example"), [10.0, 0.0, 0.0, 50.0, 0.0].map(Some));
    assert_eq!(ids(&metrics, "b.example").len(), 10);
    metrics.assert_polled("b.example");
}

#[tokio::test]
async fn a_429_pauses_only_its_own_credential() {
    let mut zones: Vec<_> = (0..5).map(|n| SimulatedZone::of_size(&format!("{n}.example"), 1)).collect();
    zones[0].fault = Some(Fault::rate_limited("300"));
    let mut world = World::of(zones);
    world.credentials.push(AcceptedCredential::Token("another-simulated-token".into()));
    let api = SimulatedApi::start(world).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let mut text = config(
        &api,
        "[poll]\nconcurrency = 1\n[credentials.default]\napi_token_env = \"FIRST\"\n[credentials.second]\napi_token_env = \"SECOND\"",
    );
    text = text.replace("name = \"4.example\"\n", "name = \"4.example\"\ncredentials = \"second\"\n");
    let daemon = Daemon::start(&text, &[], &[("FIRST", &token), ("SECOND", "another-simulated-token")]);
    daemon.ready().await;
    let metrics = Metrics::of(&daemon).await;
    for n in 0..4 {
        assert_eq!(metrics.reasons(&format!("{n}.example")), ["rate_limited"], "{n}");
    }
    assert_eq!(metrics.up("4.example"), Some(1.0));
    let asked =
        api.requests().iter().filter(|request| request.header("authorization").unwrap().ends_with(&token)).count();
    assert_eq!(asked, 1, "the zones that were not asked yet are not asked");
}

#[tokio::test]
async fn a_dead_token_is_not_tried_by_every_zone_and_a_new_one_is_used_at_once() {
    let zones = (0..20).map(|n| SimulatedZone::of_size(&format!("{n}.example"), 1));
    let api = SimulatedApi::start(World::of(zones)).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "a-token-that-was-revoked").unwrap();
    let credentials = format!("[poll]\nconcurrency = 2\n[credentials.default]\napi_token_file = {file:?}");
    let daemon = Daemon::start(&config(&api, &credentials), &[], &[]);
    daemon.ready().await;
    let metrics = Metrics::of(&daemon).await;
    for n in 0..20 {
        assert_eq!(metrics.reasons(&format!("{n}.example")), ["unauthorized"]);
    }
    // Three in a row stop it; a fourth could be under way by then.
    let asked = api.requests().len();
    assert!((3..=4).contains(&asked), "{asked} requests with a dead token");
    // As a rotation does it: another file in its place.
    std::fs::write(directory.path().join("new"), format!("{token}\n")).unwrap();
    std::fs::rename(directory.path().join("new"), &file).unwrap();
    until("all zones being listed with the new token", async || {
        let metrics = Metrics::of(&daemon).await;
        (0..20).all(|n| metrics.up(&format!("{n}.example")) == Some(1.0)).then_some(())
    })
    .await;
    assert!(!daemon.log().contains(&token) && !daemon.log().contains("revoked-token"));
}

#[tokio::test]
async fn tokens_and_api_keys_both_work_and_only_one_is_sent() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("cloudflare-api-token"), "token-from-systemd\n").unwrap();
    let systemd = directory.path().to_str().unwrap();
    let (email, key) = ("user@example.com", "c2547eb745079dac9320b638f5e225cf483cc5cfdda41");
    for (environment, expected) in [
        (vec![("CLOUDFLARE_API_TOKEN", "token-from-environment")], (Some("Bearer token-from-environment"), None, None)),
        (
            vec![("CREDENTIALS_DIRECTORY", systemd), ("CLOUDFLARE_API_TOKEN", "x")],
            (Some("Bearer token-from-systemd"), None, None),
        ),
        (vec![("CLOUDFLARE_EMAIL", email), ("CLOUDFLARE_API_KEY", key)], (None, Some(email), Some(key))),
    ] {
        let mut world = World::of([SimulatedZone::of_size("a.example", 1)]);
        world.credentials = vec![
            AcceptedCredential::Token("token-from-environment".into()),
            AcceptedCredential::Token("token-from-systemd".into()),
            AcceptedCredential::Key { email: email.into(), key: key.into() },
        ];
        let api = SimulatedApi::start(world).await.unwrap();
        let daemon = Daemon::start(&config(&api, ""), &[], &environment);
        daemon.ready().await;
        assert_eq!(Metrics::of(&daemon).await.up("a.example"), Some(1.0), "{environment:?}");
        let request = api.requests().remove(0);
        let sent = (request.header("authorization"), request.header("x-auth-email"), request.header("x-auth-key"));
        assert_eq!(sent, expected);
        assert_eq!(request.header("accept"), Some("application/json"));
        assert!(request.header("user-agent").unwrap().starts_with("cloudflare-cert-exporter/"));
        assert!(request.header("accept-encoding").unwrap().contains("gzip"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_base_url_variable_is_used_and_named_in_errors() {
    let api = SimulatedApi::start(World::of([SimulatedZone::of_size("a.example", 1)])).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let elsewhere = SimulatedApi::start(World::of([])).await.unwrap();
    let text = config(&api, "").replace(&api.base_url(), &elsewhere.base_url());
    let list = |url: &str| {
        let environment = [("CLOUDFLARE_API_TOKEN", &*token), ("CLOUDFLARE_BASE_URL", url)];
        tokio::task::block_in_place(|| support::run(&text, &["list"], &environment))
    };
    let listed = list(&api.base_url());
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    assert!(listed.stdout.contains("a.example") && elsewhere.requests().is_empty(), "{}", listed.stdout);
    let wrong = list("http://api.example/client/v4");
    assert_eq!(wrong.code, Some(78));
    assert!(wrong.stderr.starts_with("CLOUDFLARE_BASE_URL: it must begin with https://"), "{}", wrong.stderr);
}

#[tokio::test]
async fn the_request_budget_covers_all_zones_together() {
    let zones = (0..20).map(|n| SimulatedZone::of_size(&format!("{n}.example"), 1));
    let (api, daemon) =
        start(World::of(zones), "requests_per_5m = 7\n[poll]\nconcurrency = 3\ninterval = \"1s\"").await;
    until("the budget being spent", async || {
        (daemon.get("/-/ready").await == (503, "13 of 20 zones were not polled yet.\n".into())).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(api.requests().len(), 7);
    assert_eq!(daemon.get("/-/healthy").await.0, 200);
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("cannot carry")).unwrap();
    for fact in ["needed_per_5m=6000", "allowed_per_5m=7", "intervals=\"client every 15m 3s\"", "costliest=client"] {
        assert!(line.contains(fact), "{fact} is missing in {line}");
    }
}

#[tokio::test]
async fn the_rest_of_cloudflares_quota_is_left_to_the_owner() {
    let zones = (0..50).map(|n| SimulatedZone::of_size(&format!("{n}.example"), 1));
    let mut world = World::of(zones);
    // A fifth of a hundred is twenty, and the owner has used sixty.
    world.quota.requests = 100;
    world.quota.spent_elsewhere = 60;
    let (api, daemon) = start(world, "[poll]\nconcurrency = 1").await;
    until("less than a fifth being left", async || (api.requests().len() >= 21).then_some(())).await;
    let (then, started) = (api.requests().len(), tokio::time::Instant::now());
    until("three more looks", async || (api.requests().len() >= then + 3).then_some(())).await;
    // It looks again once a second, and no more; before this began, it may have waited for a part of its second.
    let (looked, took) = (api.requests().len() - then, started.elapsed());
    assert!(took.as_secs_f64() + 1.0 >= (looked - 1) as f64, "{looked} looks in {took:?}");
    let metrics = Metrics::of(&daemon).await;
    let policy = [("credentials", "default"), ("policy", "default")];
    assert_eq!(metrics.get("cloudflare_api_rate_limit_quota", &policy), Some(100.0));
    assert!(metrics.get("cloudflare_api_rate_limit_remaining", &policy) < Some(20.0));
    assert!(metrics.get("cloudflare_api_throttled_seconds_total", &policy[..1]) > Some(0.0));
}

#[tokio::test]
async fn zone_names_are_requested_once_and_the_id_is_shown_where_there_is_none() {
    let another = json!({"id": "badbadbadbadbadbadbadbadbadbadba", "name": "another.example"});
    let good = |result: Value| {
        let body = json!({"success": true, "errors": [], "result": result}).to_string();
        Some(Fault::Instead(Canned::new(200, "application/json", body)))
    };
    let mut zones = ["named", "refused", "failing", "nameless", "another"]
        .map(|name| SimulatedZone::of_size(&format!("{name}.example"), 1));
    zones[1].name_fault = Some(Fault::error(403, 9109, "Unauthorized to access requested resource"));
    zones[2].name_fault = Some(Fault::error(500, 1000, "Internal Server Error"));
    zones[3].name_fault = good(Value::Null);
    zones[4].name_fault = good(another);
    let ids = zones.clone().map(|zone| zone.id);
    let api = SimulatedApi::start(World::of(zones)).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let text: String = config(&api, "[poll]\ninterval = \"1s\"")
        .lines()
        .filter(|line| !line.starts_with("name"))
        .map(|line| format!("{line}\n"))
        .collect();
    let daemon = Daemon::start(&text, &[], &[("CLOUDFLARE_API_TOKEN", &token)]);
    daemon.ready().await;
    let metrics = until("three polls", async || {
        let metrics = Metrics::of(&daemon).await;
        let polls = |id: &String| metrics.get("cloudflare_certificates_polls_total", &[("zone_id", id)]);
        ids.iter().all(|id| polls(id) >= Some(3.0)).then_some(metrics)
    })
    .await;
    assert_eq!(metrics.up("named.example"), Some(1.0));
    for id in &ids[1..] {
        assert_eq!(metrics.get("cloudflare_certificates_up", &[("zone", id), ("zone_id", id)]), Some(1.0));
    }
    for id in ids {
        let asked = api.requests().iter().filter(|request| request.path.ends_with(&id)).count();
        assert_eq!(asked, 1, "{id}");
    }
}

#[tokio::test]
async fn the_server_responds_as_prometheus_and_browsers_expect() {
    let (_api, daemon) = start(World::of([SimulatedZone::of_size("<b>a.example", 60)]), "").await;
    daemon.ready().await;
    // It would unpack on its own what it accepts.
    let client = reqwest::Client::builder().no_proxy().no_gzip().build().unwrap();
    let metrics = client.get(daemon.url("/metrics")).send().await.unwrap();
    assert_eq!(metrics.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert!(!metrics.headers().contains_key("content-encoding"));
    let plain = metrics.bytes().await.unwrap();
    let packed = client.get(daemon.url("/metrics")).header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    let packed = packed.bytes().await.unwrap();
    let mut unpacked = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&packed[..]), &mut unpacked).unwrap();
    let certificates = |text: &str| {
        text.lines().filter(|line| line.starts_with("cloudflare_certificate")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(certificates(&unpacked), certificates(std::str::from_utf8(&plain).unwrap()));
    let head = client.head(daemon.url("/metrics")).send().await.unwrap();
    assert_eq!(
        (head.status().as_u16(), head.headers()["content-type"].to_str().unwrap()),
        (200, "text/plain; version=0.0.4; charset=utf-8")
    );
    assert!(head.bytes().await.unwrap().is_empty());
    for (method, path, status) in [
        ("GET", "/-/healthy", 200),
        ("GET", "/-/ready", 200),
        ("GET", "/", 200),
        ("GET", "/metrics/", 404),
        ("GET", "/favicon.ico", 404),
        ("GET", "/-/reload", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/", 405),
        ("PUT", "/-/healthy", 405),
    ] {
        let answer = client.request(method.parse().unwrap(), daemon.url(path)).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{method} {path}");
    }
    let page = client.get(daemon.url("/")).send().await.unwrap();
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    assert!(page.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
    let page = page.text().await.unwrap();
    for part in
        ["cloudflare-cert-exporter", env!("CARGO_PKG_VERSION"), "href=\"metrics\"", "&#60;b&#62;a.example", ">60</td>"]
    {
        assert!(page.contains(part), "{part} is missing in {page}");
    }
}

#[tokio::test]
async fn a_signal_shuts_the_daemon_down_in_order() {
    for signal in ["TERM", "INT"] {
        let mut zone = SimulatedZone::of_size("a.example", 1);
        zone.fault = Some(Delivery::Unanswered(Ending::Hang).into());
        let (api, mut daemon) = start(World::of([zone]), "").await;
        until("a poll being under way", async || (!api.requests().is_empty()).then_some(())).await;
        daemon.signal(signal);
        assert_eq!(daemon.wait(), Some(0), "{signal}");
        let log = daemon.log();
        assert!(log.contains(&format!("signal=SIG{signal}")) && log.contains("message=Stopped."), "{log}");
    }
}

#[tokio::test]
async fn an_unusable_configuration_ends_the_program_at_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let zone = "[[zones]]\nid = \"023e105f4ecef8ad9ca31a8372d0c353\"\n";
    let free = "[server]\nlisten_addresses = [\"127.0.0.1:0\"]\n";
    let token = [("CLOUDFLARE_API_TOKEN", "x")];
    for (text, arguments, environment, code, words) in [
        (
            format!("{free}[poll]\ninterval = \"0s\"\nconcurency = 4\n[[zones]]\nid = \"x\"\n"),
            vec![],
            &token[..],
            78,
            vec![":4: poll.interval: ", ":5: poll.concurency: unknown key", ":7: zones.id: ", "3 mistakes in "],
        ),
        (format!("{free}{zone}"), vec![], &[], 78, vec!["CLOUDFLARE_API_TOKEN", "api_token_file"]),
        (format!("{free}{zone}"), vec!["check-config"], &[], 78, vec!["CLOUDFLARE_API_TOKEN"]),
        (
            format!("{free}{zone}"),
            vec!["--web.listen-address", &address],
            &token,
            1,
            vec!["cannot listen on", &address, "--web.listen-address"],
        ),
        (format!("{free}{zone}"), vec!["--no-such-flag"], &token, 2, vec!["--no-such-flag"]),
        (format!("{free}{zone}"), vec!["--web.telemetry-path", "metrics"], &token, 2, vec!["begins with a slash"]),
        (format!("{free}{zone}"), vec!["--web.listen-address", ":1", "list"], &token, 2, vec!["are for the daemon"]),
        (format!("{free}{zone}"), vec!["list", "--zone", "nowhere.example"], &token, 2, vec!["nowhere.example"]),
    ] {
        let output = support::run(&text, &arguments, environment);
        assert_eq!(output.code, Some(code), "{arguments:?} {text} {}", output.stderr);
        for word in words {
            assert!(output.stderr.contains(word), "{word:?} is missing in {}", output.stderr);
        }
        assert!(!output.stderr.contains("Listening"), "{}", output.stderr);
        assert_eq!(output.stdout, "");
    }
}

/// `systemctl reload` checks with the arguments of the service.
#[test]
fn check_config_takes_every_option_of_the_daemon() {
    let zone = "[[zones]]\nid = \"023e105f4ecef8ad9ca31a8372d0c353\"\n";
    let web_config = tempfile::NamedTempFile::new().unwrap();
    let help = support::run("", &["run", "--help"], &[]).stdout;
    let mut options = Vec::new();
    for line in help.lines().map(str::trim).filter(|line| line.starts_with("--web.")) {
        let (option, value) = line.split_once(' ').unwrap_or((line, ""));
        let value = match value.split_whitespace().next().unwrap_or_default() {
            "<ADDR>" => Some("127.0.0.1:0"),
            "<PATH>" => Some("/m"),
            "<FILE>" => Some(web_config.path().to_str().unwrap()),
            _ => None,
        };
        options.push(std::iter::once(option).chain(value).collect::<Vec<_>>());
    }
    assert!(options.len() >= 5, "{help}");
    for option in options {
        for arguments in [[&["check-config"][..], &option].concat(), [&option[..], &["check-config"]].concat()] {
            let output = support::run(zone, &arguments, &[("CLOUDFLARE_API_TOKEN", "x")]);
            assert_eq!(output.code, Some(0), "{arguments:?}: {}", output.stderr);
        }
    }
}

#[tokio::test]
async fn list_prints_every_certificate_once() {
    let mut zone = SimulatedZone::of_size("a.example", 60);
    zone.certificates[3].set("status", "revoked");
    zone.certificates[4].set("expires_on", "2026-01-01T00:00:00Z");
    zone.certificates[5].remove("expires_on");
    zone.certificates[6].set("common_name", "=1+1, \"quoted\"");
    let api = SimulatedApi::start(World::of([zone, SimulatedZone::of_size("b.example", 1)])).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let list = |arguments: &'static [&'static str]| {
        let text = config(&api, "");
        let token = token.clone();
        // In another thread, since the simulated API lives in this one.
        tokio::task::spawn_blocking(move || {
            support::run(&text, &[&["list"], arguments].concat(), &[("CLOUDFLARE_API_TOKEN", &token)])
        })
    };
    let json = list(&["--output", "json"]).await.unwrap();
    assert_eq!(json.code, Some(0), "{}", json.stderr);
    assert!(json.stderr.contains("2 of 2 zones listed with 3 requests, 61 certificates shown."), "{}", json.stderr);
    let rows: Vec<Value> = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(rows.len(), 61);
    assert_eq!(rows[0]["expires_on"], "2026-01-01T00:00:00Z");
    assert_eq!(rows[0]["status"], "active");
    assert!(rows[0]["days_until_expiry"].as_i64().unwrap() < 0);
    assert_eq!((&rows[60]["expires_on"], &rows[60]["days_until_expiry"]), (&Value::Null, &Value::Null));
    assert_eq!(rows.iter().filter(|row| row["status"] == "revoked").count(), 1);
    let fields: Vec<_> = rows[0].as_object().unwrap().keys().map(String::as_str).collect();
    for field in [
        "kind",
        "zone",
        "zone_id",
        "certificate_id",
        "common_name",
        "status",
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
        "expires_on",
        "issued_on",
        "days_until_expiry",
    ] {
        assert!(fields.contains(&field), "{field} is missing in {fields:?}");
    }
    let csv = list(&["--output", "csv", "--zone", "a.example"]).await.unwrap();
    assert_eq!(csv.stdout.lines().count(), 61);
    assert!(
        csv.stdout.starts_with("kind,zone,certificate_id,common_name,zone_id,status,")
            && csv.stdout.contains("\"'=1+1, \"\"quoted\"\"\"")
    );
    let table = list(&["--expiring-within", "30d"]).await.unwrap();
    assert_eq!(table.stdout.lines().count(), 2, "{}", table.stdout);
    let nothing = list(&["--output", "csv", "--expiring-within", "0s", "--zone", "b.example"]).await.unwrap();
    assert_eq!(nothing.code, Some(0));
    assert_eq!(nothing.stdout.lines().count(), 1);
    assert_eq!(nothing.stdout.lines().next(), csv.stdout.lines().next());
    // One zone that fails fails the command, and hides no other.
    api.change(|world| world.zones[1].denied = true);
    let failed = list(&[]).await.unwrap();
    assert_eq!(failed.code, Some(1));
    assert_eq!(failed.stdout.lines().count(), 61);
    assert!(
        failed.stderr.contains("b.example: forbidden: ") && failed.stderr.contains("1 of 2 zones listed"),
        "{}",
        failed.stderr
    );
}

#[tokio::test]
async fn the_demo_needs_neither_an_account_nor_certificate_authorities() {
    let arguments = ["demo", "--web.listen-address", "127.0.0.1:0", "--zones", "3", "--certificates", "70"];
    let daemon = Daemon::start("", &arguments, &[("SSL_CERT_FILE", "/dev/null"), ("SSL_CERT_DIR", "/nonexistent")]);
    daemon.ready().await;
    let metrics = Metrics::of(&daemon).await;
    for (zone, certificates) in [("shop.example", 70.0), ("iot.example", 70.0), ("partners.example", 0.0)] {
        assert_eq!(metrics.counts(zone).into_iter().flatten().sum::<f64>(), certificates, "{zone}");
        assert_eq!(metrics.up(zone), Some(1.0));
    }
    let says = "This is a demo: the data is simulated";
    assert!(daemon.log().contains(says) && daemon.get("/").await.1.contains(says));
}

#[test]
fn version_and_help_are_printed() {
    let version = support::run("", &["--version"], &[]);
    assert!(version.stdout.starts_with(concat!(
        "cloudflare-cert-exporter ",
        env!("CARGO_PKG_VERSION"),
        " (revision: "
    )));
    let help = support::run("", &["--help"], &[]);
    for word in [
        "check-config",
        "list",
        "demo",
        "--config.file",
        "--web.listen-address",
        "--web.telemetry-path",
        "--log.level",
        "--log.format",
        "Examples:",
    ] {
        assert!(help.stdout.contains(word), "{word} is missing in {}", help.stdout);
    }
}
