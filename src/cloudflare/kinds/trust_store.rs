//! Authorities that the edge trusts at the origin (custom origin trust store).

use super::{Draft, Entries, Json, Paged, SSL_OF_ZONE, Shape, Source, text};
use crate::model::{Field, Kind};

pub(super) static SOURCE: Source = Source {
    endpoint: "custom_trust_store",
    path: "/zones/{}/acm/custom_trust_store",
    query: "",
    paged: Paged::Numbered,
    permission: SSL_OF_ZONE,
    shape: Shape::Object(&["id", "status", "issuer", "signature", "certificate", "expires_on"], &[]),
    read,
};

fn read(entry: &Json<'_>, entries: &mut Entries) {
    let mut draft = Draft::new(Kind::TrustStore, entry);
    draft.take(entry, &[Field::Issuer, Field::Signature]);
    draft.read_pem(text(entry, "certificate"));
    draft.for_its_key();
    draft.push_to(entries);
}
