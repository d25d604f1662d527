//! When no request may go out at all: the circuit breaker of a credential.
//!
//! After a pause a single request probes, and its response decides whether others follow. Responses to requests that
//! were sent before a pause began do not end it. The table says what each response leads to; durations in the first
//! column are how long that pause lasts or lasted. `same` is the state before; `recovered` also reports that
//! Cloudflare accepts the credential again. A 401 that does not say why is refused or forbidden, by what was accepted.
//!
//! | before | rate limited | locked out | refused | forbidden | accepted, low for 30 s | accepted | no word |
//! | --- | --- | --- | --- | --- | --- | --- | --- |
//! | none | rate limited 300 | refused 900 | none | none | low 30 | none | none |
//! | none, refused twice | rate limited 300 | refused 900 | refused 60 | none | low 30 | none | none |
//! | probe after low 60 | rate limited 300 | refused 900 | none | none | low 30 | none | low 1 |
//! | probe after rate limited 600 | rate limited 300 | refused 900 | none | none | low 30 | none | low 1 |
//! | probe after refused 240 | rate limited 300, recovered | refused 900 | refused 480 | refused 480 | low 30, recovered | none, recovered | refused 240 |
//! | probe after refused 2400 | rate limited 300, recovered | refused 3600 | refused 3600 | refused 3600 | low 30, recovered | none, recovered | refused 2400 |
//! | pause low 60 | rate limited 300 | refused 900 | same | same | same | same | same |
//! | pause rate limited 600 | same | refused 900 | same | same | same | same | same |
//! | pause refused 240 | rate limited 300 | refused 900 | same | same | same | same | same |
//! | pause refused 2400 | same | same | same | same | same | same | same |

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{super::headers::LONGEST_WAIT, PATIENCE};
use crate::model::Kind;

/// How long Cloudflare blocks a user who sent too many requests.
const BLOCK: Duration = Duration::from_secs(300);

/// No pause is shorter: a server that says "at once" does not mean at once.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// A single refusal can be a passing fault; so many in a row are a dead credential.
const REFUSALS_TO_STOP: u32 = 3;

/// A dead credential is probed after the first of these, then less and less often, up to the second.
const FIRST_PROBE: Duration = Duration::from_secs(60);
const RAREST_PROBE: Duration = Duration::from_secs(3600);

/// The shortest pause after a lock-out: each request that is refused may prolong it. Cloudflare does not say how long
/// it lasts.
const LOCK_OUT: Duration = Duration::from_secs(15 * 60);

/// Stops the requests of one credential, as its responses demand it.
#[derive(Debug, Default)]
pub(super) struct CircuitBreaker {
    pause: Option<Pause>,
    /// Since the last response that accepted the secret.
    refused_in_a_row: u32,
    /// The kinds of which a listing was accepted. Before the first, no more requests are in flight than may be refused.
    accepted: Vec<Kind>,
}

/// No request goes out until a time; then a single one, whose response decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pause {
    reason: PauseReason,
    until: Instant,
    /// How long it lasts or lasted.
    length: Duration,
    /// The single request is out.
    is_probing: bool,
}

/// Why no request may go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PauseReason {
    /// What is left of Cloudflare's own quota is the owner's.
    Low,
    /// Cloudflare says that there were too many requests.
    RateLimited,
    /// Cloudflare refuses the credential, whatever is requested with it.
    Refused,
}

/// No request may go out, for longer than any request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paused {
    pub(in crate::cloudflare) reason: PauseReason,
    /// How long it will stay so.
    pub(in crate::cloudflare) wait: Duration,
}

/// What a response says about the credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::cloudflare) enum Verdict {
    /// Nothing: there was no response, or it is not the API's own.
    #[default]
    None,
    /// Cloudflare accepts it.
    Accepted,
    /// A refusal, which may be about what was requested.
    Forbidden,
    /// A refusal that does not say whether it is about the credential or about what was requested.
    Unauthorized,
    /// A refusal, whatever is requested.
    Refused,
    /// The same, and so often that Cloudflare no longer looks at the credential.
    LockedOut,
}

