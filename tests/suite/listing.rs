//! Which listings are believed: some lack what was there before, some grow while they are read, and some are no lists
//! of certificates at all.

use std::{fs, path::Path, time::Duration};

use cloudflare_sim::{Canned, Change, Fault, SimulatedApi, SimulatedZone, World};
use tokio::time::sleep;

use crate::support::{Daemon, config, metrics::Metrics, start, until};

const ZONE: &str = "a.example";

fn vanished(metrics: &Metrics) -> Option<f64> {
    metrics.get("cloudflare_certificates_vanished_total", &[("zone", ZONE)])
}

/// What is in the only file of a zone.
fn saved(directory: &Path) -> Vec<u8> {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let is_of_a_zone =
        |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("zone-client-");
    let files: Vec<_> = files.filter(is_of_a_zone).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    fs::read(file).unwrap()
}

#[tokio::test]
async fn certificates_are_removed_once_two_listings_lack_them() {
    for (left, lost_usable, counts) in [(0, 119.0, [0.0; 2]), (1, 119.0, [0.0, 1.0]), (100, 20.0, [99.0, 1.0])] {
        let mut zone = SimulatedZone::of_size(ZONE, 120);
        zone.certificates[0].set("status", "revoked");
        let api = SimulatedApi::start(World::of([zone])).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let more = format!("[poll]\ninterval = \"4s\"\n[state]\ndirectory = {:?}", directory.path());
        let token = api.change(|world| world.token().to_owned());
        let environment = [("CLOUDFLARE_API_TOKEN", &*token)];
        let daemon = Daemon::start(&config(&api, &more), &[], &environment);
        daemon.ready().await;
        let before = Metrics::of(&daemon).await;
        assert_eq!(vanished(&before), Some(0.0));
        let saved_before = saved(directory.path());
        api.change(|world| world.zones[0].certificates.truncate(left));

        let doubted = until("a listing that is doubted", async || {
            let metrics = Metrics::of(&daemon).await;
            (metrics.up(ZONE) == Some(0.0)).then_some(metrics)
        })
        .await;
        assert_eq!(doubted.failures(ZONE), (1.0, vec!["incomplete"]), "{left}");
        assert_eq!(doubted.listing(ZONE), before.listing(ZONE), "{left}");
        assert!(saved(directory.path()) == saved_before, "{left}");
        let missing = format!("lacks {} of the 120 certificates", 120 - left);
        daemon.until_logged(&["level=warn", "reason=incomplete", &missing, "the next poll"]).await;

        let believed = until("a listing that is believed", async || {
            let metrics = Metrics::of(&daemon).await;
            (metrics.up(ZONE) == Some(1.0)).then_some(metrics)
        })
        .await;
        let [active, .., revoked, _] = believed.counts(ZONE);
        assert_eq!([active, revoked], counts.map(Some), "{left}");
        assert_eq!(vanished(&believed), Some(lost_usable), "{left}");
        assert_eq!(believed.failures(ZONE), (1.0, vec!["incomplete"]), "{left}");
        daemon.until_logged(&["level=warn", "vanished", &format!("vanished={lost_usable}")]).await;
        assert!(saved(directory.path()) != saved_before, "{left}");
    }
}

#[tokio::test]
async fn certificates_missing_once_or_only_after_a_restart_are_kept() {
    let api = SimulatedApi::start(World::of([SimulatedZone::of_size(ZONE, 60)])).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let more = format!("[poll]\ninterval = \"1s\"\n[state]\ndirectory = {:?}", directory.path());
    let token = api.change(|world| world.token().to_owned());
    let environment = [("CLOUDFLARE_API_TOKEN", &*token)];
    let first = Daemon::start(&config(&api, &more), &[], &environment);
    first.ready().await;
    drop(first);
    let all = api.change(|world| std::mem::take(&mut world.zones[0].certificates));
    let daemon = Daemon::start(&config(&api, &more.replace("1s", "4s")), &[], &environment);
    let doubted = until("a listing that is doubted", async || {
        let metrics = Metrics::of(&daemon).await;
        (metrics.failures(ZONE).0 > 0.0).then_some(metrics)
    })
    .await;
    assert_eq!(doubted.reasons(ZONE), ["incomplete"]);
    assert_eq!(doubted.counts(ZONE)[0], Some(60.0));
    api.change(|world| world.zones[0].certificates = all);
    let recovered = until("a good listing", async || {
        let metrics = Metrics::of(&daemon).await;
        (metrics.up(ZONE) == Some(1.0)).then_some(metrics)
    })
    .await;
    assert_eq!(recovered.counts(ZONE)[0], Some(60.0));
    assert_eq!(vanished(&recovered), Some(0.0));
}

