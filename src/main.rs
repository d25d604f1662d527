//! The `cloudflare-cert-exporter` program.

use std::process::ExitCode;

use chrono::Utc;

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
fn main() -> ExitCode {
    cloudflare_cert_exporter::cli::main(Utc::now)
}
