//! The daemon while its wall clock is set, by libfaketime: its monotonic clock goes on as it does
//! when a real clock is set, or when a machine wakes up.

use std::{fs, path::PathBuf};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use cloudflare_sim::{SimulatedApi, SimulatedCertificate, SimulatedZone, World};
use tokio::time::Instant;

use crate::support::{Daemon, config, is_there, metrics::Metrics, run, until};

fn library() -> Option<PathBuf> {
    let directories = fs::read_dir("/usr/lib").ok()?.flatten();
    directories.map(|directory| directory.path().join("faketime/libfaketimeMT.so.1")).find(|library| library.exists())
}

#[expect(clippy::disallowed_methods, reason = "the process under test reads the wall clock")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

#[tokio::test]
async fn days_follow_the_wall_clock_and_polls_do_not() {
    let library = library();
    if !is_there("libfaketime", "faketime", library.is_some()) {
        return;
    }
    let started = now();
    let in_days = |days: i64| (started + TimeDelta::days(days)).to_rfc3339_opts(SecondsFormat::Secs, true);
    let mut rare = SimulatedZone::new("rare.example");
    // Half a day more, so that none of it depends on how long the test takes.
    let expires_on = (started + TimeDelta::days(200) + TimeDelta::hours(12)).to_rfc3339_opts(SecondsFormat::Secs, true);
    rare.certificates = vec![SimulatedCertificate::new("it", "it", "active", &in_days(-1), &expires_on)];
    let api = SimulatedApi::start(World::of([rare, SimulatedZone::of_size("often.example", 1)])).await.unwrap();
    let (token, rare, often) =
        api.change(|world| (world.token().to_owned(), world.zones[0].id.clone(), world.zones[1].id.clone()));
    let asked = |id: &str| api.requests().iter().filter(|request| request.path.contains(id)).count();
    let text = config(&api, "").replace("name = \"often.example\"\n", "name = \"often.example\"\ninterval = \"1s\"\n");
    let directory = tempfile::tempdir().unwrap();
    let clock = directory.path().join("clock");
    fs::write(&clock, "+0").unwrap();
    let running = Instant::now();
    let daemon = Daemon::start(
        &text,
        &[],
        &[
            ("CLOUDFLARE_API_TOKEN", &token),
            ("LD_PRELOAD", library.unwrap().to_str().unwrap()),
            ("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            // Summer time begins and ends within the days below, and must not matter.
            ("TZ", "Europe/Berlin"),
        ],
    );
    daemon.ready().await;
    for (set, days) in [("+1d", 199), ("-1d", 201), ("+180d", 20), ("+201d", -1), ("+0", 200)] {
        // In one step, so that the daemon does not read half of it.
        fs::write(directory.path().join("next"), set).unwrap();
        fs::rename(directory.path().join("next"), &clock).unwrap();
        let clock = now() + TimeDelta::days(set.trim_end_matches('d').parse().unwrap());
        let metrics = Metrics::of(&daemon).await;
        let shown = metrics.get("cloudflare_certificate_days_until_expiry", &[("zone", "rare.example")]);
        assert_eq!(shown, Some(f64::from(days)), "{set}");
        let shown = metrics.get("cloudflare_cert_exporter_clock_timestamp_seconds", &[]).unwrap();
        let passed = shown - clock.timestamp() as f64;
        assert!((0.0..=running.elapsed().as_secs_f64() + 1.0).contains(&passed), "{set}: {passed} seconds too late");
        let expired = metrics.get("cloudflare_certificates_expired", &[("zone", "rare.example")]);
        assert_eq!(expired, Some(f64::from(u8::from(days < 0))), "{set}");
        // A listing from the future would pass for a fresh one as long as the clock is behind.
        until("no listing being from the future", async || {
            let metrics = Metrics::of(&daemon).await;
            let listed =
                metrics.get("cloudflare_certificates_last_success_timestamp_seconds", &[("zone", "rare.example")]);
            (listed.unwrap() <= clock.timestamp() as f64 + running.elapsed().as_secs_f64()).then_some(())
        })
        .await;
        assert_eq!(daemon.get("/-/healthy").await.0, 200, "{set}");
    }
    assert_eq!(asked(&rare), 1, "its hour is not over, whatever the wall clock says");
    until("the other zone being polled on", async || (asked(&often) >= 5).then_some(())).await;
    let (polls, seconds) = (asked(&often), running.elapsed().as_secs());
    assert!(polls as u64 <= seconds + 4, "{polls} polls in {seconds} seconds");
}

/// The variables with which a daemon goes by the clock in a file.
fn clock_of<'a>(library: &'a str, clock: &'a str) -> [(&'a str, &'a str); 4] {
    [
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", clock),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_before_1970_is_an_error_and_not_a_panic() {
    let library = library();
    if !is_there("libfaketime", "faketime", library.is_some()) {
        return;
    }
    let library = library.unwrap().to_str().unwrap().to_owned();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("clock");
    let api = SimulatedApi::start(World::of([SimulatedZone::of_size("a.example", 1)])).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let (text, clock) = (config(&api, "[poll]\ninterval = \"1s\""), file.to_str().unwrap().to_owned());
    let environment = [&clock_of(&library, &clock)[..], &[("CLOUDFLARE_API_TOKEN", &token)]].concat();
    for set in ["-60y", "-500y", "@1969-12-31 00:00:00"] {
        fs::write(&file, set).unwrap();
        for (command, code) in [
            (&[][..], 1),
            (&["demo", "--web.listen-address", "127.0.0.1:0"], 1),
            (&["list"], 1),
            (&["check"], 3),
            (&["check", "--sweep"], 3),
            (&["healthcheck"], 1),
            (&["check-config"], 0),
            (&["--log.format", "json"], 1),
        ] {
            let output = tokio::task::block_in_place(|| run(&text, command, &environment));
            let said = format!("{}{}", output.stdout, output.stderr);
            assert_eq!(output.code, Some(code), "{set} {command:?}: {said}");
            assert!(!said.contains("panicked"), "{set} {command:?}: {said}");
            let is_named = said.contains("the clock of this machine says ") && said.contains("; set the clock");
            assert_eq!(is_named, code != 0, "{set} {command:?}: {said}");
        }
    }
    // While it runs.
    fs::write(&file, "+0").unwrap();
    let mut daemon = Daemon::start(&text, &[], &environment);
    daemon.ready().await;
    fs::write(directory.path().join("next"), "-60y").unwrap();
    fs::rename(directory.path().join("next"), &file).unwrap();
    assert_eq!(daemon.wait(), Some(1));
    let log = daemon.log();
    // hyper panics in a connection that closes between the change and the end: the header `Date` knows no such time.
    assert!(log.contains("the clock of this machine says ") && !log.contains("panicked at src"), "{log}");
}

#[tokio::test]
async fn a_clock_in_the_far_future_works() {
    let library = library();
    if !is_there("libfaketime", "faketime", library.is_some()) {
        return;
    }
    let library = library.unwrap().to_str().unwrap().to_owned();
    for years in [74, 220, 7900] {
        let directory = tempfile::tempdir().unwrap();
        let (file, state) = (directory.path().join("clock"), directory.path().join("state"));
        fs::write(&file, format!("+{years}y")).unwrap();
        let api = SimulatedApi::start(World::of([SimulatedZone::of_size("a.example", 1)])).await.unwrap();
        let token = api.change(|world| world.token().to_owned());
        let text = config(&api, &format!("[poll]\ninterval = \"1s\"\n[state]\ndirectory = {state:?}"));
        let clock = clock_of(&library, file.to_str().unwrap());
        let environment = [&clock[..], &[("CLOUDFLARE_API_TOKEN", &token)]].concat();
        // The second one finds what the first has left.
        for _ in 0..2 {
            let mut daemon = Daemon::start(&text, &[], &environment);
            daemon.ready().await;
            let metrics = until("a second poll", async || {
                let metrics = Metrics::of(&daemon).await;
                (metrics.polls("a.example") >= 2.0).then_some(metrics)
            })
            .await;
            let listed = metrics.last_success("a.example").unwrap() / (365.25 * 86_400.0);
            assert!((listed - 56.9 - f64::from(years)).abs() < 8.0, "{years}: {listed}");
            assert_eq!(daemon.get("/").await.0, 200);
            daemon.signal("TERM");
            assert_eq!(daemon.wait(), Some(0));
            assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
        }
    }
}
