//! What tests share that look at the program from outside: the real daemon as a process of its own, and
//! how to ask it and wait for it.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod authority;
pub(crate) mod bad_files;
pub(crate) mod browser;
pub(crate) mod fake_systemd;
pub(crate) mod fault_proxy;
pub(crate) mod freezing_proxy;
pub(crate) mod metrics;
pub(crate) mod prometheus;
pub(crate) mod web;

use std::{
    fmt::Display,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use cloudflare_sim::{SimulatedApi, World};
use tokio::time::{Instant, sleep};

/// How long a test waits for anything; only reached if it never comes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(180);

/// What a file says that polls this world, with `more` at its end.
pub(crate) fn config(api: &SimulatedApi, more: &str) -> String {
    config_of(api, |_| true, more)
}

/// The same with some of its zones alone, by their names.
pub(crate) fn config_of(api: &SimulatedApi, is_polled: impl Fn(&str) -> bool, more: &str) -> String {
    let mut text = format!("[api]\nbase_url = {:?}\n", api.base_url());
    if !more.contains("[server]") {
        text.insert_str(0, "[server]\nlisten_addresses = [\"127.0.0.1:0\"]\n");
    }
    // No test has to wait for its budget, unless it says so.
    if !more.contains("requests_per_5m") {
        text.push_str("requests_per_5m = 100000\n");
    }
    text.push_str(more);
    text.push('\n');
    api.change(|world| {
        for zone in world.zones.iter().filter(|zone| is_polled(&zone.name)) {
            text.push_str(&format!("[[zones]]\nid = {:?}\nname = {:?}\n", zone.id, zone.name));
        }
    });
    text
}

/// Polls this world with its token; `more` is added to the section `[api]` and after it.
pub(crate) async fn start(world: World, more: &str) -> (SimulatedApi, Daemon) {
    let api = SimulatedApi::start(world).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let daemon = Daemon::start(&config(&api, more), &[], &[("CLOUDFLARE_API_TOKEN", &token)]);
    (api, daemon)
}

pub(crate) fn has_program(name: &str) -> bool {
    Command::new(name).arg("--version").output().is_ok()
}

/// Passes on whether a tool is there; it has to be where every test is asked for.
pub(crate) fn is_there(tool: &str, package: &str, is_there: bool) -> bool {
    is_there_or(is_there, &format!("{tool} is not installed: it is in Debian's package {package}"))
}

/// The same for what is in no package of Debian.
pub(crate) fn is_there_or(is_there: bool, message: &str) -> bool {
    if !is_there {
        assert!(!tests_everything(), "{message}");
        // The test runner swallows what a test that passes says by `eprintln`.
        let _ = std::io::stderr().write_all(format!("NOT TESTED: {message}.\n").as_bytes());
    }
    is_there
}

/// The directory with the programs of a Prometheus 3, which Debian has in its unstable release alone: `tests/run` fetches
/// it and names it.
pub(crate) fn prometheus_3() -> Option<std::path::PathBuf> {
    let directory = std::env::var_os("CLOUDFLARE_CERT_EXPORTER_PROMETHEUS_3").map(std::path::PathBuf::from);
    let there = directory.as_ref().is_some_and(|directory| directory.join("prometheus").exists());
    let what =
        "Prometheus 3 (CLOUDFLARE_CERT_EXPORTER_PROMETHEUS_3 names the directory of its programs; tests/run sets it)";
    is_there(what, "prometheus, in the release sid", there).then_some(directory).flatten()
}

/// Whether everything is to be tested, at whatever length.
pub(crate) fn tests_everything() -> bool {
    std::env::var("CLOUDFLARE_CERT_EXPORTER_TEST_ALL").is_ok_and(|value| value == "1")
}

/// Whether the rules are to be tested over hours and years: promtool takes more time for it than anything else takes,
/// and the program has no part in it.
pub(crate) fn tests_rules() -> bool {
    is_there_or(tests_everything(), "rules over hours and years: `just rules` and tests/run do")
        && is_there("promtool", "prometheus", has_program("promtool"))
}

/// Waits for something, or fails with the name of what never came.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    until_ok(async || look().await.ok_or(what)).await
}

