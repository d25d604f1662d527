//! What can go wrong at Cloudflare and on the way there, fault by fault, and what comes of it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc, reason = "a test that fails panics")]

mod support;

use std::time::Duration;

use cloudflare_cert_exporter::demo::{
    AcceptedCredential, ApiError, Canned, Delivery, Ending, Fault, SimulatedApi, SimulatedCertificate, SimulatedZone,
    World,
};
use support::{Daemon, config, metrics::Metrics, start, until};

#[tokio::test]
async fn what_is_odd_about_certificates_is_shown_and_counted() {
    let certificate = |id: &str, status: &str| {
        SimulatedCertificate::new(id, &format!("cn-{id}"), status, "2026-01-01T00:00:00Z", "2099-01-01T00:00:00Z")
    };
    let mut zone = SimulatedZone::new("odd.example");
    zone.certificates = vec![
        certificate("active", "active"),
        certificate("reactivating", "pending_reactivation"),
        certificate("revoking", "pending_revocation"),
        certificate("revoked", "revoked"),
        certificate("unheard-of", "hibernating"),
        certificate("no-status", "").without("status"),
        certificate("go-date", "active").with("expires_on", "2099-01-01 00:00:00 +0000 UTC"),
        certificate("fraction", "active").with("expires_on", "2099-01-01T00:00:00.123456Z"),
        certificate("offset", "active").with("expires_on", "2099-01-01T02:00:00+02:00"),
        certificate("past", "active").with("expires_on", "2026-11-01T00:00:00Z"),
        certificate("zero-date", "active").with("expires_on", "0001-01-01T00:00:00Z"),
        certificate("empty-date", "active").with("expires_on", ""),
        certificate("null-date", "active").with("expires_on", serde_json::Value::Null),
        certificate("absent-date", "active").without("expires_on"),
        certificate("word-date", "active").with("expires_on", "soon"),
        certificate("number-date", "active").with("expires_on", 4_070_908_800_u64),
        certificate("", "active").without("id"),
        certificate("no-issued", "active").without("issued_on"),
        certificate("bare", "active").without("certificate_authority").without("csr").without("certificate"),
        certificate("twice", "active"),
        certificate("twice", "active"),
        certificate("hostile", "active").with("common_name", "a\"b\\c\nd\u{202e}{{ e }}<b>"),
    ];
    let (_api, daemon) = start(World::of([zone]), "").await;
    daemon.ready().await;
    let metrics = Metrics::of(&daemon).await;
    let zone = [("zone", "odd.example")];
    assert_eq!(metrics.counts("odd.example"), [16.0, 1.0, 1.0, 1.0, 2.0].map(Some));
    let shown = [
        "active",
        "reactivating",
        "revoking",
        "unheard-of",
        "no-status",
        "go-date",
        "fraction",
        "offset",
        "past",
        "no-issued",
        "bare",
        "twice",
        "hostile",
    ];
    for id in shown {
        let labels = [("zone", "odd.example"), ("certificate_id", id)];
        let expected = if id == "past" { 1_793_491_200.0 } else { 4_070_908_800.0 };
        assert_eq!(metrics.get("cloudflare_certificate_not_after_timestamp_seconds", &labels), Some(expected), "{id}");
        let issued = metrics.get("cloudflare_certificate_not_before_timestamp_seconds", &labels);
        assert_eq!(issued, (id != "no-issued").then_some(1_767_225_600.0), "{id}");
    }
    assert_eq!(metrics.all("cloudflare_certificate_info", &zone).count(), shown.len());
    for (reason, count) in
        [("missing_id", 1.0), ("missing_expiry", 4.0), ("invalid_expiry", 2.0), ("duplicate_id", 1.0)]
    {
        let labels = [("zone", "odd.example"), ("reason", reason)];
        assert_eq!(metrics.get("cloudflare_certificates_rejected", &labels), Some(count), "{reason}");
    }
    let (_, body) = daemon.get("/metrics").await;
    assert!(body.contains("common_name=\"a\\\"b\\\\c\u{fffd}d\u{fffd}{{ e }}<b>\""));
}

