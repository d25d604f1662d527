//! Reading a listing page by page: which page to ask for next, and whether what came is the whole list.
//!
//! A state machine without I/O. Nothing that an answer says of itself is believed without a look at
//! what it holds, because a list that ends early looks just like certificates that are gone.

mod item;
mod unfit;

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hasher as _},
};

use super::envelope::Page;
use crate::model::{Baseline, Certificate, Comparison};
pub(super) use item::Item;
pub(super) use unfit::Unfit;

/// What is asked for: the most that Cloudflare allows.
const PER_PAGE: usize = 50;

/// What Cloudflare sends in a page where it is not asked for so many, or passes that over.
const DEFAULT_PER_PAGE: usize = 20;

/// How a list comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Paged {
    /// In pages with numbers.
    #[default]
    Numbered,
    /// In pages with numbers, or whole by a server that passes these over and counts nothing.
    NumberedOrWhole,
    /// Whole, whatever it says of pages.
    Whole,
}

impl Paged {
    /// How many entries of a page are asked for, where there are pages.
    pub(super) const fn per_page(self) -> Option<usize> {
        match self {
            Self::Numbered | Self::NumberedOrWhole => Some(PER_PAGE),
            Self::Whole => None,
        }
    }

    /// The most entries of one page that are read. An API may have larger pages than it is asked for, within reason.
    pub(super) const fn max_entries(self) -> usize {
        match self {
            Self::Numbered => 4 * PER_PAGE,
            Self::NumberedOrWhole | Self::Whole => 100 * PER_PAGE,
        }
    }
}

/// A million certificates in one zone; the usual quota is a hundred.
/// A server that sends more is not listing certificates.
const MAX_PAGES: usize = 20_000;

/// A listing that grows may get so many pages more, on top of twice as many, before its end is no longer looked for.
const MAX_MORE_PAGES: usize = 20;

/// A listing may hold so many times what it says, and [`PLAUSIBLE_EXCESS`] more, before the number counts as wrong.
const PLAUSIBLE_FACTOR: usize = 10;
const PLAUSIBLE_EXCESS: usize = 20 * PER_PAGE;

/// Reads one listing: twice, if the first reading shows that it changed, is not whole, or lacks what was there before.
///
/// The second reading asks for one page after the other. Entries that are added during it can move others to later
/// pages alone then, so none is missed, and a listing that only ever grows can be read however fast it does.
#[derive(Debug)]
pub(super) struct Paging<T = Certificate> {
    baseline: Baseline,
    paged: Paged,
    pass: Pass<T>,
    /// Ids of the first reading, if it was not good enough.
    first: Option<HashSet<Box<str>>>,
    /// Page 1 has to be asked for once more before the second reading goes on, since ids came twice in the first.
    /// An order that turns round with every request looks the same at every second one.
    looks_again: bool,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<T = Certificate> {
    /// Ask for this page, beside those asked for already.
    Ask(usize),
    /// Wait for a page that was asked for.
    Wait,
    /// This is the listing.
    Done(Whole<T>),
    /// It cannot be read.
    Failed(Unfit),
}

/// Every entry of a listing, in the order in which they came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Whole<T = Certificate> {
    pub(super) items: Vec<T>,
    /// How many entries came; more than the items of which each is an entry, if some could not be read.
    pub(super) entries: usize,
    /// The API promised fewer.
    pub(super) exceeds_total_count: bool,
    /// Usable certificates of the listing before that are not in this one.
    pub(super) vanished: u64,
}

/// One reading of all pages.
#[derive(Debug)]
struct Pass<T> {
    paged: Paged,
    /// One page after the other, to the end even if the total rises.
    in_order: bool,
    /// The next page that was never asked for.
    next: usize,
    in_flight: usize,
    /// Entries of page 1, once it is there: what every page but the last holds.
    page_size: Option<usize>,
    /// Tells what was on page 1.
    page_one: u64,
    /// Number and entries of the furthest page that is there.
    last: (usize, usize),
    /// What page 1 promised.
    promise: Promise,
    /// The totals that came first and last, and the largest.
    first_total: Option<usize>,
    latest_total: Option<usize>,
    largest_total: Option<usize>,
    /// Entries that came: each can be several certificates, or none.
    sent: usize,
    items: Vec<T>,
    /// Tell pages with equal entries, in any order.
    fingerprints: HashSet<u64>,
    /// A page was an earlier one over again.
    repeated: bool,
    /// A page was empty.
    emptied: bool,
    /// A page held more than [`MAX_PAGE_ENTRIES`].
    oversized: bool,
    /// A page promised another total than page 1.
    total_changed: bool,
    /// A page promised a smaller total than the one before.
    total_fell: bool,
    /// The order changed.
    reordered: bool,
}

