//! The program as systemd sees it, from outside: readiness, watchdog, reload and sockets, without systemd.

use std::{net::TcpListener, process::Command, time::Duration};

use crate::support::{self, Daemon, fake_systemd::FakeSystemd};
use cloudflare_sim::{SimulatedApi, SimulatedZone, World};
use tokio::time::Instant;

async fn start(environment: &[(&str, &str)]) -> (SimulatedApi, Daemon) {
    let api = SimulatedApi::start(World::of([SimulatedZone::of_size("a.example", 3)])).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let environment = [environment, &[("CLOUDFLARE_API_TOKEN", &*token)]].concat();
    let daemon = Daemon::start(&support::config(&api, ""), &[], &environment);
    (api, daemon)
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_notified_of_readiness_reload_and_stop() {
    let systemd = FakeSystemd::new();
    let (_api, mut daemon) = start(&[("NOTIFY_SOCKET", &systemd.path)]).await;
    assert_eq!(systemd.next(), "READY=1");
    // The message is true: scrapes work.
    assert_eq!(daemon.get("/metrics").await.0, 200);
    daemon.signal("HUP");
    let reloading = systemd.next();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(systemd.next(), "READY=1");
    daemon.signal("TERM");
    assert_eq!(systemd.next(), "STOPPING=1");
    assert_eq!(daemon.wait(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_is_notified_first_and_stop_last_whenever_signals_arrive() {
    for signals in [&["TERM"][..], &["HUP", "TERM"], &["HUP", "HUP", "HUP"]] {
        let systemd = FakeSystemd::new();
        let (_api, mut daemon) = start(&[("NOTIFY_SOCKET", &systemd.path)]).await;
        signals.iter().for_each(|signal| daemon.signal(signal));
        let mut messages = Vec::new();
        if !signals.contains(&"TERM") {
            messages = vec![systemd.next(), systemd.next(), systemd.next()];
            daemon.signal("TERM");
        }
        assert_eq!(daemon.wait(), Some(0));
        systemd.socket.set_nonblocking(true).unwrap();
        while let Some(message) = systemd.if_any() {
            messages.push(message);
        }
        let messages: Vec<_> = messages.iter().map(|message| message.lines().next().unwrap()).collect();
        assert_eq!(messages.last(), Some(&"STOPPING=1"), "{signals:?}: {messages:?}");
        assert_eq!(messages.iter().filter(|message| **message == "STOPPING=1").count(), 1, "{signals:?}: {messages:?}");
        assert!(matches!(messages[0], "READY=1" | "STOPPING=1"), "{signals:?}: {messages:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_is_fed_in_time_while_the_daemon_makes_progress() {
    let systemd = FakeSystemd::new();
    // What it says waits in the socket for as long as this machine is busy with other things.
    let started = Instant::now();
    let (_api, daemon) = start(&[("NOTIFY_SOCKET", &systemd.path), ("WATCHDOG_USEC", "300000")]).await;
    let fed = (0..12).filter(|_| systemd.any() == "WATCHDOG=1").count();
    assert!(fed >= 10, "{fed} of 12 messages");
    // Every 100 ms.
    assert!(started.elapsed() > Duration::from_millis(800), "{:?}", started.elapsed());
    // A process that stands still says nothing more.
    daemon.signal("STOP");
    systemd.socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut bytes = [0; 4096];
    while systemd.socket.recv(&mut bytes).is_ok() {}
    daemon.signal("CONT");
    systemd.socket.set_read_timeout(Some(support::DEADLINE)).unwrap();
    assert_eq!(systemd.any(), "WATCHDOG=1");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_listens_on_a_socket_from_systemd() {
    let api = SimulatedApi::start(World::of([SimulatedZone::of_size("a.example", 3)])).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let directory = tempfile::tempdir().unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let daemon = support::command(
        directory.path(),
        &support::config(&api, ""),
        &["--web.systemd-socket"],
        &[("CLOUDFLARE_API_TOKEN", &token), ("RUNTIME_DIRECTORY", directory.path().to_str().unwrap())],
    );
    let runtime_directory = directory.path().to_str().unwrap().to_owned();
    // The socket has to be descriptor 3 and the process that begins has to know its own number: a shell does both.
    let mut shell = Command::new("/bin/bash");
    shell.arg("-c").arg("exec 3<&0; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\"").arg("bash");
    shell.arg(daemon.get_program()).args(daemon.get_args()).env_clear();
    shell.envs(daemon.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.stdin(std::os::fd::OwnedFd::from(socket));
    let daemon = Daemon::wait_until_it_listens(shell, directory);
    assert!(daemon.url("").ends_with(&address.to_string()));
    daemon.ready().await;
    assert_eq!(daemon.get("/metrics").await.0, 200);
    // No configuration tells where that is.
    let run = move || support::run("", &["healthcheck"], &[("RUNTIME_DIRECTORY", &runtime_directory)]);
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    assert_eq!(output.code, Some(0), "{}", output.stdout);
}

#[test]
fn the_systemd_socket_option_without_a_socket_is_an_error() {
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
fn systemd_sockets_and_listen_addresses_exclude_each_other() {
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
