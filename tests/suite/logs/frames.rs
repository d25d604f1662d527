//! Frames of HTTP/2 that no peer should send, from clients without a password and from the API.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::support::{
    Daemon,
    authority::Authority,
    config, until,
    web::{Directory, connect, ia5},
};
use cloudflare_sim::{SimulatedApi, SimulatedZone, World};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The types of frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// Flags: of SETTINGS and PING, of HEADERS.
const ACK: u8 = 1;
const END_STREAM_AND_HEADERS: u8 = 5;

/// A request without a password: GET, https, /, of the static table, and an authority.
const REQUEST: &[u8] = b"\x82\x87\x84\x41\x01a";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Makes a frame, or a few; the number counts those of a connection.
type Sort = fn(u32) -> Vec<u8>;

const SORTS: [(&str, Sort); 24] = [
    ("answers to a ping that was never sent", |number| frame(PING, ACK, 0, &u64::from(number).to_be_bytes())),
    ("pings", |number| frame(PING, 0, 0, &u64::from(number).to_be_bytes())),
    ("a ping of a stream", |_| frame(PING, 0, 1, &[0; 8])),
    ("a short ping", |_| frame(PING, 0, 0, &[0; 7])),
    ("the end", |number| frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, number.to_be_bytes()[3]])),
    ("resets of a stream that never was", |number| frame(RST_STREAM, 0, 2 * number + 1, &[0, 0, 0, 8])),
    ("requests that are reset at once", |number| {
        let stream = 2 * number + 1;
        [frame(HEADERS, END_STREAM_AND_HEADERS, stream, REQUEST), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    }),
    ("requests without a password", |number| frame(HEADERS, END_STREAM_AND_HEADERS, 2 * number + 1, REQUEST)),
    ("headers that cannot be unpacked", |number| {
        frame(HEADERS, END_STREAM_AND_HEADERS, 2 * number + 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff])
    }),
    ("headers of no request", |number| {
        frame(HEADERS, END_STREAM_AND_HEADERS, 2 * number + 1, b"\x82\x82\x40\x01A\x01b")
    }),
    ("headers on an even stream", |number| frame(HEADERS, END_STREAM_AND_HEADERS, 2 * number + 2, REQUEST)),
    ("headers on no stream", |_| frame(HEADERS, END_STREAM_AND_HEADERS, 0, REQUEST)),
    ("settings", |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff])),
    ("settings of a wrong length", |_| frame(SETTINGS, 0, 0, &[0, 4, 0])),
    ("settings of too large a window", |_| frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff])),
    ("answers to settings that were never sent", |_| frame(SETTINGS, ACK, 0, &[])),
    ("the rest of headers that never began", |_| frame(CONTINUATION, 0, 1, &[0; 8])),
    ("headers that never end", |number| match number {
        0 => frame(HEADERS, 0, 1, REQUEST),
        _ => frame(CONTINUATION, 0, 1, b"\x40\x01x\x01y"),
    }),
    ("a window that overflows", |_| frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
    ("a window that does not grow", |_| frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
    ("data of no request", |number| frame(DATA, 0, 2 * number + 1, &[0; 100])),
    ("a stream that waits for itself", |_| frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 0])),
    ("promises", |_| frame(PUSH_PROMISE, 4, 1, &[0, 0, 0, 2, 0x82])),
    ("frames that are too long", |_| frame(DATA, 0, 1, &[0; 20_000])),
];

/// Sends so many of one sort after a good beginning. It fails when the peer has had enough, which is its right.
async fn send(stream: impl AsyncRead + AsyncWrite, preface: &[u8], sort: Sort, frames: u32) -> std::io::Result<()> {
    let (mut from, mut to) = split(stream);
    let sending = async {
        to.write_all(&[preface, &frame(SETTINGS, 0, 0, &[])].concat()).await?;
        for number in 0..frames {
            to.write_all(&sort(number)).await?;
        }
        to.flush().await?;
        to.shutdown().await
    };
    let reading = async { tokio::io::copy(&mut from, &mut tokio::io::sink()).await };
    let (sent, _) = tokio::join!(sending, timeout(Duration::from_secs(2), reading));
    sent
}

