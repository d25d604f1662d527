//! What survives when the daemon ends, in whatever way, and another one is started in its place.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use cloudflare_sim::{Change, Fault, SimulatedApi, SimulatedZone, World};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::support::{Daemon, command, config, has_program, is_there, metrics::Metrics, until};

/// A simulated API, and daemons that come one after the other.
struct Stage {
    api: SimulatedApi,
    token: String,
    state: TempDir,
    /// Added to `[api]` and after it.
    more: String,
}

impl Stage {
    async fn new(world: World, more: &str) -> Self {
        let api = SimulatedApi::start(world).await.unwrap();
        let token = api.change(|world| world.token().to_owned());
        let state = tempfile::tempdir().unwrap();
        let more = format!("{more}\n[state]\ndirectory = {:?}\n", state.path());
        Self { api, token, state, more }
    }

    fn start(&self) -> Daemon {
        self.start_with(&config(&self.api, &self.more))
    }

    fn start_with(&self, text: &str) -> Daemon {
        Daemon::start(text, &[], &[("CLOUDFLARE_API_TOKEN", &self.token)])
    }

    /// Where a zone is kept.
    fn file(&self, zone: usize) -> std::path::PathBuf {
        let id = self.api.change(|world| world.zones[zone].id.clone());
        self.state.path().join(format!("zone-client-{id}.state"))
    }

    fn requests(&self) -> usize {
        self.api.requests().len()
    }
}

fn zones(names: &[&str], size: usize) -> World {
    World::of(names.iter().map(|name| SimulatedZone::of_size(name, size)))
}

const LAST_SUCCESS: &str = "cloudflare_certificates_last_success_timestamp_seconds";
const WRITE_FAILURES: &str = "cloudflare_cert_exporter_state_write_failures_total";

#[tokio::test]
async fn a_restart_shows_the_last_good_listings_at_once_without_requests() {
    let names = ["a.example", "b.example", "c.example"];
    let stage = Stage::new(zones(&names, 60), "").await;
    let mut daemon = stage.start();
    daemon.ready().await;
    let before = Metrics::of(&daemon).await;
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
    let asked = stage.requests();
    // So that an age differs from none.
    sleep(Duration::from_millis(1100)).await;
    let daemon = stage.start();
    assert_eq!(daemon.get("/-/ready").await.0, 200, "ready does not wait for Cloudflare");
    let after = Metrics::of(&daemon).await;
    for name in names {
        let zone = [("zone", name)];
        assert_eq!(after.listing(name), before.listing(name));
        assert!(after.listing(name).len() > 60 * 4);
        assert_eq!(after.get(LAST_SUCCESS, &zone), before.get(LAST_SUCCESS, &zone));
        assert_eq!(after.up(name), None, "it has not been polled by this process");
        assert_eq!(after.polls(name), 0.0, "it has not been polled by this process");
    }
    sleep(Duration::from_secs(2)).await;
    assert_eq!(stage.requests(), asked, "as if it had never stopped: nothing is due yet");
    assert!(daemon.log().contains("restored=3"), "{}", daemon.log());
}

#[tokio::test]
async fn a_restart_keeps_the_schedule_and_the_names_of_zones() {
    let stage = Stage::new(zones(&["named-by-the-api.example"], 1), "[poll]\ninterval = \"10s\"").await;
    let text = config(&stage.api, &stage.more).replace("name = \"named-by-the-api.example\"\n", "");
    let mut daemon = stage.start_with(&text);
    // The first poll, and the second one at its place in the interval.
    let polls =
        |metrics: Metrics| metrics.get("cloudflare_certificates_polls_total", &[("zone", "named-by-the-api.example")]);
    until("two polls", async || (polls(Metrics::of(&daemon).await) >= Some(2.0)).then_some(())).await;
    daemon.signal("TERM");
    daemon.wait();
    let asked = stage.requests();
    let daemon = stage.start_with(&text);
    assert_eq!(polls(Metrics::of(&daemon).await), Some(0.0));
    assert_eq!(stage.requests(), asked);
    until("a poll in its turn", async || (stage.requests() > asked).then_some(())).await;
    let asks_for_name = |path: &str| path.contains("/zones/") && !path.ends_with("client_certificates");
    let names = stage.api.requests().iter().filter(|request| asks_for_name(&request.path)).count();
    assert_eq!(names, 1);
}