/// How much there is, as far as it is known from page 1.
#[derive(Debug, Clone, Copy, Default)]
struct Promise {
    entries: Option<usize>,
    pages: Option<usize>,
}

impl<T> Default for Pass<T> {
    fn default() -> Self {
        Self {
            paged: Paged::default(),
            in_order: false,
            next: 1,
            in_flight: 0,
            page_size: None,
            page_one: 0,
            last: (0, 0),
            promise: Promise::default(),
            first_total: None,
            latest_total: None,
            largest_total: None,
            sent: 0,
            items: Vec::new(),
            fingerprints: HashSet::new(),
            repeated: false,
            emptied: false,
            oversized: false,
            total_changed: false,
            total_fell: false,
            reordered: false,
        }
    }
}

impl<T: Item> Paging<T> {
    /// Reads a listing of which so much is known.
    pub(super) fn new(paged: Paged, baseline: Baseline) -> Self {
        Self { baseline, paged, pass: Pass { paged, ..Pass::default() }, first: None, looks_again: false }
    }

    /// What to do now. Each page that this asks for has to be [`add`](Self::add)ed once.
    pub(super) fn next(&mut self) -> Next<T> {
        if let Err(unfit) = self.pass.plausible() {
            return Next::Failed(unfit);
        }
        if !self.pass.wants_no_more() {
            if self.pass.next > MAX_PAGES {
                return Next::Failed(Unfit::Endless);
            }
            if self.pass.page_size.is_some() && std::mem::take(&mut self.looks_again) {
                self.pass.in_flight += 1;
                return Next::Ask(1);
            }
            if self.pass.may_ask() {
                let page = self.pass.next;
                self.pass.next += 1;
                self.pass.in_flight += 1;
                return Next::Ask(page);
            }
        }
        if self.pass.in_flight > 0 {
            return Next::Wait;
        }
        let pass = std::mem::take(&mut self.pass);
        match (pass.verdict(self.first.as_ref(), &self.baseline), &self.first) {
            (Ok(vanished), _) => Next::Done(pass.whole(vanished)),
            (Err(_), None) => {
                let ids: HashSet<Box<str>> = pass.entry_ids().map(Box::from).collect();
                self.looks_again = ids.len() < pass.entry_ids().count();
                // The second reading takes as much room.
                drop(pass);
                self.first = Some(ids);
                self.pass = Pass { paged: self.paged, in_order: true, ..Pass::default() };
                self.next()
            }
            (Err(unfit), Some(_)) => Next::Failed(unfit),
        }
    }

    /// Takes the answer to an [`Ask`](Next::Ask).
    pub(super) fn add(&mut self, number: usize, page: Page<T>) {
        self.pass.add(number, page);
    }
}

impl<T: Item> Pass<T> {
    fn add(&mut self, number: usize, page: Page<T>) {
        self.in_flight -= 1;
        let count = |number: Option<u64>| number.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let promise = Promise { entries: count(page.total_count), pages: count(page.total_pages) };
        let fingerprint = fingerprint(&page);
        let is_second_look = number == 1 && self.page_size.is_some();
        if number == 1 && !is_second_look {
            self.promise = promise;
            self.page_size = Some(page.entries);
            self.page_one = fingerprint;
            // Growing by doubling would take up to three times as much. What is promised need not come, and
            // memory that is never written to is none; so it does not matter either if there is not so much.
            let expected = promise.entries.unwrap_or_default().min(MAX_PAGES * PER_PAGE);
            let _ = self.items.try_reserve_exact(expected);
        } else if promise.entries.is_some() && promise.entries != self.promise.entries {
            self.total_changed = true;
        }
        self.total_fell |= promise.entries.is_some() && promise.entries < self.latest_total;
        let is_another_total = promise.entries.is_some() && promise.entries != self.latest_total;
        self.first_total = self.first_total.or(promise.entries);
        self.latest_total = promise.entries.or(self.latest_total);
        self.largest_total = self.largest_total.max(promise.entries);
        if is_second_look {
            // What was added may be on page 1; where nothing was, another page 1 is another order.
            self.reordered |= fingerprint != self.page_one && !is_another_total;
            return;
        }
        self.last = self.last.max((number, page.entries));
        self.oversized |= page.entries > self.paged.max_entries();
        if page.entries == 0 {
            self.emptied = true;
        } else if !self.fingerprints.insert(fingerprint) && !self.moved() {
            self.repeated = true;
            return;
        }
        self.sent += page.entries;
        self.items.extend(page.items);
    }

