//! What becomes visible of a secret outside of the program: in files, in `/proc`, behind a proxy.
//!
//! That none is in any log line, page, metric or error of a daemon with faults is in `faults.rs`.

use std::{
    fs::{self, Permissions},
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use crate::support::{self, DEADLINE, Daemon};
use cloudflare_sim::{AcceptedCredential, ApiError, SimulatedApi, SimulatedZone, World};
use tokio::time::Instant;

const SECRET: &str = "s3cret-s3cret-s3cret-s3cret-s3cret-s3cret";

/// A file with a secret in it.
fn token_file(directory: &Path, mode: u32, secret: &str) -> PathBuf {
    let file = directory.join("token");
    fs::write(&file, secret).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    file
}

/// What a file says of one zone, and of an API that is asked with what is in this file.
fn config(base_url: &str, token_file: &Path) -> String {
    format!(
        "[server]\nlisten_addresses = [\"127.0.0.1:0\"]\n[api]\nbase_url = {base_url:?}\ntimeout = \"5s\"\n\
         [credentials.default]\napi_token_file = {token_file:?}\n\
         [[zones]]\nid = \"023e105f4ecef8ad9ca31a8372d0c353\"\nname = \"a.example\"\n"
    )
}

fn warnings(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.contains("Others can read")).collect()
}

#[test]
fn a_file_that_others_can_read_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let check = |file: &Path, environment: &[(&str, &str)]| {
        let output = support::run(&config("https://api.example.invalid", file), &["check-config"], environment);
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        assert!(output.stdout.starts_with("The configuration is good."), "{}", output.stdout);
        output.stderr
    };
    let file = token_file(directory.path(), 0o644, SECRET);
    let stderr = check(&file, &[]);
    for part in ["level=warn", &format!("file={}", file.display()), "mode=0644", "remedy=\"chmod 600\""] {
        assert!(stderr.contains(part), "{part} is missing in {stderr}");
    }
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    // As Kubernetes does it.
    let link = directory.path().join("link");
    symlink("token", &link).unwrap();
    assert_eq!(warnings(&check(&link, &[])).len(), 1);
    // What systemd hands over is in its care.
    assert_eq!(check(&file, &[("CREDENTIALS_DIRECTORY", directory.path().to_str().unwrap())]), "");
    token_file(directory.path(), 0o600, SECRET);
    assert_eq!(check(&link, &[]), "");
}

#[tokio::test]
async fn a_file_is_reported_again_when_it_changed_and_others_can_still_read_it() {
    let mut world = World::of([SimulatedZone::of_size("a.example", 1)]);
    world.credentials = vec![AcceptedCredential::Token(SECRET.into())];
    let api = SimulatedApi::start(world).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = token_file(directory.path(), 0o604, SECRET);
    let daemon = Daemon::start(&config(&api.base_url(), &file), &[], &[]);
    assert_eq!(warnings(&daemon.log()).len(), 1, "{}", daemon.log());
    for (changes, (mode, reports)) in [(0o604, 2), (0o600, 2), (0o606, 3)].into_iter().enumerate() {
        // Renamed, so that the daemon never sees it half written.
        let beside = tempfile::tempdir_in(directory.path()).unwrap();
        fs::rename(token_file(beside.path(), mode, &format!("secret-{changes}")), &file).unwrap();
        let started = Instant::now();
        while daemon.log().matches("The secret changed").count() == changes {
            assert!(started.elapsed() < DEADLINE, "{}", daemon.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(warnings(&daemon.log()).len(), reports, "{mode:o} {}", daemon.log());
    }
    assert!(daemon.log().contains("mode=0606"), "{}", daemon.log());
}

/// As root it runs as another user, since to root everything is open.
#[test]
#[cfg(target_os = "linux")]
fn other_processes_of_the_same_user_cannot_read_its_memory() {
    use std::os::unix::process::CommandExt as _;

    const UNPRIVILEGED: u32 = 65_534;
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let is_root = fs::metadata(directory.path()).unwrap().uid() == 0;
    let file = token_file(directory.path(), 0o600, SECRET);
    let text = config("http://127.0.0.1:1", &file);
    let command = if is_root {
        std::os::unix::fs::chown(&file, Some(UNPRIVILEGED), Some(UNPRIVILEGED)).unwrap();
        // That user may not enter the directory in which the program was built.
        let program = directory.path().join("program");
        // By a process of its own: a file that is open for writing, here or in a child, cannot be run.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_cloudflare-cert-exporter")).arg(&program).status();
        assert!(copied.unwrap().success());
        let mut command = Command::new(program);
        let given = support::command(directory.path(), &text, &[], &[]);
        command.env_clear().args(given.get_args()).uid(UNPRIVILEGED).gid(UNPRIVILEGED);
        command
    } else {
        support::command(directory.path(), &text, &[], &[])
    };
    let daemon = Daemon::wait_until_it_listens(command, directory);
    let of_process = |name: &str| format!("/proc/{}/{name}", daemon.pid());

    assert!(!fs::read_to_string(of_process("cmdline")).unwrap().contains("s3cret"));
    match fs::read(of_process("environ")) {
        Ok(environment) => {
            assert!(is_root, "its environment can be read");
            assert!(!String::from_utf8_lossy(&environment).contains("s3cret"));
        }
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied),
    }
    assert_eq!(fs::metadata(of_process("environ")).unwrap().uid(), 0, "it belongs to the user who runs it");
    // What it says of itself stays whole.
    let metrics = tokio::runtime::Runtime::new().unwrap().block_on(daemon.get("/metrics")).1;
    for name in ["cpu_seconds_total", "open_fds", "max_fds", "resident_memory_bytes", "threads", "start_time_seconds"] {
        assert!(metrics.contains(&format!("\nprocess_{name} ")), "{name} is missing in {metrics}");
    }
}

/// A proxy that gives this answer to every request and keeps what it got.
fn proxy(answer: &'static str) -> (u16, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, requests) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(String::new())));
    let kept = Arc::clone(&requests);
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut buffer = [0; 4096];
            let read = connection.read(&mut buffer).unwrap_or_default();
            kept.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..read]));
            let _ = connection.write_all(answer.as_bytes());
        }
    });
    (port, requests)
}

