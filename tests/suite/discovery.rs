//! The discovery of zones from outside: a token alone, zones that come and go, failures, restarts and shards.

use std::{collections::HashSet, path::Path, time::Duration};

use cloudflare_sim::{AcceptedCredential, Canned, Fault, Quota, SimulatedApi, SimulatedZone, World};
use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::support::{Daemon, command, metrics::Metrics, run, tests_everything, until};

const STEADY: &str = "[discovery]\ninterval = \"1s\"\n";

fn world(zones: usize) -> World {
    let quota = Quota { requests: 1_000_000, ..Quota::default() };
    World { quota, ..World::of((0..zones).map(|number| SimulatedZone::of_size(&name(number), 1))) }
}

fn name(number: usize) -> String {
    format!("zone-{number:03}.example")
}

/// What a file says that lists no zones.
fn config(api: &SimulatedApi, more: &str) -> String {
    let server = "[server]\nlisten_addresses = [\"127.0.0.1:0\"]\n";
    format!("{server}[api]\nbase_url = {:?}\nrequests_per_5m = 100000\n{more}\n", api.base_url())
}

async fn start(world: World, more: &str) -> (SimulatedApi, Daemon) {
    let api = SimulatedApi::start(world).await.unwrap();
    let daemon = daemon(&api, more);
    (api, daemon)
}

fn daemon(api: &SimulatedApi, more: &str) -> Daemon {
    let token = api.change(|world| world.token().to_owned());
    Daemon::start(&config(api, more), &[], &[("CLOUDFLARE_API_TOKEN", &token)])
}

/// Requests for the list of zones so far.
fn discoveries(api: &SimulatedApi) -> usize {
    api.requests().iter().filter(|request| request.path.ends_with("/zones")).count()
}

/// The names of the zones that are watched.
async fn watched(daemon: &Daemon) -> Vec<String> {
    let status: Value = serde_json::from_str(&daemon.get("/-/status.json").await.1).unwrap();
    let zones =
        status["listings"].as_array().unwrap().iter().map(|listing| listing["zone"].as_str().unwrap().to_owned());
    let mut zones: Vec<_> = zones.collect();
    zones.sort_unstable();
    zones
}

async fn until_watched(daemon: &Daemon, expected: &[String]) {
    until(&format!("{expected:?}"), async || (watched(daemon).await == expected).then_some(())).await;
}

