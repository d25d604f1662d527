//! Reading the configuration again, from outside: the real daemon, by signal and by request.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use crate::support::{self, Daemon, metrics::Metrics, until};
use cloudflare_cert_exporter::{Controls, config::Config, run};
use cloudflare_sim::{AcceptedCredential, RecordedRequest, SimulatedApi, SimulatedZone, World};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{mpsc, watch},
    time::{Duration, sleep},
};

const SUCCESSFUL: &str = "cloudflare_cert_exporter_config_last_reload_successful";
const SUCCEEDED_AT: &str = "cloudflare_cert_exporter_config_last_reload_success_timestamp_seconds";

/// What a file says that polls these zones of the world; `server` is added to that section, `more` to `[api]`.
fn config(api: &SimulatedApi, zones: &[&str], server: &str, more: &str) -> String {
    let more = format!("{more}\n[server]\nlisten_addresses = [\"127.0.0.1:0\"]\n{server}");
    support::config_of(api, |name| zones.contains(&name), &more)
}

async fn start(world: World, zones: &[&str], server: &str) -> (SimulatedApi, Daemon) {
    let api = SimulatedApi::start(world).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let daemon = Daemon::start(&config(&api, zones, server, ""), &[], &[("CLOUDFLARE_API_TOKEN", &token)]);
    daemon.ready().await;
    (api, daemon)
}

fn world() -> World {
    World::of(["a.example", "b.example", "c.example"].map(|name| SimulatedZone::of_size(name, 3)))
}

#[tokio::test]
async fn a_reload_adds_and_removes_zones_and_keeps_the_data_of_the_others() {
    let (api, daemon) = start(world(), &["a.example", "b.example"], "").await;
    let before = Metrics::of(&daemon).await;
    assert_eq!(before.get(SUCCESSFUL, &[]), Some(1.0));
    assert_eq!(before.up("c.example"), None);
    let asked = |name: &str| {
        let id = api.change(|world| world.zones.iter().find(|zone| zone.name == name).unwrap().id.clone());
        api.requests().iter().filter(|request| request.path.contains(&id)).count()
    };
    let of_b = asked("b.example");
    daemon.configure(&config(&api, &["b.example", "c.example"], "", "[metrics]\nexpiring_within_days = [5]"));
    daemon.signal("HUP");
    daemon.until_logged(&["level=info", "The configuration was read again"]).await;
    let after = until("a listing of the new zone", async || {
        let metrics = Metrics::of(&daemon).await;
        metrics.up("c.example").is_some().then_some(metrics)
    })
    .await;
    assert_eq!(after.up("a.example"), None);
    assert_eq!(after.up("b.example"), Some(1.0));
    assert_eq!(after.up("c.example"), Some(1.0));
    // It was not listed again, and nothing that was known of it is lost.
    assert_eq!(asked("b.example"), of_b);
    assert_eq!(after.last_success("b.example"), before.last_success("b.example"));
    assert_eq!(before.polls("b.example"), 1.0);
    assert_eq!(after.polls("b.example"), 1.0);
    assert_eq!(after.all("cloudflare_certificates_expiring", &[("zone", "b.example")]).count(), 1);
    assert!(after.get(SUCCEEDED_AT, &[]) >= before.get(SUCCEEDED_AT, &[]));
    // Requests that were counted before are counted still.
    let requests = after.get("cloudflare_api_requests_total", &[("endpoint", "client_certificates")]);
    assert_eq!(requests, Some(3.0));
    assert_eq!(daemon.get("/-/reload").await.0, 404);
    assert_eq!(daemon.post("/-/reload").await.0, 404);
}

