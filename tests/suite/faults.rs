//! What can go wrong at Cloudflare and on the way there, fault by fault, and what comes of it.

mod kind;
mod table;

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};

use crate::support::{
    Daemon,
    authority::Authority,
    config,
    fault_proxy::{FaultProxy, Upstream},
    freezing_proxy::FreezingProxy,
    metrics::Metrics,
    start, tests_everything, until, until_ok,
};
use cloudflare_sim::{AcceptedCredential, ApiError, Fault, SimulatedApi, SimulatedZone, World};
use futures_util::future::join_all;
use kind::{Entry, KINDS, Kind, config_of, id};
use table::{Lasts, OddEntry, Row, faults, odd_entries};
use tokio::time::{Instant, sleep};

const HEALTHY: &str = "healthy.example";

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_has_its_reason_affects_no_other_listing_and_recovers() {
    // In the everyday loop, of kinds with pages and without.
    let is_walked = |kind: &&Kind| tests_everything() || ["client", "aop_zone"].contains(&kind.label);
    let kinds: Vec<&Kind> = KINDS.iter().filter(is_walked).collect();
    let walks = join_all(kinds.iter().map(|kind| walk_listings(kind)));
    let (listings, entries, hosts) = tokio::join!(walks, walk_entries(), walk_hosts());
    let counts: Vec<_> = kinds.iter().zip(listings).map(|(kind, count)| format!("{count} of {}", kind.label)).collect();
    println!(
        "each fault as it should be, of listings and credentials {}, and for each kind {entries} of entries and {hosts} of the host",
        counts.join(", ")
    );
}

