//! Authorities of client certificates in Access.

use super::{Draft, Entries, Source, page, text};
use crate::{
    cloudflare::{
        lenient::{Json, Shape},
        paging::Paged,
    },
    model::{Field, Kind, Status},
};

pub(super) static SOURCE: Source = Source {
    endpoint: "access_certificates",
    path: "/accounts/{}/access/certificates",
    query: "",
    paged: Paged::Numbered,
    permission: "Access: Mutual TLS Certificates: Read on this account",
    shape: Shape::Object(&[
        ("id", Shape::Scalar),
        ("name", Shape::Scalar),
        ("associated_hostnames", super::NAMES),
        ("expires_on", Shape::Scalar),
    ]),
    read,
    read_page: |body| page(body, &SOURCE),
};

fn read(entry: &Json<'_>, entries: &mut Entries) {
    let mut draft = Draft::new(Kind::AccessCa, entry);
    draft.status = Status::Active;
    draft.set(Field::CommonName, text(entry, "name"));
    draft.hosts(entry.get("associated_hostnames"));
    draft.push_to(entries);
}
