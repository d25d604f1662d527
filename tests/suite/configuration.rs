//! Where settings come from: no file at all, a file that appears, and flags that beat it.

use std::{path::Path, process::Command, sync::Arc};

use cloudflare_cert_exporter::{
    Controls,
    config::{Config, ConfigFile, ShardFlags},
    run,
};
use cloudflare_sim::{SimulatedApi, SimulatedZone, World};
use tokio::sync::{mpsc, watch};

use crate::support::{self, Daemon, config, is_there_or, metrics::Metrics, until};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_all_that_the_program_needs() {
    let api = SimulatedApi::start(World::of([SimulatedZone::of_size("a.example", 1)])).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let environment = [("CLOUDFLARE_API_TOKEN", &*token), ("CLOUDFLARE_BASE_URL", &*api.base_url())];
    let Some(command) = without_a_file(&["--web.listen-address=127.0.0.1:0"], &environment) else { return };
    let daemon = Daemon::wait_until_it_listens(command, tempfile::tempdir().unwrap());
    daemon.until_logged(&["There is no configuration file", DEFAULT_FILE]).await;
    daemon.ready().await;
    let metrics = Metrics::of(&daemon).await;
    assert_eq!(metrics.up("a.example"), Some(1.0));
    assert_eq!(metrics.all("cloudflare_certificate_days_until_expiry", &[("zone", "a.example")]).count(), 1);
    for (arguments, words) in [
        (
            &["check-config"][..],
            "There is no configuration file /etc/cloudflare-cert-exporter/config.toml, so every setting",
        ),
        (&["zones"], "a.example"),
        (&["list"], "a.example"),
        (&["check", "--sweep", "--warning=0", "--critical=0"], "CERTIFICATES OK"),
    ] {
        let Some(mut command) = without_a_file(arguments, &environment) else { return };
        let output = command.output().unwrap();
        assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains(words), "{output:?}");
    }
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

/// The usual file, which is another one in this test, may come while the daemon runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_reads_a_file_that_has_appeared() {
    let api = SimulatedApi::start(World::of([SimulatedZone::of_size("a.example", 1)])).await.unwrap();
    let (token, base_url) = (api.change(|world| world.token().to_owned()), api.base_url());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    let file = ConfigFile::Default(path.clone());
    let environment = move |name: &str| match name {
        "CLOUDFLARE_API_TOKEN" => Some(token.clone()),
        "CLOUDFLARE_BASE_URL" => Some(base_url.clone()),
        _ => None,
    };
    let load = move || Config::load(&file, &environment, ShardFlags::default());
    let first = load().unwrap();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/metrics", socket.local_addr().unwrap());
    let (stop, stopped) = watch::channel(false);
    let (reload, reloads) = mpsc::unbounded_channel();
    let log_lines_dropped = prometheus::IntCounter::new("log_lines_dropped", "of a test").unwrap();
    let controls =
        Controls { stop: stopped, reload: reloads, load: Arc::new(load), sockets: vec![socket], log_lines_dropped };
    let running = tokio::spawn(run(first, now, None, controls));
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let until_shown = async |shards: u32| {
        let line = format!("cloudflare_cert_exporter_total_shards {shards}\n");
        until(&line, async || {
            let body = client.get(&url).send().await.ok()?.text().await.ok()?;
            body.contains(&line).then_some(())
        })
        .await;
    };
    until_shown(1).await;
    std::fs::write(&path, "[shard]\ntotal = 3\n").unwrap();
    reload.send(()).unwrap();
    until_shown(3).await;
    stop.send_replace(true);
    running.await.unwrap().unwrap();
}

