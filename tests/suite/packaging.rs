//! What a package holds apart from the program: manual pages, completions and units of systemd, and that
//! the program starts by the unit's own command line.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{self, Daemon, fake_systemd::FakeSystemd, has_program, is_there};
use cloudflare_sim::{SimulatedApi, World};

const SERVICE: &str = "cloudflare-cert-exporter.service";
const SOCKET: &str = "cloudflare-cert-exporter.socket";
const DROP_IN: &str = "socket-activation.conf";
/// Where the units start the program from.
const INSTALLED: &str = "/usr/bin/cloudflare-cert-exporter";

#[test]
fn every_command_has_a_manual_page_that_groff_accepts() {
    let directory = tempfile::tempdir().unwrap();
    let written = program(&["man", "--directory", directory.path().to_str().unwrap()]);
    assert_eq!(written.code, Some(0), "{}", written.stderr);
    let mut pages: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.sort();
    for command in
        ["", "-check", "-check-config", "-completions", "-demo", "-healthcheck", "-list", "-man", "-run", "-zones"]
    {
        let page = directory.path().join(format!("cloudflare-cert-exporter{command}.1"));
        assert!(pages.contains(&page), "{command} is missing in {pages:?}");
    }
    let main = fs::read_to_string(directory.path().join("cloudflare-cert-exporter.1")).unwrap();
    assert_eq!(program(&["man"]).stdout, main);

    if is_there("groff", "groff-base", has_program("groff")) {
        let groff = Command::new("groff").args(["-man", "-ww", "-Tutf8", "-z"]).args(&pages).output().unwrap();
        assert_eq!(groff.status.code(), Some(0));
        assert_eq!(String::from_utf8_lossy(&groff.stderr), "");
    }
}

#[test]
fn manual_pages_are_not_written_to_a_missing_directory() {
    let written = program(&["man", "--directory", "/nowhere/at/all"]);
    assert_eq!(written.code, Some(1));
    assert!(written.stderr.contains("/nowhere/at/all: No such file or directory"), "{}", written.stderr);
}

#[test]
fn bash_completes_commands_options_and_values() {
    let script = program(&["completions", "bash"]);
    assert_eq!(script.code, Some(0), "{}", script.stderr);
    for (words, expected) in [
        (&["cloudflare-cert-exporter", "check-"][..], "check-config"),
        (&["cloudflare-cert-exporter", "list", "--exp"], "--expiring-within"),
        (&["cloudflare-cert-exporter", "list", "--output", "c"], "csv"),
        (&["cloudflare-cert-exporter", "completions", "z"], "zsh"),
    ] {
        let (last, before) = words.split_last().unwrap();
        // What bash does when the tabulator is pressed, by the function that the script names.
        let ask = format!(
            "{}\nregistered=$(complete -p {name}); function=${{registered##* -F }}\nCOMP_WORDS=({}) COMP_CWORD={}\n${{function%% *}} {name} {last} {}\necho \"${{COMPREPLY[*]}}\"",
            script.stdout,
            words.join(" "),
            before.len(),
            before.last().unwrap(),
            name = words[0],
        );
        let bash = Command::new("bash").args(["--norc", "-c", &ask]).output().unwrap();
        let found = String::from_utf8_lossy(&bash.stdout).into_owned();
        assert!(found.split_whitespace().any(|word| word == expected), "{words:?}: {found}{bash:?}");
    }
}