/// A fault, the reason that is counted (none: the listing is good all the same), and a word from the log.
type FaultRow = (&'static str, Fault, &'static str, &'static str);

fn faults() -> Vec<FaultRow> {
    let error = Fault::error;
    vec![
        ("unauthorized", error(401, 1000, "Invalid API Token"), "unauthorized", "code 1000: Invalid API Token"),
        ("forbidden", error(403, 10_000, "Authentication error"), "forbidden", "SSL and Certificates: Read"),
        (
            "forbidden-here",
            error(403, 9109, "Cannot use the access token from location: 192.0.2.1"),
            "forbidden",
            "from location: 192.0.2.1",
        ),
        (
            "not-found",
            error(404, 7003, "Could not route to /zones/x, perhaps your object identifier is invalid?"),
            "not_found",
            "code 7003",
        ),
        (
            "chained",
            ApiError::new(400, 6003, "Invalid request headers")
                .because(6111, "Invalid format for Authorization header")
                .into(),
            "api_error",
            "because of code 6111",
        ),
        ("no-success", error(200, 1004, "Something"), "api_error", "code 1004: Something"),
        (
            "codeless",
            Fault::Instead(Canned::new(
                200,
                "application/json",
                r#"{"success":false,"errors":[{"message":"No code"}]}"#,
            )),
            "api_error",
            "No code",
        ),
        ("teapot", error(418, 1, "Teapot"), "api_error", "418"),
        ("redirect", Fault::redirect("http://127.0.0.1:9/"), "api_error", "redirects are not followed"),
        ("html", Fault::html(200), "decode", "not the JSON of the API"),
        ("null", Fault::Result(serde_json::Value::Null), "decode", "no result"),
        ("object", Fault::Result(serde_json::json!({"a": 1})), "decode", "another shape"),
        ("brackets", Fault::brackets(), "decode", "not the JSON of the API"),
        ("endless", Delivery::Endless.into(), "too_large", "larger than 8388608 bytes"),
        ("bomb", Delivery::GzipBomb(300_000_000).into(), "too_large", "larger than 8388608 bytes"),
        ("origin", Fault::origin_timed_out(), "server_error", "522"),
        ("500", error(500, 1000, "Internal Server Error"), "server_error", "code 1000: Internal Server Error"),
        ("unanswered", Delivery::Unanswered(Ending::Close).into(), "connect", "or it broke"),
        ("reset", Delivery::Half(Ending::Reset).into(), "connect", "or it broke"),
        ("truncated", Delivery::Half(Ending::Close).into(), "connect", "or it broke"),
        ("understated", Delivery::Understated.into(), "connect", "or it broke"),
        ("hanging", Delivery::Unanswered(Ending::Hang).into(), "timeout", "within 1s (api.timeout)"),
        ("half-hanging", Delivery::Half(Ending::Hang).into(), "timeout", "within 1s (api.timeout)"),
        ("slow", Delivery::ByteByByte(Duration::from_millis(100)).into(), "timeout", "within 1s (api.timeout)"),
        ("same-page", Fault::PageIgnored { admitted: false }, "incomplete", "ends early"),
        ("same-page-admitted", Fault::PageIgnored { admitted: true }, "incomplete", "ends early"),
        ("empty-page", Fault::EmptyFrom(2), "incomplete", "ends early"),
        ("promises", Fault::Info("total_count", Some(500.into())), "incomplete", "ends early"),
        ("grows", Fault::grows(), "incomplete", "changed while it was read"),
        ("shrinks", Fault::shrinks(), "incomplete", "changed while it was read"),
        ("no-info", Fault::NoInfo, "", ""),
        ("no-pages", Fault::Info("total_pages", None), "", ""),
        ("low-count", Fault::Info("total_count", Some(10.into())), "", "more certificates than it says"),
        ("page-size", Fault::PageSize(7), "", ""),
        ("overlap", Fault::Overlap, "", "more certificates than it says"),
        ("reordered-once", Fault::reorders().times(1), "", ""),
        ("forbidden-once", error(500, 10_001, "internal error").times(1), "", ""),
        ("reset-once", Fault::from(Delivery::Half(Ending::Reset)).times(1), "", ""),
        ("grows-once", Fault::grows().times(2), "", ""),
    ]
}

#[tokio::test]
async fn each_fault_has_its_reason_disturbs_no_other_zone_and_passes_by_itself() {
    let faults = faults();
    let mut zones: Vec<_> = faults
        .iter()
        .map(|(name, fault, ..)| SimulatedZone::of_size(&format!("{name}.example"), 120).with_fault(fault.clone()))
        .collect();
    zones.push(SimulatedZone::of_size("healthy.example", 120));
    let polls = "timeout = \"1s\"\nrequests_per_5m = 100000\n[poll]\nconcurrency = 100\ninterval = \"5s\"";
    let mut world = World::of(zones);
    world.quota.requests = 1_000_000;
    let (api, daemon) = start(world, polls).await;
    daemon.ready().await;
    let metrics = Metrics::of(&daemon).await;
    let log = daemon.log();
    for (name, _, reason, word) in &faults {
        let zone = format!("{name}.example");
        let line = log.lines().find(|line| line.contains(&format!("zone={zone}")) && line.contains(word));
        if reason.is_empty() {
            assert_eq!((metrics.up(&zone), metrics.reasons(&zone)), (Some(1.0), vec![]), "{name}");
            let shown = metrics.all("cloudflare_certificate_info", &[("zone", &zone)]).count();
            assert!((120..=122).contains(&shown), "{name}: {shown}");
            continue;
        }
        assert_eq!((metrics.up(&zone), metrics.reasons(&zone)), (Some(0.0), vec![*reason]), "{name}");
        assert_eq!(metrics.counts(&zone), [None; 5], "{name}: a zone without a good listing has no listing series");
        let line = line.unwrap_or_else(|| panic!("{name}: nothing in the log with {word:?}:\n{log}"));
        assert!(line.contains("level=warn") && line.contains(&format!("reason={reason}")), "{line}");
        if ["unauthorized", "forbidden", "not_found", "api_error", "decode", "server_error"].contains(reason) {
            assert!(line.contains("cf-ray ") && line.contains("-SIM"), "{line}");
        }
    }
    assert_eq!((metrics.up("healthy.example"), metrics.reasons("healthy.example")), (Some(1.0), vec![]));
    // All is well again, without anybody's help, but for the zone that is to wait for two minutes.
    api.change(|world| world.zones.iter_mut().for_each(|zone| zone.fault = None));
    until("every zone being listed again", async || {
        let metrics = Metrics::of(&daemon).await;
        let down: Vec<_> = faults
            .iter()
            .map(|(name, ..)| *name)
            .filter(|name| metrics.up(&format!("{name}.example")) == Some(0.0))
            .collect();
        (down == ["origin"]).then_some(())
    })
    .await;
    let metrics = Metrics::of(&daemon).await;
    for (name, ..) in faults.iter().filter(|(name, ..)| *name != "origin") {
        let zone = format!("{name}.example");
        let count = api.change(|world| world.zones.iter().find(|other| other.name == zone).unwrap().certificates.len());
        assert_eq!(metrics.counts(&zone)[0], Some(count as f64), "{name}");
    }
}

#[tokio::test]
async fn no_secret_is_in_any_log_page_metric_or_error() {
    let secret = "s3cret-s3cret-s3cret-s3cret-s3cret-s3cret";
    let mut zones: Vec<_> =
        faults().into_iter().map(|(name, fault, ..)| SimulatedZone::of_size(name, 60).with_fault(fault)).collect();
    zones.push(SimulatedZone::of_size("healthy", 60));
    // A proxy in the way that echoes what it got.
    let echo = ApiError::new(400, 1, &format!("bad header: Authorization: Bearer {secret}"));
    zones.push(SimulatedZone::of_size("echo", 60).with_fault(echo.into()));
    let mut world = World::of(zones);
    world.credentials = vec![
        AcceptedCredential::Token(secret.into()),
        AcceptedCredential::Key { email: "user@example.com".into(), key: secret.into() },
    ];
    let api = SimulatedApi::start(world).await.unwrap();
    for (format, environment) in [
        ("logfmt", vec![("CLOUDFLARE_API_TOKEN", secret)]),
        ("json", vec![("CLOUDFLARE_EMAIL", "user@example.com"), ("CLOUDFLARE_API_KEY", secret)]),
    ] {
        let text = config(&api, "timeout = \"1s\"\nrequests_per_5m = 100000\n[poll]\nconcurrency = 100");
        let arguments = ["--log.level", "debug", "--log.format", format];
        let mut daemon = Daemon::start(&text, &arguments, &environment);
        daemon.ready().await;
        for path in ["/metrics", "/", "/-/ready", "/-/healthy", "/nothing"] {
            assert!(!daemon.get(path).await.1.contains(secret), "{path}");
        }
        daemon.signal("TERM");
        assert_eq!(daemon.wait(), Some(0));
        let log = daemon.log();
        assert!(log.contains("sent again") && log.lines().count() > 20, "{log}");
        assert!(log.contains("Bearer [secret]") && !log.contains("s3cret"), "{log}");
    }
}
