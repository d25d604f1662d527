//! End to end with Debian's tools: promtool reads the metrics, and a real Prometheus scrapes the
//! daemon and is asked what it has understood.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::support::{
    self, Daemon, has_program, is_there,
    prometheus::{Prometheus, Series},
    web::{ALICE, Directory, get_plain},
};
use chrono::{DateTime, TimeDelta, Utc};
use cloudflare_sim::{SimulatedApi, SimulatedCertificate, SimulatedZone, World};
use serde_json::Value;

#[tokio::test]
async fn promtool_complains_about_one_known_name_only() {
    if !is_there("promtool", "prometheus", has_program("promtool")) {
        return;
    }
    for world in [World::demo(now(), 5, 60), world_of_edge_cases(now())] {
        let api = SimulatedApi::start(world).await.unwrap();
        let daemon = start(&api);
        daemon.ready().await;
        let (status, metrics) = daemon.get("/metrics").await;
        assert_eq!(status, 200);

        let mut promtool = Command::new("promtool");
        promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut promtool = promtool.spawn().unwrap();
        promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
        let output = promtool.wait_with_output().unwrap();
        // "Days" is no base unit; the name is what this program is for, and stays.
        let known = "cloudflare_certificate_days_until_expiry use base unit \"seconds\" instead of \"days\"\n";
        assert_eq!(
            (output.status.code(), String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
            (Some(3), "".into(), known.into())
        );
    }
}

#[tokio::test]
async fn prometheus_reads_the_numbers_of_the_demo() {
    if !is_there("prometheus", "prometheus", has_program("prometheus")) {
        return;
    }
    let before = now();
    let world = World::demo(before, 5, 60);
    let api = SimulatedApi::start(world.clone()).await.unwrap();
    let daemon = start(&api);
    daemon.ready().await;
    let prometheus = Prometheus::start(&daemon).await;

    prometheus.expect_whole_scrape(&daemon).await;
    prometheus.expect_world(&world, before).await;
}

#[tokio::test]
async fn prometheus_reads_edge_cases_and_drops_removed_certificates() {
    if !is_there("prometheus", "prometheus", has_program("prometheus")) {
        return;
    }
    let before = now();
    let mut world = world_of_edge_cases(before);
    let api = SimulatedApi::start(world.clone()).await.unwrap();
    let daemon = start(&api);
    daemon.ready().await;
    let prometheus = Prometheus::start(&daemon).await;

    prometheus.expect_whole_scrape(&daemon).await;
    prometheus.expect_world(&world, before).await;
    let superseded = prometheus.query("cloudflare_certificate_superseded == 1").await;
    let superseded: Vec<_> = superseded.iter().map(|series| series.label("certificate_id")).collect();
    assert_eq!(superseded, ["renewed"]);
    let failures = prometheus.query("cloudflare_certificates_poll_failures_total > 0").await;
    let failures: Vec<_> = failures.iter().map(|series| (series.label("zone"), series.label("reason"))).collect();
    assert_eq!(failures, [("denied.example", "forbidden")]);

    let gone = api.change(|world| changing(world).certificates.remove(1));
    changing(&mut world).certificates.remove(1);
    let of_it = format!("{{certificate_id={:?}}}", text(&gone, "id"));
    prometheus.wait_for("the removed certificate to be gone", &of_it, <[Series]>::is_empty).await;
    prometheus.expect_world(&world, before).await;
}

/// Every Prometheus that is there.
fn prometheis() -> Vec<PathBuf> {
    let installed =
        is_there("prometheus", "prometheus", has_program("prometheus")).then(|| PathBuf::from("prometheus"));
    installed.into_iter().chain(support::prometheus_3().map(|directory| directory.join("prometheus"))).collect()
}

#[tokio::test]
async fn prometheus_scrapes_over_tls_with_a_certificate_and_with_a_password() {
    for program in prometheis() {
        for (file, credentials, stranger) in [
            (
                "client-allowed-sans.yml",
                "    tls_config: {ca_file: <ca>, server_name: localhost, cert_file: <certificate>, key_file: <key>}\n",
                "    tls_config: {ca_file: <ca>, server_name: localhost}\n",
            ),
            (
                "users.yml",
                "    basic_auth: {username: alice, password: <password>}\n    tls_config: {ca_file: <ca>, server_name: localhost}\n",
                "    basic_auth: {username: alice, password: guess}\n    tls_config: {ca_file: <ca>, server_name: localhost}\n",
            ),
        ] {
            let directory = Directory::new();
            let api = SimulatedApi::start(World::demo(now(), 3, 20)).await.unwrap();
            let daemon = start_guarded(&api, &directory, file).await;
            let fill_in = |lines: &str| {
                let path = |name: &str| format!("{:?}", directory.path(name));
                let lines = lines.replace("<ca>", &path("ca.pem")).replace("<certificate>", &path("client.pem"));
                let lines = lines.replace("<key>", &path("client.key")).replace("<password>", ALICE.1);
                format!("    scheme: https\n{lines}")
            };
            let prometheus = Prometheus::start_with(&program, &daemon, &fill_in(credentials)).await;
            prometheus.wait_for("a good scrape", "up == 1", |series| series.len() == 1).await;
            let zones = prometheus.query("cloudflare_certificates_up").await;
            assert_eq!(zones.iter().map(|series| series.value).collect::<Vec<_>>(), [1.0; 3], "{program:?} {file}");
            drop(prometheus);

            let refused = Prometheus::start_with(&program, &daemon, &fill_in(stranger)).await;
            let up = refused.query("up").await;
            assert_eq!(up.iter().map(|series| series.value).collect::<Vec<_>>(), [0.0], "{program:?} {file}");
        }
        println!("{} scrapes with a certificate and with a password", program.display());
    }
}

/// A daemon with this file of `tests/web-config`, once it has polled every zone.
async fn start_guarded(api: &SimulatedApi, directory: &Directory, file: &str) -> Daemon {
    let more = format!(
        "[server]\nlisten_addresses = [\"127.0.0.1:0\"]\nprobe_listen_address = \"127.0.0.1:0\"\nweb_config_file = {:?}\n",
        directory.put(file)
    );
    let token = api.change(|world| world.token().to_owned());
    let daemon = Daemon::start(&support::config(api, &more), &[], &[("CLOUDFLARE_API_TOKEN", &token)]);
    let probe = daemon.probe_address().await;
    support::until("readiness", async || {
        let answer = get_plain(&probe, "/-/ready", "").await.unwrap();
        answer.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
    daemon
}

#[expect(clippy::disallowed_methods, reason = "the processes under test read the wall clock")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

/// The zone of [`world_of_edge_cases`] that is listed every second.
const CHANGING: &str = "changing.example";

fn changing(world: &mut World) -> &mut SimulatedZone {
    world.zones.iter_mut().find(|zone| zone.name == CHANGING).unwrap()
}

/// What the demo does not have, or does not do on its own.
fn world_of_edge_cases(now: DateTime<Utc>) -> World {
    let certificate = |id: &str, common_name: &str, status: &str, days_left: i64| {
        let date = |days| (now + TimeDelta::days(days) + TimeDelta::hours(1)).format("%Y-%m-%dT%H:%M:%SZ").to_string();
        SimulatedCertificate::new(id, common_name, status, &date(days_left - 365), &date(days_left))
    };
    let zone = |name: &str, certificates| SimulatedZone { certificates, ..SimulatedZone::new(name) };
    World::of([
        zone(
            "renewal.example",
            vec![certificate("renewed", "billing", "active", 5), certificate("renewal", "billing", "active", 364)],
        ),
        zone(
            "expired.example",
            vec![
                certificate("an-hour-left", "a", "active", 0),
                certificate("today", "b", "active", -1),
                certificate("last-month", "c", "active", -40),
                certificate("last-year", "d", "active", -400),
            ],
        ),
        zone(
            "statuses.example",
            vec![
                certificate("active", "a", "active", 10),
                certificate("pending-reactivation", "b", "pending_reactivation", 20),
                certificate("pending-revocation", "c", "pending_revocation", 30),
                certificate("revoked", "d", "revoked", 40),
                certificate("unheard-of", "e", "pending_deployment", 50),
                certificate("without-status", "f", "active", 60).without("status"),
                certificate("without-expiry", "g", "active", 70).without("expires_on"),
            ],
        ),
        zone(
            "names.example",
            vec![
                certificate("quotes", r#"a "quoted" \ name, {with="labels"} 1"#, "active", 80),
                certificate("letters", "Zürich 証明書", "active", 90),
                certificate("no-name", "", "active", 100),
            ],
        ),
        SimulatedZone::of_size("fleet.example", 237),
        SimulatedZone { denied: true, ..SimulatedZone::of_size("denied.example", 3) },
        SimulatedZone::of_size(CHANGING, 3),
    ])
}

/// A daemon that polls this world.
fn start(api: &SimulatedApi) -> Daemon {
    let mut config =
        format!("[server]\nlisten_addresses = [\"127.0.0.1:0\"]\n[api]\nbase_url = {:?}\n", api.base_url());
    let token = api.change(|world| {
        for zone in &world.zones {
            config.push_str(&format!("[[zones]]\nid = {:?}\nname = {:?}\n", zone.id, zone.name));
            if zone.name == CHANGING {
                config.push_str("interval = \"1s\"\n");
            }
        }
        world.token().to_owned()
    });
    Daemon::start(&config, &[], &[("CLOUDFLARE_API_TOKEN", &token)])
}

/// A field as it is listed; empty where it is absent.
fn text(certificate: &SimulatedCertificate, field: &str) -> String {
    certificate.fields().get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The status that the metrics have to show.
fn status(certificate: &SimulatedCertificate) -> &'static str {
    let listed = text(certificate, "status");
    STATUSES.into_iter().find(|known| *known == listed).unwrap_or("unknown")
}

const STATUSES: [&str; 5] = ["active", "pending_reactivation", "pending_revocation", "revoked", "unknown"];

impl Prometheus {
    /// The scrape succeeded, and every line of it has become a series of its own.
    async fn expect_whole_scrape(&self, daemon: &Daemon) {
        let (_, metrics) = daemon.get("/metrics").await;
        let lines = metrics.lines().filter(|line| !line.starts_with('#')).count();
        let value = async |expression: &str| match &self.query(expression).await[..] {
            [series] => series.value,
            other => panic!("{expression}: {other:?}"),
        };
        assert_eq!(value("up").await, 1.0, "{}", self.log());
        let lines = f64::from(u32::try_from(lines).unwrap());
        assert_eq!(value("scrape_samples_scraped").await, lines);
        // Of two lines with equal labels Prometheus keeps the first and says nothing.
        assert_eq!(value(r#"count({job="cloudflare", __name__!~"up|scrape_.*"})"#).await, lines);
    }

    /// The numbers are those of the world, of which nothing expired between `before` and now but by the clock.
    async fn expect_world(&self, world: &World, before: DateTime<Utc>) {
        let mut days = BTreeMap::new();
        for series in self.query("cloudflare_certificate_days_until_expiry").await {
            let labels = ["zone", "certificate_id", "common_name"].map(|name| series.label(name).to_owned());
            days.insert(labels, series.value);
        }
        let mut not_after = BTreeMap::new();
        for series in self.query("cloudflare_certificate_not_after_timestamp_seconds").await {
            not_after.insert(["zone", "certificate_id"].map(|name| series.label(name).to_owned()), series.value);
        }
        let mut counts = BTreeMap::new();
        for series in self.query("cloudflare_certificates").await {
            counts.insert(["zone", "status"].map(|name| series.label(name).to_owned()), series.value);
        }
        let mut up = BTreeMap::new();
        for series in self.query("cloudflare_certificates_up").await {
            up.insert(series.label("zone").to_owned(), series.value);
        }
        let after = now();

        let (mut expected_counts, mut expected_up) = (BTreeMap::new(), BTreeMap::new());
        for zone in &world.zones {
            expected_up.insert(zone.name.clone(), if zone.denied { 0.0 } else { 1.0 });
            if zone.denied {
                continue;
            }
            for wanted in STATUSES {
                let count = zone.certificates.iter().filter(|certificate| status(certificate) == wanted).count();
                let count = f64::from(u32::try_from(count).unwrap());
                expected_counts.insert([zone.name.clone(), wanted.to_owned()], count);
            }
            for certificate in &zone.certificates {
                let Ok(expiry) = DateTime::parse_from_rfc3339(&text(certificate, "expires_on")) else { continue };
                // Revoked ones, and those that expired more than 90 days ago, are only counted.
                if status(certificate) == "revoked" || before - expiry.to_utc() > TimeDelta::days(90) {
                    continue;
                }
                let [id, common_name] = ["id", "common_name"].map(|field| text(certificate, field));
                let seconds = not_after.remove(&[zone.name.clone(), id.clone()]);
                assert_eq!(seconds.map(|seconds| seconds.to_string()), Some(expiry.timestamp().to_string()), "{id}");
                let shown = days.remove(&[zone.name.clone(), id.clone(), common_name]);
                let shown = shown.unwrap_or_else(|| panic!("{} has no series for {id}", zone.name));
                // One value, unless a day ended in between.
                let days_at = |time: DateTime<Utc>| (expiry.to_utc() - time).as_seconds_f64() / 86_400.0;
                let (least, most) = (days_at(after).floor(), days_at(before).floor());
                assert!((least..=most).contains(&shown), "{id}: {shown} days, not {least} to {most}");
            }
        }
        assert_eq!((days, not_after), Default::default(), "these are not in the world");
        assert_eq!(counts, expected_counts);
        assert_eq!(up, expected_up);
    }
}
