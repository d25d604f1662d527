//! Weeks of a daemon's life in minutes: an hour between two polls of a zone is a second here.
//!
//! Certificates come, change and go and faults of many kinds are drawn, all from a seed that is
//! printed. Zones are discovered, some of them come and go, and the configuration is read again. Whatever is shown at
//! any time must have been true when the daemon says that it read it, and once nothing goes wrong, all of it must be
//! true now. Memory and open files stay where they were.

use std::{collections::BTreeMap, fs, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use cloudflare_sim::{
    Canned, Change, Delivery, Ending, Fault, SimulatedApi, SimulatedCertificate, SimulatedZone, World,
};
use fastrand::Rng;
use tokio::time::{Instant, sleep};

use crate::support::{Daemon, config_of, metrics::Metrics, tests_everything, until, until_ok};

const ZONES: usize = 30;

/// Zones that appear and vanish, at most.
const GUESTS: usize = 5;

/// Certificates of a zone of several pages, at first and in quiet moments.
const OF_PAGES: usize = 130;

/// How long before `last_success` an answer may have been given that it stamps: answers can be slow
/// to come and to be read, and it is in whole seconds.
const SLACK: f64 = 10.0;

/// Polls until the end: two weeks of an hourly poll where everything is tested.
fn polls_to_the_end() -> f64 {
    if tests_everything() { 10_000.0 } else { 200.0 }
}

/// Certificates by id: status and expiry.
type Listing = BTreeMap<String, (&'static str, i64)>;

/// What a zone held, and since when; the last version is true now.
struct History(Vec<(f64, Listing)>);

#[expect(clippy::disallowed_methods, reason = "what the process under test says is compared with it")]
fn now() -> f64 {
    Utc::now().timestamp_millis() as f64 / 1000.0
}

impl History {
    fn last(&self) -> &Listing {
        &self.0.last().unwrap().1
    }

    /// Whether a zone held this at some time in the [`SLACK`] before `time`.
    ///
    /// While a zone of several pages is read, certificates can be added to pages before and behind the one that is
    /// read. Its listing then lies between two versions: it has all of the earlier one, and nothing that the later one
    /// lacks.
    fn held(&self, shown: &Shown, time: f64, is_of_pages: bool) -> bool {
        let ends = self.0.iter().skip(1).map(|(since, _)| *since).chain([f64::INFINITY]);
        // `last_success` is rounded down.
        let possible: Vec<Shown> = (self.0.iter().zip(ends))
            .filter(|((since, _), end)| *since <= time + 1.0 && *end >= time - SLACK)
            .map(|((_, version), _)| Shown::of_truth(version))
            .collect();
        let lies_between = |earlier: usize| {
            possible[earlier + 1..].iter().any(|later| possible[earlier].is_part_of(shown) && shown.is_part_of(later))
        };
        possible.contains(shown) || is_of_pages && (0..possible.len()).any(lies_between)
    }

    /// What the last version has and this lacks, and the other way round.
    fn difference(&self, shown: &Shown) -> String {
        let truth = Shown::of_truth(self.last());
        let without = |these: &Shown, others: &Shown| -> Vec<String> {
            these
                .not_after
                .iter()
                .filter(|(id, expiry)| others.not_after.get(*id) != Some(expiry))
                .map(|(id, _)| id.clone())
                .collect()
        };
        format!(
            "the last version has {:?} more, this has {:?} more; counts are {:?} and {:?}",
            without(&truth, shown),
            without(shown, &truth),
            truth.counts,
            shown.counts
        )
    }
}

/// What the metrics show of a listing: expiries by id, and counts by status.
#[derive(Debug, PartialEq)]
struct Shown {
    not_after: BTreeMap<String, i64>,
    counts: [usize; 4],
}

const STATUSES: [&str; 4] = ["active", "pending_reactivation", "pending_revocation", "revoked"];

impl Shown {
    fn of_truth(listing: &Listing) -> Self {
        let shown = listing.iter().filter(|(_, (status, _))| *status != "revoked");
        let count = |status| listing.values().filter(|(other, _)| *other == status).count();
        Self { not_after: shown.map(|(id, (_, expiry))| (id.clone(), *expiry)).collect(), counts: STATUSES.map(count) }
    }

    /// Whether `other` has all of this, and differs from it in certificates that are active alone.
    fn is_part_of(&self, other: &Self) -> bool {
        self.not_after.iter().all(|(id, expiry)| other.not_after.get(id) == Some(expiry))
            && other.counts[0] + self.not_after.len() == self.counts[0] + other.not_after.len()
            && self.counts[1..] == other.counts[1..]
    }

    /// With when it was read; `None` for a zone that was never listed.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "these are counts and times")]
    fn of_metrics(metrics: &Metrics, zone: &str) -> Option<(Self, f64)> {
        let labels = [("zone", zone)];
        let read = metrics.get("cloudflare_certificates_last_success_timestamp_seconds", &labels)?;
        let not_after = metrics.all("cloudflare_certificate_not_after_timestamp_seconds", &labels);
        let id = |series: &str| series.split("certificate_id=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let not_after = not_after.map(|(series, value)| (id(series), value as i64)).collect();
        let counts = metrics.counts(zone);
        assert_eq!(counts[4], Some(0.0), "no status is unknown here");
        Some((Self { not_after, counts: [0, 1, 2, 3].map(|index| counts[index].unwrap() as usize) }, read))
    }
}

/// The fault that a zone has for a while.
fn draw_fault(random: &mut Rng) -> Fault {
    let temporary = [
        Fault::error(500, 1000, "Internal Server Error"),
        Fault::html(522),
        Fault::rate_limited("1"),
        Delivery::Half(Ending::Reset).into(),
        Delivery::Half(Ending::Close).into(),
        Delivery::Unanswered(Ending::Close).into(),
        Delivery::Unanswered(Ending::Hang).into(),
        Delivery::Understated.into(),
        Delivery::ByteByByte(Duration::from_millis(100)).into(),
        Fault::Delay(Duration::from_millis(500)),
        Fault::PageIgnored { admitted: true },
        Fault::EmptyFrom(1),
        Fault::Info("total_count", Some(500.into())),
        Fault::Info("total_count", None),
        Fault::Info("total_pages", None),
        Fault::NoInfo,
        Fault::PageSize(7),
        Fault::Overlap,
        Fault::Change(Change::Reorders),
    ];
    let needs_a_person = [
        Fault::error(403, 10_000, "Authentication error"),
        Fault::error(404, 7003, "Could not route"),
        Fault::error(200, 1004, "Something"),
        Fault::Instead(Canned::new(200, "application/json", "{}")),
        Fault::Result(serde_json::Value::Null),
        Fault::html(200),
        Fault::brackets(),
        Delivery::Endless.into(),
        Delivery::GzipBomb(300_000_000).into(),
    ];
    // Of those that make a zone wait ever longer there are few at a time, so that a quiet moment comes soon.
    if random.bool() {
        random.choice(temporary).unwrap().times(random.usize(1..8))
    } else {
        random.choice(needs_a_person).unwrap().times(random.usize(1..3))
    }
}

/// Changes what a zone holds.
///
/// Client certificates stay in the list for good. A zone of several pages only grows: no client can tell a page before
/// a change from one after it unless the count differs.
fn change(random: &mut Rng, listing: &mut Listing, grows_only: bool) {
    let add = |random: &mut Rng, listing: &mut Listing| {
        let id = format!("{:032x}", random.u128(..));
        listing.insert(id, ("active", 1_800_000_000 + random.i64(0..300_000_000)));
    };
    if grows_only {
        return add(random, listing);
    }
    for _ in 0..random.usize(1..4) {
        let ids: Vec<_> = listing.keys().cloned().collect();
        match (random.u8(0..3), random.choice(&ids)) {
            (0, Some(id)) => listing.get_mut(id).unwrap().0 = random.choice(STATUSES).unwrap(),
            (1, Some(id)) => listing.get_mut(id).unwrap().1 += random.i64(1..90) * 86_400,
            _ if ids.len() < 50 => add(random, listing),
            _ => {}
        }
    }
}

fn simulated(listing: &Listing) -> Vec<SimulatedCertificate> {
    let date = |time| DateTime::from_timestamp(time, 0).unwrap().to_rfc3339_opts(SecondsFormat::Secs, true);
    let issued = date(1_700_000_000);
    let certificate = |(id, (status, expiry)): (&String, &(&str, i64))| {
        SimulatedCertificate::new(id, id, status, &issued, &date(*expiry))
    };
    listing.iter().map(certificate).collect()
}

/// Resident memory in kilobytes, and open files: the least of some looks, since what a poll or a scrape takes for a
/// moment is not held, and the allocator needs time to give it back.
async fn costs_at_rest(daemon: &Daemon) -> (u64, usize) {
    let mut least = costs(daemon);
    for _ in 0..if tests_everything() { 15 } else { 0 } {
        sleep(Duration::from_secs(2)).await;
        let (memory, files) = costs(daemon);
        least = (least.0.min(memory), least.1.min(files));
    }
    least
}

fn costs(daemon: &Daemon) -> (u64, usize) {
    let process = format!("/proc/{}", daemon.pid());
    let status = fs::read_to_string(format!("{process}/status")).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    (rss.trim().trim_end_matches(" kB").parse().unwrap(), fs::read_dir(format!("{process}/fd")).unwrap().count())
}

/// A zone appears or the newest guest vanishes. The history of one that is gone stays, since it is shown for a while.
fn come_or_go(random: &mut Rng, api: &SimulatedApi, guests: &mut Vec<String>, all: &mut BTreeMap<String, History>) {
    if !guests.is_empty() && (guests.len() == GUESTS || random.bool()) {
        let gone = guests.pop().unwrap();
        api.change(|world| world.zones.retain(|zone| zone.name != gone));
    } else {
        let name = format!("guest-{}.example", all.len());
        let mut listing = Listing::new();
        (0..random.usize(0..20)).for_each(|_| change(random, &mut listing, true));
        let mut zone = SimulatedZone::new(&name);
        zone.certificates = simulated(&listing);
        all.insert(name.clone(), History(vec![(0.0, listing)]));
        guests.push(name);
        api.change(|world| world.zones.push(zone));
    }
}

#[tokio::test]
async fn weeks_of_changes_and_faults_never_show_wrong_data() {
    let seed = std::env::var("CLOUDFLARE_CERT_EXPORTER_SOAK_SEED")
        .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("CLOUDFLARE_CERT_EXPORTER_SOAK_SEED={seed}");
    let mut random = Rng::with_seed(seed);

    let names: Vec<_> = (0..ZONES).map(|n| format!("{n}.example")).collect();
    let of_pages = |zone: usize| zone.is_multiple_of(10);
    let mut histories: Vec<History> = (0..ZONES)
        .map(|zone| {
            let mut listing = Listing::new();
            for _ in 0..if of_pages(zone) { OF_PAGES } else { random.usize(0..45) } {
                change(&mut random, &mut listing, true);
            }
            History(vec![(0.0, listing)])
        })
        .collect();
    let mut world = World::of(names.iter().map(|name| SimulatedZone::new(name)));
    world.quota.requests = 10_000_000;
    world.remembered_requests = 0;
    for (zone, history) in world.zones.iter_mut().zip(&histories) {
        zone.certificates = simulated(history.last());
    }
    let api = SimulatedApi::start(world).await.unwrap();
    let token = api.change(|world| world.token().to_owned());
    let state = tempfile::tempdir().unwrap();
    let more = format!(
        "timeout = \"1s\"\nrequests_per_5m = 1000000\n[poll]\nconcurrency = 16\ninterval = \"1s\"\n[state]\ndirectory = {:?}\n\
         [discovery]\ninterval = \"1s\"\n",
        state.path()
    );
    let text = |excluded: &str| config_of(&api, |_| false, &format!("{more}exclude = [{excluded:?}]"));
    let daemon = Daemon::start(&text("none"), &[], &[("CLOUDFLARE_API_TOKEN", &token)]);
    // With another filter, so that zones are discovered at once, even where that failed before.
    let reload = |excluded: &str| {
        daemon.configure(&text(excluded));
        daemon.signal("HUP");
    };
    until("the first discovery", async || Metrics::of(&daemon).await.up(&names[0]).map(|_| ())).await;
    let (mut guests, mut of_guests) = (Vec::new(), BTreeMap::new());

    let started = Instant::now();
    let (mut early, mut looks, mut quiet_moments, mut scrapes, mut faults) = (None, 0, 0, 0, 0);
    loop {
        // Some time in which things change and go wrong.
        for _ in 0..if tests_everything() { 20 } else { 8 } {
            for _ in 0..3 {
                let zone = random.usize(..ZONES);
                let mut listing = histories[zone].last().clone();
                change(&mut random, &mut listing, of_pages(zone));
                // The new version counts from before it is there, so that no scrape can show it too early.
                histories[zone].0.push((now(), listing.clone()));
                api.change(|world| world.zones[zone].certificates = simulated(&listing));
            }
            for _ in 0..2 {
                let (zone, fault) = (random.usize(..ZONES), draw_fault(&mut random));
                faults += 1;
                api.change(|world| world.zones[zone].fault = Some(fault));
            }
            come_or_go(&mut random, &api, &mut guests, &mut of_guests);
            if random.u8(0..4) == 0 {
                reload(&format!("none-{faults}"));
            }
            sleep(Duration::from_millis(random.u64(0..800))).await;
            let metrics = Metrics::of(&daemon).await;
            scrapes += 1;
            for (zone, (name, history)) in names.iter().zip(&histories).enumerate() {
                if let Some((shown, read)) = Shown::of_metrics(&metrics, name) {
                    let held = history.held(&shown, read, of_pages(zone));
                    assert!(held, "{name} never held at {read}: {}\n{}", history.difference(&shown), daemon.log());
                }
            }
            for (name, history) in &of_guests {
                if let Some((shown, read)) = Shown::of_metrics(&metrics, name) {
                    assert!(
                        history.held(&shown, read, false),
                        "{name} never held at {read}: {}",
                        history.difference(&shown)
                    );
                }
            }
        }
        // Then nothing does any more, and what has grown is as it was, so that memory can be compared.
        for (zone, history) in histories.iter_mut().enumerate().filter(|(zone, _)| of_pages(*zone)) {
            let listing: Listing = history.last().clone().into_iter().take(OF_PAGES).collect();
            history.0.push((now(), listing.clone()));
            api.change(|world| world.zones[zone].certificates = simulated(&listing));
        }
        guests.clear();
        api.change(|world| {
            world.zones.truncate(ZONES);
            world.zones.iter_mut().for_each(|zone| zone.fault = None);
        });
        reload(&format!("quiet-{faults}"));
        let quiet = now();
        let metrics = until_ok(async || {
            let metrics = Metrics::of(&daemon).await;
            for (name, history) in names.iter().zip(&histories) {
                let (shown, read) = Shown::of_metrics(&metrics, name).ok_or(format!("{name} being listed"))?;
                if read < quiet + 1.0 || metrics.up(name) != Some(1.0) {
                    return Err(format!("{name} being listed again"));
                }
                assert_eq!(shown, Shown::of_truth(history.last()), "{name}");
            }
            let watched = metrics.all("cloudflare_certificates_up", &[]).count();
            if watched != ZONES { Err(format!("{} zones leaving", watched.abs_diff(ZONES))) } else { Ok(metrics) }
        })
        .await;
        quiet_moments += 1;
        assert_eq!(daemon.get("/").await.0, 200);
        let polls: f64 = names.iter().map(|name| metrics.polls(name)).sum();
        let failed: f64 = names.iter().map(|name| metrics.failures(name).0).sum();
        if polls >= polls_to_the_end() / 10.0 && early.is_none() {
            early = Some((polls, costs_at_rest(&daemon).await));
        }
        if polls >= polls_to_the_end() {
            let ((early_polls, (early_memory, early_files)), (memory, files)) =
                (early.unwrap(), costs_at_rest(&daemon).await);
            println!(
                "{polls} polls of {ZONES} zones in {:?}, {failed} of them failed by {faults} faults; {scrapes} scrapes showed no lie, \
                 {quiet_moments} quiet moments the whole truth; after {early_polls} polls {early_memory} kB and {early_files} open files, \
                 at the end {memory} kB and {files}",
                started.elapsed()
            );
            assert!(failed > 0.0, "the faults reached it");
            let reloads = daemon.log().matches("The configuration was read again").count();
            assert!(reloads > 0 && !of_guests.is_empty(), "{reloads} reloads, {} guests", of_guests.len());
            // In the everyday loop the first tenth is too short to be a measure.
            if tests_everything() && (memory as f64 > early_memory as f64 * 1.1 || files > early_files + 5) {
                // What leaks is still there in the next quiet moments; what happened to be in use is not.
                looks += 1;
                assert!(looks < 3, "it holds ever more");
                continue;
            }
            return;
        }
    }
}
