//! What the demo shows of the other listings.

use serde_json::{Value, json};

use crate::{Sibling, World};

const NOW: &str = "2026-11-28T12:34:56Z";

fn demo(zones: usize) -> World {
    World::demo(NOW.parse().unwrap(), zones, 60)
}

/// All entries of a listing, whatever zone or account they belong to.
fn entries(world: &World, endpoint: Sibling) -> Vec<Value> {
    let listings = world.listings.iter().filter(|listing| listing.endpoint == endpoint);
    listings.flat_map(|listing| listing.entries.clone()).collect()
}

/// The codes of its refusals.
fn refusals(world: &World, endpoint: Sibling) -> Vec<i64> {
    let listings = world.listings.iter().filter(|listing| listing.endpoint == endpoint);
    listings.filter_map(|listing| listing.refusal.as_ref()?.errors[0]["code"].as_i64()).collect()
}

#[test]
fn every_listing_has_entries_in_a_demo_of_any_size() {
    for zones in [1, 2, 3, 5, 40] {
        let world = demo(zones);
        for endpoint in Sibling::ALL {
            assert!(!entries(&world, endpoint).is_empty(), "{endpoint:?} with {zones} zones");
        }
        for listing in &world.listings {
            assert!(listing.refusal.is_none() || listing.entries.is_empty(), "{listing:?}");
        }
    }
    assert!(demo(0).zones.is_empty());
}

#[test]
fn ids_are_different_within_a_listing_and_the_same_in_every_run() {
    let world = demo(40);
    assert_eq!(entries(&world, Sibling::OriginCa), entries(&demo(40), Sibling::OriginCa));
    for endpoint in Sibling::ALL {
        let mut ids: Vec<String> = entries(&world, endpoint).iter().map(|entry| entry["id"].to_string()).collect();
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count, "{endpoint:?}");
    }
}

#[test]
fn plans_leave_something_out() {
    let world = demo(5);
    assert_eq!(refusals(&world, Sibling::TrustStore), [1450]);
    assert_eq!(refusals(&world, Sibling::CustomCertificates), [1011]);
    assert_eq!(refusals(&world, Sibling::CustomHostnames), [1404]);
    assert_eq!(refusals(&world, Sibling::AccessCertificates), [9999]);
    assert_ne!(world.zones[2].account_id, world.zones[0].account_id);
}

#[test]
fn packs_wait_for_validation_back_up_others_and_have_several_dates() {
    let packs = entries(&demo(5), Sibling::CertificatePacks);
    let has = |check: fn(&Value) -> bool| packs.iter().any(check);
    assert!(has(|pack| pack["certificates"] == json!([]) && pack["validation_errors"][0]["message"].is_string()));
    assert!(has(|pack| pack["status"] == "backup_issued"));
    assert!(has(|pack| pack["type"] == "sni_custom"));
    assert!(has(|pack| pack["certificates"][0]["expires_on"] != pack["certificates"][1]["expires_on"]
        && pack["certificates"][1]["expires_on"].is_string()));
}

#[test]
fn origin_ca_certificates_have_odd_dates_are_revoked_and_belong_to_two_zones() {
    let world = demo(5);
    let certificates = entries(&world, Sibling::OriginCa);
    let has = |check: fn(&Value) -> bool| certificates.iter().any(check);
    assert!(has(|entry| entry["expires_on"].as_str().unwrap().ends_with(" +0000 UTC")));
    assert!(has(|entry| entry["revoked_at"] == "2026-05-12T12:34:00Z"));
    assert!(has(|entry| entry["hostnames"] == json!(["gateway.shop.example", "gateway.iot.example"])));
}

#[test]
fn the_other_zone_listings_have_what_is_of_interest_in_each() {
    let world = demo(5);
    let has = |endpoint, check: fn(&Value) -> bool| entries(&world, endpoint).iter().any(check);
    assert!(has(Sibling::CustomCertificates, |entry| entry["expires_on"].as_str().unwrap() < "2026-12-04"));
    assert!(
        has(Sibling::OriginPull, |entry| entry["expires_on"].as_str().unwrap() < NOW && entry["status"] == "active")
    );
    assert!(has(Sibling::OriginPullHostnames, |entry| entry["expires_on"].as_str().unwrap() < "2026-12-20"));
    assert!(has(Sibling::TrustStore, |entry| entry["expires_on"].as_str().unwrap() < "2027-02-01"));
    assert!(has(Sibling::CustomHostnames, |entry| entry["ssl"].is_null()));
    assert!(has(Sibling::CustomHostnames, |entry| entry["ssl"]["status"] == ""));
    assert!(has(Sibling::CustomHostnames, |entry| entry["ssl"]["expires_on"].is_string()));
}

#[test]
fn account_listings_have_what_is_of_interest_in_each() {
    let world = demo(5);
    let gateway = entries(&world, Sibling::GatewayCertificates);
    assert_eq!(gateway.iter().map(|entry| entry["in_use"] == true).collect::<Vec<_>>(), [true, false]);
    assert!(gateway.iter().all(|entry| entry["uploaded_on"] == "0001-01-01T00:00:00Z"));
    let mtls = entries(&world, Sibling::MtlsCertificates);
    assert!(mtls.iter().any(|entry| entry["type"] == "gateway_managed" && entry["id"] == gateway[0]["id"]));
    assert!(mtls[0]["expires_on"].as_str().unwrap().starts_with("2027-02-2"));
    assert!(entries(&world, Sibling::AccessCertificates).iter().any(|entry| entry["associated_hostnames"].is_null()));
}
