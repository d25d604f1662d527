//! `check` and `healthcheck`: the real binary asks a real daemon on the simulated API.

use std::{collections::BTreeMap, net::TcpListener};

use crate::support::{self, Daemon, Output, authority::Authority, config, fault_proxy::FaultProxy, start, until};
use chrono::{Duration, SecondsFormat, Utc};
use cloudflare_sim::{Fault, SimulatedApi, SimulatedCertificate, SimulatedZone, World};

/// A certificate of a year with so many whole days left.
#[expect(clippy::disallowed_methods, reason = "the program under test looks at the clock, too")]
fn certificate(id: &str, common_name: &str, days: i64) -> SimulatedCertificate {
    let expires_on = Utc::now() + Duration::days(days) + Duration::hours(12);
    let [issued_on, expires_on] =
        [expires_on - Duration::days(365), expires_on].map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true));
    SimulatedCertificate::new(id, common_name, "active", &issued_on, &expires_on)
}

fn zone(name: &str, certificates: impl IntoIterator<Item = (&'static str, i64)>) -> SimulatedZone {
    let certificates = certificates.into_iter().enumerate();
    let certificates =
        certificates.map(|(n, (common_name, days))| certificate(&format!("{name}-{n}"), common_name, days));
    SimulatedZone { certificates: certificates.collect(), ..SimulatedZone::new(name) }
}

/// Runs the program to its end with an empty configuration.
async fn run(arguments: &[&str]) -> Output {
    run_with("", arguments).await
}

async fn run_with(config: &str, arguments: &[&str]) -> Output {
    let (config, mut arguments) =
        (config.to_owned(), arguments.iter().map(|&text| text.to_owned()).collect::<Vec<_>>());
    // A busy machine is slow, and no test is about the default.
    if !arguments.iter().any(|argument| matches!(&**argument, "--timeout" | "-t")) {
        arguments.extend(["--timeout".to_owned(), "60s".to_owned()]);
    }
    let run = move || {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let token = World::default().token().to_owned();
        support::run(&config, &arguments, &[("CLOUDFLARE_API_TOKEN", &token)])
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// What a monitoring system makes of the output.
struct Verdict {
    code: i32,
    text: String,
    /// Value, warning, critical, minimum and maximum.
    data: BTreeMap<String, [String; 5]>,
    lines: Vec<String>,
}

/// Reads the output as the guideline for monitoring plugins has it.
fn verdict(output: &Output) -> Verdict {
    let stdout = &output.stdout;
    assert!(stdout.len() <= 4096 && stdout.ends_with('\n'), "{stdout}");
    let code = output.code.unwrap();
    let mut lines = stdout.lines().map(str::to_owned);
    let first = lines.next().unwrap();
    let lines: Vec<_> = lines.collect();
    assert!(!lines.iter().any(|line| line.contains('|') || line.is_empty()), "{stdout}");
    let word = ["OK", "WARNING", "CRITICAL", "UNKNOWN"][usize::try_from(code).unwrap()];
    let rest = first.strip_prefix(&format!("CERTIFICATES {word} - ")).unwrap_or_else(|| panic!("{code}: {first}"));
    let (text, data) = rest.split_once('|').map_or((rest, None), |(text, data)| (text, Some(data)));
    let item = |item: &str| {
        let (label, rest) = item.split_once('=').unwrap();
        assert!(label.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{item}");
        let fields: Vec<_> = rest.split(';').collect();
        assert!(fields.len() <= 5, "{item}");
        let field = |n: usize| fields.get(n).copied().unwrap_or_default();
        assert!(field(0) == "U" || field(0).parse::<i64>().is_ok(), "{item}");
        for range in [field(1), field(2)] {
            assert!(range.is_empty() || range.strip_suffix(':').unwrap().parse::<u32>().is_ok(), "{item}");
        }
        (label.to_owned(), std::array::from_fn(|n| field(n).to_owned()))
    };
    let data: BTreeMap<_, _> = data.into_iter().flat_map(str::split_whitespace).map(item).collect();
    Verdict { code, text: text.trim().to_owned(), data, lines }
}

impl Verdict {
    fn numbers(&self) -> [&str; 7] {
        ["soonest_days", "expired", "critical", "warning", "active", "zones", "zones_not_fresh"]
            .map(|label| &*self.data[label][0])
    }
}

async fn check(daemon: &Daemon, arguments: &[&str]) -> Verdict {
    let url = daemon.url("/metrics");
    verdict(&run(&[&["check", "--url", &url], arguments].concat()).await)
}

#[tokio::test]
async fn each_verdict_has_its_exit_code_and_names_the_urgent_certificates() {
    let zones = [zone("a.example", [("sensor", 20), ("gate", 400)]), zone("b.example", [("meter", 3), ("lapsed", -2)])];
    let (_api, daemon) = start(World::of(zones), "").await;
    daemon.ready().await;

    let critical = check(&daemon, &[]).await;
    assert_eq!(critical.code, 2);
    assert_eq!(critical.numbers(), ["-2", "1", "1", "1", "4", "2", "0"]);
    assert_eq!(critical.data["soonest_days"][1..3], ["30:", "7:"]);
    assert_eq!(
        critical.text,
        "1 expired, 1 below 7 days, 1 below 30 days, first is b.example: lapsed (b.example-1), expired, -2 days"
    );
    assert_eq!(
        critical.lines,
        [
            "b.example: lapsed (b.example-1), expired, -2 days",
            "b.example: meter (b.example-0), 3 days",
            "a.example: sensor (a.example-0), 20 days"
        ]
    );

    let warning = check(&daemon, &["--zone", "a.example"]).await;
    assert_eq!(warning.code, 1);
    assert_eq!(warning.numbers(), ["20", "0", "0", "1", "2", "1", "0"]);
    let id = SimulatedZone::new("a.example").id.to_uppercase();
    let ok = check(&daemon, &["--zone", &id, "-w", "20:", "-c", "0"]).await;
    assert_eq!(ok.code, 0);
    assert_eq!(ok.numbers(), ["20", "0", "0", "0", "2", "1", "0"]);
    assert_eq!(ok.data["soonest_days"][1..3], ["20:", "0:"]);
    assert_eq!(ok.lines, [""; 0]);
    let both = check(&daemon, &["--zone", &id, "--zone", "b.example", "--warning", "1", "--critical", "1"]).await;
    assert_eq!(both.code, 2);
    assert_eq!(both.numbers(), ["-2", "1", "0", "0", "4", "2", "0"]);

    // A zone that is not there any more is one of which nothing is known.
    let unknown = check(&daemon, &["--zone", "a.example", "--zone", "c.example"]).await;
    assert_eq!(unknown.code, 3);
    assert_eq!(unknown.data["zones_not_fresh"][0], "1");
    assert_eq!(unknown.lines[1], "not fresh: c.example is none of the daemon's zones");
}

#[tokio::test]
async fn superseded_and_revoked_certificates_never_alarm() {
    let mut zone = zone("a.example", [("renewed", 3), ("renewed", 300), ("revoked", 2), ("empty", 40)]);
    zone.certificates[2].set("status", "revoked");
    let statuses = "[metrics]\nstatuses = [\"active\", \"revoked\"]";
    let (_api, daemon) = start(World::of([zone]), statuses).await;
    daemon.ready().await;
    assert!(daemon.get("/metrics").await.1.contains("status=\"revoked\",serial"), "there to be passed over");
    let verdict = check(&daemon, &[]).await;
    assert_eq!(verdict.code, 0);
    assert_eq!(verdict.numbers(), ["40", "0", "0", "0", "3", "1", "0"]);
}

#[tokio::test]
async fn a_stale_zone_is_unknown_unless_a_certificate_is_known_to_be_critical() {
    let zones = [
        zone("critical.example", [("meter", 3)]),
        zone("fine.example", [("sensor", 300)]),
        zone("stale.example", [("gate", 20)]),
        zone("never.example", []).with_fault(Fault::error(403, 10_000, "Authentication error")),
    ];
    let (api, daemon) = start(World::of(zones), "[poll]\ninterval = \"1s\"").await;
    daemon.ready().await;
    let never = check(&daemon, &["--zone", "never.example", "--zone", "fine.example"]).await;
    assert_eq!(never.code, 3);
    let [line] = &never.lines[..] else { panic!("{:?}", never.lines) };
    assert!(line.starts_with("not fresh: never.example was never listed: forbidden: "), "{line}");
    assert!(never.text.contains("1 of 2 zones not fresh: never.example was never listed"), "{}", never.text);

    api.change(|world| world.zones[2].fault = Some(Fault::error(403, 10_000, "Authentication error")));
    let stale = until("a zone being stale", async || {
        let stale = check(&daemon, &["--zone", "stale.example"]).await;
        (stale.code == 3).then_some(stale)
    })
    .await;
    // What is known of it is a warning, and there could be worse by now.
    assert_eq!(stale.data["warning"][0], "1");
    assert!(stale.lines[1].starts_with("not fresh: stale.example was last listed "), "{:?}", stale.lines);
    assert!(stale.lines[1].ends_with(" ago, and is due every 1s"), "{:?}", stale.lines);
    let all = check(&daemon, &[]).await;
    assert_eq!(all.code, 2);
    assert_eq!(all.data["zones_not_fresh"][0], "2");
    let itself = check(&daemon, &["--zone", "stale.example", "-c", "21"]).await;
    assert_eq!(itself.code, 2, "days go on counting while polls fail");
}

#[tokio::test]
async fn hidden_certificates_are_mentioned_and_are_unknown_if_they_could_be_worse() {
    let zones = [
        zone("many.example", [("a", 100), ("b", 200), ("c", 300)]),
        zone("renewed.example", [("a", 1), ("b", 2), ("a", 400), ("b", 400)]),
    ];
    let (_api, daemon) = start(World::of(zones), "[metrics]\nmax_certificates_per_zone = 2").await;
    daemon.ready().await;
    let many = check(&daemon, &["--zone", "many.example"]).await;
    assert_eq!(many.code, 0);
    assert!(many.text.contains("1 later or expired ones hidden by metrics.max_certificates_per_zone"), "{}", many.text);
    // Both that are shown are superseded; what is behind them could be two days old.
    let renewed = check(&daemon, &["--zone", "renewed.example"]).await;
    assert_eq!(renewed.code, 3);
    assert_eq!(renewed.data["soonest_days"][0], "U");
    assert!(
        renewed.text.contains("1 of 1 zones hide certificates that could be worse: renewed.example"),
        "{}",
        renewed.text
    );
}

#[tokio::test]
async fn active_certificates_without_series_are_unknown() {
    let mut undated = zone("undated.example", [("gate", 400), ("meter", 400)]);
    undated.certificates.iter_mut().for_each(|certificate| certificate.set("expires_on", "soon"));
    let mut one_undated = zone("one-undated.example", [("gate", 400), ("meter", 400)]);
    one_undated.certificates[0].set("expires_on", "soon");
    let mut revoked = zone("revoked.example", [("gate", 400), ("meter", -3)]);
    revoked.certificates.iter_mut().for_each(|certificate| certificate.set("status", "revoked"));
    let mut mixed = zone("mixed.example", [("gate", 400), ("meter", 400)]);
    mixed.certificates[0].set("status", "revoked");
    let world = World::of([
        undated,
        one_undated,
        revoked,
        mixed,
        zone("old.example", [("gate", -400)]),
        zone("empty.example", []),
    ]);
    let unreadable = "their dates or ids are missing or unreadable";
    for (statuses, expected) in [
        ("", [("undated", 3, unreadable), ("one-undated", 0, "1 not watched"), ("revoked", 0, ""), ("mixed", 0, "")]),
        (
            "[metrics]\nstatuses = [\"revoked\"]",
            [
                ("undated", 3, unreadable),
                ("one-undated", 3, unreadable),
                ("revoked", 0, ""),
                ("mixed", 3, "see metrics.statuses"),
            ],
        ),
        (
            "[metrics]\nstatuses = []",
            [
                ("undated", 3, unreadable),
                ("one-undated", 3, unreadable),
                ("revoked", 0, ""),
                ("mixed", 3, "see metrics.statuses"),
            ],
        ),
    ] {
        let (api, daemon) = start(world.clone(), statuses).await;
        daemon.ready().await;
        let file = config(&api, statuses);
        for (zone, code, part) in expected.into_iter().chain([("old", 0, ""), ("empty", 0, "")]) {
            let zone = format!("{zone}.example");
            let asked = check(&daemon, &["--zone", &zone]).await;
            let swept = verdict(&run_with(&file, &["check", "--sweep", "--zone", &zone]).await);
            for verdict in [asked, swept] {
                assert_eq!(verdict.code, code, "{statuses} {zone}: {}", verdict.text);
                assert!(verdict.text.contains(part), "{statuses} {zone}: {}", verdict.text);
            }
        }
    }
}

#[tokio::test]
async fn hostile_names_break_neither_the_output_line_nor_performance_data() {
    let mut hostile = zone("a.example", []);
    let names =
        ["pipe | x=1;2;3", "line\nCERTIFICATES OK - fine\r\n", "quotes ' \" =;", "back\\slash\\n", "\u{202e}oops"];
    for (number, common_name) in names.iter().enumerate() {
        hostile.certificates.push(certificate(&format!("{number}|\n"), common_name, 3));
    }
    for number in 0..30 {
        hostile.certificates.push(certificate(&format!("long-{number}"), &"証明書".repeat(80), 4));
    }
    let (_api, daemon) = start(World::of([hostile]), "").await;
    daemon.ready().await;
    let verdict = check(&daemon, &[]).await;
    assert_eq!(verdict.code, 2);
    assert_eq!(verdict.numbers(), ["3", "0", "35", "0", "35", "1", "0"]);
    let lines = &verdict.lines;
    assert_eq!(lines.len(), 11, "{lines:?}");
    assert_eq!(lines[0], "a.example: pipe   x=1;2;3 (0 \u{fffd}), 3 days");
    assert_eq!(lines[1], "a.example: line\u{fffd}CERTIFICATES OK - fine\u{fffd}\u{fffd} (1 \u{fffd}), 3 days");
    assert_eq!(lines[2], "a.example: quotes ' \" =; (2 \u{fffd}), 3 days");
    assert_eq!(lines[3], "a.example: back\\slash\\n (3 \u{fffd}), 3 days");
    assert_eq!(lines[4], "a.example: \u{fffd}oops (4 \u{fffd}), 3 days");
    assert!(lines[5].contains("証明書…"), "{}", lines[5]);
    assert_eq!(lines[10], "and 25 more");
}

#[tokio::test]
async fn check_finds_the_daemon_by_its_configuration_without_reading_secrets() {
    let (_api, daemon) = start(World::of([zone("a.example", [("sensor", 300)])]), "").await;
    daemon.ready().await;
    let port = daemon.url("").rsplit_once(':').unwrap().1.to_owned();
    for address in [format!("127.0.0.1:{port}"), format!(":{port}"), format!("0.0.0.0:{port}")] {
        // No token of it can be read, and no zone is in it.
        let text =
            format!("[server]\nlisten_addresses = [{address:?}]\n[credentials.default]\napi_token_file = \"no\"\n");
        assert_eq!(verdict(&run_with(&text, &["check"]).await).code, 0, "{address}");
        let output = run_with(&text, &["healthcheck"]).await;
        let line = format!("healthy: http://127.0.0.1:{port}/-/healthy answers.\n");
        assert_eq!(output.code, Some(0));
        assert_eq!(output.stdout, line);
        assert_eq!(output.stderr, String::new());
    }
    // Wherever its metrics are.
    let text = format!("[server]\nlisten_addresses = [\":{port}\"]\ntelemetry_path = \"/other\"\n");
    assert_eq!(verdict(&run_with(&text, &["check"]).await).code, 0);
    for path in ["", "/", "/metrics", "/longer/path/to/metrics?x=y", "/-/healthy", "/-/status.json"] {
        assert_eq!(verdict(&run(&["check", "--url", &daemon.url(path)]).await).code, 0, "{path}");
    }
}

#[tokio::test]
async fn check_is_unknown_for_another_version_or_another_server() {
    for (status, body, words) in [
        ("404 Not Found", "404 page not found\n", "returned 404; --url must name a daemon of this version"),
        (
            "200 OK",
            "Healthy.\n",
            "/-/status.json is not the status of this version of cloudflare-cert-exporter: expected value",
        ),
        ("200 OK", "{\"time\":\"2026-11-24T12:00:00Z\"}", "missing field `listings`"),
        ("200 OK", "{\"time\":\"2026-11-24T12:00:00Z\",\"listings\":[", "EOF while parsing"),
        ("200 OK", "{\"time\":\"noon\",\"listings\":[]}", "\"noon\" is not a time"),
        ("500 No", "", "returned 500; read its log"),
    ] {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/a/metrics", server.local_addr().unwrap());
        let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = server.accept().await {
                let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 4096]).await;
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await;
            }
        });
        let verdict = verdict(&run(&["check", "--url", &url]).await);
        assert!(verdict.code == 3 && verdict.text.contains(words), "{status} {body}: {}", verdict.text);
    }
}

