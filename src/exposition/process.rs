//! The standard `process_*` metrics.
//!
//! What the system does not tell has no series: a start time of 0 would be a lie.

use super::text::Text;

/// Appends what the system tells of this process.
#[cfg(target_os = "linux")]
pub(super) fn render(text: &mut Text) {
    use procfs::{
        ProcResult, WithCurrentSystemInfo as _,
        process::{LimitValue, Process, Stat},
    };

    let Ok(process) = Process::myself() else { return };
    let ticks = procfs::ticks_per_second();
    let stat = process.stat();
    let of_stat = |value: &dyn Fn(&Stat) -> Option<f64>| stat.as_ref().ok().and_then(value);
    let limit = |limit: ProcResult<LimitValue>| match limit {
        Ok(LimitValue::Value(value)) => Some(float(value)),
        Ok(LimitValue::Unlimited) | Err(_) => None,
    };
    let limits = process.limits();
    let limit_of = |value: &dyn Fn(&procfs::process::Limits) -> LimitValue| {
        limit(limits.as_ref().map(value).map_err(|error| procfs::ProcError::Other(error.to_string())))
    };
    // Hidden under `ProcSubset=pid`, where it would read as the epoch.
    let boot = procfs::boot_time_secs().ok().filter(|&boot| boot > 0);
    for (name, kind, help, value) in [
        (
            "process_cpu_seconds_total",
            "counter",
            "Total user and system CPU time spent in seconds.",
            of_stat(&|stat| Some(float(stat.utime + stat.stime) / float(ticks))),
        ),
        (
            "process_open_fds",
            "gauge",
            "Number of open file descriptors.",
            process.fd_count().ok().map(|count| float(count as u64)),
        ),
        (
            "process_max_fds",
            "gauge",
            "Maximum number of open file descriptors.",
            limit_of(&|limits| limits.max_open_files.soft_limit),
        ),
        (
            "process_virtual_memory_bytes",
            "gauge",
            "Virtual memory size in bytes.",
            of_stat(&|stat| Some(float(stat.vsize))),
        ),
        (
            "process_virtual_memory_max_bytes",
            "gauge",
            "Maximum amount of virtual memory available in bytes.",
            limit_of(&|limits| limits.max_address_space.soft_limit),
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory size in bytes.",
            of_stat(&|stat| Some(float(stat.rss_bytes().get()))),
        ),
        (
            "process_threads",
            "gauge",
            "Number of OS threads in the process.",
            of_stat(&|stat| Some(float(stat.num_threads.unsigned_abs()))),
        ),
        (
            "process_start_time_seconds",
            "gauge",
            "Start time of the process since unix epoch in seconds.",
            of_stat(&|stat| Some(float(boot?) + float(stat.starttime) / float(ticks))),
        ),
    ] {
        if let Some(value) = value {
            text.family(name, kind, help);
            text.sample(name, "", value);
        }
    }
}

/// Other systems tell it in other ways; nothing is shown there.
#[cfg(not(target_os = "linux"))]
pub(super) fn render(_: &mut Text) {}

#[cfg(target_os = "linux")]
#[expect(clippy::cast_precision_loss, reason = "Prometheus values are 64-bit floats")]
const fn float(value: u64) -> f64 {
    value as f64
}
