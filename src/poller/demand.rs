//! Whether the request budget carries the zones at their intervals.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::model::Target;

const FIVE_MINUTES: f64 = 300.0;

/// An outlook is logged again when its interval differs this much from what was logged.
const WORTH_LOGGING: f64 = 0.25;

/// What the zones of each credential need, against what each credential is allowed.
#[derive(Debug)]
pub struct Demand {
    requests_per_5m: u32,
    zones: Vec<Cost>,
    changed: bool,
    /// The stretched interval in seconds that was logged last of each credential that has one.
    logged: BTreeMap<Arc<str>, f64>,
}

#[derive(Debug)]
struct Cost {
    credential: Arc<str>,
    /// Seconds.
    interval: f64,
    /// Requests of one poll.
    requests: f64,
}

/// How a credential's budget and its zones go together.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlook {
    /// The credential's name.
    pub credential: Arc<str>,
    /// Requests per five minutes that its zones need.
    pub needed_per_5m: f64,
    /// Requests per five minutes that it may send.
    pub allowed_per_5m: u32,
    /// If that is too few: how often the zones with a shorter interval will really be listed.
    pub interval_becomes: Option<Duration>,
}

impl Demand {
    /// Takes every zone to cost one request a poll, until it was listed.
    pub fn new<'a>(requests_per_5m: u32, zones: impl IntoIterator<Item = &'a Target>) -> Self {
        let cost = |zone: &Target| Cost {
            credential: zone.credential.clone(),
            interval: zone.interval.as_secs_f64(),
            requests: 1.0,
        };
        let zones = zones.into_iter().map(cost).collect();
        Self { requests_per_5m, zones, changed: true, logged: BTreeMap::new() }
    }

    /// The outlook of each credential, by name.
    #[must_use]
    pub fn outlook(&self) -> Vec<Outlook> {
        let mut by_credential = BTreeMap::<&Arc<str>, Vec<&Cost>>::new();
        for cost in &self.zones {
            by_credential.entry(&cost.credential).or_default().push(cost);
        }
        by_credential
            .into_iter()
            .map(|(credential, zones)| Outlook {
                credential: credential.clone(),
                needed_per_5m: rounded(zones.iter().map(|zone| zone.rate()).sum::<f64>() * FIVE_MINUTES),
                allowed_per_5m: self.requests_per_5m,
                interval_becomes: stretched(zones, f64::from(self.requests_per_5m) / FIVE_MINUTES),
            })
            .collect()
    }

    /// The plan does not include what a zone would be polled for.
    pub(super) fn not_on_plan(&mut self, index: usize) {
        self.sized(index, 0);
    }

    /// A poll of a zone turned out to take so many requests.
    pub(super) fn sized(&mut self, index: usize, requests: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a zone costs far fewer than 2^53 requests")]
        let requests = requests as f64;
        self.changed |= self.zones[index].requests != requests;
        self.zones[index].requests = requests;
    }

    /// Says where the budget is not enough, where that changed much, and where it is enough again.
    pub(super) fn log_changes(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        for Outlook { credential, needed_per_5m, allowed_per_5m, interval_becomes } in self.outlook() {
            let needed_per_5m = needed_per_5m.ceil();
            let logged = self.logged.get(&credential).copied();
            match (interval_becomes, logged) {
                (None, None) => {}
                (None, Some(_)) => {
                    self.logged.remove(&credential);
                    tracing::info!(%credential, %needed_per_5m, allowed_per_5m, "The request budget is enough for the configured intervals again.");
                }
                (Some(interval), Some(logged)) if (interval.as_secs_f64() / logged - 1.0).abs() < WORTH_LOGGING => {}
                (Some(interval), _) => {
                    self.logged.insert(credential.clone(), interval.as_secs_f64());
                    let interval_becomes = humantime::format_duration(interval).to_string();
                    tracing::warn!(%credential, %needed_per_5m, allowed_per_5m, interval_becomes, "The request budget cannot carry the zones at their intervals: zones with a shorter interval are polled only this often. Raise the intervals or api.requests_per_5m.");
                }
            }
        }
    }
}

impl Cost {
    /// Requests per second.
    fn rate(&self) -> f64 {
        self.requests / self.interval
    }
}

/// Without the dust that adding up thousands of fractions leaves.
fn rounded(sum: f64) -> f64 {
    (sum * 1e6).round() / 1e6
}

/// How often zones are listed that take turns because `allowed` requests per second are not enough for all.
///
/// A zone with a long interval keeps it while those with shorter ones wait for each other.
fn stretched(mut zones: Vec<&Cost>, allowed: f64) -> Option<Duration> {
    let mut others: f64 = zones.iter().map(|zone| zone.rate()).sum();
    if rounded(others) <= rounded(allowed) {
        return None;
    }
    zones.sort_by(|a, b| a.interval.total_cmp(&b.interval));
    let mut in_turn = 0.0;
    let mut turns = zones.iter().peekable();
    while let Some(zone) = turns.next() {
        in_turn += zone.requests;
        others -= zone.rate();
        let round = in_turn / (allowed - others).max(f64::MIN_POSITIVE);
        if allowed > others && turns.peek().is_none_or(|next| round <= next.interval) {
            return Some(Duration::from_secs(Duration::try_from_secs_f64(round).unwrap_or(Duration::MAX).as_secs()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Zones as `(how many, interval in seconds, certificates in each)`.
    fn outlook(zones: &[(usize, u64, usize)]) -> (f64, Option<u64>) {
        let configured: Vec<_> = zones
            .iter()
            .flat_map(|&(count, interval, certificates)| {
                std::iter::repeat_n((super::super::tests::zone(0, Duration::from_secs(interval)), certificates), count)
            })
            .collect();
        let mut demand = Demand::new(600, configured.iter().map(|(zone, _)| zone));
        for (index, (_, certificates)) in configured.iter().enumerate() {
            demand.sized(index, certificates.div_ceil(50).max(1));
        }
        let outlook = demand.outlook().remove(0);
        (outlook.needed_per_5m.ceil(), outlook.interval_becomes.map(|interval| interval.as_secs()))
    }

    #[test]
    fn the_outlook_is_in_numbers() {
        for (zones, expected) in [
            (&[(1, 3600, 0)][..], (1.0, None)),
            (&[(12, 3600, 50)], (1.0, None)),
            (&[(600, 300, 50)], (600.0, None)),
            (&[(601, 300, 50)], (601.0, Some(300))),
            (&[(600, 300, 51)], (1200.0, Some(600))),
            (&[(10_000, 3600, 1)], (834.0, Some(5000))),
            (&[(1, 1, 5000)], (30_000.0, Some(50))),
            // 300 zones an hour need 25 requests; the rest is for the others, which take 313 s a round.
            (&[(600, 60, 1), (300, 3600, 1)], (3025.0, Some(313))),
        ] {
            assert_eq!(outlook(zones), expected, "{zones:?}");
        }
    }
}