/// What the response to a request says about further ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::cloudflare) struct ResponseSummary {
    pub(in crate::cloudflare) verdict: Verdict,
    /// The kind of certificate that was listed, if any was.
    pub(in crate::cloudflare) listing: Option<Kind>,
    pub(in crate::cloudflare) is_rate_limited: bool,
    /// How long the server wants to be left alone.
    pub(in crate::cloudflare) retry_after: Option<Duration>,
    /// How long less is left of Cloudflare's quota than the owner's share, if that is so now.
    pub(in crate::cloudflare) low_for: Option<Duration>,
}

impl ResponseSummary {
    /// How long a rate limit lasts.
    pub(in crate::cloudflare) fn block(&self) -> Duration {
        self.retry_after.unwrap_or(BLOCK)
    }
}

/// What a response changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::cloudflare) struct Transition {
    /// This response began a pause, of this length.
    pub(in crate::cloudflare) paused: Option<Paused>,
    /// The credential was refused before, and is no longer.
    pub(in crate::cloudflare) recovered: bool,
}

/// What must be known of a pause after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PauseRecord {
    pub(super) reason: PauseReason,
    /// Unix seconds.
    pub(super) until: i64,
    /// Seconds.
    pub(super) length: u64,
}

/// Whether a request may go out.
pub(super) enum Admission {
    /// Yes; a probe is the only one.
    Granted { is_probe: bool },
    /// No, and there is no point in waiting.
    Denied(Paused),
    /// Not before this time, unless woken.
    NotBefore(Instant),
    /// Not unless woken.
    NotYet,
}

impl CircuitBreaker {
    pub(super) fn admission(&self, now: Instant) -> Admission {
        let Some(pause) = &self.pause else { return Admission::Granted { is_probe: false } };
        let wait = pause.until.saturating_duration_since(now);
        if wait.is_zero() {
            return if pause.is_probing { Admission::NotYet } else { Admission::Granted { is_probe: true } };
        }
        match pause.reason {
            PauseReason::Refused => Admission::Denied(Paused { reason: pause.reason, wait }),
            PauseReason::RateLimited if wait > PATIENCE => Admission::Denied(Paused { reason: pause.reason, wait }),
            PauseReason::RateLimited | PauseReason::Low => Admission::NotBefore(pause.until),
        }
    }

    /// How many requests may be in flight, of as many as are configured.
    pub(super) fn max_in_flight(&self, configured: usize) -> usize {
        if !self.accepted.is_empty() { configured } else { configured.min(REFUSALS_TO_STOP as usize) }
    }

    pub(super) fn begin_probe(&mut self) {
        if let Some(pause) = &mut self.pause {
            pause.is_probing = true;
        }
    }

    /// The probe is over. Without a response that ended the pause, another one is due.
    pub(super) fn end_probe(&mut self) {
        if let Some(pause) = &mut self.pause {
            pause.is_probing = false;
        }
    }

    /// Forgets that the credential was refused or accepted, because its secret or the API is another one.
    pub(super) fn forget_verdicts(&mut self) {
        self.refused_in_a_row = 0;
        self.accepted.clear();
        self.pause = self.pause.filter(|pause| pause.reason != PauseReason::Refused);
    }

    /// Goes to the next state of the table.
    pub(super) fn record_response(&mut self, response: &ResponseSummary, is_probe: bool, now: Instant) -> Transition {
        let response = &ResponseSummary { verdict: self.settled(response), ..*response };
        match response.verdict {
            Verdict::Refused => self.refused_in_a_row += 1,
            Verdict::Accepted => {
                self.refused_in_a_row = 0;
                self.accepted.extend(response.listing.filter(|kind| !self.accepted.contains(kind)));
            }
            // These do not tell whether the secret is good.
            Verdict::Unauthorized | Verdict::Forbidden | Verdict::LockedOut | Verdict::None => {}
        }
        let before = self.pause;
        let next = self.pause_after(response, is_probe, now);
        if let Some(pause) = before.filter(|pause| !is_probe || pause.until > now) {
            return self.lengthen(pause, next, response);
        }
        self.pause = next;
        let was_refused = before.is_some_and(|pause| pause.reason == PauseReason::Refused);
        let is_refused = next.is_some_and(|pause| pause.reason == PauseReason::Refused);
        Transition { paused: next.map(Pause::begun), recovered: was_refused && !is_refused }
    }

