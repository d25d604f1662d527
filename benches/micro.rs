//! How long single steps take: `cargo bench --bench micro`, or `cargo bench --bench micro -- decode` for some of them.
//!
//! Each room has a module here, and its floor stands beside what is measured. No time is asserted,
//! since a busy machine is slow. The request budget is in no public part of the program, so it is not here.

use cloudflare_sim::SimulatedCertificate;

fn main() {
    divan::main();
}

/// Pages of 50 as the API answers them.
mod pages {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use serde_json::json;

    use super::SimulatedCertificate;

    /// What is in the certificates' PEM and signing requests, which are nearly all of an answer.
    #[derive(Debug, Clone, Copy)]
    pub(super) enum Pem {
        /// As the simulated API makes them, packed as it packs them: they compress well.
        Simulated,
        /// As long as real ones, and as hard to compress; packed well.
        Real,
    }

    pub(super) const PEMS: [Pem; 2] = [Pem::Simulated, Pem::Real];

    fn certificate(n: usize, pem: Pem) -> SimulatedCertificate {
        let id = format!("{n:08x}-7600-42e1-81c4-{:012x}", n.wrapping_mul(0x9e37_79b9));
        let (issued, expires) = ("2026-01-01T00:00:00Z", "2036-01-01T00:00:00Z");
        let certificate = SimulatedCertificate::new(&id, &format!("device-{n:05}"), "active", issued, expires);
        match pem {
            Pem::Simulated => certificate,
            Pem::Real => {
                let mut dice = fastrand::Rng::with_seed(n as u64);
                certificate
                    .with("certificate", armoured("CERTIFICATE", "\n", 1400, &mut dice))
                    .with("csr", armoured("CERTIFICATE REQUEST", "\r\n", 1000, &mut dice))
            }
        }
    }

    fn armoured(label: &str, line_end: &str, bytes: usize, dice: &mut fastrand::Rng) -> String {
        const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = format!("-----BEGIN {label}-----{line_end}");
        for _ in 0..bytes / 64 {
            text.extend((0..64).map(|_| char::from(BASE64[dice.usize(..64)])));
            text.push_str(line_end);
        }
        text + &format!("-----END {label}-----{line_end}")
    }

    /// Page `number` of a listing of 100,000.
    pub(super) fn plain(number: usize, pem: Pem) -> Vec<u8> {
        let result: Vec<_> = (0..50).map(|n| certificate(number * 50 + n, pem).fields()).collect();
        let info =
            json!({"page": number + 1, "per_page": 50, "count": 50, "total_count": 100_000, "total_pages": 2000});
        json!({"result": result, "success": true, "errors": [], "messages": [], "result_info": info})
            .to_string()
            .into_bytes()
    }

    /// The page as it comes over the network.
    pub(super) fn packed(number: usize, pem: Pem) -> Vec<u8> {
        let level = match pem {
            Pem::Simulated => 1,
            Pem::Real => 6,
        };
        pack(&plain(number, pem), level)
    }

    pub(super) fn pack(plain: &[u8], level: u32) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
        encoder.write_all(plain).expect("a Vec takes every write");
        encoder.finish().expect("a Vec takes every write")
    }
}

/// Answers of the API: `cloudflare`.
mod decode {
    use std::io::Read as _;

    use cloudflare_cert_exporter::{cloudflare::read_page, model::Kind};
    use divan::{Bencher, counter::ItemsCount};
    use flate2::read::GzDecoder;
    use serde::de::IgnoredAny;

    use super::pages::{self, PEMS, Pem, packed, plain};

    fn unpacked(packed: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        GzDecoder::new(packed).read_to_end(&mut plain).expect("it was packed above");
        plain
    }

    fn skipped(plain: &[u8]) {
        serde_json::from_slice::<IgnoredAny>(plain).expect("it is JSON");
    }