#[expect(clippy::disallowed_methods, reason = "as main does")]
fn now() -> chrono::DateTime<chrono::Utc> {
    chrono::Utc::now()
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

/// What `check-config` prints of this configuration.
fn checked(text: &str, arguments: &[&str]) -> String {
    let output = support::run(text, &[&["check-config"], arguments].concat(), &[("CLOUDFLARE_API_TOKEN", "x")]);
    assert_eq!((output.code, &*output.stderr), (Some(0), ""));
    output.stdout
}

#[test]
fn check_config_prints_what_the_daemon_would_do() {
    let zone = |digit: u32, more: &str| format!("[[zones]]\nid = \"{digit}23e105f4ecef8ad9ca31a8372d0c353\"\n{more}\n");
    let small = "[api]\nrequests_per_5m = 1\n[poll]\ninterval = \"5m\"\n".to_owned();
    let two = small + &zone(0, "name = \"a.example\"\ninterval = \"15m\"") + &zone(1, "");
    insta::assert_snapshot!(checked(&two, &[]), @"
    The configuration is good.

     ZONE OR ACCOUNT     ID                                CREDENTIAL  CLIENT  REQUESTS PER HOUR
     a.example           023e105f4ecef8ad9ca31a8372d0c353  default     15m     4.00
     (asked of the API)  123e105f4ecef8ad9ca31a8372d0c353  default     5m      12.00

     KIND    LISTINGS  REQUESTS PER HOUR  OF THE BUDGET  SERIES AT LEAST
     client  2         16.00              133.3 %        68

    Credential default: needs at least 1.3 requests in five minutes, one for every 50 certificates of a zone. Its budget is 1.
      That is too few, so these will be listed less often: client every 21m 4s. Watch fewer kinds (client costs most) or zones, raise the intervals, or raise api.requests_per_5m.
    No state is kept, so a restart knows nothing until every zone has been listed again; see [state] directory.
    ");
    let account = "[[accounts]]\nid = \"11cbe197c0504ecef8ad9ca31a8372d0\"\nname = \"Example Ltd\"\n";
    let several = "[poll]\nkinds = [\"client\", \"edge\", \"origin_ca\", \"mtls_ca\"]\n".to_owned()
        + &zone(0, "name = \"a.example\"\ninterval = \"15m\"")
        + &zone(1, "kinds = [\"client\"]")
        + account;
    insta::assert_snapshot!(checked(&several, &["--shard=2", "--total-shards=3"]), @"
    The configuration is good.

     ZONE OR ACCOUNT     ID                                CREDENTIAL  SHARD  CLIENT  ORIGIN_CA  EDGE  MTLS_CA  REQUESTS PER HOUR
     a.example           023e105f4ecef8ad9ca31a8372d0c353  default     2      15m     15m        15m   -        12.00
     (asked of the API)  123e105f4ecef8ad9ca31a8372d0c353  default     0      1h      -          -     -        1.00
     Example Ltd         11cbe197c0504ecef8ad9ca31a8372d0  default     2      -       -          -     6h       0.17

    This is shard 2 of 3, counted from 0. It watches 2 of these 3; what follows is about its share.

     KIND       LISTINGS  REQUESTS PER HOUR  OF THE BUDGET  SERIES AT LEAST
     client     1         4.00               0.2 %          34
     origin_ca  1         4.00               0.2 %          32
     edge       1         4.00               0.2 %          51
     mtls_ca    1         0.17               0.0 %          31

    Credential default: needs at least 1.0 requests in five minutes, one for every 50 certificates of a zone. Its budget is 200: api.requests_per_5m = 600 is divided among 3 shards.
    No state is kept, so a restart knows nothing until every zone has been listed again; see [state] directory.
    ");
    let no_account = "[poll]\nkinds = [\"client\", \"mtls_ca\"]\n".to_owned() + &zone(0, "");
    let unlisted = "The account kinds of poll.kinds (mtls_ca) are not listed, as no account is known; add";
    assert!(checked(&no_account, &[]).contains(unlisted));
    assert!(!checked(&(no_account.clone() + account), &[]).contains("not listed, as"));
    assert!(!checked(&(no_account + "[discovery]"), &[]).contains("not listed, as"));
    let idle = "Nothing is listed in [[accounts]], as poll.kinds holds no account kind; add some of ";
    assert!(checked(&(zone(0, "") + account), &[]).contains(idle));
    let idle = "Nothing is listed in [[zones]], as poll.kinds holds no zone kind; add some, such as client.";
    assert!(checked(&("[poll]\nkinds = [\"mtls_ca\"]\n".to_owned() + &zone(0, "") + account), &[]).contains(idle));
    insta::assert_snapshot!(checked("[poll]\nkinds = \"all\"\n[discovery]\ninterval = \"2h\"", &[]), @"
    The configuration is good.

    Zones are discovered every 2h with default. Their number is not known offline, and what follows is without them; the command zones shows them.
      The discovery needs one request for every 50 zones.
      Each account of a zone needs at least 0.50 requests per hour.
      Each zone needs at least 3.00 requests per hour, so the budget of a credential carries at most 2280 zones.

    The budget of each credential is 600 requests in five minutes.
    No state is kept, so a restart knows nothing until every zone has been listed again; see [state] directory.
    ");
    let both = "[discovery]\n".to_owned() + &zone(0, "name = \"a.example\"");
    insta::assert_snapshot!(checked(&both, &[]), @"
    The configuration is good.

     ZONE OR ACCOUNT  ID                                CREDENTIAL  CLIENT  REQUESTS PER HOUR
     a.example        023e105f4ecef8ad9ca31a8372d0c353  default     1h      1.00

    Zones are discovered every 1h with default. Their number is not known offline, and what follows is without them; the command zones shows them.
      The discovery needs one request for every 50 zones.
      Each zone needs at least 1.00 requests per hour, so the budget of a credential carries at most 6840 zones.

     KIND    LISTINGS  REQUESTS PER HOUR  OF THE BUDGET  SERIES AT LEAST
     client  1         1.00               0.0 %          34

    Credential default: needs at least 0.1 requests in five minutes, one for every 50 certificates of a zone. Its budget is 600.
    No state is kept, so a restart knows nothing until every zone has been listed again; see [state] directory.
    ");
}
