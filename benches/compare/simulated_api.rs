//! The simulated Cloudflare API as a process of its own, for `benches/run`: so its CPU time and
//! memory do not count as the exporter's, and programs in other languages can reach it.
//!
//! It says in one line of JSON where it listens, which token it takes and which zones it has, then
//! answers lines on stdin: `count` with the requests and connections so far, `change N` by moving
//! the expiry of one certificate of zone N. It ends when stdin does.

#![expect(clippy::print_stdout, reason = "this is how it answers")]

use std::{io::stdin, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use clap::Parser;
use cloudflare_sim::{SimulatedApi, SimulatedCertificate, SimulatedZone, World};
use fastrand::Rng;
use tokio::runtime::Runtime;

#[derive(Debug, Parser)]
struct Options {
    /// How long after its arrival a request is answered.
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// How many certificates each zone has; 100x1000 stands for 100 zones of 1000.
    #[arg(required = true, value_parser = parse_zones)]
    zones: Vec<(usize, usize)>,
}

fn parse_zones(text: &str) -> Result<(usize, usize), std::num::ParseIntError> {
    let (count, size) = text.split_once('x').unwrap_or(("1", text));
    Ok((count.parse()?, size.parse()?))
}

#[expect(clippy::disallowed_methods, reason = "certificates have to be valid now, and no test reads them")]
fn main() {
    let Options { latency_ms, zones } = Options::parse();
    let (now, mut rng) = (Utc::now(), Rng::with_seed(4));
    let sizes = zones.iter().flat_map(|&(count, size)| std::iter::repeat_n(size, count));
    let zones = sizes.enumerate().map(|(number, size)| zone(number, size, now, &mut rng)).collect::<Vec<_>>();
    let mut world = World { latency: Duration::from_millis(latency_ms), ..World::of(zones) };
    world.quota.requests = 10_000_000;
    let zones: Vec<_> =
        world.zones.iter().map(|zone| serde_json::json!({ "id": zone.id, "name": zone.name })).collect();
    let token = world.token().to_owned();

    let runtime = Runtime::new().expect("threads can be started");
    let api = runtime.block_on(SimulatedApi::start(world)).expect("a loopback port is free");
    println!("{}", serde_json::json!({ "base_url": api.base_url(), "token": token, "zones": zones }));
    for line in stdin().lines().map_while(Result::ok) {
        match line.split_once(' ') {
            Some(("change", number)) => {
                let number: usize = number.parse().expect("a zone's number");
                let expires_on = date(now, rng.i64(90..3600), &mut rng);
                api.change(|world| world.zones[number].certificates[0].set("expires_on", expires_on));
                println!("changed");
            }
            _ => println!("{} {}", api.requests().len(), api.connections()),
        }
    }
}

/// Different in all that a real one is different in, so that it compresses no better than a real one.
fn zone(number: usize, size: usize, now: DateTime<Utc>, rng: &mut Rng) -> SimulatedZone {
    let mut zone = SimulatedZone::new(&format!("site-{number:04}.example"));
    zone.certificates = (1..=size)
        .map(|n| {
            let (high, low) = (rng.u64(..), rng.u64(..));
            let id = format!(
                "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
                high >> 32,
                high >> 16 & 0xffff,
                high & 0xfff,
                low >> 52,
                low & 0xffff_ffff_ffff
            );
            let validity = [365, 730, 3650][rng.usize(..3)];
            let left = rng.i64(1..validity);
            let (issued, expires) = (date(now, left - validity, rng), date(now, left, rng));
            SimulatedCertificate::new(&id, &format!("device-{n:06}"), "active", &issued, &expires)
        })
        .collect();
    zone
}

/// The second is drawn, so that not all change their day at once.
fn date(now: DateTime<Utc>, days: i64, rng: &mut Rng) -> String {
    let time = now + TimeDelta::days(days) - TimeDelta::seconds(rng.i64(0..86_400));
    time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}
