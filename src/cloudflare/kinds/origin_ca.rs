//! Certificates of Cloudflare's Origin CA. Each zone lists those that hold a host name of it, so one can be in several.

use super::{Draft, Entries, SSL_OF_ZONE, Source, expiry, page, text};
use crate::{
    cloudflare::{
        lenient::{Json, Shape},
        paging::Paged,
    },
    model::{Expiry, Field, Kind, Status},
};

pub(super) static SOURCE: Source = Source {
    endpoint: "origin_ca_certificates",
    path: "/certificates",
    query: "zone_id={}",
    paged: Paged::NumberedOrWhole,
    permission: SSL_OF_ZONE,
    shape: Shape::Object(&[
        ("id", Shape::Scalar),
        ("hostnames", super::NAMES),
        ("expires_on", Shape::Scalar),
        ("revoked_at", Shape::Scalar),
        ("certificate", Shape::Scalar),
    ]),
    read,
    read_page: |body| page(body, &SOURCE),
};

fn read(entry: &Json<'_>, entries: &mut Entries) {
    let mut draft = Draft::new(Kind::OriginCa, entry);
    // The id is the serial number; there is no word for the status.
    if let Some(id) = entry.get("id").integer::<i128>() {
        draft.set(Field::Id, id.to_string());
    }
    let revoked = entry.get("revoked_at");
    let is_revoked = revoked.text().is_some() && expiry(revoked) != Expiry::Missing;
    draft.status = if is_revoked { Status::Revoked } else { Status::Active };
    let serial = draft.texts[Field::Id as usize].clone();
    draft.set(Field::SerialNumber, serial);
    draft.hosts(entry.get("hostnames"));
    draft.read_pem(text(entry, "certificate"));
    draft.for_its_hosts();
    draft.push_to(entries);
}
