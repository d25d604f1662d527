//! When each zone is due.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use tokio::time::{Instant, sleep_until};

use crate::model::{CredentialRefused, Failure};

/// A zone that failed is tried again after this, or after its interval if that is shorter.
const FIRST_RETRY: Duration = Duration::from_secs(300);

/// A zone that a person has to repair is tried at least this often, or at its interval if that is longer: no failure makes
/// it rarer than the configuration wants it, and a rare zone is not worth more tries than that.
const RAREST_RETRY: Duration = Duration::from_secs(6 * 3600);

/// Zones that became due while the program did not run are caught up with over this time, or over
/// their interval if that is shorter.
const CATCH_UP: Duration = Duration::from_secs(300);

/// After a restart, zones that were never listed come this far apart, or closer if there are many.
const ONE_BY_ONE: Duration = Duration::from_secs(1);

/// The due times of all zones, by their place in the snapshot.
#[derive(Debug)]
pub(super) struct Schedule {
    zones: Vec<Timing>,
    /// Soonest first. What no longer is a zone's due time is skipped when it comes up.
    queue: BinaryHeap<Reverse<(Instant, usize)>>,
}

#[derive(Debug, Clone)]
struct Timing {
    interval: Duration,
    /// When the poll after the next good one is due, if all goes as it should.
    tick: Instant,
    /// `None` while a poll runs: polls of a zone never overlap.
    due: Option<Instant>,
    /// The wait after the last failure, unless the last poll was good.
    backoff: Option<Duration>,
    /// Until when the server wants to be left alone.
    not_before: Instant,
}

/// A zone that is polled from now on.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) interval: Duration,
    /// Its place until now, if it had one.
    pub(super) place: Option<usize>,
    /// If its interval is another one, only the budget has changed that.
    pub(super) is_as_configured_before: bool,
    /// It is due now, as if it had never failed.
    pub(super) begins_again: bool,
}

impl Schedule {
    /// Takes for each zone its interval and in how many milliseconds it would be due if the program had
    /// never stopped, a negative number if that was before now.
    ///
    /// Zones that were never listed are due at once. If others were, this is no first start and something may be wrong
    /// with them, so they come one after the other. From their second poll on they are spread over their intervals.
    pub(super) fn new(zones: &[(Duration, Option<i64>)], now: Instant) -> Self {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let never_listed = count(zones.iter().filter(|(_, due_in)| due_in.is_none()).count());
        let is_first_start = never_listed == count(zones.len());
        let spacing = if is_first_start { Duration::ZERO } else { ONE_BY_ONE.min(CATCH_UP / never_listed.max(1)) };
        let mut before = 0;
        let timing = |(index, &(interval, due_in)): (usize, &(Duration, Option<i64>))| {
            let (due, tick) = match due_in {
                Some(due_in) => resumed(interval, due_in),
                None => {
                    let due = spacing * before;
                    before += 1;
                    (due, due + interval.mul_f64(f64::from(count(index + 1)) / f64::from(count(zones.len()))))
                }
            };
            Timing { interval, tick: now + tick, due: Some(now + due), backoff: None, not_before: now }
        };
        let zones: Vec<_> = zones.iter().enumerate().map(timing).collect();
        let due = zones.iter().enumerate().filter_map(|(index, zone)| Some(Reverse((zone.due?, index))));
        let queue = due.collect();
        Self { zones, queue }
    }

    /// These are the zones from now on. Those without a place come one after the other.
    pub(super) fn change(&mut self, zones: &[Planned], now: Instant) {
        if self.zones.is_empty() {
            // They are the first that are known of, as at a first start.
            let timings: Vec<_> = zones.iter().map(|zone| (zone.interval, None)).collect();
            *self = Self::new(&timings, now);
            return;
        }
        let added = zones.iter().filter(|zone| zone.place.is_none()).count();
        let spacing = ONE_BY_ONE.min(CATCH_UP / u32::try_from(added).unwrap_or(u32::MAX).max(1));
        let mut before = 0;
        let timing = |&Planned { interval, place, is_as_configured_before, begins_again }: &Planned| match place {
            Some(place) => {
                let old = self.zones[place].clone();
                if begins_again {
                    // Zones that are given up together keep their places, so that they do not stay together.
                    let keeps_its_place = old.tick > now && old.tick <= now + interval;
                    let tick = if keeps_its_place { old.tick } else { now + interval };
                    return Timing { interval, due: Some(now), tick, backoff: None, not_before: now };
                }
                if is_as_configured_before {
                    return old.stretched(interval, now);
                }
                if interval >= old.interval {
                    return Timing { interval, ..old };
                }
                // What is left of the interval becomes shorter, too, and so does the wait after a failure.
                let due = old.due.map(|due| due.min((now + interval).max(old.not_before)));
                let tick = match due {
                    Some(due) if old.backoff.is_none() => due + interval,
                    due => old.tick.min(due.unwrap_or(now) + interval),
                };
                Timing { interval, due, tick, ..old }
            }
            None => {
                let due = now + spacing * before;
                before += 1;
                Timing { interval, due: Some(due), tick: due + interval, backoff: None, not_before: now }
            }
        };
        self.zones = zones.iter().map(timing).collect();
        let due = self.zones.iter().enumerate().filter_map(|(index, zone)| Some(Reverse((zone.due?, index))));
        self.queue = due.collect();
    }

