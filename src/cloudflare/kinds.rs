//! Where each kind of certificate is listed, and how an entry of its list is read: a file and a row for each.
//!
//! What every room has to know of a kind (its label, its statuses, its interval) is in `model::Kind`. Only what a file
//! names is read of an entry, so that no private key that Cloudflare might send with it is ever kept.

mod access_ca;
mod aop;
mod client;
mod custom;
mod custom_hostname;
mod edge;
mod gateway_ca;
mod mtls_ca;
mod origin_ca;
mod pem;
mod trust_store;

use std::{
    borrow::Cow,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use aws_lc_rs::digest::{SHA256, digest};

use super::{
    date,
    lenient::{Json, Shape},
    paging::Paged,
};
use crate::model::{ByField, Certificate, Expiry, Field, Interner, Kind, ScopeId, Status};
use pem::Pem;

/// Where and how a kind is listed.
pub(super) struct Source {
    /// The value of the `endpoint` label.
    pub(super) endpoint: &'static str,
    /// The path, in which `{}` is the id of the zone or account.
    pub(super) path: &'static str,
    /// What the query asks for in addition to a page. `{}` is the id here too.
    pub(super) query: &'static str,
    pub(super) paged: Paged,
    /// What a token needs to list it.
    pub(super) permission: &'static str,
    pub(super) shape: Shape<'static>,
    /// Reads an entry, which can be of any type.
    pub(super) read: fn(&Json<'_>, &mut Entries),
}

pub(super) fn source(kind: Kind) -> &'static Source {
    match kind {
        Kind::Client => &client::SOURCE,
        Kind::OriginCa => &origin_ca::SOURCE,
        Kind::Edge => &edge::SOURCE,
        Kind::Custom => &custom::SOURCE,
        Kind::AopZone => &aop::ZONE,
        Kind::AopHostname => &aop::HOSTNAME,
        Kind::TrustStore => &trust_store::SOURCE,
        Kind::CustomHostname => &custom_hostname::SOURCE,
        Kind::MtlsCa => &mtls_ca::SOURCE,
        Kind::AccessCa => &access_ca::SOURCE,
        Kind::GatewayCa => &gateway_ca::SOURCE,
    }
}

/// Requests that reading so many entries of a kind takes, if nothing goes wrong.
#[must_use]
pub fn requests_for(kind: Kind, entries: usize) -> usize {
    source(kind).paged.per_page().map_or(1, |per_page| entries.div_ceil(per_page).max(1))
}

impl Source {
    /// Path and query of a page of the listing of a zone or account.
    pub(super) fn location(&self, id: &ScopeId, number: usize) -> (String, String) {
        let fill = |text: &str| text.replace("{}", id.as_str());
        let mut query = fill(self.query);
        if let Some(per_page) = self.paged.per_page() {
            let separator = if query.is_empty() { "" } else { "&" };
            query.push_str(&format!("{separator}per_page={per_page}&page={number}"));
        }
        (fill(self.path), query)
    }
}

/// Host names: a certificate has up to 200.
const NAMES: Shape<'_> = Shape::List(1000, &Shape::Scalar);

/// More certificates in one entry than there are types of keys.
const MAX_CERTIFICATES: usize = 20;

/// What hinders a validation.
const ERRORS: Shape<'_> = Shape::List(1, &Shape::Object(&["message"], &[]));

/// What most kinds need.
const SSL_OF_ZONE: &str = "SSL and Certificates: Read on this zone";

/// The certificates of a page, as they are read.
#[derive(Default)]
pub(super) struct Entries {
    interner: Interner,
    pub(super) certificates: Vec<Certificate>,
    /// Tells which entries were passed over.
    pub(super) skipped: u64,
}

impl Entries {
    /// Passes over an entry that belongs to another kind.
    fn skip(&mut self, entry: &Json<'_>) {
        let mut hasher = DefaultHasher::new();
        text(entry, "id").hash(&mut hasher);
        self.skipped = self.skipped.wrapping_add(hasher.finish());
    }

    fn push(&mut self, texts: &ByField<Cow<'_, str>>, status: Status, expiry: Expiry, not_before: Option<i64>) {
        let texts = self.interner.texts(texts);
        self.certificates.push(Certificate { texts, status, expiry, not_before });
    }
}

/// A certificate of an entry while it is read.
struct Draft<'a> {
    texts: ByField<Cow<'a, str>>,
    status: Status,
    expiry: Expiry,
    not_before: Option<i64>,
    /// [`Pem::subject`]; empty where there is none.
    subject: String,
}

impl<'a> Draft<'a> {
    /// With the id and the expiry of an entry, and the status that it says.
    fn new(kind: Kind, entry: &'a Json<'a>) -> Self {
        let mut draft = Self {
            texts: ByField::default(),
            status: kind.status(text(entry, "status")),
            expiry: expiry(entry.get("expires_on")),
            not_before: None,
            subject: String::new(),
        };
        draft.set(Field::Id, text(entry, "id"));
        draft.set(Field::RenewedBy, "owner");
        draft
    }

