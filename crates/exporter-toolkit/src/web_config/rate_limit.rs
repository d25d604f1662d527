//! How many requests are answered: a bucket of tokens as Go's `rate` package has it.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    document,
    report::{Findings, line, shown},
};

/// One request in each interval, and a number of them at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GuessLimit {
    interval: Duration,
    burst: u32,
}

impl GuessLimit {
    /// Reads the section; `None` is no limit.
    pub(super) fn read(section: document::RateLimitSection, report: &mut Findings) -> Option<Self> {
        let interval = section.interval?;
        let Some(nanoseconds) = parse_duration(&interval.value) else {
            let text = format!(
                "time: invalid duration {:?}; write it as \"1s\", \"100ms\" or \"1m30s\", or 0 for no limit",
                shown(&interval.value)
            );
            report.mistake(line(interval.referenced.line()), "rate_limit.interval", text);
            return None;
        };
        // Go divides by it, and a limit that is negative is none.
        let nanoseconds = u64::try_from(nanoseconds).ok().filter(|nanoseconds| *nanoseconds > 0)?;
        let burst = u32::try_from(section.burst.unwrap_or(0).max(0)).unwrap_or(u32::MAX);
        if burst == 0 {
            report
                .warnings
                .push("rate_limit.burst is 0, so every request is answered with 429; it must be at least 1".to_owned());
        }
        Some(Self { interval: Duration::from_nanos(nanoseconds), burst })
    }
}

/// A duration as Go writes it, in nanoseconds; a number without a unit counts them.
fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let sign = if negative { -1 } else { 1 };
    if rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return rest.parse::<i64>().ok().map(|nanoseconds| sign * nanoseconds);
    }
    let mut nanoseconds = 0.0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0)?;
        let unit = rest[number..].find(|c: char| c.is_ascii_digit() || c == '.').map_or(rest.len(), |end| number + end);
        let of_one = match &rest[number..unit] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        nanoseconds += rest[..number].parse::<f64>().ok()? * of_one;
        rest = &rest[unit..];
    }
    let in_range = nanoseconds < 9.2e18;
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked, and half a nanosecond is nothing")]
    in_range.then_some(sign * nanoseconds.round() as i64)
}

/// The bucket: it is full at first, and each request takes a token.
#[derive(Debug)]
pub(super) struct Limiter {
    limit: GuessLimit,
    tokens: f64,
    counted: Instant,
}

impl Limiter {
    pub(super) fn new(limit: GuessLimit) -> Self {
        Self { limit, tokens: limit.burst.into(), counted: Instant::now() }
    }

    /// Whether one more request is within the limit.
    pub(super) fn allows_one(&mut self) -> bool {
        let now = Instant::now();
        let new = now.duration_since(self.counted).as_secs_f64() / self.limit.interval.as_secs_f64();
        self.counted = now;
        self.tokens = (self.tokens + new).min(self.limit.burst.into());
        let allowed = self.tokens >= 1.0;
        if allowed {
            self.tokens -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("5", 5),
            ("-5", -5),
            ("1ns", 1),
            ("1us", 1_000),
            ("1.5ms", 1_500_000),
            ("1s", 1_000_000_000),
            ("+1m30s", 90_000_000_000),
            ("-1h", -3_600_000_000_000),
            ("1h1m1.001s", 3_661_001_000_000),
        ] {
            assert_eq!(parse_duration(text), Some(nanoseconds), "{text}");
        }
        for wrong in ["s", "1", "1d", "1 s", "1s 1m", ".s", "one", "1s1", "--1s", "300y", "99999999h"] {
            assert_eq!(parse_duration(wrong).filter(|_| wrong != "1"), None, "{wrong}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_burst_there_is_one_request_in_an_interval() {
        let interval = Duration::from_secs(10);
        let mut limiter = Limiter::new(GuessLimit { interval, burst: 2 });
        assert_eq!([(); 4].map(|()| limiter.allows_one()), [true, true, false, false]);
        advance(interval / 2).await;
        assert!(!limiter.allows_one());
        advance(interval / 2).await;
        assert_eq!([(); 2].map(|()| limiter.allows_one()), [true, false]);
        advance(interval * 100).await;
        assert_eq!([(); 3].map(|()| limiter.allows_one()), [true, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_burst_there_is_never_one() {
        let mut limiter = Limiter::new(GuessLimit { interval: Duration::from_secs(1), burst: 0 });
        for _ in 0..5 {
            assert!(!limiter.allows_one());
            advance(Duration::from_secs(60)).await;
        }
    }
}
