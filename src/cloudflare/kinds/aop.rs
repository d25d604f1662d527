//! Certificates by which Cloudflare authenticates to an origin: those of a zone, and those of single host names.
//!
//! They stay active when they expire, and origins refuse everything then.

use super::{Draft, Json, Paged, SSL_OF_ZONE, Shape, Source, text, time};
use crate::model::{Field, Kind, Status};

const SHAPE: Shape<'_> = Shape::Object(
    &["id", "status", "issuer", "serial_number", "signature", "certificate", "uploaded_on", "expires_on"],
    &[],
);

pub(super) static ZONE: Source = Source {
    endpoint: "origin_tls_client_auth",
    path: "/zones/{}/origin_tls_client_auth",
    query: "",
    paged: Paged::Whole,
    permission: SSL_OF_ZONE,
    shape: SHAPE,
    read: |entry, entries| {
        let mut draft = draft(Kind::AopZone, entry);
        // Of several, the one that was deployed last is used, whatever its expiry. What is not active is on its way.
        if draft.status == Status::Active
            && let Some(uploaded) = time(entry.get("uploaded_on"))
        {
            draft.set(Field::Purpose, "zone");
            draft.set(Field::Rank, uploaded.to_string());
        }
        draft.push_to(entries);
    },
};

pub(super) static HOSTNAME: Source = Source {
    endpoint: "origin_tls_client_auth_hostnames",
    path: "/zones/{}/origin_tls_client_auth/hostnames/certificates",
    query: "",
    paged: Paged::Whole,
    permission: SSL_OF_ZONE,
    shape: SHAPE,
    read: |entry, entries| draft(Kind::AopHostname, entry).push_to(entries),
};

fn draft<'a>(kind: Kind, entry: &'a Json<'a>) -> Draft<'a> {
    let mut draft = Draft::new(kind, entry);
    draft.take(entry, &[Field::Issuer, Field::SerialNumber, Field::Signature]);
    draft.read_pem(text(entry, "certificate"));
    draft
}
