//! How many certificates expire in each of the next weeks.

use std::sync::Arc;

use super::words::{date, urgency};
use crate::model::{SECONDS_PER_DAY, SeriesSettings, TargetState};

const WEEKS: i64 = 26;
const SECONDS_PER_WEEK: i64 = 7 * SECONDS_PER_DAY;

/// The picture, in its own units.
const STEP: i64 = 30;
const GAP: i64 = 4;
const TOP: u64 = 20;
const HIGHEST: u64 = 90;
/// So that a single one is seen beside thousands.
const LOWEST: u64 = 4;

/// A bar for each week, of the certificates that an alert can be about: neither superseded, revoked nor forgotten.
pub(super) struct Timeline {
    pub(super) bars: Vec<Bar>,
    pub(super) expired: u64,
    pub(super) later: u64,
}

/// A week.
pub(super) struct Bar {
    pub(super) week: i64,
    pub(super) count: u64,
    pub(super) class: &'static str,
    /// The day on which it begins, in full and in short.
    pub(super) day: String,
    pub(super) short_day: String,
    pub(super) height: u64,
}

impl Timeline {
    pub(super) fn new(states: &[Arc<TargetState>], settings: &SeriesSettings, now: i64) -> Self {
        let mut counts = vec![0_u64; (0..WEEKS).count()];
        let (mut expired, mut later) = (0, 0);
        for (listing, _) in states.iter().filter_map(|state| state.listing.as_ref()) {
            for certificate in listing.certificates() {
                let Some(expiry) = certificate.not_after() else { continue };
                if listing.suppression(certificate, settings, now).is_some() {
                    continue;
                }
                let week = week(expiry, now).and_then(|week| counts.get_mut(usize::try_from(week).ok()?));
                *match week {
                    Some(count) => count,
                    None if certificate.is_expired(now) => &mut expired,
                    None => &mut later,
                } += 1;
            }
        }
        let most = counts.iter().copied().max().unwrap_or_default().max(1);
        let bar = |(week, count): (i64, u64)| {
            let start = now.saturating_add(week * SECONDS_PER_WEEK);
            Bar {
                week,
                count,
                class: urgency(start, now),
                day: date(start, "%Y-%m-%d"),
                short_day: date(start, "%-d %b"),
                height: if count == 0 { 0 } else { (count * HIGHEST / most).max(LOWEST) },
            }
        };
        Self { bars: (0..).zip(counts).map(bar).collect(), expired, later }
    }

    pub(super) fn within(&self) -> u64 {
        self.bars.iter().map(|bar| bar.count).sum()
    }

    pub(super) const fn width(&self) -> i64 {
        WEEKS * STEP
    }

    /// Where the bars stand.
    pub(super) const fn ground(&self) -> u64 {
        TOP + HIGHEST
    }
}

impl Bar {
    pub(super) const fn x(&self) -> i64 {
        self.week * STEP + GAP / 2
    }

    pub(super) const fn middle(&self) -> i64 {
        self.week * STEP + STEP / 2
    }

    pub(super) const fn width(&self) -> i64 {
        STEP - GAP
    }

    pub(super) const fn y(&self) -> u64 {
        TOP + HIGHEST - self.height
    }

    /// Every fourth has its date below.
    pub(super) const fn is_dated(&self) -> bool {
        self.week % 4 == 0
    }
}

/// In which of the weeks this is.
pub(super) fn week(expiry: i64, now: i64) -> Option<i64> {
    let left = expiry.saturating_sub(now);
    (0..WEEKS * SECONDS_PER_WEEK).contains(&left).then_some(left / SECONDS_PER_WEEK)
}