    /// The ids of the entries so far, each as often as it came.
    fn entry_ids(&self) -> impl Iterator<Item = &str> {
        // The certificates of an entry follow each other.
        let mut last = "";
        let entries = self.items.iter().filter(move |item| {
            let entry = item.entry();
            let is_next = entry != last || entry.is_empty();
            last = entry;
            is_next
        });
        entries.map(Item::entry_id).filter(|id| !id.is_empty())
    }

    /// Whether one more request may go out beside those in flight.
    fn may_ask(&self) -> bool {
        // Beyond what was announced, every page decides whether there is a next one.
        self.in_flight == 0 || (!self.in_order && self.next <= self.announced_pages())
    }

    /// How many pages were announced; at least page 1.
    fn announced_pages(&self) -> usize {
        self.pages(self.latest_total)
    }

    fn pages(&self, total: Option<usize>) -> usize {
        match (total, self.page_size) {
            (_, None | Some(0)) => 1,
            (Some(entries), Some(size)) => entries.div_ceil(size).max(1),
            (None, Some(_)) => self.promise.pages.unwrap_or(1).max(1),
        }
    }

    /// Whether what came so far can be of a list of certificates, by its numbers.
    fn plausible(&self) -> Result<(), Unfit> {
        if self.oversized {
            return Err(Unfit::Oversized { max: self.paged.max_entries(), asked: self.paged.per_page() });
        }
        let (pages, page_size) = (self.announced_pages(), self.page_size.unwrap_or_default());
        if pages > MAX_PAGES {
            let promised = self.latest_total.unwrap_or(pages.saturating_mul(page_size));
            return Err(Unfit::Implausible { promised, page_size });
        }
        let at_first = self.pages(self.first_total);
        if self.moved() && self.next > at_first.saturating_mul(2).saturating_add(MAX_MORE_PAGES) {
            // It grows as fast as it is read.
            return Err(Unfit::Changing);
        }
        let sent = self.sent;
        match self.latest_total {
            Some(promised) if sent > promised.saturating_mul(PLAUSIBLE_FACTOR).saturating_add(PLAUSIBLE_EXCESS) => {
                Err(Unfit::Excessive { promised, sent })
            }
            _ => Ok(()),
        }
    }

    /// Whether the list changed while it was read from its beginning to its end.
    const fn moved(&self) -> bool {
        self.in_order && self.total_changed && !self.reordered
    }

    /// Whether no page that was not asked for yet can be needed.
    fn wants_no_more(&self) -> bool {
        if self.paged == Paged::Whole {
            return self.page_size.is_some();
        }
        // A page that is empty, or over again, is behind the end.
        if self.emptied || self.repeated || self.reordered || (self.total_changed && !self.in_order) {
            return true;
        }
        let (last, size) = self.last;
        if last == 0 || self.in_flight > 0 || self.next <= self.announced_pages() {
            return false;
        }
        let short = if last == 1 {
            // Nothing to compare its length with but what was asked for, and that may not be honoured;
            // a count that is wrong already speaks against the number of pages too.
            let counts_nothing = self.promise.entries.is_none() && self.promise.pages.is_none();
            match self.paged {
                Paged::NumberedOrWhole if counts_nothing => size < PER_PAGE && size != DEFAULT_PER_PAGE,
                _ => size < PER_PAGE && self.promise.pages == Some(1) && self.promise.entries.is_none(),
            }
        } else {
            self.page_size.is_some_and(|full| size < full)
        };
        match self.latest_total {
            Some(promised) if self.sent < promised => false,
            Some(promised) if self.sent == promised => short || self.promise.pages.is_none_or(|pages| pages <= last),
            Some(_) | None => short,
        }
    }

