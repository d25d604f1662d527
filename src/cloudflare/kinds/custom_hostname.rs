//! Certificates of custom host names (SSL for `SaaS`): issued by Cloudflare, or uploaded.

use super::{Draft, Entries, Source, expiry, page, text, time};
use crate::{
    cloudflare::{
        lenient::{Json, Shape},
        paging::Paged,
    },
    model::{Expiry, Field, Kind},
};

pub(super) static SOURCE: Source = Source {
    endpoint: "custom_hostnames",
    path: "/zones/{}/custom_hostnames",
    query: "",
    paged: Paged::Numbered,
    permission: super::SSL_OF_ZONE,
    shape: Shape::Object(&[
        ("id", Shape::Scalar),
        ("hostname", Shape::Scalar),
        (
            "ssl",
            Shape::Object(&[
                ("id", Shape::Scalar),
                ("status", Shape::Scalar),
                ("hosts", super::NAMES),
                ("certificate_authority", Shape::Scalar),
                ("issuer", Shape::Scalar),
                ("signature", Shape::Scalar),
                ("expires_on", Shape::Scalar),
                ("validation_errors", super::ERRORS),
                (
                    "certificates",
                    Shape::List(
                        super::MAX_CERTIFICATES,
                        &Shape::Object(&[
                            ("id", Shape::Scalar),
                            ("issuer", Shape::Scalar),
                            ("serial_number", Shape::Scalar),
                            ("signature", Shape::Scalar),
                            ("fingerprint_sha256", Shape::Scalar),
                            ("issued_on", Shape::Scalar),
                            ("expires_on", Shape::Scalar),
                        ]),
                    ),
                ),
            ]),
        ),
    ]),
    read,
    read_page: |body| page(body, &SOURCE),
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
        draft.set(Field::Problem, super::first_error(ssl.get("validation_errors")));
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
