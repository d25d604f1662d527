//! Answers as data, good ones and errors. No I/O.

use std::{borrow::Cow, io::Write as _, time::Duration};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Map, Value, json};

use super::fault::Delivery;

/// An answer on its way; faults alter it before it is sent.
#[derive(Debug)]
pub(super) struct Answer {
    /// Counted from the arrival of the request.
    pub(super) delay: Duration,
    pub(super) status: u16,
    pub(super) headers: Vec<(Cow<'static, str>, String)>,
    pub(super) content: Payload,
    /// How its bytes get onto the wire, if not as they should.
    pub(super) delivery: Option<Delivery>,
}

/// What the body is made from, once the world is no longer locked.
#[derive(Debug)]
pub(super) enum Payload {
    Bytes(Vec<u8>),
    List(ListPage),
}

/// One page of a listing.
#[derive(Debug)]
pub(super) struct ListPage {
    pub(super) result: Value,
    pub(super) result_info: Option<Map<String, Value>>,
}

impl Answer {
    pub(super) fn new(status: u16, content: Payload) -> Self {
        Self {
            delay: Duration::ZERO,
            status,
            headers: vec![("content-type".into(), "application/json".into())],
            content,
            delivery: None,
        }
    }

    /// A good answer that is no listing.
    pub(super) fn result(result: &Value) -> Self {
        Self::new(200, Payload::Bytes(envelope(true, &json!([]), result, None)))
    }

    /// Sets a header, or replaces the one of that name.
    pub(super) fn set_header(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) {
        let name = name.into();
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(&name));
        self.headers.push((name, value.into()));
    }

    /// The body, compressed where the peer takes that, and the header to say so.
    pub(super) fn body(&mut self, gzip: bool) -> Vec<u8> {
        let plain = match std::mem::replace(&mut self.content, Payload::Bytes(Vec::new())) {
            Payload::Bytes(bytes) => bytes,
            Payload::List(page) => envelope(true, &json!([]), &page.result, page.result_info.as_ref()),
        };
        if !gzip || plain.is_empty() {
            return plain;
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&plain).expect("a Vec takes every write");
        self.set_header("content-encoding", "gzip");
        encoder.finish().expect("a Vec takes every write")
    }
}

/// The object that every answer of the API is.
pub(super) fn envelope(success: bool, errors: &Value, result: &Value, info: Option<&Map<String, Value>>) -> Vec<u8> {
    let info = info.map_or_else(String::new, |info| format!(r#","result_info":{}"#, json!(info)));
    format!(r#"{{"result":{result},"success":{success},"errors":{errors},"messages":[]{info}}}"#).into_bytes()
}

/// An error in Cloudflare's envelope.
#[derive(Debug, Clone)]
pub struct ApiError {
    /// HTTP status: any, 200 too.
    pub status: u16,
    /// The `errors` array, whatever it holds.
    pub errors: Value,
}

impl ApiError {
    /// One error with a code and a message.
    #[must_use]
    pub fn new(status: u16, code: i64, message: &str) -> Self {
        Self { status, errors: json!([{ "code": code, "message": message }]) }
    }

    /// What Cloudflare says to a user who asks too much, in its own words.
    pub(super) fn throttled(status: u16) -> Self {
        Self::new(status, 971, "Please wait and consider throttling your request speed")
    }

    /// The same with the chain that holds the real cause: docs/cloudflare-api.md, "Success and failure".
    #[must_use]
    pub fn because(mut self, code: i64, message: &str) -> Self {
        self.errors[0]["error_chain"] = json!([{ "code": code, "message": message }]);
        self
    }

    pub(super) fn body(&self) -> Vec<u8> {
        envelope(false, &self.errors, &Value::Null, None)
    }
}

impl From<ApiError> for Answer {
    fn from(error: ApiError) -> Self {
        Self::new(error.status, Payload::Bytes(error.body()))
    }
}
