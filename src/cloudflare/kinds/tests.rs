//! What is read of the bodies that Cloudflare is known to send, kind by kind.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};

use super::*;
use crate::{
    cloudflare::envelope::{self, Body},
    model::Listing,
};

/// A good page with these entries.
fn listing(kind: Kind, entries: &Value) -> Listing {
    let body = json!({"success": true, "errors": [], "messages": [], "result": entries});
    match envelope::page(body.to_string().as_bytes(), source(kind)) {
        Body::Good(page) => Listing::of(kind, page.items),
        other => panic!("{other:?}"),
    }
}

/// What matters of each certificate, in the order of the listing: id, common name, status, days since 2026 began to the
/// expiry, who renews it, and whether it is superseded.
fn rows(listing: &Listing) -> Vec<String> {
    let row = |certificate: &Certificate| {
        let expiry = match certificate.expiry {
            Expiry::At(time) => ((time - 1_767_225_600) / 86_400).to_string(),
            other => format!("{other:?}"),
        };
        let mut row = format!(
            "{} {} {} {expiry} {}",
            certificate.id(),
            certificate.common_name().replace(' ', "_"),
            certificate.status.label(),
            &certificate.texts[Field::RenewedBy]
        );
        if listing.is_superseded(certificate) {
            row.push_str(" superseded");
        }
        row
    };
    listing.certificates().iter().map(row).collect()
}

fn counts(listing: &Listing) -> Vec<(&'static str, u64)> {
    let all = listing.kind().statuses().iter().map(|&status| (status.label(), listing.count(status)));
    all.filter(|&(_, count)| count > 0).collect()
}

/// A certificate in PEM with this subject, good from the beginning of 2025.
fn pem_of(key: &KeyPair, common_name: &str, until: i32) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.distinguished_name.push(DnType::OrganizationName, "Example");
    params.not_before = rcgen::date_time_ymd(2025, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    params.serial_number = Some(65_536_u64.into());
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(key).unwrap().pem()
}

#[test]
fn packs_hold_several_certificates_or_none() {
    let pack = |id: &str, status: &str, hosts: &[&str], certificates: Value| {
        json!({"id": id, "type": "advanced", "hosts": hosts, "status": status,
            "certificate_authority": "google", "validity_days": 90, "certificates": certificates,
            "validation_errors": [{"message": "SERVFAIL looking up CAA"}]})
    };
    let certificate =
        |id: &str, expires_on: &str| json!({"id": id, "issuer": "GoogleTrustServices", "expires_on": expires_on});
    let two = json!([certificate("rsa", "2026-01-11T00:00:00.000000Z"), certificate("ecdsa", "2026-01-12T00:00:00Z")]);
    let listing = listing(
        Kind::Edge,
        &json!([
            pack("p1", "active", &["shop.example", "*.shop.example"], two),
            pack("p2", "pending_validation", &["api.example"], json!([])),
            pack("p3", "pending_validation", &["old.example"], json!([certificate("serving", "2026-01-03T00:00:00Z")])),
            // The same host names in another order, and it lasts longer.
            pack("p4", "active", &["*.shop.example", "shop.example"], json!([certificate("later", "2026-03-02T00:00:00Z")])),
            pack("p5", "backup_issued", &["shop.example", "*.shop.example"], json!([certificate("backup", "2026-04-01T00:00:00Z")])),
            {"id": "p6", "status": "deleted"},
            {"id": "p7", "type": "sni_custom", "status": "active", "certificates": two_of("x")},
            {"id": "p8", "type": "managed_hostname", "status": "active", "certificates": two_of("y")},
            {"id": "p9", "type": "universal", "status": "a word of tomorrow", "certificates": two_of("z")},
        ]),
    );
    assert_eq!(
        rows(&listing),
        [
            "serving old.example pending_validation 2 cloudflare",
            // Neither takes the place of the other: they are of one pack.
            "rsa shop.example active 10 cloudflare superseded",
            "z-1  unknown 10 cloudflare",
            "z-2  unknown 10 cloudflare",
            "ecdsa shop.example active 11 cloudflare superseded",
            "later *.shop.example active 60 cloudflare",
            "backup shop.example backup_issued 90 cloudflare",
            "p2 api.example pending_validation NoCertificate cloudflare",
            "p6  deleted NoCertificate cloudflare",
        ]
    );
    let issued = |id| listing.certificates().iter().find(|certificate| certificate.id() == id).unwrap().not_before;
    assert_eq!((issued("rsa"), issued("z-1")), (Some(1_760_313_600), None));
    // Entries are counted, and not what is in them.
    let expected = [("pending_validation", 2), ("active", 2), ("deleted", 1), ("backup_issued", 1), ("unknown", 1)];
    assert_eq!(counts(&listing), expected);
    assert_eq!(listing.expiring(1_767_225_600, 30), 5);
    let pending = listing.certificates().iter().find(|certificate| certificate.id() == "p2").unwrap();
    assert_eq!(&pending.texts[Field::Problem], "SERVFAIL looking up CAA");
    assert_eq!(pending.rejection(), None);
}