#[test]
fn other_shells_have_completions_and_an_unknown_shell_is_a_usage_error() {
    for (shell, sign) in
        [("zsh", "#compdef cloudflare-cert-exporter"), ("fish", "complete -c cloudflare-cert-exporter")]
    {
        let script = program(&["completions", shell]);
        assert_eq!(script.code, Some(0), "{}", script.stderr);
        assert!(script.stdout.contains(sign) && script.stdout.contains("check-config"), "{}", script.stdout);
    }
    let unknown = program(&["completions", "cmd"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("bash"), "{}", unknown.stderr);
}

#[test]
fn the_service_has_a_low_exposure_level() {
    if !has_systemd_analyze() {
        return;
    }
    // The scale goes to 100; without the network, which it needs, some 4 would be left.
    let analyze = Command::new("systemd-analyze")
        .args(["security", "--no-pager", "--offline=true", "--threshold=12"])
        .arg(units().join(SERVICE))
        .output()
        .unwrap();
    assert!(analyze.status.success(), "{}", String::from_utf8_lossy(&analyze.stdout));
    // It hides /proc/stat, without which no start time is known.
    assert!(!service().lines().any(|line| line.starts_with("ProcSubset=pid")));
}

#[test]
fn systemd_accepts_the_units_with_and_without_the_drop_in() {
    if !has_systemd_analyze() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // It looks whether the program is there.
    let copy = |name: &str, to: &Path| {
        let text = fs::read_to_string(units().join(name)).unwrap().replace(INSTALLED, BUILT);
        fs::write(to, text).unwrap();
    };
    for name in [SERVICE, SOCKET] {
        copy(name, &directory.path().join(name));
    }
    let verify = || {
        let mut command = Command::new("systemd-analyze");
        // The manual page is there once the package is.
        command.args(["verify", "--man=no"]).args([SERVICE, SOCKET].map(|name| directory.path().join(name)));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    };
    verify();
    let drop_ins = directory.path().join(format!("{SERVICE}.d"));
    fs::create_dir(&drop_ins).unwrap();
    copy(DROP_IN, &drop_ins.join(DROP_IN));
    verify();
}

#[test]
fn the_socket_unit_listens_on_the_default_address() {
    let socket = fs::read_to_string(units().join(SOCKET)).unwrap();
    let example = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.toml")).unwrap();
    assert!(socket.contains("\nListenStream=127.0.0.1:10199\n"));
    assert!(example.contains("\nlisten_addresses = [\"127.0.0.1:10199\"]\n"));
}

#[tokio::test]
async fn the_command_line_of_the_unit_starts_the_daemon_and_it_becomes_ready() {
    let api = SimulatedApi::start(World::demo(now(), 2, 10)).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| {
        let path = directory.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let (credentials, state) = (place("credentials"), place("state"));
    fs::write(credentials.join("cloudflare-api-token"), api.change(|world| world.token().to_owned())).unwrap();
    let config = directory.path().join("config.toml");
    fs::write(&config, support::config(&api, "")).unwrap();
    let systemd = FakeSystemd::new();

    let line = service().lines().find_map(|line| line.strip_prefix("ExecStart=").map(str::to_owned)).unwrap();
    let mut words = line.split(' ').filter(|word| *word != "$ARGS");
    let installed = words.next().unwrap();
    assert_eq!(installed, INSTALLED);
    let mut command = Command::new(if is_packaged() { installed } else { BUILT });
    command
        .args(words)
        .env_clear()
        .env("CLOUDFLARE_CERT_EXPORTER_CONFIG_FILE", &config)
        .env("CREDENTIALS_DIRECTORY", &credentials)
        .env("STATE_DIRECTORY", &state)
        .env("NOTIFY_SOCKET", &systemd.path);
    let mut daemon = Daemon::wait_until_it_listens(command, directory);

    assert_eq!(systemd.next(), "READY=1");
    daemon.ready().await;
    let (status, metrics) = daemon.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("\ncloudflare_certificate_days_until_expiry{"), "{metrics}");
    assert!(metrics.contains("\ncloudflare_certificates_up{"), "{metrics}");
    assert!(fs::read_dir(&state).unwrap().next().is_some(), "no state was kept");
    daemon.signal("TERM");
    assert_eq!(systemd.next(), "STOPPING=1");
    assert_eq!(daemon.wait(), Some(0), "{}", daemon.log());
}

/// The program that was built for these tests.
const BUILT: &str = env!("CARGO_BIN_EXE_cloudflare-cert-exporter");

/// The check of the package asks for the installed files to be tested in place of the built ones.
const UNITS_VARIABLE: &str = "CLOUDFLARE_CERT_EXPORTER_TEST_UNITS";

fn is_packaged() -> bool {
    std::env::var_os(UNITS_VARIABLE).is_some()
}

/// The directory of the units.
fn units() -> PathBuf {
    std::env::var_os(UNITS_VARIABLE)
        .map_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/systemd").into(), PathBuf::from)
}

fn service() -> String {
    fs::read_to_string(units().join(SERVICE)).unwrap()
}

/// Runs the program to its end without any configuration.
fn program(arguments: &[&str]) -> support::Output {
    let output = Command::new(BUILT).env_clear().args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    support::Output { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn has_systemd_analyze() -> bool {
    is_there("systemd-analyze", "systemd", has_program("systemd-analyze"))
}

#[expect(clippy::disallowed_methods, reason = "the process under test reads the wall clock")]
fn now() -> chrono::DateTime<chrono::Utc> {
    chrono::Utc::now()
}
