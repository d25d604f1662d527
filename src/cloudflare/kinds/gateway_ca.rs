//! Authorities with which Gateway inspects TLS: one of them is in use.

use super::{Draft, Entries, Json, Paged, Shape, Source, text};
use crate::model::{Field, Kind};

pub(super) static SOURCE: Source = Source {
    endpoint: "gateway_certificates",
    path: "/accounts/{}/gateway/certificates",
    query: "",
    paged: Paged::Whole,
    permission: "Zero Trust: Read on this account",
    shape: Shape::Object(
        &["id", "binding_status", "in_use", "issuer_org", "issuer_raw", "fingerprint", "certificate", "expires_on"],
        &[],
    ),
    read,
};

fn read(entry: &Json<'_>, entries: &mut Entries) {
    let mut draft = Draft::new(Kind::GatewayCa, entry);
    draft.status = Kind::GatewayCa.status(text(entry, "binding_status"));
    let common_name = text(entry, "issuer_raw").split(',').find_map(|part| part.trim().strip_prefix("CN="));
    draft.set(Field::CommonName, common_name.unwrap_or_default().trim());
    draft.set(Field::Issuer, text(entry, "issuer_org"));
    // `AF:69:…` elsewhere in the metrics is `af69…`.
    draft.set(Field::FingerprintSha256, text(entry, "fingerprint").replace(':', "").to_lowercase());
    draft.read_pem(text(entry, "certificate"));
    if let Some(in_use) = entry.get("in_use").flag() {
        draft.set(Field::Purpose, "account");
        draft.set(Field::Rank, u8::from(in_use).to_string());
    }
    draft.push_to(entries);
}