#[tokio::test]
async fn a_failed_reload_reports_the_mistake_and_keeps_the_previous_configuration() {
    let (api, daemon) = start(world(), &["a.example"], "enable_lifecycle = true").await;
    assert_eq!(daemon.get("/-/reload").await.0, 405);
    let good = config(&api, &["a.example", "b.example"], "enable_lifecycle = true", "");
    daemon.configure(&format!("{good}\ninterval = \"1y\"\nnonsense = 1\n"));
    let (status, text) = daemon.post("/-/reload").await;
    assert_eq!(status, 500, "{text}");
    for part in ["interval", "nonsense", "stays in use", "config.toml:"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    let metrics = Metrics::of(&daemon).await;
    assert_eq!(metrics.get(SUCCESSFUL, &[]), Some(0.0));
    assert_eq!(metrics.up("a.example"), Some(1.0));
    daemon.until_logged(&["level=error", "stays in use", "nonsense"]).await;
    daemon.configure(&good);
    assert_eq!(daemon.post("/-/reload").await.0, 200);
    let metrics = until("a listing of the new zone", async || {
        let metrics = Metrics::of(&daemon).await;
        metrics.up("b.example").is_some().then_some(metrics)
    })
    .await;
    assert_eq!(metrics.get(SUCCESSFUL, &[]), Some(1.0));
}

#[tokio::test]
async fn a_change_that_needs_a_restart_is_logged_at_each_reload() {
    let (api, daemon) = start(world(), &["a.example"], "enable_lifecycle = true").await;
    daemon.configure(&config(&api, &["a.example"], "telemetry_path = \"/other\"", ""));
    assert_eq!(daemon.post("/-/reload").await.0, 200);
    daemon.until_logged(&["level=warn", "requires a restart", "server.telemetry_path"]).await;
    daemon.until_logged(&["level=warn", "requires a restart", "server.enable_lifecycle"]).await;
    assert_eq!(daemon.get("/metrics").await.0, 200);
    assert_eq!(daemon.get("/other").await.0, 404);
    // It is compared with what is in use, and not with what was read last. What a signal asks for is always logged.
    let warnings = || daemon.log().lines().filter(|line| line.contains("requires a restart")).count();
    daemon.signal("HUP");
    until("the same warnings again", async || (warnings() == 4).then_some(())).await;
    daemon.configure(&config(&api, &["a.example"], "enable_lifecycle = true", ""));
    daemon.signal("HUP");
    let reads = || daemon.log().lines().filter(|line| line.contains("was read again")).count();
    until("three reloads", async || (reads() == 3).then_some(())).await;
    assert_eq!(warnings(), 4, "{}", daemon.log());
}

#[tokio::test]
async fn many_reload_requests_are_logged_once_and_no_change_is_missed() {
    let (api, daemon) = start(world(), &["a.example"], "enable_lifecycle = true").await;
    let good = config(&api, &["a.example"], "enable_lifecycle = true\ntelemetry_path = \"/other\"", "");
    let before = daemon.log().lines().count();
    let lines = |words: &str| daemon.log().lines().skip(before).filter(|line| line.contains(words)).count();
    for (configuration, status) in [(good.clone(), 200), (format!("{good}\nnonsense = 1\n"), 500), (good, 200)] {
        daemon.configure(&configuration);
        for _ in 0..20 {
            assert_eq!(daemon.post("/-/reload").await.0, status);
        }
    }
    until("the last change in the log", async || (lines("was read again and is in use") == 2).then_some(())).await;
    for (words, expected) in
        [("Reading the configuration", 1), ("so the one before it stays in use", 1), ("requires a restart", 1)]
    {
        assert_eq!(lines(words), expected, "{words} in {}", daemon.log());
    }
    // The operator of the machine is always heard.
    daemon.signal("HUP");
    daemon.until_logged(&["Reading the configuration", "by=signal", "not_logged_before=59"]).await;
    until("its end in the log", async || (lines("was read again and is in use") == 3).then_some(())).await;
}

#[tokio::test]
async fn a_page_of_another_site_cannot_trigger_a_reload() {
    let (_api, daemon) = start(world(), &["a.example"], "enable_lifecycle = true").await;
    let own = format!("origin: http://{}", daemon.address());
    for (marks, expected) in [
        (&[][..], 200),
        (&["sec-fetch-site: same-origin"], 200),
        (&["sec-fetch-site: none"], 200),
        (&["Sec-Fetch-Site: same-origin", &own], 200),
        (&[&own], 200),
        (&["sec-fetch-site: cross-site"], 403),
        (&["sec-fetch-site: same-site", &own], 403),
        (&["origin: null"], 403),
        (&["origin: http://evil.example"], 403),
        (&["origin: http://127.0.0.1"], 403),
        (&["sec-fetch-site: same-origin", "sec-fetch-site: cross-site"], 403),
    ] {
        let mut stream = tokio::net::TcpStream::connect(daemon.address()).await.unwrap();
        let marks: String = marks.iter().map(|mark| format!("{mark}\r\n")).collect();
        let request =
            format!("POST /-/reload HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{marks}\r\n", daemon.address());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.split(' ').nth(1), Some(&*expected.to_string()), "{marks} {answer}");
        if expected == 403 {
            assert!(answer.ends_with("\r\n\r\nA page of another site may not ask for a reload.\n"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_configuration_must_be_a_regular_file() {
    let (_api, mut daemon) = start(world(), &["a.example"], "enable_lifecycle = true").await;
    daemon.replace_configuration_by_a_pipe();
    let (status, text) = daemon.post("/-/reload").await;
    assert_eq!(status, 500);
    assert!(text.contains("it is not a regular file"), "{text}");
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
}

/// The daemon within this process: its files cannot hang at will, and what reads them can.
#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_reload_does_not_block_shutdown_and_its_client_gets_an_error() {
    let api = SimulatedApi::start(world()).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let text = config(&api, &["a.example"], "enable_lifecycle = true", "");
    let environment = move |name: &str| (name == "CLOUDFLARE_API_TOKEN").then(|| token.clone());
    let parsed = move || Config::parse(&text, Path::new("config.toml"), &environment);
    let first = parsed().unwrap();
    let (hanging, mut hangs) = mpsc::unbounded_channel();
    let (_go_on, waits) = std::sync::mpsc::channel::<()>();
    let waits = Mutex::new(waits);
    let load = Arc::new(move || {
        hanging.send(()).unwrap();
        // Until this test is over.
        let _ = waits.lock().unwrap().recv();
        parsed()
    });
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/-/reload", socket.local_addr().unwrap());
    let (stop, stopped) = watch::channel(false);
    let (_reload, asked) = mpsc::unbounded_channel();
    let log_lines_dropped = prometheus::IntCounter::new("log_lines_dropped", "of a test").unwrap();
    let controls = Controls { stop: stopped, reload: asked, load, sockets: vec![socket], log_lines_dropped };
    let running = tokio::spawn(run(first, now, None, controls));
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let ask = || tokio::spawn(client.post(&url).send());
    let under_way = ask();
    hangs.recv().await.unwrap();
    let waits_for_its_turn = ask();
    sleep(Duration::from_millis(200)).await;
    stop.send_replace(true);
    for answer in [under_way, waits_for_its_turn] {
        let answer = answer.await.unwrap().unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.text().await.unwrap()),
            (503, "The program is about to end.\n".into())
        );
    }
    running.await.unwrap().unwrap();
}

#[expect(clippy::disallowed_methods, reason = "as main does")]
fn now() -> chrono::DateTime<chrono::Utc> {
    chrono::Utc::now()
}

#[tokio::test]
async fn a_new_credential_is_used_at_once_without_a_second_budget() {
    let (api, daemon) = start(world(), &["a.example"], "enable_lifecycle = true").await;
    api.change(|world| world.credentials = vec![AcceptedCredential::Token("simulated-token-of-another-kind".into())]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "simulated-token-of-another-kind").unwrap();
    let credentials = format!("requests_per_5m = 2\n[credentials.default]\napi_token_file = {:?}", file.path());
    daemon.configure(&config(&api, &["a.example", "b.example", "c.example"], "enable_lifecycle = true", &credentials));
    assert_eq!(daemon.post("/-/reload").await.0, 200);
    // Of a budget of two, the first listing has spent one.
    until("a listing of a new zone", async || {
        let metrics = Metrics::of(&daemon).await;
        (metrics.up("b.example") == Some(1.0) || metrics.up("c.example") == Some(1.0)).then_some(())
    })
    .await;
    sleep(Duration::from_secs(2)).await;
    let metrics = Metrics::of(&daemon).await;
    let tried = ["b.example", "c.example"].iter().filter(|zone| metrics.up(zone).is_some()).count();
    assert_eq!(tried, 1);
    assert_eq!(api.requests().len(), 2);
}

#[tokio::test]
async fn polls_that_wait_for_the_budget_use_the_new_secret() {
    let names: Vec<_> = (0..8).map(|zone| format!("{zone}.example")).collect();
    let api = SimulatedApi::start(World::of(names.iter().map(|name| SimulatedZone::of_size(name, 3)))).await.unwrap();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let token = api.change(|world| world.token().to_owned());
    let lifecycle = "enable_lifecycle = true";
    // Six of the eight polls wait.
    let file = config(&api, &names, lifecycle, "requests_per_5m = 2");
    let daemon = Daemon::start(&file, &[], &[("CLOUDFLARE_API_TOKEN", &token)]);
    until("two polls", async || {
        (Metrics::of(&daemon).await.all("cloudflare_certificates_up", &[]).count() == 2).then_some(())
    })
    .await;
    api.change(|world| world.credentials = vec![AcceptedCredential::Token("simulated-token-of-another-kind".into())]);
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "simulated-token-of-another-kind").unwrap();
    let more = format!("[credentials.default]\napi_token_file = {:?}", secret.path());
    daemon.configure(&config(&api, &names, lifecycle, &more));
    assert_eq!(daemon.post("/-/reload").await.0, 200);
    daemon.ready().await;
    let metrics = Metrics::of(&daemon).await;
    for name in names {
        assert_eq!(metrics.up(name), Some(1.0), "{name}: {}", daemon.log());
    }
    assert_eq!(api.requests().iter().filter(|request| request.path.contains("client_certificates")).count(), 8);
}

#[tokio::test]
async fn a_second_name_for_the_same_secret_shares_its_budget() {
    let (api, daemon) = start(world(), &["a.example"], "enable_lifecycle = true").await;
    let more = "requests_per_5m = 1\n[credentials.renamed]\napi_token_env = \"CLOUDFLARE_API_TOKEN\"";
    let file = config(&api, &["a.example", "b.example"], "enable_lifecycle = true", more);
    daemon.configure(&file.replace("[[zones]]", "[[zones]]\ncredentials = \"renamed\""));
    let (status, text) = daemon.post("/-/reload").await;
    assert_eq!(status, 200, "{text}");
    sleep(Duration::from_secs(2)).await;
    let asked = api.requests().iter().filter(|request| request.path.contains("client_certificates")).count();
    assert_eq!(asked, 1);
    let metrics = Metrics::of(&daemon).await;
    let throttled = |name| metrics.get("cloudflare_api_throttled_seconds_total", &[("credentials", name)]);
    assert_eq!(throttled("default"), None);
    assert!(throttled("renamed").is_some());
}

/// A daemon whose token is in a file, and answers that take five seconds, in which it finds out that the file changed.
async fn start_slowly(world: World) -> (SimulatedApi, Daemon, tempfile::NamedTempFile) {
    let api = SimulatedApi::start(World { latency: Duration::from_secs(5), ..world }).await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "simulated-token-of-before").unwrap();
    let credentials = format!("[credentials.default]\napi_token_file = {:?}", file.path());
    let daemon = Daemon::start(&config(&api, &["a.example", "b.example", "c.example"], "", &credentials), &[], &[]);
    (api, daemon, file)
}

