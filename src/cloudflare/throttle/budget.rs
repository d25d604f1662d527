//! How many requests ended within the last five minutes.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// Cloudflare counts requests over five minutes. One second more, and requests that took unequally long to arrive
/// still fall into different windows over there.
pub(super) const WINDOW: Duration = Duration::from_secs(301);

/// Requests that end within this time are remembered as one, by the last of them: a second of the window is not worth
/// holding a million times.
const RESOLUTION: Duration = Duration::from_secs(1);

/// The requests that ended within the last [`WINDOW`].
#[derive(Debug, Default)]
pub(super) struct SlidingWindow {
    /// Oldest first.
    buckets: VecDeque<Bucket>,
    count: usize,
}

/// Requests that ended within a [`RESOLUTION`].
#[derive(Debug)]
struct Bucket {
    /// When the first of them ended.
    begun: Instant,
    /// When they are no longer in the window.
    free: Instant,
    count: usize,
}

impl SlidingWindow {
    /// Adds a request that ended now.
    pub(super) fn add(&mut self, now: Instant) {
        self.count += 1;
        match self.buckets.back_mut() {
            Some(bucket) if now < bucket.begun + RESOLUTION => {
                bucket.free = now + WINDOW;
                bucket.count += 1;
            }
            _ => self.buckets.push_back(Bucket { begun: now, free: now + WINDOW, count: 1 }),
        }
    }

    /// Adds requests that ended before this process began. The oldest have to be added first.
    pub(super) fn restore(&mut self, age: Duration, count: usize, now: Instant) {
        if let Some(left) = WINDOW.checked_sub(age).filter(|left| !left.is_zero()) {
            self.count = self.count.saturating_add(count);
            // No request of this process goes into this bucket, since all of them end later.
            let begun = now.checked_sub(RESOLUTION).unwrap_or(now);
            self.buckets.push_back(Bucket { begun, free: now + left, count });
        }
    }

    pub(super) fn count(&mut self, now: Instant) -> usize {
        while let Some(bucket) = self.buckets.front().filter(|bucket| bucket.free <= now) {
            self.count = self.count.saturating_sub(bucket.count);
            self.buckets.pop_front();
        }
        self.count
    }

    /// When there are fewer.
    pub(super) fn next_free(&self) -> Option<Instant> {
        self.buckets.front().map(|bucket| bucket.free)
    }

    /// When the requests of each bucket ended, as far as this process can tell, and how many there are.
    pub(super) fn ended(&self) -> impl Iterator<Item = (Instant, usize)> {
        self.buckets.iter().map(|bucket| (bucket.free.checked_sub(WINDOW).unwrap_or(bucket.begun), bucket.count))
    }
}
