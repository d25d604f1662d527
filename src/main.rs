//! The `cloudflare-cert-exporter` program.

use std::{
    process::ExitCode,
    time::{Duration, SystemTime},
};

use chrono::{DateTime, Utc};

/// With glibc's, memory grows by a third over weeks of faults: it keeps what large responses took, and
/// some of that for each thread.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cloudflare_cert_exporter::cli::main(now)
}

/// The wall clock, whatever it says: `Utc::now` panics before 1970.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
fn now() -> DateTime<Utc> {
    let since = |time: Duration| DateTime::from_timestamp(time.as_secs().try_into().ok()?, time.subsec_nanos());
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since_1970) => since(since_1970).unwrap_or(DateTime::<Utc>::MAX_UTC),
        // Counted backwards from there, which is the same distance.
        Err(before_1970) => since(before_1970.duration())
            .and_then(|mirrored| DateTime::UNIX_EPOCH.checked_sub_signed(mirrored - DateTime::UNIX_EPOCH))
            .unwrap_or(DateTime::<Utc>::MIN_UTC),
    }
}
