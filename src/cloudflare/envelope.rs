//! The JSON of the API, turned into `model` types at once.
//!
//! Only what is shown is read; PEM and CSR are skipped while parsing. A field of the wrong type
//! counts as absent, so that one odd entry cannot hide the others.
//!
//! A page is read twice over if need be: in one go as the documentation has it ([`ordinary`]), and
//! where that fails with patience, value by value, which takes several times as long.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{date, paging::MAX_PAGE_ENTRIES};
use crate::model::{Certificate, Expiry, Interner, Status, clean};

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    /// In the order of the answer. Of a page with more than [`MAX_PAGE_ENTRIES`], one more than these.
    pub(super) entries: Vec<Certificate>,
    /// `result_info.total_count`: entries of the whole listing.
    pub(super) total_count: Option<u64>,
    /// `result_info.total_pages`.
    pub(super) total_pages: Option<u64>,
}

/// What the API says when it says no.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Cloudflare's errors with their codes, those of the `error_chain` included.
    pub(super) errors: Vec<(Option<i64>, Box<str>)>,
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
    ordinary::client_certificates(body).map_or_else(|| patiently(body), Body::Good)
}

/// The same whatever is in it.
pub(super) fn patiently(body: &[u8]) -> Body<Page> {
    read(&lossy(body), |result: Option<Entries<&RawValue>>, info| {
        let entries = match (result, info.total_count) {
            (Some(Capped(items)), _) => {
                let mut interner = Interner::default();
                let item = |item| parsed::<Item<'_>>(Some(item)).unwrap_or_default();
                items.into_iter().map(|raw| item(raw).certificate(&mut interner)).collect()
            }
            (None, Some(0)) => Vec::new(),
            (None, _) => return Err("it has no result, and does not say that the listing is empty"),
        };
        Ok(Page { entries, total_count: info.total_count, total_pages: info.total_pages })
    })
}

/// The certificates in the body of an answer, if it is a good page of client certificates.
///
/// The step that every page goes through, for benchmarks; [`Client::list`](super::Client::list) is what asks for pages.
#[must_use]
pub fn read_page(body: &[u8]) -> Option<Vec<Certificate>> {
    match client_certificates(body) {
        Body::Good(page) => Some(page.entries),
        Body::Refused(_) | Body::Unreadable(_) => None,
    }
}

/// Reads the name of a zone.
pub(super) fn zone_name(body: &[u8]) -> Body<Box<str>> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow, default)]
        name: Option<&'a RawValue>,
    }
    read(&lossy(body), |result: Option<&RawValue>, _| {
        let name = parsed::<Named<'_>>(result).and_then(|zone| zone.name);
        let name = clean(text(name).unwrap_or_default().trim());
        if name.is_empty() { Err("it has no zone name") } else { Ok(name) }
    })
}

/// Reads when a token expires; `None` for one that does not.
pub(super) fn token_expiry(body: &[u8]) -> Body<Option<i64>> {
    #[derive(Deserialize)]
    struct Verified<'a> {
        #[serde(borrow, default)]
        expires_on: Option<&'a RawValue>,
    }
    read(&lossy(body), |result: Option<&RawValue>, _| {
        let verified = parsed::<Verified<'_>>(result).ok_or("it does not tell of a token")?;
        match text(verified.expires_on).map_or(Expiry::Missing, |date| date::parse(&date)) {
            Expiry::At(time) => Ok(Some(time)),
            Expiry::Missing => Ok(None),
            Expiry::Invalid => Err("the expiry of the token is no date"),
        }
    })
}

/// Reads the id of the account that a zone belongs to: 32 hexadecimal digits.
pub(super) fn account_id(body: &[u8]) -> Body<Box<str>> {
    #[derive(Deserialize)]
    struct Zone<'a> {
        #[serde(borrow, default)]
        account: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Account<'a> {
        #[serde(borrow, default)]
        id: Option<&'a RawValue>,
    }
    read(&lossy(body), |result: Option<&RawValue>, _| {
        let account = parsed::<Zone<'_>>(result).and_then(|zone| zone.account);
        let id = text(parsed::<Account<'_>>(account).and_then(|account| account.id)).unwrap_or_default();
        // It becomes a part of a URL.
        let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_id { Ok(id.into()) } else { Err("it has no account id") }
    })
}

