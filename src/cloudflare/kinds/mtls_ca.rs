//! Authorities of client certificates that somebody uploaded to an account.

use super::{Draft, Entries, Json, Paged, Shape, Source, text};
use crate::model::{Field, Kind};

pub(super) static SOURCE: Source = Source {
    endpoint: "mtls_certificates",
    path: "/accounts/{}/mtls_certificates",
    // Those of Gateway and Access are listed here too, and are kinds of their own.
    query: "type=custom",
    paged: Paged::Whole,
    permission: "SSL and Certificates: Read on this account",
    shape: Shape::Object(
        &["id", "name", "type", "issuer", "serial_number", "signature", "certificates", "expires_on"],
        &[],
    ),
    read,
};

fn read(entry: &Json<'_>, entries: &mut Entries) {
    // In case a server passes over the query.
    if matches!(text(entry, "type"), "gateway_managed" | "access_managed") {
        return entries.skip(entry);
    }
    let mut draft = Draft::new(Kind::MtlsCa, entry);
    draft.active_by_id();
    draft.set(Field::CommonName, text(entry, "name"));
    draft.take(entry, &[Field::Issuer, Field::SerialNumber, Field::Signature]);
    draft.read_pem(text(entry, "certificates"));
    draft.for_its_key();
    draft.push_to(entries);
}
