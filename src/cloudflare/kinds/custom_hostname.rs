//! Certificates of custom host names (SSL for `SaaS`): issued by Cloudflare, or uploaded.

use super::{Draft, ERRORS, Entries, Json, MAX_CERTIFICATES, NAMES, Paged, SSL_OF_ZONE, Shape, Source, expiry, text};
use crate::model::{Expiry, Field, Kind};

pub(super) static SOURCE: Source = Source {
    endpoint: "custom_hostnames",
    path: "/zones/{}/custom_hostnames",
    query: "",
    paged: Paged::Numbered,
    permission: SSL_OF_ZONE,
    shape: Shape::Object(
        &["id", "hostname"],
        &[(
            "ssl",
            Shape::Object(
                &["id", "status", "certificate_authority", "issuer", "signature", "expires_on"],
                &[
                    ("hosts", NAMES),
                    ("validation_errors", ERRORS),
                    (
                        "certificates",
                        Shape::List(
                            MAX_CERTIFICATES,
                            &Shape::Object(
                                &[
                                    "id",
                                    "issuer",
                                    "serial_number",
                                    "signature",
                                    "fingerprint_sha256",
                                    "issued_on",
                                    "expires_on",
                                ],
                                &[],
                            ),
                        ),
                    ),
                ],
            ),
        )],
    ),
    read,
};

fn read(entry: &Json<'_>, entries: &mut Entries) {
    let ssl = entry.get("ssl");
    for mut draft in Draft::of_order(Kind::CustomHostname, entry, ssl) {
        draft.complete(Field::Hosts, text(entry, "hostname"));
        // An uploaded one has its date beside the list.
        if draft.expiry == Expiry::NoCertificate && !matches!(ssl.get("expires_on"), Json::Absent) {
            draft.expiry = expiry(ssl.get("expires_on"));
            draft.set(Field::Id, text(ssl, "id"));
            draft.set(Field::RenewedBy, "owner");
            draft.take(ssl, &[Field::Issuer, Field::Signature]);
        }
        draft.push_to(entries);
    }
}
