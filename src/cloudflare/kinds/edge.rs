//! Packs of edge certificates that Cloudflare issues and renews: universal, advanced, total TLS.

use super::{
    Draft, ERRORS, Entries, Json, MAX_CERTIFICATES, NAMES, Paged, SSL_OF_ZONE, Shape, Source, expiry, first_error,
    text, time,
};
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
    let draft = || {
        let mut draft = Draft::new(Kind::Edge, pack);
        draft.set(Field::RenewedBy, "cloudflare");
        draft.set(Field::Entry, text(pack, "id"));
        draft.set(Field::Issuer, text(pack, "certificate_authority"));
        draft.set(Field::Problem, first_error(pack.get("validation_errors")));
        draft.hosts(pack.get("hosts"));
        draft.for_its_hosts();
        draft
    };
    let certificates = || pack.get("certificates").items().iter().filter(|item| matches!(item, Json::Object(..)));
    // A pack goes as a whole when its first certificate expires.
    let soonest = certificates().filter_map(|certificate| time(certificate.get("expires_on"))).min();
    let validity = match pack.get("validity_days") {
        Json::Integer(days @ 1..=36_500) => i64::try_from(*days).ok(),
        _ => None,
    };
    for certificate in certificates() {
        let mut draft = draft();
        draft.set(Field::Id, text(certificate, "id"));
        if let Some(issuer) = certificate.get("issuer").text() {
            draft.set(Field::Issuer, issuer);
        }
        draft.set(Field::Signature, text(certificate, "signature"));
        draft.expiry = expiry(certificate.get("expires_on"));
        // The list says how long the certificates of a pack are valid, and not when they were issued.
        draft.not_before = match (draft.expiry, validity) {
            (Expiry::At(expires), Some(days)) => Some(expires - days * SECONDS_PER_DAY),
            _ => None,
        };
        draft.set(Field::Rank, soonest.map(|time| time.to_string()).unwrap_or_default());
        draft.push_to(entries);
    }
    if certificates().next().is_none() {
        let mut draft = draft();
        draft.expiry = Expiry::NoCertificate;
        draft.push_to(entries);
    }
}
