//! What to ask for, and whether what comes is every zone: against the simulated API.

use std::{path::Path, sync::Arc, time::Duration};

use chrono::DateTime;
use cloudflare_sim::{
    Canned, Change, Delivery, Ending, Fault, Quota, SimulatedAccount, SimulatedApi, SimulatedZone, World,
};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::*;
use crate::{cloudflare::ClientMaker, config::Config, model::Reason};

const OTHER_ACCOUNT: &str = "22cbe197c050c9e422aaa103cfe30ed8";

fn name(number: usize) -> String {
    format!("zone-{number:03}.example")
}

fn names(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers.into_iter().map(name).collect()
}

/// So many zones, of which every tenth belongs to another account.
fn world(zones: usize) -> World {
    let zone = |number: usize| {
        let mut zone = SimulatedZone::new(&name(number));
        if number.is_multiple_of(10) {
            zone.account_id = OTHER_ACCOUNT.into();
        }
        zone
    };
    let mut world = World::of((0..zones).map(zone));
    world.accounts.push(SimulatedAccount::new(OTHER_ACCOUNT, "Other account"));
    World { quota: Quota { requests: 1_000_000, ..Quota::default() }, ..world }
}

async fn start(world: World) -> (SimulatedApi, Arc<Client>) {
    start_with_timeout(world, "1m").await
}

async fn start_with_timeout(world: World, timeout: &str) -> (SimulatedApi, Arc<Client>) {
    let api = SimulatedApi::start(world).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let text = format!("[api]\nbase_url = {:?}\ntimeout = {timeout:?}\nrequests_per_5m = 100000\n", api.base_url());
    let variable = |name: &str| (name == "CLOUDFLARE_API_TOKEN").then(|| token.clone());
    let config = Config::parse(&text, Path::new("test"), &variable).unwrap();
    let clients = ClientMaker::for_one_sweep(|| DateTime::from_timestamp(1_795_521_600, 0).unwrap())
        .make(&config.api, &config.credentials)
        .unwrap();
    let client = Arc::clone(clients.values().next().unwrap());
    (api, client)
}

fn filter(include: &[&str], accounts: &[&str]) -> ZoneFilter {
    ZoneFilter {
        include: include.iter().map(|text| NamePattern::new(text).unwrap()).collect(),
        exclude: vec![NamePattern::new("x").unwrap()],
        accounts: accounts.iter().map(|&account| account.into()).collect(),
    }
}

async fn list(client: &Client, filter: &ZoneFilter) -> Result<Vec<String>, Failure> {
    let list = client.zones(filter, Priority::Healthy).await?;
    Ok(list.zones.iter().map(|zone| zone.name.to_string()).collect())
}

#[test]
fn cloudflare_filters_where_one_pattern_or_one_account_allows_it() {
    const ID: &str = "11cbe197c050c9e422aaa103cfe30ed8";
    for (include, accounts, expected) in [
        (&["*"][..], &[][..], &[""][..]),
        (&["*.Example"], &[], &["name=ends_with:.example"]),
        (&["shop*"], &[], &["name=starts_with:shop"]),
        (&["**shop*"], &[], &["name=contains:shop"]),
        (&["a*b"], &[], &[""]),
        (&["*a*b*"], &[], &[""]),
        (&["*.a", "*.b"], &[], &[""]),
        (&["Shop.example"], &[], &["name=shop.example"]),
        (&["a.example", "b.example"], &[], &["name=a.example", "name=b.example"]),
        (&["a.example", "*.b"], &[], &[""]),
        (&["*"], &[ID], &["account.id=11cbe197c050c9e422aaa103cfe30ed8"]),
        (&["*.a"], &["Example Ltd"], &["account.name=Example Ltd&name=ends_with:.a"]),
        (&["*"], &[ID, "Example Ltd"], &[""]),
        (&["*"], &["Example: EU"], &[""]),
    ] {
        let filter = filter(include, accounts);
        let words = |query: Vec<Parameter>| {
            query.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
        };
        let queries: Vec<_> = queries(&filter).into_iter().map(words).collect();
        assert_eq!(queries, expected, "{include:?} {accounts:?}");
    }
}