    /// The certificates that Cloudflare issued for an entry and renews, as `order` describes them. One that has no
    /// certificate yet is there without a date.
    fn of_order(kind: Kind, entry: &'a Json<'a>, order: &'a Json<'a>) -> Vec<Self> {
        let draft = |certificate: Option<&'a Json<'a>>| {
            let mut draft = Self::new(kind, entry);
            draft.status = kind.status(text(order, "status"));
            draft.expiry =
                certificate.map_or(Expiry::NoCertificate, |certificate| expiry(certificate.get("expires_on")));
            draft.set(Field::Entry, text(entry, "id"));
            draft.set(Field::RenewedBy, "cloudflare");
            draft.set(Field::CommonName, text(entry, "hostname"));
            draft.hosts(order.get("hosts"));
            let problem = order.get("validation_errors").items().first();
            draft.set(Field::Problem, problem.map_or("", |error| text(error, "message")));
            if let Some(certificate) = certificate {
                draft.not_before = time(certificate.get("issued_on"));
                let fields = [Field::Issuer, Field::SerialNumber, Field::Signature, Field::FingerprintSha256];
                draft.take(certificate, &fields);
                draft.set(Field::Id, text(certificate, "id"));
            }
            draft.complete(Field::Issuer, text(order, "certificate_authority"));
            draft
        };
        let is_one = |item: &&Json<'_>| matches!(item, Json::Object(..));
        let certificates: Vec<_> = order.get("certificates").items().iter().filter(is_one).collect();
        if certificates.is_empty() {
            vec![draft(None)]
        } else {
            certificates.into_iter().map(Some).map(draft).collect()
        }
    }

    fn set(&mut self, field: Field, text: impl Into<Cow<'a, str>>) {
        self.texts[field as usize] = text.into();
    }

    /// Sets a text that is not known yet.
    fn complete(&mut self, field: Field, text: impl Into<Cow<'a, str>>) {
        if self.texts[field as usize].is_empty() {
            self.set(field, text);
        }
    }

    /// Takes texts of the entry that have the names of their labels.
    fn take(&mut self, entry: &'a Json<'a>, fields: &[Field]) {
        for &field in fields {
            self.set(field, text(entry, field.label()));
        }
    }

    /// Of kinds without a word for it: what has an id is there, and so it is active.
    fn active_by_id(&mut self) {
        let has_id = !self.texts[Field::Id as usize].is_empty();
        self.status = if has_id { Status::Active } else { Status::Unknown };
    }

    /// Takes a list of host names. The first one is the common name.
    fn hosts(&mut self, hosts: &'a Json<'a>) {
        let hosts: Vec<&str> = hosts.items().iter().filter_map(Json::text).filter(|host| !host.is_empty()).collect();
        self.complete(Field::CommonName, hosts.first().copied().unwrap_or_default());
        self.set(Field::Hosts, hosts.join(" "));
    }

    /// Another certificate for the same host names takes the place of this one.
    fn for_its_hosts(&mut self) {
        let mut hosts: Vec<&str> = self.texts[Field::Hosts as usize].split(' ').collect();
        hosts.sort_unstable();
        let purpose = purpose(&hosts);
        self.set(Field::Purpose, purpose);
    }

    /// Takes what the certificate itself says, where the entry does not say it.
    fn read_pem(&mut self, text: &str) {
        let Some(pem) = Pem::read(text) else { return };
        self.not_before = Some(pem.not_before);
        self.subject = pem.subject;
        for (field, text) in pem.texts {
            self.complete(field, text);
        }
    }

    /// Another certificate of the same subject and key takes the place of this one.
    fn for_its_key(&mut self) {
        let ski = &*self.texts[Field::Ski as usize];
        if !ski.is_empty() {
            let purpose = purpose(&[ski, &self.subject]);
            self.set(Field::Purpose, purpose);
        }
    }

    fn push_to(self, entries: &mut Entries) {
        entries.push(&self.texts, self.status, self.expiry, self.not_before);
    }
}

/// Texts that are the same for certificates of one purpose, whatever their length.
fn purpose(texts: &[&str]) -> String {
    if texts.iter().all(|text| text.is_empty()) {
        return String::new();
    }
    hexadecimal(&digest(&SHA256, texts.join("\n").as_bytes()).as_ref()[..16])
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The text of a key; empty if there is none.
fn text<'a>(entry: &'a Json<'_>, key: &str) -> &'a str {
    entry.get(key).text().unwrap_or_default()
}

fn expiry(date: &Json<'_>) -> Expiry {
    match date {
        Json::Absent => Expiry::Missing,
        Json::Text(text) => date::parse(text),
        _ => Expiry::Invalid,
    }
}

/// A date as Unix seconds, where it is one.
fn time(date: &Json<'_>) -> Option<i64> {
    match expiry(date) {
        Expiry::At(time) => Some(time),
        Expiry::Missing | Expiry::Invalid | Expiry::NoCertificate => None,
    }
}

#[cfg(test)]
mod tests;