    fn bench<T>(bencher: Bencher<'_, '_>, body: &[u8], step: impl Fn(&[u8]) -> T + Sync) {
        bencher.counter(ItemsCount::new(50_u32)).bench(|| step(divan::black_box(body)));
    }

    /// The floor: skipping all of a page.
    #[divan::bench(args = PEMS)]
    fn skip(bencher: Bencher<'_, '_>, pem: Pem) {
        bench(bencher, &plain(7, pem), skipped);
    }

    #[divan::bench(args = PEMS)]
    fn read(bencher: Bencher<'_, '_>, pem: Pem) {
        bench(bencher, &plain(7, pem), |body| read_page(Kind::Client, body).expect("it is a page"));
    }

    #[divan::bench(args = PEMS)]
    fn unpack(bencher: Bencher<'_, '_>, pem: Pem) {
        bench(bencher, &packed(7, pem), unpacked);
    }

    /// The floor: unpacking a page and skipping all of it.
    #[divan::bench(args = PEMS)]
    fn unpack_and_skip(bencher: Bencher<'_, '_>, pem: Pem) {
        bench(bencher, &packed(7, pem), |body| skipped(&unpacked(body)));
    }

    #[divan::bench(args = PEMS)]
    fn unpack_and_read(bencher: Bencher<'_, '_>, pem: Pem) {
        bench(bencher, &packed(7, pem), |body| read_page(Kind::Client, &unpacked(body)).expect("it is a page"));
    }

    /// What the simulated API does, and the levels that `/metrics` could be packed with.
    #[divan::bench(args = [1, 2, 6])]
    fn pack(bencher: Bencher<'_, '_>, level: u32) {
        bench(bencher, &plain(7, Pem::Simulated), |body| pages::pack(body, level));
    }
}

/// What is kept: `model`.
mod listing {
    use cloudflare_cert_exporter::{
        cloudflare::read_page,
        model::{Certificate, Kind, Listing},
    };
    use divan::Bencher;

    use super::pages::{Pem, plain};

    pub(super) fn certificates(pages: usize) -> Vec<Certificate> {
        (0..pages)
            .flat_map(|number| read_page(Kind::Client, &plain(number, Pem::Simulated)).expect("it is a page"))
            .collect()
    }

    #[divan::bench(sample_count = 20, sample_size = 1)]
    fn new_of_100_000(bencher: Bencher<'_, '_>) {
        let certificates = certificates(2000);
        bencher.with_inputs(|| certificates.clone()).bench_values(Listing::new);
    }
}

/// What survives a restart: `state`.
mod state {
    use std::sync::Arc;

    use cloudflare_cert_exporter::{
        model::{Kind, Listing, ScopeId, Target},
        state::{Directory, SavedTarget},
    };
    use divan::Bencher;
    use prometheus::IntCounter;

    use super::listing::certificates;

    #[divan::bench]
    fn read_10_000(bencher: Bencher<'_, '_>) {
        let folder = tempfile::tempdir().expect("there is room for files");
        let failures = IntCounter::new("failures", "Of a benchmark.").expect("the name is a name");
        let directory = Directory::open(folder.path(), failures).expect("nobody else knows of it");
        let id: ScopeId = "023e105f4ecef8ad9ca31a8372d0c353".parse().expect("it is an id");
        let zone = Target {
            kind: Kind::Client,
            id: id.clone(),
            name: None,
            zone: None,
            credential: "default".into(),
            interval: std::time::Duration::from_secs(3600),
        };
        let listing = Arc::new(Listing::new(certificates(200)));
        let saved = SavedTarget {
            kind: Kind::Client,
            id,
            name: None,
            listing: Some(listing),
            available: true,
            completed: 1_795_521_600,
            due_ms: 1_795_525_200_000,
        };
        let slot = directory.target(&zone);
        let runtime = tokio::runtime::Runtime::new().expect("there are threads");
        runtime.block_on(slot.save(saved, false));
        bencher.bench(|| slot.load(|_: &SavedTarget| true).expect("it was saved"));
    }
}
