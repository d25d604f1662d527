//! A real Prometheus that scrapes the daemon, and is asked what it has understood.

use std::{
    collections::BTreeMap,
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::{DEADLINE, Daemon};

/// A running Prometheus that scrapes one target every second. It is killed when this is dropped.
pub(crate) struct Prometheus {
    child: Child,
    address: String,
    client: reqwest::Client,
    directory: TempDir,
}

/// A series and its value at the time of the question.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Series {
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

impl Prometheus {
    /// Returns after the first scrape.
    pub(crate) async fn start(daemon: &Daemon) -> Self {
        Self::start_with_rules(daemon, "groups: []").await
    }

    /// The same with this file of rules.
    pub(crate) async fn start_with_rules(daemon: &Daemon, rules: &str) -> Self {
        Self::start_program(Path::new("prometheus"), daemon, rules, "").await
    }

    /// The same for one of several programs, with more lines on how the target is scraped.
    pub(crate) async fn start_with(program: &Path, daemon: &Daemon, more: &str) -> Self {
        Self::start_program(program, daemon, "groups: []", more).await
    }

    async fn start_program(program: &Path, daemon: &Daemon, rules: &str, more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let target = daemon.url("").replace("http://", "");
        let config = directory.path().join("prometheus.yml");
        std::fs::write(directory.path().join("rules.yml"), rules).unwrap();
        let text = format!(
            "global:\n  scrape_interval: 1s\nrule_files: [rules.yml]\nscrape_configs:\n  - job_name: cloudflare\n    static_configs:\n      - targets: [{target:?}]\n{more}"
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdout(Stdio::null())
            .stderr(File::create(directory.path().join("log")).unwrap());
        let child = command.spawn().unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut prometheus = Self { child, address: String::new(), client, directory };
        let started = Instant::now();
        while prometheus.address.is_empty() {
            let ended = prometheus.child.try_wait().unwrap().is_some();
            assert!(!ended && started.elapsed() < DEADLINE, "it does not listen:\n{}", prometheus.log());
            sleep(Duration::from_millis(20)).await;
            let log = prometheus.log();
            // Not "Start listening for connections", which says port 0.
            let found = log.lines().filter(|line| line.contains("Listening on")).find_map(|line| {
                let address = &line[line.find("127.0.0.1:")?..];
                Some(address.split([' ', '"']).next()?.to_owned())
            });
            prometheus.address = found.unwrap_or_default();
        }
        while prometheus.get("/-/ready").await.0 != 200 {
            assert!(started.elapsed() < DEADLINE, "it does not get ready:\n{}", prometheus.log());
            sleep(Duration::from_millis(20)).await;
        }
        prometheus.wait_for("the first scrape", "up", |series| !series.is_empty()).await;
        prometheus
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    pub(crate) async fn get(&self, path_and_query: &str) -> (u16, String) {
        let answer = self.client.get(format!("http://{}{path_and_query}", self.address)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// What this expression is now.
    pub(crate) async fn query(&self, expression: &str) -> Vec<Series> {
        let encoded = reqwest::Url::parse_with_params("http://prometheus", [("query", expression)]).unwrap();
        let (status, body) = self.get(&format!("/api/v1/query?{}", encoded.query().unwrap())).await;
        assert_eq!(status, 200, "{expression}: {body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        let series = answer["data"]["result"].as_array().unwrap().iter().map(|series| Series {
            labels: serde_json::from_value(series["metric"].clone()).unwrap(),
            value: series["value"][1].as_str().unwrap().parse().unwrap(),
        });
        series.collect()
    }

    pub(crate) async fn wait_for(
        &self,
        what: &str,
        expression: &str,
        arrived: impl Fn(&[Series]) -> bool,
    ) -> Vec<Series> {
        let started = Instant::now();
        loop {
            let series = self.query(expression).await;
            if arrived(&series) {
                return series;
            }
            assert!(started.elapsed() < DEADLINE, "waited for {what}, but {series:?}\n{}", self.log());
            sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Fails if it has ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
