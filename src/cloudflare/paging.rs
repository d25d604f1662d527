//! Reading a listing page by page: which page to ask for next, and whether what came is the whole list.
//!
//! A state machine without I/O. Nothing that an answer says of itself is believed without a look at
//! what it holds, because a list that ends early looks just like certificates that are gone.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use super::wire::Page;
use crate::model::{Certificate, Reason};

/// What is asked for: the most that Cloudflare allows.
pub(super) const PER_PAGE: usize = 50;

/// A million certificates in one zone; the usual quota is a hundred.
/// Whoever answers with more is not listing certificates.
const MAX_PAGES: usize = 20_000;

/// Reads one listing: twice, if the first reading shows that it changed meanwhile or is not whole.
#[derive(Debug, Default)]
pub(super) struct Paging {
    pass: Pass,
    /// Ids of the first reading, if it was not good enough.
    first: Option<HashSet<Box<str>>>,
    /// Page 1 has to be asked for once more before the second reading goes on, since ids came twice in the first.
    /// An order that turns round with every request looks the same at every second one.
    looks_again: bool,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask for this page, beside those asked for already.
    Ask(usize),
    /// Wait for a page that was asked for.
    Wait,
    /// This is the listing.
    Done(Whole),
    /// It cannot be read.
    Failed(Unfit),
}

/// Every entry of a listing, in the order in which they came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) entries: Vec<Certificate>,
    /// The API promised fewer.
    pub(super) more_than_promised: bool,
}

/// Why no listing came of it. A number is only there to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// Twice.
    #[error("The listing changed while it was read, and again while it was read once more")]
    Changing,
    /// Twice.
    #[error("The listing ends early: it holds fewer certificates than it says, also when read once more")]
    Short,
    /// More than [`MAX_PAGES`].
    #[error("The listing has no end within {MAX_PAGES} pages")]
    Endless,
}

impl Unfit {
    pub(super) const fn reason(self) -> Reason {
        match self {
            Self::Changing | Self::Short => Reason::Incomplete,
            Self::Endless => Reason::TooLarge,
        }
    }
}

/// One reading of all pages.
#[derive(Debug)]
struct Pass {
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
    entries: Vec<Certificate>,
    /// Tell pages with equal entries, in any order.
    fingerprints: HashSet<u64>,
    /// A page was an earlier one over again.
    repeated: bool,
    /// A page was empty.
    emptied: bool,
    /// A page promised something else than page 1.
    changed: bool,
}

/// How much there is, as far as it is known from page 1.
#[derive(Debug, Clone, Copy, Default)]
struct Promise {
    entries: Option<usize>,
    pages: Option<usize>,
}

impl Default for Pass {
    fn default() -> Self {
        Self {
            next: 1,
            in_flight: 0,
            page_size: None,
            page_one: 0,
            last: (0, 0),
            promise: Promise::default(),
            entries: Vec::new(),
            fingerprints: HashSet::new(),
            repeated: false,
            emptied: false,
            changed: false,
        }
    }
}

impl Paging {
    /// What to do now. Each page that this asks for has to be [`add`](Self::add)ed once.
    pub(super) fn next(&mut self) -> Next {
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
        match (pass.verdict(self.first.as_ref()), &self.first) {
            (Ok(()), _) => {
                let more_than_promised = pass.promise.entries.is_some_and(|promised| promised < pass.entries.len());
                Next::Done(Whole { entries: pass.entries, more_than_promised })
            }
            (Err(_), None) => {
                let ids: HashSet<Box<str>> = pass.ids().map(Box::from).collect();
                self.looks_again = ids.len() < pass.ids().count();
                // The second reading takes as much room.
                drop(pass);
                self.first = Some(ids);
                self.next()
            }
            (Err(unfit), Some(_)) => Next::Failed(unfit),
        }
    }

    /// Takes the answer to an [`Ask`](Next::Ask).
    pub(super) fn add(&mut self, number: usize, page: Page) {
        self.pass.add(number, page);
    }
}

