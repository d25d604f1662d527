//! When a request that failed is sent again.

use std::time::Duration;

use crate::model::Failure;

/// The one policy for every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RetryPolicy {
    /// How often a request is sent at most.
    pub(super) tries: u32,
    /// The longest first wait; each further one can be twice as long.
    pub(super) first_wait: Duration,
    /// The longest wait, unless the server asks for more.
    pub(super) longest_wait: Duration,
    /// Waits that the server asks for end within this time after the first try, or the request is given up.
    pub(super) patience: Duration,
}

impl RetryPolicy {
    /// What listings are read with.
    pub(super) const LISTING: Self = Self {
        tries: 4,
        first_wait: Duration::from_secs(1),
        longest_wait: Duration::from_secs(10),
        patience: super::throttle::PATIENCE,
    };

    /// For what can wait until the next poll.
    pub(super) const ONCE: Self = Self { tries: 1, ..Self::LISTING };

    /// How long to wait before the next try, or `None` to give up.
    ///
    /// `tried` counts the tries so far, `spent` is the time since the first one, waits for the budget left out.
    pub(super) fn wait(
        &self,
        failure: &Failure,
        tried: u32,
        spent: Duration,
        retry_after: Option<Duration>,
    ) -> Option<Duration> {
        if !failure.can_pass() || tried >= self.tries {
            return None;
        }
        // Full jitter: clients that failed together do not come back together.
        let longest = self.first_wait.saturating_mul(1 << (tried - 1).min(16)).min(self.longest_wait);
        let jitter = longest.mul_f64(fastrand::f64());
        match retry_after {
            Some(asked) if spent + asked > self.patience => None,
            Some(asked) => Some(asked.max(jitter)),
            None => Some(jitter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cause, Reason};

    const POLICY: RetryPolicy = RetryPolicy::LISTING;

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
                let wait = POLICY.wait(&Failure { cause, ..failure(reason) }, 1, Duration::ZERO, None);
                assert_eq!(wait.is_some(), again, "{reason:?} {cause:?}");
            }
        }
    }

    #[test]
    fn a_request_is_sent_four_times_with_waits_up_to_ten_seconds() {
        for (tried, longest) in [(1, Some(1)), (2, Some(2)), (3, Some(4)), (4, None)] {
            for _ in 0..1000 {
                let wait = POLICY.wait(&failure(Reason::Connect), tried, Duration::ZERO, None);
                assert_eq!(wait.is_some(), longest.is_some(), "{tried}");
                assert!(wait <= longest.map(Duration::from_secs), "{tried}: {wait:?}");
            }
        }
        let many = RetryPolicy { tries: u32::MAX, ..POLICY };
        assert!((0..1000).all(
            |_| many.wait(&failure(Reason::Connect), 1_000_000, Duration::ZERO, None) <= Some(POLICY.longest_wait)
        ));
    }

    #[test]
    fn the_server_is_obeyed_for_a_minute() {
        let seconds = Duration::from_secs;
        for (spent, asked, obeyed) in
            [(0, 30, true), (0, 60, true), (0, 61, false), (31, 30, false), (30, 30, true), (59, 300, false)]
        {
            let wait = POLICY.wait(&failure(Reason::ServerError), 1, seconds(spent), Some(seconds(asked)));
            assert_eq!(wait, obeyed.then_some(seconds(asked)), "{spent} {asked}");
        }
    }
}
