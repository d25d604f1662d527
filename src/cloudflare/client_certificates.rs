//! An entry of the listing of client certificates (`/zones/{zone_id}/client_certificates`).

use super::{
    date,
    envelope::Entry,
    lenient::{Json, Shape},
};
use crate::model::{Certificate, Expiry, Field, Interner, Status};

/// What is shown of an entry. Certificate and signing request, which are most of it, are passed over.
pub(super) const ENTRY: Entry = Entry {
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
    certificate,
};

fn certificate(entry: &Json<'_>, interner: &mut Interner) -> Certificate {
    let texts = Field::ALL.map(|field| {
        let value = match field {
            Field::Id => entry.get("id"),
            Field::Issuer => entry.get("certificate_authority").get("name"),
            field => entry.get(field.label()),
        };
        value.text().unwrap_or_default()
    });
    Certificate {
        texts: interner.texts(&texts),
        status: entry.get("status").text().and_then(Status::from_label).unwrap_or(Status::Unknown),
        expiry: expiry(entry.get("expires_on")),
        not_before: match expiry(entry.get("issued_on")) {
            Expiry::At(time) => Some(time),
            Expiry::Missing | Expiry::Invalid => None,
        },
    }
}

fn expiry(date: &Json<'_>) -> Expiry {
    match date {
        Json::Absent => Expiry::Missing,
        Json::Text(text) => date::parse(text),
        _ => Expiry::Invalid,
    }
}