async fn walk_listings(kind: &Kind) -> usize {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let rows = faults(elsewhere.local_addr().unwrap()).into_iter().filter(|row| row.is_for(kind));
    let rows: Vec<_> = rows.collect();
    let both = || rows.iter().flat_map(|row| row.scopes().map(|scope| (row, scope)));

    let mut world = World { accounts: Vec::new(), ..World::default() };
    world.quota.requests = 1_000_000;
    // When the token expires is not told to accounts, which have no interval of their own: a good answer would begin the
    // count of refusals again.
    world.tokens_of_account = kind.is_of_account();
    // Two pages, where there are pages.
    let entries = Entry::light(51);
    kind.add(&mut world, HEALTHY, &entries);
    let mut environment = vec![("default".to_owned(), world.token().to_owned())];
    for (row, scope) in both() {
        kind.add(&mut world, &scope, &entries);
        *kind.listing(&mut world, &scope).0 = is_new(&scope).then(|| row.fault.clone());
        if row.stops {
            let token = format!("token-of-{scope}");
            world.credentials.push(AcceptedCredential::Token(token.clone()));
            environment.push((scope, token));
        }
    }
    let api = SimulatedApi::start(world).await.unwrap();
    // A scrape is read every three seconds, and as whole as it need be.
    let mut more =
        "concurrency = 20\n[metrics]\nmax_certificates_per_zone = 2\nexpiring_within_days = [30]\n".to_owned();
    for (name, _) in &environment {
        more.push_str(&format!("[credentials.{name:?}]\napi_token_env = {name:?}\n"));
    }
    let mut text =
        config_of(&api, std::slice::from_ref(kind), "timeout = \"2s\"\nrequests_per_5m = 100000", "3s", &more);
    let mut add = |scope: &str, line: &str| {
        text = text.replace(&format!("name = {scope:?}\n"), &format!("name = {scope:?}\n{line}\n"));
    };
    for (scope, _) in &environment[1..] {
        add(scope, &format!("credentials = {scope:?}"));
    }
    if !kind.is_of_account() {
        add(HEALTHY, "interval = \"1s\"");
        for (row, scope) in both() {
            match row.reason {
                // Others take as long to fail as two of these polls.
                None => add(&scope, "interval = \"8s\""),
                // Refused three times before the token is asked when it expires.
                Some(reason) if row.stops && reason != "rate_limited" => add(&scope, "interval = \"1s\""),
                Some(_) => {}
            }
        }
    }
    let environment: Vec<_> = environment.iter().map(|(name, token)| (name.as_str(), token.as_str())).collect();
    let daemon = Daemon::start(&text, &[], &environment);
    let look = async || Metrics::of(&daemon).await.of_kind(kind.label);

    // Waits until this is so for all of these.
    let until_all = async |what: &str, is_so: &dyn Fn(&Metrics, &Row, &str) -> bool| {
        until_ok(async || {
            // Each look reads the scrape of some 150 listings, at which everything else waits.
            sleep(Duration::from_secs(3)).await;
            let metrics = look().await;
            let missing: Vec<_> =
                both().filter(|(row, scope)| !is_so(&metrics, row, scope)).map(|(_, scope)| scope).collect();
            if missing.is_empty() { Ok(metrics) } else { Err(format!("{what} of {}: {missing:?}", kind.label)) }
        })
        .await
    };
    let is_whole = |metrics: &Metrics, scope: &str| {
        let held = api.change(|world| kind.listing(world, scope).1);
        metrics.up(scope) == Some(1.0) && metrics.entries(scope) == held as f64
    };
    let set_fault = |scope: &str, fault: Option<Fault>| api.change(|world| *kind.listing(world, scope).0 = fault);

    let is_stopped = |scope: &str, wait| format!(" credential={scope} wait={wait:?}\n");
    let before =
        until_all("a good listing", &|metrics, _, scope| is_new(scope) || metrics.up(scope) == Some(1.0)).await;
    let begun = Instant::now();
    both().filter(|(_, scope)| !is_new(scope)).for_each(|(row, scope)| set_fault(&scope, Some(row.fault.clone())));
    let counted = until_all("the fault being noticed", &|metrics, row, scope| {
        let Some(reason) = row.reason else {
            return is_whole(metrics, scope) && (is_new(scope) || metrics.polls(scope) >= before.polls(scope) + 2.0);
        };
        let is_noticed = metrics.reasons(scope).contains(&reason);
        if !is_noticed && row.lasts == Lasts::OnePoll && is_whole(metrics, scope) {
            // On a busy machine the answer with the fault may have come too late to be read: once more.
            set_fault(scope, Some(row.fault.clone()));
        }
        is_noticed
            && match row.lasts {
                Lasts::UntilItIsOver => true,
                Lasts::OnePoll => is_whole(metrics, scope),
                Lasts::Silence(wait) => !row.stops || daemon.log().contains(&is_stopped(scope, wait)),
            }
    })
    .await;
    let silent = Instant::now();
    sleep(Duration::from_secs(3)).await;
    let after = look().await;
    let due = begun.elapsed().as_secs_f64();

    let log = daemon.log();
    for (row, scope) in both() {
        let mut lines = log.lines().filter(|line| line.contains(&format!("{}={scope} ", kind.scope())));
        let word = row.word(kind);
        // On a machine that is busy enough, any answer can be late.
        let reasons = after.reasons(&scope);
        assert!(
            reasons.iter().all(|other| ["timeout", row.reason.unwrap_or_default()].contains(other)),
            "{scope}: {reasons:?}"
        );
        let Some(reason) = row.reason else {
            assert!(word.is_empty() || lines.any(|line| line.contains(&word)), "{scope}: no {word:?} in\n{log}");
            continue;
        };
        let line = lines.find(|line| line.contains(&word)).unwrap_or_else(|| panic!("{scope}: no {word:?} in\n{log}"));
        let shows = match (row.lasts, is_new(&scope)) {
            (Lasts::OnePoll, _) => "",
            (_, true) => "there is no data yet",
            (_, false) => "the last good listing stays",
        };
        for part in ["level=warn", &format!("reason={reason} "), shows] {
            assert!(line.contains(part), "{part:?} is missing in {line}");
        }
        let is_an_answer = !["connect", "timeout", "incomplete", "too_large"].contains(&reason);
        assert!(!is_an_answer || line.contains("cf-ray ") && line.contains("-SIM"), "{line}");
        if row.lasts == Lasts::OnePoll {
            continue;
        }
        assert_eq!(after.up(&scope), Some(0.0), "{scope}");
        assert_eq!(after.last_success(&scope), counted.last_success(&scope), "{scope}");
        if is_new(&scope) {
            assert_eq!(after.listing(&scope), [], "{scope}");
            assert_eq!(after.last_success(&scope), None, "{scope}");
        } else {
            assert_eq!(after.listing(&scope), before.listing(&scope), "{scope}");
        }
    }
    assert!(after.reasons(HEALTHY).iter().all(|reason| *reason == "timeout"), "{:?}", after.reasons(HEALTHY));
    let polls = after.polls(HEALTHY) - before.polls(HEALTHY);
    assert!(polls >= due / after.interval(HEALTHY) / 2.0, "{polls} polls of a healthy listing in {due} s");
    assert_eq!(elsewhere.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "a redirect was followed");
    let policy = [("credentials", "two-policies.new.example"), ("policy", "burst")];
    assert_eq!(after.get("cloudflare_api_rate_limit_remaining", &policy), Some(90.0));

    // All is well again, without anybody's help.
    let is_silent = |row: &Row| matches!(row.lasts, Lasts::Silence(..));
    both().filter(|(row, _)| !is_silent(row)).for_each(|(_, scope)| set_fault(&scope, None));
    until_all("being listed again", &|metrics, row, scope| is_silent(row) || is_whole(metrics, scope)).await;
    let requests = api.requests();
    for (row, scope) in both() {
        let Lasts::Silence(wait) = row.lasts else { continue };
        let id = id(&scope);
        let sent: Vec<_> =
            requests.iter().filter(|request| request.path.contains(&id)).map(|request| request.at).collect();
        let early = sent.windows(2).filter(|pair| pair[1] > silent && pair[1] - pair[0] < wait).count();
        assert_eq!(early, 0, "{scope} is asked before {wait:?} are over");
    }
    rows.len()
}

