//! Authorities with which Gateway inspects TLS: one of them is in use.

use super::{Draft, Entries, Source, page, text};
use crate::{
    cloudflare::{
        lenient::{Json, Shape},
        paging::Paged,
    },
    model::{Field, Kind},
};

pub(super) static SOURCE: Source = Source {
    endpoint: "gateway_certificates",
    path: "/accounts/{}/gateway/certificates",
    query: "",
    paged: Paged::Whole,
    permission: "Zero Trust: Read on this account",
    shape: Shape::Object(&[
        ("id", Shape::Scalar),
        ("binding_status", Shape::Scalar),
        ("in_use", Shape::Scalar),
        ("issuer_org", Shape::Scalar),
        ("issuer_raw", Shape::Scalar),
        ("fingerprint", Shape::Scalar),
        ("certificate", Shape::Scalar),
        ("expires_on", Shape::Scalar),
    ]),
    read,
    read_page: |body| page(body, &SOURCE),
};

fn read(entry: &Json<'_>, entries: &mut Entries) {
    let mut draft = Draft::new(Kind::GatewayCa, entry);
    draft.status = Kind::GatewayCa.status(text(entry, "binding_status"));
    let common_name = text(entry, "issuer_raw").split(',').find_map(|part| part.trim().strip_prefix("CN="));
    draft.set(Field::CommonName, common_name.unwrap_or_default().trim());
    draft.set(Field::Issuer, text(entry, "issuer_org"));
    // `AF:69:…` elsewhere in the metrics is `af69…`.
    draft.set(Field::FingerprintSha256, text(entry, "fingerprint").replace(':', "").to_lowercase());
    draft.read_pem(text(entry, "certificate"));
    if let Some(in_use) = entry.get("in_use").flag() {
        draft.set(Field::Purpose, "account");
        draft.set(Field::Rank, u8::from(in_use).to_string());
    }
    draft.push_to(entries);
}
