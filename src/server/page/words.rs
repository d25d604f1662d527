//! Numbers and times in words.

use chrono::DateTime;

use crate::model::{ExpiryCounts, SECONDS_PER_DAY, counted};

/// Where a number would be, were it known.
pub(super) const UNKNOWN: &str = "–";

pub(super) fn number(count: Option<u64>) -> String {
    count.map_or_else(|| UNKNOWN.into(), |count| count.to_string())
}

pub(super) fn urgency(expiry: i64, now: i64) -> &'static str {
    let days = expiry.saturating_sub(now).div_euclid(SECONDS_PER_DAY);
    if days < i64::from(ExpiryCounts::SOON) {
        "bad"
    } else if days < i64::from(ExpiryCounts::NEAR) {
        "warn"
    } else {
        ""
    }
}

/// UTC; a dash for what no calendar has.
pub(super) fn date(time: i64, format: &str) -> String {
    DateTime::from_timestamp(time, 0).map_or_else(|| UNKNOWN.into(), |time| time.format(format).to_string())
}

/// Seconds since then.
pub(super) fn age(time: i64, now: i64) -> i64 {
    now.saturating_sub(time).max(0)
}

/// How far an expiry is ahead, in whole days as the metrics have them, or behind. There the metrics round the other
/// way, -3 for two days and a bit, so that the hours are there, too.
pub(super) fn until(expiry: i64, now: i64) -> String {
    let left = expiry.saturating_sub(now);
    let ago = left.saturating_neg();
    if left >= 0 {
        format!("in {}", duration(left))
    } else if ago >= SECONDS_PER_DAY {
        format!("expired {} d {} h ago", ago / SECONDS_PER_DAY, ago % SECONDS_PER_DAY / 3_600)
    } else {
        format!("expired {} ago", duration(ago))
    }
}

/// In the largest unit alone.
pub(super) fn duration(seconds: i64) -> String {
    let units = [(SECONDS_PER_DAY, "day"), (3_600, "hour"), (60, "minute")];
    let (unit, name) = units.into_iter().find(|&(unit, _)| seconds >= unit).unwrap_or((1, "second"));
    counted(seconds.unsigned_abs() / unit.unsigned_abs(), name)
}
