//! Edge certificates that somebody uploaded. Cloudflare removes one when it expires.

use super::{Draft, Entries, Source, page};
use crate::{
    cloudflare::{
        lenient::{Json, Shape},
        paging::Paged,
    },
    model::{Field, Kind},
};

pub(super) static SOURCE: Source = Source {
    endpoint: "custom_certificates",
    path: "/zones/{}/custom_certificates",
    query: "",
    paged: Paged::Numbered,
    permission: super::SSL_OF_ZONE,
    shape: Shape::Object(&[
        ("id", Shape::Scalar),
        ("status", Shape::Scalar),
        ("hosts", super::NAMES),
        ("issuer", Shape::Scalar),
        ("signature", Shape::Scalar),
        ("expires_on", Shape::Scalar),
    ]),
    read,
    read_page: |body| page(body, &SOURCE),
};

fn read(entry: &Json<'_>, entries: &mut Entries) {
    let mut draft = Draft::new(Kind::Custom, entry);
    draft.take(entry, &[Field::Issuer, Field::Signature]);
    draft.hosts(entry.get("hosts"));
    draft.push_to(entries);
}