/// Reads what the body of a failed request says of the reason, if it says anything.
pub(super) fn refusal(body: &[u8]) -> Refusal {
    let body = lossy(body);
    object::<Envelope<'_, IgnoredAny>>(&body).map(|envelope| Refusal::new(envelope.errors)).unwrap_or_default()
}

/// Whether a body is a response of the API, and not of something else on the way.
pub(super) fn is_of_the_api(body: &[u8]) -> bool {
    object::<Envelope<'_, IgnoredAny>>(&lossy(body)).is_some_and(|envelope| envelope.success.is_some())
}

/// A byte that is no text spoils the name that it is in, and nothing else.
fn lossy(body: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(body)
}

fn read<'a, R: Deserialize<'a>, T>(
    body: &'a str,
    result: impl FnOnce(Option<R>, ResultInfo) -> Result<T, &'static str>,
) -> Body<T> {
    match object::<Envelope<'_, R>>(body) {
        Some(envelope) => match envelope.success {
            Some(true) => {
                let info = envelope.result_info.unwrap_or_default();
                result(envelope.result, info).map_or_else(Body::Unreadable, Body::Good)
            }
            Some(false) => Body::Refused(Refusal::new(envelope.errors)),
            None => Body::Unreadable("it does not say whether it succeeded"),
        },
        // An answer that says no may carry a result of any shape.
        None => match object::<Envelope<'_, IgnoredAny>>(body) {
            Some(envelope) if envelope.success == Some(false) => Body::Refused(Refusal::new(envelope.errors)),
            Some(_) => Body::Unreadable("its result is of another shape"),
            None => Body::Unreadable("it is not the JSON of the API"),
        },
    }
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "R: Deserialize<'de>"))]
struct Envelope<'a, R> {
    #[serde(default, deserialize_with = "loose")]
    success: Option<bool>,
    #[serde(borrow, default)]
    errors: Option<&'a RawValue>,
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
struct Error<'a> {
    #[serde(default, deserialize_with = "loose_number")]
    code: Option<i64>,
    #[serde(default, deserialize_with = "loose")]
    message: Option<String>,
    #[serde(default, deserialize_with = "loose")]
    documentation_url: Option<String>,
    #[serde(default, deserialize_with = "loose")]
    source: Option<Source>,
    /// Read one level deep, which is all that was seen: each further one would go deeper into the stack.
    #[serde(borrow, default)]
    error_chain: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Source {
    #[serde(default, deserialize_with = "loose")]
    pointer: Option<String>,
}

impl<'a> Error<'a> {
    /// Reads an object, or a text alone.
    fn read(raw: &'a RawValue) -> Option<Self> {
        let message = || {
            let message = small(raw)?;
            Some(Self { code: None, message: Some(message), documentation_url: None, source: None, error_chain: None })
        };
        small(raw).or_else(message)
    }
}

impl Refusal {
    /// More errors than this in one answer tell nobody anything.
    const MAX_ERRORS: usize = 5;

    fn new(errors: Option<&RawValue>) -> Self {
        let mut refusal = Self::default();
        for error in Self::errors(errors) {
            if !refusal.words.is_empty() {
                refusal.words.push_str("; ");
            }
            refusal.add(&error);
            // The chain names the real cause. It is not documented.
            for cause in Self::errors(error.error_chain) {
                refusal.words.push_str(", because of ");
                refusal.add(&cause);
            }
        }
        refusal
    }

