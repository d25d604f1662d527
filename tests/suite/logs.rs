//! The log of the real program: what is written while it is not read, and what others can make it write.

mod frames;

use std::{
    io::{BufRead as _, BufReader, PipeReader, Read as _},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::support::{self, DEADLINE, config, until};
use cloudflare_sim::{SimulatedApi, SimulatedZone, World};
use tokio::time::Instant;

const DROPPED: &str = "cloudflare_cert_exporter_log_lines_dropped_total";

/// A daemon that polls once a second, and whose log is read only if a test does it.
struct Unread {
    _api: SimulatedApi,
    child: Child,
    log: Option<BufReader<PipeReader>>,
    address: String,
    directory: tempfile::TempDir,
}

impl Unread {
    async fn start() -> Self {
        let api = SimulatedApi::start(World::of([SimulatedZone::of_size("a.example", 1)])).await.unwrap();
        let token = api.change(|world| world.token().to_owned());
        let directory = tempfile::tempdir().unwrap();
        let text = config(&api, "[poll]\ninterval = \"1s\"");
        let mut command = support::command(directory.path(), &text, &[], &[("CLOUDFLARE_API_TOKEN", &token)]);
        let (reader, writer) = std::io::pipe().unwrap();
        let child = command.stdout(Stdio::null()).stderr(writer).spawn().unwrap();
        // It holds the other end of the pipe too.
        drop(command);
        let mut daemon = Self { _api: api, child, log: None, address: String::new(), directory };
        let mut log = BufReader::new(reader);
        let mut line = String::new();
        while !line.contains("Listening.") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "it ended");
        }
        let address = &line[line.find("127.0.0.1:").unwrap()..];
        address.split(' ').next().unwrap().clone_into(&mut daemon.address);
        daemon.log = Some(log);
        daemon
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// A sample of a scrape, if it is there.
    async fn get(&self, series: &str) -> Option<f64> {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let answer = client.get(format!("http://{}/metrics", self.address)).send().await.unwrap();
        let text = answer.text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with(series))?;
        line.rsplit_once(' ')?.1.parse().ok()
    }

    /// Makes it log more than a pipe takes: each signal is answered with every mistake of a bad configuration.
    async fn flood(&self) -> f64 {
        assert_eq!(self.get(DROPPED).await, Some(0.0));
        let mistakes: String = (0..3000).map(|n| format!("unknown_key_{n} = 1\n")).collect();
        std::fs::write(self.directory.path().join("config.toml"), mistakes).unwrap();
        until("dropped lines", async || {
            self.signal("HUP");
            self.get(DROPPED).await.filter(|&dropped| dropped > 0.0)
        })
        .await
    }

    async fn goes_on_polling(&self) {
        let polls = async || self.get("cloudflare_certificates_polls_total{").await.unwrap();
        let then = polls().await;
        until("three more polls", async || (polls().await >= then + 3.0).then_some(())).await;
    }

    /// Waits for its end; the exit code.
    fn wait(&mut self) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(started.elapsed() < DEADLINE, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // Fails if it has ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn an_unread_log_blocks_neither_polls_nor_shutdown() {
    let mut daemon = Unread::start().await;
    daemon.flood().await;
    daemon.goes_on_polling().await;
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
}

#[tokio::test]
async fn a_log_that_is_read_again_reports_the_dropped_lines_and_continues() {
    let mut daemon = Unread::start().await;
    daemon.flood().await;
    daemon.goes_on_polling().await;
    let dropped = daemon.get(DROPPED).await.unwrap();
    let mut log = daemon.log.take().unwrap();
    let mut counted = 0.0;
    while counted < dropped {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "it ended");
        // No line was torn.
        assert!(line.starts_with("ts=") && line.ends_with('\n'), "{line}");
        if line.contains("were dropped") {
            let lines = line.split_whitespace().find_map(|field| field.strip_prefix("lines=")).unwrap();
            counted += lines.parse::<f64>().unwrap();
        }
    }
    assert!((counted - dropped).abs() < 0.5, "{counted} {dropped}");
    daemon.signal("TERM");
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    assert_eq!(daemon.wait(), Some(0));
    assert!(rest.trim_end().lines().last().unwrap().contains("Stopped."), "{rest}");
}

#[tokio::test]
async fn a_log_without_a_reader_is_counted_and_does_not_end_the_program() {
    let mut daemon = Unread::start().await;
    drop(daemon.log.take());
    daemon.signal("HUP");
    until("a lost line", async || daemon.get(DROPPED).await.filter(|&dropped| dropped > 0.0)).await;
    daemon.goes_on_polling().await;
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
}
