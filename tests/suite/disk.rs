//! A disk that no longer answers, under the program's files.

use std::{
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::support::{
    self, Daemon,
    bad_files::with_hanging_disk,
    fake_systemd::FakeSystemd,
    until,
    web::{Directory, get_plain},
};
use cloudflare_sim::{SimulatedApi, SimulatedZone, World};
use tokio::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_disk_fails_watchdog_and_health_and_does_not_delay_shutdown() {
    let (systemd, files) = (FakeSystemd::new(), Directory::new());
    let api = SimulatedApi::start(World::of([SimulatedZone::of_size("a.example", 3)])).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let web = files.put("empty.yml");
    let config = support::config(
        &api,
        &format!(
            "[server]\nlisten_addresses = [\"127.0.0.1:0\"]\nprobe_listen_address = \"127.0.0.1:0\"\nweb_config_file = {web:?}\n"
        ),
    );
    let environment =
        [("CLOUDFLARE_API_TOKEN", &*token), ("NOTIFY_SOCKET", &systemd.path), ("WATCHDOG_USEC", "300000")];
    let directory = tempfile::tempdir().unwrap();
    let command = support::command(directory.path(), &config, &[], &environment);
    let Some(command) = with_hanging_disk(&files.path("disk"), &command) else { return };
    let mut daemon = Daemon::wait_until_it_listens(command, directory);
    daemon.ready().await;
    let probe = daemon.probe_address().await;
    // systemd always listens.
    let (fed, socket) = (Arc::new(Mutex::new(Instant::now())), systemd.socket.try_clone().unwrap());
    let last_fed = Arc::clone(&fed);
    std::thread::spawn(move || {
        while socket.recv(&mut [0; 4096]).is_ok() {
            *last_fed.lock().unwrap() = Instant::now();
        }
    });
    let health = async || get_plain(&probe, "/-/healthy", "").await.unwrap();
    assert!(health().await.starts_with("HTTP/1.1 200"));
    std::fs::remove_file(&web).unwrap();
    std::os::unix::fs::symlink(files.path("disk/web.yml"), &web).unwrap();
    daemon.until_logged(&["level=error", "cannot be read in time"]).await;
    // No client waits, and no answer is made without knowing who may have it.
    let answers = futures_util::future::join_all((0..10).map(|_| daemon.get("/metrics"))).await;
    assert!(answers.iter().all(|(status, _)| *status == 500), "{answers:?}");
    assert_eq!(daemon.log().matches("cannot be read in time").count(), 1, "{}", daemon.log());
    until("an unhealthy answer", async || health().await.starts_with("HTTP/1.1 503").then_some(())).await;
    until("a watchdog that is not fed", async || {
        (fed.lock().unwrap().elapsed() > Duration::from_secs(2)).then_some(())
    })
    .await;
    let waiting = tokio::spawn(reqwest::get(daemon.url("/metrics")));
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
    drop(waiting);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_a_start_that_waits_for_a_hanging_disk() {
    let api = SimulatedApi::start(World::of([SimulatedZone::of_size("a.example", 3)])).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let directory = tempfile::tempdir().unwrap();
    let disk = directory.path().join("disk");
    let config = support::config(&api, &format!("[state]\ndirectory = {:?}\n", disk.join("state")));
    let command = support::command(directory.path(), &config, &[], &[("CLOUDFLARE_API_TOKEN", &token)]);
    let Some(mut command) = with_hanging_disk(&disk, &command) else { return };
    let log = std::fs::File::create(directory.path().join("log")).unwrap();
    let mut child = command.stderr(log).spawn().unwrap();
    let logged = || std::fs::read_to_string(directory.path().join("log")).unwrap();
    until("a start", async || logged().contains("Starting cloudflare-cert-exporter").then_some(())).await;
    // Until it waits for the disk.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() && started.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let _ = child.kill();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", logged());
}
