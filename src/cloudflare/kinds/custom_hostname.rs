//! Certificates of custom host names (SSL for `SaaS`): issued by Cloudflare, or uploaded.

use super::{
    Draft, ERRORS, Entries, Json, MAX_CERTIFICATES, NAMES, Paged, SSL_OF_ZONE, Shape, Source, expiry, first_error,
    text, time,
};
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
    let draft = || {
        let mut draft = Draft::new(Kind::CustomHostname, entry);
        draft.status = Kind::CustomHostname.status(text(ssl, "status"));
        draft.set(Field::Entry, text(entry, "id"));
        draft.set(Field::CommonName, text(entry, "hostname"));
        draft.set(Field::RenewedBy, "cloudflare");
        draft.set(Field::Issuer, text(ssl, "certificate_authority"));
        draft.set(Field::Problem, first_error(ssl.get("validation_errors")));
        draft.hosts(ssl.get("hosts"));
        draft.complete(Field::Hosts, text(entry, "hostname"));
        draft
    };
    let certificates = || ssl.get("certificates").items().iter().filter(|item| matches!(item, Json::Object(..)));
    for certificate in certificates() {
        let mut draft = draft();
        draft.take(certificate, &[Field::Issuer, Field::SerialNumber, Field::Signature, Field::FingerprintSha256]);
        draft.set(Field::Id, text(certificate, "id"));
        draft.expiry = expiry(certificate.get("expires_on"));
        draft.not_before = time(certificate.get("issued_on"));
        draft.push_to(entries);
    }
    if certificates().next().is_none() {
        let mut draft = draft();
        draft.expiry = Expiry::NoCertificate;
        // An uploaded one has its date beside the list.
        if !matches!(ssl.get("expires_on"), Json::Absent) {
            draft.expiry = expiry(ssl.get("expires_on"));
            draft.set(Field::Id, text(ssl, "id"));
            draft.set(Field::RenewedBy, "owner");
            draft.take(ssl, &[Field::Issuer, Field::Signature]);
        }
        draft.push_to(entries);
    }
}
