//! Certificates of Cloudflare's Origin CA. Each zone lists those that hold a host name of it, so one can be in several.

use super::{Draft, Entries, Json, NAMES, Paged, SSL_OF_ZONE, Shape, Source, expiry, text};
use crate::model::{Expiry, Field, Kind, Status};

pub(super) static SOURCE: Source = Source {
    endpoint: "origin_ca_certificates",
    path: "/certificates",
    query: "zone_id={}",
    paged: Paged::NumberedOrWhole,
    permission: SSL_OF_ZONE,
    shape: Shape::Object(&["id", "expires_on", "revoked_at", "certificate"], &[("hostnames", NAMES)]),
    read,
};

fn read(entry: &Json<'_>, entries: &mut Entries) {
    let mut draft = Draft::new(Kind::OriginCa, entry);
    // The id is the serial number; there is no word for the status.
    if let Some(id) = entry.get("id").integer::<i128>() {
        draft.set(Field::Id, id.to_string());
    }
    let revoked = entry.get("revoked_at");
    draft.active_by_id();
    if revoked.text().is_some() && expiry(revoked) != Expiry::Missing {
        draft.status = Status::Revoked;
    }
    let serial = draft.texts[Field::Id as usize].clone();
    draft.set(Field::SerialNumber, serial);
    draft.hosts(entry.get("hostnames"));
    draft.read_pem(text(entry, "certificate"));
    draft.for_its_hosts();
    draft.push_to(entries);
}