impl Pass {
    fn add(&mut self, number: usize, page: Page) {
        self.in_flight -= 1;
        let count = |number: Option<u64>| number.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let promise = Promise { entries: count(page.total_count), pages: count(page.total_pages) };
        let fingerprint = fingerprint(&page.entries);
        let is_second_look = number == 1 && self.page_size.is_some();
        if number == 1 && !is_second_look {
            self.promise = promise;
            self.page_size = Some(page.entries.len());
            self.page_one = fingerprint;
            // Growing by doubling would take up to three times as much. What is promised need not come, and
            // memory that is never written to is none; so it does not matter either if there is not so much.
            let expected = promise.entries.unwrap_or_default().min(MAX_PAGES * PER_PAGE);
            let _ = self.entries.try_reserve_exact(expected);
        } else if promise.entries.is_some() && promise.entries != self.promise.entries {
            self.changed = true;
        }
        if is_second_look {
            self.changed |= fingerprint != self.page_one;
            return;
        }
        self.last = self.last.max((number, page.entries.len()));
        if page.entries.is_empty() {
            self.emptied = true;
        } else if !self.fingerprints.insert(fingerprint) {
            self.repeated = true;
            return;
        }
        self.entries.extend(page.entries);
    }

    /// The ids so far, each as often as it came.
    fn ids(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(Certificate::id).filter(|id| !id.is_empty())
    }

    /// Whether one more request may go out beside those in flight.
    fn may_ask(&self) -> bool {
        // Beyond what was announced, every page decides whether there is a next one.
        self.next <= self.announced_pages() || self.in_flight == 0
    }

    /// How many pages page 1 announced; at least itself.
    fn announced_pages(&self) -> usize {
        match (self.promise.entries, self.page_size) {
            (_, None | Some(0)) => 1,
            (Some(entries), Some(size)) => entries.div_ceil(size).max(1),
            (None, Some(_)) => self.promise.pages.unwrap_or(1).max(1),
        }
    }

    /// Whether no page that was not asked for yet can be needed.
    fn wants_no_more(&self) -> bool {
        // A page that is empty, or over again, is behind the end.
        if self.changed || self.emptied || self.repeated {
            return true;
        }
        let (last, size) = self.last;
        if last == 0 || self.in_flight > 0 || self.next <= self.announced_pages() {
            return false;
        }
        let short = if last == 1 {
            // Nothing to compare its length with but what was asked for, and that may not be honoured;
            // a count that is wrong already speaks against the number of pages too.
            size < PER_PAGE && self.promise.pages == Some(1) && self.promise.entries.is_none()
        } else {
            self.page_size.is_some_and(|full| size < full)
        };
        match self.promise.entries {
            Some(promised) if self.entries.len() < promised => false,
            Some(promised) if self.entries.len() == promised => {
                short || self.promise.pages.is_none_or(|pages| pages <= last)
            }
            Some(_) | None => short,
        }
    }

    /// Whether this reading is the whole list; `first` are the ids of an earlier reading.
    fn verdict(&self, first: Option<&HashSet<Box<str>>>) -> Result<(), Unfit> {
        if self.changed {
            return Err(Unfit::Changing);
        }
        let page_size = self.page_size.unwrap_or_default();
        let least = self.promise.entries.unwrap_or(match self.promise.pages {
            // Without a count, all but one page have to be full, and the last not empty.
            Some(pages) if pages > 1 => (pages - 1).saturating_mul(page_size).saturating_add(1),
            _ => 0,
        });
        if self.entries.len() < least {
            return Err(Unfit::Short);
        }
        // A server that ignores page numbers and counts nothing: whole only if a single page held it all.
        if self.repeated && self.promise.entries.is_none() && page_size >= PER_PAGE {
            return Err(Unfit::Short);
        }
        // An id that came twice can stand for one that was missed while the order changed.
        // A second reading with the same ids, and a page 1 that stays as it is, show that the API just lists it twice.
        let ids: HashSet<&str> = self.ids().collect();
        let doubled = self.ids().count() - ids.len();
        let enough_without_doubles = self.promise.entries.is_some_and(|n| self.entries.len() - doubled >= n);
        let are_those =
            |first: &HashSet<Box<str>>| first.len() == ids.len() && first.iter().all(|id| ids.contains(&**id));
        if doubled > 0 && !enough_without_doubles && !first.is_some_and(are_those) {
            return Err(Unfit::Changing);
        }
        Ok(())
    }
}

