//! When a request that failed is sent again.

use std::time::Duration;

use super::throttle::PATIENCE;
use crate::model::Failure;

/// How often a request of a listing is sent at most. What can wait until the next poll is sent once.
pub(super) const TRIES: u32 = 4;

/// The longest first wait; each further one can be twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait, unless the server asks for more.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How long to wait before the next try, or `None` to give up.
///
/// `tried` counts the tries so far, of at most `tries`. `spent` is the time since the first one, waits for the budget left
/// out. Waits that the server asks for end within [`PATIENCE`] after the first try, or the request is given up.
pub(super) fn wait(
    failure: &Failure,
    tried: u32,
    tries: u32,
    spent: Duration,
    retry_after: Option<Duration>,
) -> Option<Duration> {
    if !failure.can_pass() || tried >= tries {
        return None;
    }
    // Full jitter: clients that failed together do not come back together.
    let longest = FIRST_WAIT.saturating_mul(1 << (tried - 1).min(16)).min(LONGEST_WAIT);
    let jitter = longest.mul_f64(fastrand::f64());
    match retry_after {
        Some(asked) if spent + asked > PATIENCE => None,
        Some(asked) => Some(asked.max(jitter)),
        None => Some(jitter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cause, Reason};

    fn failure(reason: Reason) -> Failure {
        Failure::new(reason, "no")
    }

    #[test]
    fn only_what_can_pass_is_tried_again() {
        for reason in Reason::ALL {
            let can_pass = matches!(reason.label(), "connect" | "timeout" | "rate_limited" | "server_error");
            for (cause, again) in [
                (None, can_pass),
                (Some(Cause::NotSaid), can_pass),
                (Some(Cause::Transient), true),
                (Some(Cause::DeadSecret), reason == Reason::RateLimited),
            ] {
                let wait = wait(&Failure { cause, ..failure(reason) }, 1, TRIES, Duration::ZERO, None);
                assert_eq!(wait.is_some(), again, "{reason:?} {cause:?}");
            }
        }
    }

    #[test]
    fn a_request_is_sent_four_times_with_waits_up_to_ten_seconds() {
        for (tried, longest) in [(1, Some(1)), (2, Some(2)), (3, Some(4)), (4, None)] {
            for _ in 0..1000 {
                let wait = wait(&failure(Reason::Connect), tried, TRIES, Duration::ZERO, None);
                assert_eq!(wait.is_some(), longest.is_some(), "{tried}");
                assert!(wait <= longest.map(Duration::from_secs), "{tried}: {wait:?}");
            }
        }
        let failure = failure(Reason::Connect);
        assert!((0..1000).all(|_| wait(&failure, 1_000_000, u32::MAX, Duration::ZERO, None) <= Some(LONGEST_WAIT)));
    }

    #[test]
    fn the_server_is_obeyed_for_a_minute() {
        let seconds = Duration::from_secs;
        for (spent, asked, obeyed) in
            [(0, 30, true), (0, 60, true), (0, 61, false), (31, 30, false), (30, 30, true), (59, 300, false)]
        {
            let wait = wait(&failure(Reason::ServerError), 1, TRIES, seconds(spent), Some(seconds(asked)));
            assert_eq!(wait, obeyed.then_some(seconds(asked)), "{spent} {asked}");
        }
    }
}