fn two_of(id: &str) -> Value {
    let certificate = |n: u8| json!({"id": format!("{id}-{n}"), "expires_on": "2026-01-11T00:00:00Z"});
    json!([certificate(1), certificate(2)])
}

#[test]
fn origin_ca_certificates_are_revoked_by_a_date_and_expire_at_one_that_go_wrote() {
    let key = KeyPair::generate().unwrap();
    let listing = listing(
        Kind::OriginCa,
        &json!([
            {"id": "328578533902268680212849205732770752308931942346", "hostnames": ["shop.example", "*.shop.example"],
             "expires_on": "2026-02-03 06:27:00 +0000 UTC", "certificate": pem_of(&key, "CloudFlare Origin Certificate", 2026)},
            {"id": "71", "hostnames": ["old.example"], "expires_on": "2040-01-01T00:00:00Z", "revoked_at": "2026-01-05T10:11:12Z"},
            {"id": 72, "hostnames": ["*.shop.example", "shop.example"], "expires_on": "2027-01-01T00:00:00Z", "revoked_at": null},
            {"id": "73", "hostnames": null, "expires_on": "2027-01-01T00:00:00Z", "revoked_at": "0001-01-01T00:00:00Z", "certificate": "none"},
        ]),
    );
    assert_eq!(
        rows(&listing),
        [
            "328578533902268680212849205732770752308931942346 shop.example active 33 owner superseded",
            "72 *.shop.example active 365 owner",
            "73  active 365 owner",
            "71 old.example revoked 5113 owner",
        ]
    );
    let [first, ..] = listing.certificates() else { panic!("{listing:?}") };
    assert_eq!(first.not_before, Some(1_735_689_600));
    assert_eq!(first.texts[Field::FingerprintSha256].len(), 64);
    assert!(first.texts.hosts().eq(["shop.example", "*.shop.example"]));
}

#[test]
fn origin_pull_certificates_stay_active_and_the_last_one_uploaded_is_in_use() {
    let entries = json!([
        {"id": "long", "status": "active", "issuer": "CN=Example", "serial_number": "31", "uploaded_on": "2025-05-29T20:30:59.056429Z", "expires_on": "2030-01-01T00:00:00Z"},
        {"id": "latest", "status": "active", "uploaded_on": "2025-06-01T00:00:00Z", "expires_on": "2025-12-31T00:00:00Z", "private_key": "simulated private key"},
        {"id": "going", "status": "pending_deletion", "uploaded_on": "2025-07-01T00:00:00Z", "expires_on": "2030-01-01T00:00:00Z"},
        {"id": "coming", "status": "pending_deployment", "uploaded_on": "2025-05-31T00:00:00Z", "expires_on": "2026-01-02T00:00:00Z"},
    ]);
    let listing_of = |kind| listing(kind, &entries);
    let zone = listing_of(Kind::AopZone);
    let expected = [
        "latest  active -1 owner",
        "coming  pending_deployment 1 owner",
        "going  pending_deletion 1461 owner",
        "long  active 1461 owner superseded",
    ];
    assert_eq!(rows(&zone), expected);
    assert_eq!(zone.expired(1_767_225_600), 1);
    assert!(!format!("{zone:?}").contains("private"));
    // Which of those for host names is in use is not in this list.
    assert!(rows(&listing_of(Kind::AopHostname)).iter().all(|row| !row.ends_with("superseded")));
}

