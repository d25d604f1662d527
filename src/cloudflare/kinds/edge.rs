//! Packs of edge certificates that Cloudflare issues and renews: universal, advanced, total TLS.

use super::{Draft, ERRORS, Entries, Json, MAX_CERTIFICATES, NAMES, Paged, SSL_OF_ZONE, Shape, Source, text};
use crate::model::{Expiry, Field, Kind, SECONDS_PER_DAY};

pub(super) static SOURCE: Source = Source {
    endpoint: "certificate_packs",
    path: "/zones/{}/ssl/certificate_packs",
    // Without it, only packs that are active are listed.
    query: "status=all",
    paged: Paged::Numbered,
    permission: SSL_OF_ZONE,
    shape: Shape::Object(
        &["id", "type", "status", "certificate_authority", "validity_days"],
        &[
            ("hosts", NAMES),
            ("validation_errors", ERRORS),
            (
                "certificates",
                Shape::List(MAX_CERTIFICATES, &Shape::Object(&["id", "issuer", "signature", "expires_on"], &[])),
            ),
        ],
    ),
    read,
};

/// Packs of uploaded certificates and of custom host names: kinds of their own.
const OTHER_KINDS: [&str; 5] = ["sni_custom", "legacy_custom", "keyless", "mh_custom", "managed_hostname"];

fn read(pack: &Json<'_>, entries: &mut Entries) {
    if OTHER_KINDS.contains(&text(pack, "type")) {
        return entries.skip(pack);
    }
    let drafts = Draft::of_order(Kind::Edge, pack, pack);
    // A pack goes as a whole when its first certificate expires.
    let dates = drafts.iter().filter_map(|draft| if let Expiry::At(time) = draft.expiry { Some(time) } else { None });
    let soonest = dates.min().map(|time| time.to_string()).unwrap_or_default();
    // The list says how long the certificates of a pack are valid, and not when they were issued.
    let validity = match pack.get("validity_days") {
        Json::Integer(days @ 1..=36_500) => i64::try_from(*days).ok(),
        _ => None,
    };
    for mut draft in drafts {
        draft.not_before = match (draft.expiry, validity) {
            (Expiry::At(expires), Some(days)) => Some(expires - days * SECONDS_PER_DAY),
            _ => None,
        };
        draft.for_its_hosts();
        draft.set(Field::Rank, soonest.clone());
        draft.push_to(entries);
    }
}