#[tokio::test]
async fn restarts_do_not_reset_the_request_budget() {
    const BUDGET: usize = 40;
    const CONCURRENCY: usize = 3;
    const KILLS: usize = 5;
    let names: Vec<_> = (0..2 * BUDGET).map(|n| format!("{n}.example")).collect();
    let world = World::of(names.iter().map(|name| SimulatedZone::of_size(name, 1)));
    let settings = format!("requests_per_5m = {BUDGET}\n[poll]\nconcurrency = {CONCURRENCY}\ninterval = \"1s\"");
    let stage = Stage::new(world, &settings).await;
    for _ in 0..KILLS {
        let mut daemon = stage.start();
        // However far the budget is spent when it is killed, but not before anything is.
        until("a request", async || (stage.requests() > 0).then_some(())).await;
        sleep(Duration::from_millis(fastrand::u64(0..200))).await;
        daemon.signal("KILL");
        daemon.wait();
    }
    let _daemon = stage.start();
    // Each kill can lose what was on record and not yet sent.
    let sent_at_least = BUDGET - KILLS * CONCURRENCY;
    until("the budget being spent", async || (stage.requests() >= sent_at_least).then_some(())).await;
    let mut sent = 0;
    until("no more requests", async || {
        let before = std::mem::replace(&mut sent, stage.requests());
        sleep(Duration::from_secs(2)).await;
        (sent == before).then_some(())
    })
    .await;
    assert!(sent <= BUDGET, "{sent} requests of all processes together");
}

#[tokio::test]
async fn a_rate_limit_block_survives_a_restart() {
    let mut world = zones(&["a.example", "b.example"], 1);
    world.zones[0].fault = Some(Fault::rate_limited("300"));
    let stage = Stage::new(world, "[poll]\nconcurrency = 1\ninterval = \"1s\"").await;
    let mut daemon = stage.start();
    until("a 429", async || (Metrics::of(&daemon).await.reasons("a.example") == ["rate_limited"]).then_some(())).await;
    daemon.signal("KILL");
    daemon.wait();
    let asked = stage.requests();
    let daemon = stage.start();
    daemon.ready().await;
    let metrics = Metrics::of(&daemon).await;
    for name in ["a.example", "b.example"] {
        assert_eq!(metrics.reasons(name), ["rate_limited"], "not asked, since the block is not over");
    }
    sleep(Duration::from_secs(2)).await;
    assert_eq!(stage.requests(), asked);
}

#[tokio::test]
async fn a_damaged_state_file_affects_only_its_own_zone() {
    let names = ["torn.example", "newer.example", "foreign.example", "whole.example"];
    let stage = Stage::new(zones(&names, 1), "").await;
    let mut daemon = stage.start();
    daemon.ready().await;
    daemon.signal("TERM");
    daemon.wait();
    let good = fs::read_to_string(stage.file(0)).unwrap();
    fs::write(stage.file(0), &good[..good.len() / 2]).unwrap();
    fs::write(stage.file(1), good.replace("format 1", "format 2")).unwrap();
    fs::write(stage.file(2), "not a state file").unwrap();
    let asked = stage.requests();
    let daemon = stage.start();
    daemon.ready().await;
    let metrics = Metrics::of(&daemon).await;
    for (name, polls) in names.into_iter().zip([1.0, 1.0, 1.0, 0.0]) {
        assert_eq!(metrics.counts(name)[0], Some(1.0), "{name}");
        assert_eq!(metrics.polls(name), polls, "{name}");
    }
    assert_eq!(stage.requests(), asked + 3);
    let log = daemon.log();
    for (zone, word) in ["it is damaged", "format 2", "it is damaged"].into_iter().enumerate() {
        let file = stage.file(zone).display().to_string();
        let line = log.lines().find(|line| line.contains(&file) && line.contains(word));
        assert!(line.is_some_and(|line| line.contains("level=warn") && line.contains(".unusable")), "{word}: {log}");
        assert!(
            stage.file(zone).exists() && Path::new(&format!("{file}.unusable")).exists(),
            "kept aside and replaced"
        );
    }
}

#[tokio::test]
async fn the_state_of_a_removed_zone_is_deleted() {
    let stage = Stage::new(zones(&["stays.example", "goes.example"], 1), "").await;
    let mut daemon = stage.start();
    daemon.ready().await;
    daemon.signal("TERM");
    daemon.wait();
    let (stays, goes) = (stage.file(0), stage.file(1));
    assert!(stays.exists() && goes.exists());
    stage.api.change(|world| world.zones.truncate(1));
    stage.start().ready().await;
    assert!(stays.exists() && !goes.exists());
}

