//! The standard `process_*` metrics. Systems other than Linux tell them in other ways; nothing is shown there.
//!
//! What the system does not tell has no series: a start time of 0 would be a lie.

use procfs::{
    WithCurrentSystemInfo as _,
    process::{LimitValue, Process},
};

use super::text;

/// Appends what the system knows about this process.
pub(super) fn render(text: &mut String) {
    let Ok(process) = Process::myself() else { return };
    let stat = process.stat().ok();
    let stat = stat.as_ref();
    let limits = process.limits().ok();
    let limits = limits.as_ref();
    // Hidden under `ProcSubset=pid`, where it would read as the epoch.
    let boot = procfs::boot_time_secs().ok().filter(|&boot| boot > 0);
    let cpu = stat.map(|stat| seconds(stat.utime + stat.stime));
    let files = process.fd_count().ok().map(|count| float(count as u64));
    let max_files = limits.and_then(|limits| limited(limits.max_open_files.soft_limit));
    let memory = stat.map(|stat| float(stat.vsize));
    let max_memory = limits.and_then(|limits| limited(limits.max_address_space.soft_limit));
    let resident = stat.map(|stat| float(stat.rss_bytes().get()));
    let threads = stat.map(|stat| float(stat.num_threads.unsigned_abs()));
    let start = boot.zip(stat).map(|(boot, stat)| float(boot) + seconds(stat.starttime));
    for (name, help, value) in [
        ("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", cpu),
        ("process_open_fds", "Number of open file descriptors.", files),
        ("process_max_fds", "Maximum number of open file descriptors.", max_files),
        ("process_virtual_memory_bytes", "Virtual memory size in bytes.", memory),
        ("process_virtual_memory_max_bytes", "Maximum amount of virtual memory available in bytes.", max_memory),
        ("process_resident_memory_bytes", "Resident memory size in bytes.", resident),
        ("process_threads", "Number of OS threads in the process.", threads),
        ("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", start),
    ] {
        if let Some(value) = value {
            text::head(text, name, help);
            text::sample(text, name, &[], value);
        }
    }
}

fn limited(limit: LimitValue) -> Option<f64> {
    match limit {
        LimitValue::Value(value) => Some(float(value)),
        LimitValue::Unlimited => None,
    }
}

/// From ticks of the system's clock.
fn seconds(ticks: u64) -> f64 {
    float(ticks) / float(procfs::ticks_per_second())
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus values are 64-bit floats")]
const fn float(value: u64) -> f64 {
    value as f64
}
