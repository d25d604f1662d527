//! The headers of a response that limit further requests: `Ratelimit`, `Ratelimit-Policy` and `Retry-After`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use sfv::{List, ListEntry, Parser};

use crate::model::clean;

/// No wait that a server asks for is taken to be longer: one request a day does no harm, and an
/// exporter that a slip of the server silenced for a year does.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// More policies than this are no policies.
const MAX_POLICIES: usize = 8;

/// One item of `Ratelimit` joined with its namesake in `Ratelimit-Policy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RateLimit {
    /// The policy's name: a label value.
    pub(super) policy: Box<str>,
    /// Requests that a whole window allows, where Cloudflare says so.
    pub(super) quota: Option<u64>,
    /// Requests left now, of everything that the user does.
    pub(super) remaining: Option<u64>,
    /// How long until there are more.
    pub(super) reset: Duration,
}

/// If less is left of any policy than the owner's share: how long until there is more of it.
///
/// A fifth of the quota stays for the dashboard, Terraform and whatever else the owner runs.
pub(super) fn lowest_reset(limits: &[RateLimit]) -> Option<Duration> {
    // A policy without a quota of its own is measured by the largest: in Cloudflare's own example
    // the names in the two headers differ.
    let largest = limits.iter().filter_map(|limit| limit.quota).max();
    let is_low = |limit: &&RateLimit| match (limit.remaining, limit.quota.or(largest)) {
        (Some(remaining), Some(quota)) => remaining.saturating_mul(5) < quota,
        (Some(remaining), None) => remaining == 0,
        (None, _) => false,
    };
    limits.iter().filter(is_low).map(|limit| limit.reset).max()
}

/// Reads both headers, each a list of any length over any number of lines.
pub(super) fn rate_limits(headers: &HeaderMap) -> Vec<RateLimit> {
    let mut limits: Vec<RateLimit> = Vec::new();
    for header in ["ratelimit", "ratelimit-policy"] {
        for (policy, get) in items(headers, header) {
            let index = limits.iter().position(|limit| limit.policy == policy).unwrap_or(limits.len());
            if index == limits.len() {
                if index == MAX_POLICIES {
                    continue;
                }
                limits.push(RateLimit { policy, quota: None, remaining: None, reset: Duration::ZERO });
            }
            let limit = &mut limits[index];
            limit.quota = get("q").or(limit.quota);
            limit.remaining = get("r").or(limit.remaining);
            limit.reset = get("t").map_or(limit.reset, |seconds| Duration::from_secs(seconds).min(LONGEST_WAIT));
        }
    }
    limits
}

/// The items of a structured list with their numeric parameters. What is malformed is ignored.
fn items(headers: &HeaderMap, name: &str) -> Vec<(Box<str>, impl Fn(&str) -> Option<u64>)> {
    let lines: Vec<_> = headers.get_all(name).iter().map(reqwest::header::HeaderValue::as_bytes).collect();
    let list: List = Parser::new(&lines.join(&b", "[..])).parse().unwrap_or_default();
    list.into_iter()
        .filter_map(|entry| {
            let ListEntry::Item(item) = entry else { return None };
            let policy = match (item.bare_item.as_string(), item.bare_item.as_token()) {
                (Some(string), _) => clean(string.as_str()),
                (None, Some(token)) => clean(token.as_str()),
                (None, None) => return None,
            };
            let get =
                move |key: &str| item.params.get(key)?.as_integer().and_then(|n| u64::try_from(i64::from(n)).ok());
            Some((policy, get))
        })
        .collect()
}

/// Reads `Retry-After`: whole seconds, or a date, which `now` makes a duration.
pub(super) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // Too many digits for a number are a very long time.
        text.parse().map_or(LONGEST_WAIT, Duration::from_secs)
    } else {
        let date = DateTime::<Utc>::from(httpdate::parse_http_date(text).ok()?);
        (date - now).to_std().unwrap_or_default()
    };
    Some(wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone as _;

    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn rate_limits_are_read_from_lists_of_items() {
        let limit = |policy: &str, quota, remaining, reset| RateLimit {
            policy: policy.into(),
            quota,
            remaining,
            reset: Duration::from_secs(reset),
        };
        for (lines, expected) in [
            (vec![], vec![]),
            (
                vec![("ratelimit", r#""default";r=1199;t=1"#), ("ratelimit-policy", r#""default";q=1200;w=300"#)],
                vec![limit("default", Some(1200), Some(1199), 1)],
            ),
            (
                vec![
                    ("ratelimit", r#""burst";r=9;t=2, "default";r=50;t=30"#),
                    ("ratelimit-policy", r#""burst";q=100;w=60,"default";q=1200;w=300;qu="requests";pk=:c29tZQ==:"#),
                ],
                vec![limit("burst", Some(100), Some(9), 2), limit("default", Some(1200), Some(50), 30)],
            ),
            (
                vec![("ratelimit", r#""a";r=1"#), ("ratelimit", r#"b;r=2;t=3"#)],
                vec![limit("a", None, Some(1), 0), limit("b", None, Some(2), 3)],
            ),
            (vec![("ratelimit-policy", r#""default";q=1200"#)], vec![limit("default", Some(1200), None, 0)]),
            (vec![("ratelimit", r#""x";r=-1;t=1.5"#)], vec![limit("x", None, None, 0)]),
            (vec![("ratelimit", r#"limit=100, remaining=50"#)], vec![]),
            (vec![("ratelimit", r#""open"#)], vec![]),
            (vec![("ratelimit", "17, (\"a\");r=1")], vec![]),
            (vec![("ratelimit", r#""x";r=5;t=999999999999999"#)], vec![limit("x", None, Some(5), 86_400)]),
        ] {
            assert_eq!(rate_limits(&headers(&lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_fifth_of_the_quota_belongs_to_the_owner() {
        let limit =
            |quota, remaining| RateLimit { policy: "p".into(), quota, remaining, reset: Duration::from_secs(7) };
        for (limits, low) in [
            (vec![limit(Some(1200), Some(240))], false),
            (vec![limit(Some(1200), Some(239))], true),
            (vec![limit(Some(1200), Some(0))], true),
            (vec![limit(Some(1), Some(0))], true),
            (vec![limit(Some(0), Some(0))], false),
            (vec![limit(None, Some(0))], true),
            (vec![limit(None, Some(1))], false),
            (vec![limit(Some(1200), None)], false),
            (vec![limit(Some(u64::MAX), Some(u64::MAX))], false),
            (vec![limit(None, Some(50)), limit(Some(1200), None)], true),
            (vec![limit(Some(100), Some(90)), limit(Some(1200), Some(90))], true),
            (vec![], false),
        ] {
            assert_eq!(lowest_reset(&limits), low.then_some(Duration::from_secs(7)), "{limits:?}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Utc.with_ymd_and_hms(2026, 11, 24, 12, 0, 0).unwrap();
        for (text, seconds) in [
            ("0", Some(0)),
            ("30", Some(30)),
            (" 300 ", Some(300)),
            ("99999999999999999999999", Some(86_400)),
            ("Tue, 24 Nov 2026 12:05:00 GMT", Some(300)),
            ("Tue, 24 Nov 2026 11:00:00 GMT", Some(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(86_400)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            let wait = retry_after(&headers(&[("retry-after", text)]), now);
            assert_eq!(wait.map(|wait| wait.as_secs()), seconds, "{text:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
