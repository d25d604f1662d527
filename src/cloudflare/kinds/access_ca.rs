//! Authorities of client certificates in Access.

use super::{Draft, Entries, Json, NAMES, Paged, Shape, Source, text};
use crate::model::{Field, Kind};

pub(super) static SOURCE: Source = Source {
    endpoint: "access_certificates",
    path: "/accounts/{}/access/certificates",
    query: "",
    paged: Paged::Numbered,
    permission: "Access: Mutual TLS Certificates: Read on this account",
    shape: Shape::Object(&["id", "name", "expires_on"], &[("associated_hostnames", NAMES)]),
    read,
};

fn read(entry: &Json<'_>, entries: &mut Entries) {
    let mut draft = Draft::new(Kind::AccessCa, entry);
    draft.active_by_id();
    draft.set(Field::CommonName, text(entry, "name"));
    draft.hosts(entry.get("associated_hostnames"));
    draft.push_to(entries);
}
