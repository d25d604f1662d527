//! The snapshot and the time, as the text that Prometheus reads.

use std::{ops::RangeInclusive, time::Duration};

use crate::model::Status;

/// Which series there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesSettings {
    /// Certificates of these statuses get series of their own; the others are only counted.
    pub statuses: Vec<Status>,
    /// The most certificates of one zone that get series of their own; within [`SeriesSettings::MAX_CERTIFICATES`].
    pub max_certificates_per_zone: usize,
    /// The values of the `within_days` label, each once, each within [`SeriesSettings::WITHIN_DAYS`].
    pub expiring_within_days: Vec<u32>,
    /// A certificate that expired longer ago than this is only counted; within [`SeriesSettings::FORGET_AFTER`].
    pub forget_expired_after: Duration,
}

impl SeriesSettings {
    /// What `max_certificates_per_zone` can be.
    pub const MAX_CERTIFICATES: RangeInclusive<u32> = 0..=10_000_000;
    /// What an item of `expiring_within_days` can be.
    pub const WITHIN_DAYS: RangeInclusive<u32> = 1..=36_500;
    /// What `forget_expired_after` can be.
    pub const FORGET_AFTER: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(36_500 * 86_400);
}
