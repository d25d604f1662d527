//! Whether the request budget carries the targets at their intervals, and how far intervals are stretched where it does
//! not.
//!
//! Kinds in which something changes every day (`client`, `edge`) are urgent. The others are stretched first, all by the
//! same factor, and keep a share of the budget. The urgent ones are stretched by what is still missing then.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use crate::model::{Kind, Target};

const FIVE_MINUTES: f64 = 300.0;

/// The share of the budget that polls may take before intervals are stretched, and after that. The rest is for what is
/// not planned: retries, second readings, zones' names and their discovery. With less to spare, polls would come late
/// after each of these, and catch up only slowly.
const USED: f64 = 0.95;

/// The share that the kinds that are less urgent keep, however much the urgent ones need.
const KEPT_FOR_OTHERS: f64 = 0.1;

/// Intervals follow a factor that changed this much: not every certificate or zone that comes or goes. That is also how
/// far apart their beginning and end are, so that a need just at the limit does not switch to and fro.
const WORTH_CHANGING: f64 = 0.03;

/// A change of a factor that is logged.
const WORTH_LOGGING: f64 = 0.25;

/// What the targets of each credential need, against what each credential is allowed.
#[derive(Debug)]
pub struct BudgetFit {
    requests_per_5m: u32,
    costs: Vec<PollCost>,
    changed: bool,
    /// How far the intervals of each credential's targets are stretched now.
    stretches: Stretches,
    /// What was logged last of each credential whose budget is too small.
    logged: Stretches,
}

/// By the credential's name.
type Stretches = HashMap<Arc<str>, Stretch>;

#[derive(Debug)]
struct PollCost {
    credential: Arc<str>,
    kind: Kind,
    /// As configured.
    interval: Duration,
    requests: f64,
    is_on_plan: bool,
}

/// Factors that would make use of the whole share. Those below 1 stretch nothing, and say how far away that is.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    urgent: f64,
    others: f64,
}

/// How the targets of a credential fit its budget.
#[derive(Debug, Clone, PartialEq)]
pub struct CredentialFit {
    /// The credential's name.
    pub credential: Arc<str>,
    /// Requests in five minutes that its targets need at their configured intervals.
    pub needed_per_5m: f64,
    /// Requests in five minutes that it may send.
    pub allowed_per_5m: u32,
    /// If that is too few: each kind that is listed less often than configured, with the longest of its intervals.
    pub stretched: Vec<(Kind, Duration)>,
    /// The kind that needs the most requests.
    pub costliest: Kind,
}