/// How many discoveries were good and how many failed.
async fn count(daemon: &Daemon) -> (f64, f64) {
    let metrics = Metrics::of(daemon).await;
    let failures = metrics.all("cloudflare_discovery_failures_total", &[]).map(|(_, value)| value).sum();
    let requests = metrics.all("cloudflare_api_requests_total", &[("endpoint", "zones")]).map(|(_, value)| value).sum();
    (requests, failures)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_alone_is_enough() {
    let api = SimulatedApi::start(world(130)).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let base_url = api.base_url();
    let directory = tempfile::tempdir().unwrap();
    // A file that is named has to be there; this one is as good as none.
    let environment = [("CLOUDFLARE_API_TOKEN", &*token), ("CLOUDFLARE_BASE_URL", &*base_url)];
    let command = command(directory.path(), "", &["--web.listen-address", "127.0.0.1:0"], &environment);
    let daemon = Daemon::wait_until_it_listens(command, directory);
    daemon.ready().await;
    let expected: Vec<_> = (0..130).map(name).collect();
    assert_eq!(watched(&daemon).await, expected);
    let metrics = Metrics::of(&daemon).await;
    let zones =
        |watched| metrics.get("cloudflare_discovery_zones", &[("credentials", "default"), ("watched", watched)]);
    assert_eq!((zones("true"), zones("false")), (Some(130.0), Some(0.0)));
    assert_eq!(metrics.get("cloudflare_discovery_up", &[("credentials", "default")]), Some(1.0));
    assert_eq!(
        metrics.all("cloudflare_zone_info", &[("status", "active"), ("account", "Simulated account")]).count(),
        130
    );
    // No request is spent on a name.
    let zones = api.requests().iter().filter(|request| !request.path.contains("client_certificates")).count();
    assert_eq!((discoveries(&api), api.requests().len()), (3, 133 + zones - 3));
    assert!(
        !api.requests().iter().any(|request| request.path.ends_with(&api.change(|world| world.zones[0].id.clone())))
    );
    let page = daemon.get("/").await.1;
    assert!(page.contains("Credential default sees 130 zones, of which 130 are watched here; discovered "), "{page}");

    let listed = run("", &["list", "--output", "json"], &environment);
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    assert!(listed.stderr.contains("130 of 130 zones listed with 133 requests"), "{}", listed.stderr);
    let rows: Vec<Value> = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(rows.len(), 130);
    let checked = run("", &["check", "--sweep", "--zone", "zone-007.example"], &environment);
    assert!(checked.stdout.starts_with("CERTIFICATES "), "{}", checked.stdout);
}

#[tokio::test]
async fn zones_come_and_go_and_a_failure_changes_nothing() {
    let (api, daemon) = start(world(3), STEADY).await;
    daemon.ready().await;
    let names = |numbers: &[usize]| numbers.iter().copied().map(name).collect::<Vec<_>>();
    until_watched(&daemon, &names(&[0, 1, 2])).await;

    api.change(|world| world.zones.push(SimulatedZone::of_size(&name(7), 1)));
    until_watched(&daemon, &names(&[0, 1, 2, 7])).await;
    let is_listed = async || Metrics::of(&daemon).await.get("cloudflare_certificates_up", &[("zone", &name(7))]);
    until("a listing of the new zone", is_listed).await;

    // Whatever goes wrong, every zone stays.
    api.change(|world| world.zones_fault = Some(Fault::error(500, 0, "internal error")));
    until("a failed discovery", async || (count(&daemon).await.1 >= 1.0).then_some(())).await;
    assert_eq!(watched(&daemon).await, names(&[0, 1, 2, 7]));
    let metrics = Metrics::of(&daemon).await;
    assert_eq!(metrics.get("cloudflare_discovery_up", &[]), Some(0.0));
    daemon.until_logged(&["level=warn", "Zones cannot be discovered; those of the last good discovery stay."]).await;
    // A reload keeps what was discovered, and names too.
    daemon.signal("HUP");
    daemon.until_logged(&["The configuration was read again"]).await;
    assert_eq!(watched(&daemon).await, names(&[0, 1, 2, 7]));
    let id = api.change(|world| world.zones[1].id.clone());
    daemon.configure(&config(&api, &format!("[[zones]]\nid = {id:?}\n")));
    daemon.signal("HUP");
    until_watched(&daemon, &names(&[1])).await;

    daemon.configure(&config(&api, STEADY));
    daemon.signal("HUP");
    api.change(|world| {
        world.zones_fault = None;
        world.zones.retain(|zone| zone.name != name(1));
    });
    until_watched(&daemon, &names(&[0, 2, 7])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_says_what_it_could_not_find_and_lists_the_rest() {
    let api = SimulatedApi::start(world(2)).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let credentials = "[credentials.one]\napi_token_env = \"ONE\"\n[credentials.two]\napi_token_env = \"TWO\"\n";
    let text = config(&api, &format!("[discovery]\ncredentials = [\"one\", \"two\"]\n{credentials}"));
    let environment = [("ONE", &*token), ("TWO", "a-token-that-is-not-accepted-any-more")];
    let zones = ["--zone", "ZONE-001.example", "--zone", "unknown.example"];
    let listed = run(&text, &[&["list"][..], &zones].concat(), &environment);
    assert_eq!(listed.code, Some(1), "{}", listed.stderr);
    assert!(listed.stdout.contains("zone-001.example"), "{}", listed.stdout);
    assert!(listed.stderr.contains("The zones of credential two cannot be discovered"), "{}", listed.stderr);
    let judged = run(&text, &["check", "--sweep", "-w", "1", "-c", "1"], &environment);
    assert_eq!(judged.code, Some(3), "{}", judged.stdout);
    assert!(
        judged.stdout.contains(", not fresh: zones of credential two were never discovered: "),
        "{}",
        judged.stdout
    );
    // Asked for once, a kind need not be watched.
    let zone = format!("[[zones]]\nid = {:?}\n", api.change(|world| world.zones[0].id.clone()));
    let one = config(&api, &(zone + "credentials = \"one\"\n" + credentials));
    for (text, listed) in [(&text, "2 of 2 targets listed"), (&one, "1 of 1 targets listed")] {
        let before = api.requests().len();
        let edge = run(text, &["list", "--kind", "edge"], &environment);
        assert!(edge.stderr.contains(listed), "{}", edge.stderr);
        let all = api.requests().split_off(before);
        let paths = || all.iter().map(|request| request.path.as_str());
        assert!(paths().any(|path| path.ends_with("/ssl/certificate_packs")), "{}", edge.stderr);
        assert!(!paths().any(|path| path.ends_with("/client_certificates")), "{}", edge.stderr);
    }
    let wrong = run(&one, &["list", "--kind", "mtls_ca"], &environment);
    assert_eq!(wrong.code, Some(2), "{}", wrong.stderr);
    assert!(
        wrong.stderr.contains("No account is known in which kind mtls_ca could be listed; add [[accounts]] or "),
        "{}",
        wrong.stderr
    );

    // A filter that matches nothing is not good news.
    let nothing = config(&api, "[discovery]\ninclude = [\"*.nowhere\"]\n");
    let environment = [("CLOUDFLARE_API_TOKEN", &*token)];
    let checked = run(&nothing, &["check", "--sweep", "--kind", "client"], &environment);
    assert_eq!(checked.code, Some(3), "{}", checked.stdout);
    assert!(checked.stdout.contains("UNKNOWN - no zones are watched"), "{}", checked.stdout);
}

/// Waits for the state files of so many zones.
async fn until_saved(directory: &Path, zones: usize) {
    until("a file of each zone", async || {
        let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
        let saved = names.filter(|name| name.to_str().unwrap().starts_with("zone-"));
        (saved.count() == zones).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_zone_that_two_discoveries_lack_is_dropped_with_its_state() {
    let state = tempfile::tempdir().unwrap();
    let more = format!("{STEADY}[state]\ndirectory = {:?}\n", state.path());
    let (api, daemon) = start(world(2), &more).await;
    daemon.ready().await;
    until_saved(state.path(), 2).await;
    api.change(|world| drop(world.zones.remove(0)));
    daemon.until_logged(&["level=warn", "The discovery lacks zones", "zone-000.example"]).await;
    until_watched(&daemon, &[name(1)]).await;
    daemon.until_logged(&["level=warn", "Zones are no longer watched", "zone-000.example"]).await;
    until_saved(state.path(), 1).await;
    let metrics = Metrics::of(&daemon).await;
    assert_eq!(metrics.all("cloudflare_certificates_up", &[]).count(), 1);
    assert_eq!(metrics.all("cloudflare_zone_info", &[]).count(), 1);
}

#[tokio::test]
async fn a_restart_while_cloudflare_is_down_shows_every_zone() {
    let state = tempfile::tempdir().unwrap();
    let more = format!("[state]\ndirectory = {:?}\n", state.path());
    let (api, first) = start(world(5), &more).await;
    first.ready().await;
    let expected = watched(&first).await;
    assert_eq!(expected.len(), 5);
    until_saved(state.path(), 5).await;
    drop(first);
    api.change(|world| world.fault = Some(Fault::error(503, 0, "down")));
    let second = daemon(&api, &more);
    second.ready().await;
    assert_eq!(watched(&second).await, expected);
    let metrics = Metrics::of(&second).await;
    assert_eq!(metrics.all("cloudflare_certificate_info", &[]).count(), 5);
    assert!(metrics.get("cloudflare_discovery_last_success_timestamp_seconds", &[]).is_some());
    // It was not due.
    assert_eq!(discoveries(&api), 1);
}

#[tokio::test]
async fn shards_share_the_zones_and_the_budget() {
    let api = SimulatedApi::start(world(40)).await.unwrap();
    let mut all = Vec::new();
    for ordinal in 0..3 {
        let shard = daemon(&api, &format!("[shard]\nordinal = {ordinal}\ntotal = 3\n"));
        shard.ready().await;
        let mine = watched(&shard).await;
        let metrics = Metrics::of(&shard).await;
        let of_program = |name: &str| metrics.get(&format!("cloudflare_cert_exporter_{name}"), &[]);
        assert_eq!((of_program("shard_ordinal"), of_program("total_shards")), (Some(f64::from(ordinal)), Some(3.0)));
        let others = metrics.get("cloudflare_discovery_zones", &[("watched", "false")]).unwrap();
        assert_eq!(mine.len() as f64 + others, 40.0);
        all.extend(mine);
    }
    all.sort_unstable();
    assert_eq!(all, (0..40).map(name).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_zones_of_a_token_are_shown_with_the_reason_why_one_is_not_watched() {
    let mut world = world(3);
    world.zones[2].status = "pending".into();
    let id = world.zones[1].id.clone();
    let api = SimulatedApi::start(world).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let environment = [("CLOUDFLARE_API_TOKEN", &*token)];
    let zones = |more: &str, output: &str| run(&config(&api, more), &["zones", "--output", output], &environment);

    let excluded = zones("[discovery]\nexclude = [\"*-001*\"]\n", "json");
    assert_eq!(excluded.code, Some(0), "{}", excluded.stderr);
    assert!(excluded.stderr.contains("3 zones, 2 of them watched, found with 1 request."), "{}", excluded.stderr);
    let rows: Vec<Value> = serde_json::from_str(&excluded.stdout).unwrap();
    let of = |number: usize, member: &str| rows[number][member].clone();
    assert_eq!((of(0, "name"), of(0, "watched"), of(0, "reason")), (name(0).into(), true.into(), Value::Null));
    assert_eq!(
        (of(1, "id"), of(1, "watched"), of(1, "reason")),
        (id.clone().into(), false.into(), "excluded by \"*-001*\"".into())
    );
    assert_eq!((of(2, "status"), of(2, "account")), ("pending".into(), "Simulated account".into()));

    let csv = zones(&format!("[[zones]]\nid = {id:?}\n[[zones]]\nid = \"{:032}\"\n", 7), "csv").stdout;
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "name,id,account,account_id,status,credentials,watched,reason");
    assert_eq!(lines.len(), 5, "{csv}");
    assert!(lines[1].contains("in [[zones]], but no credential sees it"), "{csv}");
    assert!(lines[2].ends_with(",false,not in [[zones]]") && lines[3].ends_with(",default,true,"), "{csv}");

    let table = zones("[shard]\nordinal = 0\ntotal = 2\n", "table").stdout;
    assert!(table.trim_start().starts_with("NAME") && table.contains("no: watched by shard 1"), "{table}");

    api.change(|world| {
        world.zones_fault = Some(Fault::error(
            403,
            0,
            "Actor requires permission 'com.cloudflare.api.account.zone.list' to list zones",
        ));
    });
    let refused = zones("", "table");
    assert_eq!(refused.code, Some(1));
    for words in
        ["needs the permission Zone \u{2192} Zone \u{2192} Read", "list the zones in [[zones]]", "discovery.include"]
    {
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
}

/// Whatever goes wrong before or after a good discovery: no zone is lost, and no part of a list passes for the whole.
#[tokio::test(flavor = "multi_thread")]
async fn no_fault_makes_a_list_shorter() {
    let good = (0..60).map(name).collect::<Vec<_>>();
    let faults = [
        ("server error", Fault::error(500, 0, "internal error")),
        ("unauthorized", Fault::error(401, 1000, "Invalid API Token")),
        ("refused", Fault::error(403, 0, "requires permission 'com.cloudflare.api.account.zone.list'")),
        ("null", Fault::Result(Value::Null)),
        ("object", Fault::Result(serde_json::json!({"a": 1}))),
        ("one page for all", Fault::PageIgnored { admitted: true }),
        ("one page for all, not said", Fault::PageIgnored { admitted: false }),
        ("empty from page 2", Fault::EmptyFrom(2)),
        ("total that lies", Fault::Info("total_count", Some(serde_json::json!(70)))),
        ("HTML", Fault::Instead(Canned::new(200, "text/html", "<html>"))),
        ("fails on page 2", Fault::OnPage(2, Box::new(Fault::error(502, 0, "bad gateway")))),
    ];
    let try_fault = async |(what, fault): (&str, Fault)| {
        let api = SimulatedApi::start(World { zones_fault: Some(fault), ..world(60) }).await.unwrap();
        let before = daemon(&api, STEADY);
        until(what, async || (count(&before).await.1 >= 1.0).then_some(())).await;
        assert_eq!(watched(&before).await, Vec::<String>::new(), "{what}");
        assert_eq!(before.get("/-/ready").await.0, 200, "{what}");
        drop(before);

        let fault = api.change(|world| world.zones_fault.take());
        let after = daemon(&api, STEADY);
        until_watched(&after, &good).await;
        api.change(|world| world.zones_fault = fault);
        until(what, async || (count(&after).await.1 >= 1.0).then_some(())).await;
        assert_eq!(watched(&after).await, good, "{what}");
    };
    // Side by side, since each waits for retries most of the time.
    join_all(faults.into_iter().map(try_fault)).await;
}

#[tokio::test]
async fn every_discovery_costs_a_request_for_each_page() {
    let (api, daemon) = start(world(130), STEADY).await;
    daemon.ready().await;
    until("a second discovery", async || (discoveries(&api) >= 6).then_some(())).await;
    let requests = api.requests();
    let pages = requests.iter().filter(|request| request.path.ends_with("/zones"));
    let mut pages: Vec<_> = pages.map(|request| request.parameter("page").unwrap()).take(6).collect();
    // Those after the first are read side by side.
    pages[4..].sort_unstable();
    pages[1..3].sort_unstable();
    assert_eq!(pages, ["1", "2", "3", "1", "2", "3"]);
}

/// One that both see is watched with the first of them; where the order changes, it keeps its listing.
#[tokio::test]
async fn a_zone_that_two_credentials_see_is_watched_once_and_can_move() {
    let api = SimulatedApi::start(world(5)).await.unwrap();
    let token = api.change(|world| {
        world.credentials.push(AcceptedCredential::Token("another-simulated-token".into()));
        world.token().to_owned()
    });
    let text = |order: &str| {
        let credentials = "[credentials.one]\napi_token_env = \"ONE\"\n[credentials.two]\napi_token_env = \"TWO\"\n";
        config(&api, &format!("[discovery]\ncredentials = {order}\n{credentials}"))
    };
    let environment = [("ONE", &*token), ("TWO", "another-simulated-token")];
    let daemon = Daemon::start(&text("[\"one\", \"two\"]"), &[], &environment);
    daemon.ready().await;
    let of = |metrics: &Metrics, credentials: &str| {
        let zones =
            |watched| metrics.get("cloudflare_discovery_zones", &[("credentials", credentials), ("watched", watched)]);
        (zones("true"), zones("false"))
    };
    let settled = async |first: &str, second: &str| {
        until(first, async || {
            let metrics = Metrics::of(&daemon).await;
            let is_first = of(&metrics, first) == (Some(5.0), Some(0.0));
            (is_first && of(&metrics, second) == (Some(0.0), Some(5.0))).then_some(metrics)
        })
        .await
    };
    settled("one", "two").await;
    until("every listing", async || {
        let metrics = Metrics::of(&daemon).await;
        (metrics.all("cloudflare_certificates_up", &[]).count() == 5).then_some(())
    })
    .await;
    let before = Metrics::of(&daemon).await;
    api.change(|world| world.fault = Some(Fault::error(503, 0, "down")));
    daemon.configure(&text("[\"two\", \"one\"]"));
    daemon.signal("HUP");
    let after = settled("two", "one").await;
    for number in 0..5 {
        assert_eq!(after.listing(&name(number)), before.listing(&name(number)));
    }
    assert_eq!(discoveries(&api), 2, "what was discovered stays too");
}

/// A zone appears or vanishes. None comes back, so one that was watched and is still there was never missing.
fn come_or_go(world: &mut World, number: usize) {
    if world.zones.len() > 120 || number % 2 == 1 {
        let gone = fastrand::usize(..world.zones.len());
        drop(world.zones.remove(gone));
    } else {
        // Each is at another place in the order of names.
        let name = format!("zone-{:03}-{number}.example", fastrand::u32(..120));
        world.zones.push(SimulatedZone::of_size(&name, 1));
    }
}

/// The daemon is killed while it reads pages of zones, which come and go at that moment, or about when it saves them.
/// Another one, to which Cloudflare does not answer, still has every zone that anybody saw and that is still there.
#[tokio::test]
async fn no_zone_is_lost_by_a_kill_in_the_middle_of_a_discovery() {
    const PAGES: u32 = 3;
    const PAGE_TAKES: Duration = Duration::from_millis(20);
    let kills = if tests_everything() { 200 } else { 5 };
    let state = tempfile::tempdir().unwrap();
    let more = format!("{STEADY}[state]\ndirectory = {:?}\n", state.path());
    let api = SimulatedApi::start(World { latency: PAGE_TAKES, ..world(115) }).await.unwrap();
    let there = || api.change(|world| world.zones.iter().map(|zone| zone.name.clone()).collect::<HashSet<_>>());
    let mut first = daemon(&api, &more);
    let mut seen = there();
    until("every zone", async || (watched(&first).await.len() == seen.len()).then_some(())).await;
    first.signal("KILL");
    first.wait();
    let (mut interrupted, started) = (0, Instant::now());
    for kill in 0..kills {
        let mut running = daemon(&api, &more);
        let read_before = discoveries(&api);
        let reading = Instant::now();
        while discoveries(&api) == read_before {
            assert!(reading.elapsed() < Duration::from_secs(60), "kill {kill}: no discovery");
            sleep(Duration::from_millis(2)).await;
        }
        api.change(|world| come_or_go(world, kill));
        let pages = PAGES * PAGE_TAKES;
        sleep(if kill % 2 == 1 { pages.mul_f64(fastrand::f64()) } else { pages.mul_f64(1.0 + 3.0 * fastrand::f64()) })
            .await;
        if kill % 2 == 0 {
            seen.extend(watched(&running).await);
        }
        interrupted += usize::from(!(discoveries(&api) - read_before).is_multiple_of(PAGES as usize));
        running.signal("KILL");
        running.wait();
        assert!(!running.log().contains("cannot be used"), "kill {kill}: {}", running.log());

        api.change(|world| world.fault = Some(Fault::error(503, 0, "down")));
        let mut restarted = daemon(&api, &more);
        let restored: HashSet<_> = watched(&restarted).await.into_iter().collect();
        let there = there();
        let lost: Vec<_> = seen.intersection(&there).filter(|name| !restored.contains(*name)).collect();
        assert!(lost.is_empty(), "kill {kill}: {lost:?}: {}", restarted.log());
        restarted.signal("KILL");
        restarted.wait();
        api.change(|world| world.fault = None);
    }
    println!("{kills} kills in {:?}, {interrupted} of them between two pages; {} zones", started.elapsed(), seen.len());
    // A few can all come too late on a busy machine.
    assert!(interrupted > 0 || !tests_everything(), "no kill was in the middle");
    let last = daemon(&api, &more);
    let mut expected: Vec<_> = there().into_iter().collect();
    expected.sort_unstable();
    until_watched(&last, &expected).await;
}