    /// The first errors of a list, and none if it is no list.
    fn errors(list: Option<&RawValue>) -> impl Iterator<Item = Error<'_>> {
        // Some may be of another shape.
        const MAX_READ: usize = 4 * Refusal::MAX_ERRORS;
        let items = match list {
            Some(list) if list.get().starts_with('[') => {
                serde_json::from_str(list.get()).map(|Capped::<_, MAX_READ>(items)| items).unwrap_or_default()
            }
            // One alone.
            item => item.into_iter().collect(),
        };
        items.into_iter().filter_map(Error::read).take(Self::MAX_ERRORS)
    }

    fn add(&mut self, error: &Error<'_>) {
        let message = clean(error.message.as_deref().unwrap_or("no message"));
        match error.code {
            Some(code) => self.words.push_str(&format!("code {code}: {message}")),
            None => self.words.push_str(&message),
        }
        self.errors.push((error.code, message));
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
    certificate_authority: Option<&'a RawValue>,
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

impl Item<'_> {
    fn certificate(self, interner: &mut Interner) -> Certificate {
        let item = self;
        let authority = parsed::<Authority<'_>>(item.certificate_authority);
        let texts = [
            item.id,
            item.common_name,
            item.serial_number,
            item.fingerprint_sha256,
            item.ski,
            authority.and_then(|authority| authority.name),
            item.signature,
            item.organization,
            item.organizational_unit,
            item.country,
            item.state,
            item.location,
        ];
        Certificate {
            texts: interner.texts(&texts.map(|field| text(field).unwrap_or_default())),
            status: text(item.status).and_then(|word| Status::from_label(&word)).unwrap_or(Status::Unknown),
            expiry: match item.expires_on {
                None => Expiry::Missing,
                some => text(some).map_or(Expiry::Invalid, |date| date::parse(&date)),
            },
            not_before: match text(item.issued_on).map(|date| date::parse(&date)) {
                Some(Expiry::At(time)) => Some(time),
                _ => None,
            },
        }
    }
}

/// Good pages in which everything is of its documented type or null. Whatever is not makes nothing of the whole
/// page: what counts as absent, and why, is written down once, above.
mod ordinary {
    use std::{borrow::Cow, fmt, marker::PhantomData};

    use serde::{
        Deserialize, Deserializer,
        de::{IgnoredAny, MapAccess, Visitor, value::MapAccessDeserializer},
    };

    use super::{Capped, Entries, Page};
    use crate::{
        cloudflare::date,
        model::{Certificate, Expiry, Interner, Status},
    };

    /// `None` for anything that is not quite as it should be.
    pub(super) fn client_certificates(body: &[u8]) -> Option<Page> {
        let Object(answer): Object<Answer<'_>> = serde_json::from_slice(body).ok()?;
        if answer.success != Some(true) {
            return None;
        }
        let Object(totals) = answer.result_info.unwrap_or_default();
        let mut interner = Interner::default();
        let Capped(entries) = answer.result?;
        let entries = entries.into_iter().map(|Object(entry)| entry.certificate(&mut interner)).collect();
        Some(Page { entries, total_count: totals.total_count, total_pages: totals.total_pages })
    }

    /// An object, and no array: serde would read a struct from one too.
    #[derive(Default)]
    struct Object<T>(T);

    impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Fields<T>(PhantomData<T>);
            impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
                type Value = T;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("an object")
                }

                fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
                    T::deserialize(MapAccessDeserializer::new(fields))
                }
            }
            deserializer.deserialize_map(Fields(PhantomData)).map(Self)
        }
    }

    /// Borrowed from the answer where nothing in it is escaped.
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    /// What is null or not there is empty.
    fn text(text: Option<Text<'_>>) -> Cow<'_, str> {
        text.map(|Text(text)| text).unwrap_or_default()
    }

    #[derive(Deserialize)]
    struct Answer<'a> {
        success: Option<bool>,
        /// Not of interest where it succeeded, but one that is there twice makes the answer an odd one.
        #[expect(dead_code, reason = "it is only read")]
        errors: Option<IgnoredAny>,
        #[serde(borrow)]
        result: Option<Entries<Object<Entry<'a>>>>,
        result_info: Option<Object<Totals>>,
    }

    #[derive(Deserialize, Default)]
    struct Totals {
        total_count: Option<u64>,
        total_pages: Option<u64>,
    }

    #[derive(Deserialize)]
    struct Entry<'a> {
        #[serde(borrow)]
        id: Option<Text<'a>>,
        #[serde(borrow)]
        common_name: Option<Text<'a>>,
        #[serde(borrow)]
        status: Option<Text<'a>>,
        #[serde(borrow)]
        expires_on: Option<Text<'a>>,
        #[serde(borrow)]
        issued_on: Option<Text<'a>>,
        #[serde(borrow)]
        serial_number: Option<Text<'a>>,
        #[serde(borrow)]
        fingerprint_sha256: Option<Text<'a>>,
        #[serde(borrow)]
        ski: Option<Text<'a>>,
        #[serde(borrow)]
        certificate_authority: Option<Object<Authority<'a>>>,
        #[serde(borrow)]
        signature: Option<Text<'a>>,
        #[serde(borrow)]
        organization: Option<Text<'a>>,
        #[serde(borrow)]
        organizational_unit: Option<Text<'a>>,
        #[serde(borrow)]
        country: Option<Text<'a>>,
        #[serde(borrow)]
        state: Option<Text<'a>>,
        #[serde(borrow)]
        location: Option<Text<'a>>,
    }

    #[derive(Deserialize)]
    struct Authority<'a> {
        #[serde(borrow)]
        name: Option<Text<'a>>,
    }

    impl Entry<'_> {
        fn certificate(self, interner: &mut Interner) -> Certificate {
            let texts = [
                self.id,
                self.common_name,
                self.serial_number,
                self.fingerprint_sha256,
                self.ski,
                self.certificate_authority.and_then(|Object(authority)| authority.name),
                self.signature,
                self.organization,
                self.organizational_unit,
                self.country,
                self.state,
                self.location,
            ];
            Certificate {
                texts: interner.texts(&texts.map(text)),
                status: Status::from_label(&text(self.status)).unwrap_or(Status::Unknown),
                expiry: date::parse(&text(self.expires_on)),
                not_before: match date::parse(&text(self.issued_on)) {
                    Expiry::At(time) => Some(time),
                    Expiry::Missing | Expiry::Invalid => None,
                },
            }
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

/// A value of any type, `None` unless it is the object that is wanted.
fn parsed<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
    object(raw?.get())
}