#[tokio::test]
async fn cloudflare_filters_and_no_more_is_asked_than_that_takes() {
    let (api, client) = start(world(130)).await;
    let tens = || (0..130).step_by(10);
    for (include, accounts, expected, requests) in [
        (&["*"][..], &[][..], names(0..130), 3),
        (&["*-00*"], &[], names(0..10), 1),
        (&["*7.example"], &[], names((7..130).step_by(10)), 1),
        (&["Zone-12*"], &[], names(120..130), 1),
        // These are for the caller.
        (&["zone-1*", "zone-0*"], &[], names(0..130), 3),
        (&["zone-*1.example"], &[], names(0..130), 3),
        (&["*"], &[OTHER_ACCOUNT], names(tens()), 1),
        (&["*"], &["Other account"], names(tens()), 1),
        (&["*"], &["Other account", "Simulated account"], names(0..130), 3),
        // One request for each name. One that is not found is just not there.
        (&["zone-007.example", "ZONE-003.example", "none.example"], &[], names([3, 7]), 3),
        (&["zone-010.example", "zone-011.example"], &[OTHER_ACCOUNT], names([10]), 2),
    ] {
        let before = api.requests().len();
        assert_eq!(list(&client, &filter(include, accounts)).await.unwrap(), expected, "{include:?} {accounts:?}");
        assert_eq!(api.requests().len() - before, requests, "{include:?} {accounts:?}");
    }
}

#[tokio::test]
async fn zones_have_their_state_and_account_and_none_is_twice_if_the_filter_is_ignored() {
    let mut world = world(3);
    world.zones[1].status = "moved".into();
    world.zones[2].account_id = "no id".into();
    let everything = json!([
        {"id": "1".repeat(32), "name": "a.example", "status": "active"},
        {"id": "2".repeat(32), "name": "b.example", "status": "active"},
    ]);
    let (api, client) = start(world).await;
    let whole = client.zones(&ZoneFilter::everything(), Priority::Healthy).await.unwrap();
    let read: Vec<_> = whole
        .zones
        .iter()
        .map(|zone| (&*zone.name, &*zone.status, zone.account.as_ref().map(|account| &*account.name)))
        .collect();
    assert_eq!(
        read,
        [
            ("zone-000.example", "active", Some("Other account")),
            ("zone-001.example", "moved", Some("Simulated account")),
            ("zone-002.example", "active", None),
        ]
    );
    assert_eq!(whole.unreadable, 0);

    let body = json!({"success": true, "errors": [], "result": everything,
        "result_info": {"page": 1, "per_page": 50, "count": 2, "total_count": 2, "total_pages": 1}});
    api.change(|world| {
        world.zones_fault = Some(Fault::Instead(Canned::new(200, "application/json", body.to_string())));
    });
    let by_name = filter(&["a.example", "b.example"], &[]);
    assert_eq!(list(&client, &by_name).await.unwrap(), ["a.example", "b.example"]);
}

#[tokio::test]
async fn an_entry_that_is_damaged_hides_no_other_and_is_counted() {
    let id = |digit: &str| digit.repeat(32);
    let entries = json!([
        {"id": id("3"), "name": "c.example\u{202e}", "status": "active"},
        {"id": id("1"), "status": 7, "account": {"id": id("9")}},
        {"id": id("2"), "name": "", "account": {"id": "short", "name": "Nameless"}},
        {"id": "no id", "name": "lost.example"},
        {"name": "lost.example"},
        null,
    ]);
    let (_api, client) = start(World { zones_fault: Some(Fault::Result(entries)), ..world(6) }).await;
    let list = client.zones(&ZoneFilter::everything(), Priority::Healthy).await.unwrap();
    let read: Vec<_> = list.zones.iter().map(|zone| (zone.id.as_str().to_owned(), zone.name.to_string())).collect();
    assert_eq!(read[..2], [(id("1"), id("1")), (id("2"), id("2"))]);
    assert_eq!(read.len(), 3);
    assert!(read[2].1.starts_with("c.example") && !read[2].1.contains('\u{202e}'), "{read:?}");
    let accounts: Vec<_> = list.zones.iter().map(|zone| zone.account.as_ref().map(|it| it.name.to_string())).collect();
    assert_eq!(accounts, [Some(id("9")), None, None]);
    assert_eq!(list.unreadable, 3);
}