fn fingerprint(entries: &[Certificate]) -> u64 {
    // A sum, so that the order does not matter.
    entries.iter().fold(0, |sum: u64, entry| {
        let mut hasher = DefaultHasher::new();
        entry.hash(&mut hasher);
        sum.wrapping_add(hasher.finish())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cloudflare::wire;

    /// A page as the API writes it, read as the client reads it.
    fn page(ids: impl IntoIterator<Item = usize>, total_count: Option<u64>, total_pages: Option<u64>) -> Page {
        let result: Vec<_> = ids.into_iter().map(|id| serde_json::json!({"id": format!("{id:036}")})).collect();
        let body = serde_json::json!({
            "success": true,
            "result": result,
            "result_info": {"total_count": total_count, "total_pages": total_pages},
        });
        match wire::client_certificates(body.to_string().as_bytes()) {
            wire::Body::Good(page) => page,
            other => panic!("{other:?}"),
        }
    }

    /// Reads with up to `concurrency` pages in flight, of which `pick` chooses the one that is answered next.
    fn read(
        concurrency: usize,
        mut pick: impl FnMut(usize) -> usize,
        mut answer: impl FnMut(usize, usize) -> Page,
    ) -> (Result<Whole, Unfit>, usize) {
        let (mut paging, mut in_flight, mut asked) = (Paging::default(), Vec::new(), 0);
        loop {
            let next = if in_flight.len() < concurrency { paging.next() } else { Next::Wait };
            match next {
                Next::Ask(number) => {
                    asked += 1;
                    in_flight.push((number, answer(number, asked)));
                }
                Next::Wait => {
                    let (number, page) = in_flight.remove(pick(in_flight.len()));
                    paging.add(number, page);
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
            assert_eq!((whole.map(|whole| whole.entries.len()), asked), (Ok(n), requests), "{n}");
        }
    }

    /// What a strange listing looks like: `(entries or why not, requests)`.
    #[test]
    fn a_strange_listing_is_read_whole_or_not_at_all() {
        type Answer = Box<dyn Fn(usize, usize) -> Page>;
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
            ("count too high", Box::new(|p, _| page(slice(60, 50, p), Some(200), Some(4))), Err(Unfit::Short), 8),
            (
                "count absurd",
                Box::new(|p, _| page(slice(60, 50, p), Some(u64::MAX), Some(u64::MAX))),
                Err(Unfit::Short),
                12,
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
            ("only pages, too high", Box::new(|p, _| page(slice(60, 50, p), None, Some(4))), Err(Unfit::Short), 8),
            (
                "an empty page in the middle",
                Box::new(|p, _| page(if p == 2 { 0..0 } else { slice(237, 50, p) }, Some(237), Some(5))),
                Err(Unfit::Short),
                10,
            ),
            (
                "first page empty",
                Box::new(|p, _| page(if p == 1 { 0..0 } else { slice(60, 50, p) }, Some(60), Some(2))),
                Err(Unfit::Short),
                2,
            ),
            ("page numbers ignored", Box::new(|_, _| page(0..50, Some(120), Some(3))), Err(Unfit::Short), 6),
            ("page numbers ignored, no totals", Box::new(|_, _| page(0..50, None, None)), Err(Unfit::Short), 4),
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
                5,
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
                "grows for ever",
                Box::new(|p, r| page(slice(120 + r, 50, p), Some(120 + r as u64), None)),
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
            assert_eq!((got.map(|whole| whole.entries.len()), asked), (expected, requests), "{name}");
        }
    }

    #[test]
    fn more_than_promised_is_told() {
        for (promised, more) in [(10, true), (120, false)] {
            let (whole, _) = in_order(|p, _| page(slice(120, 50, p), Some(promised), None));
            assert_eq!(whole.map(|whole| whole.more_than_promised), Ok(more), "{promised}");
        }
    }

    proptest! {
        #[test]
        fn an_honest_api_loses_nothing_whatever_it_tells_of_itself(
            n in 0..400_usize, size in 1..60_usize, tells_count: bool, tells_pages: bool,
            concurrency in 1..20_usize, order in any::<u64>(),
        ) {
            let mut random = fastrand::Rng::with_seed(order);
            let (whole, asked) = read(concurrency, |n| random.usize(..n), |p, _| {
                page(slice(n, size, p), tells_count.then_some(n as u64), tells_pages.then(|| n.div_ceil(size) as u64))
            });
            // A single full page without any total cannot be told from a server that repeats itself.
            let mut ids: Vec<_> = whole.unwrap().entries.into_iter().map(|entry| entry.id().parse::<usize>().unwrap()).collect();
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
                let ids: HashSet<_> = whole.entries.iter().map(|entry| entry.id().parse::<usize>().unwrap()).collect();
                prop_assert_eq!(ids.len(), whole.entries.len());
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
                prop_assert!(whole.entries.iter().all(|entry| given.contains(&entry.id().parse::<usize>().unwrap())));
            }
        }
    }
}