/// Runs the program to its end, with this runtime directory and a configuration that says nothing right.
async fn run_in(runtime_directory: &str, arguments: &[&str]) -> Output {
    let (directory, arguments) = (runtime_directory.to_owned(), [arguments, &["--timeout", "60s"]].concat());
    let arguments: Vec<_> = arguments.into_iter().map(str::to_owned).collect();
    let run = move || {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let config = "[server]\nlisten_addresses = [\"127.0.0.1:1\"]\n";
        support::run(config, &arguments, &[("RUNTIME_DIRECTORY", &directory)])
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// A daemon that flags have moved, with a strict umask as the unit has it.
async fn start_moved(runtime_directory: &str, flags: &[&str]) -> (SimulatedApi, Daemon) {
    let api = SimulatedApi::start(World::of([zone("a.example", [("sensor", 300)])])).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let directory = tempfile::tempdir().unwrap();
    let config = config(&api, "[server]\nlisten_addresses = [\"127.0.0.1:1\"]\n");
    let arguments = [&["--web.listen-address", "127.0.0.1:0"], flags].concat();
    let environment = [("CLOUDFLARE_API_TOKEN", &*token), ("RUNTIME_DIRECTORY", runtime_directory)];
    let command = support::command(directory.path(), &config, &arguments, &environment);
    let mut shell = std::process::Command::new("/bin/bash");
    shell.args(["-c", "umask 077; exec \"$@\"", "bash"]).arg(command.get_program()).args(command.get_args());
    shell.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    (api, Daemon::wait_until_it_listens(shell, directory))
}

#[tokio::test]
async fn check_finds_a_daemon_moved_by_flags_through_its_runtime_directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let (_api, mut daemon) = start_moved(&format!("{path}:/nonexistent"), &["--web.telemetry-path", "/m"]).await;
    daemon.ready().await;
    let healthy = format!("healthy: {} answers.\n", daemon.url("/-/healthy"));
    // A plugin of Icinga's has the runtime directory of Icinga, and may have others too.
    for directories in [path, &format!("/nonexistent:{path}")] {
        assert_eq!(verdict(&run_in(directories, &["check"]).await).code, 0, "{directories}");
        assert_eq!(run_in(directories, &["healthcheck"]).await.stdout, healthy, "{directories}");
    }
    let files: Vec<_> = directory.path().read_dir().unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&files[0].metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o644, "the user of a monitoring system reads it");
    // What the command line says goes before.
    for elsewhere in [&["--url", "http://127.0.0.1:1"][..], &["--web.listen-address", "127.0.0.1:1"]] {
        let output = run_in(path, &[&["healthcheck"], elsewhere].concat()).await;
        assert!(output.code == Some(1) && output.stdout.contains("127.0.0.1:1/"), "{}", output.stdout);
        assert_eq!(verdict(&run_in(path, &[&["check"], elsewhere].concat()).await).code, 3);
    }
    // A second one takes the place of none that lives.
    let (_other_api, other) = start_moved(path, &[]).await;
    other.until_logged(&["level=warn", "another daemon has this directory"]).await;
    assert_eq!(run_in(path, &["healthcheck"]).await.stdout, healthy);
    drop(other);
    assert_eq!(run_in(path, &["healthcheck"]).await.stdout, healthy);
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
}

