//! The certificates of a listing that have expired or do so within days.

use super::{Listing, SECONDS_PER_DAY, SeriesSettings, Suppression};

/// How many certificates, and about how many of them no alert is.
#[derive(Debug, Default)]
pub struct ExpiryCount {
    /// As many as the metrics count.
    pub all: u64,
    suppressed: [u64; Suppression::ALL.len()],
}

impl ExpiryCount {
    fn of(all: usize) -> Self {
        Self { all: all as u64, ..Self::default() }
    }

    fn add(&mut self, other: &Self) {
        self.all += other.all;
        self.suppressed.iter_mut().zip(other.suppressed).for_each(|(sum, count)| *sum += count);
    }

    /// Whether an alert can be about one of them.
    #[must_use]
    pub fn alarms(&self) -> bool {
        self.all > self.suppressed.iter().sum()
    }

    /// Why no alert is about some of them, and about how many.
    pub fn suppressed(&self) -> impl Iterator<Item = (Suppression, u64)> {
        Suppression::ALL.into_iter().zip(self.suppressed).filter(|&(_, count)| count > 0)
    }
}

/// The certificates that have expired or do so within days.
#[derive(Debug, Default)]
pub struct ExpiryCounts {
    /// Those that have expired.
    pub expired: ExpiryCount,
    /// Those that expire within [`SOON`](Self::SOON) days.
    pub soon: ExpiryCount,
    /// Those that expire within [`NEAR`](Self::NEAR) days.
    pub near: ExpiryCount,
    /// Why no alert is about the one that expires next, if it is near.
    pub next_suppressed: Option<Suppression>,
    /// When the next one expires that an alert is about, in Unix seconds, if it is near.
    pub next_alarming: Option<i64>,
}

impl ExpiryCounts {
    /// Fewer days are critical.
    pub const SOON: u32 = 7;
    /// Fewer days are a warning.
    pub const NEAR: u32 = 30;

    /// Those of a listing at this Unix second.
    #[must_use]
    pub fn new(listing: &Listing, settings: &SeriesSettings, now: i64) -> Self {
        let mut counts = Self {
            expired: ExpiryCount::of(listing.expired(now)),
            soon: ExpiryCount::of(listing.expiring(now, Self::SOON)),
            near: ExpiryCount::of(listing.expiring(now, Self::NEAR)),
            ..Self::default()
        };
        let until = |days| now.saturating_add(i64::from(days) * SECONDS_PER_DAY);
        let mut is_next = true;
        let usable = listing.certificates().iter().filter(|certificate| certificate.status.is_usable());
        for certificate in usable {
            // They are in the order of their expiry, those without one at the end.
            let Some(expiry) = certificate.not_after().filter(|&expiry| expiry <= until(Self::NEAR)) else { break };
            let suppression = listing.suppression(certificate, settings, now);
            let is_expired = certificate.is_expired(now);
            if !is_expired && std::mem::take(&mut is_next) {
                counts.next_suppressed = suppression;
            }
            let Some(suppression) = suppression else {
                if !is_expired {
                    counts.next_alarming.get_or_insert(expiry);
                }
                continue;
            };
            if is_expired {
                counts.expired.suppressed[suppression as usize] += 1;
                continue;
            }
            counts.near.suppressed[suppression as usize] += 1;
            if expiry <= until(Self::SOON) {
                counts.soon.suppressed[suppression as usize] += 1;
            }
        }
        counts
    }

    /// Adds those of another listing; what is next is not added.
    pub fn add(&mut self, other: &Self) {
        self.expired.add(&other.expired);
        self.soon.add(&other.soon);
        self.near.add(&other.near);
    }
}