    /// Whether this reading is the whole list, and then how many usable certificates vanished since the one before;
    /// `first` are the ids of an earlier reading.
    fn verdict(&self, first: Option<&HashSet<Box<str>>>, baseline: &Baseline) -> Result<u64, Unfit> {
        if self.reordered || (self.total_changed && !self.in_order) {
            return Err(Unfit::Changing);
        }
        let page_size = self.page_size.unwrap_or_default();
        // What was there at the beginning has come. Where totals differ in both directions, the largest has to be reached.
        let promised = if self.total_fell { self.largest_total } else { self.first_total };
        let promised = promised.unwrap_or(match self.promise.pages {
            // Without a count, all but one page have to be full, and the last not empty.
            Some(pages) if pages > 1 && self.paged != Paged::Whole => {
                (pages - 1).saturating_mul(page_size).saturating_add(1)
            }
            _ => 0,
        });
        let ids: HashSet<&str> = self.entry_ids().collect();
        let doubled = self.entry_ids().count() - ids.len();
        // What was added moved others to a later page, where they came again.
        let sent = self.sent - if self.moved() { doubled } else { 0 };
        if sent < promised {
            return Err(if self.total_changed { Unfit::Changing } else { Unfit::Short { promised, sent } });
        }
        // A server that ignores page numbers and counts nothing: whole only if a single page held it all.
        let is_whole = self.paged == Paged::NumberedOrWhole && self.sent == page_size;
        if self.repeated && self.first_total.is_none() && page_size >= PER_PAGE && !is_whole {
            return Err(Unfit::Short { promised: page_size + 1, sent });
        }
        if self.moved() {
            // Nothing that was seen went away.
            if !first.is_some_and(|first| first.iter().all(|id| ids.contains(&**id))) {
                return Err(Unfit::Changing);
            }
        } else {
            // An id that came twice can stand for one that was missed while the order changed.
            // A second reading with the same ids, and a page 1 that stays as it is, show that the API just lists it twice.
            let enough_without_doubles = self.promise.entries.is_some_and(|n| self.sent - doubled >= n);
            let are_those =
                |first: &HashSet<Box<str>>| first.len() == ids.len() && first.iter().all(|id| ids.contains(&**id));
            if doubled > 0 && !enough_without_doubles && !first.is_some_and(are_those) {
                return Err(Unfit::Changing);
            }
        }
        match T::compare(baseline, &self.items) {
            Comparison::Believed { vanished } => Ok(vanished),
            Comparison::Doubted(missing) => {
                let known = baseline.listing.as_ref().map_or(0, |listing| listing.certificates().len());
                Err(Unfit::Missing { missing, known })
            }
        }
    }

    /// All that was read, once it was found to be the whole list.
    fn whole(mut self, vanished: u64) -> Whole<T> {
        if self.moved() {
            let mut seen = HashSet::new();
            // From behind, since what was read last counts.
            let came_again: Vec<bool> =
                self.items.iter().rev().map(|item| !seen.insert((item.entry_id(), item.id()))).collect();
            let mut came_again = came_again.into_iter().rev();
            let before = self.items.len();
            self.items.retain(|item| !came_again.next().unwrap_or_default() || item.id().is_empty());
            self.sent -= before - self.items.len();
        }
        let exceeds_total_count = self.latest_total.is_some_and(|promised| promised < self.sent);
        Whole { items: self.items, entries: self.sent, exceeds_total_count, vanished }
    }
}