    /// The verdict, where a refusal does not say what it is about: the credential, unless listings of other kinds were
    /// accepted and none of this kind ever was, which another permission would explain.
    fn settled(&self, response: &ResponseSummary) -> Verdict {
        let of_this_kind = || response.listing.is_some_and(|kind| self.accepted.contains(&kind));
        match response.verdict {
            Verdict::Unauthorized if self.accepted.is_empty() || of_this_kind() => Verdict::Refused,
            Verdict::Unauthorized => Verdict::Forbidden,
            verdict => verdict,
        }
    }

    /// The response belongs to a request from before the pause. Only a rate limit or a lock-out makes the pause longer.
    fn lengthen(&mut self, pause: Pause, next: Option<Pause>, response: &ResponseSummary) -> Transition {
        let counts = response.is_rate_limited || response.verdict == Verdict::LockedOut;
        let Some(next) = next.filter(|next| counts && next.until > pause.until + SHORTEST_PAUSE) else {
            return Transition::default();
        };
        self.pause = Some(Pause { is_probing: pause.is_probing, ..next });
        Transition { paused: Some(next.begun()), recovered: false }
    }

    /// The pause that follows from a response.
    fn pause_after(&self, response: &ResponseSummary, is_probe: bool, now: Instant) -> Option<Pause> {
        let pause = |reason, length| Some(Pause { reason, until: now + length, length, is_probing: false });
        if response.is_rate_limited {
            return pause(PauseReason::RateLimited, response.block().max(SHORTEST_PAUSE));
        }
        // How long the credential was refused before this probe.
        let refused_for =
            self.pause.filter(|pause| is_probe && pause.reason == PauseReason::Refused).map(|pause| pause.length);
        match (response.verdict, refused_for) {
            (Verdict::LockedOut, _) => {
                let doubled = (refused_for.unwrap_or_default() * 2).min(RAREST_PROBE);
                let asked = response.retry_after.unwrap_or_default();
                return pause(PauseReason::Refused, doubled.max(LOCK_OUT).max(asked));
            }
            // Cloudflare does not always say that it is about the credential.
            (Verdict::Refused | Verdict::Forbidden, Some(before)) => {
                return pause(PauseReason::Refused, (before * 2).min(RAREST_PROBE));
            }
            (Verdict::Refused, None) if self.refused_in_a_row >= REFUSALS_TO_STOP => {
                return pause(PauseReason::Refused, FIRST_PROBE);
            }
            // No word from the API itself: what was true before still is.
            (Verdict::None, Some(before)) => return pause(PauseReason::Refused, before),
            (Verdict::None, None) if self.pause.is_some() => return pause(PauseReason::Low, SHORTEST_PAUSE),
            _ => {}
        }
        // Nothing promises that all is over when the time is, so a request probes then.
        response.low_for.and_then(|length| pause(PauseReason::Low, length.max(SHORTEST_PAUSE)))
    }

    /// What a restart must not forget, at the Unix second `now`, which is rounded up.
    pub(super) fn record(&self, instant: Instant, now: i64) -> Option<PauseRecord> {
        let pause = self.pause.filter(|pause| pause.reason != PauseReason::Refused)?;
        let left = whole_seconds(pause.until.saturating_duration_since(instant));
        Some(PauseRecord {
            reason: pause.reason,
            until: now.saturating_add_unsigned(left),
            length: whole_seconds(pause.length),
        })
    }

    /// Goes on with the pause of another process; `now` is Unix seconds.
    pub(super) fn restore(&mut self, record: PauseRecord, instant: Instant, now: i64) {
        let length = Duration::from_secs(record.length).min(LONGEST_WAIT);
        let left = Duration::from_secs(record.until.saturating_sub(now).max(0).unsigned_abs()).min(length);
        self.pause = Some(Pause { reason: record.reason, until: instant + left, length, is_probing: false });
    }
}

