//! What it costs to write the exposition of 100,000 certificates, whole and after changes.

use std::{sync::Arc, time::Duration};

use cloudflare_cert_exporter::{
    exposition::{Exposition, SeriesSettings},
    model::{Certificate, Expiry, Field, Kind, Listing, Snapshot, Status, Target, TargetState, Texts},
};
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

const NOW: i64 = 1_795_521_600;

/// Drawn once, the same each time.
fn hex(random: &mut fastrand::Rng, digits: usize) -> String {
    (0..digits).map(|_| char::from_digit(random.u32(..16), 16).unwrap_or('0')).collect()
}

fn certificate(random: &mut fastrand::Rng, number: usize) -> Certificate {
    let expiry = NOW + random.i64(0..365 * 86_400);
    Certificate {
        texts: Texts::from([
            (Field::Id, [8, 4, 4, 4, 12].map(|digits| hex(random, digits)).join("-")),
            (Field::CommonName, format!("sensor-{number:06}.devices.example")),
            (Field::SerialNumber, hex(random, 40)),
            (Field::FingerprintSha256, hex(random, 64)),
            (Field::Ski, hex(random, 40)),
            (Field::Issuer, "Cloudflare Managed CA for account 0123456789abcdef".to_owned()),
            (Field::Signature, "SHA256WithRSA".to_owned()),
            (Field::Organization, "Example".to_owned()),
            (Field::OrganizationalUnit, "Devices".to_owned()),
            (Field::Country, "DE".to_owned()),
            (Field::State, "Berlin".to_owned()),
            (Field::Location, "Berlin".to_owned()),
        ]),
        status: Status::Active,
        expiry: Expiry::At(expiry),
        not_before: Some(expiry - 365 * 86_400),
    }
}

fn listing(seed: u64, certificates: usize) -> Listing {
    let mut random = fastrand::Rng::with_seed(seed);
    Listing::new((0..certificates).map(|number| certificate(&mut random, number)).collect())
}

fn zones(zones: u32, certificates: usize) -> Vec<Arc<TargetState>> {
    (0..zones)
        .map(|n| {
            let zone = Target {
                kind: Kind::Client,
                id: format!("{n:032x}").parse().expect("it is hexadecimal"),
                name: Some(format!("zone-{n}.example").into()),
                zone: None,
                credential: "default".into(),
                interval: Duration::from_secs(3600),
            };
            let listing = listing(n.into(), certificates);
            Arc::new(TargetState::new(Arc::new(zone)).succeeded(listing, NOW, Duration::from_secs(1)))
        })
        .collect()
}

fn settings() -> SeriesSettings {
    SeriesSettings {
        statuses: vec![Status::Active],
        max_certificates_per_zone: 1_000_000,
        expiring_within_days: vec![7, 14, 30, 90],
        forget_expired_after: Duration::from_secs(90 * 86_400),
        labels: Default::default(),
    }
}

fn exposition(zones: Vec<Arc<TargetState>>) -> Exposition {
    Exposition::new(settings()).next(Arc::new(Snapshot { targets: zones, ..Snapshot::default() }), NOW)
}

#[divan::bench(args = [(1, 10_000), (1, 100_000), (1_000, 100)], max_time = 10)]
fn everything(bencher: Bencher<'_, '_>, (n, size): (u32, usize)) {
    let (nothing, snapshot) =
        (Exposition::new(settings()), Arc::new(Snapshot { targets: zones(n, size), ..Snapshot::default() }));
    bencher.bench(|| nothing.next(black_box(snapshot.clone()), NOW));
}

#[divan::bench(args = [(1, 100_000), (1_000, 100)])]
fn plain_text(bencher: Bencher<'_, '_>, (n, size): (u32, usize)) {
    let exposition = exposition(zones(n, size));
    bencher.counter(divan::counter::BytesCount::new(exposition.text_length())).bench(|| {
        for block in 0.. {
            let Some(text) = exposition.text(block) else { break };
            black_box(text);
        }
    });
}

#[divan::bench(args = [(1, 100_000), (1_000, 100)])]
fn gzip(bencher: Bencher<'_, '_>, (n, size): (u32, usize)) {
    let exposition = exposition(zones(n, size));
    bencher.counter(divan::counter::BytesCount::new(exposition.gzip_length())).bench(|| {
        for part in 0.. {
            let Some(bytes) = exposition.gzip(part) else { break };
            black_box(bytes);
        }
    });
}

#[divan::bench]
fn one_zone_of_1_000_was_polled(bencher: Bencher<'_, '_>) {
    let mut zones = zones(1_000, 100);
    let exposition = exposition(zones.clone());
    zones[500] = Arc::new(zones[500].succeeded(listing(0, 100), NOW, Duration::from_secs(1)));
    let snapshot = Arc::new(Snapshot { targets: zones, ..Snapshot::default() });
    bencher.bench(|| exposition.next(black_box(snapshot.clone()), NOW));
}

#[divan::bench]
fn a_day_is_over_for_one_of_100_000(bencher: Bencher<'_, '_>) {
    let exposition = exposition(zones(1, 100_000));
    let later = exposition.valid_until();
    bencher.bench(|| exposition.next(black_box(exposition.snapshot().clone()), later));
}
