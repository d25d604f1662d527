use std::{path::Path, time::Duration};
use tokio::time::advance;

use super::*;
use crate::model::{Kind, Reason};

const NOW: i64 = 1_795_521_600;
const HOUR: Duration = Duration::from_secs(3600);
const SECRET: &str = "a-token";

fn config(text: &str) -> Config {
    let two = "[credentials.default]\napi_token_env = \"TOKEN\"\n[credentials.other]\napi_token_env = \"TOKEN\"\n";
    let text = format!("{text}\n{}", if text.contains("\"other\"") { two } else { "" });
    let variable = |name: &str| ["TOKEN", "CLOUDFLARE_API_TOKEN"].contains(&name).then(|| SECRET.to_owned());
    Config::parse(&text, Path::new("test"), &variable).unwrap()
}

fn zone(number: u32, name: &str) -> Zone {
    let account = Account { id: id(1000 + number / 10), name: format!("Account {}", number / 10).into() };
    Zone { id: id(number), name: name.into(), status: "active".into(), account: Some(account) }
}

fn id(number: u32) -> ScopeId {
    format!("{number:032x}").parse().unwrap()
}

/// What is watched, as `kind name credential`.
fn watched(inventory: &Inventory) -> Vec<String> {
    let words = |target: &Arc<Target>| {
        let name = target.name.as_deref().unwrap_or(target.id.as_str());
        format!("{} {name} {}", target.kind.label(), target.credential)
    };
    inventory.targets().iter().map(words).collect()
}

fn names(inventory: &Inventory) -> Vec<String> {
    inventory.targets().iter().map(|target| target.name.as_deref().unwrap_or_default().to_owned()).collect()
}

fn failure() -> Failure {
    Failure::new(Reason::ServerError, "no")
}

#[tokio::test(start_paused = true)]
async fn zones_are_those_that_the_settings_ask_for_and_accounts_are_theirs() {
    let mut inventory = Inventory::new(&config(
        "[poll]\nkinds = [\"client\", \"edge\", \"mtls_ca\"]\n[discovery]\ninclude = [\"*.example\"]\nexclude = [\"old*\"]",
    ));
    assert!(inventory.targets().is_empty() && !inventory.is_complete());
    let found = vec![zone(1, "a.example"), zone(2, "old.example"), zone(3, "b.test"), zone(11, "c.example")];
    inventory.discovered("default", Ok(found.into()), NOW);
    assert_eq!(
        watched(&inventory),
        [
            "client a.example default",
            "edge a.example default",
            "client c.example default",
            "edge c.example default",
            "mtls_ca Account 0 default",
            "mtls_ca Account 1 default",
        ]
    );
    let verdicts: Vec<_> = inventory.verdicts().iter().map(|found| found.watched == Watched::Yes).collect();
    assert_eq!(verdicts, [true, false, true, false]);
    let state = &inventory.states()[0];
    assert_eq!((state.watched, state.unwatched, state.completed, state.is_tried), (2, 2, Some(NOW), true));
    assert!(inventory.is_complete());
}

#[tokio::test(start_paused = true)]
async fn what_the_configuration_lists_is_watched_as_it_says_and_gets_its_name_from_the_discovery() {
    let mut inventory = Inventory::new(&config(&format!(
        "[poll]\nkinds = [\"client\", \"access_ca\"]\n[discovery]\nexclude = [\"listed*\"]\n\
         [[zones]]\nid = \"{}\"\nkinds = [\"origin_ca\"]\ninterval = \"5m\"\n[[zones]]\nid = \"{}\"\nname = \"by hand\"\n\
         [[accounts]]\nid = \"{}\"\n",
        id(1),
        id(99),
        id(1000),
    )));
    inventory.discovered("default", Ok(vec![zone(1, "listed.example"), zone(2, "found.example")].into()), NOW);
    assert_eq!(
        watched(&inventory),
        [
            "origin_ca listed.example default",
            "client by hand default",
            "client found.example default",
            "access_ca Account 0 default"
        ]
    );
    let targets = inventory.targets();
    assert_eq!(targets[0].interval, Duration::from_secs(300));
    assert_eq!(targets[0].zone.as_deref(), Some(&zone(1, "listed.example")));
    assert_eq!((targets[2].kind, targets[2].interval), (Kind::Client, HOUR));
}

