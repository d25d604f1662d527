//! One page of any listing: which entries are on it, and what it says of itself.

use serde_json::{Map, Value, json};

use super::{
    answer::{Answer, ListPage, Payload},
    fault::{Fault, ListedEntry},
    router::RecordedRequest,
};

/// Which part of a listing a request gets. Faults alter it.
pub(super) struct PageRequest {
    /// Counted from 1.
    pub(super) number: usize,
    /// What `result_info` gives as its number.
    pub(super) shown: usize,
    /// Entries of a full page.
    pub(super) size: usize,
    /// How many entries of the page before it come first, beyond its size.
    pub(super) overlap: usize,
}

impl PageRequest {
    /// The page that was asked for, of a size within these bounds, altered by faults.
    pub(super) fn asked<E: ListedEntry>(
        request: &RecordedRequest,
        (least, default, most): (usize, usize, usize),
        entries: &mut Vec<E>,
        faults: &[Fault],
    ) -> Self {
        let number = request.page();
        let size = request.number("per_page").unwrap_or(default).clamp(least, most);
        let mut page = Self { number, shown: number, size, overlap: 0 };
        for fault in faults {
            fault.alter_page(&mut page, entries);
        }
        page
    }

    /// The page of those that match, where there are so many without any filter; `fields` makes the entry of each.
    pub(super) fn answer<E>(&self, matching: &[&E], total: usize, fields: impl Fn(&E) -> Value) -> Answer {
        let start = (self.number - 1).saturating_mul(self.size).min(matching.len());
        let end = start.saturating_add(self.size).min(matching.len());
        let overlap = if start < end { self.overlap.min(start) } else { 0 };
        let on_page = matching[start - overlap..end].iter().map(|entry| fields(entry)).collect();
        let mut info = Map::new();
        info.insert("count".to_owned(), json!(end - start));
        info.insert("page".to_owned(), json!(self.shown));
        info.insert("per_page".to_owned(), json!(self.size));
        info.insert("total_count".to_owned(), json!(total));
        if !matching.is_empty() {
            info.insert("total_pages".to_owned(), json!(matching.len().div_ceil(self.size)));
        }
        Answer::listing(on_page, Some(info))
    }
}

impl Answer {
    /// Entries, and what `result_info` says of them, if it is there.
    pub(super) fn listing(entries: Vec<Value>, result_info: Option<Map<String, Value>>) -> Self {
        Self::new(200, Payload::List(ListPage { result: entries.into(), result_info }))
    }
}
