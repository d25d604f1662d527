//! Who gets in: the real daemon with TLS, passwords, limits and probes, over real sockets. Most tests have one daemon
//! and change its web configuration under it, which is how it is meant to be used.
//!
//! A change counts within a second. Tests wait for the line with which the daemon says so.

use std::{
    io::{self, Write as _},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use crate::support::{
    self, DEADLINE, Daemon,
    authority::{Authority, Identity},
    bad_files::{self, NonRegularFile},
    until, until_ok,
    web::{ALICE, BOB, Directory, basic, connect, corpus, get, get_plain},
};
use cloudflare_sim::{SimulatedApi, SimulatedZone, World};
use rustls::{CipherSuite, ClientConfig, HandshakeKind, NamedGroup, crypto::aws_lc_rs};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// A daemon that was started with this file of `tests/web-config`.
async fn start(directory: &Directory, file: &str) -> (SimulatedApi, Daemon) {
    start_with(directory.put(file), 5).await
}

async fn start_with(file: std::path::PathBuf, certificates: usize) -> (SimulatedApi, Daemon) {
    let more = format!(
        "[server]\nlisten_addresses = [\"127.0.0.1:0\"]\nprobe_listen_address = \"127.0.0.1:0\"\nweb_config_file = {file:?}\n"
    );
    let world = World::of([SimulatedZone::of_size("a.example", certificates)]);
    let (api, daemon) = support::start(world, &more).await;
    let probe = daemon.probe_address().await;
    until("readiness", async || {
        let answer = get_plain(&probe, "/-/ready", "").await.unwrap();
        answer.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
    (api, daemon)
}

/// Changes files of the web configuration, and waits until the daemon says what came of it.
async fn change(daemon: &Daemon, change: impl FnOnce()) {
    let lines = || {
        let log = daemon.log();
        log.matches("The web configuration c").count() + log.matches("The TLS configuration c").count()
    };
    let before = lines();
    change();
    until("a line about the web configuration", async || (lines() > before).then_some(())).await;
    // One about its certificates can follow.
    sleep(Duration::from_millis(50)).await;
}

/// Gives the daemon another file of `tests/web-config`.
async fn put(daemon: &Daemon, directory: &Directory, name: &str) {
    put_text(daemon, directory, &std::fs::read_to_string(corpus().join(name)).unwrap()).await;
}

async fn put_text(daemon: &Daemon, directory: &Directory, text: &str) {
    let is_there =
        std::fs::read_to_string(directory.path("web.yml")).is_ok_and(|there| there == directory.fill_in(text));
    if !is_there {
        change(daemon, || drop(directory.put_text(text))).await;
    }
}

fn is_scrape(answer: &io::Result<String>) -> bool {
    answer
        .as_ref()
        .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200") && answer.contains("\ncloudflare_certificates_up{"))
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bind_error_names_the_setting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let world = World::of([SimulatedZone::of_size("a.example", 1)]);
    let token = world.token().to_owned();
    let api = SimulatedApi::start(world).await.unwrap();
    for (listen, probe, setting) in [
        ("127.0.0.1:0", &*taken.to_string(), "server.probe_listen_address"),
        (&*taken.to_string(), "127.0.0.1:0", "--web.listen-address"),
    ] {
        let server = format!("[server]\nlisten_addresses = [{listen:?}]\nprobe_listen_address = {probe:?}\n");
        let output = support::run(&support::config(&api, &server), &[], &[("CLOUDFLARE_API_TOKEN", &token)]);
        let expected = format!("cannot listen on {taken}: ");
        assert!(output.code != Some(0) && output.stderr.contains(&expected), "{}", output.stderr);
        assert!(output.stderr.contains(&format!("or choose another address with {setting}")), "{}", output.stderr);
    }
}

#[tokio::test]
async fn a_tls_port_serves_tls_clients_only() {
    let directory = Directory::new();
    let (_api, daemon) = start(&directory, "tls.yml").await;
    assert!(is_scrape(&get(&daemon, directory.tls(None), "/metrics", "").await));
    for version in rustls::ALL_VERSIONS {
        let tls = directory.tls_of(None, aws_lc_rs::default_provider(), &[version]);
        assert!(is_scrape(&get(&daemon, tls, "/metrics", "").await), "{version:?}");
    }
    // Who does not trust its authority, plain HTTP, of which there is more than is read at once, and TLS 1.1.
    let stranger = Directory::new().tls(None);
    assert!(get(&daemon, stranger, "/metrics", "").await.is_err());
    for more in [0, 10_000] {
        let plain = get_plain(daemon.address(), "/metrics", &format!("a: {}\r\n", "b".repeat(more))).await;
        let expected = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
        assert_eq!(plain.unwrap(), expected);
    }
    // An alert, a fatal one, and about this.
    assert_eq!(answer_to_tls_1_1(&daemon).await, [0x15, 0x03, 0x03, 0x00, 0x02, 2, PROTOCOL_VERSION]);
    daemon.until_logged(&["TLS handshakes with clients failed", "last_error"]).await;
    // The same certificate inline; it is still one daemon.
    for file in ["tls-inline.yml", "tls-file-beats-inline.yml", "tls13-only.yml", "old-min-version.yml"] {
        put(&daemon, &directory, file).await;
        assert!(is_scrape(&get(&daemon, directory.tls(None), "/metrics", "").await), "{file}");
    }
    put(&daemon, &directory, "tls13-only.yml").await;
    let old = directory.tls_of(None, aws_lc_rs::default_provider(), &[&rustls::version::TLS12]);
    assert!(get(&daemon, old, "/metrics", "").await.is_err());
}

/// The alert of RFC 8446.
const PROTOCOL_VERSION: u8 = 70;

/// What comes back when somebody begins as TLS 1.1 has it: a version, random bytes, one cipher suite, no compression.
async fn answer_to_tls_1_1(daemon: &Daemon) -> Vec<u8> {
    let mut hello = vec![0x03, 0x02];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x09, 1, 0]);
    // How it can sign, as most tell in any version; who does not is refused for that, before its version is looked at.
    hello.extend([0, 8, 0, 13, 0, 4, 0, 2, 4, 3]);
    let length = u8::try_from(hello.len()).unwrap();
    let mut record = vec![0x16, 0x03, 0x01, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    let mut stream = TcpStream::connect(daemon.address()).await.unwrap();
    stream.write_all(&record).await.unwrap();
    let mut answer = Vec::new();
    // A reset may come after it.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn the_client_auth_policy_decides_which_clients_connect() {
    let directory = Directory::new();
    let (stranger, own) = (Authority::new("A stranger").issue(Vec::new()), Identity::self_signed("client.example"));
    let anonymous = None;
    let ours = Some(&directory.client);
    let (strange, own_authority) = (Some(&stranger), Some(&own));
    let (_api, daemon) = start(&directory, "tls.yml").await;
    for (file, policy) in [
        ("tls.yml", [true, true, true, true]),
        ("client-request.yml", [true, true, true, true]),
        ("client-require-any.yml", [false, true, true, true]),
        ("client-require-any-old-name.yml", [false, true, true, true]),
        ("client-verify-if-given.yml", [true, true, false, false]),
        ("client-require-and-verify.yml", [false, true, false, false]),
        ("client-require-and-verify-without-ca.yml", [false, false, false, false]),
        ("client-allowed-sans.yml", [false, true, false, false]),
        ("client-other-sans.yml", [false, false, false, false]),
        ("client-request-allowed-sans.yml", [false, true, false, false]),
        ("client-verify-if-given-allowed-sans.yml", [false, true, false, false]),
    ] {
        put(&daemon, &directory, file).await;
        for version in rustls::ALL_VERSIONS {
            for (who, lets_in) in [anonymous, ours, strange, own_authority].into_iter().zip(policy) {
                let tls = directory.tls_of(who, aws_lc_rs::default_provider(), &[version]);
                let answer = get(&daemon, tls, "/metrics", "").await;
                let who = who.map(|identity| &identity.certificate);
                assert_eq!(is_scrape(&answer), lets_in, "{file} {:?} {who:?} {answer:?}", version.version);
            }
        }
    }
    // Every sort of name is compared, and clients learn what their certificate is.
    for (name, lets_in) in [
        ("prometheus.example", true),
        ("prometheus@example.com", true),
        ("spiffe://example.com/prometheus", true),
        ("2001:db8::7", true),
        ("2001:db8:0::7", false),
        ("example", false),
    ] {
        let text = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n  client_allowed_sans: [NAME]\n";
        put_text(&daemon, &directory, &text.replace("NAME", &format!("{name:?}"))).await;
        let answer = get(&daemon, directory.tls(ours), "/metrics", "").await;
        assert_eq!(is_scrape(&answer), lets_in, "{name} {answer:?}");
        if !lets_in {
            assert!(answer.unwrap_err().to_string().contains("BadCertificate"));
        }
    }
    // One of the authorities that can be read is enough.
    let (_api, daemon) = start(&directory, "client-require-and-verify.yml").await;
    let damaged = "-----BEGIN CERTIFICATE-----\nMIHs\n-----END CERTIFICATE-----\n";
    change(&daemon, || directory.write("ca.pem", &format!("{damaged}{}", directory.authority().pem()))).await;
    assert!(is_scrape(&get(&daemon, directory.tls(ours), "/metrics", "").await));
    assert!(!is_scrape(&get(&daemon, directory.tls(strange), "/metrics", "").await));
    // A certificate that is its own authority, though it is named.
    change(&daemon, || directory.write("ca.pem", &own.certificate)).await;
    assert!(!is_scrape(&get(&daemon, directory.tls(own_authority), "/metrics", "").await));
    assert!(!is_scrape(&get(&daemon, directory.tls(ours), "/metrics", "").await));
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_clients_always_receive_the_tls_alert() {
    let directory = Directory::new();
    let stranger = Authority::new("A stranger").issue(Vec::new());
    let (_api, daemon) = start(&directory, "client-require-and-verify.yml").await;
    // More than is read at once, so that some of it is never read.
    let request = format!("GET /metrics HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(20_000));
    for version in rustls::ALL_VERSIONS {
        for (who, alert) in [(None, "CertificateRequired"), (Some(&stranger), "UnknownCA")] {
            let tls = directory.tls_of(who, aws_lc_rs::default_provider(), &[version]);
            for time in 0..20 {
                let asked = async {
                    let mut stream = connect(&daemon, tls.clone()).await?;
                    // With TLS 1.3 the client learns of it when it reads.
                    let _ = stream.write_all(request.as_bytes()).await;
                    stream.read_to_end(&mut Vec::new()).await
                };
                let error = timeout(DEADLINE, asked).await.unwrap().unwrap_err().to_string();
                assert!(error.contains(alert), "{:?} {time}: {error}", version.version);
            }
        }
    }
    if !support::is_there("openssl", "openssl", Command::new("openssl").arg("version").output().is_ok()) {
        return;
    }
    for (version, alert) in [("-tls1_3", "alert certificate required"), ("-tls1_2", "alert ")] {
        for _ in 0..10 {
            let mut client = Command::new("openssl");
            client.args(["s_client", "-quiet", "-connect", daemon.address(), version]);
            let mut client = client.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
            // It fails if the client is gone already.
            let _ = client.stdin.take().unwrap().write_all(request.as_bytes());
            let said = client.wait_with_output().unwrap().stderr;
            let said = String::from_utf8_lossy(&said);
            assert!(said.contains(alert), "{version} {said}");
        }
    }
}

/// What clients send as the name of the server; OpenSSL's sends any name.
#[tokio::test]
async fn invalid_server_names_are_served_where_the_tls_library_allows_it() {
    if !support::is_there("openssl", "openssl", Command::new("openssl").arg("version").output().is_ok()) {
        return;
    }
    let directory = Directory::new();
    let (_api, daemon) = start(&directory, "tls.yml").await;
    let long = format!("{}.example", "a".repeat(64));
    for (name, is_served) in [
        ("localhost", true),
        ("LOCALHOST", true),
        ("another.example", true),
        ("under_score.example", true),
        ("localhost.", true),
        ("127.0.0.1", true),
        ("::1", true),
        ("", true),
        // The README says so.
        ("localhost:10199", false),
        ("127.0.0.1:10199", false),
        ("[::1]", false),
        ("*.example", false),
        ("a b", false),
        ("a..example", false),
        ("-a.example", false),
        ("1.2.3", false),
        (&long, false),
    ] {
        for version in ["-tls1_2", "-tls1_3"] {
            let mut client = Command::new("openssl");
            client.args(["s_client", "-connect", daemon.address(), version, "-CAfile"]).arg(directory.path("ca.pem"));
            match name {
                "" => client.arg("-noservername"),
                name => client.args(["-servername", name]),
            };
            let client = client.stdin(Stdio::null()).output().unwrap();
            let said = String::from_utf8_lossy(&client.stderr);
            assert_eq!(client.status.success(), is_served, "{name} {version} {said}");
            assert!(is_served || said.contains("alert illegal parameter"), "{name} {version} {said}");
        }
    }
}

#[tokio::test]
async fn a_client_certificate_is_verified_in_every_handshake() {
    let directory = Directory::new();
    let (_api, daemon) = start(&directory, "tls.yml").await;
    for (file, expected) in [
        ("tls.yml", HandshakeKind::Resumed),
        ("client-request.yml", HandshakeKind::Full),
        ("client-verify-if-given.yml", HandshakeKind::Full),
        ("client-require-and-verify.yml", HandshakeKind::Full),
    ] {
        put(&daemon, &directory, file).await;
        for version in rustls::ALL_VERSIONS {
            // Its sessions are shared by all that is made of it.
            let tls = directory.tls_of(Some(&directory.client), aws_lc_rs::default_provider(), &[version]);
            let mut last = HandshakeKind::Full;
            for _ in 0..2 {
                let mut stream = connect(&daemon, tls.clone()).await.unwrap();
                let request = b"GET /-/healthy HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
                stream.write_all(request).await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                assert_eq!(status(&answer), "200", "{answer}");
                last = stream.get_ref().1.handshake_kind().unwrap();
            }
            assert_eq!(last, expected, "{file} {version:?}");
        }
    }
}

#[tokio::test]
async fn only_configured_cipher_suites_and_curves_are_used() {
    let directory = Directory::new();
    let (_api, daemon) = start(&directory, "some-ciphers.yml").await;
    let with = |suites: &[CipherSuite]| {
        let mut provider = aws_lc_rs::default_provider();
        let all = std::mem::take(&mut provider.cipher_suites);
        let find = |suite: &CipherSuite| all.iter().find(|known| known.suite() == *suite).copied();
        provider.cipher_suites = suites.iter().map(|suite| find(suite).unwrap()).collect();
        directory.tls_of(None, provider, &[&rustls::version::TLS12])
    };
    let (small, large, other) = (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    );
    for (file, suites, agreed) in [
        ("some-ciphers.yml", [large, small], Some(small)),
        ("some-ciphers-in-the-order-of-clients.yml", [large, small], Some(large)),
        ("some-ciphers.yml", [other, large], Some(large)),
        ("some-ciphers.yml", [other, other], None),
        ("no-http2-cipher-needed.yml", [small, large], Some(large)),
        ("all-ciphers.yml", [large, small], Some(small)),
    ] {
        put(&daemon, &directory, file).await;
        let stream = connect(&daemon, with(&suites)).await;
        let found = stream.ok().map(|stream| stream.get_ref().1.negotiated_cipher_suite().unwrap().suite());
        assert_eq!(found, agreed, "{file} {suites:?}");
    }
    let with = |groups: &[NamedGroup]| {
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups.retain(|group| groups.contains(&group.name()));
        directory.tls_of(None, provider, &[&rustls::version::TLS13])
    };
    for (file, groups, agreed) in [
        ("some-curves.yml", [NamedGroup::secp384r1, NamedGroup::X25519], Some(NamedGroup::secp384r1)),
        ("some-curves.yml", [NamedGroup::secp256r1, NamedGroup::X25519], None),
        ("all-curves.yml", [NamedGroup::secp256r1, NamedGroup::secp256r1], Some(NamedGroup::secp256r1)),
    ] {
        put(&daemon, &directory, file).await;
        let stream = connect(&daemon, with(&groups)).await;
        let found = stream.ok().map(|stream| stream.get_ref().1.negotiated_key_exchange_group().unwrap().name());
        assert_eq!(found, agreed, "{file} {groups:?}");
    }
}

#[tokio::test]
async fn clients_receive_the_names_of_configured_authorities_but_not_those_of_the_system() {
    if !support::is_there("openssl", "openssl", Command::new("openssl").arg("version").output().is_ok()) {
        return;
    }
    let directory = Directory::new();
    for (file, sent) in [
        ("client-verify-if-given.yml", "Acceptable client certificate CA names\nCN = The authority of a test\n"),
        ("client-verify-if-given-by-the-system.yml", "No client certificate CA names sent\n"),
    ] {
        let (_api, daemon) = start(&directory, file).await;
        let mut client = Command::new("openssl");
        let client = client.args(["s_client", "-connect", daemon.address()]).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&client.stdout);
        assert!(said.contains(sent), "{file} {said}");
    }
}

/// What each of these gets from a daemon that lets alice and bob in.
fn password_attempts() -> Vec<(String, &'static str)> {
    let garbage = |value: &str| (format!("authorization: {value}\r\n"), "401");
    vec![
        (String::new(), "401"),
        (basic(ALICE), "200"),
        (basic(BOB), "200"),
        (basic(ALICE).replace("Basic", "bASIC"), "200"),
        (basic(("alice", "builder")), "401"),
        (basic(("alice", "")), "401"),
        (basic(("Alice", "wonderland")), "401"),
        (basic(("stranger", "wonderland")), "401"),
        (basic(("", "")), "401"),
        // Only so much of a password counts in bcrypt, and the end of a text is no end of it.
        (basic(("alice", "wonderland\0x")), "401"),
        garbage("Basic"),
        garbage("Basic !"),
        garbage("Basic YWxpY2U="),
        garbage("Bearer YWxpY2U6d29uZGVybGFuZA=="),
        garbage("Basic  YWxpY2U6d29uZGVybGFuZA"),
    ]
}

#[tokio::test]
async fn every_path_requires_the_password() {
    let directory = Directory::new();
    let (_api, daemon) = start(&directory, "users-without-tls.yml").await;
    for _ in 0..2 {
        for (headers, expected) in password_attempts() {
            let answer = get_plain(daemon.address(), "/metrics", &headers).await.unwrap();
            assert_eq!(status(&answer), expected, "{headers} {answer}");
            let asks = answer.to_lowercase().contains("\r\nwww-authenticate: basic\r\n");
            assert_eq!(asks, expected == "401", "{answer}");
            assert!(expected == "200" || answer.ends_with("\r\n\r\nUnauthorized\n"), "{answer}");
        }
    }
    for path in ["/", "/metrics", "/-/status.json", "/-/healthy", "/-/ready", "/nothing"] {
        assert_eq!(status(&get_plain(daemon.address(), path, "").await.unwrap()), "401", "{path}");
        let expected = if path == "/nothing" { "404" } else { "200" };
        assert_eq!(status(&get_plain(daemon.address(), path, &basic(ALICE)).await.unwrap()), expected, "{path}");
        // Probes need no password, and get no other response.
        let expected = if matches!(path, "/-/healthy" | "/-/ready") { "200" } else { "404" };
        assert_eq!(status(&get_plain(&daemon.probe_address().await, path, "").await.unwrap()), expected, "{path}");
    }
    // Nothing that is a secret is in the log.
    let hash = directory.fill_in("HASH_OF_ALICE");
    for secret in ["wonderland", "builder", &hash[..], "YWxpY2U"] {
        assert!(!daemon.log().contains(secret), "{}", daemon.log());
    }
}

#[tokio::test]
async fn passwords_are_required_over_tls() {
    let directory = Directory::new();
    let (_api, daemon) = start(&directory, "users.yml").await;
    for (headers, expected) in password_attempts() {
        let answer = get(&daemon, directory.tls(None), "/metrics", &headers).await.unwrap();
        assert_eq!(status(&answer), expected, "{headers} {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn password_guessers_do_not_delay_a_right_password() {
    let directory = Directory::new();
    let hash = |password: &str| bcrypt::hash(password, 8).unwrap();
    let users: String = (0..4).map(|user| format!("  user{user}: {}\n", hash("right"))).collect();
    directory.put_text(&format!("basic_auth_users:\n{users}"));
    let (_api, daemon) = start_with(directory.path("web.yml"), 5).await;
    let answered = Arc::new(AtomicUsize::new(0));
    let mut guessing = JoinSet::new();
    for guesser in 0..50 {
        let (address, answered) = (daemon.address().to_owned(), Arc::clone(&answered));
        guessing.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            for guess in 0.. {
                let who = basic((["user0", "stranger"][guess % 2], &format!("{guesser} {guess}")));
                let request = format!("GET /metrics HTTP/1.1\r\nhost: a\r\n{who}\r\n");
                stream.write_all(request.as_bytes()).await.unwrap();
                let mut answer = [0; 1024];
                let length = stream.read(&mut answer).await.unwrap();
                assert!(answer[..length].starts_with(b"HTTP/1.1 401 "));
                answered.fetch_add(1, SeqCst);
            }
        });
    }
    // All have guessed once.
    until("fifty guesses", async || (answered.load(SeqCst) >= 60).then_some(())).await;
    for user in (0..4).map(|user| format!("user{user}")) {
        // Not remembered the first time.
        for _ in 0..2 {
            let before = answered.load(SeqCst);
            let answer = get_plain(daemon.address(), "/metrics", &basic((&user, "right"))).await;
            assert!(is_scrape(&answer), "{answer:?}");
            // In a queue it would be fifty; some come before this one is there at all.
            let overtook = answered.load(SeqCst) - before;
            assert!(overtook < 30, "{overtook}");
        }
    }
    guessing.abort_all();
}

#[tokio::test]
async fn users_change_without_a_restart() {
    let directory = Directory::new();
    let (_api, daemon) = start(&directory, "users-without-tls.yml").await;
    // All on one connection.
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let status_for = async |(user, password): (&str, &str)| {
        let request = client.get(daemon.url("/-/healthy")).basic_auth(user, Some(password));
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status_for(ALICE).await, 200);
    assert_eq!(status_for(BOB).await, 200);
    put_text(&daemon, &directory, "basic_auth_users:\n  bob: HASH_OF_BOB\n").await;
    assert_eq!(status_for(ALICE).await, 401);
    assert_eq!(status_for(BOB).await, 200);
    // A password that was right once is not right for another hash.
    put_text(&daemon, &directory, "basic_auth_users:\n  alice: HASH_OF_BOB\n").await;
    assert_eq!(status_for(ALICE).await, 401);
    assert_eq!(status_for(("alice", "builder")).await, 200);
}

#[tokio::test]
async fn losing_all_users_is_an_error_until_they_return_or_the_program_restarts() {
    // Also where it has begun without.
    let begin = ["users-without-tls.yml", "headers.yml"].map(async |begins_with| {
        let directory = Directory::new();
        let (_api, mut daemon) = start(&directory, begins_with).await;
        let status_for = async |headers: &str| {
            let answer = get_plain(daemon.address(), "/metrics", headers).await.unwrap();
            status(&answer).to_owned()
        };
        let expected = if begins_with == "headers.yml" { "200" } else { "401" };
        assert_eq!(status_for("").await, expected);
        put(&daemon, &directory, "users-without-tls.yml").await;
        assert_eq!(status_for("").await, "401");
        assert_eq!(status_for(&basic(ALICE)).await, "200");
        for lost in ["", "basic_auth_users:\n", "basic_auth_users: {}\n", "# Nothing.\n", "rate_limit: {}\n"] {
            put_text(&daemon, &directory, lost).await;
            assert_eq!(status_for("").await, "500", "{lost:?}");
            assert_eq!(status_for(&basic(ALICE)).await, "500", "{lost:?}");
            put(&daemon, &directory, "users-without-tls.yml").await;
            assert_eq!(status_for("").await, "401", "{lost:?}");
            assert_eq!(status_for(&basic(ALICE)).await, "200", "{lost:?}");
        }
        let before = daemon.log().matches("there is no user any more").count();
        put(&daemon, &directory, "empty.yml").await;
        for _ in 0..5 {
            assert_eq!(status_for("").await, "500");
        }
        // Reading the configuration again does not help.
        daemon.signal("HUP");
        daemon.until_logged(&["was read again and is in use"]).await;
        assert_eq!(status_for("").await, "500");
        daemon
            .until_logged(&["level=error", "basic_auth_users: there is no user any more", "restart the program"])
            .await;
        assert_eq!(daemon.log().matches("there is no user any more").count(), before + 1, "{}", daemon.log());
        daemon.signal("TERM");
        assert_eq!(daemon.wait(), Some(0));
        let (_api, daemon) = start(&directory, "empty.yml").await;
        assert!(is_scrape(&get_plain(daemon.address(), "/metrics", "").await));
    });
    futures_util::future::join_all(begin).await;
}

#[tokio::test]
async fn losing_the_rules_for_client_certificates_is_an_error() {
    let directory = Directory::new();
    let is_admitted =
        async |daemon: &Daemon| is_scrape(&get(daemon, directory.tls(Some(&directory.client)), "/metrics", "").await);
    for (before, lost, said) in [
        ("client-require-and-verify.yml", "tls.yml", "client_auth_type: clients are not asked for certificates"),
        ("client-require-any.yml", "tls.yml", "client_auth_type: clients are not asked for certificates"),
        ("client-request-allowed-sans.yml", "tls.yml", "client_auth_type: clients are not asked for certificates"),
        ("client-allowed-sans.yml", "client-require-and-verify.yml", "client_allowed_sans: there are no names"),
        (
            "client-verify-if-given.yml",
            "client-verify-if-given-by-the-system.yml",
            "client_ca_file: there is no client CA",
        ),
    ] {
        let (_api, daemon) = start(&directory, before).await;
        assert!(is_admitted(&daemon).await, "{before}");
        put(&daemon, &directory, lost).await;
        assert!(!is_admitted(&daemon).await, "{before}");
        daemon.until_logged(&["level=error", said]).await;
        put(&daemon, &directory, before).await;
        assert!(is_admitted(&daemon).await, "{before}");
    }
    // A configuration that names another policy means it.
    let (_api, daemon) = start(&directory, "client-require-and-verify.yml").await;
    put(&daemon, &directory, "client-request.yml").await;
    assert!(is_scrape(&get(&daemon, directory.tls(None), "/metrics", "").await));
}

#[tokio::test]
async fn configured_headers_are_on_every_response() {
    let directory = Directory::new();
    let (_api, daemon) = start(&directory, "headers.yml").await;
    let expected = [
        "content-security-policy: default-src 'self'",
        "strict-transport-security: max-age=86400",
        "x-content-type-options: nosniff",
        "x-frame-options: sameorigin",
        "x-xss-protection: 1",
    ];
    let found = |answer: &str, expected: &str| answer.to_lowercase().contains(&format!("\r\n{expected}\r\n"));
    for path in ["/metrics", "/-/healthy", "/-/ready", "/nothing"] {
        let answer = get_plain(daemon.address(), path, "").await.unwrap();
        for header in expected {
            assert!(found(&answer, header), "{path} {header} {answer}");
        }
    }
    // The page has a policy of its own, and that is stricter.
    let page = get_plain(daemon.address(), "/", "").await.unwrap();
    assert!(found(&page, expected[1]) && page.contains("default-src 'none'"), "{page}");
    assert_eq!(page.to_lowercase().matches("\r\ncontent-security-policy:").count(), 1, "{page}");
    // Refusals of a user have them too, and blank ones are not sent.
    let text = "http_server_config:\n  headers:\n    X-Frame-Options: deny\nbasic_auth_users:\n  bob: HASH_OF_BOB\n";
    put_text(&daemon, &directory, text).await;
    let refused = get_plain(daemon.address(), "/metrics", "").await.unwrap();
    assert!(status(&refused) == "401" && found(&refused, "x-frame-options: deny"), "{refused}");
    let (_api, daemon) = start(&directory, "headers-blank.yml").await;
    let answer = get_plain(daemon.address(), "/-/healthy", "").await.unwrap().to_lowercase();
    assert!(!answer.contains("\r\nx-") && !answer.contains("\r\ncontent-security-policy"), "{answer}");
}

#[tokio::test]
async fn the_rate_limit_stays_as_it_was_at_the_start() {
    for (file, statuses) in [
        ("rate-limit-zero.yml", ["200", "200", "200"]),
        ("rate-limit-without-burst.yml", ["429", "429", "429"]),
        ("rate-limit.yml", ["200", "200", "429"]),
    ] {
        let directory = Directory::new();
        let (_api, daemon) = start(&directory, file).await;
        put(&daemon, &directory, "empty.yml").await;
        for expected in statuses {
            let answer = get_plain(daemon.address(), "/metrics", "").await.unwrap();
            assert_eq!(status(&answer), expected, "{file} {answer}");
            assert!(expected == "200" || answer.ends_with("\r\n\r\nToo Many Requests\n"), "{answer}");
        }
        // Probes are not limited.
        assert_eq!(status(&get_plain(&daemon.probe_address().await, "/-/healthy", "").await.unwrap()), "200");
    }
}

#[tokio::test]
async fn a_change_that_needs_a_restart_is_logged_once() {
    let directory = Directory::new();
    for (before, after, expected) in [
        ("empty.yml", "tls.yml", "tls_server_config stays as it was at the start until"),
        ("empty.yml", "rate-limit.yml", "rate_limit stays as it was at the start until"),
        ("empty.yml", "no-http2.yml", "tls_server_config stays as it was at the start until"),
        ("tls.yml", "no-http2.yml", "http_server_config.http2 stays as it was at the start until"),
    ] {
        let (_api, daemon) = start(&directory, before).await;
        assert!(!daemon.log().contains("stays as it was"), "{}", daemon.log());
        put(&daemon, &directory, after).await;
        for _ in 0..2 {
            let answer = if before == "tls.yml" {
                get(&daemon, directory.tls(None), "/metrics", "").await
            } else {
                get_plain(daemon.address(), "/metrics", "").await
            };
            assert!(is_scrape(&answer), "{answer:?}");
        }
        daemon.until_logged(&[expected]).await;
        assert_eq!(daemon.log().matches(" at the start until ").count(), 1, "{}", daemon.log());
    }
    // So is whatever is odd: at the start, and not again with the first who asks.
    let (_api, daemon) = start(&directory, "old-min-version.yml").await;
    assert!(is_scrape(&get(&daemon, directory.tls(None), "/metrics", "").await));
    assert_eq!(daemon.log().matches("lower than TLS12").count(), 1, "{}", daemon.log());
}

#[tokio::test]
async fn a_server_certificate_is_replaced_without_a_restart() {
    let directory = Directory::new();
    let (_api, daemon) = start(&directory, "tls.yml").await;
    let shown = async || {
        let stream = connect(&daemon, directory.tls(None)).await.ok()?;
        Some(stream.get_ref().1.peer_certificates()?[0].to_vec())
    };
    let (before, server) = (shown().await.unwrap(), directory.server());
    let is_shown = async |expected: &[u8]| {
        until("that certificate", async || shown().await.filter(|shown| shown == expected)).await;
    };
    directory.put_server(&server);
    let after = until("another certificate", async || Some(shown().await?).filter(|after| *after != before)).await;
    // Between the two files of an exchange no client gets in, and no open connection ends.
    let mut open = connect(&daemon, directory.tls(None)).await.unwrap();
    change(&daemon, || directory.write("server.pem", &directory.server().certificate)).await;
    assert!(connect(&daemon, directory.tls(None)).await.is_err());
    daemon.until_logged(&["private key does not match public key", "level=error"]).await;
    open.write_all(b"GET /-/healthy HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).await.unwrap();
    assert_eq!(status(&answer), "200", "{answer}");
    directory.put_server(&server);
    is_shown(&after).await;
    daemon.until_logged(&["The TLS configuration can be used again"]).await;
    // A file that goes and comes back as it was.
    change(&daemon, || std::fs::rename(directory.path("server.key"), directory.path("away")).unwrap()).await;
    assert!(connect(&daemon, directory.tls(None)).await.is_err());
    std::fs::rename(directory.path("away"), directory.path("server.key")).unwrap();
    is_shown(&after).await;
    // TLS cannot be left while the daemon runs, nor can it begin.
    put(&daemon, &directory, "empty.yml").await;
    assert!(connect(&daemon, directory.tls(None)).await.is_err());
    let plain = get_plain(daemon.address(), "/metrics", "").await.unwrap();
    assert!(plain.starts_with("HTTP/1.0 400 "), "{plain}");
    daemon.until_logged(&["TLS config is not present any more"]).await;
    directory.put("tls.yml");
    is_shown(&after).await;
    let key = std::fs::read_to_string(directory.path("server.key")).unwrap();
    let line = key.lines().nth(1).unwrap();
    assert!(!daemon.log().contains(&line[..20]), "{}", daemon.log());
}

#[tokio::test]
async fn a_daemon_that_admits_no_client_recovers_without_a_restart() {
    let directory = Directory::new();
    let (_api, daemon) = start(&directory, "client-require-and-verify-without-ca.yml").await;
    assert!(!is_scrape(&get(&daemon, directory.tls(Some(&directory.client)), "/metrics", "").await));
    put(&daemon, &directory, "client-verify-if-given.yml").await;
    assert!(is_scrape(&get(&daemon, directory.tls(None), "/metrics", "").await));
}

#[tokio::test]
async fn a_broken_web_configuration_answers_500_until_it_is_fixed() {
    let directory = Directory::new();
    let (_api, daemon) = start(&directory, "users-without-tls.yml").await;
    let response = async || get_plain(daemon.address(), "/metrics", &basic(ALICE)).await.unwrap();
    assert_eq!(status(&response().await), "200");
    for (broken, words) in [
        ("no-yaml.yml", "cannot unmarshal"),
        ("headers-another.yml", "can not be configured"),
        ("users-short-hash.yml", "too short"),
    ] {
        put(&daemon, &directory, broken).await;
        for _ in 0..3 {
            let answer = response().await;
            assert!(status(&answer) == "500" && answer.ends_with("\r\n\r\nInternal Server Error\n"), "{answer}");
        }
        daemon.until_logged(&[words, "level=error"]).await;
        assert_eq!(daemon.log().matches(words).count(), 1, "{}", daemon.log());
        // A probe does not care.
        assert_eq!(status(&get_plain(&daemon.probe_address().await, "/-/healthy", "").await.unwrap()), "200");
    }
    change(&daemon, || std::fs::remove_file(directory.path("web.yml")).unwrap()).await;
    assert_eq!(status(&response().await), "500");
    daemon.until_logged(&["no such file or directory"]).await;
    put(&daemon, &directory, "users-without-tls.yml").await;
    assert_eq!(status(&response().await), "200");
    daemon.until_logged(&["The web configuration can be used again"]).await;
}

#[tokio::test]
async fn a_path_that_is_not_a_regular_file_is_an_error_until_it_is_one_again() {
    let names = ["web.yml", "server.pem", "server.key", "ca.pem"];
    futures_util::future::join_all(names.map(no_regular_file_in_the_place_of)).await;
}

async fn no_regular_file_in_the_place_of(name: &str) {
    let directory = Directory::new();
    let (_api, mut daemon) = start(&directory, "client-require-and-verify.yml").await;
    let scrape = async || {
        let scrape = get(&daemon, directory.tls(Some(&directory.client)), "/metrics", "");
        timeout(DEADLINE, scrape).await.expect("an answer, whatever it is")
    };
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([reqwest::Certificate::from_pem(directory.authority().pem().as_bytes()).unwrap()]);
    let identity = format!("{}{}", directory.client.key, directory.client.certificate);
    let open = client.identity(reqwest::Identity::from_pem(identity.as_bytes()).unwrap()).build().unwrap();
    let url = format!("https://{}/-/healthy", daemon.address());
    let on_an_open_connection =
        async || timeout(DEADLINE, open.get(&url).send()).await.unwrap().unwrap().status().as_u16();
    assert_eq!(on_an_open_connection().await, 200);
    let path = directory.path(name);
    let text = std::fs::read_to_string(&path).unwrap();
    for what in NonRegularFile::ALL {
        change(&daemon, || what.put(&path)).await;
        assert!(scrape().await.is_err(), "{name} {what:?}");
        // What it says of users is still right while a certificate cannot be read.
        let expected = if name == "web.yml" { 500 } else { 200 };
        assert_eq!(on_an_open_connection().await, expected, "{name} {what:?}");
        bad_files::remove(&path);
        directory.write(name, &text);
        until("a scrape", async || is_scrape(&scrape().await).then_some(())).await;
    }
    let what = if name == "web.yml" { "the web configuration" } else { name };
    daemon.until_logged(&["level=error", what, "it is not a regular file but a pipe"]).await;
    daemon.until_logged(&["level=error", what, "it is not a regular file but a device"]).await;
    NonRegularFile::Pipe.put(&directory.path("web.yml"));
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_does_not_start_if_a_path_is_not_a_regular_file() {
    let directory = Directory::new();
    let api = SimulatedApi::start(World::of([SimulatedZone::of_size("a.example", 1)])).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    directory.write("token", &token);
    let web = directory.put("client-require-and-verify.yml");
    let more = format!(
        "ca_file = {:?}\n[server]\nlisten_addresses = [\"127.0.0.1:0\"]\nweb_config_file = {web:?}\n[credentials.default]\napi_token_file = {:?}\n",
        directory.path("ca.pem"),
        directory.path("token")
    );
    directory.write("config.toml", &support::config(&api, &more));
    let start = || {
        let mut program = Command::new(env!("CARGO_BIN_EXE_cloudflare-cert-exporter"));
        program.env_clear().arg("--config.file").arg(directory.path("config.toml"));
        let mut child = program.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let started = Instant::now();
        while child.try_wait().unwrap().is_none() && started.elapsed() < DEADLINE {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let ended = child.wait_with_output().unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    };
    for name in ["config.toml", "web.yml", "server.pem", "server.key", "ca.pem", "token"] {
        let path = directory.path(name);
        let text = std::fs::read_to_string(&path).unwrap();
        for what in NonRegularFile::ALL {
            what.put(&path);
            let (code, said) = start();
            assert!(code == Some(78) && !said.contains(&token), "{name} {what:?} {code:?} {said}");
        }
        bad_files::remove(&path);
        directory.write(name, &text);
    }
}

#[tokio::test]
async fn http_2_is_used_if_enabled_and_offered() {
    let directory = Directory::new();
    for (file, on) in [("tls.yml", true), ("no-http2.yml", false)] {
        let (_api, daemon) = start(&directory, file).await;
        // It is that of the start.
        put(&daemon, &directory, "tls.yml").await;
        let client = || {
            let authority = reqwest::Certificate::from_pem(directory.authority().pem().as_bytes()).unwrap();
            reqwest::Client::builder().no_proxy().no_gzip().tls_certs_only([authority])
        };
        let url = format!("https://{}/metrics", daemon.address());
        let answer = client().build().unwrap().get(&url).send().await.unwrap();
        let expected = if on { reqwest::Version::HTTP_2 } else { reqwest::Version::HTTP_11 };
        assert_eq!(answer.version(), expected);
        assert_eq!(answer.status().as_u16(), 200);
        let length = answer.content_length();
        assert_eq!(length, Some(answer.text().await.unwrap().len() as u64));
        let answer = client().http1_only().build().unwrap().get(&url).send().await.unwrap();
        assert_eq!(answer.version(), reqwest::Version::HTTP_11);
        assert_eq!(answer.status().as_u16(), 200);
    }
}

#[tokio::test]
async fn many_requests_on_one_http_2_connection_get_the_same_response() {
    let directory = Directory::new();
    let (_api, daemon) = start_with(directory.put("users.yml"), 2000).await;
    let authority = reqwest::Certificate::from_pem(directory.authority().pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([authority]).build().unwrap();
    let scrape = async || {
        let url = format!("https://{}/metrics", daemon.address());
        let answer = client.get(url).basic_auth(ALICE.0, Some(ALICE.1)).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        answer.text().await.unwrap().matches("\ncloudflare_certificate_info{").count()
    };
    assert_eq!(scrape().await, 2000);
    let scrapes = futures_util::future::join_all((0..40).map(|_| scrape())).await;
    assert_eq!(scrapes, [2000; 40]);
}

#[tokio::test]
async fn an_unfinished_handshake_blocks_neither_other_clients_nor_shutdown() {
    let directory = Directory::new();
    let (_api, mut daemon) = start(&directory, "tls.yml").await;
    let mut stalled = Vec::new();
    for number in 0..600 {
        let mut stream = TcpStream::connect(daemon.address()).await.unwrap();
        if number % 2 == 0 {
            // The beginning of a record that never ends.
            stream.write_all(&[0x16, 0x03, 0x01, 0x10, 0x00, 0x01]).await.unwrap();
        }
        stalled.push(stream);
    }
    for _ in 0..3 {
        let scrape = timeout(Duration::from_secs(10), get(&daemon, directory.tls(None), "/metrics", "")).await;
        assert!(is_scrape(&scrape.unwrap()));
    }
    daemon.until_logged(&["too many connections"]).await;
    // One that is quiet from its beginning, and is not the stillest by far.
    let mut last = TcpStream::connect(daemon.address()).await.unwrap();
    let started = Instant::now();
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
    let took = started.elapsed();
    // An end is an end, also as a reset.
    let _ = timeout(DEADLINE, last.read_to_end(&mut Vec::new())).await.unwrap();
    println!("with 512 half handshakes the end took {took:?}");
    assert!(!daemon.log().contains("did not finish in time"), "{}", daemon.log());
}

#[tokio::test]
async fn only_a_response_in_flight_delays_shutdown_of_http_2() {
    let directory = Directory::new();
    let (_api, mut daemon) = start_with(directory.put("tls.yml"), 5000).await;
    let authority = reqwest::Certificate::from_pem(directory.authority().pem().as_bytes()).unwrap();
    let client = || reqwest::Client::builder().no_proxy().tls_certs_only([authority.clone()]).build().unwrap();
    let url = |path: &str| format!("https://{}{path}", daemon.address());
    // An idle connection, and one of which the answer is not read yet.
    let idle = client();
    assert_eq!(idle.get(url("/-/healthy")).send().await.unwrap().status().as_u16(), 200);
    let in_flight = client().get(url("/metrics")).send().await.unwrap();
    assert_eq!(in_flight.version(), reqwest::Version::HTTP_2);
    daemon.signal("TERM");
    daemon.until_logged(&["Stopping"]).await;
    let text = in_flight.text().await.unwrap();
    assert_eq!(text.matches("\ncloudflare_certificate_info{").count(), 5000);
    until_ok(async || daemon.log().contains("Stopped.").then_some(()).ok_or("the end")).await;
    assert_eq!(daemon.wait(), Some(0));
    assert!(!daemon.log().contains("did not finish in time"), "{}", daemon.log());
}

/// Sends this many requests on a connection of HTTP/2, and reads nothing. Clients in the tests' libraries read.
async fn ask_without_reading(
    daemon: &Daemon,
    tls: Arc<ClientConfig>,
    requests: u32,
    window: u32,
) -> TlsStream<TcpStream> {
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(daemon.address().parse().unwrap()).await.unwrap();
    let mut stream = TlsConnector::from(tls).connect("localhost".try_into().unwrap(), stream).await.unwrap();
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // The window of each stream, and that of the connection.
    sent.extend(frame(4, 0, 0, &[&[0, 4][..], &window.to_be_bytes()].concat()));
    sent.extend(frame(8, 0, 0, &(i32::MAX as u32 - 65_535).to_be_bytes()));
    for request in 0..requests {
        // GET, https, and the path and the authority spelled out.
        sent.extend(frame(1, 5, 1 + 2 * request, b"\x82\x87\x04\x08/metrics\x01\x01a"));
    }
    stream.write_all(&sent).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_clients_that_do_not_read_hold_little_memory() {
    let directory = Directory::new();
    let (_api, daemon) = start_with(directory.put("tls.yml"), 5000).await;
    let mut tls = directory.tls(None);
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let tls = Arc::new(tls);
    assert!(is_scrape(&get(&daemon, directory.tls(None), "/metrics", "").await));
    let before = daemon.peak_memory();
    for window in [0, i32::MAX as u32] {
        let mut never_reading = Vec::new();
        for _ in 0..500 {
            never_reading.push(ask_without_reading(&daemon, Arc::clone(&tls), 16, window).await);
        }
        for _ in 0..3 {
            let scrape = timeout(DEADLINE, get(&daemon, directory.tls(None), "/metrics", "")).await;
            assert!(is_scrape(&scrape.unwrap()));
        }
        let peak = daemon.peak_memory();
        println!("500 connections, window {window}: at most {} MiB before, {} MiB after", before >> 20, peak >> 20);
        // The pieces of two answers each, and what TLS holds of them. Of all sixteen it would be 400 MiB and more.
        assert!(peak < before + 500 * 300 * 1024, "{window} {before} {peak}");
    }
}
