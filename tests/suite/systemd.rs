//! The program as systemd sees it, from outside: readiness, watchdog, reload and sockets, without systemd.

use std::{net::TcpListener, process::Command, time::Duration};

use crate::support::{self, Daemon, manager::Manager};
use cloudflare_cert_exporter::demo::{SimulatedApi, SimulatedZone, World};
use tokio::time::Instant;

async fn start(environment: &[(&str, &str)]) -> (SimulatedApi, Daemon) {
    let api = SimulatedApi::start(World::of([SimulatedZone::of_size("a.example", 3)])).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let environment = [environment, &[("CLOUDFLARE_API_TOKEN", &*token)]].concat();
    let daemon = Daemon::start(&support::config(&api, ""), &[], &environment);
    (api, daemon)
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_reload_and_end_are_told() {
    let manager = Manager::new();
    let (_api, mut daemon) = start(&[("NOTIFY_SOCKET", &manager.path)]).await;
    assert_eq!(manager.next(), "READY=1");
    // What is told is true: scrapes are answered.
    assert_eq!(daemon.get("/metrics").await.0, 200);
    daemon.signal("HUP");
    let reloading = manager.next();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(manager.next(), "READY=1");
    daemon.signal("TERM");
    assert_eq!(manager.next(), "STOPPING=1");
    assert_eq!(daemon.wait(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn whenever_signals_come_readiness_comes_first_and_the_end_last() {
    for signals in [&["TERM"][..], &["HUP", "TERM"], &["HUP", "HUP", "HUP"]] {
        let manager = Manager::new();
        let (_api, mut daemon) = start(&[("NOTIFY_SOCKET", &manager.path)]).await;
        signals.iter().for_each(|signal| daemon.signal(signal));
        let mut told = Vec::new();
        if !signals.contains(&"TERM") {
            told = vec![manager.next(), manager.next(), manager.next()];
            daemon.signal("TERM");
        }
        assert_eq!(daemon.wait(), Some(0));
        manager.socket.set_nonblocking(true).unwrap();
        while let Some(message) = manager.if_any() {
            told.push(message);
        }
        let told: Vec<_> = told.iter().map(|message| message.lines().next().unwrap()).collect();
        assert_eq!(told.last(), Some(&"STOPPING=1"), "{signals:?}: {told:?}");
        assert_eq!(told.iter().filter(|message| **message == "STOPPING=1").count(), 1, "{signals:?}: {told:?}");
        assert!(matches!(told[0], "READY=1" | "STOPPING=1"), "{signals:?}: {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_is_fed_in_time_for_as_long_as_it_is_asked_for() {
    let manager = Manager::new();
    // What it says waits in the socket for as long as this machine is busy with other things.
    let started = Instant::now();
    let (_api, daemon) = start(&[("NOTIFY_SOCKET", &manager.path), ("WATCHDOG_USEC", "300000")]).await;
    let fed = (0..12).filter(|_| manager.any() == "WATCHDOG=1").count();
    assert!(fed >= 10, "{fed} of 12 messages");
    // Every 100 ms.
    assert!(started.elapsed() > Duration::from_millis(800), "{:?}", started.elapsed());
    // A process that stands still says nothing more.
    daemon.signal("STOP");
    manager.socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut bytes = [0; 4096];
    while manager.socket.recv(&mut bytes).is_ok() {}
    daemon.signal("CONT");
    manager.socket.set_read_timeout(Some(support::DEADLINE)).unwrap();
    assert_eq!(manager.any(), "WATCHDOG=1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_is_handed_over_is_listened_on() {
    let api = SimulatedApi::start(World::of([SimulatedZone::of_size("a.example", 3)])).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let folder = tempfile::tempdir().unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let daemon = support::command(
        folder.path(),
        &support::config(&api, ""),
        &["--web.systemd-socket"],
        &[("CLOUDFLARE_API_TOKEN", &token)],
    );
    // The socket has to be descriptor 3 and the process that begins has to know its own number: a shell does both.
    let mut shell = Command::new("/bin/bash");
    shell.arg("-c").arg("exec 3<&0; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\"").arg("bash");
    shell.arg(daemon.get_program()).args(daemon.get_args()).env_clear();
    shell.envs(daemon.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.stdin(std::os::fd::OwnedFd::from(socket));
    let daemon = Daemon::wait_until_it_listens(shell, folder);
    assert!(daemon.url("").ends_with(&address.to_string()));
    daemon.ready().await;
    assert_eq!(daemon.get("/metrics").await.0, 200);
}

#[test]
fn without_a_socket_the_option_is_an_error() {
    for command in [&["--web.systemd-socket"][..], &["run", "--web.systemd-socket"], &["demo", "--web.systemd-socket"]]
    {
        let output = support::run("", command, &[]);
        assert_eq!(output.code, Some(1), "{command:?}");
        let said =
            "no socket activation file descriptors found; start it through its .socket unit, or leave the option out";
        assert!(output.stderr.contains(said), "{command:?}: {}", output.stderr);
    }
}

#[test]
fn sockets_and_addresses_exclude_each_other_wherever_they_stand() {
    for command in [
        &["--web.systemd-socket", "--web.listen-address", ":0"][..],
        &["--web.listen-address", ":0", "run", "--web.systemd-socket"],
        &["--web.systemd-socket", "run", "--web.listen-address", ":0"],
        &["--web.listen-address", ":0", "demo", "--web.systemd-socket"],
        &["check-config", "--web.listen-address", ":0", "--web.systemd-socket"],
    ] {
        let output = support::run("", command, &[]);
        assert_eq!(output.code, Some(2), "{command:?}: {}", output.stderr);
        assert!(output.stderr.contains("exclude each other"), "{command:?}: {}", output.stderr);
    }
}