#[tokio::test]
async fn a_zone_that_grows_during_a_poll_is_still_listed() {
    let mut world = World::of([SimulatedZone::of_size(ZONE, 500).with_fault(Fault::Change(Change::Grows))]);
    world.quota.requests = 1_000_000;
    let (api, daemon) = start(world, "requests_per_5m = 100000\n[poll]\ninterval = \"1s\"").await;
    daemon.ready().await;
    let (metrics, held) = until("five polls", async || {
        let held = api.change(|world| world.zones[0].certificates.len());
        let metrics = Metrics::of(&daemon).await;
        (metrics.polls(ZONE) >= 5.0).then_some((metrics, held))
    })
    .await;
    assert_eq!(metrics.failures(ZONE), (0.0, vec![]), "{}", daemon.log());
    let shown = metrics.counts(ZONE)[0].unwrap();
    let series = metrics.all("cloudflare_certificate_not_after_timestamp_seconds", &[("zone", ZONE)]).count();
    assert!(series as f64 == shown && shown > 500.0, "{series} of {shown}");
    // Nothing is counted twice, nor rejected for having moved to another page.
    assert!(shown <= held as f64 + 50.0, "{shown} of {held}");
    assert!(metrics.all("cloudflare_certificates_rejected", &[("zone", ZONE)]).all(|(_, count)| count == 0.0));
}

#[tokio::test]
async fn a_small_response_uses_little_memory_whatever_it_contains() {
    const COUNT: usize = 2_700_000;
    let many = |item: &str| vec![item; COUNT].join(",");
    let deep = "{\"error_chain\":[".repeat(400_000) + &"]}".repeat(400_000);
    for (name, body, reason, word) in [
        ("entries", format!(r#"{{"success":true,"result":[{}]}}"#, many("{}")), "too_large", "more than 200 entries"),
        ("numbers", format!(r#"{{"success":true,"result":[{}]}}"#, many("1")), "too_large", "more than 200 entries"),
        ("errors", format!(r#"{{"success":false,"errors":[{}]}}"#, many("{}")), "api_error", "success: false"),
        (
            "chained",
            format!(r#"{{"success":false,"errors":[{{"error_chain":[{}]}}]}}"#, many("{}")),
            "api_error",
            "no message",
        ),
        ("deep", format!(r#"{{"success":false,"errors":[{deep}]}}"#), "api_error", "no message"),
    ] {
        assert!(body.len() < 8 << 20, "{name}: {}", body.len());
        let fault = Fault::Instead(Canned::new(200, "application/json", body));
        let zones = ["1", "2"].map(|zone| SimulatedZone::new(zone).with_fault(fault.clone()));
        let (_api, daemon) = start(World::of(zones), "").await;
        daemon.ready().await;
        let metrics = Metrics::of(&daemon).await;
        for zone in ["1", "2"] {
            assert_eq!(metrics.up(zone), Some(0.0), "{name}");
            assert_eq!(metrics.reasons(zone), [reason], "{name}");
        }
        daemon.until_logged(&[&format!("reason={reason}"), word]).await;
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let most: usize = most.trim().trim_end_matches(" kB").parse().unwrap();
        println!("{name}: two answers at once, {most} kB of memory at most");
        assert!(most < 102_400, "{name}: {most} kB");
        sleep(Duration::from_millis(10)).await;
    }
}