/// Whether a zone or account had its fault from the start.
fn is_new(scope: &str) -> bool {
    scope.contains(".new.")
}

/// 2099-01-01, which each date is that can be read.
const EXPIRES: f64 = 4_070_908_800.0;

/// Every kind that is tried at once.
async fn walk_entries() -> usize {
    let rows = odd_entries();
    let mut world = World { accounts: Vec::new(), ..World::default() };
    let entries: Vec<_> = rows
        .iter()
        .map(|(id, field, value, _)| Entry { id: (*id).to_owned(), odd: vec![(field, value.clone())] })
        .collect();
    KINDS.iter().for_each(|kind| kind.add(&mut world, "odd.example", &entries));
    let token = world.token().to_owned();
    let api = SimulatedApi::start(world).await.unwrap();
    let every_status = "[metrics]\nstatuses = [\"active\", \"pending_reactivation\", \"pending_revocation\", \"revoked\", \"unknown\"]\n";
    let daemon =
        Daemon::start(&config_of(&api, &KINDS, "", "1h", every_status), &[], &[("CLOUDFLARE_API_TOKEN", &token)]);
    daemon.ready().await;
    let metrics = Metrics::of(&daemon).await;
    for kind in &KINDS {
        assert_odd_entries(kind, &rows, &metrics.of_kind(kind.label));
    }
    rows.len()
}