#[test]
fn custom_host_names_have_their_certificates_in_ssl() {
    let listing = listing(
        Kind::CustomHostname,
        &json!([
            {"id": "h1", "hostname": "app.customer.example", "status": "active", "ssl": {"id": "s1", "status": "active",
             "hosts": ["app.customer.example", "*.app.customer.example"], "certificate_authority": "google", "custom_key": "secret",
             "certificates": [{"id": "c1", "issuer": "GoogleTrustServices", "serial_number": "5", "issued_on": "2025-10-22T00:00:00Z", "expires_on": "2026-01-20T23:59:59Z", "fingerprint_sha256": "ab"}]}},
            {"id": "h2", "hostname": "bare.customer.example", "status": "pending", "ssl": null},
            {"id": "h3", "hostname": "odd.customer.example", "ssl": {"id": "s3", "status": ""}},
            {"id": "h4", "hostname": "own.customer.example", "ssl": {"id": "s4", "status": "active", "expires_on": "2026-02-01T00:00:00Z"}},
            {"id": "h5", "hostname": "late.customer.example", "ssl": {"id": "s5", "status": "validation_timed_out", "validation_errors": [{"message": "no DCV record"}]}},
        ]),
    );
    assert_eq!(
        rows(&listing),
        [
            "c1 app.customer.example active 19 cloudflare",
            "s4 own.customer.example active 31 owner",
            "h2 bare.customer.example unknown NoCertificate cloudflare",
            "h3 odd.customer.example unknown NoCertificate cloudflare",
            "h5 late.customer.example validation_timed_out NoCertificate cloudflare",
        ]
    );
    assert_eq!(counts(&listing), [("active", 2), ("validation_timed_out", 1), ("unknown", 2)]);
    assert_eq!(listing.certificates()[0].not_before, Some(1_761_091_200));
    assert!(!format!("{listing:?}").contains("secret"));
}

#[test]
fn authorities_with_one_key_and_subject_take_each_others_place() {
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let ca = |id: &str, pem: String, year: i32| {
        json!({"id": id, "name": "pos fleet", "type": "custom", "status": "active", "issuer": "CN=POS Root,O=Example",
            "serial_number": "5507", "certificates": pem, "certificate": pem, "expires_on": format!("{year}-01-01T00:00:00Z")})
    };
    let entries = json!([
        ca("old", pem_of(&key, "POS Root", 2027), 2027),
        // A chain: the first certificate is the one it is about.
        ca("new", pem_of(&key, "POS Root", 2029) + &pem_of(&other, "Above", 2035), 2029),
        ca("side by side", pem_of(&other, "POS Root", 2026), 2026),
        // The same key and organization, under another name.
        ca("renamed", pem_of(&key, "Completely Other Root", 2031), 2031),
        {"id": "gateway", "type": "gateway_managed", "expires_on": "2026-01-01T00:00:00Z"},
    ]);
    let expected = [
        "side by side pos_fleet active 0 owner",
        "old pos_fleet active 365 owner superseded",
        "new pos_fleet active 1096 owner",
        "renamed pos_fleet active 1826 owner",
    ];
    assert_eq!(rows(&listing(Kind::MtlsCa, &entries)), expected);
    // A trust store has no names, and does not say what is of another kind.
    let store = listing(Kind::TrustStore, &entries);
    let stored = rows(&store);
    // As Cloudflare writes it where it does.
    assert_eq!(&store.certificates()[2].texts[Field::SerialNumber], "65536");
    assert_eq!(stored[2..4], ["old POS_Root active 365 owner superseded", "new POS_Root active 1096 owner"]);
}