impl Pause {
    const fn begun(self) -> Paused {
        Paused { reason: self.reason, wait: self.length }
    }
}

/// Rounded up.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cells of the table in the module's comment, without its second line.
    fn table() -> Vec<Vec<&'static str>> {
        let rows =
            include_str!("breaker.rs").lines().filter_map(|line| line.strip_prefix("//! | ")?.strip_suffix(" |"));
        rows.map(|row| row.split(" | ").collect::<Vec<_>>()).filter(|row| row[0] != "---").collect()
    }

    fn response(column: &str) -> ResponseSummary {
        let of = |verdict| ResponseSummary { verdict, ..ResponseSummary::default() };
        match column {
            "rate limited" => ResponseSummary { is_rate_limited: true, ..of(Verdict::Accepted) },
            "locked out" => of(Verdict::LockedOut),
            "refused" => of(Verdict::Refused),
            "forbidden" => of(Verdict::Forbidden),
            "accepted, low for 30 s" => {
                ResponseSummary { low_for: Some(Duration::from_secs(30)), ..of(Verdict::Accepted) }
            }
            "accepted" => of(Verdict::Accepted),
            "no word" => of(Verdict::None),
            _ => panic!("{column} is no response"),
        }
    }

    /// The pause of this reason and length in seconds, which begins now.
    fn pause(text: &str, now: Instant) -> Pause {
        let (reason, seconds) = text.rsplit_once(' ').unwrap();
        let length = Duration::from_secs(seconds.parse().unwrap());
        let reason = match reason {
            "low" => PauseReason::Low,
            "rate limited" => PauseReason::RateLimited,
            "refused" => PauseReason::Refused,
            _ => panic!("{reason} is no reason"),
        };
        Pause { reason, until: now + length, length, is_probing: false }
    }

    /// The breaker of a row, and whether the response belongs to a probe.
    fn before(row: &str, now: Instant) -> (CircuitBreaker, bool) {
        let mut breaker = CircuitBreaker::default();
        if let Some(text) = row.strip_prefix("pause ") {
            breaker.pause = Some(pause(text, now));
            return (breaker, false);
        }
        if let Some(text) = row.strip_prefix("probe after ") {
            breaker.pause = Some(Pause { until: now, is_probing: true, ..pause(text, now) });
            return (breaker, true);
        }
        breaker.refused_in_a_row = match row {
            "none" => 0,
            "none, refused twice" => 2,
            _ => panic!("{row} is no state"),
        };
        (breaker, false)
    }

    #[tokio::test(start_paused = true)]
    async fn the_breaker_follows_its_table() {
        let now = Instant::now();
        let table = table();
        let (columns, rows) = table.split_first().unwrap();
        assert_eq!((columns.len(), rows.len()), (8, 10));
        for row in rows {
            for (column, cell) in columns.iter().zip(row).skip(1) {
                let (mut breaker, is_probe) = before(row[0], now);
                let pause_before = breaker.pause;
                let transition = breaker.record_response(&response(column), is_probe, now);
                let (next, recovered) = match cell.strip_suffix(", recovered") {
                    Some(next) => (next, true),
                    None => (*cell, false),
                };
                let expected = match next {
                    "same" => pause_before,
                    "none" => None,
                    text => Some(pause(text, now)),
                };
                let place = format!("{column} in {}", row[0]);
                assert_eq!(breaker.pause, expected, "{place}");
                assert_eq!(transition.recovered, recovered, "{place}");
                assert_eq!(transition.paused, expected.filter(|_| next != "same").map(Pause::begun), "{place}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_can_ask_for_a_longer_pause() {
        let now = Instant::now();
        for (response, seconds) in [(response("rate limited"), [1, 301]), (response("locked out"), [900, 7200])] {
            for (asked, expected) in [0, seconds[1]].into_iter().zip(seconds) {
                let retry_after = Some(Duration::from_secs(asked));
                let mut breaker = CircuitBreaker::default();
                let transition = breaker.record_response(&ResponseSummary { retry_after, ..response }, false, now);
                assert_eq!(transition.paused.unwrap().wait, Duration::from_secs(expected), "{asked}");
            }
        }
    }
}
