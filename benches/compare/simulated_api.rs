//! The simulated Cloudflare API as a process of its own, for `benches/run`: so its CPU time and
//! memory do not count as the exporter's, and programs in other languages can reach it.
//!
//! It says in one line of JSON where it listens, which token it takes and which zones it has, then
//! answers lines on stdin: `count` with the requests and connections so far, `change N` by moving
//! the expiry of one certificate of zone N. It ends when stdin does.
//!
//! With `--certificate` it speaks HTTP/2 over TLS, as Cloudflare does.

#![expect(clippy::print_stdout, reason = "this is how it answers")]

use std::{
    convert::Infallible,
    io::stdin,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{body::Body, http::Request, response::Response};
use chrono::{DateTime, TimeDelta, Utc};
use clap::Parser;
use cloudflare_sim::{RecordedRequest, SimulatedApi, SimulatedCertificate, SimulatedZone, World};
use fastrand::Rng;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    time::Instant,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer},
};

#[derive(Debug, Parser)]
struct Options {
    /// How long after its arrival a request is answered.
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// Speak HTTP/2 over TLS, and write the certificate to trust to this file.
    #[arg(long)]
    certificate: Option<PathBuf>,
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
    let Options { latency_ms, certificate, zones } = Options::parse();
    let (now, mut rng) = (Utc::now(), Rng::with_seed(4));
    let sizes = zones.iter().flat_map(|&(count, size)| std::iter::repeat_n(size, count));
    let zones = sizes.enumerate().map(|(number, size)| zone(number, size, now, &mut rng)).collect::<Vec<_>>();
    let mut world = World { latency: Duration::from_millis(latency_ms), ..World::of(zones) };
    world.quota.requests = 10_000_000;
    let zones: Vec<_> =
        world.zones.iter().map(|zone| serde_json::json!({ "id": zone.id, "name": zone.name })).collect();
    let token = world.token().to_owned();

    let runtime = Runtime::new().expect("threads can be started");
    let api = Arc::new(runtime.block_on(SimulatedApi::start(world)).expect("a loopback port is free"));
    let tls_connections = Arc::new(AtomicU64::new(0));
    let base_url = match certificate {
        Some(path) => {
            let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a port is free");
            let port = listener.local_addr().expect("it is bound").port();
            let accepting = accept(listener, tls_acceptor(&path), Arc::clone(&api), Arc::clone(&tls_connections));
            runtime.spawn(accepting);
            format!("https://localhost:{port}/client/v4")
        }
        None => api.base_url(),
    };
    println!("{}", serde_json::json!({ "base_url": base_url, "token": token, "zones": zones }));
    for line in stdin().lines().map_while(Result::ok) {
        match line.split_once(' ') {
            Some(("change", number)) => {
                let number: usize = number.parse().expect("a zone's number");
                let expires_on = date(now, rng.i64(90..3600), &mut rng);
                api.change(|world| world.zones[number].certificates[0].set("expires_on", expires_on));
                println!("changed");
            }
            _ => println!("{} {}", api.requests().len(), api.connections() + tls_connections.load(Ordering::Relaxed)),
        }
    }
}

/// Takes HTTP/2 alone. The certificate is made now, valid for `localhost`, and written to the file.
fn tls_acceptor(certificate: &Path) -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("localhost is a name");
    std::fs::write(certificate, made.cert.pem()).expect("the file can be written");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("it is a key");
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for them")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("the key is that of the certificate");
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, api: Arc<SimulatedApi>, connections: Arc<AtomicU64>) {
    loop {
        let (stream, _) = listener.accept().await.expect("there are descriptors enough");
        connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(serve(stream, tls.clone(), Arc::clone(&api)));
    }
}

/// Serves one connection. An error here means that the peer is gone.
async fn serve(stream: TcpStream, tls: TlsAcceptor, api: Arc<SimulatedApi>) {
    stream.set_nodelay(true).expect("TCP has this option");
    let Ok(stream) = tls.accept(stream).await else { return };
    let service = service_fn(move |request| respond(Arc::clone(&api), request));
    let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(api: Arc<SimulatedApi>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let headers = request.headers().iter();
    let request = RecordedRequest {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        headers: headers
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect(),
        at: Instant::now(),
    };
    let (status, headers, body) = api.respond(request).await;
    let mut response = Response::builder().status(status);
    for (name, value) in &headers {
        response = response.header(&**name, value);
    }
    Ok(response.body(Body::from(body)).expect("the simulation makes valid headers"))
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
