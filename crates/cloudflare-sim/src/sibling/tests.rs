//! The ten listings over real sockets: where they are, how they are paged, what they leave out and refuse.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer as _, X509Certificate, parse_x509_pem};

use crate::{
    Change, Fault, PRIVATE_KEY, Sibling, SimulatedApi, SimulatedListing, SimulatedZone, World,
    tests::{Asked, ask},
};

const ISSUED: &str = "2026-01-01T00:00:00Z";
const EXPIRES: &str = "2036-01-01T00:00:00Z";

fn date(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn entry(endpoint: Sibling, name: &str) -> Value {
    endpoint.entry(name, date(ISSUED), date(EXPIRES))
}

/// So many entries, all different.
fn entries(endpoint: Sibling, count: usize) -> Vec<Value> {
    (1..=count).map(|n| entry(endpoint, &format!("entry-{n:02}.a.example"))).collect()
}

/// A running world with one zone, where a listing holds this many entries.
struct OneListing {
    api: SimulatedApi,
    path: String,
}

impl OneListing {
    async fn of(endpoint: Sibling, entries: Vec<Value>) -> Self {
        Self::with(endpoint, |listing| listing.entries = entries).await
    }

    async fn with(endpoint: Sibling, change: impl FnOnce(&mut SimulatedListing)) -> Self {
        let mut world = World::of([SimulatedZone::new("a.example")]);
        let id = if endpoint.is_of_account() { world.accounts[0].id.clone() } else { world.zones[0].id.clone() };
        let mut listing = SimulatedListing::new(endpoint, &id, []);
        change(&mut listing);
        world.listings.push(listing);
        Self { path: endpoint.path(&id), api: SimulatedApi::start(world).await.unwrap() }
    }

    async fn ask(&self, query: &str) -> Asked {
        let separator = if self.path.contains('?') { '&' } else { '?' };
        ask(&self.api, &format!("{}{separator}{query}", self.path)).await
    }
}

#[tokio::test]
async fn a_listing_that_nothing_is_said_of_is_empty() {
    let world = World::of([SimulatedZone::new("a.example")]);
    let (zone, account) = (world.zones[0].id.clone(), world.accounts[0].id.clone());
    let api = SimulatedApi::start(world).await.unwrap();
    for endpoint in Sibling::ALL {
        let answer = ask(&api, &endpoint.path(if endpoint.is_of_account() { &account } else { &zone })).await;
        assert_eq!((answer.status, &answer.json()["result"]), (200, &json!([])), "{endpoint:?}");
    }
}

#[tokio::test]
async fn an_unknown_or_denied_zone_or_account_has_no_listing() {
    let api = SimulatedApi::start(World::of([SimulatedZone::new("a.example")])).await.unwrap();
    let (zone, account) = api.change(|world| {
        world.zones[0].denied = true;
        world.accounts[0].denied = true;
        (world.zones[0].id.clone(), world.accounts[0].id.clone())
    });
    for endpoint in Sibling::ALL {
        let unknown = ask(&api, &endpoint.path("0123456789abcdef0123456789abcdef")).await;
        assert_eq!((unknown.status, &unknown.json()["errors"][0]["code"]), (404, &json!(7003)), "{endpoint:?}");
        let denied = ask(&api, &endpoint.path(if endpoint.is_of_account() { &account } else { &zone })).await;
        assert_eq!((denied.status, &denied.json()["errors"][0]["code"]), (403, &json!(10_000)), "{endpoint:?}");
    }
}

#[tokio::test]
async fn each_listing_is_cut_as_the_real_one() {
    // What is asked for, how many of 60 entries come, and what `result_info` says of the size and the pages.
    for (endpoint, query, count, info) in [
        (Sibling::CertificatePacks, "", 20, Some((20, 3))),
        (Sibling::CertificatePacks, "per_page=100&page=2", 10, Some((50, 2))),
        (Sibling::CustomCertificates, "per_page=1", 5, Some((5, 12))),
        (Sibling::CustomHostnames, "per_page=50&page=2", 10, Some((50, 2))),
        (Sibling::TrustStore, "page=4", 0, Some((20, 3))),
        (Sibling::AccessCertificates, "", 50, Some((50, 2))),
        // The page is ignored, although the totals speak of two.
        (Sibling::OriginPull, "page=2&per_page=5", 60, Some((50, 2))),
        (Sibling::MtlsCertificates, "page=2&per_page=5", 60, Some((50, 2))),
        (Sibling::OriginPullHostnames, "page=2&per_page=5", 60, None),
        (Sibling::GatewayCertificates, "page=2&per_page=5", 60, None),
        (Sibling::OriginCa, "page=2&per_page=5", 60, None),
    ] {
        let listing = OneListing::of(endpoint, entries(endpoint, 60)).await;
        let answer = listing.ask(query).await;
        assert_eq!(answer.ids().len(), count, "{endpoint:?} {query}");
        let json = answer.json();
        let said = json.get("result_info").map(|info| (info["per_page"].clone(), info["total_pages"].clone()));
        assert_eq!(said, info.map(|(size, pages)| (json!(size), json!(pages))), "{endpoint:?} {query}");
    }
}

#[tokio::test]
async fn without_a_status_only_active_packs_are_listed() {
    let mut packs = entries(Sibling::CertificatePacks, 3);
    packs[0]["status"] = json!("pending_validation");
    packs[1]["status"] = json!("backup_issued");
    let listing = OneListing::of(Sibling::CertificatePacks, packs).await;
    for (query, count) in [("", 1), ("status=all", 3), ("status=pending_validation", 1)] {
        assert_eq!(listing.ask(query).await.ids().len(), count, "{query}");
    }
}

#[tokio::test]
async fn without_a_type_authorities_of_gateway_and_access_are_listed_with_the_uploaded_ones() {
    let mut authorities = entries(Sibling::MtlsCertificates, 3);
    authorities[0]["type"] = json!("gateway_managed");
    authorities[1]["type"] = json!("access_managed");
    let listing = OneListing::of(Sibling::MtlsCertificates, authorities).await;
    for (query, count) in [("", 3), ("type=custom", 1)] {
        assert_eq!(listing.ask(query).await.ids().len(), count, "{query}");
    }
}

#[tokio::test]
async fn an_origin_ca_certificate_is_in_each_zone_of_which_it_has_a_host_name() {
    let mut shared = entry(Sibling::OriginCa, "a.example");
    shared["hostnames"] = json!(["a.example", "www.b.example"]);
    let mut world = World::of(["a.example", "b.example", "xb.example"].map(SimulatedZone::new));
    let ids: Vec<String> = world.zones.iter().map(|zone| zone.id.clone()).collect();
    world.listings.push(SimulatedListing::new(Sibling::OriginCa, &ids[0], [shared.clone()]));
    let api = SimulatedApi::start(world).await.unwrap();
    for (zone, listed) in [(0, vec![shared.clone()]), (1, vec![shared]), (2, vec![])] {
        let answer = ask(&api, &Sibling::OriginCa.path(&ids[zone])).await;
        assert_eq!(answer.json()["result"], json!(listed), "{zone}");
    }
}

#[tokio::test]
async fn a_refusal_is_answered_in_place_of_the_entries() {
    for (endpoint, refusal, status, code) in [
        (Sibling::CustomCertificates, Sibling::CustomCertificates.not_on_the_plan(), 400, 1011),
        (Sibling::CustomHostnames, Sibling::CustomHostnames.not_on_the_plan(), 403, 1404),
        (Sibling::TrustStore, Sibling::TrustStore.not_on_the_plan(), 403, 1450),
        (Sibling::AccessCertificates, Sibling::AccessCertificates.not_on_the_plan(), 403, 9999),
    ] {
        let listing = OneListing::with(endpoint, |listing| listing.refusal = Some(refusal)).await;
        let answer = listing.ask("").await;
        assert_eq!((answer.status, &answer.json()["errors"][0]["code"]), (status, &json!(code)), "{endpoint:?}");
    }
}

#[tokio::test]
async fn faults_alter_these_listings_too() {
    let faulty = |fault: Fault| {
        OneListing::with(Sibling::TrustStore, |listing| {
            listing.entries = entries(Sibling::TrustStore, 3);
            listing.fault = Some(fault);
        })
    };
    assert_eq!(faulty(Fault::html(522)).await.ask("").await.status, 522);
    assert_eq!(faulty(Fault::Result(Value::Null)).await.ask("").await.json()["result"], Value::Null);
    assert_eq!(faulty(Fault::NoInfo).await.ask("").await.json().get("result_info"), None);
    assert_eq!(faulty(Fault::PageSize(2)).await.ask("page=2").await.ids().len(), 1);
    assert_eq!(faulty(Fault::EmptyFrom(1)).await.ask("").await.ids().len(), 0);

    let sound = faulty(Fault::All(Vec::new())).await.ask("").await.ids();
    let mut grown = faulty(Fault::Change(Change::Grows)).await.ask("").await.ids();
    assert!(!sound.contains(&grown.remove(0)));
    assert_eq!(grown, sound);
    assert_eq!(faulty(Fault::Change(Change::Shrinks)).await.ask("").await.ids(), sound[1..]);
    let reversed: Vec<String> = sound.into_iter().rev().collect();
    assert_eq!(faulty(Fault::Change(Change::Reorders)).await.ask("").await.ids(), reversed);

    let renamed = faulty(Fault::Change(Change::Sets("status", || "deleted".into()))).await.ask("").await.json();
    assert_eq!(renamed["result"][2]["status"], "deleted");
}

#[test]
fn pem_in_the_entries_is_a_certificate_that_says_what_the_entry_says() {
    let authorities = [Sibling::TrustStore, Sibling::MtlsCertificates, Sibling::GatewayCertificates];
    for (endpoint, field) in [
        (Sibling::OriginCa, "certificate"),
        (Sibling::OriginPull, "certificate"),
        (Sibling::OriginPullHostnames, "certificate"),
        (Sibling::TrustStore, "certificate"),
        (Sibling::MtlsCertificates, "certificates"),
        (Sibling::GatewayCertificates, "certificate"),
    ] {
        for expires in [EXPIRES, "2050-01-01T00:00:00Z"] {
            let entry = endpoint.entry("a.example", date(ISSUED), date(expires));
            let (_, block) = parse_x509_pem(entry[field].as_str().unwrap().as_bytes()).unwrap();
            let (rest, certificate) = X509Certificate::from_der(&block.contents).unwrap();
            assert!(rest.is_empty(), "{endpoint:?}");
            let names: Vec<_> = certificate.subject().iter_common_name().map(|name| name.as_str().unwrap()).collect();
            assert_eq!(names, ["a.example"], "{endpoint:?}");
            assert_eq!(certificate.validity().not_before.timestamp(), date(ISSUED).timestamp(), "{endpoint:?}");
            assert_eq!(certificate.validity().not_after.timestamp(), date(expires).timestamp(), "{endpoint:?}");
            assert_eq!(certificate.is_ca(), authorities.contains(&endpoint), "{endpoint:?}");
            let said = entry.get("serial_number").or_else(|| entry.get("id").filter(|_| endpoint == Sibling::OriginCa));
            if let Some(serial_number) = said {
                assert_eq!(*serial_number, json!(certificate.serial.to_string()), "{endpoint:?}");
            }
        }
    }
}

#[test]
fn entries_hold_a_key_that_must_not_be_found_elsewhere() {
    let with_key =
        [Sibling::OriginPull, Sibling::OriginPullHostnames, Sibling::CustomHostnames, Sibling::MtlsCertificates];
    for endpoint in Sibling::ALL {
        let text = entry(endpoint, "a.example").to_string();
        assert_eq!(text.contains(PRIVATE_KEY), with_key.contains(&endpoint), "{endpoint:?}");
    }
}