#[tokio::test]
async fn a_refusal_of_the_previous_secret_does_not_count_against_the_new_one() {
    let credentials = vec![AcceptedCredential::Token("simulated-token-from-now-on".into())];
    let (api, daemon, file) = start_slowly(World { credentials, ..world() }).await;
    until("three requests", async || (api.requests().len() == 3).then_some(())).await;
    std::fs::write(file.path(), "simulated-token-from-now-on").unwrap();
    daemon.ready().await;
    let metrics = Metrics::of(&daemon).await;
    assert_eq!(
        ["a.example", "b.example", "c.example"].map(|zone| metrics.up(zone)),
        [Some(1.0); 3],
        "{}",
        daemon.log()
    );
    assert!(!daemon.log().contains("refuses"), "{}", daemon.log());
}

#[tokio::test]
async fn a_response_about_the_previous_token_is_not_shown() {
    let token = |token: &str| AcceptedCredential::Token(token.into());
    let credentials = vec![token("simulated-token-of-before"), token("simulated-token-from-now-on")];
    let tokens_expire = Some("2033-02-20T23:18:00Z".into());
    let (api, daemon, file) = start_slowly(World { credentials, tokens_expire, ..world() }).await;
    let is_asked = |request: &RecordedRequest| request.path.ends_with("/tokens/verify");
    until("a question about the token", async || api.requests().iter().any(is_asked).then_some(())).await;
    std::fs::write(file.path(), "simulated-token-from-now-on").unwrap();
    api.change(|world| world.tokens_expire = Some("2034-02-20T23:18:00Z".into()));
    let expires = until("the expiry of the token", async || {
        Metrics::of(&daemon).await.get("cloudflare_api_token_expires_timestamp_seconds", &[("credentials", "default")])
    })
    .await;
    assert_eq!(expires, 2_024_090_280.0, "{}", daemon.log());
}

#[tokio::test]
async fn the_expiry_of_user_and_account_tokens_is_shown() {
    let mut daemons = Vec::new();
    for of_account in [false, true] {
        let world =
            World { tokens_expire: Some("2033-02-20T23:18:00Z".into()), tokens_of_account: of_account, ..world() };
        daemons.push(start(world, &["a.example"], "").await);
    }
    for (api, daemon) in &daemons {
        let expires = until("the expiry of the token", async || {
            Metrics::of(daemon)
                .await
                .get("cloudflare_api_token_expires_timestamp_seconds", &[("credentials", "default")])
        })
        .await;
        assert_eq!(expires, 1_992_554_280.0);
        assert!(!daemon.log().contains("level=warn"), "{}", daemon.log());
        assert!(api.requests().len() <= 4);
    }
}