#[tokio::test]
async fn the_runtime_file_of_a_killed_daemon_is_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let (_api, daemon) = start_moved(path, &[]).await;
    let address = daemon.address().to_owned();
    let file = directory.path().join("cloudflare-cert-exporter.json");
    until("a runtime file", async || file.exists().then_some(())).await;
    // It is killed.
    drop(daemon);
    assert!(file.exists());
    let output = run_in(path, &["healthcheck"]).await;
    assert!(output.stdout.contains("127.0.0.1:1/") && !output.stdout.contains(&address), "{}", output.stdout);
    // The next one takes its place.
    let (_api, daemon) = start_moved(path, &[]).await;
    daemon.ready().await;
    let healthy = format!("healthy: {} answers.\n", daemon.url("/-/healthy"));
    assert_eq!(run_in(path, &["healthcheck"]).await.stdout, healthy);
}

#[tokio::test]
async fn check_finds_a_daemon_moved_by_flags_if_given_the_same_flags() {
    let files = support::web::Directory::new();
    let web = files.put("tls.yml");
    let web = ["--web.config.file", web.to_str().unwrap()];
    let ca = files.path("ca.pem");
    for is_tls in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        let flags = [&["--web.telemetry-path", "/m"][..], if is_tls { &web[..] } else { &[][..] }].concat();
        let (_api, daemon) = start_moved(path, &flags).await;
        let scheme = if is_tls { "https" } else { "http" };
        let healthy = format!("healthy: {scheme}://{}/-/healthy answers.\n", daemon.address());
        let same = [&["--web.listen-address", daemon.address()], &flags[..]].concat();
        assert_eq!(run_in("", &[&["healthcheck"], &same[..]].concat()).await.stdout, healthy);
        assert_eq!(run_in(path, &["healthcheck"]).await.stdout, healthy);
        let trust = if is_tls { vec!["--ca-file", ca.to_str().unwrap()] } else { Vec::new() };
        until("a good verdict", async || {
            let by_flags = run_in("", &[&["check"], &same[..], &trust].concat()).await.code;
            let by_file = run_in(path, &[&["check"], &trust[..]].concat()).await.code;
            ((by_flags, by_file) == (Some(0), Some(0))).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_stopped_daemon_is_unknown_to_check_and_unhealthy() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", port.local_addr().unwrap());
    // It listens, and never responds.
    let silent = verdict(&run(&["check", "--url", &url, "-t", "200ms"]).await);
    assert_eq!(silent.code, 3);
    assert!(silent.text.ends_with("/-/status.json in 200ms"), "{}", silent.text);
    let output = run(&["healthcheck", "--url", &url, "--timeout", "200ms"]).await;
    assert_eq!(output.code, Some(1));
    assert!(output.stdout.starts_with("unhealthy: no response from ") && output.stdout.lines().count() == 1);
    drop(port);
    let gone = verdict(&run(&["check", "--url", &url]).await);
    assert_eq!(gone.code, 3);
    assert!(
        gone.text.ends_with("; start the daemon, or name its address with --url") && gone.data.is_empty(),
        "{}",
        gone.text
    );
    let output = run(&["healthcheck", "--url", &url]).await;
    assert!(output.code == Some(1) && output.stdout.contains("refused"), "{}", output.stdout);
}

#[tokio::test]
async fn healthcheck_explains_what_the_web_configuration_requires() {
    for (status, words) in [(401, "requires a password"), (429, "rate limit"), (503, "returned 503")] {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", server.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = server.accept().await.unwrap();
            let answer = format!("HTTP/1.1 {status} No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            let mut request = [0; 4096];
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut request).await;
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
        });
        let output = run(&["healthcheck", "--url", &url]).await;
        assert_eq!(output.code, Some(1), "{}", output.stdout);
        assert!(output.stdout.contains(words), "{}", output.stdout);
        assert_eq!(output.stdout.contains("server.probe_listen_address"), status != 503, "{}", output.stdout);
    }
}