/// Who may not list zones gets a remedy, and goes on with its listings; only a dead credential is stopped.
#[tokio::test]
async fn a_refusal_names_the_permission_and_the_way_out_and_stops_nothing() {
    for (status, code, words) in [
        (403, 0, "Actor requires permission 'com.cloudflare.api.account.zone.list' to list zones"),
        (403, 9109, "Unauthorized to access requested resource"),
        (403, 10_000, "Authentication error"),
    ] {
        let refusal = Some(Fault::error(status, code, words));
        let (api, client) = start(World { zones_fault: refusal, ..world(3) }).await;
        for request in 1..=5 {
            let failure = list(&client, &ZoneFilter::everything()).await.unwrap_err();
            assert_eq!((failure.reason, failure.credential_refused), (Reason::Forbidden, None), "{words}");
            for part in ["Zone \u{2192} Zone \u{2192} Read", "[[zones]]", "discovery.include"] {
                assert!(failure.message.contains(part), "{}", failure.message);
            }
            assert_eq!(api.requests().len(), request, "{words}: each is sent once");
        }
        api.change(|world| world.zones_fault = None);
        assert_eq!(list(&client, &ZoneFilter::everything()).await.unwrap().len(), 3, "{words}");
    }
    let dead = Fault::error(401, 1000, "Invalid API Token");
    let (api, client) = start(World { zones_fault: Some(dead), ..world(3) }).await;
    for _ in 0..9 {
        list(&client, &ZoneFilter::everything()).await.unwrap_err();
    }
    assert!(api.requests().len() < 9, "the breaker is open after a few refusals");
}