fn assert_odd_entries(kind: &Kind, rows: &[OddEntry], metrics: &Metrics) {
    for (id, field, _, expected) in rows {
        let place = format!("{} {id}", kind.label);
        let labels = [("kind", kind.label), ("certificate_id", *id)];
        let expected = expected.map(|word| kind.status(word));
        let status = |status| metrics.get("cloudflare_certificate_info", &[labels[0], labels[1], ("status", status)]);
        assert_eq!(expected.ok().and_then(status), expected.ok().map(|_| 1.0), "{place}");
        let times = [
            "cloudflare_certificate_not_after_timestamp_seconds",
            "cloudflare_certificate_not_before_timestamp_seconds",
        ]
        .map(|name| metrics.get(name, &labels));
        let issued = kind.issued_in.filter(|issued_in| issued_in != field).map(|_| 1_767_225_600.0);
        assert_eq!(times, expected.map_or([None; 2], |_| [Some(EXPIRES), issued]), "{place}");
        assert_eq!(metrics.get("cloudflare_certificate_superseded", &labels), expected.ok().map(|_| 0.0), "{place}");
    }
    for reason in ["missing_id", "missing_expiry", "invalid_expiry", "duplicate_id"] {
        let count = rows.iter().filter(|(.., expected)| *expected == Err(reason)).count();
        let labels = [("kind", kind.label), ("reason", reason)];
        assert_eq!(metrics.get("cloudflare_certificates_rejected", &labels), Some(count as f64), "{labels:?}");
    }
    // Two entries of a kind whose entries hold certificates can hold the same one; of others, they are the same entry.
    let same = if kind.label == "edge" { 0.0 } else { 1.0 };
    let listed = metrics.entries("odd.example");
    assert_eq!(listed, rows.len() as f64 - same, "{}: what has no series counts all the same, and once", kind.label);
}

