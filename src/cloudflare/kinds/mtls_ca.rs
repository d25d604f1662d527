//! Authorities of client certificates that somebody uploaded to an account.

use super::{Draft, Entries, Source, page, text};
use crate::{
    cloudflare::{
        lenient::{Json, Shape},
        paging::Paged,
    },
    model::{Field, Kind, Status},
};

pub(super) static SOURCE: Source = Source {
    endpoint: "mtls_certificates",
    path: "/accounts/{}/mtls_certificates",
    // Those of Gateway and Access are listed here too, and are kinds of their own.
    query: "type=custom",
    paged: Paged::Whole,
    permission: "SSL and Certificates: Read on this account",
    shape: Shape::Object(&[
        ("id", Shape::Scalar),
        ("name", Shape::Scalar),
        ("type", Shape::Scalar),
        ("issuer", Shape::Scalar),
        ("serial_number", Shape::Scalar),
        ("signature", Shape::Scalar),
        ("certificates", Shape::Scalar),
        ("expires_on", Shape::Scalar),
    ]),
    read,
    read_page: |body| page(body, &SOURCE),
};

fn read(entry: &Json<'_>, entries: &mut Entries) {
    // In case a server passes over the query.
    if matches!(text(entry, "type"), "gateway_managed" | "access_managed") {
        return entries.skip(entry);
    }
    let mut draft = Draft::new(Kind::MtlsCa, entry);
    draft.status = Status::Active;
    draft.set(Field::CommonName, text(entry, "name"));
    draft.take(entry, &[Field::Issuer, Field::SerialNumber, Field::Signature]);
    draft.read_pem(text(entry, "certificates"));
    draft.for_its_key();
    draft.push_to(entries);
}