#[tokio::test]
async fn a_second_process_on_the_same_directory_does_not_start() {
    let stage = Stage::new(zones(&["a.example"], 1), "").await;
    let first = stage.start();
    let text = config(&stage.api, &stage.more);
    let second = crate::support::run(&text, &[], &[("CLOUDFLARE_API_TOKEN", &stage.token)]);
    assert_eq!(second.code, Some(1), "{}", second.stderr);
    let pid = format!("in use by another process (pid {})", first.pid());
    assert!(second.stderr.contains(&pid) && second.stderr.contains("[state] directory"), "{}", second.stderr);
    assert!(!second.stderr.contains("Listening"), "{}", second.stderr);
}

#[tokio::test]
async fn a_disk_that_is_full_fails_no_poll() {
    let stage = Stage::new(zones(&["a.example"], 1), "[poll]\ninterval = \"1s\"").await;
    let daemon = stage.start();
    daemon.ready().await;
    assert_eq!(Metrics::of(&daemon).await.get(WRITE_FAILURES, &[]), Some(0.0));
    // What the daemon writes to is full from now on: each failed write takes the link away with it.
    let full = tokio::spawn({
        let temporary = format!("{}.tmp", stage.file(0).display());
        async move {
            loop {
                let _ = symlink("/dev/full", &temporary);
                sleep(Duration::from_millis(5)).await;
            }
        }
    });
    let metrics = until("three failed writes", async || {
        let metrics = Metrics::of(&daemon).await;
        (metrics.get(WRITE_FAILURES, &[]) >= Some(3.0)).then_some(metrics)
    })
    .await;
    metrics.assert_polled("a.example");
    full.abort();
    until("a write that succeeds", async || daemon.log().contains("State is written again").then_some(())).await;
    let log = daemon.log();
    // Once, but for a write that came between two links.
    assert!(log.matches("State cannot be written").count() <= 2, "{log}");
    assert!(log.contains("No space left on device"), "{log}");
}

#[tokio::test]
async fn a_huge_foreign_file_is_recognised_by_its_ends() {
    let names = ["foreign.example", "torn.example", "good.example"];
    let stage = Stage::new(zones(&names, 1), "").await;
    let mut daemon = stage.start();
    daemon.ready().await;
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
    fs::write(stage.file(0), "").unwrap();
    for zone in [0, 1] {
        let file = fs::OpenOptions::new().write(true).open(stage.file(zone)).unwrap();
        // It takes no room on the disk.
        file.set_len(1 << 30).unwrap();
    }
    let daemon = stage.start();
    daemon.ready().await;
    for (zone, why) in [(0, "it is damaged"), (1, "it is damaged")] {
        daemon.until_logged(&["is kept aside", why, stage.file(zone).to_str().unwrap()]).await;
    }
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    assert!(peak < 512 * 1024, "{peak} kB");
    assert!(daemon.log().contains("restored=1"), "{}", daemon.log());
}

#[tokio::test]
async fn a_state_directory_that_others_can_write_to_causes_a_warning() {
    let stage = Stage::new(zones(&["a.example"], 1), "").await;
    for (mode, remedy) in [
        (0o700, None),
        (0o755, None),
        (0o770, Some("remedy=\"chmod g-w\"")),
        (0o1703, Some("remedy=\"chmod o-w\"")),
        (0o777, Some("remedy=\"chmod go-w\"")),
    ] {
        fs::set_permissions(stage.state.path(), fs::Permissions::from_mode(mode)).unwrap();
        let daemon = stage.start();
        daemon.ready().await;
        let log = daemon.log();
        let warning = log.lines().find(|line| line.contains("Others can write to the state directory"));
        assert_eq!(warning.is_some(), remedy.is_some(), "{mode:o}: {log}");
        if let (Some(warning), Some(remedy)) = (warning, remedy) {
            assert!(warning.contains(remedy) && warning.contains(&format!("mode={mode:04o}")), "{warning}");
        }
    }
}