/// A fault of the host that every listing is asked of: what stands in its place, why polls fail, and a word from the log.
type HostRow = (&'static str, Upstream, &'static str, &'static str);

fn host_faults(authority: &Authority) -> Vec<HostRow> {
    let unknown = Authority::new("An unknown authority");
    vec![
        ("refused", Upstream::Closed, "connect", "Connection refused"),
        ("no-tls", Upstream::PlainText, "tls", "InvalidContentType"),
        ("wrong-name", authority.tls("api.example", [2020, 2099]), "tls", "not valid for name"),
        ("expired", authority.tls("localhost", [2020, 2021]), "tls", "expired"),
        ("not-yet-valid", authority.tls("localhost", [2098, 2099]), "tls", "not valid yet"),
        ("unknown-authority", unknown.tls("localhost", [2020, 2099]), "tls", "UnknownIssuer"),
    ]
}

async fn walk_hosts() -> usize {
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    let authority = Authority::new("An authority of a test");
    std::fs::write(&ca_file, authority.pem()).unwrap();
    let good = authority.tls("localhost", [2020, 2099]);
    let rows = host_faults(&authority);
    let count = rows.len() + 1;
    let walks = rows.into_iter().map(|row| walk_host(row, &good, &ca_file));
    tokio::join!(join_all(walks), walk_host_without_address(&ca_file));
    count
}

const ONLY: &str = "only.example";

async fn walk_host((name, bad, reason, word): HostRow, good: &Upstream, ca_file: &Path) {
    let api = SimulatedApi::start(only()).await.unwrap();
    let proxy = FaultProxy::start(api.address(), bad.clone());
    let daemon = poll_host(&api, &proxy.base_url(), ca_file, &[]);
    let until_up_is = async |up| {
        until(&format!("{name}: up being {up}"), async || {
            let metrics = Metrics::of(&daemon).await;
            KINDS.iter().all(|kind| metrics.of_kind(kind.label).up(ONLY) == Some(up)).then_some(metrics)
        })
        .await
    };
    daemon.ready().await;
    assert_is_unlisted(&daemon, name, reason, word).await;
    proxy.switch_to(good.clone());
    let before = until_up_is(1.0).await;
    proxy.switch_to(bad);
    let failing = until_up_is(0.0).await;
    sleep(Duration::from_secs(2)).await;
    let after = Metrics::of(&daemon).await;
    for kind in KINDS.map(|kind| kind.label) {
        let [before, failing, after] = [&before, &failing, &after].map(|metrics| metrics.of_kind(kind));
        assert_eq!(after.up(ONLY), Some(0.0), "{name} {kind}");
        assert_eq!(after.reasons(ONLY), [reason], "{name} {kind}");
        assert_eq!(after.listing(ONLY), before.listing(ONLY), "{name} {kind}");
        assert_eq!(after.last_success(ONLY), failing.last_success(ONLY), "{name} {kind}");
        let kind = format!("kind={kind} ");
        daemon.until_logged(&["the last good listing stays", &kind, &format!("reason={reason} "), word]).await;
    }
    assert_eq!(daemon.get("/-/healthy").await.0, 200, "{name}");
    proxy.switch_to(good.clone());
    until_up_is(1.0).await;
}

/// A host whose name cannot be resolved. Its recovery cannot be tested without changing the resolver of the machine.
async fn walk_host_without_address(ca_file: &Path) {
    let api = SimulatedApi::start(only()).await.unwrap();
    // Where no name server answers, the resolver would wait for long.
    let impatient = ("RES_OPTIONS", "timeout:1 attempts:1");
    let daemon = poll_host(&api, "https://cloudflare.invalid/client/v4", ca_file, &[impatient]);
    daemon.ready().await;
    assert_is_unlisted(&daemon, "no-address", "connect", "dns error").await;
}

/// A zone and an account of one name, with a listing of every kind.
fn only() -> World {
    let mut world = World { accounts: Vec::new(), ..World::default() };
    KINDS.iter().for_each(|kind| kind.add(&mut world, ONLY, &Entry::light(60)));
    world
}

/// Polls every kind each second at another place than where the API is.
fn poll_host(api: &SimulatedApi, base_url: &str, ca_file: &Path, environment: &[(&str, &str)]) -> Daemon {
    let token = api.change(|world| world.token().to_owned());
    let text = config_of(api, &KINDS, &format!("ca_file = {ca_file:?}"), "1s", "").replace(&api.base_url(), base_url);
    Daemon::start(&text, &[], &[environment, &[("CLOUDFLARE_API_TOKEN", &token)]].concat())
}

async fn assert_is_unlisted(daemon: &Daemon, name: &str, reason: &str, word: &str) {
    let metrics = Metrics::of(daemon).await;
    for kind in KINDS.map(|kind| kind.label) {
        let metrics = metrics.of_kind(kind);
        assert_eq!(metrics.up(ONLY), Some(0.0), "{name} {kind}: {}", daemon.log());
        assert_eq!(metrics.reasons(ONLY), [reason], "{name} {kind}: {}", daemon.log());
        assert_eq!(metrics.listing(ONLY), [], "{name} {kind}");
        assert_eq!(metrics.last_success(ONLY), None, "{name} {kind}");
        let kind = format!("kind={kind} ");
        daemon.until_logged(&["there is no data yet", &kind, &format!("reason={reason} "), word]).await;
    }
}

/// The daemon's memory in kB: now, and the most that it ever was.
fn memory(daemon: &Daemon) -> [u64; 2] {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    ["VmRSS:", "VmHWM:"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_faults_at_once_cost_no_data_little_memory_and_no_other_zone() {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let rows = faults(nowhere).into_iter().filter(|row| row.reason.is_some() && !row.stops);
    let rows: Vec<_> = rows.filter(|row| row.lasts == Lasts::UntilItIsOver).take(20).collect();
    for needed in ["endless", "gzip-bomb"] {
        assert!(rows.len() == 20 && rows.iter().any(|row| row.name == needed), "{needed}");
    }
    let names = rows.iter().map(|row| row.name).chain([HEALTHY]);
    let mut world = World::of(names.map(|name| SimulatedZone::of_size(name, 60)));
    world.quota.requests = 1_000_000;
    let settings = "timeout = \"1s\"\nrequests_per_5m = 100000\n[poll]\nconcurrency = 10\ninterval = \"1s\"";
    let (api, daemon) = start(world, settings).await;
    let zones = || rows.iter().map(|row| row.name);
    let until_all_are = async |up| {
        until(&format!("all zones having an up of {up}"), async || {
            let metrics = Metrics::of(&daemon).await;
            zones().all(|zone| metrics.up(zone) == Some(up)).then_some(metrics)
        })
        .await
    };
    let before = until_all_are(1.0).await;
    api.change(|world| {
        world.zones.iter_mut().zip(&rows).for_each(|(zone, row)| zone.fault = Some(row.fault.clone()));
    });
    let failing = until_all_are(0.0).await;
    let begun = Instant::now();
    sleep(Duration::from_secs(5)).await;
    let after = Metrics::of(&daemon).await;
    let due = begun.elapsed().as_secs_f64();
    for zone in zones() {
        assert_eq!(after.listing(zone), before.listing(zone), "{zone}");
        assert_eq!(after.last_success(zone), failing.last_success(zone), "{zone}");
    }
    let polls = after.polls(HEALTHY) - failing.polls(HEALTHY);
    let [now, most] = memory(&daemon);
    println!("20 faults at once: {polls} of {due:.0} polls of the healthy zone, {now} kB of memory, {most} kB at most");
    after.assert_polled(HEALTHY);
    // As many as were due, but for a machine that is busy with other things.
    assert!(polls >= due / 2.0, "{polls} polls of the healthy zone in {due} s");
    assert!(now < 100_000, "{now} kB of memory");
}

#[tokio::test]
async fn no_secret_is_in_any_log_page_metric_or_error() {
    let secret = "s3cret-s3cret-s3cret-s3cret-s3cret-s3cret";
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    // What stops the credential would keep all the others from being asked.
    let rows = faults(nowhere).into_iter().filter(|row| !row.stops);
    let mut zones: Vec<_> = rows.map(|row| SimulatedZone::of_size(row.name, 60).with_fault(row.fault)).collect();
    zones.push(SimulatedZone::of_size("healthy", 60));
    // A proxy in the way that echoes what it got.
    let echo = ApiError::new(400, 1, &format!("bad header: Authorization: Bearer {secret}"));
    zones.push(SimulatedZone::of_size("echo", 60).with_fault(echo.into()));
    let part = &secret[secret.len() - 8..];
    let echo: Fault = ApiError::new(400, 1, &format!("bad header that ends in {part}")).into();
    let header = |name, text: &str| Fault::Header(name, text.replace("PART", part));
    let echoes = [
        echo,
        header("cf-ray", "PART-SIM"),
        header("ratelimit", "\"PART\";r=1000"),
        header("ratelimit-policy", "\"PART\";q=1200"),
    ];
    zones.push(SimulatedZone::of_size("echo-in-part", 60).with_fault(Fault::All(echoes.to_vec())));
    let mut world = World::of(zones);
    world.quota.requests = 1_000_000;
    world.credentials = vec![
        AcceptedCredential::Token(secret.into()),
        AcceptedCredential::Key { email: "user@example.com".into(), key: secret.into() },
    ];
    let api = SimulatedApi::start(world).await.unwrap();
    for (format, environment) in [
        ("logfmt", vec![("CLOUDFLARE_API_TOKEN", secret)]),
        ("json", vec![("CLOUDFLARE_EMAIL", "user@example.com"), ("CLOUDFLARE_API_KEY", secret)]),
    ] {
        let text = config(&api, "timeout = \"3s\"\nrequests_per_5m = 100000\n[poll]\nconcurrency = 20");
        let arguments = ["--log.level", "debug", "--log.format", format];
        let mut daemon = Daemon::start(&text, &arguments, &environment);
        daemon.ready().await;
        for path in ["/metrics", "/", "/-/ready", "/-/healthy", "/nothing"] {
            assert!(!daemon.get(path).await.1.contains(part), "{path}");
        }
        daemon.signal("TERM");
        assert_eq!(daemon.wait(), Some(0));
        let log = daemon.log();
        assert!(log.contains("sent again") && log.lines().count() > 20, "{log}");
        assert!(
            log.contains("Bearer [secret]") && log.contains("ends in [secret]") && !log.contains("s3cret"),
            "{log}"
        );
    }
}

/// However Cloudflare tells that a token is no good: a hundred zones send a handful of requests, and a new token is
/// tried at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_token_is_tried_with_few_zones_only() {
    let error = |status, code, message: &str| ApiError::new(status, code, message);
    let tellings = [
        (error(403, 9109, "Invalid access token"), 6),
        (error(400, 6003, "Invalid request headers").because(6111, "Invalid format for Authorization header"), 6),
        (error(403, 9109, "Cannot use the access token from location: 2001:db8::7"), 6),
        (error(403, 9109, "Max auth failures reached, please check your Authorization header."), 4),
    ];
    join_all(tellings.map(|(telling, most)| walk_dead_token(telling, most))).await;
}

async fn walk_dead_token(telling: ApiError, most: usize) {
    const ZONES: usize = 100;
    let mut world = World::of((0..ZONES).map(|n| SimulatedZone::of_size(&format!("zone-{n}.example"), 1)));
    world.credentials = ["first-token", "second-token"].map(|token| AcceptedCredential::Token(token.into())).to_vec();
    world.fault = Some(telling.clone().into());
    let api = SimulatedApi::start(world).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "first-token").unwrap();
    let daemon = Daemon::start(
        &config(&api, &format!("[poll]\nconcurrency = 100\n[credentials.default]\napi_token_file = {file:?}")),
        &[],
        &[],
    );
    daemon.until_logged(&["Cloudflare refuses this credential"]).await;
    daemon.ready().await;
    let sent = api.requests().len();
    assert!(sent <= most, "{sent} requests: {telling:?}");
    let metrics = Metrics::of(&daemon).await;
    let log = daemon.log();
    assert_eq!(log.matches("Cloudflare refuses this credential").count(), 1, "{log}");
    assert!(log.contains("Not sent: Cloudflare refuses credential"), "{log}");
    let reasons: std::collections::BTreeSet<_> =
        (0..ZONES).flat_map(|n| metrics.reasons(&format!("zone-{n}.example"))).collect();
    assert_eq!(reasons.len(), 1, "one cause has one reason: {reasons:?}");

    api.change(|world| world.fault = None);
    std::fs::write(&file, "second-token").unwrap();
    until("every zone being listed", async || {
        let metrics = Metrics::of(&daemon).await;
        (0..ZONES).all(|n| metrics.up(&format!("zone-{n}.example")) == Some(1.0)).then_some(())
    })
    .await;
}

/// Over HTTP/2 every zone uses one connection. Where it is dead while its socket lives, the next try uses another.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_connection_with_a_live_socket_costs_at_most_one_timeout() {
    const ZONES: usize = 6;
    let name = |n: usize| format!("zone-{n}.example");
    let api = SimulatedApi::start(World::of((0..ZONES).map(|n| SimulatedZone::of_size(&name(n), 7)))).await.unwrap();
    let authority = Authority::new("An authority of a test");
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    std::fs::write(&ca_file, authority.pem()).unwrap();
    let proxy = FreezingProxy::start(api.address(), authority.acceptor("localhost", [2020, 2099], &["h2"])).await;
    let settings = format!("timeout = \"2s\"\nca_file = {ca_file:?}\n[poll]\ninterval = \"1s\"");
    let text = config(&api, &settings).replace(&api.base_url(), &proxy.base_url());
    let token = api.change(|world| world.token().to_owned());
    let daemon = Daemon::start(&text, &[], &[("CLOUDFLARE_API_TOKEN", &token)]);
    let polls = |metrics: &Metrics| (0..ZONES).map(|n| metrics.polls(&name(n))).fold(f64::INFINITY, f64::min);
    let until_polled = async |times: f64| {
        until("every zone being listed", async || {
            let metrics = Metrics::of(&daemon).await;
            let all_up = (0..ZONES).all(|n| metrics.up(&name(n)) == Some(1.0));
            (all_up && polls(&metrics) >= times).then_some(metrics)
        })
        .await
    };
    let before = until_polled(3.0).await;
    let first = proxy.connections();
    assert!(first <= 4, "{first} connections, more than poll.concurrency");
    proxy.freeze();
    let after = until_polled(polls(&before) + 5.0).await;
    for n in 0..ZONES {
        assert_eq!(after.reasons(&name(n)), Vec::<&str>::new(), "{}", daemon.log());
    }
    let others = proxy.connections() - first;
    assert!((1..=4).contains(&others), "{others} new connections: many timeouts at once renew them once");
}