impl BudgetFit {
    /// Takes every target to cost one request a poll, until it was listed.
    pub fn new<'a>(requests_per_5m: u32, targets: impl IntoIterator<Item = &'a Target>) -> Self {
        let cost = |target: &Target| PollCost {
            credential: target.credential.clone(),
            kind: target.kind,
            interval: target.interval,
            requests: 1.0,
            is_on_plan: true,
        };
        let mut fit = Self {
            requests_per_5m,
            costs: targets.into_iter().map(cost).collect(),
            changed: false,
            stretches: Stretches::new(),
            logged: Stretches::new(),
        };
        fit.settle(None);
        fit
    }

    /// Stretches intervals as needed, and little changes are ignored where another fit held before with this budget.
    pub(super) fn settle(&mut self, before: Option<Self>) {
        let (budget, kept, logged) =
            before.map(|before| (before.requests_per_5m, before.stretches, before.logged)).unwrap_or_default();
        // Another budget has its effect, however little that is.
        let kept = if budget == self.requests_per_5m { kept } else { Stretches::new() };
        self.stretches = self.stretches_from(&kept);
        self.logged = logged;
        self.changed = false;
    }

    /// Requests in an hour that polls may take of a budget before intervals are stretched.
    #[must_use]
    pub fn for_polls_per_hour(requests_per_5m: u32) -> f64 {
        f64::from(requests_per_5m) * 3600.0 / FIVE_MINUTES * USED
    }

    /// The interval of a target that is kept.
    #[must_use]
    pub fn interval(&self, index: usize) -> Duration {
        self.costs[index].interval_at(self.stretches[&self.costs[index].credential])
    }

    /// How each credential's targets fit its budget, by name.
    #[must_use]
    pub fn report(&self) -> Vec<CredentialFit> {
        let mut by_credential = BTreeMap::<&Arc<str>, Vec<(usize, &PollCost)>>::new();
        for (index, cost) in self.costs.iter().enumerate() {
            by_credential.entry(&cost.credential).or_default().push((index, cost));
        }
        let report = |(credential, costs): (&Arc<str>, Vec<(usize, &PollCost)>)| {
            let (mut rates, mut longest) = (BTreeMap::new(), BTreeMap::new());
            for &(index, cost) in &costs {
                *rates.entry(cost.kind).or_insert(0.0) += cost.rate(1.0);
                let interval = self.interval(index);
                if interval > cost.interval {
                    let longest = longest.entry(cost.kind).or_insert(interval);
                    *longest = interval.max(*longest);
                }
            }
            CredentialFit {
                credential: credential.clone(),
                needed_per_5m: rounded(rates.values().sum::<f64>() * FIVE_MINUTES),
                allowed_per_5m: self.requests_per_5m,
                stretched: longest.into_iter().collect(),
                costliest: rates
                    .iter()
                    .max_by(|one, other| one.1.total_cmp(other.1))
                    .map_or(Kind::Client, |(kind, _)| *kind),
            }
        };
        by_credential.into_iter().map(report).collect()
    }

    /// The plan does not include what a target would be polled for.
    pub(super) fn not_on_plan(&mut self, index: usize) {
        self.changed |= self.costs[index].is_on_plan;
        self.costs[index].is_on_plan = false;
    }

    /// A poll of a target turned out to take so many requests.
    pub(super) fn sized(&mut self, index: usize, requests: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a listing costs far fewer than 2^53 requests")]
        let requests = requests as f64;
        let cost = &mut self.costs[index];
        self.changed |= cost.requests != requests || !cost.is_on_plan;
        (cost.requests, cost.is_on_plan) = (requests, true);
    }

    /// Takes over what is known of sizes. Returns whether the intervals that are kept are others now.
    pub(super) fn follow_sizes(&mut self) -> bool {
        if !std::mem::take(&mut self.changed) {
            return false;
        }
        let stretches = self.stretches_from(&self.stretches);
        let before = std::mem::replace(&mut self.stretches, stretches);
        self.stretches.iter().any(|(credential, now)| before[credential].differs(*now, 0.0))
    }

    /// Logs where the budget is too small, where that changed much, and where it is enough again.
    pub(super) fn log_changes(&mut self) {
        for CredentialFit { credential, needed_per_5m, allowed_per_5m, stretched, costliest } in self.report() {
            let stretch = self.stretches[&credential];
            let needed_per_5m = needed_per_5m.ceil();
            match self.logged.get(&credential) {
                Some(_) if stretched.is_empty() => {
                    self.logged.remove(&credential);
                    tracing::info!(%credential, %needed_per_5m, allowed_per_5m, "The request budget is enough for the configured intervals again.");
                }
                None if stretched.is_empty() => {}
                Some(logged) if !logged.differs(stretch, WORTH_LOGGING) => {}
                _ => {
                    self.logged.insert(credential.clone(), stretch);
                    let intervals = in_words(&stretched);
                    let costliest = costliest.label();
                    tracing::warn!(%credential, %needed_per_5m, allowed_per_5m, intervals, costliest, "The request budget cannot carry the listings at their intervals, so these kinds are listed less often. Watch fewer kinds or zones, raise the intervals, or raise api.requests_per_5m.");
                }
            }
        }
    }

    /// How far the intervals have to be stretched, where so far they are stretched like this.
    fn stretches_from(&self, kept: &Stretches) -> Stretches {
        let mut costs = HashMap::<&Arc<str>, (Vec<&PollCost>, Vec<&PollCost>)>::new();
        for cost in &self.costs {
            let (urgent, others) = costs.entry(&cost.credential).or_default();
            if cost.is_urgent() { urgent } else { others }.push(cost);
        }
        let allowed = f64::from(self.requests_per_5m) / FIVE_MINUTES * USED;
        let stretch = |(name, (urgent, others)): (&Arc<str>, (Vec<&PollCost>, Vec<&PollCost>))| {
            let wanted = Stretch::new(&urgent, &others, allowed);
            (name.clone(), kept.get(name).map_or(wanted, |kept| kept.toward(wanted)))
        };
        costs.into_iter().map(stretch).collect()
    }
}

/// Kinds with their intervals, for people.
#[must_use]
pub fn in_words(stretched: &[(Kind, Duration)]) -> String {
    let words = |(kind, interval): &(Kind, Duration)| {
        format!("{} every {}", kind.label(), humantime::format_duration(Duration::from_secs(interval.as_secs())))
    };
    stretched.iter().map(words).collect::<Vec<_>>().join(", ")
}