#[tokio::test]
async fn a_file_system_without_locks_is_reported_with_a_remedy() {
    if !is_there("strace", "strace", has_program("strace")) {
        return;
    }
    let stage = Stage::new(zones(&["a.example"], 1), "").await;
    for error in ["ENOLCK", "EOPNOTSUPP", "ENOSYS"] {
        let directory = tempfile::tempdir().unwrap();
        let text = config(&stage.api, &stage.more);
        let plain = command(directory.path(), &text, &[], &[("CLOUDFLARE_API_TOKEN", &stage.token)]);
        // The tracer is a grandchild, so that the daemon is what this starts and ends.
        let mut traced = std::process::Command::new("strace");
        traced.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=flock"]);
        traced.arg("-e").arg(format!("inject=flock:error={error}")).arg(plain.get_program()).args(plain.get_args());
        traced.env("CLOUDFLARE_API_TOKEN", &stage.token);
        let daemon = Daemon::wait_until_it_listens(traced, directory);
        daemon.ready().await;
        let parts = ["State cannot be written", "cannot be locked", "put [state] directory on a local disk"];
        daemon.until_logged(&parts).await;
        let metrics = Metrics::of(&daemon).await;
        assert!(metrics.up("a.example") == Some(1.0) && metrics.get(WRITE_FAILURES, &[]) > Some(0.0), "{error}");
    }
}

/// How often the daemon is killed: 200 times where everything is tested, fewer in the everyday loop.
fn kills() -> usize {
    if crate::support::tests_everything() { 200 } else { 20 }
}

/// Each listing is all of one generation, which stands in every certificate: what is torn has two.
#[tokio::test]
async fn the_last_good_listing_of_every_zone_survives_a_kill_at_any_moment() {
    const ZONES: usize = 10;
    const SIZE: usize = 50;
    let names: Vec<_> = (0..ZONES).map(|n| format!("{n}.example")).collect();
    let mut world = World::of(names.iter().map(|name| SimulatedZone::of_size(name, SIZE)));
    world.quota.requests = 1_000_000;
    for zone in &mut world.zones {
        zone.fault = Some(Fault::Change(Change::Sets("organization", || {
            static GENERATION: AtomicU64 = AtomicU64::new(1);
            GENERATION.fetch_add(1, Ordering::Relaxed).to_string()
        })));
    }
    let more = "requests_per_5m = 1000000\n[poll]\nconcurrency = 4\ninterval = \"1s\"";
    let stage = Stage::new(world, more).await;
    // The newest generation of each zone that anybody saw.
    let mut seen = HashMap::<String, u64>::new();
    let (mut restored, started) = (0, Instant::now());
    for kill in 0..kills() {
        let mut daemon = stage.start();
        let metrics = Metrics::of(&daemon).await;
        let look = |metrics: &Metrics, seen: &mut HashMap<String, u64>| {
            for name in &names {
                let infos: Vec<_> = metrics.all("cloudflare_certificate_info", &[("zone", name)]).collect();
                if infos.is_empty() {
                    assert!(!seen.contains_key(name), "kill {kill}: {name} had a listing and has none");
                    continue;
                }
                let mut generations: Vec<u64> = infos
                    .iter()
                    .map(|(series, _)| series.split("organization=\"").nth(1).unwrap().split('"').next().unwrap())
                    .map(|generation| generation.parse().unwrap())
                    .collect();
                assert_eq!(generations.len(), SIZE, "kill {kill}: {name}");
                generations.dedup();
                assert_eq!(generations.len(), 1, "kill {kill}: {name} is torn: {generations:?}");
                let before = seen.insert(name.clone(), generations[0]);
                assert!(
                    before <= Some(generations[0]),
                    "kill {kill}: {name} went back from {before:?} to {generations:?}"
                );
            }
        };
        restored +=
            usize::from(names.iter().all(|name| metrics.polls(name) == 0.0 && !metrics.listing(name).is_empty()));
        look(&metrics, &mut seen);
        sleep(Duration::from_millis(fastrand::u64(0..300))).await;
        if kill % 2 == 0 {
            look(&Metrics::of(&daemon).await, &mut seen);
        }
        daemon.signal("KILL");
        daemon.wait();
        assert!(!daemon.log().contains("cannot be used"), "kill {kill}: {}", daemon.log());
    }
    let generations = seen.values().max().copied().unwrap_or_default();
    println!(
        "{} kills in {:?}: {restored} restarts showed all zones before any poll, {generations} listings",
        kills(),
        started.elapsed()
    );
    assert_eq!(seen.len(), ZONES);
    assert!(generations > kills() as u64, "it was killed while it was busy");
}