/// As a token file is: a proxy that inspects connections gets another authority one day.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_ca_file_is_trusted_without_a_restart() {
    let api = SimulatedApi::start(only()).await.unwrap();
    let [first, second] = ["The first authority", "The second authority"].map(Authority::new);
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    let write = |pem: &str| {
        let beside = directory.path().join("beside");
        std::fs::write(&beside, pem).unwrap();
        std::fs::rename(beside, &ca_file).unwrap();
    };
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAAAAAA\n-----END CERTIFICATE-----\n";
    write(&format!("\u{feff}{}{damaged}", first.pem()));
    let proxy = FaultProxy::start(api.address(), first.tls("localhost", [2020, 2099]));
    let daemon = poll_host(&api, &proxy.base_url(), &ca_file, &[]);
    daemon.ready().await;
    daemon.until_logged(&["level=warn", "in this file cannot be used", "damaged=[2]"]).await;
    assert_eq!(Metrics::of(&daemon).await.up(ONLY), Some(1.0), "{}", daemon.log());

    // What cannot be used changes nothing, and is said once.
    write(damaged);
    daemon
        .until_logged(&[
            "level=warn",
            "The certificate authorities read before stay in use",
            "no certificate in it can be read",
        ])
        .await;
    let polls = Metrics::of(&daemon).await.polls(ONLY);
    until("more polls", async || (Metrics::of(&daemon).await.polls(ONLY) >= polls + 2.0).then_some(())).await;
    assert_eq!(Metrics::of(&daemon).await.reasons(ONLY), Vec::<&str>::new(), "{}", daemon.log());
    assert_eq!(daemon.log().matches("read before stay in use").count(), 1, "{}", daemon.log());

    proxy.switch_to(second.tls("localhost", [2020, 2099]));
    until("a failure", async || (Metrics::of(&daemon).await.up(ONLY) == Some(0.0)).then_some(())).await;
    write(&format!("{}{}", first.pem(), second.pem()));
    until("trust", async || (Metrics::of(&daemon).await.up(ONLY) == Some(1.0)).then_some(())).await;
    daemon.until_logged(&["level=info", "The certificate authorities in api.ca_file changed"]).await;
}