impl Stretch {
    /// For so many requests a second that are allowed.
    fn new(urgent: &[&PollCost], others: &[&PollCost], allowed: f64) -> Self {
        let share = (allowed - rate(urgent, 1.0)).max(allowed * KEPT_FOR_OTHERS);
        let for_others = factor(others, share);
        Self { others: for_others, urgent: factor(urgent, allowed - rate(others, for_others.max(1.0)).min(share)) }
    }

    /// What is wanted, where it differs enough.
    fn toward(self, wanted: Self) -> Self {
        let follow = |kept: f64, wanted: f64| if (wanted / kept - 1.0).abs() > WORTH_CHANGING { wanted } else { kept };
        Self { urgent: follow(self.urgent, wanted.urgent), others: follow(self.others, wanted.others) }
    }

    /// Whether intervals differ by more than this share.
    fn differs(self, other: Self, by: f64) -> bool {
        let differ = |one: f64, other: f64| (one.max(1.0) / other.max(1.0) - 1.0).abs() > by;
        differ(self.urgent, other.urgent) || differ(self.others, other.others)
    }
}

/// Requests per second with intervals that are stretched by a factor.
fn rate(costs: &[&PollCost], factor: f64) -> f64 {
    costs.iter().map(|cost| cost.rate(factor)).sum()
}

/// The least factor with which no more requests per second are needed than are allowed. There is no formula for it,
/// because some intervals are the longest already and some are a day, while the others are stretched.
fn factor(costs: &[&PollCost], allowed: f64) -> f64 {
    let (mut too_little, mut enough) = (1e-3_f64, Target::INTERVAL.end().as_secs_f64());
    for _ in 0..40 {
        let between = (too_little * enough).sqrt();
        *if rate(costs, between) > allowed { &mut too_little } else { &mut enough } = between;
    }
    rounded(enough)
}

impl PollCost {
    fn is_urgent(&self) -> bool {
        !self.kind.changes_rarely()
    }

    fn rate(&self, factor: f64) -> f64 {
        let seconds = (self.interval.as_secs_f64() * factor).min(Target::INTERVAL.end().as_secs_f64());
        // A single one says that the plan does not include it.
        if self.is_on_plan {
            self.requests / seconds
        } else {
            1.0 / seconds.max(Target::NOT_ON_PLAN_AGAIN.as_secs_f64())
        }
    }

    fn interval_at(&self, stretch: Stretch) -> Duration {
        let factor = if self.is_urgent() { stretch.urgent } else { stretch.others };
        if factor <= 1.0 {
            return self.interval;
        }
        // In whole seconds, which can be compared and shown.
        let seconds = (self.interval.as_secs_f64() * factor).ceil();
        Duration::from_secs_f64(seconds).min(*Target::INTERVAL.end())
    }
}