/// A struct, and no array: serde would read one from that too, field by field.
fn object<'a, T: Deserialize<'a>>(json: &'a str) -> Option<T> {
    if json.trim_start().starts_with('{') { serde_json::from_str(json).ok() } else { None }
}

/// A small value of any type, `None` unless it is the type that is wanted.
fn loose<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(small(<&RawValue>::deserialize(deserializer)?))
}

/// A number, or one in quotes.
fn loose_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    Ok(small(raw).or_else(|| small::<String>(raw)?.trim().parse().ok()))
}

/// None of these is an array, and a struct would be read from one.
fn small<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    let json = raw.get();
    if json.starts_with('[') { None } else { serde_json::from_str(json).ok() }
}

/// The entries of a page.
type Entries<T> = Capped<T, { MAX_PAGE_ENTRIES + 1 }>;

/// The first `MAX` items of a list. The others are read past: two bytes of an answer can be an item, and hundreds
/// of bytes here.
struct Capped<T, const MAX: usize>(Vec<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Capped<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Items<T, MAX> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
                let mut items = Vec::new();
                while items.len() < MAX {
                    match list.next_element()? {
                        Some(item) => items.push(item),
                        None => return Ok(items),
                    }
                }
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(items)
            }
        }
        deserializer.deserialize_seq(Items::<T, MAX>(PhantomData)).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::{Field, Texts};

    fn page(body: &Value) -> Page {
        match client_certificates(body.to_string().as_bytes()) {
            Body::Good(page) => page,
            other => panic!("{other:?} from {body}"),
        }
    }

    fn entry(item: &Value) -> Certificate {
        page(&json!({"success": true, "result": [item]})).entries.remove(0)
    }

    /// An entry of which nothing is known.
    fn nothing() -> Certificate {
        Certificate { texts: Texts::default(), status: Status::Unknown, expiry: Expiry::Missing, not_before: None }
    }

    #[test]
    fn the_documented_answer_is_read() {
        let answer = json!({
            "errors": [], "messages": [], "success": true,
            "result": [{
                "id": "7bf7f70c-7600-42e1-81c4-e4c0da9aa515",
                "certificate": "-----BEGIN CERTIFICATE-----\nMIIDmDCCAoC...dhDDE\n-----END CERTIFICATE-----",
                "certificate_authority": {"id": "568b6b74", "name": "Cloudflare Managed CA for account 11cb"},
                "common_name": "Cloudflare", "country": "US",
                "csr": "-----BEGIN CERTIFICATE REQUEST-----\r\nMIICY....\r\n-----END CERTIFICATE REQUEST-----",
                "expires_on": "2033-02-20T23:18:00Z", "fingerprint_sha256": "256c24", "issued_on": "2023-02-23T23:18:00Z",
                "location": "Somewhere", "organization": "Organization", "organizational_unit": "Organizational Unit",
                "serial_number": "3bb94f", "signature": "SHA256WithRSA", "ski": "8e375a", "state": "CA",
                "status": "active", "validity_days": 3650,
            }],
            "result_info": {"count": 1, "page": 1, "per_page": 20, "total_count": 2000, "total_pages": 100},
        });
        let expected = Certificate {
            texts: Texts::from([
                (Field::Id, "7bf7f70c-7600-42e1-81c4-e4c0da9aa515"),
                (Field::CommonName, "Cloudflare"),
                (Field::SerialNumber, "3bb94f"),
                (Field::FingerprintSha256, "256c24"),
                (Field::Ski, "8e375a"),
                (Field::Issuer, "Cloudflare Managed CA for account 11cb"),
                (Field::Signature, "SHA256WithRSA"),
                (Field::Organization, "Organization"),
                (Field::OrganizationalUnit, "Organizational Unit"),
                (Field::Country, "US"),
                (Field::State, "CA"),
                (Field::Location, "Somewhere"),
            ]),
            status: Status::Active,
            expiry: Expiry::At(1_992_554_280),
            not_before: Some(1_677_194_280),
        };
        assert_eq!(page(&answer), Page { entries: vec![expected], total_count: Some(2000), total_pages: Some(100) });
    }

    #[test]
    fn an_ordinary_page_is_read_in_one_go_and_an_odd_one_is_not() {
        let ordinary = |entry: &str| {
            let body = format!(r#" {{"success":true,"result":[{entry}],"result_info":{{"total_count":1}}}}"#);
            ordinary::client_certificates(body.as_bytes())
                .inspect(|page| assert_eq!(patiently(body.as_bytes()), Body::Good(page.clone()), "{entry}"))
        };
        for entry in [
            r#"{"id":"a","common_name":"\u003cA & B\u003e","location":null,"expires_on":null,"validity_days":3650}"#,
            r#"{"id":"a","certificate_authority":null,"csr":"\ud800","certificate":7,"status":"new"}"#,
            r#"{"id":"a\n","certificate_authority":{"id":"b","name":"Managed CA"},"expires_on":"soon"}"#,
        ] {
            assert!(ordinary(entry).is_some(), "{entry}");
        }
        for entry in [
            "null",
            r#"["a"]"#,
            r#"{"id":7}"#,
            r#"{"id":"\ud800"}"#,
            r#"{"id":"a","id":"b"}"#,
            r#"{"certificate_authority":["x"]}"#,
        ] {
            assert!(ordinary(entry).is_none(), "{entry}");
        }
    }

    #[test]
    fn a_token_tells_when_it_expires() {
        for (result, expected) in [
            (
                json!({"id": "x", "status": "active", "expires_on": "2033-02-20T23:18:00Z"}),
                Body::Good(Some(1_992_554_280)),
            ),
            (json!({"id": "x", "status": "active"}), Body::Good(None)),
            (json!({"expires_on": null}), Body::Good(None)),
            (json!({"expires_on": 1}), Body::Good(None)),
            (json!({"expires_on": "soon"}), Body::Unreadable("the expiry of the token is no date")),
            (json!([]), Body::Unreadable("it does not tell of a token")),
            (json!(null), Body::Unreadable("it does not tell of a token")),
        ] {
            let body = json!({"success": true, "result": result}).to_string();
            assert_eq!(token_expiry(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn an_account_id_is_one_or_none() {
        let account =
            |id: Value| account_id(json!({"success": true, "result": {"account": {"id": id}}}).to_string().as_bytes());
        assert_eq!(
            account(json!("11cbe197c050c9e422aaa103cfe30ed8")),
            Body::Good("11cbe197c050c9e422aaa103cfe30ed8".into())
        );
        for odd in [json!("../../user"), json!(""), json!(null), json!(1), json!("11cbe197c050c9e422aaa103cfe30ed8/")] {
            assert_eq!(account(odd), Body::Unreadable("it has no account id"));
        }
    }

    #[test]
    fn one_odd_entry_hides_no_other() {
        let good = json!({"id": "good"});
        for odd in
            [json!(null), json!(1), json!(-1.5), json!("text"), json!([]), json!([["id", 1]]), json!(true), json!({})]
        {
            let page = page(&json!({"success": true, "result": [good, odd, good]}));
            let expected = Certificate { texts: Texts::from([(Field::Id, "good")]), ..nothing() };
            assert_eq!(page.entries, [expected.clone(), nothing(), expected], "{odd}");
        }
        for odd in [
            r#"{"id":"a","id":"b"}"#,
            r#"{"id":"a","certificate_authority":{"name":1,"name":2}}"#,
            "1e999",
            r#""\ud800""#,
            r#"{"\ud800":1}"#,
        ] {
            let body = format!(r#"{{"success":true,"result":[{{"id":"good"}},{odd},{{"id":"good"}}]}}"#);
            match client_certificates(body.as_bytes()) {
                Body::Good(page) => {
                    assert_eq!(page.entries.iter().filter(|entry| entry.id() == "good").count(), 2, "{odd}");
                }
                other => panic!("{odd}: {other:?}"),
            }
        }
        let bytes = b"{\"success\":true,\"result\":[{\"id\":\"good\"},{\"id\":\"\xff\"}]}";
        assert!(matches!(client_certificates(bytes), Body::Good(page) if page.entries[1].id() == "\u{fffd}"));
        let fields = [
            "id",
            "common_name",
            "status",
            "issued_on",
            "serial_number",
            "fingerprint_sha256",
            "ski",
            "certificate_authority",
            "signature",
            "organization",
            "organizational_unit",
            "country",
            "state",
            "location",
        ];
        for odd in [json!(null), json!(0), json!(1e300), json!({"name": 1}), json!(["x"]), json!(false)] {
            for field in fields {
                assert_eq!(entry(&json!({ field: odd })), nothing(), "{field}: {odd}");
            }
        }
    }

    #[test]
    fn a_status_that_is_not_documented_is_unknown() {
        for (status, expected) in [
            (json!("active"), Status::Active),
            (json!("pending_reactivation"), Status::PendingReactivation),
            (json!("pending_revocation"), Status::PendingRevocation),
            (json!("revoked"), Status::Revoked),
            (json!("unknown"), Status::Unknown),
            (json!("Active"), Status::Unknown),
            (json!("expired"), Status::Unknown),
            (json!(null), Status::Unknown),
        ] {
            assert_eq!(entry(&json!({"status": status})).status, expected, "{status}");
        }
    }

    #[test]
    fn an_expiry_is_a_date_or_missing_or_invalid() {
        for (expires_on, expected) in [
            (json!("2033-02-20T23:18:00Z"), Expiry::At(1_992_554_280)),
            (json!(""), Expiry::Missing),
            (json!(null), Expiry::Missing),
            (json!("0001-01-01T00:00:00Z"), Expiry::Missing),
            (json!("soon"), Expiry::Invalid),
            (json!(1_992_554_280), Expiry::Invalid),
            (json!({}), Expiry::Invalid),
        ] {
            assert_eq!(entry(&json!({"expires_on": expires_on})).expiry, expected, "{expires_on}");
        }
        assert_eq!(entry(&json!({})).expiry, Expiry::Missing);
    }

    #[test]
    fn hostile_text_is_made_harmless_and_half_a_surrogate_pair_breaks_nothing() {
        for (json, expected) in [
            (r#""a\nb\u202e\u0000""#, "a\u{fffd}b\u{fffd}\u{fffd}"),
            (r#""x\ud800y""#, "x\u{fffd}\u{fffd}\u{fffd}y"),
            (r#""\udc00\ud83d\ude00""#, "\u{fffd}\u{fffd}\u{fffd}😀"),
            (r#""\"{{ x }}<b>\\""#, "\"{{ x }}<b>\\"),
        ] {
            let body = format!(r#"{{"success":true,"result":[{{"common_name":{json},"csr":"\ud800"}}]}}"#);
            match client_certificates(body.as_bytes()) {
                Body::Good(page) => assert_eq!(page.entries[0].common_name(), expected, "{json}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn no_result_is_an_empty_list_only_where_the_count_says_so() {
        for (body, entries) in [
            (json!({"success": true, "result": null, "result_info": {"total_count": 0}}), Some(0)),
            (json!({"success": true, "result": [], "result_info": {"page": 1, "count": 0, "total_count": 0}}), Some(0)),
            (json!({"success": true, "result": []}), Some(0)),
            (json!({"success": true, "result": null, "result_info": {"total_count": 1}}), None),
            (json!({"success": true, "result": null}), None),
            (json!({"success": true}), None),
        ] {
            let read = match client_certificates(body.to_string().as_bytes()) {
                Body::Good(page) => Some(page.entries.len()),
                Body::Unreadable(_) => None,
                Body::Refused(refusal) => panic!("{refusal:?}"),
            };
            assert_eq!(read, entries, "{body}");
        }
    }

    #[test]
    fn totals_of_a_wrong_type_are_unknown() {
        for (odd, read) in [
            (json!(7), Some(7)),
            (json!(-1), None),
            (json!("7"), None),
            (json!(1.5), None),
            (json!(null), None),
            (json!([]), None),
        ] {
            let page =
                page(&json!({"success": true, "result": [], "result_info": {"total_count": odd, "total_pages": odd}}));
            assert_eq!((page.total_count, page.total_pages), (read, read), "{odd}");
        }
        for odd in [json!(3), json!([5, 2])] {
            assert_eq!(page(&json!({"success": true, "result": [], "result_info": odd})).total_count, None, "{odd}");
        }
    }

    #[test]
    fn what_the_api_says_when_it_says_no_is_put_into_words() {
        for (body, codes, words) in [
            (
                json!({"success": false, "errors": [{"code": 10000, "message": "Authentication error"}]}),
                vec![10000],
                "code 10000: Authentication error",
            ),
            (
                json!({"success": false, "result": {"any": "shape"}, "errors": [{
                    "code": 6003, "message": "Invalid request headers",
                    "error_chain": [{"code": 6111, "message": "Invalid format for Authorization header"}],
                }]}),
                vec![6003, 6111],
                "code 6003: Invalid request headers, because of code 6111: Invalid format for Authorization header",
            ),
            (
                json!({"success": false, "errors": [
                    {"code": 7003, "message": "Could not route", "documentation_url": "https://developers.example/x", "source": {"pointer": "/zone_id"}},
                    {"message": "No route\nfor that URI"},
                ]}),
                vec![7003],
                "code 7003: Could not route, at /zone_id, see https://developers.example/x; No route\u{fffd}for that URI",
            ),
            (json!({"success": false, "errors": [{"code": "x"}]}), vec![], "no message"),
            (json!({"success": false, "errors": [{"code": "9109", "message": "No"}]}), vec![9109], "code 9109: No"),
            (json!({"success": false, "errors": {"code": 9109, "message": "No"}}), vec![9109], "code 9109: No"),
            (json!({"success": false, "errors": ["No"]}), vec![], "No"),
            (json!({"success": false, "errors": "No"}), vec![], "No"),
            (json!({"success": false, "errors": [null, 7, [9], {"code": 971}]}), vec![971], "code 971: no message"),
            (json!({"success": false, "errors": null}), vec![], ""),
            (json!({"success": false}), vec![], ""),
        ] {
            let read = refusal(body.to_string().as_bytes());
            assert_eq!(read.errors.iter().filter_map(|(code, _)| *code).collect::<Vec<_>>(), codes, "{body}");
            assert_eq!(read.words, words, "{body}");
            assert_eq!(client_certificates(body.to_string().as_bytes()), Body::Refused(read), "{body}");
        }
    }

    #[test]
    fn what_is_no_answer_of_the_api_is_unreadable() {
        let brackets = "[".repeat(200_000);
        for body in [
            "",
            "null",
            "[]",
            "{}",
            "error code: 1015",
            "<html></html>",
            "{\"success\":true",
            r#"{"success":"true","result":[]}"#,
            r#"{"success":true,"result":{}}"#,
            r#"{"success":true,"result":"x"}"#,
            "\u{feff}{}",
            r#"[true,[],[{"id":"a"}],{"total_count":1}]"#,
            r#"[false,[{"code":1}]]"#,
            &brackets,
        ] {
            assert!(matches!(client_certificates(body.as_bytes()), Body::Unreadable(_)), "{body:.40}");
            assert_eq!(refusal(body.as_bytes()), Refusal::default(), "{body:.40}");
        }
    }

    #[test]
    fn a_zone_has_a_name() {
        let name = |result: Value| zone_name(json!({"success": true, "result": result}).to_string().as_bytes());
        assert_eq!(name(json!({"id": "x", "name": " example.com "})), Body::Good("example.com".into()));
        for nameless in [
            json!({}),
            json!({"name": ""}),
            json!({"name": null}),
            json!({"name": 1}),
            json!(null),
            json!([]),
            json!(["x"]),
        ] {
            assert!(matches!(name(nameless.clone()), Body::Unreadable(_)), "{nameless}");
        }
    }
}
