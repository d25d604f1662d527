//! The JSON of the API, turned into `model` types at once.
//!
//! Only what is shown is read; PEM and CSR are skipped while parsing. A field of the wrong type
//! counts as absent, so that one odd entry cannot hide the others.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;

use super::date;
use crate::model::{Certificate, Expiry, Status, clean};

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    /// In the order of the answer.
    pub(super) entries: Vec<Certificate>,
    /// `result_info.total_count`: entries of the whole listing.
    pub(super) total_count: Option<u64>,
    /// `result_info.total_pages`.
    pub(super) total_pages: Option<u64>,
}

/// What the API says when it says no.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Cloudflare's error codes, those of the `error_chain` included.
    pub(super) codes: Vec<i64>,
    /// The errors in words; empty where there are none.
    pub(super) words: String,
}

/// How a body could be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body<T> {
    /// `success: true` with the result that was asked for.
    Good(T),
    /// `success: false`.
    Refused(Refusal),
    /// Neither; the text says what is wrong with it.
    Unreadable(&'static str),
}

/// Reads a page of client certificates.
pub(super) fn client_certificates(body: &[u8]) -> Body<Page> {
    read(body, |envelope: Envelope<Vec<Loose<Item<'_>>>>| {
        let info = envelope.result_info.unwrap_or_default();
        let entries = match (envelope.result, info.total_count) {
            (Some(items), _) => items.into_iter().map(|item| item.0.unwrap_or_default().into()).collect(),
            (None, Some(0)) => Vec::new(),
            (None, _) => return Err("it has no result, and does not say that the listing is empty"),
        };
        Ok(Page { entries, total_count: info.total_count, total_pages: info.total_pages })
    })
}

/// Reads the name of a zone.
pub(super) fn zone_name(body: &[u8]) -> Body<Box<str>> {
    #[derive(Deserialize)]
    struct ZoneResult<'a> {
        #[serde(borrow, default)]
        name: Option<&'a RawValue>,
    }
    read(body, |envelope: Envelope<ZoneResult<'_>>| {
        let name = clean(text(envelope.result.and_then(|zone| zone.name)).unwrap_or_default().trim());
        if name.is_empty() { Err("it has no zone name") } else { Ok(name) }
    })
}

/// Reads what the body of a failed request says of the reason, if it says anything.
pub(super) fn refusal(body: &[u8]) -> Refusal {
    match read(body, |_: Envelope<IgnoredAny>| Ok(())) {
        Body::Refused(refusal) => refusal,
        Body::Good(()) | Body::Unreadable(_) => Refusal::default(),
    }
}

fn read<'a, R: Deserialize<'a>, T>(
    body: &'a [u8],
    result: impl FnOnce(Envelope<R>) -> Result<T, &'static str>,
) -> Body<T> {
    let Ok(body) = std::str::from_utf8(body) else { return Body::Unreadable("it is not UTF-8") };
    match serde_json::from_str::<Envelope<R>>(body) {
        Ok(envelope) => match envelope.success {
            Some(true) => result(envelope).map_or_else(Body::Unreadable, Body::Good),
            Some(false) => Body::Refused(Refusal::new(&envelope.errors.unwrap_or_default())),
            None => Body::Unreadable("it does not say whether it succeeded"),
        },
        // An answer that says no may carry a result of any shape.
        Err(_) => match serde_json::from_str::<Envelope<IgnoredAny>>(body) {
            Ok(envelope) if envelope.success == Some(false) => {
                Body::Refused(Refusal::new(&envelope.errors.unwrap_or_default()))
            }
            Ok(_) => Body::Unreadable("its result is of another shape"),
            Err(_) => Body::Unreadable("it is not the JSON of the API"),
        },
    }
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "R: Deserialize<'de>"))]
struct Envelope<R> {
    #[serde(default, deserialize_with = "loose")]
    success: Option<bool>,
    #[serde(default, deserialize_with = "loose")]
    errors: Option<Vec<Error>>,
    #[serde(default = "Option::default")]
    result: Option<R>,
    #[serde(default, deserialize_with = "loose")]
    result_info: Option<ResultInfo>,
}

#[derive(Deserialize, Default)]
struct ResultInfo {
    #[serde(default, deserialize_with = "loose")]
    total_count: Option<u64>,
    #[serde(default, deserialize_with = "loose")]
    total_pages: Option<u64>,
}

#[derive(Deserialize)]
struct Error {
    #[serde(default, deserialize_with = "loose")]
    code: Option<i64>,
    #[serde(default, deserialize_with = "loose")]
    message: Option<String>,
    #[serde(default, deserialize_with = "loose")]
    documentation_url: Option<String>,
    #[serde(default, deserialize_with = "loose")]
    source: Option<Source>,
    #[serde(default, deserialize_with = "loose")]
    error_chain: Option<Vec<Error>>,
}