#[tokio::test(start_paused = true)]
async fn a_zone_is_dropped_when_two_good_discoveries_in_a_row_lack_it_and_never_by_a_failure() {
    let (a, b) = (zone(1, "a.example"), zone(2, "b.example"));
    let mut inventory = Inventory::new(&config("[discovery]"));
    type Found<'a> = Result<&'a [&'a Zone], Failure>;
    let outcomes: [(Found<'_>, &[&str]); 11] = [
        (Err(failure()), &[]),
        (Ok(&[&b, &a]), &["a.example", "b.example"]),
        (Err(failure()), &["a.example", "b.example"]),
        (Ok(&[&a]), &["a.example", "b.example"]),
        (Ok(&[&a, &b]), &["a.example", "b.example"]),
        (Ok(&[&a]), &["a.example", "b.example"]),
        (Err(failure()), &["a.example", "b.example"]),
        (Ok(&[&a]), &["a.example"]),
        (Ok(&[]), &["a.example"]),
        (Ok(&[&b]), &["b.example"]),
        (Ok(&[&b, &a]), &["a.example", "b.example"]),
    ];
    for (number, (outcome, expected)) in (0..).zip(outcomes) {
        let outcome = outcome.map(|zones| zones.iter().map(|&zone| zone.clone()).collect::<Vec<_>>().into());
        let failed = outcome.is_err();
        inventory.discovered("default", outcome, NOW + number);
        assert_eq!(names(&inventory), expected, "after discovery {number}");
        assert_eq!(inventory.states()[0].failure.is_some(), failed, "after discovery {number}");
    }
    assert_eq!(inventory.states()[0].failures[Reason::ServerError as usize], 3);
}

#[tokio::test(start_paused = true)]
async fn a_discovery_with_entries_that_cannot_be_read_adds_zones_and_drops_none() {
    let (a, b) = (zone(1, "a.example"), zone(2, "b.example"));
    let mut inventory = Inventory::new(&config("[discovery]"));
    for (number, (found, unreadable, expected)) in (0..).zip([
        (vec![&a], 1, &["a.example"][..]),
        (vec![&a, &b], 0, &["a.example", "b.example"]),
        // It counts neither as the first time that a zone is missing nor as the second.
        (vec![&a], 1, &["a.example", "b.example"]),
        (vec![&a], 0, &["a.example", "b.example"]),
        (vec![&a], 1, &["a.example", "b.example"]),
        (vec![], 2, &["a.example", "b.example"]),
        (vec![&a], 0, &["a.example"]),
    ]) {
        let zones = found.into_iter().cloned().collect();
        inventory.discovered("default", Ok(ZoneList { zones, unreadable }), NOW + number);
        assert_eq!(names(&inventory), expected, "after discovery {number}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_two_credentials_see_belongs_to_the_first_one() {
    let mut inventory = Inventory::new(&config("[discovery]\ncredentials = [\"other\", \"default\"]"));
    inventory.discovered("default", Ok(vec![zone(1, "a.example"), zone(2, "b.example")].into()), NOW);
    assert_eq!(watched(&inventory), ["client a.example default", "client b.example default"]);
    inventory.discovered("other", Ok(vec![zone(2, "b.example"), zone(3, "c.example")].into()), NOW);
    assert_eq!(watched(&inventory), ["client b.example other", "client c.example other", "client a.example default"]);
    let of_default = inventory.verdicts().into_iter().filter(|found| **found.credential == *"default");
    let of_default: Vec<_> =
        of_default.map(|found| matches!(found.watched, Watched::ByCredential(other) if **other == *"other")).collect();
    assert_eq!(of_default, [false, true]);
}

#[tokio::test(start_paused = true)]
async fn shards_have_every_zone_and_account_once() {
    let zones: Vec<_> = (0..100).map(|number| zone(number, &format!("zone-{number:03}.example"))).collect();
    let mut all = Vec::new();
    for ordinal in 0..3 {
        let shard = format!("[poll]\nkinds = [\"client\", \"gateway_ca\"]\n[shard]\nordinal = {ordinal}\ntotal = 3\n");
        let mut inventory = Inventory::new(&config(&shard));
        inventory.discovered("default", Ok(zones.clone().into()), NOW);
        let state = &inventory.states()[0];
        let of_zones = inventory.targets().iter().filter(|target| target.kind == Kind::Client).count();
        assert_eq!((state.watched, state.unwatched), (of_zones, 100 - of_zones));
        assert!((20..50).contains(&of_zones), "shard {ordinal} has {of_zones} zones");
        all.extend(names(&inventory));
    }
    all.sort_unstable();
    let mut expected: Vec<_> = zones.iter().map(|zone| zone.name.to_string()).collect();
    expected.extend((0..10).map(|number| format!("Account {number}")));
    expected.sort_unstable();
    assert_eq!(all, expected);
}

#[tokio::test(start_paused = true)]
async fn a_discovery_that_fails_is_tried_again_soon_and_then_ever_more_rarely() {
    let mut inventory = Inventory::new(&config("[discovery]\ninterval = \"10m\""));
    let due_in = |inventory: &Inventory| inventory.due().next().unwrap().due.saturating_duration_since(Instant::now());
    assert_eq!(due_in(&inventory), Duration::ZERO);
    for minutes in [1, 2, 4, 8, 10, 10] {
        inventory.discovered("default", Err(failure()), NOW);
        assert_eq!(due_in(&inventory), Duration::from_secs(60 * minutes));
        advance(due_in(&inventory)).await;
    }
    let waits = Failure { wait_at_least: 2 * HOUR, ..failure() };
    inventory.discovered("default", Err(waits), NOW);
    assert_eq!(due_in(&inventory), 2 * HOUR);
    inventory.discovered("default", Ok(ZoneList::default()), NOW);
    assert_eq!(due_in(&inventory), Duration::from_secs(600));
    inventory.discovered("default", Err(failure()), NOW);
    assert_eq!(due_in(&inventory), Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn another_filter_asks_again_at_once_and_forgets_nothing() {
    let mut inventory = Inventory::new(&config("[discovery]\ninclude = [\"*.example\"]"));
    inventory.discovered("default", Ok(vec![zone(1, "a.example"), zone(2, "b.example")].into()), NOW);
    let due_in = |inventory: &Inventory| inventory.due().next().unwrap().due.saturating_duration_since(Instant::now());
    inventory.reconfigure(&config("[discovery]\ninclude = [\"*.example\"]\ninterval = \"30m\""));
    assert_eq!((due_in(&inventory), names(&inventory).len()), (HOUR / 2, 2));
    inventory.reconfigure(&config("[discovery]\ninclude = [\"b*\"]"));
    assert_eq!((due_in(&inventory), names(&inventory)), (Duration::ZERO, vec!["b.example".to_owned()]));
    inventory.reconfigure(&config(&format!("[[zones]]\nid = \"{}\"", id(5))));
    assert_eq!((inventory.due().count(), inventory.targets().len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_restart_finds_what_was_discovered_and_when_it_is_due() {
    let path = tempfile::tempdir().unwrap();
    let directory = Directory::open(path.path(), prometheus::IntCounter::new("a", "b").unwrap()).unwrap();
    let now = DateTime::from_timestamp(NOW, 0).unwrap();
    let settings = config("[discovery]");
    let mut before = Inventory::new(&settings);
    before.discovered("default", Ok(vec![zone(1, "a.example"), zone(2, "b.example")].into()), NOW);
    before.discovered("default", Ok(vec![zone(1, "a.example")].into()), NOW);
    before.save(&directory, "default", now).await;

    let restored = |text: &str, seconds: i64| {
        let mut inventory = Inventory::new(&config(text));
        let load =
            |credential: &str| directory.discovery(credential).load(|saved: &SavedDiscovery| saved.is_of(credential));
        inventory.restore(load, DateTime::from_timestamp(NOW + seconds, 0).unwrap());
        inventory
    };
    let due_in = |inventory: &Inventory| inventory.due().next().unwrap().due.saturating_duration_since(Instant::now());
    let mut after = restored("[discovery]", 600);
    assert_eq!((names(&after), due_in(&after)), (names(&before), HOUR - Duration::from_secs(600)));
    let state = &after.states()[0];
    assert_eq!((state.completed, state.is_tried), (Some(NOW), false));
    // What was missing once before is gone now.
    after.discovered("default", Ok(vec![zone(1, "a.example")].into()), NOW + 600);
    assert_eq!(names(&after), ["a.example"]);

    assert_eq!(due_in(&restored("[discovery]", 7200)), Duration::ZERO);
    assert_eq!(due_in(&restored("[discovery]\ninclude = [\"a*\"]", 600)), Duration::ZERO);
    // The clock was wrong then or is now.
    let early = restored("[discovery]", -86_400);
    assert_eq!((early.states()[0].completed, due_in(&early)), (Some(NOW - 86_400), HOUR));
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_moves_to_another_credential_is_watched_with_it_at_once() {
    let mut inventory = Inventory::new(&config("[discovery]\ncredentials = [\"other\", \"default\"]"));
    let (a, b) = (zone(1, "a.example"), zone(2, "b.example"));
    inventory.discovered("other", Ok(vec![a.clone(), b.clone()].into()), NOW);
    inventory.discovered("default", Ok(vec![a.clone()].into()), NOW);
    assert_eq!(watched(&inventory), ["client a.example other", "client b.example other"]);
    inventory.discovered("other", Ok(vec![a.clone()].into()), NOW);
    assert_eq!(watched(&inventory), ["client a.example other", "client b.example other"], "no other finds it yet");
    inventory.discovered("default", Ok(vec![a.clone(), b].into()), NOW);
    assert_eq!(watched(&inventory), ["client a.example other", "client b.example default"]);
    inventory.discovered("other", Ok(vec![a].into()), NOW);
    assert_eq!(watched(&inventory), ["client a.example other", "client b.example default"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_new_filter_leaves_out_is_not_missing() {
    let all = "[discovery]\ninclude = [\"*.example\"]";
    let mut inventory = Inventory::new(&config(all));
    let (a, b) = (zone(1, "a.example"), zone(2, "b.example"));
    inventory.discovered("default", Ok(vec![a.clone(), b.clone()].into()), NOW);
    inventory.reconfigure(&config("[discovery]\ninclude = [\"b*\"]"));
    // Cloudflare filters, so the other one does not come.
    inventory.discovered("default", Ok(vec![b.clone()].into()), NOW);
    let state = &inventory.states()[0];
    assert_eq!((state.watched, state.unwatched), (1, 0));
    inventory.reconfigure(&config(all));
    inventory.discovered("default", Ok(vec![a, b.clone()].into()), NOW);
    inventory.discovered("default", Ok(vec![b].into()), NOW);
    assert_eq!(names(&inventory), ["a.example", "b.example"], "it was missing once");
}

#[tokio::test(start_paused = true)]
async fn zones_that_did_not_change_are_held_once() {
    let mut inventory = Inventory::new(&config("[discovery]"));
    inventory.discovered("default", Ok(vec![zone(1, "a.example"), zone(2, "b.example")].into()), NOW);
    let before = inventory.targets();
    let renamed = Zone { status: "moved".into(), ..zone(2, "b.example") };
    inventory.discovered("default", Ok(vec![zone(1, "a.example"), renamed.clone()].into()), NOW);
    let after = inventory.targets();
    assert!(Arc::ptr_eq(before[0].zone.as_ref().unwrap(), after[0].zone.as_ref().unwrap()));
    assert_eq!(after[1].zone.as_deref(), Some(&renamed));
}
