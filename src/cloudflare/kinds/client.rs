//! Client certificates of API Shield.

use super::{Entries, Json, Paged, SSL_OF_ZONE, Shape, Source, expiry, time};
use crate::model::{Field, Kind};

/// Certificate and signing request, which are most of an entry, are passed over.
pub(super) static SOURCE: Source = Source {
    endpoint: "client_certificates",
    path: "/zones/{}/client_certificates",
    query: "status=all",
    paged: Paged::Numbered,
    permission: SSL_OF_ZONE,
    shape: Shape::Object(
        &[
            "id",
            "common_name",
            "status",
            "expires_on",
            "issued_on",
            "serial_number",
            "fingerprint_sha256",
            "ski",
            "signature",
            "organization",
            "organizational_unit",
            "country",
            "state",
            "location",
        ],
        &[("certificate_authority", Shape::Object(&["name"], &[]))],
    ),
    read,
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
