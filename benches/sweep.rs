//! How long a listing of 10,000 certificates takes, against the floor that latency sets.
//!
//! `cargo bench --bench sweep` prints it; no time is asserted, since a busy machine is slow.

#![expect(clippy::print_stdout, reason = "this is what it is for")]

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use cloudflare_cert_exporter::{
    cloudflare::{ApiSettings, BaseUrl, ClientMaker, Credential, Priority, Scheme, SecretSource},
    model::{Baseline, Kind, Target},
};
use cloudflare_sim::{SimulatedApi, SimulatedZone, World};
use tokio::time::Instant;

const CERTIFICATES: usize = 10_000;
const CONCURRENCY: u32 = 16;
const LATENCY: Duration = Duration::from_millis(50);
const ROUNDS: usize = 5;

#[tokio::main]
async fn main() {
    let zone = SimulatedZone::of_size("a.example", CERTIFICATES);
    let id = zone.id.parse().expect("the simulation makes valid ids");
    let world = World { latency: LATENCY, ..World::of([zone]) };
    let token = world.token().to_owned();
    let api = SimulatedApi::start(world).await.expect("a loopback port is free");
    let settings = ApiSettings {
        base_url: BaseUrl::try_new(&api.base_url()).expect("loopback is allowed"),
        timeout: Duration::from_secs(30),
        requests_per_5m: 1_000_000,
        concurrency: CONCURRENCY,
        ca_file: None,
    };
    api.change(|world| world.quota.requests = 1_000_000);
    let credential = Credential::load("default", Scheme::Token(SecretSource::Fixed(token.into()))).expect("it is bare");
    let clients = ClientMaker::for_one_sweep(|| DateTime::<Utc>::UNIX_EPOCH)
        .make(&settings, &[Arc::new(credential)])
        .expect("nothing else is registered");
    let client = &clients["default"];
    let zone = Target {
        kind: Kind::Client,
        id,
        name: None,
        zone: None,
        credential: "default".into(),
        interval: Duration::from_secs(3600),
    };

    let pages = u32::try_from(CERTIFICATES.div_ceil(50)).expect("it is small");
    let floor = LATENCY * (1 + (pages - 1).div_ceil(CONCURRENCY));
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let before = client.requests_sent();
        let started = Instant::now();
        let listing = client
            .list(&zone, client.next_ticket(), Priority::Healthy, Baseline::default())
            .await
            .expect("the simulation has no fault")
            .listing;
        times.push(started.elapsed());
        assert_eq!((listing.certificates().len(), client.requests_sent() - before), (CERTIFICATES, u64::from(pages)));
    }
    times.sort();
    let median = times[ROUNDS / 2];
    println!(
        "{CERTIFICATES} certificates, {LATENCY:?} latency, concurrency {CONCURRENCY}: median {median:?} of {ROUNDS}, floor {floor:?}, ratio {:.2}",
        median.as_secs_f64() / floor.as_secs_f64()
    );
}