/// The same where a look returns what is still missing.
pub(crate) async fn until_ok<T, E: Display>(mut look: impl AsyncFnMut() -> Result<T, E>) -> T {
    let started = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(missing) => assert!(started.elapsed() < DEADLINE, "three minutes passed without {missing}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// A daemon that listens on a free port. It is killed when this is dropped.
pub(crate) struct Daemon {
    child: Child,
    address: String,
    log: Arc<Mutex<String>>,
    /// Collects the log until the daemon ends.
    reader: Option<std::thread::JoinHandle<()>>,
    /// Holds the configuration.
    directory: tempfile::TempDir,
}

/// What a command printed, and how it ended.
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the program to its end with this configuration.
pub(crate) fn run(config: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let output = command(directory.path(), config, arguments, environment).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Output { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Nothing of this environment may change what a test sees.
pub(crate) fn command(
    directory: &std::path::Path,
    config: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Command {
    let file = directory.join("config.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloudflare-cert-exporter"));
    command.env_clear().envs(environment.iter().copied()).arg("--config.file").arg(file).args(arguments);
    command
}

impl Daemon {
    /// Starts it and waits until it listens; the configuration has to say port 0.
    pub(crate) fn start(config: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let command = command(directory.path(), config, arguments, environment);
        Self::wait_until_it_listens(command, directory)
    }

    /// The same for a command of which more is set; the directory is removed in the end.
    pub(crate) fn wait_until_it_listens(mut command: Command, directory: tempfile::TempDir) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let collected = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut log = collected.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut daemon = Self { child, address: String::new(), log, reader: Some(reader), directory };
        let started = Instant::now();
        while daemon.address.is_empty() {
            assert!(started.elapsed() < DEADLINE && daemon.child.try_wait().unwrap().is_none(), "{}", daemon.log());
            std::thread::sleep(Duration::from_millis(10));
            let log = daemon.log();
            let found = log.lines().filter(|line| line.contains("Listening.")).find_map(|line| {
                let rest = &line[line.find("127.0.0.1:")?..];
                Some(rest.split([' ', '"']).next()?.to_owned())
            });
            daemon.address = found.unwrap_or_default();
        }
        daemon
    }

    /// Writes another configuration, which a reload reads.
    pub(crate) fn configure(&self, config: &str) {
        std::fs::write(self.directory.path().join("config.toml"), config).unwrap();
    }

    /// Puts a pipe in its place, which no process writes to.
    pub(crate) fn replace_configuration_by_a_pipe(&self) {
        let file = self.directory.path().join("config.toml");
        std::fs::remove_file(&file).unwrap();
        assert!(Command::new("mkfifo").arg(file).status().unwrap().success());
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Where it listens for probes; the configuration has to say port 0 there as well.
    pub(crate) async fn probe_address(&self) -> String {
        let found = async || {
            let log = self.log();
            let line = log.lines().find(|line| line.contains("Listening for probes"))?;
            Some(line[line.find("127.0.0.1:")?..].split([' ', '"']).next()?.to_owned())
        };
        until("an address for probes in the log", found).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Status and body of a GET.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        self.ask(reqwest::Method::GET, path).await
    }

    /// Status and body of a POST.
    pub(crate) async fn post(&self, path: &str) -> (u16, String) {
        self.ask(reqwest::Method::POST, path).await
    }

    async fn ask(&self, method: reqwest::Method, path: &str) -> (u16, String) {
        // The machine's certificate authorities are not needed, and take long to read.
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let answer = client.request(method, self.url(path)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Waits until every zone was tried once.
    pub(crate) async fn ready(&self) {
        let started = Instant::now();
        while self.get("/-/ready").await.0 != 200 {
            assert!(started.elapsed() < DEADLINE, "not ready in three minutes:\n{}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a line of the log holds all of these: it comes through a pipe, after what it tells of.
    pub(crate) async fn until_logged(&self, parts: &[&str]) {
        until_ok(async || {
            let log = self.log();
            let found = log.lines().any(|line| parts.iter().all(|part| line.contains(part)));
            if found { Ok(()) } else { Err(format!("a line with {parts:?} in\n{log}")) }
        })
        .await;
    }

    /// Everything that it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it has had, in bytes.
    pub(crate) fn peak_memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
    }

    /// Sends a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end, and for all of its log; the exit code, or `None` if a signal killed it.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                if let Some(reader) = self.reader.take() {
                    reader.join().unwrap();
                }
                return status.code();
            }
            assert!(started.elapsed() < DEADLINE, "it does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Fails if it has ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