    /// Takes the zone that is due longest; its poll has to be started now.
    pub(super) fn start_due(&mut self, now: Instant) -> Option<usize> {
        let &Reverse((due, index)) = self.next()?;
        if due > now {
            return None;
        }
        self.queue.pop();
        let zone = &mut self.zones[index];
        zone.due = None;
        if zone.backoff.is_none() && zone.tick > now + zone.interval {
            // It comes early, to try a refused credential, and is not to skip its turn for that.
            zone.tick -= zone.interval;
        } else if zone.backoff.is_some() {
            // What was missed in the meantime is not made up for.
            let missed = now.saturating_duration_since(zone.tick).as_nanos().div_ceil(zone.interval.as_nanos());
            zone.tick += zone.interval.saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX));
        }
        Some(index)
    }

    /// When the zone is due after the poll that runs, if that is a good one and does not take until then; when it is due
    /// if none runs.
    pub(super) fn next_due(&self, index: usize) -> Instant {
        self.zones[index].due.unwrap_or(self.zones[index].tick)
    }

    /// Waits until a zone is due, without end if all are being polled.
    pub(super) async fn wait(&mut self) {
        match self.next() {
            Some(&Reverse((due, _))) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    fn next(&mut self) -> Option<&Reverse<(Instant, usize)>> {
        while let Some(&Reverse((due, index))) = self.queue.peek() {
            if self.zones[index].due == Some(due) {
                break;
            }
            self.queue.pop();
        }
        self.queue.peek()
    }

    /// A poll was good: the zone keeps its place in the interval.
    pub(super) fn succeeded(&mut self, index: usize, now: Instant) {
        let zone = &mut self.zones[index];
        zone.backoff = None;
        // A zone that is late because the budget is short queues up again at once, so that no request of the
        // budget is lost and all such zones take turns.
        let due = zone.tick.max(now);
        zone.tick = due + zone.interval;
        self.put(index, due);
    }

    /// A poll was good, and there is nothing to poll for so long, or for the interval if that is longer.
    pub(super) fn succeeded_for(&mut self, index: usize, wait: Duration, now: Instant) {
        let zone = &mut self.zones[index];
        zone.backoff = None;
        let due = now + wait.max(zone.interval);
        zone.tick = due + zone.interval;
        self.put(index, due);
    }

    /// A poll failed: the zone is tried again sooner than usual, then ever more rarely.
    pub(super) fn failed(&mut self, index: usize, failure: &Failure, now: Instant) {
        let zone = &mut self.zones[index];
        let rarest = if failure.needs_a_person() { zone.interval.max(RAREST_RETRY) } else { zone.interval };
        let first = zone.interval.min(FIRST_RETRY);
        let wait = match zone.backoff {
            // It is not this zone's fault, and costs nothing to find out.
            Some(before) if failure.credential_refused == Some(CredentialRefused::Skipped) => before,
            Some(before) => (before * 2).clamp(first, rarest),
            None => first,
        };
        zone.backoff = Some(wait);
        zone.not_before = now + failure.wait_at_least;
        let due = zone.not_before.max(now + wait);
        self.put(index, due);
    }

    /// Whether no poll of the zone runs.
    pub(super) fn is_waiting(&self, index: usize) -> bool {
        self.zones[index].due.is_some()
    }

    /// The zone is due at this time, unless it is being polled.
    pub(super) fn set_due(&mut self, index: usize, due: Instant) {
        if self.is_waiting(index) {
            self.put(index, due);
        }
    }

    fn put(&mut self, index: usize, due: Instant) {
        self.zones[index].due = Some(due);
        self.queue.push(Reverse((due, index)));
    }
}

impl Timing {
    /// With an interval that is longer or shorter because of the budget: how much of it has passed stays, so that zones
    /// that are spread over their intervals remain so.
    fn stretched(self, interval: Duration, now: Instant) -> Self {
        let factor = interval.as_secs_f64() / self.interval.as_secs_f64();
        let stretch = |time: Instant| match time.saturating_duration_since(now) {
            left if left.is_zero() || interval == self.interval => time,
            left => now + left.mul_f64(factor),
        };
        // Waits that have nothing to do with the interval remain: after a failure, and for what is not on the plan.
        let is_own_wait = self.backoff.is_some() || self.due.is_some_and(|due| due > now + self.interval);
        if is_own_wait {
            return Self { interval, tick: self.due.map_or(self.tick, |due| self.tick.min(due + interval)), ..self };
        }
        Self { interval, due: self.due.map(stretch), tick: stretch(self.tick), ..self }
    }
}

/// How long from now until a zone that was listed before this start is due, and until it is due after that. It would
/// have been due in so many milliseconds.
fn resumed(interval: Duration, due_in: i64) -> (Duration, Duration) {
    let distance = Duration::from_millis(due_in.unsigned_abs());
    if due_in >= 0 {
        // The interval may have become shorter.
        let due = if distance > interval { remainder(distance, interval) } else { distance };
        return (due, due + interval);
    }
    // By its place in the interval, so that zones that are late together do not all come at once.
    let late = distance;
    let period = interval.min(CATCH_UP);
    let due = period - remainder(late, period);
    // From then on it has its old place again.
    let tick = interval - remainder(late, interval);
    (due, if tick > due { tick } else { tick + interval })
}

/// What is left of a duration after so many whole periods.
fn remainder(duration: Duration, period: Duration) -> Duration {
    let left = duration.as_nanos() % period.as_nanos();
    // It is less than the period, which is a duration.
    Duration::from_nanos(u64::try_from(left).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Reason;

    const MINUTE: Duration = Duration::from_secs(60);

    /// In how many minutes each is due.
    fn minutes(schedule: &Schedule, start: Instant) -> Vec<u64> {
        schedule.zones.iter().map(|zone| (zone.due.unwrap() - start).as_secs() / 60).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_spread_stays_spread_when_the_budget_changes_intervals_and_other_waits_remain() {
        let start = Instant::now();
        let timings: Vec<_> = [10, 20, 30, 40, 50, 60].map(|due| (60 * MINUTE, Some(due * 60_000))).to_vec();
        let mut schedule = Schedule::new(&timings, start);
        let stretch = |schedule: &mut Schedule, interval: Duration| {
            let planned =
                |place| Planned { interval, place: Some(place), is_as_configured_before: true, begins_again: false };
            schedule.change(&(0..6).map(planned).collect::<Vec<_>>(), start);
        };
        // One is not on the plan, and one fails.
        assert_eq!(
            (schedule.start_due(start + 10 * MINUTE), schedule.start_due(start + 20 * MINUTE)),
            (Some(0), Some(1))
        );
        schedule.succeeded_for(0, Duration::from_secs(86_400), start);
        schedule.failed(1, &Failure::new(Reason::Timeout, "no"), start);
        stretch(&mut schedule, 180 * MINUTE);
        assert_eq!(minutes(&schedule, start), [1440, 5, 90, 120, 150, 180]);
        stretch(&mut schedule, 180 * MINUTE);
        assert_eq!(minutes(&schedule, start), [1440, 5, 90, 120, 150, 180]);
        stretch(&mut schedule, 60 * MINUTE);
        assert_eq!(minutes(&schedule, start), [1440, 5, 30, 40, 50, 60]);
        // And the polls after the next ones, too.
        assert_eq!(schedule.start_due(start + 60 * MINUTE), Some(1));
        let next = [2, 3, 4, 5].map(|index| {
            assert_eq!(schedule.start_due(start + 60 * MINUTE), Some(index));
            schedule.succeeded(index, start);
            (schedule.next_due(index) - start).as_secs() / 60
        });
        assert_eq!(next, [90, 100, 110, 120]);
    }
}
