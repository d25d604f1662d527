//! Whose request is next.
//!
//! Requests wait by the ticket of their poll, so that a zone of many pages is read in one go. Only urgent ones come
//! before that. A single request at a time is woken: the first that may go out.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::Notify;

/// Whether a poll is likely to hold up what waits behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// The same as healthy, of a kind in which something changes every day. Such requests go before all others: a long
    /// queue of what hardly changes, as at the first start, makes none of these late. What is urgent needs less than the
    /// budget, because its intervals are stretched otherwise, so the others have their turn too.
    Urgent,
    /// The last poll of its zone was good.
    Healthy,
    /// The last poll of its zone failed. All such polls together leave one place in flight free, so that the others
    /// go on, however many of these hang.
    Failing,
}

/// A poll's place in the queue. All its requests share one: a listing that is read page by page between those of
/// other zones would change in the meantime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// The place of one request: the ticket of its poll, and a number of its own.
pub(super) type QueuePlace = (Ticket, u64);

/// The requests that wait.
#[derive(Debug, Default)]
pub(super) struct RequestQueue {
    drawn: u64,
    urgent: BTreeMap<QueuePlace, Arc<Notify>>,
    healthy: BTreeMap<QueuePlace, Arc<Notify>>,
    failing: BTreeMap<QueuePlace, Arc<Notify>>,
}

impl RequestQueue {
    pub(super) fn next_ticket(&mut self) -> Ticket {
        Ticket(self.draw())
    }

    /// Adds a request: its place, and what wakes it.
    pub(super) fn enter(&mut self, ticket: Ticket, priority: Priority) -> (QueuePlace, Arc<Notify>) {
        let place = (ticket, self.draw());
        let woken = Arc::new(Notify::new());
        self.waiting(priority).insert(place, Arc::clone(&woken));
        (place, woken)
    }

    pub(super) fn leave(&mut self, place: QueuePlace, priority: Priority) {
        self.waiting(priority).remove(&place);
    }

    pub(super) fn is_next(&self, place: QueuePlace, failing_may_go: bool) -> bool {
        self.next(failing_may_go).is_some_and(|(next, _)| *next == place)
    }

    pub(super) fn wake_next(&self, failing_may_go: bool) {
        if let Some((_, next)) = self.next(failing_may_go) {
            next.notify_one();
        }
    }

    pub(super) fn wake_all(&self) {
        let all = [&self.urgent, &self.healthy, &self.failing];
        all.into_iter().flat_map(BTreeMap::values).for_each(|waiting| waiting.notify_one());
    }

    /// The urgent request of the earliest ticket, or else the one of the earliest ticket, unless failing ones have to wait.
    fn next(&self, failing_may_go: bool) -> Option<(&QueuePlace, &Arc<Notify>)> {
        let healthy = self.healthy.first_key_value();
        let failing = self.failing.first_key_value().filter(|_| failing_may_go);
        let other = || [healthy, failing].into_iter().flatten().min_by_key(|(place, _)| **place);
        self.urgent.first_key_value().or_else(other)
    }

    fn waiting(&mut self, priority: Priority) -> &mut BTreeMap<QueuePlace, Arc<Notify>> {
        match priority {
            Priority::Urgent => &mut self.urgent,
            Priority::Healthy => &mut self.healthy,
            Priority::Failing => &mut self.failing,
        }
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }
}