#[derive(Deserialize)]
struct Source {
    #[serde(default, deserialize_with = "loose")]
    pointer: Option<String>,
}

impl Refusal {
    /// More errors than this in one answer tell nobody anything.
    const MAX_ERRORS: usize = 5;

    fn new(errors: &[Error]) -> Self {
        let mut refusal = Self::default();
        for error in errors.iter().take(Self::MAX_ERRORS) {
            if !refusal.words.is_empty() {
                refusal.words.push_str("; ");
            }
            refusal.add(error);
            // The chain names the real cause. It is not documented; one level is all that was seen.
            for cause in error.error_chain.iter().flatten().take(Self::MAX_ERRORS) {
                refusal.words.push_str(", because of ");
                refusal.add(cause);
            }
        }
        refusal
    }

    fn add(&mut self, error: &Error) {
        let message = clean(error.message.as_deref().unwrap_or("no message"));
        match error.code {
            Some(code) => {
                self.codes.push(code);
                self.words.push_str(&format!("code {code}: {message}"));
            }
            None => self.words.push_str(&message),
        }
        if let Some(pointer) = error.source.as_ref().and_then(|source| source.pointer.as_deref()) {
            self.words.push_str(&format!(", at {}", clean(pointer)));
        }
        if let Some(url) = &error.documentation_url {
            self.words.push_str(&format!(", see {}", clean(url)));
        }
    }
}

/// One entry, as written.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Item<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    common_name: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    expires_on: Option<&'a RawValue>,
    #[serde(borrow)]
    issued_on: Option<&'a RawValue>,
    #[serde(borrow)]
    serial_number: Option<&'a RawValue>,
    #[serde(borrow)]
    fingerprint_sha256: Option<&'a RawValue>,
    #[serde(borrow)]
    ski: Option<&'a RawValue>,
    #[serde(borrow)]
    certificate_authority: Loose<Authority<'a>>,
    #[serde(borrow)]
    signature: Option<&'a RawValue>,
    #[serde(borrow)]
    organization: Option<&'a RawValue>,
    #[serde(borrow)]
    organizational_unit: Option<&'a RawValue>,
    #[serde(borrow)]
    country: Option<&'a RawValue>,
    #[serde(borrow)]
    state: Option<&'a RawValue>,
    #[serde(borrow)]
    location: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Authority<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
}

impl From<Item<'_>> for Certificate {
    fn from(item: Item<'_>) -> Self {
        let shown = |field| clean(&text(field).unwrap_or_default());
        Self {
            id: shown(item.id),
            common_name: shown(item.common_name),
            status: text(item.status).and_then(|word| Status::from_label(&word)).unwrap_or(Status::Unknown),
            expiry: match item.expires_on {
                None => Expiry::Missing,
                some => text(some).map_or(Expiry::Invalid, |date| date::parse(&date)),
            },
            not_before: match text(item.issued_on).map(|date| date::parse(&date)) {
                Some(Expiry::At(time)) => Some(time),
                _ => None,
            },
            serial_number: shown(item.serial_number),
            fingerprint_sha256: shown(item.fingerprint_sha256),
            ski: shown(item.ski),
            issuer: shown(item.certificate_authority.0.and_then(|authority| authority.name)),
            signature: shown(item.signature),
            organization: shown(item.organization),
            organizational_unit: shown(item.organizational_unit),
            country: shown(item.country),
            state: shown(item.state),
            location: shown(item.location),
        }
    }
}

/// The text of a JSON string; `None` for anything else.
///
/// `serde_json` refuses half a surrogate pair in a `str`, and lets it through as bytes.
fn text(raw: Option<&RawValue>) -> Option<Cow<'_, str>> {
    struct Bytes;
    impl<'de> Visitor<'de> for Bytes {
        type Value = Cow<'de, str>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
            Ok(String::from_utf8_lossy(bytes).into_owned().into())
        }

        fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
            Ok(String::from_utf8_lossy(bytes))
        }
    }
    let json = raw?.get();
    if json.starts_with('"') { serde_json::Deserializer::from_str(json).deserialize_bytes(Bytes).ok() } else { None }
}

/// A small value of any type, `None` unless it is the type that is wanted.
fn loose<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(raw.get()).ok())
}

/// An object of which anything else than an object is `None`, without parsing it twice.
struct Loose<T>(Option<T>);

impl<T> Default for Loose<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Loose<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Anything<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Anything<T> {
            type Value = Loose<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(|object| Loose(Some(object)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Loose(None))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Loose(None))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Loose(None))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Loose(None))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(Loose(None))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Loose(None))
            }

            fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
                Ok(Loose(None))
            }
        }
        deserializer.deserialize_any(Anything(std::marker::PhantomData))
    }
}