/// What can go wrong, and the reason; none where the list is whole all the same.
fn faults() -> Vec<(&'static str, Fault, Option<Reason>)> {
    let (grows, shrinks) = (Fault::Change(Change::Grows), Fault::Change(Change::Shrinks));
    let error = Fault::error;
    let all = |faults: &[Fault]| Fault::All(faults.to_vec());
    let json = |status, body: &str| Fault::Instead(Canned::new(status, "application/json", body));
    let count = |count: Value| Fault::Info("total_count", Some(count));
    let pages = |pages: Value| Fault::Info("total_pages", Some(pages));
    let (connect, decode, incomplete) = (Some(Reason::Connect), Some(Reason::Decode), Some(Reason::Incomplete));
    let (limited, too_large, server) = (Some(Reason::RateLimited), Some(Reason::TooLarge), Some(Reason::ServerError));
    vec![
        ("endless", Delivery::Endless.into(), too_large),
        ("gzip bomb", Delivery::GzipBomb(300_000_000).into(), too_large),
        ("unanswered", Delivery::Unanswered(Ending::Close).into(), connect),
        ("reset", Delivery::Half(Ending::Reset).into(), connect),
        ("truncated", Delivery::Half(Ending::Close).into(), connect),
        ("wrong length", Delivery::Understated.into(), decode),
        ("hangs", Delivery::Unanswered(Ending::Hang).into(), Some(Reason::Timeout)),
        ("hangs in the body", Delivery::Half(Ending::Hang).into(), Some(Reason::Timeout)),
        ("a byte a second", Delivery::ByteByByte(Duration::from_secs(1)).into(), Some(Reason::Timeout)),
        ("reset once", Fault::from(Delivery::Half(Ending::Reset)).times(1), None),
        ("HTML", Fault::html(200), decode),
        ("empty body", json(200, ""), decode),
        ("no content", json(204, ""), decode),
        ("array", json(200, "[true,[],[]]"), decode),
        ("brackets", Fault::brackets(), decode),
        ("null", Fault::Result(Value::Null), decode),
        ("object", Fault::Result(json!({"a": 1})), decode),
        ("empty list", Fault::Result(json!([])), incomplete),
        ("redirect", Fault::redirect("http://127.0.0.1:9/"), Some(Reason::ApiError)),
        ("500", error(500, 1000, "Internal Server Error"), server),
        ("500 once", error(500, 1000, "Internal Server Error").times(1), None),
        ("502", Fault::html(502), server),
        ("502 on page 2", Fault::html(502).on_page(2), server),
        ("522", Fault::origin_timed_out(), server),
        ("401", error(401, 1000, "Invalid API Token"), Some(Reason::Unauthorized)),
        ("403", error(403, 10_000, "Authentication error"), Some(Reason::Forbidden)),
        ("403 on page 3", error(403, 10_000, "Authentication error").on_page(3), Some(Reason::Forbidden)),
        ("404", error(404, 7003, "Could not route to /zones"), Some(Reason::NotFound)),
        ("no success", error(200, 1004, "Something"), Some(Reason::ApiError)),
        ("429", Fault::rate_limited("300"), limited),
        ("429 with null", Fault::rate_limited_with_null(), limited),
        ("971 with 200", Fault::throttled_with_200(), limited),
        ("shrinks", all(&[grows.on_page(1), shrinks.on_page(2)]), incomplete),
        ("reordered once", Fault::Change(Change::Reorders).times(1), None),
        ("same page", Fault::PageIgnored { admitted: false }, incomplete),
        ("same page, admitted", Fault::PageIgnored { admitted: true }, incomplete),
        ("same page, uncounted", all(&[Fault::PageIgnored { admitted: false }, Fault::NoInfo]), incomplete),
        ("empty from page 2", Fault::EmptyFrom(2), incomplete),
        ("empty from page 3", Fault::EmptyFrom(3), incomplete),
        ("other page size", Fault::PageSize(7), None),
        ("ids on two pages", Fault::Overlap, None),
        ("full last page", all(&[Fault::PageSize(10), Fault::NoInfo]), None),
        ("count too high", count(500.into()), incomplete),
        ("count absurd", count(u64::MAX.into()), too_large),
        ("count too low", count(10.into()), None),
        ("count zero", count(0.into()), None),
        ("count no number", count("many".into()), None),
        ("too many pages", pages(99.into()), None),
        ("too few pages", pages(1.into()), None),
        ("no totals", Fault::NoInfo, None),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_fault_passes_a_part_of_the_zones_for_all() {
    let walk = async |(what, fault, reason): (&'static str, Fault, Option<Reason>)| {
        // Only what hangs is to time out, however busy this machine is.
        let timeout = if reason == Some(Reason::Timeout) { "2s" } else { "1m" };
        let (api, client) = start_with_timeout(World { zones_fault: Some(fault), ..world(130) }, timeout).await;
        let listed = list(&client, &ZoneFilter::everything()).await;
        match (listed, reason) {
            (Ok(zones), None) => assert_eq!(zones, names(0..130), "{what}"),
            (Err(failure), Some(reason)) => assert_eq!(failure.reason, reason, "{what}: {failure}"),
            (listed, reason) => panic!("{what}: {listed:?} and not {reason:?}"),
        }
        assert!(api.requests().len() <= 45, "{what}: {} requests", api.requests().len());
    };
    join_all(faults().into_iter().map(walk)).await;
}

#[tokio::test]
async fn zones_that_are_added_while_they_are_read_hide_none() {
    let (api, client) = start(World { zones_fault: Some(Fault::Change(Change::Grows)), ..world(130) }).await;
    let zones = list(&client, &ZoneFilter::everything()).await.unwrap();
    let lacks: Vec<_> = names(0..130).into_iter().filter(|name| !zones.contains(name)).collect();
    assert_eq!(lacks, Vec::<String>::new());
    let there: Vec<_> = api.change(|world| world.zones.iter().map(|zone| zone.name.clone()).collect());
    assert!(zones.iter().all(|zone| there.contains(zone)));
    assert!(zones.windows(2).all(|pair| pair[0] < pair[1]), "each is there once, by name");
}