#[tokio::test]
async fn an_unverified_loopback_certificate_is_accepted_by_healthcheck_only() {
    let (_api, daemon) = start(World::of([zone("a.example", [("sensor", 300)])]), "").await;
    daemon.ready().await;
    let authority = Authority::new("Of the daemon");
    let address = daemon.url("").trim_start_matches("http://").parse().unwrap();
    let proxy = FaultProxy::start(address, authority.tls("localhost", [2020, 2100]));
    let url = proxy.base_url().replace("/client/v4", "");
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    assert_eq!(run(&["healthcheck", "--url", &url]).await.code, Some(0));
    let untrusted = verdict(&run(&["check", "--url", &url]).await);
    assert_eq!(untrusted.code, 3);
    assert!(untrusted.text.contains("certificate"), "{}", untrusted.text);
    let (ca, other) = (file("ca.pem", authority.pem()), file("other.pem", Authority::new("Another one").pem()));
    assert_eq!(verdict(&run(&["check", "--url", &url, "--ca-file", &ca]).await).code, 0);
    assert_eq!(verdict(&run(&["check", "--url", &url, "--ca-file", &other]).await).code, 3);
    let broken = verdict(&run(&["check", "--url", &url, "--ca-file", &file("broken.pem", "x".into())]).await);
    assert!(broken.code == 3 && broken.text.contains("broken.pem"), "{}", broken.text);
    // A password and a client certificate are sent along, whether they are asked for or not.
    let password = file("password", "secret\n".to_owned());
    let (key, cert) = authority_files(&file);
    let access = ["--basic-auth-user", "nagios", "--basic-auth-password-file", &password];
    let access = [&access[..], &["--client-cert", &cert, "--client-key", &key]].concat();
    let output = run(&[&["check", "--url", &url, "--ca-file", &ca], &access[..]].concat()).await;
    assert_eq!(verdict(&output).code, 0, "{}", output.stdout);
    for key in [&cert, &ca, &password] {
        let wrong = verdict(&run(&["check", "--url", &url, "--client-cert", &cert, "--client-key", key]).await);
        assert!(wrong.code == 3 && wrong.text.contains("as PEM"), "{}", wrong.text);
    }
}