fn fingerprint<T: Item>(page: &Page<T>) -> u64 {
    // A sum, so that the order does not matter.
    page.items.iter().fold(page.skipped.wrapping_add(page.entries as u64), |sum: u64, item| {
        let mut hasher = DefaultHasher::new();
        item.hash(&mut hasher);
        sum.wrapping_add(hasher.finish())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        cloudflare::{envelope, kinds::source},
        model::{Kind, Listing},
    };

    /// A page as the API writes it, read as the client reads it.
    fn page(ids: impl IntoIterator<Item = usize>, total_count: Option<u64>, total_pages: Option<u64>) -> Page {
        let result: Vec<_> = ids.into_iter().map(|id| serde_json::json!({"id": format!("{id:036}")})).collect();
        let body = serde_json::json!({
            "success": true,
            "result": result,
            "result_info": {"total_count": total_count, "total_pages": total_pages},
        });
        match envelope::page(body.to_string().as_bytes(), source(Kind::Client)) {
            envelope::Body::Good(page) => page,
            other => panic!("{other:?}"),
        }
    }

    /// Reads with up to `concurrency` pages in flight, of which `pick` chooses the one that is answered next; `answer`
    /// is given the number of the page, and how many were answered with it.
    fn read(
        concurrency: usize,
        pick: impl FnMut(usize) -> usize,
        answer: impl FnMut(usize, usize) -> Page,
    ) -> (Result<Whole, Unfit>, usize) {
        read_after(Baseline::default(), concurrency, pick, answer)
    }

    fn read_after(
        baseline: Baseline,
        concurrency: usize,
        mut pick: impl FnMut(usize) -> usize,
        mut answer: impl FnMut(usize, usize) -> Page,
    ) -> (Result<Whole, Unfit>, usize) {
        let (mut paging, mut in_flight, mut asked, mut answered) =
            (Paging::new(Paged::Numbered, baseline), Vec::new(), 0, 0);
        loop {
            let next = if in_flight.len() < concurrency { paging.next() } else { Next::Wait };
            match next {
                Next::Ask(number) => {
                    asked += 1;
                    in_flight.push(number);
                }
                Next::Wait => {
                    let number = in_flight.remove(pick(in_flight.len()));
                    answered += 1;
                    paging.add(number, answer(number, answered));
                }
                Next::Done(whole) => return (Ok(whole), asked),
                Next::Failed(unfit) => return (Err(unfit), asked),
            }
        }
    }

    fn in_order(answer: impl FnMut(usize, usize) -> Page) -> (Result<Whole, Unfit>, usize) {
        read(4, |_| 0, answer)
    }

    /// The ids on this page of a listing of `n`.
    fn slice(n: usize, size: usize, number: usize) -> std::ops::Range<usize> {
        ((number - 1) * size).min(n)..(number * size).min(n)
    }

    fn honest(n: usize, size: usize) -> impl Fn(usize, usize) -> Page {
        move |number, _| {
            let total_pages = (n > 0).then(|| n.div_ceil(size) as u64);
            page(slice(n, size, number), Some(n as u64), total_pages)
        }
    }

    #[test]
    fn a_sane_listing_costs_one_request_for_fifty_certificates() {
        for (n, requests) in [(0, 1), (1, 1), (49, 1), (50, 1), (51, 2), (100, 2), (237, 5), (10_000, 200)] {
            let (whole, asked) = in_order(honest(n, 50));
            assert_eq!((whole.map(|whole| whole.items.len()), asked), (Ok(n), requests), "{n}");
        }
    }

    #[test]
    fn a_server_without_pages_sends_all_on_the_first() {
        let read = |paged, n| {
            let mut paging = Paging::new(paged, Baseline::default());
            loop {
                match paging.next() {
                    Next::Ask(number) => paging.add(number, page(0..n, None, None)),
                    Next::Done(whole) => return Ok(whole.items.len()),
                    Next::Failed(unfit) => return Err(unfit),
                    Next::Wait => panic!("each page is there at once"),
                }
            }
        };
        for n in [0, 1, 20, 49, 50, 51, 100] {
            assert_eq!(read(Paged::NumberedOrWhole, n), Ok(n));
        }
        // Where pages are known to be numbered, there may be more behind a full one.
        assert_eq!(read(Paged::Numbered, 50), Err(Unfit::Short { promised: 51, sent: 50 }));
    }

    /// What a strange listing looks like: `(entries or why not, requests)`.
    #[test]
    #[allow(clippy::too_many_lines, reason = "a table of cases")]
    fn a_strange_listing_is_read_whole_or_not_at_all() {
        type Answer = Box<dyn Fn(usize, usize) -> Page>;
        let short = |promised, sent| Err(Unfit::Short { promised, sent });
        let rows: Vec<(&str, Answer, Result<usize, Unfit>, usize)> = vec![
            ("total_pages is missing", Box::new(|p, _| page(slice(120, 50, p), Some(120), None)), Ok(120), 3),
            ("total_count is missing", Box::new(|p, _| page(slice(120, 50, p), None, Some(3))), Ok(120), 3),
            ("no totals at all", Box::new(|p, _| page(slice(120, 50, p), None, None)), Ok(120), 3),
            ("no totals, last page full", Box::new(|p, _| page(slice(100, 50, p), None, None)), Ok(100), 3),
            ("no totals, one short page", Box::new(|p, _| page(slice(20, 50, p), None, None)), Ok(20), 2),
            ("no totals, nothing there", Box::new(|p, _| page(slice(0, 50, p), None, None)), Ok(0), 1),
            ("no totals, pages of 20", Box::new(|p, _| page(slice(70, 20, p), None, None)), Ok(70), 4),
            ("pages of 20", Box::new(|p, _| page(slice(120, 20, p), Some(120), Some(6))), Ok(120), 6),
            ("pages of 20, counted as 50", Box::new(|p, _| page(slice(120, 20, p), Some(120), Some(3))), Ok(120), 6),
            ("pages of 200", Box::new(|p, _| page(slice(120, 200, p), Some(120), Some(1))), Ok(120), 1),
            ("count too high", Box::new(|p, _| page(slice(60, 50, p), Some(200), Some(4))), short(200, 60), 7),
            (
                "count absurd",
                Box::new(|p, _| page(slice(60, 50, p), Some(u64::MAX), Some(u64::MAX))),
                Err(Unfit::Implausible { promised: usize::MAX, page_size: 50 }),
                1,
            ),
            (
                "count a thousand times too high",
                Box::new(|p, _| page(slice(120, 50, p), Some(120_000), None)),
                short(120_000, 120),
                11,
            ),
            (
                "count too high for pages of 7",
                Box::new(|p, _| page(slice(7, 50, p), Some(1_000_000), None)),
                Err(Unfit::Implausible { promised: 1_000_000, page_size: 7 }),
                1,
            ),
            (
                "only pages, absurd",
                Box::new(|p, _| page(slice(60, 50, p), None, Some(u64::MAX))),
                Err(Unfit::Implausible { promised: usize::MAX, page_size: 50 }),
                1,
            ),
            (
                "a few promised, and no end",
                Box::new(|p, _| page(slice(usize::MAX, 50, p), Some(10), Some(1))),
                Err(Unfit::Excessive { promised: 10, sent: 1150 }),
                23,
            ),
            (
                "pages too large",
                Box::new(|p, _| page(slice(201, 1000, p), Some(201), None)),
                Err(Unfit::Oversized { max: 200, asked: Some(50) }),
                1,
            ),
            ("count too low", Box::new(|p, _| page(slice(120, 50, p), Some(10), Some(1))), Ok(120), 3),
            ("count zero, pages of 27", Box::new(|p, _| page(slice(47, 27, p), Some(0), Some(1))), Ok(47), 2),
            ("count zero", Box::new(|p, _| page(slice(120, 50, p), Some(0), None)), Ok(120), 3),
            ("pages too high", Box::new(|p, _| page(slice(60, 50, p), Some(60), Some(99))), Ok(60), 2),
            (
                "pages too high, last page full",
                Box::new(|p, _| page(slice(100, 50, p), Some(100), Some(99))),
                Ok(100),
                3,
            ),
            ("pages too low", Box::new(|p, _| page(slice(120, 50, p), Some(120), Some(1))), Ok(120), 3),
            ("only pages, too high", Box::new(|p, _| page(slice(60, 50, p), None, Some(4))), short(151, 60), 7),
            (
                "an empty page in the middle",
                Box::new(|p, _| page(if p == 2 { 0..0 } else { slice(237, 50, p) }, Some(237), Some(5))),
                short(237, 50),
                7,
            ),
            (
                "first page empty",
                Box::new(|p, _| page(if p == 1 { 0..0 } else { slice(60, 50, p) }, Some(60), Some(2))),
                short(60, 0),
                2,
            ),
            ("page numbers ignored", Box::new(|_, _| page(0..50, Some(120), Some(3))), short(120, 50), 5),
            ("page numbers ignored, no totals", Box::new(|_, _| page(0..50, None, None)), short(51, 50), 4),
            ("one page for every number, no totals", Box::new(|_, _| page(0..3, None, None)), Ok(3), 2),
            (
                "an id on two pages",
                Box::new(|p, _| page(if p == 2 { 0..1 } else { 0..50 }, Some(51), Some(2))),
                Ok(51),
                5,
            ),
            (
                "turns round with every request",
                Box::new(|p, r| {
                    let turned = move |i| if r % 2 == 0 { 59 - i } else { i };
                    page(slice(60, 50, p).map(turned), Some(60), Some(2))
                }),
                Err(Unfit::Changing),
                4,
            ),
            (
                "grows once",
                Box::new(|p, r| {
                    let n = if r < 3 { 120 } else { 121 };
                    page(slice(n, 50, p), Some(n as u64), None)
                }),
                Ok(121),
                6,
            ),
            (
                "never stops growing",
                Box::new(|p, r| page(slice(120 + r, 50, p), Some(120 + r as u64), None)),
                Ok(126),
                6,
            ),
            (
                "never stops growing in front",
                Box::new(|p, r| page(slice(120 + r, 50, p).map(|i| 119 + r - i), Some(120 + r as u64), None)),
                Ok(124),
                7,
            ),
            (
                "never stops shrinking",
                Box::new(|p, r| page(slice(120 - r, 50, p), Some(120 - r as u64), None)),
                Err(Unfit::Changing),
                6,
            ),
            (
                "two copies that differ by one",
                Box::new(|p, r| page(slice(120 + (r + 1) % 2, 50, p), Some(120 + (r as u64 + 1) % 2), None)),
                Ok(121),
                6,
            ),
            (
                "grows by a whole page in front, which comes again",
                Box::new(|p, r| {
                    let n = [120, 120, 121, 121].get(r - 1).copied().unwrap_or(171);
                    page(slice(n, 50, p).map(move |i| n - 1 - i), Some(n as u64), None)
                }),
                Ok(121),
                8,
            ),
            (
                "grows as fast as it is read",
                Box::new(|p, r| {
                    page(slice(120 + 50 * r, 50, p).map(|i| 119 + 50 * r - i), Some(120 + 50 * r as u64), None)
                }),
                Err(Unfit::Changing),
                40,
            ),
            (
                "never stops growing, and loses what was there",
                Box::new(|p, r| page(slice(120 + r, 50, p).map(|i| i + r), Some(120 + r as u64), None)),
                Err(Unfit::Changing),
                6,
            ),
            (
                "shrinks once",
                Box::new(|p, r| {
                    let n = if r < 3 { 120 } else { 60 };
                    page(slice(n, 50, p), Some(n as u64), None)
                }),
                Ok(60),
                5,
            ),
            (
                "another order once",
                Box::new(|p, r| {
                    page(
                        if r == 2 { 0..50 } else { slice(100, 50, p) }
                            .rev()
                            .map(move |i| if r == 2 { i + 1 } else { i }),
                        Some(100),
                        Some(2),
                    )
                }),
                Ok(100),
                5,
            ),
            ("has no end", Box::new(|p, _| page(slice(usize::MAX, 1, p), None, None)), Err(Unfit::Endless), MAX_PAGES),
        ];
        for (name, answer, expected, requests) in rows {
            let (got, asked) = in_order(answer);
            assert_eq!((got.map(|whole| whole.items.len()), asked), (expected, requests), "{name}");
        }
    }

    #[test]
    fn what_was_listed_before_is_missed_and_believed_when_it_is_missing_again() {
        let before = |ids: std::ops::Range<usize>| Some(Arc::new(Listing::new(page(ids, None, None).items)));
        let id = |id: usize| format!("{id:036}").into_boxed_str();
        let list = |baseline: &Baseline, n| {
            let (whole, asked) = read_after(baseline.clone(), 4, |_| 0, honest(n, 50));
            (whole.map(|whole| (whole.items.len(), whole.vanished)), asked)
        };
        let baseline = Baseline { listing: before(0..120), completed: 0, missing: None };
        assert_eq!(list(&baseline, 120), (Ok((120, 0)), 3));
        assert_eq!(list(&baseline, 130), (Ok((130, 0)), 3));
        let (doubted, asked) = list(&baseline, 20);
        let Err(Unfit::Missing { missing, known: 120 }) = doubted else { panic!("{doubted:?}") };
        assert_eq!((asked, missing.len(), missing.contains(&id(20))), (2, 100, true));
        let again = Baseline { missing: Some(Arc::new(missing)), ..baseline };
        assert_eq!(list(&again, 20), (Ok((20, 100)), 1));
        assert_eq!(list(&again, 60), (Ok((60, 60)), 2));
        assert!(matches!(list(&again, 0), (Err(Unfit::Missing { known: 120, .. }), 2)));
        assert_eq!(list(&again, 120), (Ok((120, 0)), 3));
    }

    #[test]
    fn exceeds_total_count_is_reported() {
        for (promised, more) in [(10, true), (120, false)] {
            let (whole, _) = in_order(|p, _| page(slice(120, 50, p), Some(promised), None));
            assert_eq!(whole.map(|whole| whole.exceeds_total_count), Ok(more), "{promised}");
        }
    }

    proptest! {
        #[test]
        fn a_listing_that_only_grows_is_read_however_fast_it_does(
            n in 0..300_usize, growth in proptest::collection::vec((0..8_usize, any::<u64>()), 1..60),
            concurrency in 1..6_usize, order in any::<u64>(),
        ) {
            let mut random = fastrand::Rng::with_seed(order);
            let mut list: Vec<usize> = (0..n).collect();
            // How long the list was when page 1 was answered.
            let known = std::cell::RefCell::new(Vec::new());
            let (whole, _) = read(concurrency, |n| random.usize(..n), |p, answered| {
                let (added, mut places) = growth[answered % growth.len()];
                for _ in 0..added {
                    places = places.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    list.insert(usize::try_from(places >> 33).unwrap() % (list.len() + 1), list.len());
                }
                if p == 1 {
                    known.borrow_mut().push(list.len());
                }
                page(slice(list.len(), 50, p).map(|place| list[place]), Some(list.len() as u64), None)
            });
            let mut ids: Vec<usize> = whole.unwrap().items.iter().map(|entry| entry.id().parse().unwrap()).collect();
            ids.sort_unstable();
            prop_assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "an id is there twice");
            let known = known.into_inner();
            let reading = if known.len() > 2 { 1 } else { known.len() - 1 };
            prop_assert!((0..known[reading]).all(|id| ids.binary_search(&id).is_ok()), "{:?} {:?}", known, ids);
        }

        #[test]
        fn an_honest_api_loses_nothing_whatever_it_tells_of_itself(
            n in 0..400_usize, size in 1..60_usize, tells_count: bool, tells_pages: bool,
            concurrency in 1..20_usize, order in any::<u64>(),
        ) {
            let mut random = fastrand::Rng::with_seed(order);
            let (whole, asked) = read(concurrency, |n| random.usize(..n), |p, _| {
                page(slice(n, size, p), tells_count.then_some(n as u64), tells_pages.then(|| n.div_ceil(size) as u64))
            });
            // A single full page without any total looks like a server that repeats itself.
            let mut ids: Vec<_> = whole.unwrap().items.into_iter().map(|entry| entry.id().parse::<usize>().unwrap()).collect();
            ids.sort_unstable();
            prop_assert_eq!(ids, (0..n).collect::<Vec<_>>());
            if tells_count {
                prop_assert_eq!(asked, n.div_ceil(size).max(1));
            }
        }

        #[test]
        fn lying_totals_cost_little_and_make_up_nothing(
            n in 0..400_usize, size in 1..60_usize, count in proptest::option::of(0..500_u64), pages in proptest::option::of(0..20_u64),
            concurrency in 1..20_usize, order in any::<u64>(),
        ) {
            let mut random = fastrand::Rng::with_seed(order);
            let (whole, asked) = read(concurrency, |n| random.usize(..n), |p, _| page(slice(n, size, p), count, pages));
            prop_assert!(asked <= 2 * (n.div_ceil(size) + concurrency + 1), "{} requests", asked);
            if let Ok(whole) = whole {
                let ids: HashSet<_> = whole.items.iter().map(|entry| entry.id().parse::<usize>().unwrap()).collect();
                prop_assert_eq!(ids.len(), whole.items.len());
                prop_assert!(ids.iter().all(|id| *id < n));
                // It may stop early only where the API itself says that this was all.
                prop_assert!(ids.len() == n || count == Some(ids.len() as u64) || (count.is_none() && pages == Some(1) && ids.len() < PER_PAGE));
            }
        }

        #[test]
        fn any_answers_come_to_an_end(seed in any::<u64>(), concurrency in 1..20_usize) {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut given = HashSet::new();
            let (whole, asked) = read(concurrency, |n| n - 1, |_, _| {
                let ids: Vec<_> = (0..random.usize(..60)).map(|_| random.usize(..200)).collect();
                given.extend(ids.iter().copied());
                page(ids, random.bool().then(|| random.u64(..300)), random.bool().then(|| random.u64(..10)))
            });
            prop_assert!(asked < 5_000);
            if let Ok(whole) = whole {
                prop_assert!(whole.items.iter().all(|entry| given.contains(&entry.id().parse::<usize>().unwrap())));
            }
        }
    }
}
