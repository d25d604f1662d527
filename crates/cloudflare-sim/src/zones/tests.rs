//! `GET /zones` over real sockets.

use serde_json::{Value, json};

use crate::{
    Change, Fault, SimulatedAccount, SimulatedApi, SimulatedZone, World,
    tests::{Asked, ask},
};

const OTHER_ACCOUNT: &str = "00000000000000000000000000000002";

/// Four zones, of which the last one belongs to another account and is pending.
async fn four_zones() -> SimulatedApi {
    let mut world = World::of(["shop.example", "api.shop.example", "Iot.example", "bank.test"].map(SimulatedZone::new));
    world.accounts.push(SimulatedAccount::new(OTHER_ACCOUNT, "Bank & Co"));
    world.zones[3].account_id = OTHER_ACCOUNT.into();
    world.zones[3].status = "pending".into();
    SimulatedApi::start(world).await.unwrap()
}

fn names(answer: &Asked) -> Vec<String> {
    let json = answer.json();
    json["result"].as_array().unwrap().iter().map(|zone| zone["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_zone_is_the_same_in_the_list_and_alone() {
    let api = four_zones().await;
    let list = ask(&api, "/zones").await.json();
    let id = list["result"][3]["id"].as_str().unwrap();
    let alone = ask(&api, &format!("/zones/{id}")).await.json();
    assert_eq!(alone["result"], list["result"][3]);
    assert_eq!(alone["result"]["account"], json!({ "id": OTHER_ACCOUNT, "name": "Bank & Co" }));
    assert_eq!(alone["result"]["status"], "pending");
}

#[tokio::test]
async fn filters_and_order_are_those_of_the_query() {
    let api = four_zones().await;
    for (query, expected) in [
        ("name=shop.example", vec!["shop.example"]),
        ("name=contains:SHOP", vec!["shop.example", "api.shop.example"]),
        ("name=contains%3Ashop", vec!["shop.example", "api.shop.example"]),
        ("name=starts_with:iot", vec!["Iot.example"]),
        ("name=ends_with:.test", vec!["bank.test"]),
        ("account.id=00000000000000000000000000000002", vec!["bank.test"]),
        ("account.name=Bank+%26%20Co", vec!["bank.test"]),
        ("account.name=starts_with:simulated&name=ends_with:shop.example", vec!["shop.example", "api.shop.example"]),
        ("order=name", vec!["Iot.example", "api.shop.example", "bank.test", "shop.example"]),
    ] {
        let answer = ask(&api, &format!("/zones?{query}")).await;
        assert_eq!(names(&answer), expected, "{query}");
        assert_eq!(answer.json()["result_info"]["total_count"], expected.len(), "{query}");
    }
}

#[tokio::test]
async fn zones_come_in_pages_of_twenty_unless_five_to_fifty_are_asked_for() {
    let world = World::of((0..60).map(|n| SimulatedZone::new(&format!("zone-{n:02}.example"))));
    let api = SimulatedApi::start(world).await.unwrap();
    for (query, count, per_page, pages) in [
        ("", 20, 20, 3),
        ("per_page=1", 5, 5, 12),
        ("per_page=1000", 50, 50, 2),
        ("per_page=50&page=2", 10, 50, 2),
        ("per_page=50&page=3", 0, 50, 2),
    ] {
        let answer = ask(&api, &format!("/zones?{query}")).await;
        let info = &answer.json()["result_info"];
        assert_eq!(answer.ids().len(), count, "{query}");
        assert_eq!(
            (&info["per_page"], &info["total_pages"], &info["total_count"]),
            (&json!(per_page), &json!(pages), &json!(60)),
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_denied_zone_is_not_listed() {
    let api = four_zones().await;
    api.change(|world| world.zones[0].denied = true);
    assert_eq!(names(&ask(&api, "/zones").await), ["api.shop.example", "Iot.example", "bank.test"]);
}

#[tokio::test]
async fn the_list_of_zones_has_a_refusal_and_faults_of_its_own() {
    let api = four_zones().await;
    let id = api.change(|world| world.zones[0].id.clone());
    let refusal = Fault::error(403, 0, "requires com.cloudflare.api.account.zone.list");
    api.change(|world| world.zones_fault = Some(refusal));
    let refused = ask(&api, "/zones").await;
    assert_eq!((refused.status, &refused.json()["result"]), (403, &Value::Null));
    assert_eq!(ask(&api, &format!("/zones/{id}")).await.status, 200);

    api.change(|world| world.zones_fault = Some(Fault::html(502).times(1)));
    assert_eq!(ask(&api, "/zones").await.status, 502);
    assert_eq!(ask(&api, "/zones").await.status, 200);

    api.change(|world| world.zones_fault = Some(Fault::Change(Change::Shrinks)));
    assert_eq!(ask(&api, "/zones").await.ids().len(), 3);
    assert_eq!(ask(&api, "/zones").await.ids().len(), 2);
}