/// A zone that waits for its next poll after a failure does not wait where a reload names another file.
#[tokio::test]
async fn a_reload_with_another_ca_file_polls_at_once() {
    let api = SimulatedApi::start(only()).await.unwrap();
    let [first, second] = ["The first authority", "The second authority"].map(Authority::new);
    let directory = tempfile::tempdir().unwrap();
    let files = [("first.pem", &first), ("second.pem", &second)].map(|(name, authority)| {
        let file = directory.path().join(name);
        std::fs::write(&file, authority.pem()).unwrap();
        file
    });
    let proxy = FaultProxy::start(api.address(), second.tls("localhost", [2020, 2099]));
    let text = |file: &Path| config(&api, &format!("ca_file = {file:?}")).replace(&api.base_url(), &proxy.base_url());
    let token = api.change(|world| world.token().to_owned());
    let daemon = Daemon::start(&text(&files[0]), &[], &[("CLOUDFLARE_API_TOKEN", &token)]);
    daemon.ready().await;
    assert_eq!(Metrics::of(&daemon).await.reasons(ONLY), ["tls"]);
    daemon.configure(&text(&files[1]));
    daemon.signal("HUP");
    until("trust", async || (Metrics::of(&daemon).await.up(ONLY) == Some(1.0)).then_some(())).await;
}
