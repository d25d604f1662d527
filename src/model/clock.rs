//! Wall clocks that nothing can be done with.

use chrono::{DateTime, Utc};
use thiserror::Error;

/// The clock of this machine is wrong beyond use: the libraries that check certificates and date responses know no
/// time before 1970, and dates in HTTP end with the year 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the clock of this machine says {0}, and only the time from 1970 to 9999 can be used; set the clock, then start the program again"
)]
pub struct UnusableClock(DateTime<Utc>);

/// Passes on a time that can be used.
///
/// # Errors
/// If the time is before 1970 or after 9999.
pub fn usable_time(now: DateTime<Utc>) -> Result<DateTime<Utc>, UnusableClock> {
    /// The first second of the year 10000.
    const END: i64 = 253_402_300_800;
    if (0..END).contains(&now.timestamp()) { Ok(now) } else { Err(UnusableClock(now)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_from_1970_to_9999_can_be_used() {
        for (time, is_usable) in [
            ("1969-12-31T23:59:59.999Z", false),
            ("1970-01-01T00:00:00Z", true),
            ("2100-02-28T12:00:00Z", true),
            ("9999-12-31T23:59:59.999Z", true),
            ("+10000-01-01T00:00:00Z", false),
        ] {
            assert_eq!(usable_time(time.parse().unwrap()).is_ok(), is_usable, "{time}");
        }
        for extreme in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
            assert!(usable_time(extreme).unwrap_err().to_string().contains("; set the clock"));
        }
    }
}