/// Without the dust that adding up thousands of fractions leaves.
fn rounded(sum: f64) -> f64 {
    (sum * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    /// Targets as `(how many, kind, interval in seconds, requests of each)`: what is needed, and the intervals that are
    /// kept.
    fn fit(targets: &[(usize, Kind, u64, usize)]) -> (f64, Vec<u64>) {
        let all: Vec<_> = targets
            .iter()
            .flat_map(|&(count, kind, interval, requests)| {
                let target = Target { kind, ..super::super::tests::zone(0, Duration::from_secs(interval)) };
                std::iter::repeat_n((target, requests), count)
            })
            .collect();
        let mut fit = BudgetFit::new(600, all.iter().map(|(target, _)| target));
        for (index, (_, requests)) in all.iter().enumerate() {
            fit.sized(index, *requests);
        }
        fit.settle(None);
        let mut first = 0;
        let intervals = targets.iter().map(|(count, ..)| {
            first += count;
            fit.interval(first - 1).as_secs()
        });
        (fit.report().remove(0).needed_per_5m.ceil(), intervals.collect())
    }

    #[test]
    fn intervals_are_stretched_to_the_budget_and_urgent_kinds_last() {
        use Kind::{Client, Edge, OriginCa};
        for (targets, expected) in [
            (&[(1, Client, HOUR, 1)][..], (1.0, vec![HOUR])),
            (&[(570, Client, 300, 1)], (570.0, vec![300])),
            (&[(600, Client, 300, 1)], (600.0, vec![316])),
            (&[(600, Client, 300, 2)], (1200.0, vec![632])),
            (&[(10_000, Client, HOUR, 1)], (834.0, vec![5264])),
            (&[(1, Client, 1, 100)], (30_000.0, vec![53])),
            // Both by the same factor.
            (&[(600, Client, 60, 1), (300, Client, HOUR, 1)], (3025.0, vec![319, 19_106])),
            // What is less urgent gives way first.
            (
                &[(1000, Client, HOUR, 1), (1000, Edge, HOUR, 1), (7000, OriginCa, 6 * HOUR, 1)],
                (264.0, vec![HOUR, HOUR, 6 * HOUR]),
            ),
            (&[(3000, Client, HOUR, 1), (27_000, OriginCa, 6 * HOUR, 1)], (625.0, vec![HOUR, 25_313])),
            // And keeps a tenth.
            (&[(6840, Client, HOUR, 1), (6840, OriginCa, 6 * HOUR, 1)], (665.0, vec![4000, 36_001])),
            (&[(1, Client, HOUR, 1), (1, OriginCa, 6 * HOUR, 10_000_000)], (138_889.0, vec![HOUR, 30 * 24 * HOUR])),
            // What has the longest interval already takes 116 of the 570, and the others share what is left.
            (&[(1000, OriginCa, 30 * 24 * HOUR, 1000), (9080, OriginCa, HOUR, 1)], (873.0, vec![30 * 24 * HOUR, 5997])),
        ] {
            assert_eq!(fit(targets), expected, "{targets:?}");
        }
    }

    #[test]
    fn what_is_not_on_the_plan_costs_a_request_a_day() {
        let target = Target { kind: Kind::Custom, ..super::super::tests::zone(0, Duration::from_secs(HOUR)) };
        let mut fit = BudgetFit::new(600, std::iter::repeat_n(&target, 288));
        assert_eq!(fit.report()[0].needed_per_5m, 24.0);
        (0..288).for_each(|index| fit.not_on_plan(index));
        assert_eq!(fit.report()[0].needed_per_5m, 1.0);
        // Where it takes half of the budget, the others have the other half: it is not stretched with them.
        let mut fit = BudgetFit::new(2, std::iter::repeat_n(&target, 288 + 12));
        (12..300).for_each(|index| fit.not_on_plan(index));
        assert!(fit.follow_sizes());
        assert_eq!(fit.interval(0).as_secs(), 4000);
    }

    #[test]
    fn a_need_just_at_the_limit_does_not_switch_to_and_fro() {
        let target = super::super::tests::zone(0, Duration::from_secs(HOUR));
        let mut fit = BudgetFit::new(600, std::iter::repeat_n(&target, 6840));
        let mut intervals = Vec::new();
        for requests in (0..100).map(|turn| 1 + turn % 2) {
            (0..100).for_each(|index| fit.sized(index, requests));
            fit.follow_sizes();
            intervals.push(fit.interval(0).as_secs());
        }
        assert_eq!(intervals, [HOUR; 100]);
        // The limit is passed for good, and then it is enough again.
        for (requests, interval) in [(5, 3811), (4, 3811), (1, HOUR), (2, HOUR)] {
            (0..100).for_each(|index| fit.sized(index, requests));
            fit.follow_sizes();
            assert_eq!(fit.interval(0).as_secs(), interval, "{requests}");
        }
    }

    #[test]
    fn a_few_zones_more_change_no_interval_and_another_budget_does() {
        let target = super::super::tests::zone(0, Duration::from_secs(HOUR));
        let with = |budget: u32, zones: usize, before: Option<BudgetFit>| {
            let mut fit = BudgetFit::new(budget, std::iter::repeat_n(&target, zones));
            fit.settle(before);
            fit
        };
        let fit = with(600, 10_000, None);
        let before = fit.interval(0);
        let fit = with(600, 10_100, Some(fit));
        assert_eq!(fit.interval(0), before);
        let fit = with(600, 11_000, Some(fit));
        assert!(fit.interval(0) > before);
        let before = fit.interval(0);
        assert!(with(606, 11_000, Some(fit)).interval(0) < before);
    }

    #[test]
    fn intervals_do_not_follow_every_request_more_or_less() {
        let target = super::super::tests::zone(0, Duration::from_secs(HOUR));
        let mut fit = BudgetFit::new(600, std::iter::repeat_n(&target, 10_000));
        let before = fit.interval(0);
        fit.sized(0, 100);
        assert!(!fit.follow_sizes());
        (0..1000).for_each(|index| fit.sized(index, 3));
        assert!(fit.follow_sizes() && fit.interval(0) > before);
        (0..10_000).for_each(|index| fit.not_on_plan(index));
        assert!(fit.follow_sizes() && fit.interval(0) == target.interval && !fit.follow_sizes());
    }
}