/// What is written may have to be read first.
async fn lines_of(daemon: &mut Daemon) -> usize {
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
    daemon.log().lines().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_from_clients_cause_at_most_twenty_log_lines() {
    let directory = Directory::new();
    for file in ["users.yml", "users-without-tls.yml"] {
        let more =
            format!("[server]\nlisten_addresses = [\"127.0.0.1:0\"]\nweb_config_file = {:?}\n", directory.put(file));
        let api = SimulatedApi::start(World::of([SimulatedZone::of_size("a.example", 1)])).await.unwrap();
        let token = api.change(|world| world.token().to_owned());
        let arguments = ["--log.level", "debug"];
        let mut daemon = Daemon::start(&config(&api, &more), &arguments, &[("CLOUDFLARE_API_TOKEN", &token)]);
        daemon.until_logged(&["Certificates were listed"]).await;
        let before = daemon.log().lines().count();
        for (name, sort) in SORTS {
            // Many of a sort that is put up with, and many connections of one that is not.
            for frames in [500, 1, 1, 1, 1, 1, 1, 1, 1, 1] {
                let sent = if file == "users.yml" {
                    let mut tls = directory.tls(None);
                    tls.alpn_protocols = vec![b"h2".to_vec()];
                    send(connect(&daemon, tls).await.unwrap(), PREFACE, sort, frames).await
                } else {
                    let stream = TcpStream::connect(daemon.address()).await.unwrap();
                    send(stream, PREFACE, sort, frames).await
                };
                // The server may end the connection in the middle, and goes on with others.
                drop(sent);
            }
            assert!(TcpStream::connect(daemon.address()).await.is_ok(), "{name}");
        }
        // No preface at all, and no TLS at all.
        for nonsense in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r"[..], b"\0\0\0\x04\0\0\0\0\0", b"GET / HTTP/3\r\n\r\n"] {
            for _ in 0..20 {
                let mut stream = TcpStream::connect(daemon.address()).await.unwrap();
                // As above.
                let _ = stream.write_all(nonsense).await;
                let _ = timeout(Duration::from_secs(2), stream.read_to_end(&mut Vec::new())).await;
            }
        }
        let written = lines_of(&mut daemon).await - before;
        assert!(written <= 20, "{file}: {written} lines\n{}", daemon.log());
    }
}

/// An API behind TLS that sends frames of its own in place of an answer, another sort on each connection. Its port, and
/// how many connections it has had and frames it has sent.
async fn frames_of_an_api(authority: &Authority) -> (u16, Arc<[AtomicU32; 2]>) {
    let identity = authority.issue(vec![rcgen::SanType::DnsName(ia5("localhost"))]);
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let tls = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
    let mut tls = tls.unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, counts) = (listener.local_addr().unwrap().port(), Arc::<[AtomicU32; 2]>::default());
    let counting = Arc::clone(&counts);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, counts) = (acceptor.clone(), Arc::clone(&counting));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let number = counts[0].fetch_add(1, Relaxed) as usize;
                // The client may end the connection in the middle.
                let _ = send(stream, b"", SORTS[number % SORTS.len()].1, 1000).await;
                counts[1].fetch_add(1000, Relaxed);
            });
        }
    });
    (port, counts)
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_from_the_api_cause_at_most_twenty_log_lines() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("The authority of a test");
    let ca_file = directory.path().join("ca.pem");
    std::fs::write(&ca_file, authority.pem()).unwrap();
    let zones = (0..4).map(|n| SimulatedZone::of_size(&format!("{n}.example"), 1));
    let api = SimulatedApi::start(World::of(zones)).await.unwrap();
    let (port, counts) = frames_of_an_api(&authority).await;
    let settings = format!("ca_file = {ca_file:?}\ntimeout = \"1s\"\n[poll]\ninterval = \"1s\"");
    let text = config(&api, &settings).replace(&api.base_url(), &format!("https://localhost:{port}"));
    let mut daemon = Daemon::start(&text, &[], &[("CLOUDFLARE_API_TOKEN", "a-token-of-a-test")]);
    let before = daemon.log().lines().count();
    until("a connection of each sort", async || {
        let [connections, frames] = [&counts[0], &counts[1]].map(|count| count.load(Relaxed) as usize);
        (connections >= SORTS.len() && frames >= 5000).then_some(())
    })
    .await;
    let written = lines_of(&mut daemon).await - before;
    assert!(written <= 20, "{written} lines\n{}", daemon.log());
}
