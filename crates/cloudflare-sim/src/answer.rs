//! Answers as data: what is said, and how its bytes get onto the wire. No I/O.

use std::{borrow::Cow, io::Write as _, time::Duration};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Map, Value, json};

use super::world::SimulatedCertificate;

/// An answer on its way; faults alter it before it is sent.
#[derive(Debug)]
pub(super) struct Answer {
    /// Counted from the arrival of the request.
    pub(super) delay: Duration,
    pub(super) status: u16,
    pub(super) headers: Vec<(Cow<'static, str>, String)>,
    pub(super) content: Content,
    pub(super) delivery: Delivery,
}

/// What the body is made from, once the world is no longer locked.
#[derive(Debug)]
pub(super) enum Content {
    Bytes(Vec<u8>),
    Listing(Listing),
}

/// One page of a listing.
#[derive(Debug)]
pub(super) struct Listing {
    /// Of the request.
    pub(super) page: usize,
    pub(super) certificates: Vec<SimulatedCertificate>,
    /// The last entry of the page before this one.
    pub(super) before: Option<SimulatedCertificate>,
    pub(super) result_info: Option<Map<String, Value>>,
    /// Said instead of the certificates.
    pub(super) result: Option<Value>,
}

impl Answer {
    pub(super) fn new(status: u16, content: Content) -> Self {
        Self {
            delay: Duration::ZERO,
            status,
            headers: vec![("content-type".into(), "application/json".into())],
            content,
            delivery: Delivery::Whole,
        }
    }

    /// A good answer that is no listing.
    pub(super) fn result(result: &Value) -> Self {
        Self::new(200, Content::Bytes(envelope(true, &json!([]), result, None)))
    }

    /// Sets a header, or replaces the one of that name.
    pub(super) fn set_header(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) {
        let name = name.into();
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(&name));
        self.headers.push((name, value.into()));
    }

    /// The body, compressed where the peer takes that, and the header to say so. Bodies that are made
    /// while they are sent are not made here.
    pub(super) fn body(&mut self, gzip: bool) -> Vec<u8> {
        match self.delivery {
            Delivery::Endless => return Vec::new(),
            Delivery::GzipBomb(_) => {
                self.set_header("content-encoding", "gzip");
                return Vec::new();
            }
            _ => {}
        }
        let plain = match std::mem::replace(&mut self.content, Content::Bytes(Vec::new())) {
            Content::Bytes(bytes) => bytes,
            Content::Listing(listing) => listing.body(),
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

impl Listing {
    fn body(self) -> Vec<u8> {
        let result = self
            .result
            .unwrap_or_else(|| self.certificates.iter().map(|entry| Value::Object(entry.fields())).collect());
        envelope(true, &json!([]), &result, self.result_info.as_ref())
    }
}

fn envelope(success: bool, errors: &Value, result: &Value, info: Option<&Map<String, Value>>) -> Vec<u8> {
    let info = info.map_or_else(String::new, |info| format!(r#","result_info":{}"#, json!(info)));
    format!(r#"{{"result":{result},"success":{success},"errors":{errors},"messages":[]{info}}}"#).into_bytes()
}

/// An error in Cloudflare's envelope (facts, section B.4).
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

    /// The same with the undocumented chain that holds the real reason.
    #[must_use]
    pub fn because(mut self, code: i64, message: &str) -> Self {
        self.errors[0]["error_chain"] = json!([{ "code": code, "message": message }]);
        self
    }
}

impl From<ApiError> for Canned {
    fn from(error: ApiError) -> Self {
        Self::new(error.status, "application/json", envelope(false, &error.errors, &Value::Null, None))
    }
}

impl From<ApiError> for Answer {
    fn from(error: ApiError) -> Self {
        let Canned { status, body, .. } = error.into();
        Self::new(status, Content::Bytes(body))
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
}

/// How an answer gets onto the wire.
#[derive(Debug, Clone, Copy)]
pub enum Delivery {
    /// As it should.
    Whole,
    /// The request is read, and nothing is answered.
    Unanswered(Ending),
    /// The head and half of the body, whose whole length was promised.
    Half(Ending),
    /// The whole body, of which `Content-Length` admits half.
    Understated,
    /// Head and body byte by byte, with this pause before each; without a pause, in as many writes.
    ByteByByte(Duration),
    /// A listing whose entries never end.
    Endless,
    /// So many blanks, compressed a thousandfold; made as they are read.
    GzipBomb(u64),
}

/// What happens to a connection after its last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Nothing, until the peer goes away.
    Hang,
    /// It is closed in order.
    Close,
    /// It is reset.
    Reset,
}
