//! The `cloudflare-cert-exporter` program.

use std::process::ExitCode;

use chrono::Utc;

/// With glibc's, memory grows by a third over weeks of faults: it gives what large answers took back to
/// nobody, and keeps some for each thread.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
fn main() -> ExitCode {
    cloudflare_cert_exporter::cli::main(Utc::now)
}