#[test]
fn of_gateways_authorities_one_is_in_use() {
    let ca = |id: &str, in_use: bool, status: &str| {
        json!({"id": id, "type": "gateway_managed", "in_use": in_use, "binding_status": status, "issuer_org": "Cloudflare, Inc.",
            "issuer_raw": "C=US, O=Cloudflare, CN=Gateway CA 7", "fingerprint": "AF:69", "uploaded_on": "0001-01-01T00:00:00Z",
            "created_at": "2024-09-04T22:52:30.310385Z", "expires_on": "2026-01-02T00:00:00Z"})
    };
    let listing = listing(
        Kind::GatewayCa,
        &json!([ca("idle", false, "available"), ca("used", true, "available"), ca("off", false, "inactive")]),
    );
    assert_eq!(
        rows(&listing),
        [
            "idle Gateway_CA_7 available 1 owner superseded",
            "off Gateway_CA_7 inactive 1 owner superseded",
            "used Gateway_CA_7 available 1 owner",
        ]
    );
    let [first, ..] = listing.certificates() else { panic!("{listing:?}") };
    assert_eq!((&first.texts[Field::FingerprintSha256], first.not_before), ("af69", None));
}

#[test]
fn custom_and_access_certificates_have_no_date_of_issue() {
    let custom = listing(
        Kind::Custom,
        &json!([{"id": "c", "hosts": ["shop.example"], "issuer": "GlobalSign", "signature": "SHA256WithRSA", "status": "holding_deployment",
            "uploaded_on": "2025-01-01T00:00:00Z", "expires_on": "2026-01-02T00:00:00Z"}]),
    );
    assert_eq!(rows(&custom), ["c shop.example holding_deployment 1 owner"]);
    let access = listing(
        Kind::AccessCa,
        &json!([{"id": "a", "name": "Allow devs", "associated_hostnames": null, "fingerprint": "MD5 Fingerprint=2C:1E",
            "created_at": "2025-03-20T15:52:00Z", "expires_on": "2026-01-02T00:00:00Z"}]),
    );
    assert_eq!(rows(&access), ["a Allow_devs active 1 owner"]);
    assert!([custom, access].iter().all(|listing| listing.certificates()[0].not_before.is_none()));
}

#[test]
fn an_odd_entry_of_any_kind_is_counted_and_hides_no_other() {
    for kind in Kind::ALL {
        for odd in [
            json!(null),
            json!(7),
            json!("text"),
            json!([]),
            json!({}),
            json!({"ssl": 1, "certificates": "x", "hosts": {}}),
        ] {
            let page = listing(kind, &json!([odd, {"id": "good", "expires_on": "2026-01-02T00:00:00Z"}]));
            let total: u64 = kind.statuses().iter().map(|&status| page.count(status)).sum();
            assert_eq!(total, 2, "{kind:?}: {odd}");
            assert!(page.count(Status::Unknown) >= 1, "{kind:?}: {odd}");
            assert!(page.certificates().iter().any(|certificate| certificate.entry_id() == "good"), "{kind:?}: {odd}");
        }
    }
}

#[test]
fn locations_hold_the_id_and_ask_for_pages_where_there_are_some() {
    let id = "023e105f4ecef8ad9ca31a8372d0c353".parse().unwrap();
    let at = |kind, number| {
        let (path, query) = source(kind).location(&id, number);
        format!("{path}?{query}")
    };
    assert_eq!(at(Kind::Client, 2), format!("/zones/{id}/client_certificates?status=all&per_page=50&page=2"));
    assert_eq!(at(Kind::OriginCa, 1), format!("/certificates?zone_id={id}&per_page=50&page=1"));
    assert_eq!(at(Kind::Custom, 1), format!("/zones/{id}/custom_certificates?per_page=50&page=1"));
    assert_eq!(at(Kind::AopZone, 1), format!("/zones/{id}/origin_tls_client_auth?"));
    assert_eq!(at(Kind::MtlsCa, 1), format!("/accounts/{id}/mtls_certificates?type=custom"));
}

#[test]
fn a_certificate_that_cannot_be_read_costs_nothing_but_its_details() {
    for pem in
        ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "\u{1f980}", "-----BEGIN CERTIFICATE-----"]
    {
        assert!(Pem::read(pem).is_none(), "{pem}");
        let entry = json!([{"id": "a", "status": "active", "certificate": pem, "expires_on": "2026-01-02T00:00:00Z"}]);
        assert_eq!(rows(&listing(Kind::TrustStore, &entry)), ["a  active 1 owner"]);
    }
}
