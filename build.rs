//! Puts into the program what it says of itself: the source revision and the compiler.

use std::process::Command;

fn main() {
    // A packager without a git checkout names the revision here.
    println!("cargo::rerun-if-env-changed=CLOUDFLARE_CERT_EXPORTER_REVISION");
    println!("cargo::rerun-if-changed=.git/HEAD");
    println!("cargo::rerun-if-changed=.git/refs");
    let revision = std::env::var("CLOUDFLARE_CERT_EXPORTER_REVISION")
        .ok()
        .or_else(|| first_line("git", &["rev-parse", "--short=12", "HEAD"]));
    let compiler = std::env::var("RUSTC").ok().and_then(|rustc| first_line(&rustc, &["--version"]));
    println!("cargo::rustc-env=BUILD_REVISION={}", revision.as_deref().unwrap_or("unknown"));
    println!("cargo::rustc-env=BUILD_RUSTC={}", compiler.as_deref().unwrap_or("unknown"));
}

fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()?.lines().next().map(str::to_owned)
}