#[tokio::test]
async fn the_password_of_a_proxy_is_sent_to_the_proxy_only() {
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (asking, asked) = proxy("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n");
    let (failing, _) = proxy("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
    let directory = tempfile::tempdir().unwrap();
    let text = config("https://api.example.invalid/client/v4", &token_file(directory.path(), 0o600, SECRET));
    let daemons =
        [(refusing, "Connection refused"), (asking, "with 407 Proxy"), (failing, "The proxy refused the connection")];
    let daemons = daemons.map(|(port, words)| {
        let proxy = format!("http://user:pr0xy-s3cret@127.0.0.1:{port}");
        (port, words, Daemon::start(&text, &["--log.level", "debug"], &[("HTTPS_PROXY", &proxy)]))
    });
    for (port, words, daemon) in daemons {
        daemon.ready().await;
        daemon.until_logged(&["reason=connect"]).await;
        let metrics = daemon.get("/metrics").await.1;
        assert!(metrics.contains("zone_id=\"023e105f4ecef8ad9ca31a8372d0c353\",reason=\"connect\"} 1\n"), "{metrics}");
        let log = daemon.log();
        assert!(log.contains(&format!("proxy=http://127.0.0.1:{port} password=true")), "{log}");
        assert!(log.contains(words) && log.contains("reason=connect") && log.contains("sent again"), "{log}");
        for shown in [log, metrics, daemon.get("/").await.1] {
            assert!(!shown.contains("s3cret") && !shown.contains("dXNlcjpwcjB4eS1zM2NyZXQ"), "{shown}");
        }
    }
    let asked = asked.lock().unwrap();
    assert!(asked.starts_with("CONNECT api.example.invalid:443 "), "{asked}");
    assert!(asked.to_lowercase().contains("proxy-authorization: basic "), "{asked}");
    assert!(!asked.contains("s3cret"), "{asked}");
}

#[test]
fn an_unusable_proxy_is_reported_without_the_value_of_the_variable() {
    let directory = tempfile::tempdir().unwrap();
    let text = config("https://127.0.0.1:1", &token_file(directory.path(), 0o600, SECRET));
    for (variable, proxy) in [
        ("HTTPS_PROXY", "http://user:pr0xy s3cret@127.0.0.1"),
        ("https_proxy", "ftp://user:s3cret@127.0.0.1:1"),
        ("ALL_PROXY", "socks5://user:s3cret@127.0.0.1:1"),
    ] {
        let daemon = Daemon::start(&text, &[], &[(variable, proxy)]);
        let log = daemon.log();
        assert!(
            log.contains("names no proxy that can be used") && log.contains(&format!("variable={variable}")),
            "{log}"
        );
        assert!(!log.contains("s3cret") && !log.contains("through the proxy"), "{log}");
    }
    // A password may hold an @.
    let daemon = Daemon::start(&text, &[], &[("HTTPS_PROXY", "http://user:p@s3cret@127.0.0.1:1")]);
    let log = daemon.log();
    assert!(log.contains("proxy=http://127.0.0.1:1 password=true") && !log.contains("s3cret"), "{log}");
}

#[tokio::test]
async fn no_state_file_holds_a_secret_a_certificate_or_a_signing_request() {
    let (directory, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let echo = ApiError::new(400, 1, &format!("bad header: Authorization: Bearer {SECRET}"));
    let zones =
        [SimulatedZone::of_size("a.example", 60), SimulatedZone::of_size("echo.example", 1).with_fault(echo.into())];
    let mut world = World::of(zones);
    world.credentials = vec![AcceptedCredential::Token(SECRET.into())];
    let api = SimulatedApi::start(world).await.unwrap();
    let mut text = format!(
        "[server]\nlisten_addresses = [\"127.0.0.1:0\"]\n[api]\nbase_url = {:?}\n[state]\ndirectory = {:?}\n[credentials.default]\napi_token_file = {:?}\n",
        api.base_url(),
        state.path(),
        token_file(directory.path(), 0o600, SECRET)
    );
    for zone in api.change(|world| world.zones.clone()) {
        text.push_str(&format!("[[zones]]\nid = {:?}\n", zone.id));
    }
    let daemon = Daemon::start(&text, &[], &[]);
    daemon.ready().await;
    let files: Vec<_> = fs::read_dir(state.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    // The lock, the credential, and the zone that was listed.
    assert_eq!(files.len(), 3, "{files:?}");
    for file in files {
        let content = fs::read_to_string(&file).unwrap();
        for part in ["s3cret", "BEGIN CERTIFICATE", "validity_days"] {
            assert!(!content.contains(part), "{part} is in {}", file.display());
        }
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600, "{}", file.display());
    }
}
