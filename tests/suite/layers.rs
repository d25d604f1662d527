//! The rooms of ARCHITECTURE.md: imports point down only, and each outside library is known in its rooms alone.
//!
//! This is about the rooms inside the program. What crates may know of each other is in their `Cargo.toml`, and the
//! compiler holds it.

use std::{fs, path::Path, process::Command};

/// From the top down. A room may use those below it.
const ROOMS: [&str; 18] = [
    "main",
    "cli",
    "lib",
    "run",
    "reload",
    "restart",
    "inventory",
    "runtime_file",
    "config",
    "server",
    "poller",
    "exposition",
    "cloudflare",
    "state",
    "systemd",
    // These two are of `exporter_toolkit`, which is below all rooms.
    "files",
    "log_throttle",
    "model",
];

/// Libraries, and the rooms that know them: one, unless there is a reason.
const KNOWN_IN: [(&str, &[&str]); 14] = [
    // `cli` asks the daemon.
    ("reqwest", &["cloudflare", "cli"]),
    ("rustls", &["cloudflare"]),
    ("sfv", &["cloudflare"]),
    ("axum", &["server"]),
    ("socket2", &["server"]),
    ("askama", &["server"]),
    ("base64", &["server"]),
    ("aws_lc_rs", &["server", "cloudflare"]),
    ("toml", &["config"]),
    ("clap", &["cli"]),
    ("cloudflare_sim", &["cli"]),
    // `config` checks the file, `cli` warns of what is odd in it, `run` opens it, and `lib` names what all rooms use.
    ("exporter_toolkit", &["server", "config", "cli", "lib", "run", "properties"]),
    ("sd_notify", &["systemd"]),
    ("listenfd", &["systemd"]),
];

/// Each source file without its tests: room, path and text.
fn sources() -> Vec<(String, String, String)> {
    fn visit(directory: &Path, found: &mut Vec<(String, String, String)>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap().to_owned();
                let inside = path.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap();
                let room = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
                found.push((room, inside.display().to_string(), text));
            }
        }
    }
    let mut found = Vec::new();
    visit(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut found);
    assert!(found.len() > 20, "the sources are not where they were");
    found
}

/// The names right behind each `crate::`, with those in braces.
fn used_rooms(text: &str) -> Vec<String> {
    let mut used = Vec::new();
    for (at, prefix) in text.match_indices("crate::") {
        if text[..at].ends_with("pub(") || text[..at].ends_with('_') {
            continue;
        }
        let rest = &text[at + prefix.len()..];
        let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        let Some(group) = rest.strip_prefix('{') else {
            used.push(word(rest));
            continue;
        };
        let (mut depth, mut starts) = (0, true);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => starts = true,
                c if c.is_whitespace() => {}
                _ => {
                    if depth == 0 && std::mem::take(&mut starts) {
                        used.push(word(&group[at..]));
                    }
                }
            }
        }
    }
    used
}

#[test]
fn imports_point_downwards_only() {
    let rank = |room: &str| ROOMS.iter().position(|other| *other == room);
    for (room, file, text) in sources() {
        for used in used_rooms(&text) {
            // What is no room is a function of lib.rs.
            let below = ROOMS.into_iter().find(|other| *other == used).unwrap_or("lib");
            assert!(below == room || rank(below) > rank(&room), "{file} uses {used}, which is above it");
        }
    }
}

#[test]
fn each_library_is_used_in_its_rooms_only() {
    for (room, file, text) in sources() {
        for (library, known_in) in KNOWN_IN {
            let named = [format!("use {library}::"), format!("{library}::")];
            let uses = named.iter().any(|name| {
                text.match_indices(name.as_str()).any(|(at, _)| {
                    !text[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '/' | '`'))
                })
            });
            assert!(!uses || known_in.contains(&&*room), "{file} uses {library}, which only {known_in:?} knows");
        }
        let clock = text.contains("Utc::now") || text.contains("SystemTime::now");
        assert!(!clock || room == "main", "{file} reads the wall clock, which only main does");
    }
}

/// The features that cargo builds the simulated API with.
fn features_of_the_simulation(edges: &str) -> String {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--prefix", "none", "--format", "{p}: {f}", "--edges", edges])
        .args(["--package", env!("CARGO_PKG_NAME")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = String::from_utf8(tree.stdout).unwrap();
    let line = text.lines().find(|line| line.starts_with("cloudflare-sim v"));
    let line = line.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&tree.stderr)));
    line.rsplit_once(": ").unwrap().1.to_owned()
}

#[test]
fn the_program_is_built_without_the_simulated_faults() {
    assert_eq!(features_of_the_simulation("normal"), "");
    assert_eq!(features_of_the_simulation("normal,dev"), "faults", "the tests have them");
}
