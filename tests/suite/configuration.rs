//! Where settings come from: no file at all, a file that appears, and flags that beat it.

use std::{path::Path, process::Command};

use crate::support::{self, Daemon, config, is_there_or, metrics::Metrics, until};
use cloudflare_sim::{SimulatedApi, SimulatedZone, World};

const DEFAULT_FILE: &str = "/etc/cloudflare-cert-exporter/config.toml";

/// The program without a file, where this machine has none either.
fn without_a_file(arguments: &[&str], environment: &[(&str, &str)]) -> Option<Command> {
    is_there_or(!Path::new(DEFAULT_FILE).exists(), &format!("{DEFAULT_FILE} exists, which the program reads")).then(
        || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_cloudflare-cert-exporter"));
            command.env_clear().envs(environment.iter().copied()).args(arguments);
            command
        },
    )
}

#[tokio::test]
async fn a_token_is_all_that_the_daemon_needs() {
    let api = SimulatedApi::start(World::of([SimulatedZone::of_size("a.example", 1)])).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let environment = [("CLOUDFLARE_API_TOKEN", &*token), ("CLOUDFLARE_BASE_URL", &*api.base_url())];
    let Some(command) = without_a_file(&["--web.listen-address=127.0.0.1:0"], &environment) else { return };
    let daemon = Daemon::wait_until_it_listens(command, tempfile::tempdir().unwrap());
    daemon.until_logged(&["There is no configuration file", DEFAULT_FILE]).await;
    until("a request for the zones", async || {
        api.requests().iter().any(|request| request.path.ends_with("/zones")).then_some(())
    })
    .await;
    let Some(mut command) = without_a_file(&["check-config"], &environment) else { return };
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with(&format!(
            "There is no configuration file {DEFAULT_FILE}, so every setting has its default.\n"
        ))
    );
}

#[test]
fn without_a_token_the_message_is_about_the_token() {
    for command in [&[][..], &["run"], &["check-config"], &["list"]] {
        let Some(mut program) = without_a_file(command, &[]) else { return };
        let output = program.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{text}");
        assert!(
            text.lines().last().unwrap().starts_with("there is no API token; set CLOUDFLARE_API_TOKEN, or"),
            "{text}"
        );
    }
    let Some(mut check) = without_a_file(&["check", "--sweep"], &[]) else { return };
    let output = check.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("CERTIFICATES UNKNOWN - there is no API token; set CLOUDFLARE_API_TOKEN, or"), "{text}");
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn a_file_that_is_named_has_to_exist() {
    let token = ("CLOUDFLARE_API_TOKEN", "x");
    for (arguments, environment) in [
        (&["--config.file", "nowhere.toml", "check-config"][..], &[token][..]),
        (&["check-config"], &[token, ("CLOUDFLARE_CERT_EXPORTER_CONFIG_FILE", "nowhere.toml")]),
        // By its usual name too.
        (&["check-config", "--config.file", DEFAULT_FILE], &[token]),
    ] {
        let Some(mut command) = without_a_file(arguments, environment) else { return };
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{text}");
        assert!(text.contains(": the configuration cannot be read: No such file or directory"), "{text}");
    }
}

#[tokio::test]
async fn the_shard_is_shown_follows_a_reload_and_is_beaten_by_the_flags() {
    let api = SimulatedApi::start(World::of([SimulatedZone::of_size("a.example", 1)])).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let text = |shard: &str| config(&api, shard);
    let shown = async |daemon: &Daemon| {
        let metrics = Metrics::of(daemon).await;
        ["shard_ordinal", "total_shards"].map(|name| metrics.get(&format!("cloudflare_cert_exporter_{name}"), &[]))
    };
    for (flags, first, second) in
        [(&[][..], [0.0, 1.0], [2.0, 5.0]), (&["--shard", "3", "--total-shards=4"], [3.0, 4.0], [3.0, 4.0])]
    {
        let daemon = Daemon::start(&text(""), flags, &[("CLOUDFLARE_API_TOKEN", &token)]);
        assert_eq!(shown(&daemon).await, first.map(Some));
        daemon.configure(&text("[shard]\nordinal = 2\ntotal = 5"));
        daemon.signal("HUP");
        daemon.until_logged(&["was read again and is in use"]).await;
        assert_eq!(shown(&daemon).await, second.map(Some));
    }
}

#[test]
fn a_shard_that_cannot_be_is_refused() {
    let zone = "[shard]\ntotal = 3\n[[zones]]\nid = \"023e105f4ecef8ad9ca31a8372d0c353\"\n";
    let token = [("CLOUDFLARE_API_TOKEN", "x")];
    for (arguments, code, words) in [
        (&["--shard=2", "check-config"][..], 0, ""),
        (&["check-config", "--shard=3"], 78, "--shard: 3 is not below the number of shards, 3; ordinals begin with 0"),
        (&["list", "--shard=0", "--total-shards=0"], 2, "0 is not in 1..=1000"),
        (&["check", "--shard=0"], 3, "--shard and --total-shards go with --sweep alone"),
    ] {
        let output = support::run(zone, arguments, &token);
        assert_eq!(output.code, Some(code), "{arguments:?} {} {}", output.stdout, output.stderr);
        assert!(
            format!("{}{}", output.stdout, output.stderr).contains(words),
            "{arguments:?} {} {}",
            output.stdout,
            output.stderr
        );
    }
}
