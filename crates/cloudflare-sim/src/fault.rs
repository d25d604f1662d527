//! What can go wrong, as data: a fault alters the question, the answer or its delivery.
//!
//! A new row is a new constructor here if the parts are there, and else a new variant of [`Fault`]
//! or [`Delivery`]. This is the feature `faults`; `no_fault.rs` takes its place without it.

mod change;
mod delivery;

use std::time::Duration;

use serde_json::Value;

use super::{
    answer::{Answer, ApiError, ListPage, Payload},
    listing::PageRequest,
};

pub use change::Change;
pub(super) use change::ListedEntry;
pub use delivery::{Delivery, Ending};

/// Something that goes wrong. Those that speak of listings leave other answers alone.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Another answer. One that is no JSON comes from Cloudflare's edge and bears no `Ratelimit`.
    Instead(Canned),
    /// A header is added, or replaced.
    Header(&'static str, String),
    /// A good listing's `result` is something else: `null`, an object, a number. The totals stay.
    Result(Value),
    /// A field of `result_info` says something else, or is missing.
    Info(&'static str, Option<Value>),
    /// `result_info` is missing.
    NoInfo,
    /// `page` is ignored: always the first page. The real `GET /accounts` does this for tokens that
    /// belong to an account.
    PageIgnored {
        /// `result_info.page` is 1, and not what was asked for.
        admitted: bool,
    },
    /// This page and those after it are empty, whatever the totals say.
    EmptyFrom(usize),
    /// Pages have this size, whatever was asked for.
    PageSize(usize),
    /// Each page begins with the last entry of the one before since no order is guaranteed.
    Overlap,
    /// A listing is altered before each request for it is answered.
    Change(Change),
    /// The answer gets onto the wire in another way.
    Sent(Delivery),
    /// The answer comes later.
    Delay(Duration),
    /// Only when this page of a listing is asked for.
    OnPage(usize, Box<Fault>),
    /// Only so many times.
    Times(usize, Box<Fault>),
    /// Together, in this order.
    All(Vec<Fault>),
}

impl Fault {
    /// An error in the usual envelope.
    #[must_use]
    pub fn error(status: u16, code: i64, message: &str) -> Self {
        ApiError::new(status, code, message).into()
    }

    /// 200 with `success: false`: docs/cloudflare-api.md, "Success and failure".
    #[must_use]
    pub fn throttled_with_200() -> Self {
        ApiError::throttled(200).into()
    }

    /// 429 in the usual envelope with `Retry-After`: seconds or a date.
    #[must_use]
    pub fn rate_limited(retry_after: &str) -> Self {
        let answer: Canned = ApiError::throttled(429).into();
        Self::Instead(answer.header("retry-after", retry_after))
    }

    /// 429 with the body `null`, without `Retry-After`.
    #[must_use]
    pub fn rate_limited_with_null() -> Self {
        Self::Instead(Canned::new(429, "application/json", "null"))
    }

    /// The text that Cloudflare's edge sends when it limits requests on its own.
    #[must_use]
    pub fn edge_rate_limited() -> Self {
        Self::Instead(Canned::new(429, "text/plain", "error code: 1015").header("retry-after", "30"))
    }

    /// A page for people with any status, as long as the real one of a 522.
    #[must_use]
    pub fn html(status: u16) -> Self {
        let page = format!("{HTML}{}</body></html>\n", " ".repeat(7318 - HTML.len() - "</body></html>\n".len()));
        Self::Instead(Canned::new(status, "text/html; charset=UTF-8", page))
    }

    /// A 522 as Cloudflare's edge was seen to send it.
    #[must_use]
    pub fn origin_timed_out() -> Self {
        Self::All(vec![Self::html(522), Self::Header("retry-after", "120".into())])
    }

    /// A redirect, which would carry `X-Auth-Key` to another host.
    #[must_use]
    pub fn redirect(to: &str) -> Self {
        Self::Instead(Canned::new(302, "text/html", "").header("location", to))
    }

    /// JSON that ends a parser which calls itself for each level.
    #[must_use]
    pub fn brackets() -> Self {
        Self::Instead(Canned::new(200, "application/json", "[".repeat(200_000)))
    }

    /// The same, so many times.
    #[must_use]
    pub fn times(self, times: usize) -> Self {
        Self::Times(times, Box::new(self))
    }

    /// The same, on one page of the listing.
    #[must_use]
    pub fn on_page(self, page: usize) -> Self {
        Self::OnPage(page, Box::new(self))
    }

    /// Appends what applies to a request for this page, and tells whether anything does.
    pub(super) fn due(&mut self, page: usize, due: &mut Vec<Self>) -> bool {
        match self {
            Self::OnPage(only, fault) => *only == page && fault.due(page, due),
            Self::Times(left, fault) => {
                let applies = *left > 0 && fault.due(page, due);
                *left -= usize::from(applies);
                applies
            }
            Self::All(faults) => faults.iter_mut().fold(false, |applies, fault| fault.due(page, due) | applies),
            one => {
                due.push(one.clone());
                true
            }
        }
    }

    /// Alters what of a listing is answered with, before it is.
    pub(super) fn alter_page<E: ListedEntry>(&self, page: &mut PageRequest, entries: &mut Vec<E>) {
        match self {
            Self::PageSize(size) => page.size = (*size).max(1),
            Self::PageIgnored { admitted: true } => (page.number, page.shown) = (1, 1),
            Self::PageIgnored { admitted: false } => page.number = 1,
            Self::EmptyFrom(first) if page.shown >= *first => page.number = usize::MAX,
            Self::Overlap => page.overlap = 1,
            Self::Change(change) => change.make(entries),
            _ => {}
        }
    }

    /// Alters what has been answered.
    pub(super) fn alter(self, answer: &mut Answer) {
        match (self, &mut answer.content) {
            (Self::Instead(canned), _) => canned.replace(answer),
            (Self::Header(name, value), _) => answer.set_header(name, value),
            (Self::Sent(delivery), _) => {
                if let Delivery::GzipBomb(_) = delivery {
                    answer.set_header("content-encoding", "gzip");
                }
                if delivery.makes_its_body() {
                    answer.content = Payload::Bytes(Vec::new());
                }
                answer.delivery = Some(delivery);
            }
            (Self::Delay(delay), _) => answer.delay += delay,
            (Self::Result(value), Payload::List(listing)) => listing.result = value,
            (Self::NoInfo, Payload::List(listing)) => listing.result_info = None,
            (Self::Info(field, value), Payload::List(ListPage { result_info: Some(info), .. })) => {
                match value {
                    Some(value) => info.insert(field.to_owned(), value),
                    None => info.remove(field),
                };
            }
            // These altered the page, or they speak of listings and this is none.
            _ => {}
        }
    }
}

/// An answer that is the same whatever was asked.
#[derive(Debug, Clone)]
pub struct Canned {
    /// HTTP status.
    pub status: u16,
    /// They replace the ones of the same name.
    pub headers: Vec<(&'static str, String)>,
    /// Any bytes at all.
    pub body: Vec<u8>,
}

impl Canned {
    /// An answer of this type.
    #[must_use]
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("content-type", content_type.to_owned())], body: body.into() }
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
    /// Takes the place of an answer. What is no JSON comes from Cloudflare's edge, which says nothing of a quota.
    fn replace(self, answer: &mut Answer) {
        answer.content = Payload::Bytes(self.body);
        answer.status = self.status;
        if self.headers.iter().any(|(name, value)| *name == "content-type" && !value.starts_with("application/json")) {
            answer.headers.retain(|(name, _)| name == "cf-ray");
        }
        for (name, value) in self.headers {
            answer.set_header(name, value);
        }
    }
}

impl From<ApiError> for Canned {
    fn from(error: ApiError) -> Self {
        Self::new(error.status, "application/json", error.body())
    }
}

impl From<ApiError> for Fault {
    fn from(error: ApiError) -> Self {
        Self::Instead(error.into())
    }
}

impl From<Delivery> for Fault {
    fn from(delivery: Delivery) -> Self {
        Self::Sent(delivery)
    }
}

const HTML: &str = "<!DOCTYPE html>\n<html lang=\"en-US\"><head><title>api.cloudflare.com | \
    Error</title></head><body><h1>Connection timed out</h1>\n";