/// Files of a key and of a certificate for it.
fn authority_files(file: &impl Fn(&str, String) -> String) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["client".to_owned()]).unwrap().self_signed(&key).unwrap();
    (file("key.pem", key.serialize_pem()), file("cert.pem", certificate.pem()))
}

#[tokio::test]
async fn a_password_is_sent_as_basic_authentication() {
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", server.local_addr().unwrap());
    let asked = tokio::spawn(async move {
        let (mut stream, _) = server.accept().await.unwrap();
        let mut request = [0; 4096];
        let length = tokio::io::AsyncReadExt::read(&mut stream, &mut request).await.unwrap();
        let answer = b"HTTP/1.1 401 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "secret\n").unwrap();
    let path = file.path().to_str().unwrap();
    let arguments = ["check", "--url", &url, "--basic-auth-user", "nagios", "--basic-auth-password-file", path];
    let refused = verdict(&run(&arguments).await);
    assert!(refused.code == 3 && refused.text.contains("--basic-auth-password-file"), "{}", refused.text);
    // "nagios:secret"
    let request = asked.await.unwrap();
    assert!(request.to_lowercase().contains("authorization: basic") && request.contains("bmFnaW9zOnNlY3JldA=="));
}

#[tokio::test]
async fn wrong_usage_and_unusable_configurations_are_unknown() {
    for (config, arguments, words) in [
        ("", vec!["check", "--warning", "7", "--critical", "30"], "--critical may not be more"),
        ("", vec!["check", "--bogus"], "--bogus"),
        ("", vec!["--bogus", "check"], "--bogus"),
        ("", vec!["--log.level", "debug", "check", "extra"], "extra"),
        ("", vec!["check", "-w", "many"], "many"),
        ("", vec!["check", "-w", "10:20"], "10:20"),
        ("", vec!["check", "-c", "-1"], "-1"),
        ("", vec!["check", "-c", "~:5"], "whole number of days"),
        ("", vec!["check", "-t", "0"], "longer than nothing"),
        ("", vec!["check", "-t", "18446744073709551615s 1000ms"], "no duration has to be"),
        ("", vec!["check", "--url"], "--url"),
        ("", vec!["check", "--url", "localhost:10199"], "http://"),
        ("", vec!["check", "--url", "http://user:pw@localhost"], "no password"),
        ("", vec!["check", "--basic-auth-user", "x"], "--basic-auth-password-file"),
        ("", vec!["check", "--sweep", "--url", "http://localhost"], "cannot be used with"),
        ("", vec!["--web.listen-address", ":1", "check"], "for the daemon"),
        ("", vec!["check", "--config.file", "/nonexistent/x.toml"], "/nonexistent/x.toml"),
        ("", vec!["--config.file", "list", "check", "--bogus"], "--bogus"),
        ("[server]\nlisten_adresses = []", vec!["check"], "listen_adresses"),
        ("[server\n", vec!["check"], "not valid TOML"),
        ("[server]\nlisten_addresses = [\":0\"]", vec!["check"], "--url"),
        ("[discovery]\ninclude = []", vec!["check", "--sweep"], "discovery.include"),
    ] {
        let arguments = if config.is_empty() && arguments.contains(&"--config.file") {
            // Once is all that it can be given.
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cloudflare-cert-exporter"));
            let output = command.env_clear().args(&arguments).output().unwrap();
            assert_eq!(output.status.code(), Some(3), "{arguments:?}");
            assert!(String::from_utf8_lossy(&output.stdout).contains(words));
            continue;
        } else {
            arguments
        };
        let output = run_with(config, &arguments).await;
        assert_eq!(output.code, Some(3), "{arguments:?}: {}{}", output.stdout, output.stderr);
        let verdict = verdict(&output);
        assert!(verdict.text.contains(words), "{arguments:?}: {}", verdict.text);
    }
    // Others say so as always.
    for (arguments, code) in [
        (vec!["healthcheck", "--bogus"], 2),
        (vec!["--web.listen-address", ":1", "healthcheck"], 2),
        (vec!["list", "--zone", "check", "--bogus"], 2),
        (vec!["check", "--help"], 0),
        (vec!["--config.file", "check", "list", "--bogus"], 2),
        (vec!["--config.file=x", "--log.level", "check", "list"], 2),
        (vec!["list", "--expiring-within", "18446744073709551615s 1000ms"], 2),
        (vec!["healthcheck", "--config.file", "x", "--help"], 0),
    ] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cloudflare-cert-exporter"));
        assert_eq!(command.env_clear().args(&arguments).output().unwrap().status.code(), Some(code), "{arguments:?}");
    }
    // Not answered for as long as this test may take.
    let world = World { latency: std::time::Duration::from_secs(600), ..World::of([zone("a.example", [])]) };
    let (_api, daemon) = start(world, "timeout = \"10m\"").await;
    let elsewhere = run(&["healthcheck", "--url", &daemon.url("/nowhere")]).await;
    let said = "/nowhere returned 404; --url must name the daemon.\n";
    assert!(elsewhere.code == Some(1) && elsewhere.stdout.ends_with(said), "{}", elsewhere.stdout);
    let unready = run(&["healthcheck", "--url", &daemon.url("/-/ready")]).await;
    let said = "/-/ready returned 503: 1 of 1 zones were not polled yet.\n";
    assert!(unready.code == Some(1) && unready.stdout.ends_with(said), "{}", unready.stdout);
    let unhealthy = run_with("[server\n", &["healthcheck"]).await;
    assert_eq!(unhealthy.code, Some(1), "{}", unhealthy.stdout);
    assert_eq!(unhealthy.stdout.lines().count(), 1, "{}", unhealthy.stdout);
}

#[tokio::test]
async fn check_with_sweep_lists_without_a_daemon() {
    let mut zones = [
        zone("a.example", [("renewed", 3), ("renewed", 300), ("revoked", 2), ("forgotten", -100), ("sensor", 20)]),
        zone("b.example", [("meter", 5)]),
    ];
    zones[0].certificates[2].set("status", "revoked");
    let api = SimulatedApi::start(World::of(zones)).await.unwrap();
    let text = config(&api, "");
    let sweep =
        async |arguments: &[&str]| verdict(&run_with(&text, &[&["check", "--sweep"], arguments].concat()).await);
    let all = sweep(&[]).await;
    assert_eq!(all.code, 2);
    assert_eq!(all.numbers(), ["5", "0", "1", "1", "5", "2", "0"]);
    assert_eq!(all.lines, ["b.example: meter (b.example-0), 5 days", "a.example: sensor (a.example-4), 20 days"]);
    assert_eq!(sweep(&["--zone", "a.example"]).await.code, 1);
    assert_eq!(sweep(&["--zone", "a.example", "-w", "20"]).await.code, 0);
    assert_eq!(sweep(&["--zone", "nowhere.example"]).await.code, 3);
    api.change(|world| world.zones[0].fault = Some(Fault::error(403, 10_000, "Authentication error")));
    let failed = sweep(&["--zone", "a.example"]).await;
    assert_eq!(failed.code, 3);
    assert!(failed.lines[0].starts_with("not fresh: a.example was never listed: forbidden: "), "{:?}", failed.lines);
    assert_eq!(sweep(&[]).await.code, 2, "what is critical for certain stays so");
}

#[tokio::test]
async fn check_works_against_the_demo() {
    let demo = ["demo", "--web.listen-address", "127.0.0.1:0", "--certificates", "60"];
    let daemon = Daemon::start("", &demo, &[]);
    daemon.ready().await;
    let verdict = check(&daemon, &[]).await;
    assert_eq!(verdict.code, 2);
    // And two accounts.
    assert_eq!(verdict.data["zones"][0], "7");
    assert_eq!(run(&["healthcheck", "--url", &daemon.url("")]).await.code, Some(0));
}

#[tokio::test]
async fn the_status_json_equals_the_output_of_list() {
    let zones = [
        zone("a.example", (0..250).map(|n| ("\"quoted\"", 10 + n))),
        zone("b.example", [("renewed", 3), ("renewed", 300)]),
        zone("c.example", []).with_fault(Fault::error(403, 10_000, "Authentication error")),
    ];
    let (api, daemon) = start(World::of(zones), "").await;
    daemon.ready().await;
    let answer = support::web::get_plain(daemon.address(), "/-/status.json", "").await.unwrap();
    let head = answer.split("\r\n\r\n").next().unwrap().to_lowercase();
    assert!(head.contains("\r\ncontent-type: application/json\r\n") && head.contains("no-store"), "{head}");
    let (_, body) = daemon.get("/-/status.json").await;
    let mut status: serde_json::Value = serde_json::from_str(&body).unwrap();
    let mut shown = Vec::new();
    for listing in status["listings"].as_array_mut().unwrap() {
        shown.append(listing["certificates"].as_array_mut().unwrap());
    }
    let suppressed: Vec<_> = shown
        .iter_mut()
        .filter_map(|certificate| {
            certificate.as_object_mut().unwrap().remove("suppressed").filter(|why| !why.is_null())
        })
        .collect();
    assert_eq!(suppressed, ["superseded"]);
    let (text, token) = (config(&api, ""), api.change(|world| world.token().to_owned()));
    let list = move || support::run(&text, &["list", "--output", "json"], &[("CLOUDFLARE_API_TOKEN", &token)]);
    let listed = tokio::task::spawn_blocking(list).await.unwrap();
    let listed: Vec<serde_json::Value> = serde_json::from_str(&listed.stdout).unwrap();
    assert!(listed.len() == 252 && listed.iter().all(|certificate| shown.contains(certificate)), "{shown:?}");
    assert_eq!(shown.len(), listed.len());
    let refused = &status["listings"][2];
    assert_eq!(refused["zone"], "c.example");
    assert_eq!(refused["last_success"], serde_json::Value::Null);
    assert_eq!(refused["last_poll"]["failure"]["reason"], "forbidden");
    assert!(!body.contains(World::default().token()));
}
