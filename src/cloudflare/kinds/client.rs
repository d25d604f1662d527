//! Client certificates of API Shield.

use super::{Entries, SSL_OF_ZONE, Source, expiry, page, time};
use crate::{
    cloudflare::{
        lenient::{Json, Shape},
        paging::Paged,
    },
    model::{Field, Kind},
};

/// Certificate and signing request, which are most of an entry, are passed over.
pub(super) static SOURCE: Source = Source {
    endpoint: "client_certificates",
    path: "/zones/{}/client_certificates",
    query: "status=all",
    paged: Paged::Numbered,
    permission: SSL_OF_ZONE,
    shape: Shape::Object(&[
        ("id", Shape::Scalar),
        ("common_name", Shape::Scalar),
        ("status", Shape::Scalar),
        ("expires_on", Shape::Scalar),
        ("issued_on", Shape::Scalar),
        ("serial_number", Shape::Scalar),
        ("fingerprint_sha256", Shape::Scalar),
        ("ski", Shape::Scalar),
        ("certificate_authority", Shape::Object(&[("name", Shape::Scalar)])),
        ("signature", Shape::Scalar),
        ("organization", Shape::Scalar),
        ("organizational_unit", Shape::Scalar),
        ("country", Shape::Scalar),
        ("state", Shape::Scalar),
        ("location", Shape::Scalar),
    ]),
    read,
    read_page: |body| page(body, &SOURCE),
};

fn read(entry: &Json<'_>, entries: &mut Entries) {
    let texts = Field::ALL.map(|field| {
        let value = match field {
            Field::Id => entry.get("id"),
            Field::Issuer => entry.get("certificate_authority").get("name"),
            field => entry.get(field.label()),
        };
        value.text().unwrap_or_default().into()
    });
    let status = Kind::Client.status(entry.get("status").text().unwrap_or_default());
    entries.push(&texts, status, expiry(entry.get("expires_on")), time(entry.get("issued_on")));
}
