//! What the documentation says can be followed: its links lead somewhere, its commands run, and its configurations load.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use cloudflare_cert_exporter::model::Shard;

use crate::support::{Daemon, run};

/// Where documents are, apart from the top of the repository.
const DIRECTORIES: [&str; 6] =
    ["docs", "docs/decisions", "monitoring", "fuzz", "crates/cloudflare-sim", "crates/exporter-toolkit"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn documents() -> Vec<PathBuf> {
    let directories = DIRECTORIES.iter().map(|directory| root().join(directory)).chain([root()]);
    let files = directories.filter_map(|directory| fs::read_dir(directory).ok()).flatten();
    let paths = files.map(|file| file.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// The fenced blocks of a document in one of these languages.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let start = format!("```{language}\n");
    let rest = document.split(&start).skip(1);
    rest.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

/// A document without its fenced blocks, in which brackets are no links and `#` is no heading.
fn prose(document: &str) -> String {
    document.split("```").step_by(2).collect()
}

/// The anchors that the headings of a document have on GitHub.
fn anchors(document: &str) -> HashSet<String> {
    let headings = prose(document);
    let headings =
        headings.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let slug = |heading: &str| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
    };
    headings.map(slug).collect()
}

#[test]
fn every_link_and_anchor_resolves() {
    let documents = documents();
    assert!(documents.len() > 8, "{documents:?}");
    let mut broken = Vec::new();
    for path in &documents {
        let document = prose(&fs::read_to_string(path).unwrap());
        for link in document.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let has_anchor = || anchors(&fs::read_to_string(&target).unwrap()).contains(anchor);
            if !target.exists() || !(anchor.is_empty() || has_anchor()) {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// What `check-config` thinks of an excerpt.
fn check_config(excerpt: &str, state: &Path) -> crate::support::Output {
    let mut configuration = excerpt.replace("/var/lib/cloudflare-cert-exporter", state.to_str().unwrap());
    let token = state.join("token");
    fs::write(&token, "a-token-for-this-test").unwrap();
    configuration = configuration.replace("\"token\"", &format!("{token:?}"));
    run(&configuration, &["check-config"], &[("CLOUDFLARE_API_TOKEN", "a-token"), ("SHOP_API_TOKEN", "another-token")])
}

#[test]
fn every_configuration_in_the_documentation_is_valid() {
    let mut found = 0;
    for path in documents() {
        for block in blocks(&fs::read_to_string(&path).unwrap(), "toml") {
            let state = tempfile::tempdir().unwrap();
            let output = check_config(&block, state.path());
            assert_eq!(output.code, Some(0), "{}:\n{block}\n{}", path.display(), output.stderr);
            found += 1;
        }
    }
    assert!(found >= 4, "only {found} configurations");
}

/// Commands of a document, those over several lines joined.
fn commands(document: &str) -> Vec<String> {
    let blocks = blocks(document, "console").join("").replace("\\\n", " ");
    blocks.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect()
}

/// Commands that no test can run here, or that another one runs.
const RUN_ELSEWHERE: [(&str, &str); 12] = [
    ("cargo install", "installs into the home directory; cargo builds the same program for these tests"),
    ("./tests/run", "runs this test"),
    ("packaging/build", "tests/run runs it"),
    ("packaging/image", "packaging/test-image runs it"),
    ("podman run", "packaging/test-image runs the image"),
    ("sudo apt install", "packaging/test-deb installs the package"),
    ("sudo install", "packaging/test-deb installs a token"),
    ("sudoedit", "opens an editor"),
    ("sudo systemctl", "packaging/test-systemd starts the service"),
    ("sudo systemd-run", "packaging/test-systemd runs it"),
    ("kubectl create", "needs a cluster"),
    ("helm install", "needs a cluster; packaging/test-helm.py renders the chart"),
];

#[tokio::test]
async fn every_command_in_readme_and_install_runs() {
    for path in ["README.md", "docs/install.md"] {
        let document = fs::read_to_string(root().join(path)).unwrap();
        let configuration = blocks(&document, "toml").concat();
        let demo = Daemon::start("", &["demo", "--web.listen-address=127.0.0.1:0"], &[]);
        demo.ready().await;
        for command in commands(&document) {
            if RUN_ELSEWHERE.iter().any(|(start, _)| command.starts_with(start)) {
                continue;
            }
            if command == "cargo run --no-default-features -- demo" {
                assert_eq!(demo.get("/").await.0, 200);
            } else if command.starts_with("curl ") {
                let port = demo.address().rsplit(':').next().unwrap();
                let output = Command::new("sh").args(["-c", &command.replace("10199", port)]).output().unwrap();
                assert!(output.status.success() && !output.stdout.is_empty(), "{command}");
            } else if command == "cloudflare-cert-exporter check-config --config.file config.toml" {
                let state = tempfile::tempdir().unwrap();
                let output = check_config(&configuration, state.path());
                assert_eq!(output.code, Some(0), "{}", output.stderr);
            } else if command == "CLOUDFLARE_API_TOKEN=... cloudflare-cert-exporter" {
                // `configuration::a_token_is_all_that_the_program_needs` runs it: here it would ask Cloudflare.
            } else if command == "cloudflare-cert-exporter --config.file config.toml" {
                let state = tempfile::tempdir().unwrap();
                let configuration =
                    configuration.replace("/var/lib/cloudflare-cert-exporter", state.path().to_str().unwrap());
                // Nothing listens there, so the test sends nothing to Cloudflare.
                let environment = [("CLOUDFLARE_API_TOKEN", "a-token"), ("CLOUDFLARE_BASE_URL", "http://127.0.0.1:1")];
                let daemon = Daemon::start(&configuration, &["--web.listen-address=127.0.0.1:0"], &environment);
                assert_eq!(daemon.get("/-/healthy").await.0, 200);
            } else {
                panic!("{path}: no test runs `{command}`");
            }
        }
    }
}

/// Other programs may compute them too, so they stay as they are.
#[test]
fn the_published_shards_are_those_of_the_program() {
    let document = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let (_, table) = document.split_once("| id | of 2 shards | of 3 | of 10 |\n| --- | --- | --- | --- |\n").unwrap();
    let rows: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 6);
    for row in rows {
        let id = row.split('`').nth(1).unwrap().parse().unwrap();
        let [two, three, ten] = [2, 3, 10].map(|total| Shard::of(&id, total));
        assert_eq!(row, format!("| `{id}` | {two} | {three} | {ten} |"));
    }
}
