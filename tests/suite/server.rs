//! The HTTP server from outside, with clients that Prometheus is not: the real binary, over real sockets.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash as _, Hasher as _},
    process::Command,
    time::Duration,
};

use crate::support::{self, DEADLINE, Daemon, is_there_or};
use cloudflare_sim::{SimulatedApi, SimulatedZone, World};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

const SCRAPE: &str = "GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

/// A daemon that has listed one zone of this size.
async fn start(certificates: usize) -> (SimulatedApi, Daemon) {
    let world = World::of([SimulatedZone::of_size("a.example", certificates)]);
    let (token, id) = (world.token().to_owned(), world.zones[0].id.clone());
    let api = SimulatedApi::start(world).await.unwrap();
    let config = format!(
        "[server]\nlisten_addresses = [\"127.0.0.1:0\"]\n[api]\nbase_url = {:?}\n[[zones]]\nid = {id:?}\nname = \"a.example\"\n",
        api.base_url()
    );
    let daemon = Daemon::start(&config, &[], &[("CLOUDFLARE_API_TOKEN", &token)]);
    daemon.ready().await;
    (api, daemon)
}

async fn connect(daemon: &Daemon) -> TcpStream {
    TcpStream::connect(daemon.url("").strip_prefix("http://").unwrap()).await.unwrap()
}

/// Sends a scrape, and reads nothing of the answer but that it begins to come. Little of it fits into the client's
/// buffer.
async fn begin_to_scrape(daemon: &Daemon) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(daemon.url("").strip_prefix("http://").unwrap().parse().unwrap()).await.unwrap();
    stream.write_all(SCRAPE.as_bytes()).await.unwrap();
    timeout(DEADLINE, stream.readable()).await.unwrap().unwrap();
    stream
}

/// All that comes until the server ends the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    text
}

/// The body of an answer that has come whole.
fn body(answer: &str) -> &str {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.to_lowercase().contains(&format!("\r\ncontent-length: {}", body.len())), "{} {head}", body.len());
    body
}

/// A scrape of a well-behaved client; how long it took, and how much came.
async fn scrape(daemon: &Daemon) -> (Duration, usize) {
    let started = Instant::now();
    let mut stream = connect(daemon).await;
    stream.write_all(SCRAPE.as_bytes()).await.unwrap();
    let answer = rest(&mut stream).await;
    (started.elapsed(), body(&answer).len())
}

