//! What can go wrong at Cloudflare and on the way there, fault by fault, and what comes of it.

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
    start, until, until_ok,
};
use cloudflare_sim::{
    AcceptedCredential, ApiError, Canned, Delivery, Ending, Fault, SimulatedApi, SimulatedCertificate, SimulatedZone,
    World,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// A fault of a zone, and what comes of it.
struct Row {
    name: &'static str,
    fault: Fault,
    /// Why polls fail; none where the listing is good all the same.
    reason: Option<&'static str>,
    /// A word from the log.
    word: &'static str,
    lasts: Lasts,
    /// It stops the whole credential, so it needs one of its own.
    stops: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Lasts {
    UntilItIsOver,
    OnePoll,
    /// Nothing is sent for so long, which is more patience than a test has.
    Silence(Duration),
}

impl Row {
    fn once(self) -> Self {
        Self { fault: self.fault.times(1), lasts: Lasts::OnePoll, ..self }
    }

    fn silent_for(self, seconds: u64) -> Self {
        Self { lasts: Lasts::Silence(Duration::from_secs(seconds)), ..self }
    }

    fn of_the_credential(self) -> Self {
        Self { stops: true, ..self }
    }

    /// The zone that has the fault from the start, and the one that has it after a good listing.
    fn zones(&self) -> [String; 2] {
        ["new", "listed"].map(|when| format!("{}.{when}.example", self.name))
    }
}

fn fails(name: &'static str, fault: impl Into<Fault>, reason: &'static str, word: &'static str) -> Row {
    Row { name, fault: fault.into(), reason: Some(reason), word, lasts: Lasts::UntilItIsOver, stops: false }
}

fn passes(name: &'static str, fault: impl Into<Fault>, word: &'static str) -> Row {
    Row { reason: None, ..fails(name, fault, "", word) }
}

/// The table. A redirect goes to `elsewhere`.
fn faults(elsewhere: SocketAddr) -> Vec<Row> {
    let error = Fault::error;
    let all = |faults: &[Fault]| Fault::All(faults.to_vec());
    let json = |status, body: &str| Fault::Instead(Canned::new(status, "application/json", body));
    let count = |count: Value| Fault::Info("total_count", Some(count));
    let pages = |pages: Value| Fault::Info("total_pages", Some(pages));
    let every = |seconds| Delivery::ByteByByte(Duration::from_secs(seconds));
    vec![
        // The answer takes too much room or time, or does not come whole.
        fails("endless", Delivery::Endless, "too_large", "larger than 8388608 bytes"),
        fails("gzip-bomb", Delivery::GzipBomb(300_000_000), "too_large", "larger than 8388608 bytes"),
        fails("unanswered", Delivery::Unanswered(Ending::Close), "connect", "Cloudflare broke"),
        fails("reset", Delivery::Half(Ending::Reset), "connect", "Cloudflare broke"),
        passes("reset-once", Fault::from(Delivery::Half(Ending::Reset)).times(1), ""),
        fails("truncated", Delivery::Half(Ending::Close), "connect", "Cloudflare broke"),
        fails("wrong-length", Delivery::Understated, "connect", "Cloudflare broke"),
        fails("hangs", Delivery::Unanswered(Ending::Hang), "timeout", "within 2s (api.timeout)"),
        fails("hangs-in-the-body", Delivery::Half(Ending::Hang), "timeout", "within 2s (api.timeout)"),
        fails("a-byte-a-second", every(1), "timeout", "within 2s (api.timeout)"),
        // The answer is not the API's.
        fails("html", Fault::html(200), "decode", "not the JSON of the API"),
        fails("empty", json(200, ""), "decode", "not the JSON of the API"),
        fails("no-content", json(204, ""), "decode", "not the JSON of the API"),
        fails("array", json(200, "[true,[],[]]"), "decode", "not the JSON of the API"),
        fails("brackets", Fault::brackets(), "decode", "not the JSON of the API"),
        fails("null-result", Fault::Result(Value::Null), "decode", "no result"),
        fails("object-result", Fault::Result(json!({"a": 1})), "decode", "another shape"),
        fails("redirect", Fault::redirect(&format!("http://{elsewhere}/")), "api_error", "redirects are not followed"),
        // The API, or what stands before it, is not well.
        fails("500", error(500, 1000, "Internal Server Error"), "server_error", "code 1000: Internal Server Error"),
        passes("500-once", error(500, 1000, "Internal Server Error").times(1), ""),
        fails("502", Fault::html(502), "server_error", "502 Bad Gateway"),
        fails("520", Fault::html(520), "server_error", "returned 520"),
        fails("522-retry-after", Fault::origin_timed_out(), "server_error", "returned 522").silent_for(120),
        fails("599", json(599, ""), "server_error", "returned 599"),
        // The API says no.
        fails("401-once", error(401, 1000, "Invalid API Token"), "unauthorized", "code 1000: Invalid API Token").once(),
        fails("401", error(401, 10_000, "Authentication error"), "unauthorized", "code 10000: Authentication error")
            .of_the_credential()
            .silent_for(60),
        fails("403", error(403, 10_000, "Authentication error"), "forbidden", "it gives no reason. The token"),
        fails(
            "403-permission",
            error(403, 9109, "Unauthorized to access requested resource"),
            "forbidden",
            "needs the permission SSL and Certificates: Read on this zone",
        ),
        fails("403-method", error(403, 10_001, "Method not allowed for token"), "forbidden", "needs the permission"),
        fails("403-no-zone", error(403, 9109, "Invalid zone identifier"), "forbidden", "sees no zone with this id"),
        fails(
            "403-unheard-of",
            error(403, 4711, "Computer says no"),
            "forbidden",
            "(code 4711: Computer says no). (cf-ray",
        ),
        passes("403-passing", error(403, 10_001, "internal error").times(2), ""),
        fails("403-internal", error(403, 10_001, "internal error"), "forbidden", "a temporary fault at Cloudflare"),
        fails(
            "403-challenge",
            all(&[Fault::html(403), Fault::Header("cf-mitigated", "challenge".into())]),
            "forbidden",
            "HTML) in place of the JSON of the API (cf-mitigated: challenge): the request was blocked at Cloudflare",
        ),
        fails(
            "403-of-the-edge",
            Fault::Instead(Canned::new(403, "text/plain", "error code: 1020")),
            "forbidden",
            "the request was blocked at Cloudflare",
        ),
        // About the credential, in whatever way Cloudflare reports it.
        fails(
            "403-from-here",
            error(403, 9109, "Cannot use the access token from location: 192.0.2.1"),
            "forbidden",
            "Client IP Address Filtering",
        )
        .of_the_credential()
        .silent_for(60),
        fails("403-dead-token", error(403, 9109, "Invalid access token"), "forbidden", "neither expired nor revoked")
            .of_the_credential()
            .silent_for(60),
        fails(
            "403-locked-out",
            error(403, 9109, "Max auth failures reached"),
            "forbidden",
            "has locked out credential",
        )
        .of_the_credential()
        .silent_for(900),
        fails("403-key", error(403, 9103, "Unknown X-Auth-Key or X-Auth-Email"), "forbidden", "is not accepted")
            .of_the_credential()
            .silent_for(60),
        fails("400-no-header", error(400, 9106, "Missing X-Auth-Key"), "api_error", "complete and bare")
            .of_the_credential()
            .silent_for(60),
        fails("404", error(404, 7003, "Could not route to /zones/x"), "not_found", "code 7003: Could not route"),
        fails("418", error(418, 1, "Teapot"), "api_error", "returned 418"),
        fails(
            "error-chain",
            ApiError::new(400, 6003, "Invalid request headers")
                .because(6111, "Invalid format for Authorization header"),
            "api_error",
            "because of code 6111",
        )
        .of_the_credential()
        .silent_for(60),
        fails("no-success", error(200, 1004, "Something"), "api_error", "with success: false (code 1004: Something)"),
        fails("no-code", json(200, r#"{"success":false,"errors":[{"message":"No code"}]}"#), "api_error", "(No code)"),
        fails("no-errors", json(200, r#"{"success":false,"result":[]}"#), "api_error", "with success: false."),
        // It says so to everything that the user does.
        fails("429-seconds", Fault::rate_limited("1"), "rate_limited", "code 971").of_the_credential(),
        fails("429-300", Fault::rate_limited("300"), "rate_limited", "code 971").of_the_credential().silent_for(300),
        fails("429-past", Fault::rate_limited("Tue, 24 Nov 2020 12:00:00 GMT"), "rate_limited", "code 971")
            .of_the_credential(),
        fails("429-date", Fault::rate_limited("Fri, 31 Dec 9999 23:59:59 GMT"), "rate_limited", "code 971")
            .of_the_credential()
            .silent_for(86_400),
        fails(
            "429-null",
            Fault::rate_limited_with_null(),
            "rate_limited",
            "429 Too Many Requests: this user sends too many",
        )
        .of_the_credential()
        .silent_for(300),
        fails("429-no-body", json(429, ""), "rate_limited", "429 Too Many Requests: this user sends too many")
            .of_the_credential()
            .silent_for(300),
        fails(
            "error-code-1015",
            all(&[Fault::edge_rate_limited(), Fault::Header("retry-after", "1".into())]),
            "rate_limited",
            "429 Too Many Requests: this user sends too many",
        )
        .of_the_credential(),
        fails("971-with-200", Fault::throttled_with_200(), "rate_limited", "200 OK with success: false (code 971")
            .of_the_credential()
            .silent_for(300),
        fails("10429-with-500", error(500, 10_429, "More than 1200 requests"), "rate_limited", "code 10429")
            .of_the_credential()
            .silent_for(300),
        passes(
            "two-policies",
            all(&[
                Fault::Header("ratelimit", r#""default";r=1000;t=1, "burst";r=90;t=2"#.into()),
                Fault::Header("ratelimit-policy", r#""default";q=1200;w=300, "burst";q=100;w=60"#.into()),
            ]),
            "",
        )
        .of_the_credential(),
        // The listing changes while it is read.
        passes("grows", Fault::grows().times(30), ""),
        // It grows again for the next reading, or it would soon fit on one page.
        fails(
            "shrinks",
            all(&[Fault::grows().on_page(1), Fault::shrinks().on_page(2)]),
            "incomplete",
            "changed while it was read",
        ),
        fails(
            "reordered",
            Fault::Edit(|certificates| certificates.rotate_left(7)),
            "incomplete",
            "changed while it was read",
        ),
        passes("reordered-once", Fault::reorders().times(1), ""),
        passes(
            "revoked-between-pages",
            Fault::Edit(|certificates| certificates[0].set("status", "revoked")).on_page(2),
            "",
        ),
        // Its pages do not fit together.
        fails("same-page", Fault::PageIgnored { admitted: false }, "incomplete", "ends early"),
        fails("same-page-admitted", Fault::PageIgnored { admitted: true }, "incomplete", "ends early"),
        fails(
            "same-page-uncounted",
            all(&[Fault::PageIgnored { admitted: false }, Fault::NoInfo]),
            "incomplete",
            "ends early",
        ),
        fails("empty-page", Fault::EmptyFrom(2), "incomplete", "ends early"),
        passes("other-page-size", Fault::PageSize(7), ""),
        passes("ids-on-two-pages", Fault::Overlap, "more certificates than it says"),
        passes("full-last-page", all(&[Fault::PageSize(20), Fault::NoInfo]), ""),
        // Its totals lie.
        fails("count-too-high", count(500.into()), "incomplete", "ends early"),
        fails("count-absurd", count(u64::MAX.into()), "too_large", "cannot be right"),
        passes("count-too-low", count(10.into()), "more certificates than it says"),
        passes("count-zero", count(0.into()), "more certificates than it says"),
        passes("count-no-number", count("sixty".into()), ""),
        passes("pages-too-many", pages(99.into()), ""),
        passes("pages-too-few", pages(1.into()), ""),
        passes("no-pages", Fault::Info("total_pages", None), ""),
        passes("no-totals", Fault::NoInfo, ""),
    ]
}

const HEALTHY: &str = "healthy.example";

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_has_its_reason_affects_no_other_zone_and_recovers() {
    let (zones, entries, hosts) = tokio::join!(walk_zones(), walk_entries(), walk_hosts());
    let all = zones + entries + hosts;
    println!(
        "{all} faults, each as it should be: {zones} of zones and credentials, {entries} of entries, {hosts} of the host"
    );
}

/// A zone of two pages without PEM, which is most of an entry, and which is slow to make and to pack.
fn light(name: &str) -> SimulatedZone {
    let mut zone = SimulatedZone::of_size(name, 60);
    for certificate in &mut zone.certificates {
        certificate.remove("certificate");
        certificate.remove("csr");
    }
    zone
}

async fn walk_zones() -> usize {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let rows = faults(elsewhere.local_addr().unwrap());
    let both = || rows.iter().flat_map(|row| row.zones().map(|zone| (row, zone)));

    let mut world = World::of([light(HEALTHY)]);
    world.quota.requests = 1_000_000;
    let mut environment = vec![("default".to_owned(), world.token().to_owned())];
    for row in &rows {
        let [new, listed] = row.zones().map(|zone| light(&zone));
        world.zones.extend([new.with_fault(row.fault.clone()), listed]);
        for zone in row.zones().into_iter().filter(|_| row.stops) {
            let token = format!("token-of-{zone}");
            world.credentials.push(AcceptedCredential::Token(token.clone()));
            environment.push((zone, token));
        }
    }
    let api = SimulatedApi::start(world).await.unwrap();
    let mut settings =
        "timeout = \"2s\"\nrequests_per_5m = 100000\n[poll]\nconcurrency = 20\ninterval = \"3s\"\n".to_owned();
    // A scrape is read once a second, and as whole as it need be.
    settings.push_str("[metrics]\nmax_certificates_per_zone = 5\n");
    for (name, _) in &environment {
        settings.push_str(&format!("[credentials.{name:?}]\napi_token_env = {name:?}\n"));
    }
    let add = |text: String, zone: &str, line: &str| {
        text.replace(&format!("name = {zone:?}\n"), &format!("name = {zone:?}\n{line}\n"))
    };
    let mut text = add(config(&api, &settings), HEALTHY, "interval = \"1s\"");
    for (zone, _) in &environment[1..] {
        // Refused three times before the token is asked when it expires, which would count as a good answer.
        text = add(text, zone, &format!("credentials = {zone:?}\ninterval = \"1s\""));
    }
    for (_, zone) in both().filter(|(row, _)| row.reason.is_none() && !row.stops) {
        text = add(text, &zone, "interval = \"5s\"");
    }
    let environment: Vec<_> = environment.iter().map(|(name, token)| (name.as_str(), token.as_str())).collect();
    let daemon = Daemon::start(&text, &[], &environment);

    // Waits until this is so for all of these.
    let until_all = async |what: &str, is_so: &dyn Fn(&Metrics, &Row, &str) -> bool| {
        until_ok(async || {
            // Each look reads the scrape of some 130 zones, at which everything else waits.
            sleep(Duration::from_millis(900)).await;
            let metrics = Metrics::of(&daemon).await;
            let missing: Vec<_> =
                both().filter(|(row, zone)| !is_so(&metrics, row, zone)).map(|(_, zone)| zone).collect();
            if missing.is_empty() { Ok(metrics) } else { Err(format!("{what}: {missing:?}")) }
        })
        .await
    };
    let is_new = |zone: &str| zone.contains(".new.");
    let is_whole = |metrics: &Metrics, zone: &str| {
        let held = api.change(|world| world.zones.iter().find(|other| other.name == zone).unwrap().certificates.len());
        metrics.up(zone) == Some(1.0) && metrics.counts(zone).into_iter().flatten().sum::<f64>() == held as f64
    };

    let is_stopped = |zone: &str, wait| format!(" credential={zone} wait={wait:?}\n");
    let before = until_all("a good listing", &|metrics, _, zone| is_new(zone) || metrics.up(zone) == Some(1.0)).await;
    let begun = Instant::now();
    api.change(|world| {
        for row in &rows {
            let listed = world.zones.iter_mut().find(|zone| zone.name == row.zones()[1]).unwrap();
            listed.fault = Some(row.fault.clone());
        }
    });
    let counted = until_all("the fault being noticed", &|metrics, row, zone| {
        let Some(reason) = row.reason else {
            return is_whole(metrics, zone) && (is_new(zone) || metrics.polls(zone) >= before.polls(zone) + 2.0);
        };
        let is_noticed = metrics.reasons(zone).contains(&reason);
        if !is_noticed && row.lasts == Lasts::OnePoll && is_whole(metrics, zone) {
            // On a busy machine the answer with the fault may have come too late to be read: once more.
            let fault = Some(row.fault.clone());
            api.change(|world| world.zones.iter_mut().find(|other| other.name == zone).unwrap().fault = fault);
        }
        is_noticed
            && match row.lasts {
                Lasts::UntilItIsOver => true,
                Lasts::OnePoll => is_whole(metrics, zone),
                Lasts::Silence(wait) => !row.stops || daemon.log().contains(&is_stopped(zone, wait)),
            }
    })
    .await;
    let silent = Instant::now();
    sleep(Duration::from_secs(3)).await;
    let after = Metrics::of(&daemon).await;
    let due = begun.elapsed().as_secs_f64();

    let log = daemon.log();
    for (row, zone) in both() {
        let mut lines = log.lines().filter(|line| line.contains(&format!("zone={zone} ")));
        let Some(reason) = row.reason else {
            after.assert_polled(&zone);
            assert!(
                lines.any(|line| line.contains(row.word)) || row.word.is_empty(),
                "{zone}: no {:?} in\n{log}",
                row.word
            );
            continue;
        };
        // On a machine that is busy enough, any answer can be late.
        assert!(after.reasons(&zone).iter().all(|other| [reason, "timeout"].contains(other)), "{zone}");
        let line =
            lines.find(|line| line.contains(row.word)).unwrap_or_else(|| panic!("{zone}: no {:?} in\n{log}", row.word));
        let shows = match (row.lasts, is_new(&zone)) {
            (Lasts::OnePoll, _) => "",
            (_, true) => "it has no data yet",
            (_, false) => "its last good listing stays",
        };
        for part in ["level=warn", &format!("reason={reason} "), shows] {
            assert!(line.contains(part), "{part:?} is missing in {line}");
        }
        let is_an_answer = !["connect", "timeout", "incomplete", "too_large"].contains(&reason);
        assert!(!is_an_answer || line.contains("cf-ray ") && line.contains("-SIM"), "{line}");
        if row.lasts == Lasts::OnePoll {
            continue;
        }
        assert_eq!(after.up(&zone), Some(0.0), "{zone}");
        assert_eq!(after.last_success(&zone), counted.last_success(&zone), "{zone}");
        if is_new(&zone) {
            assert_eq!(after.listing(&zone), [], "{zone}");
            assert_eq!(after.last_success(&zone), None, "{zone}");
        } else {
            assert_eq!(after.listing(&zone), before.listing(&zone), "{zone}");
        }
    }
    after.assert_polled(HEALTHY);
    let polls = after.polls(HEALTHY) - before.polls(HEALTHY);
    assert!(polls >= due / 2.0, "{polls} polls of a healthy zone in {due} s");
    assert_eq!(elsewhere.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "a redirect was followed");
    let policy = [("credentials", "two-policies.new.example"), ("policy", "burst")];
    assert_eq!(after.get("cloudflare_api_rate_limit_remaining", &policy), Some(90.0));

    // All is well again, without anybody's help.
    let is_silent = |zone: &str| both().any(|(row, other)| other == zone && matches!(row.lasts, Lasts::Silence(..)));
    api.change(|world| world.zones.iter_mut().filter(|zone| !is_silent(&zone.name)).for_each(|zone| zone.fault = None));
    until_all("being listed again", &|metrics, _, zone| is_silent(zone) || is_whole(metrics, zone)).await;
    let requests = api.requests();
    for (row, zone) in both() {
        let Lasts::Silence(wait) = row.lasts else { continue };
        let id = api.change(|world| world.zones.iter().find(|other| other.name == zone).unwrap().id.clone());
        let sent: Vec<_> =
            requests.iter().filter(|request| request.path.contains(&id)).map(|request| request.at).collect();
        let early = sent.windows(2).filter(|pair| pair[1] > silent && pair[1] - pair[0] < wait).count();
        assert_eq!(early, 0, "{zone} is asked before {wait:?} are over");
    }
    rows.len()
}

/// 2099-01-01, which each date is that can be read.
const EXPIRES: f64 = 4_070_908_800.0;

/// An entry by its id, and what it has in a field (none: the field is absent): its status then, or why it has no series.
type Entry = (&'static str, &'static str, Option<Value>, Result<&'static str, &'static str>);

fn odd_entries() -> Vec<Entry> {
    let text = |text: &str| Some(text.into());
    vec![
        ("plain", "status", text("active"), Ok("active")),
        ("reactivating", "status", text("pending_reactivation"), Ok("pending_reactivation")),
        ("revoking", "status", text("pending_revocation"), Ok("pending_revocation")),
        ("revoked", "status", text("revoked"), Ok("revoked")),
        ("status-unheard-of", "status", text("hibernating"), Ok("unknown")),
        ("status-absent", "status", None, Ok("unknown")),
        ("status-null", "status", Some(Value::Null), Ok("unknown")),
        ("status-number", "status", Some(7.into()), Ok("unknown")),
        ("date-of-go", "expires_on", text("2099-01-01 00:00:00 +0000 UTC"), Ok("active")),
        ("date-of-go-fraction", "expires_on", text("2099-01-01 00:00:00.987654321 +0000 UTC"), Ok("active")),
        ("date-fraction", "expires_on", text("2099-01-01T00:00:00.123456Z"), Ok("active")),
        ("date-offset", "expires_on", text("2099-01-01T02:00:00+02:00"), Ok("active")),
        ("date-blanks", "expires_on", text(" 2099-01-01T00:00:00Z\n"), Ok("active")),
        ("date-zero", "expires_on", text("0001-01-01T00:00:00Z"), Err("missing_expiry")),
        ("date-empty", "expires_on", text(""), Err("missing_expiry")),
        ("date-null", "expires_on", Some(Value::Null), Err("missing_expiry")),
        ("date-absent", "expires_on", None, Err("missing_expiry")),
        ("date-word", "expires_on", text("soon"), Err("invalid_expiry")),
        ("date-without-time", "expires_on", text("2099-01-01"), Err("invalid_expiry")),
        ("date-of-openssl", "expires_on", text("Jan  1 00:00:00 2099 GMT"), Err("invalid_expiry")),
        ("date-impossible", "expires_on", text("2099-02-30T00:00:00Z"), Err("invalid_expiry")),
        ("date-number", "expires_on", Some(4_070_908_800_u64.into()), Err("invalid_expiry")),
        ("date-list", "expires_on", Some(json!(["2099-01-01T00:00:00Z"])), Err("invalid_expiry")),
        ("issued-absent", "issued_on", None, Ok("active")),
        ("issued-word", "issued_on", text("yesterday"), Ok("active")),
        ("id-absent", "id", None, Err("missing_id")),
        ("id-empty", "id", text(""), Err("missing_id")),
        ("id-null", "id", Some(Value::Null), Err("missing_id")),
        ("id-number", "id", Some(7.into()), Err("missing_id")),
        ("id-doubled", "id", text("twice"), Err("duplicate_id")),
        ("twice", "id", text("twice"), Ok("active")),
        ("namesake", "common_name", text("Cloudflare"), Ok("active")),
        ("another-namesake", "common_name", text("Cloudflare"), Ok("active")),
        ("name-number", "common_name", Some(7.into()), Ok("active")),
        ("issuer-list", "certificate_authority", Some(json!(["x"])), Ok("active")),
        ("issuer-absent", "certificate_authority", None, Ok("active")),
        ("csr-absent", "csr", None, Ok("active")),
        ("certificate-null", "certificate", Some(Value::Null), Ok("active")),
    ]
}

async fn walk_entries() -> usize {
    let rows = odd_entries();
    let mut zone = SimulatedZone::new("odd.example");
    for (id, field, value, _) in &rows {
        let mut certificate =
            SimulatedCertificate::new(id, id, "active", "2026-01-01T00:00:00Z", "2099-01-01T00:00:00Z");
        match value {
            Some(value) => certificate.set(field, value.clone()),
            None => certificate.remove(field),
        }
        zone.certificates.push(certificate);
    }
    let every_status = "[metrics]\nstatuses = [\"active\", \"pending_reactivation\", \"pending_revocation\", \"revoked\", \"unknown\"]";
    let (_api, daemon) = start(World::of([zone]), every_status).await;
    daemon.ready().await;
    let metrics = Metrics::of(&daemon).await;
    for (id, field, _, expected) in &rows {
        let labels = [("certificate_id", *id)];
        let status = |status| metrics.get("cloudflare_certificate_info", &[labels[0], ("status", status)]);
        assert_eq!(expected.ok().and_then(status), expected.ok().map(|_| 1.0), "{id}");
        let times = [
            "cloudflare_certificate_not_after_timestamp_seconds",
            "cloudflare_certificate_not_before_timestamp_seconds",
        ]
        .map(|name| metrics.get(name, &labels));
        let issued = (*field != "issued_on").then_some(1_767_225_600.0);
        assert_eq!(times, expected.map_or([None; 2], |_| [Some(EXPIRES), issued]), "{id}");
        assert_eq!(metrics.get("cloudflare_certificate_superseded", &labels), expected.ok().map(|_| 0.0), "{id}");
    }
    for reason in ["missing_id", "missing_expiry", "invalid_expiry", "duplicate_id"] {
        let count = rows.iter().filter(|(.., expected)| *expected == Err(reason)).count();
        assert_eq!(
            metrics.get("cloudflare_certificates_rejected", &[("reason", reason)]),
            Some(count as f64),
            "{reason}"
        );
    }
    let listed: f64 = metrics.counts("odd.example").into_iter().flatten().sum();
    assert_eq!(listed, rows.len() as f64 - 1.0, "what has no series counts all the same, and once");
    rows.len()
}

/// A fault of the host that all zones are asked of: what stands in its place, why polls fail, and a word from the log.
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
    let api = SimulatedApi::start(World::of([SimulatedZone::of_size(ONLY, 60)])).await.unwrap();
    let proxy = FaultProxy::start(api.address(), bad.clone());
    let daemon = poll_host(&api, &proxy.base_url(), ca_file, &[]);
    let until_up_is = async |up| {
        until(&format!("{name}: up being {up}"), async || {
            let metrics = Metrics::of(&daemon).await;
            (metrics.up(ONLY) == Some(up)).then_some(metrics)
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
    assert_eq!(after.up(ONLY), Some(0.0), "{name}");
    assert_eq!(after.reasons(ONLY), [reason], "{name}");
    assert_eq!(after.listing(ONLY), before.listing(ONLY), "{name}");
    assert_eq!(after.last_success(ONLY), failing.last_success(ONLY), "{name}");
    daemon.until_logged(&["its last good listing stays", &format!("reason={reason} "), word]).await;
    assert_eq!(daemon.get("/-/healthy").await.0, 200, "{name}");
    proxy.switch_to(good.clone());
    until_up_is(1.0).await;
}

/// A host whose name cannot be resolved. Its recovery cannot be tested without changing the resolver of the machine.
async fn walk_host_without_address(ca_file: &Path) {
    let api = SimulatedApi::start(World::of([SimulatedZone::of_size(ONLY, 60)])).await.unwrap();
    // Where no name server answers, the resolver would wait for long.
    let impatient = ("RES_OPTIONS", "timeout:1 attempts:1");
    let daemon = poll_host(&api, "https://cloudflare.invalid/client/v4", ca_file, &[impatient]);
    daemon.ready().await;
    assert_is_unlisted(&daemon, "no-address", "connect", "dns error").await;
}

/// Polls the only zone each second at another place than where the API is.
fn poll_host(api: &SimulatedApi, base_url: &str, ca_file: &Path, environment: &[(&str, &str)]) -> Daemon {
    let token = api.change(|world| world.token().to_owned());
    let settings = format!("ca_file = {ca_file:?}\n[poll]\ninterval = \"1s\"");
    let text = config(api, &settings).replace(&api.base_url(), base_url);
    Daemon::start(&text, &[], &[environment, &[("CLOUDFLARE_API_TOKEN", &token)]].concat())
}

async fn assert_is_unlisted(daemon: &Daemon, name: &str, reason: &str, word: &str) {
    let metrics = Metrics::of(daemon).await;
    assert_eq!(metrics.up(ONLY), Some(0.0), "{name}: {}", daemon.log());
    assert_eq!(metrics.reasons(ONLY), [reason], "{name}: {}", daemon.log());
    assert_eq!(metrics.listing(ONLY), [], "{name}");
    assert_eq!(metrics.last_success(ONLY), None, "{name}");
    daemon.until_logged(&["it has no data yet", &format!("reason={reason} "), word]).await;
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
    let api = SimulatedApi::start(World::of([SimulatedZone::of_size(ONLY, 7)])).await.unwrap();
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
    let line = first.pem().lines().count() + 1;
    daemon
        .until_logged(&["level=warn", "no certificate that can be used", &format!("certificate 2 in line {line}")])
        .await;
    assert_eq!(Metrics::of(&daemon).await.up(ONLY), Some(1.0), "{}", daemon.log());

    // What cannot be used changes nothing, and is said once.
    write(damaged);
    daemon
        .until_logged(&["level=warn", "The certificate authorities read before stay in use", "certificate 1 in line 1"])
        .await;
    let polls = Metrics::of(&daemon).await.polls(ONLY);
    until("more polls", async || (Metrics::of(&daemon).await.polls(ONLY) >= polls + 2.0).then_some(())).await;
    assert_eq!(Metrics::of(&daemon).await.reasons(ONLY), Vec::<&str>::new(), "{}", daemon.log());
    assert_eq!(daemon.log().matches("read before stay in use").count(), 1, "{}", daemon.log());

    proxy.switch_to(second.tls("localhost", [2020, 2099]));
    until("a failure", async || (Metrics::of(&daemon).await.up(ONLY) == Some(0.0)).then_some(())).await;
    write(&format!("{}{}", first.pem(), second.pem()));
    until("trust", async || (Metrics::of(&daemon).await.up(ONLY) == Some(1.0)).then_some(())).await;
    daemon.until_logged(&["level=info", "api.ca_file changed and are used from now on"]).await;
}

/// A zone that waits for its next poll after a failure does not wait where a reload names another file.
#[tokio::test]
async fn a_reload_with_another_ca_file_polls_at_once() {
    let api = SimulatedApi::start(World::of([SimulatedZone::of_size(ONLY, 7)])).await.unwrap();
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
