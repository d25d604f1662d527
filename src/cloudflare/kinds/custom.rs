//! Edge certificates that somebody uploaded. Cloudflare removes one when it expires.

use super::{Draft, Entries, Json, NAMES, Paged, SSL_OF_ZONE, Shape, Source};
use crate::model::{Field, Kind};

pub(super) static SOURCE: Source = Source {
    endpoint: "custom_certificates",
    path: "/zones/{}/custom_certificates",
    query: "",
    paged: Paged::Numbered,
    permission: SSL_OF_ZONE,
    shape: Shape::Object(&["id", "status", "issuer", "signature", "expires_on"], &[("hosts", NAMES)]),
    read,
};

fn read(entry: &Json<'_>, entries: &mut Entries) {
    let mut draft = Draft::new(Kind::Custom, entry);
    draft.take(entry, &[Field::Issuer, Field::Signature]);
    draft.hosts(entry.get("hosts"));
    draft.push_to(entries);
}