/// Waits until the daemon has logged this; what it logs arrives a little later, even after its end.
async fn logged(daemon: &Daemon, words: &str) {
    let started = Instant::now();
    while !daemon.log().contains(words) {
        assert!(started.elapsed() < DEADLINE, "{words} is missing in {}", daemon.log());
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn headers_of_64_kb_are_refused_and_logged_once() {
    let (_api, daemon) = start(1).await;
    for _ in 0..3 {
        let mut stream = connect(&daemon).await;
        let request = format!("GET /metrics HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(64 * 1024));
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        scrape(&daemon).await;
    }
    logged(&daemon, "too large a header").await;
    let log = daemon.log();
    assert_eq!(log.matches("too large a header").count(), 1, "{log}");
}

#[tokio::test]
async fn a_request_of_http_1_1_has_exactly_one_host_on_every_port() {
    let world = World::of([SimulatedZone::of_size("a.example", 1)]);
    let server = "[server]\nlisten_addresses = [\"127.0.0.1:0\"]\nprobe_listen_address = \"127.0.0.1:0\"\n";
    let (_api, daemon) = support::start(world, server).await;
    for address in [daemon.address().to_owned(), daemon.probe_address().await] {
        for (line, hosts, expected) in [
            ("/-/healthy HTTP/1.1", &["a"][..], 200),
            ("/-/healthy HTTP/1.1", &["a:10199"], 200),
            ("/-/healthy HTTP/1.1", &["[::1]:10199"], 200),
            ("/-/healthy HTTP/1.1", &[""], 200),
            ("http://a/-/healthy HTTP/1.1", &["a"], 200),
            ("/-/healthy HTTP/1.0", &["a"], 200),
            ("/-/healthy HTTP/1.0", &[], 200),
            ("/-/healthy HTTP/1.1", &[], 400),
            ("/nothing HTTP/1.1", &[], 400),
            ("http://a/-/healthy HTTP/1.1", &[], 400),
            ("/-/healthy HTTP/1.1", &["a", "b"], 400),
            ("/-/healthy HTTP/1.1", &["a", "a"], 400),
            ("/-/healthy HTTP/1.1", &["", "a"], 400),
            ("/-/healthy HTTP/1.0", &["a", "b"], 400),
            ("/-/healthy HTTP/1.1", &["a b"], 400),
            ("/-/healthy HTTP/1.1", &["a, b"], 400),
            ("/-/healthy HTTP/1.1", &["http://a/"], 400),
            ("/-/healthy HTTP/1.1", &["a:b"], 400),
            ("/-/healthy HTTP/1.0", &["b@a"], 400),
        ] {
            let hosts: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
            // The second request is not read any more where the first is refused.
            let second = if expected == 200 { "" } else { "GET /-/healthy HTTP/1.1\r\nhost: a\r\n\r\n" };
            let close = if expected == 200 { "connection: close\r\n" } else { "" };
            let mut stream = TcpStream::connect(&address).await.unwrap();
            stream.write_all(format!("GET {line}\r\n{hosts}{close}\r\n{second}").as_bytes()).await.unwrap();
            let answer = rest(&mut stream).await;
            assert_eq!(answer.split(' ').nth(1), Some(&*expected.to_string()), "{address} {line} {hosts} {answer}");
            assert_eq!(answer.matches("\r\n\r\n").count(), 1, "{address} {line} {hosts} {answer}");
        }
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (_api, daemon) = start(1).await;
    let mut stream = connect(&daemon).await;
    let requests: String = ["/-/healthy", "/nothing", "/-/ready"]
        .iter()
        .map(|path| {
            let end = if *path == "/-/ready" { "connection: close\r\n" } else { "" };
            format!("GET {path} HTTP/1.1\r\nhost: a\r\n{end}\r\n")
        })
        .collect();
    stream.write_all(requests.as_bytes()).await.unwrap();
    let answers = rest(&mut stream).await;
    let found: Vec<_> = ["200 OK", "Healthy.\n", "404 Not Found", "404 page not found\n", "200 OK", "Ready.\n"]
        .iter()
        .scan(0, |from, part| {
            *from += answers[*from..].find(part)? + part.len();
            Some(*from)
        })
        .collect();
    assert_eq!(found.len(), 6, "{answers}");
    assert_eq!(found.last(), Some(&answers.len()), "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 3, "{answers}");
}

#[tokio::test]
async fn a_half_closed_client_gets_its_whole_response() {
    let (_api, daemon) = start(2000).await;
    let mut stream = connect(&daemon).await;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = rest(&mut stream).await;
    assert_eq!(body(&answer).matches("\ncloudflare_certificate_days_until_expiry{").count(), 2000);
}

#[tokio::test]
async fn two_hundred_concurrent_scrapes_get_the_same_text() {
    let (_api, daemon) = start(1000).await;
    let started = Instant::now();
    let mut scrapes = JoinSet::new();
    for _ in 0..200 {
        let mut stream = connect(&daemon).await;
        scrapes.spawn(async move {
            stream.write_all(SCRAPE.as_bytes()).await.unwrap();
            // They need not all be in this process's memory.
            let (mut lines, mut hasher, mut length, mut promised) =
                (BufReader::new(stream), DefaultHasher::new(), 0, None);
            let (mut line, mut in_head) = (String::new(), true);
            while lines.read_line(&mut line).await.unwrap() > 0 {
                if in_head {
                    let value =
                        line.to_lowercase().strip_prefix("content-length: ").map(|value| value.trim().to_owned());
                    promised = promised.or(value.map(|value| value.parse::<usize>().unwrap()));
                    in_head = line != "\r\n";
                } else {
                    length += line.len();
                    // These can change between two scrapes: the token's expiry is known ten seconds after the start.
                    let changing = ["process_", "cloudflare_cert_exporter_clock", "cloudflare_api_"];
                    if !changing.iter().any(|name| line.contains(name)) {
                        line.hash(&mut hasher);
                    }
                }
                line.clear();
            }
            assert_eq!(promised, Some(length));
            (hasher.finish(), started.elapsed())
        });
    }
    let answers = timeout(DEADLINE, scrapes.join_all()).await.unwrap();
    assert!(answers.iter().all(|(hash, _)| *hash == answers[0].0));
    println!("200 scrapes at once: the last ended after {:?}", answers.iter().map(|(_, time)| *time).max().unwrap());
}

#[tokio::test]
async fn many_bad_clients_do_not_keep_a_good_one_out() {
    let (_api, daemon) = start(5000).await;
    let (alone, size) = scrape(&daemon).await;
    let before = daemon.peak_memory();
    let mut idle = Vec::new();
    for _ in 0..600 {
        idle.push(connect(&daemon).await);
    }
    let mut trickling = JoinSet::new();
    for _ in 0..100 {
        let mut stream = connect(&daemon).await;
        trickling.spawn(async move {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nx: ").await.unwrap();
            // Fails once it had to make room.
            while stream.write_all(b"x").await.is_ok() {
                sleep(Duration::from_millis(50)).await;
            }
        });
    }
    let mut never_reading = Vec::new();
    for _ in 0..100 {
        never_reading.push(begin_to_scrape(&daemon).await);
    }
    let mut times = Vec::new();
    for _ in 0..5 {
        let (time, length) = timeout(Duration::from_secs(10), scrape(&daemon)).await.unwrap();
        // What the process says of itself may have other digits and more lines: the token is asked about after
        // ten seconds.
        assert!(length.abs_diff(size) < 10_000, "{length} {size}");
        times.push(time);
    }
    // What 512 connections hold of a header and of an answer. A hundred answers would be many times that.
    let bound = before + 512 * 128 * 1024;
    let peak = daemon.peak_memory();
    println!(
        "a scrape of {size} bytes alone: {alone:?}, in the crowd: {times:?}; memory at most {} MiB before, {} MiB after, bound {} MiB",
        before >> 20,
        peak >> 20,
        bound >> 20
    );
    assert!(peak < bound, "{peak} {bound}");
    let log = daemon.log();
    assert_eq!(log.matches("too many connections").count(), 1, "{log}");
    // Nothing changed, so all of them were being sent the same.
    assert!(!log.contains("read too slowly"), "{log}");
}

#[tokio::test]
async fn only_a_scrape_in_flight_delays_shutdown() {
    let (_api, mut daemon) = start(5000).await;
    let mut waiting = Vec::new();
    for sent in ["", "GET /met", "GET /metrics HTTP/1.1\r\nhost: a\r\n", "GET /-/healthy HTTP/1.1\r\nhost: a\r\n\r\n"] {
        let mut stream = connect(&daemon).await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        waiting.push(stream);
    }
    let mut in_flight = begin_to_scrape(&daemon).await;
    daemon.signal("TERM");
    // The scrape is not read in the meantime.
    for mut stream in waiting {
        // A reset is an end too: the server may not have read yet what was sent.
        let _ = timeout(DEADLINE, stream.read_to_end(&mut Vec::new())).await.unwrap();
    }
    assert_eq!(body(&rest(&mut in_flight).await).matches("\ncloudflare_certificate_info{").count(), 5000);
    assert_eq!(daemon.wait(), Some(0));
    logged(&daemon, "Stopped.").await;
    assert!(!daemon.log().contains("did not finish in time"), "{}", daemon.log());
}

#[tokio::test]
async fn a_second_signal_does_not_wait_for_a_scrape() {
    let (_api, mut daemon) = start(5000).await;
    let never_read = begin_to_scrape(&daemon).await;
    daemon.signal("TERM");
    logged(&daemon, "Stopping").await;
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
    logged(&daemon, "A second signal").await;
    drop(never_read);
}

/// In a network of its own, in which sockets of IPv6 serve IPv6 alone unless a program sets it otherwise.
#[test]
fn all_interfaces_means_ipv4_and_ipv6_whatever_the_system_default_is() {
    // What is asked, and what comes of it; the daemon ends when the shell does.
    const SCRIPT: &str = r#"
        ip link set lo up && echo 1 > /proc/sys/net/ipv6/bindv6only || exit 99
        [ $# -gt 0 ] || exit 0
        "$@" run > /dev/null 2>&1 &
        daemon=$!
        trap 'kill $daemon; wait $daemon' EXIT
        for host in 127.0.0.1 '[::1]'; do
            for url in "http://$host:10199/metrics" "http://$host:10200/-/ready"; do
                tries=0
                until "$1" healthcheck --url "$url" | grep -Eq 'answers|returned 503' || [ $((tries += 1)) = 100 ]; do sleep 0.1; done
                [ $tries = 100 ] || echo "$url answers"
            done
        done
        "$@" healthcheck > /dev/null && echo healthy
        "$@" check | grep -q 'not fresh' && echo checked
    "#;
    let shell = |listen: &[&str], probe: &str| {
        let directory = tempfile::tempdir().unwrap();
        // Nothing answers there, and nothing has to.
        let config = format!(
            "[server]\nlisten_addresses = {listen:?}\nprobe_listen_address = {probe:?}\n[api]\nbase_url = \"http://127.0.0.1:9\"\n[[zones]]\nid = \"{:032x}\"\nname = \"a.example\"\n",
            1
        );
        let daemon = support::command(directory.path(), &config, &[], &[]);
        let mut shell = Command::new("unshare");
        shell.args(["-rn", "bash", "-c", SCRIPT, "bash"]).env("CLOUDFLARE_API_TOKEN", "token");
        (shell, daemon, directory)
    };
    let allowed = shell(&[":1"], ":2").0.output().is_ok_and(|output| output.status.success());
    if !is_there_or(allowed, "a network namespace is not allowed here, so net.ipv6.bindv6only cannot be set") {
        return;
    }
    for (listen, probe) in [
        (&[":10199"][..], ":10200"),
        (&["[::]:10199"], "[::]:10200"),
        (&["0.0.0.0:10199", "[::]:10199"], ":10200"),
        (&["[::]:10199", "0.0.0.0:10199"], ":10200"),
    ] {
        let (mut shell, daemon, _directory) = shell(listen, probe);
        let output = shell.arg(daemon.get_program()).args(daemon.get_args()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let expected = "http://127.0.0.1:10199/metrics answers\nhttp://127.0.0.1:10200/-/ready answers\nhttp://[::1]:10199/metrics answers\nhttp://[::1]:10200/-/ready answers\nhealthy\nchecked\n";
        assert_eq!(said, expected, "{listen:?} {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test]
async fn running_out_of_file_descriptors_is_temporary() {
    let (_api, daemon) = start(1).await;
    let open = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    let set = Command::new("prlimit")
        .args([format!("--pid={}", daemon.pid()), format!("--nofile={}", open + 5)])
        .status()
        .unwrap();
    assert!(set.success());
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(connect(&daemon).await);
    }
    logged(&daemon, "cannot be accepted").await;
    // It tries again many times.
    sleep(Duration::from_millis(500)).await;
    drop(held);
    scrape(&daemon).await;
    let log = daemon.log();
    assert_eq!(log.matches("cannot be accepted").count(), 1, "{log}");
}
