//! Every kind of certificate from outside: what is read of its list, what it costs, and what is said of it.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use cloudflare_sim::{ApiError, Quota, Sibling, SimulatedApi, SimulatedListing, SimulatedZone, World};
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};

use crate::support::{Daemon, config, metrics::Metrics, run, until};

const ZONE: &str = "shop.example";
/// The account of the simulated zones.
const ACCOUNT: &str = "11cbe197c050c9e422aaa103cfe30ed8";
const SECRET: &str = "simulated-private-key";

/// A date so many days and an hour from now, as the API writes it.
#[expect(clippy::disallowed_methods, reason = "the daemon has the clock of this machine")]
fn in_days(days: i64) -> String {
    let time = Utc::now() + TimeDelta::days(days) + TimeDelta::hours(1);
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// The same as Go writes it.
fn go_date(days: i64) -> String {
    let time = DateTime::parse_from_rfc3339(&in_days(days)).unwrap();
    time.format("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()
}

/// A certificate in PEM, issued at the beginning of 2025.
fn pem(common_name: &str) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = rcgen::date_time_ymd(2025, 1, 1);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}

const ISSUED: f64 = 1_735_689_600.0;

/// A zone and its account with something of every kind.
fn world() -> World {
    let zone = SimulatedZone::of_size(ZONE, 3);
    let id = zone.id.clone();
    let pack = |id: &str, kind: &str, status: &str, certificates: Value| {
        json!({"id": id, "type": kind, "status": status, "hosts": ["shop.example", "*.shop.example"], "certificates": certificates,
            "certificate_authority": "google"})
    };
    let of = |id: &str, days: i64| json!({"id": id, "issuer": "GoogleTrustServices", "expires_on": in_days(days)});
    let aop = |id: &str, days: i64, uploaded: &str| {
        json!({"id": id, "status": "active", "issuer": "CN=Pull", "serial_number": "31", "uploaded_on": uploaded,
            "certificate": pem("origin pull"), "private_key": SECRET, "expires_on": in_days(days)})
    };
    let ca = |id: &str, kind: &str, days: i64| {
        json!({"id": id, "name": "pos fleet", "type": kind, "issuer": "CN=POS Root", "serial_number": "55",
            "certificates": pem("POS Root"), "expires_on": in_days(days)})
    };
    let zone_listing = |endpoint, entries: Vec<Value>| SimulatedListing::new(endpoint, &id, entries);
    let account_listing = |endpoint, entries: Vec<Value>| SimulatedListing::new(endpoint, ACCOUNT, entries);
    let listings = vec![
        zone_listing(
            Sibling::OriginCa,
            vec![
                json!({"id": "3285", "hostnames": ["shop.example"], "expires_on": go_date(40), "certificate": pem("CloudFlare Origin Certificate")}),
                json!({"id": "7106", "hostnames": ["old.example"], "expires_on": in_days(900), "revoked_at": in_days(-100)}),
            ],
        ),
        zone_listing(
            Sibling::CertificatePacks,
            vec![
                pack("p1", "universal", "active", json!([of("c1", 50), of("c2", 51)])),
                pack("p2", "advanced", "pending_validation", json!([])),
                pack("p3", "sni_custom", "active", json!([of("c3", 5)])),
                pack("p4", "universal", "backup_issued", json!([of("c4", 6)])),
            ],
        ),
        zone_listing(
            Sibling::CustomCertificates,
            vec![json!({"id": "u1", "hosts": ["shop.example"], "status": "active", "expires_on": in_days(12)})],
        ),
        zone_listing(
            Sibling::OriginPull,
            vec![aop("a1", 300, "2025-01-01T00:00:00Z"), aop("a2", -400, "2025-05-29T20:30:59.056429Z")],
        ),
        zone_listing(Sibling::OriginPullHostnames, vec![aop("h1", 8, "2025-01-01T00:00:00Z")]),
        zone_listing(
            Sibling::CustomHostnames,
            vec![
                json!({"id": "n1", "hostname": "app.customer.example", "ssl": {"id": "s1", "status": "active", "custom_key": SECRET,
                    "certificates": [{"id": "s1c", "serial_number": "9", "issued_on": "2025-01-01T00:00:00Z", "expires_on": in_days(20)}]}}),
                json!({"id": "n2", "hostname": "bare.customer.example", "ssl": null}),
                json!({"id": "n3", "hostname": "odd.customer.example", "ssl": {"status": ""}}),
            ],
        ),
        zone_listing(
            Sibling::TrustStore,
            vec![
                json!({"id": "t1", "status": "active", "issuer": "Example", "certificate": pem("Origin Root"), "expires_on": in_days(80)}),
            ],
        ),
        account_listing(Sibling::MtlsCertificates, vec![ca("m1", "custom", 70), ca("m2", "gateway_managed", 1)]),
        account_listing(
            Sibling::AccessCertificates,
            vec![json!({"id": "x1", "name": "Allow devs", "associated_hostnames": null, "expires_on": in_days(60)})],
        ),
        account_listing(
            Sibling::GatewayCertificates,
            vec![
                json!({"id": "g1", "in_use": true, "binding_status": "available", "issuer_raw": "CN=Gateway CA", "fingerprint": "AF:69",
                    "certificate": pem("Gateway CA"), "uploaded_on": "0001-01-01T00:00:00Z", "expires_on": in_days(55)}),
                json!({"id": "g2", "in_use": false, "binding_status": "available", "expires_on": in_days(500)}),
            ],
        ),
    ];
    let quota = Quota { requests: 1_000_000, ..Quota::default() };
    World { listings, quota, ..World::of([zone]) }
}

/// Lists every kind of every zone and of the account.
fn all_kinds(api: &SimulatedApi) -> String {
    config(api, "requests_per_5m = 1000000\n[poll]\nkinds = \"all\"\ninterval = \"1s\"\n[poll.intervals]\nINTERVALS")
        .replace("INTERVALS", &intervals())
        + &format!("[[accounts]]\nid = {ACCOUNT:?}\nname = \"Example Ltd\"\n")
}

/// Other kinds are listed rarely, unless it is said of each.
fn intervals() -> String {
    let kinds = ["origin_ca", "edge", "custom", "aop_zone", "aop_hostname", "trust_store", "custom_hostname"];
    let kinds = kinds.into_iter().chain(["mtls_ca", "access_ca", "gateway_ca"]);
    kinds.map(|kind| format!("{kind} = \"1s\"\n")).collect()
}

async fn start(world: World) -> (SimulatedApi, Daemon) {
    let api = SimulatedApi::start(world).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let daemon = Daemon::start(&all_kinds(&api), &[], &[("CLOUDFLARE_API_TOKEN", &token)]);
    daemon.ready().await;
    (api, daemon)
}

#[tokio::test]
async fn each_kind_is_listed_with_its_days_statuses_and_labels() {
    let (api, daemon) = start(world()).await;
    let metrics = Metrics::of(&daemon).await;
    let one = |name: &str, labels: &[(&str, &str)]| metrics.get(name, labels);
    for (kind, scope, id, common_name, days, issued, superseded) in [
        ("origin_ca", ZONE, "3285", "shop.example", 40.0, Some(ISSUED), 0.0),
        ("edge", ZONE, "c1", "shop.example", 50.0, None, 0.0),
        ("edge", ZONE, "c2", "shop.example", 51.0, None, 0.0),
        ("custom", ZONE, "u1", "shop.example", 12.0, None, 0.0),
        ("aop_zone", ZONE, "a1", "origin pull", 300.0, Some(ISSUED), 1.0),
        ("aop_hostname", ZONE, "h1", "origin pull", 8.0, Some(ISSUED), 0.0),
        ("custom_hostname", ZONE, "s1c", "app.customer.example", 20.0, Some(ISSUED), 0.0),
        ("trust_store", ZONE, "t1", "Origin Root", 80.0, Some(ISSUED), 0.0),
        ("mtls_ca", "Example Ltd", "m1", "pos fleet", 70.0, Some(ISSUED), 0.0),
        ("access_ca", "Example Ltd", "x1", "Allow devs", 60.0, None, 0.0),
        ("gateway_ca", "Example Ltd", "g1", "Gateway CA", 55.0, Some(ISSUED), 0.0),
        ("gateway_ca", "Example Ltd", "g2", "", 500.0, None, 1.0),
    ] {
        let is_of_account = scope != ZONE;
        let scope_label = if is_of_account { "account" } else { "zone" };
        let labels = [("kind", kind), (scope_label, scope), ("certificate_id", id), ("common_name", common_name)];
        let of_certificate = |name: &str| one(&format!("cloudflare_certificate_{name}"), &labels);
        assert_eq!(of_certificate("days_until_expiry"), Some(days), "{kind} {id}");
        assert_eq!(of_certificate("not_before_timestamp_seconds"), issued, "{kind} {id}");
        assert_eq!(of_certificate("superseded"), Some(superseded), "{kind} {id}");
        assert_eq!(of_certificate("info"), Some(1.0), "{kind} {id}");
        let of_scope = [("kind", kind), (scope_label, scope)];
        assert_eq!(one("cloudflare_certificates_up", &of_scope), Some(1.0), "{kind}");
        assert_eq!(one("cloudflare_certificates_available", &of_scope), Some(1.0), "{kind}");
        // The other scope has no labels here.
        let other = if is_of_account { "zone=" } else { "account=" };
        let mut series = metrics.all("cloudflare_certificate_info", &[("kind", kind)]);
        assert!(series.all(|(series, _)| !series.contains(other)), "{kind}");
    }
    // A long expired certificate that is still `active`, and ones that are retired or of another kind, are only counted.
    for id in ["7106", "a2", "c3", "c4", "m2"] {
        assert_eq!(one("cloudflare_certificate_info", &[("certificate_id", id)]), None, "{id}");
    }
    for (kind, status, count) in [
        ("origin_ca", "active", 1.0),
        ("origin_ca", "revoked", 1.0),
        ("edge", "active", 1.0),
        ("edge", "pending_validation", 1.0),
        ("edge", "backup_issued", 1.0),
        ("aop_zone", "active", 2.0),
        ("custom_hostname", "active", 1.0),
        ("custom_hostname", "unknown", 2.0),
        ("gateway_ca", "available", 2.0),
        ("mtls_ca", "active", 1.0),
    ] {
        let labels = [("kind", kind), ("status", status)];
        assert_eq!(one("cloudflare_certificates", &labels), Some(count), "{kind} {status}");
    }
    assert_eq!(one("cloudflare_certificates_expired", &[("kind", "aop_zone")]), Some(1.0));
    let renewed_by =
        |id| metrics.all("cloudflare_certificate_info", &[("certificate_id", id)]).next().unwrap().0.to_owned();
    assert!(
        renewed_by("c1").contains("renewed_by=\"cloudflare\"") && renewed_by("u1").contains("renewed_by=\"owner\"")
    );
    assert!(
        !renewed_by(&api.change(|world| world.zones[0].certificates[0].fields()["id"].as_str().unwrap().to_owned()))
            .contains("renewed_by")
    );

    // A private key stays where it was.
    let page = daemon.get("/").await.1;
    let status = daemon.get("/-/status.json").await.1;
    for text in [daemon.get("/metrics").await.1, page, status.clone(), daemon.log()] {
        assert!(!text.contains(SECRET) && !text.contains("BEGIN CERTIFICATE"), "{text:.300}");
    }
    let status: Value = serde_json::from_str(&status).unwrap();
    let of_gateway = status["listings"].as_array().unwrap().iter().find(|listing| listing["kind"] == "gateway_ca");
    assert_eq!(
        (&of_gateway.unwrap()["account"], &of_gateway.unwrap()["account_id"]),
        (&json!("Example Ltd"), &json!(ACCOUNT))
    );
}

#[tokio::test]
async fn a_listing_takes_one_request_for_fifty_entries_or_one_at_all() {
    let mut world = world();
    let many = |endpoint: Sibling, id: &str, count: usize| {
        let entry = |n: usize| {
            json!({"id": format!("{n:05}"), "status": "active", "hosts": [format!("h{n}.example")], "expires_on": in_days(90),
            "type": if endpoint == Sibling::MtlsCertificates { "custom" } else { "advanced" }})
        };
        SimulatedListing::new(endpoint, id, (0..count).map(entry))
    };
    let zone = world.zones[0].id.clone();
    world.listings = vec![
        many(Sibling::CertificatePacks, &zone, 51),
        many(Sibling::CustomCertificates, &zone, 50),
        many(Sibling::OriginPull, &zone, 60),
        many(Sibling::OriginCa, &zone, 49),
        many(Sibling::CustomHostnames, &zone, 120),
        many(Sibling::MtlsCertificates, ACCOUNT, 60),
        many(Sibling::AccessCertificates, ACCOUNT, 101),
    ];
    let api = SimulatedApi::start(world).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let text = all_kinds(&api).replace("1s", "1h");
    let daemon = Daemon::start(&text, &[], &[("CLOUDFLARE_API_TOKEN", &token)]);
    daemon.ready().await;
    let count = |part: &str| api.requests().iter().filter(|request| request.path.contains(part)).count();
    for (part, requests) in [
        ("/ssl/certificate_packs", 2),
        ("/custom_certificates", 1),
        ("/origin_tls_client_auth/hostnames", 1),
        ("/origin_tls_client_auth", 2),
        ("/v4/certificates", 1),
        ("/custom_hostnames", 3),
        ("/custom_trust_store", 1),
        ("/mtls_certificates", 1),
        ("/access/certificates", 3),
        ("/gateway/certificates", 1),
        ("/client_certificates", 1),
    ] {
        assert_eq!(count(part), requests, "{part}");
    }
    let metrics = Metrics::of(&daemon).await;
    for (kind, count) in
        [("edge", 51.0), ("aop_zone", 60.0), ("origin_ca", 49.0), ("custom_hostname", 120.0), ("access_ca", 101.0)]
    {
        let all: f64 = metrics.all("cloudflare_certificates", &[("kind", kind)]).map(|(_, value)| value).sum();
        assert_eq!(all, count, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_plan_does_not_include_is_no_failure_and_asked_for_rarely() {
    let mut world = world();
    let zone = world.zones[0].id.clone();
    let refusals = [
        (Sibling::CustomCertificates, 400, 1011, "Plan level does not allow custom certificates"),
        (Sibling::TrustStore, 403, 1450, "Advanced Certificate Manager is required"),
        (Sibling::CustomHostnames, 403, 1404, "Access to Custom Hostnames has not been granted for this zone"),
        (Sibling::AccessCertificates, 403, 9999, "access.api.error.not_enabled: access is not enabled"),
    ];
    for (endpoint, status, code, message) in refusals {
        let id = if endpoint == Sibling::AccessCertificates { ACCOUNT } else { &zone };
        world.listings.retain(|listing| listing.endpoint != endpoint);
        world.listings.push(SimulatedListing::refused(endpoint, id, ApiError::new(status, code, message)));
    }
    let (api, daemon) = start(world).await;
    let polls = async || {
        let metrics = Metrics::of(&daemon).await;
        (metrics.get("cloudflare_certificates_polls_total", &[("kind", "edge")]).unwrap() > 3.0).then_some(metrics)
    };
    let metrics = until("some more polls", polls).await;
    for kind in ["custom", "trust_store", "custom_hostname", "access_ca"] {
        let one = |name: &str| metrics.get(&format!("cloudflare_certificates_{name}"), &[("kind", kind)]);
        assert_eq!((one("available"), one("up"), one("polls_total")), (Some(0.0), None, Some(1.0)), "{kind}");
        assert_eq!(one("poll_interval_seconds"), Some(86_400.0), "{kind}");
        let failures = metrics.all("cloudflare_certificates_poll_failures_total", &[("kind", kind)]);
        assert_eq!(failures.map(|(_, value)| value).sum::<f64>(), 0.0, "{kind}");
        daemon.until_logged(&["level=info", &format!("kind={kind} "), "plan does not include"]).await;
    }
    assert!(!daemon.log().contains("level=warn"), "{}", daemon.log());
    let page = daemon.get("/").await.1;
    assert_eq!(page.matches("not on your plan: asked for again once a day").count(), 4, "{page}");
    assert_eq!(daemon.get("/-/ready").await.0, 200);

    // `list` says it too, and lists the rest.
    let token = api.change(|world| world.token().to_owned());
    let environment = [("CLOUDFLARE_API_TOKEN", &*token)];
    let listed = run(&all_kinds(&api), &["list", "--output", "json"], &environment);
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    assert_eq!(listed.stderr.matches("not on the plan").count(), 4, "{}", listed.stderr);
    let rows: Vec<Value> = serde_json::from_str(&listed.stdout).unwrap();
    let edge = rows.iter().find(|row| row["certificate_id"] == "c1").unwrap();
    assert_eq!(edge["hosts"], json!(["shop.example", "*.shop.example"]));
    let gateway = run(&all_kinds(&api), &["list", "--kind", "gateway_ca", "--output", "csv"], &environment);
    assert_eq!(gateway.stdout.lines().count(), 3, "{}", gateway.stdout);
    assert!(
        gateway.stdout.starts_with("kind,account,certificate_id,common_name,account_id,status,"),
        "{}",
        gateway.stdout
    );
}

#[tokio::test]
async fn another_plan_or_permission_shows_without_a_restart() {
    let (api, daemon) = start(world()).await;
    let of_custom = [("kind", "custom")];
    let refuse = |refusal: Option<ApiError>| {
        api.change(|world| {
            let listing = world.listings.iter_mut().find(|listing| listing.endpoint == Sibling::CustomCertificates);
            listing.unwrap().refusal = refusal;
        });
    };
    // A missing permission is a failure with a remedy of its own; what was listed stays.
    let denied = ApiError::new(403, 10_000, "Forbidden");
    refuse(Some(denied));
    let gateway = |refusal: Option<ApiError>| {
        api.change(|world| {
            let listing = world.listings.iter_mut().find(|listing| listing.endpoint == Sibling::GatewayCertificates);
            listing.unwrap().refusal = refusal;
        });
    };
    gateway(Some(ApiError::new(403, 10_000, "Forbidden")));
    until("a refusal", async || {
        let metrics = Metrics::of(&daemon).await;
        let failed = |kind| metrics.get("cloudflare_certificates_up", &[("kind", kind)]) == Some(0.0);
        (failed("custom") && failed("gateway_ca")).then_some(())
    })
    .await;
    daemon.until_logged(&["reason=forbidden", "SSL and Certificates: Read on this zone"]).await;
    daemon.until_logged(&["reason=forbidden", "Zero Trust: Read on this account"]).await;
    let metrics = Metrics::of(&daemon).await;
    assert_eq!(metrics.get("cloudflare_certificate_days_until_expiry", &of_custom), Some(12.0));
    // The others do not suffer from it.
    assert_eq!(metrics.get("cloudflare_certificates_up", &[("kind", "edge")]), Some(1.0));

    // A plan that no longer includes it keeps what was listed at first.
    refuse(Some(ApiError::new(400, 1011, "Plan level does not allow custom certificates")));
    let metrics = until("a smaller plan", async || {
        let metrics = Metrics::of(&daemon).await;
        (metrics.get("cloudflare_certificates_available", &of_custom) == Some(0.0)).then_some(metrics)
    })
    .await;
    assert_eq!(metrics.get("cloudflare_certificate_days_until_expiry", &of_custom), Some(12.0));
}

/// Some endpoints say it with 401, which is no sign of a dead token.
#[tokio::test]
async fn a_missing_permission_stops_no_other_kind_and_each_kind_names_its_own() {
    let mut world = world();
    for listing in &mut world.listings {
        listing.refusal = Some(ApiError::new(401, 9109, "Unauthorized to access requested resource"));
    }
    let (_api, daemon) = start(world).await;
    until("some more polls", async || {
        let metrics = Metrics::of(&daemon).await;
        (metrics.of_kind("gateway_ca").polls("Example Ltd") >= 3.0).then_some(())
    })
    .await;
    for (kind, permission) in [
        ("edge", "SSL and Certificates: Read on this zone"),
        ("access_ca", "Access: Mutual TLS Certificates: Read on this account"),
        ("gateway_ca", "Zero Trust: Read on this account"),
    ] {
        daemon.until_logged(&["reason=unauthorized", &format!("kind={kind} "), permission]).await;
    }
    assert!(!daemon.log().contains("refuses"), "{}", daemon.log());
    Metrics::of(&daemon).await.assert_polled(ZONE);
}

#[tokio::test]
async fn certificates_that_vanish_near_their_end_are_counted() {
    let (api, daemon) = start(world()).await;
    api.change(|world| {
        for listing in &mut world.listings {
            // `u1` had 12 days left, `c1` 50, `m1` 70 and `s1c` 20.
            if matches!(
                listing.endpoint,
                Sibling::CustomCertificates
                    | Sibling::CertificatePacks
                    | Sibling::MtlsCertificates
                    | Sibling::CustomHostnames
            ) {
                listing.entries.clear();
            }
        }
    });
    let metrics = until("empty listings", async || {
        let metrics = Metrics::of(&daemon).await;
        let shown = |id| metrics.get("cloudflare_certificate_info", &[("certificate_id", id)]).is_some();
        (!["u1", "c1", "m1", "s1c"].into_iter().any(shown)).then_some(metrics)
    })
    .await;
    for (kind, vanished) in [("custom", 1.0), ("edge", 0.0), ("mtls_ca", 0.0), ("custom_hostname", 1.0)] {
        assert_eq!(metrics.get("cloudflare_certificates_vanished_total", &[("kind", kind)]), Some(vanished), "{kind}");
    }
}

#[tokio::test]
async fn what_is_not_on_the_plan_is_known_after_a_restart() {
    let mut world = world();
    let zone = world.zones[0].id.clone();
    world.listings.retain(|listing| listing.endpoint != Sibling::CustomCertificates);
    let refusal = ApiError::new(400, 1011, "Plan level does not allow custom certificates");
    world.listings.push(SimulatedListing::refused(Sibling::CustomCertificates, &zone, refusal));
    let api = SimulatedApi::start(world).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let environment = [("CLOUDFLARE_API_TOKEN", &*token)];
    let directory = tempfile::tempdir().unwrap();
    let text = format!("{}[state]\ndirectory = {:?}\n", all_kinds(&api).replace("1s", "1h"), directory.path());
    let asked = || api.requests().iter().filter(|request| request.path.ends_with("/custom_certificates")).count();
    let of_custom = [("kind", "custom")];
    for restarts in 0..2 {
        let daemon = Daemon::start(&text, &[], &environment);
        daemon.ready().await;
        let metrics = Metrics::of(&daemon).await;
        assert_eq!(metrics.get("cloudflare_certificates_available", &of_custom), Some(0.0), "{restarts}");
        assert_eq!(metrics.get("cloudflare_certificates_up", &of_custom), None, "{restarts}");
        assert_eq!(metrics.get("cloudflare_certificate_info", &[("certificate_id", "g1")]), Some(1.0), "{restarts}");
        // Its file is written after the metrics are there.
        let is_saved = async || {
            let files = std::fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().file_name());
            (files.filter(|name| name.to_str().unwrap().contains("-custom-")).count() == 1).then_some(())
        };
        until("a file of what is not on the plan", is_saved).await;
        assert_eq!(asked(), 1, "{restarts}");
    }
}

#[tokio::test]
async fn kinds_of_accounts_without_an_account_are_named_at_the_start_and_after_a_reload() {
    let api = SimulatedApi::start(world()).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let of = |kinds: &str| config(&api, &format!("[poll]\nkinds = {kinds}\n"));
    let daemon = Daemon::start(&of("[\"client\", \"mtls_ca\"]"), &[], &[("CLOUDFLARE_API_TOKEN", &token)]);
    daemon.until_logged(&["The account kinds of poll.kinds (mtls_ca) are not listed"]).await;
    daemon.ready().await;
    daemon.configure(&of("[\"client\", \"mtls_ca\", \"gateway_ca\"]"));
    daemon.signal("HUP");
    daemon.until_logged(&["(mtls_ca, gateway_ca) are not listed"]).await;
}
