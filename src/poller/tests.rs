//! Simulated days: tokio's clock is paused, so it jumps to whatever is waited for next.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
};

use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::*;
use crate::{
    cloudflare::Throttle,
    model::{Certificate, CredentialRefused, Field, Kind, Listing, Reason, Scope, ScopeId, Texts, two_kinds},
    properties::tests_everything,
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What the wall clock says at the start.
const WALL: i64 = 1_795_521_600;

pub(super) fn zone(number: usize, interval: Duration) -> Target {
    Target {
        kind: Kind::Client,
        id: format!("{number:032x}").parse().unwrap(),
        name: Some(format!("zone-{number}.example").into()),
        zone: None,
        credential: "default".into(),
        interval,
    }
}

fn zones(count: usize, interval: Duration) -> Vec<Target> {
    (0..count).map(|number| zone(number, interval)).collect()
}

fn good() -> Result<Fetched, Failure> {
    Ok(Fetched { listing: Arc::default(), vanished: 0, completed: 0, name: None })
}

/// When each zone was polled, since the start.
type Polls = HashMap<Arc<str>, Vec<Duration>>;

/// A poller and its ends.
struct Running {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    recover: mpsc::UnboundedSender<Arc<str>>,
    plans: watch::Sender<Arc<Plan<&'static str>>>,
    polls: Rc<RefCell<Polls>>,
    /// Zones whose listing got another time, in order.
    corrected: RefCell<Vec<ScopeId>>,
    started: Instant,
}

impl Running {
    fn polls(&self, zone: &str) -> Vec<Duration> {
        self.polls.borrow().get(zone).cloned().unwrap_or_default()
    }

    fn seconds(&self, zone: &str) -> Vec<u64> {
        self.polls(zone).iter().map(Duration::as_secs).collect()
    }

    fn state(&self, index: usize) -> Arc<TargetState> {
        self.snapshots.borrow().targets[index].clone()
    }

    /// Has these zones polled from now on.
    async fn change(&self, zones: Vec<Target>) {
        self.change_with(zones, "a secret").await;
    }

    /// The same, with another secret of the credential "default".
    async fn change_with(&self, zones: Vec<Target>, secret: &'static str) {
        let zones: Vec<_> = zones.into_iter().map(Arc::new).collect();
        self.plans.send_replace(Arc::new(plan(zones.clone(), secret)));
        let shown = |snapshot: &Arc<Snapshot>| snapshot.targets.iter().map(|state| &state.target).eq(&zones);
        self.snapshots.clone().wait_for(shown).await.unwrap();
        // Even if the zones are the same.
        sleep(Duration::from_millis(1)).await;
    }
}

/// A client is the secret that it has.
fn plan(zones: Vec<Arc<Target>>, secret: &'static str) -> Plan<&'static str> {
    let clients = [("default", secret), ("other", "the other secret"), ("renamed", secret)];
    let clients = clients.into_iter().map(|(name, secret)| (name.into(), Arc::new(secret))).collect();
    Plan { targets: zones, clients, requests_per_5m: 600, discoveries: Arc::default(), shard: Shard::WHOLE }
}

/// Polls for so long; `fetch` gets the job and how often the zone was polled before.
async fn run_with<P>(
    zones: Vec<Target>,
    time: Duration,
    fetch: impl Fn(Job<&'static str>, usize) -> P,
    during: impl AsyncFn(&Running),
) -> Running
where
    P: Future<Output = Result<Fetched, Failure>>,
{
    let states = zones.into_iter().map(|zone| TargetState::new(Arc::new(zone))).collect();
    run_from(states, vec![], time, fetch, || WALL, during).await
}

/// The same from where another process has left off; `now` is the wall clock.
async fn run_from<P>(
    states: Vec<TargetState>,
    due_in: Vec<Option<i64>>,
    time: Duration,
    fetch: impl Fn(Job<&'static str>, usize) -> P,
    now: impl Fn() -> i64,
    during: impl AsyncFn(&Running),
) -> Running
where
    P: Future<Output = Result<Fetched, Failure>>,
{
    let targets = states.into_iter().map(Arc::new).collect();
    let (snapshots, latest) = watch::channel(Arc::new(Snapshot { targets, ..Snapshot::default() }));
    let (recover, recovered) = mpsc::unbounded_channel();
    let heartbeat = watch::Sender::new(Instant::now());
    let first = latest.borrow().targets.iter().map(|state| state.target.clone()).collect();
    let plans = watch::Sender::new(Arc::new(plan(first, "a secret")));
    let poller =
        Poller { plan: plans.borrow().clone(), plans: plans.subscribe(), snapshots, due_in, recovered, heartbeat };
    let running = Running {
        snapshots: latest,
        recover,
        plans,
        polls: Rc::default(),
        corrected: RefCell::default(),
        started: Instant::now(),
    };
    let recorded = |job: Job<&'static str>| {
        let mut polls = running.polls.borrow_mut();
        let polls = polls.entry(job.target.name.clone().unwrap_or_else(|| job.target.id.as_str().into())).or_default();
        polls.push(running.started.elapsed());
        fetch(job, polls.len() - 1)
    };
    let polling = poller.run(recorded, now, |state, _| running.corrected.borrow_mut().push(state.target.id.clone()));
    let _ = timeout(time, async { tokio::join!(polling, during(&running)) }).await;
    running
}

async fn run<P>(zones: Vec<Target>, time: Duration, fetch: impl Fn(Job<&'static str>, usize) -> P) -> Running
where
    P: Future<Output = Result<Fetched, Failure>>,
{
    run_with(zones, time, fetch, async |_| {}).await
}

/// Requests with a budget of 600 in five minutes, of which no window holds more.
struct Requests {
    throttle: Throttle,
    sent: RefCell<Vec<Instant>>,
}

impl Requests {
    fn new() -> Self {
        Self { throttle: Throttle::new(600, 4), sent: RefCell::default() }
    }

    /// Sends so many requests of one poll.
    async fn send(&self, job: &Job<&'static str>, count: usize) {
        let ticket = self.throttle.next_ticket();
        for _ in 0..count {
            let permit = self.throttle.acquire(ticket, job.priority).await.unwrap();
            self.sent.borrow_mut().push(Instant::now());
            sleep(Duration::from_millis(50)).await;
            drop(permit);
        }
    }

    fn assert_within_budget(&self) {
        let sent = self.sent.borrow();
        for (first, beyond) in sent.iter().zip(sent.iter().skip(600)) {
            assert!(*beyond - *first > 5 * MINUTE);
        }
    }
}

/// So many targets of each kind, with the interval of the kind.
fn of_kinds(kinds: &[Kind], count: usize, interval: impl Fn(Kind) -> Duration) -> Vec<Target> {
    let target = |number: usize, kind: Kind| Target {
        kind,
        name: Some(format!("{} {number}", kind.label()).into()),
        ..zone(number, interval(kind))
    };
    (0..count).flat_map(|number| kinds.iter().map(move |&kind| target(number, kind))).collect()
}

/// The longest time between two polls, the first of which was later than this.
fn longest_wait(polls: &[Duration], after: Duration) -> Duration {
    let later = polls.windows(2).filter(|pair| pair[0] >= after);
    later.map(|pair| pair[1] - pair[0]).max().unwrap()
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_zones_share_the_budget_for_a_day() {
    let hours = if tests_everything() { 24 } else { 6 };
    let requests = Requests::new();
    let running = run(zones(10_000, HOUR), hours * HOUR, async |job, _| {
        requests.send(&job, 1).await;
        good()
    })
    .await;
    requests.assert_within_budget();
    let (sent, allowed) = (requests.sent.borrow().len(), 600 * 12 * hours as usize);
    assert!(sent * 100 >= allowed * 95, "{sent} of {allowed} requests were made");
    // 10,000 requests take 83 minutes, so that is what the hour really becomes.
    for (zone, polls) in running.polls.borrow().iter() {
        let longest = longest_wait(polls, Duration::ZERO);
        assert!(longest < 90 * MINUTE, "{zone} had to wait for {longest:?}");
    }
    assert!(running.snapshots.borrow().targets.iter().all(|zone| zone.polls >= u64::from(hours) * 2 / 3));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_zones_of_five_kinds_fit_into_the_budget_for_a_day() {
    let kinds = [Kind::Client, Kind::Edge, Kind::OriginCa, Kind::AopZone, Kind::AopHostname];
    let interval = |kind: Kind| if kind.changes_rarely() { 6 * HOUR } else { HOUR };
    let requests = Requests::new();
    let hours = if tests_everything() { 24 } else { 14 };
    let running = run(of_kinds(&kinds, 1000, interval), hours * HOUR, async |job, _| {
        requests.send(&job, 1).await;
        good()
    })
    .await;
    requests.assert_within_budget();
    // The first round takes 42 minutes of the budget, and no target waits for it longer than that.
    for (name, polls) in running.polls.borrow().iter() {
        let kind = Kind::from_label(name.split(' ').next().unwrap()).unwrap();
        assert!(polls[0] < 45 * MINUTE, "{name} waited for {:?}", polls[0]);
        let longest = longest_wait(polls, Duration::ZERO);
        assert!(longest <= interval(kind) + 45 * MINUTE, "{name} had to wait for {longest:?}");
        let later = longest_wait(polls, HOUR);
        assert!(later <= interval(kind) + MINUTE, "{name} had to wait for {later:?} in the end");
    }
}

#[tokio::test(start_paused = true)]
async fn neither_nine_kinds_of_a_thousand_zones_nor_a_large_one_make_urgent_kinds_late() {
    let kinds: Vec<_> =
        Kind::ALL.into_iter().filter(|kind| kind.scope() == Scope::Zone).chain([Kind::MtlsCa]).collect();
    assert_eq!(kinds.len(), 9);
    let interval = |kind: Kind| if kind.changes_rarely() { 6 * HOUR } else { HOUR };
    let certificate = |number: usize| Certificate {
        texts: Texts::from([(Field::Id, &*number.to_string())]),
        ..two_kinds::certificate(30, WALL)
    };
    let large = Arc::new(Listing::of(Kind::OriginCa, (0..10_000).map(certificate).collect()));
    let requests = Requests::new();
    let running = run(of_kinds(&kinds, 1000, interval), 9 * HOUR, async |job, poll| {
        // It costs 200 requests from its second poll on.
        let is_large = poll > 0 && job.target.name.as_deref() == Some("origin_ca 500");
        requests.send(&job, if is_large { 200 } else { 1 }).await;
        if is_large { Ok(Fetched { listing: Arc::clone(&large), ..good()? }) } else { good() }
    })
    .await;
    requests.assert_within_budget();
    for state in &running.snapshots.borrow().targets {
        let (kind, polls) = (state.target.kind, running.polls(&state.name));
        assert_eq!(state.interval, interval(kind));
        // The first round takes 75 minutes of the budget. What is urgent waits for the next window at most.
        let may_be_late = if kind.changes_rarely() { 100 * MINUTE } else { 6 * MINUTE };
        let longest = longest_wait(&polls, Duration::ZERO);
        assert!(longest <= interval(kind) + may_be_late, "{kind:?} had to wait for {longest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn intervals_are_stretched_until_the_budget_carries_them_and_all_are_kept() {
    let kinds: Vec<_> = Kind::ALL.into_iter().filter(|kind| kind.scope() == Scope::Zone).collect();
    let interval = |kind: Kind| if kind.changes_rarely() { 36 * MINUTE } else { 6 * MINUTE };
    // In five minutes, the two urgent kinds need 400 requests, and the six others 200.
    let requests = Requests::new();
    let running = run(of_kinds(&kinds, 240, interval), 4 * HOUR, async |job, _| {
        requests.send(&job, 1).await;
        good()
    })
    .await;
    requests.assert_within_budget();
    for state in &running.snapshots.borrow().targets {
        let (kind, polls) = (state.target.kind, running.polls(&state.name));
        let real = if kind.changes_rarely() { Duration::from_secs(2542) } else { interval(kind) };
        assert_eq!(state.interval, real, "{kind:?}");
        // In the first hour, there is the first round, too.
        assert!(polls[0] < HOUR, "{kind:?} was polled for the first time after {:?}", polls[0]);
        let longest = longest_wait(&polls, HOUR);
        assert!(longest < real + 2 * MINUTE, "{kind:?} had to wait for {longest:?}, and its interval is {real:?}");
        let longest = longest_wait(&polls, Duration::ZERO);
        assert!(kind.changes_rarely() || longest <= real + 6 * MINUTE, "{kind:?} had to wait for {longest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_larger_budget_intervals_go_back_and_polls_are_spread_evenly() {
    let stretched = Duration::from_secs(31_579);
    let running = run_with(
        zones(100, HOUR),
        DAY + 2 * HOUR,
        async |_, _| good(),
        async |running| {
            let allow = |requests_per_5m| {
                let targets = running.plans.borrow().targets.clone();
                running.plans.send_replace(Arc::new(Plan { requests_per_5m, ..plan(targets, "a secret") }));
            };
            allow(1);
            sleep(DAY).await;
            assert_eq!(running.state(50).interval, stretched);
            assert_eq!(longest_wait(&running.polls("zone-50.example"), HOUR), stretched);
            allow(600);
            sleep(Duration::from_millis(1)).await;
            // What is shown may be as old as that.
            assert_eq!(running.state(50).interval, stretched);
            sleep(HOUR).await;
            assert!(running.snapshots.borrow().targets.iter().all(|state| state.interval == HOUR));
        },
    )
    .await;
    let mut polls: Vec<_> = running.polls.borrow().values().flatten().copied().filter(|time| *time > DAY).collect();
    polls.sort_unstable();
    assert!((199..=201).contains(&polls.len()), "{} polls", polls.len());
    assert!(polls.windows(2).all(|pair| pair[1] - pair[0] < 2 * MINUTE), "{polls:?}");
}

#[tokio::test(start_paused = true)]
async fn zones_are_polled_at_once_and_then_spread_over_their_interval() {
    let running = run(zones(4, HOUR), 3 * HOUR, async |_, _| good()).await;
    for (zone, seconds) in [
        ("zone-0.example", vec![0, 900, 4500, 8100]),
        ("zone-1.example", vec![0, 1800, 5400, 9000]),
        ("zone-2.example", vec![0, 2700, 6300, 9900]),
        ("zone-3.example", vec![0, 3600, 7200]),
    ] {
        assert_eq!(running.seconds(zone)[..seconds.len()], seconds, "{zone}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_zone_keeps_its_own_interval() {
    let running = run(vec![zone(0, MINUTE), zone(1, HOUR)], DAY - Duration::from_secs(1), async |_, _| good()).await;
    assert_eq!(running.polls("zone-0.example").len(), 1 + 24 * 60);
    assert_eq!(running.polls("zone-1.example").len(), 24);
}

#[tokio::test(start_paused = true)]
async fn polls_of_a_zone_never_overlap_and_a_slow_zone_holds_up_no_other() {
    let running = run(zones(2, MINUTE), HOUR, async |job, _| {
        if *job.target == zone(0, MINUTE) {
            sleep(10 * MINUTE + Duration::from_secs(1)).await;
        }
        good()
    })
    .await;
    assert_eq!(running.seconds("zone-0.example"), [0, 601, 1202, 1803, 2404, 3005]);
    assert_eq!(running.seconds("zone-1.example"), (0..=60).map(|minute| minute * 60).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_fails_is_tried_sooner_and_then_ever_more_rarely() {
    let minutes = |reason: Reason, interval: Duration| async move {
        // Nine waits, of an interval of a day the longest.
        let running =
            run(zones(1, interval), (2 * interval).max(DAY), async |_, _| Err(Failure::new(reason, "no"))).await;
        let polls = running.polls("zone-0.example");
        polls.windows(2).map(|pair| (pair[1] - pair[0]).as_secs() / 60).take(9).collect::<Vec<_>>()
    };
    // What a person has to repair: five minutes, doubling to six hours.
    for reason in [Reason::Unauthorized, Reason::Forbidden, Reason::NotFound, Reason::Decode] {
        assert_eq!(minutes(reason, HOUR).await, [5, 10, 20, 40, 80, 160, 320, 360, 360], "{reason:?}");
    }
    // The interval, where it is shorter than five minutes or longer than six hours.
    assert_eq!(minutes(Reason::Forbidden, 2 * MINUTE).await, [2, 4, 8, 16, 32, 64, 128, 256, 360]);
    assert_eq!(minutes(Reason::Forbidden, DAY).await, [5, 10, 20, 40, 80, 160, 320, 640, 1280]);
    // What passes on its own: never longer than the interval.
    assert_eq!(minutes(Reason::ServerError, HOUR).await, [5, 10, 20, 40, 60, 60, 60, 60, 60]);
    assert_eq!(minutes(Reason::Connect, MINUTE).await, [1, 1, 1, 1, 1, 1, 1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_success_resets_the_waiting_and_the_zone_returns_to_its_place() {
    let fails = [true, true, true, false, true, false];
    let running = run(zones(1, HOUR), 4 * HOUR, async |_, poll| {
        if *fails.get(poll).unwrap_or(&false) { Err(Failure::new(Reason::Forbidden, "no")) } else { good() }
    })
    .await;
    let minutes: Vec<_> = running.polls("zone-0.example").iter().map(|time| time.as_secs() / 60).collect();
    assert_eq!(minutes, [0, 5, 15, 35, 60, 65, 120, 180, 240]);
}

#[tokio::test(start_paused = true)]
async fn the_server_is_waited_for_as_long_as_it_says() {
    let running = run(zones(1, MINUTE), 3 * HOUR, async |_, poll| {
        let wait_at_least = if poll == 0 { HOUR } else { Duration::ZERO };
        Err(Failure { wait_at_least, ..Failure::new(Reason::RateLimited, "no") })
    })
    .await;
    assert_eq!(running.seconds("zone-0.example")[..3], [0, 3600, 3660]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_is_tried_by_one_zone_after_the_other_those_that_were_listed_first() {
    let dead = |try_after: Option<u64>| {
        let credential_refused = try_after
            .map_or(CredentialRefused::Skipped, |seconds| CredentialRefused::ProbeAfter(Duration::from_secs(seconds)));
        Err(Failure { credential_refused: Some(credential_refused), ..Failure::new(Reason::Unauthorized, "no") })
    };
    let tries = RefCell::new(Vec::new());
    let started = Instant::now();
    // Zone 0 never worked, and stops the credential with its third poll; nothing works from then on.
    run(zones(3, 4 * HOUR), HOUR, |job, poll| {
        let name = job.target.name.clone().unwrap();
        let zone: usize = name[5..6].parse().unwrap();
        let minutes = started.elapsed().as_secs() / 60;
        let outcome = match (zone, poll, minutes) {
            (0, 0 | 1, _) => Err(Failure::new(Reason::Unauthorized, "no")),
            (_, 0, _) => good(),
            (0, 2, _) => dead(Some(60)),
            (_, _, 16 | 18 | 22) => {
                tries.borrow_mut().push((minutes, zone));
                dead(Some(if minutes == 16 { 120 } else { 240 }))
            }
            _ => dead(None),
        };
        async move { outcome }
    })
    .await;
    assert_eq!(tries.into_inner(), [(16, 1), (18, 2), (22, 1)]);
}

#[tokio::test(start_paused = true)]
async fn zones_that_failed_are_polled_at_once_with_another_secret_or_if_the_one_they_have_works_again() {
    for (has_another_secret, first, second) in
        [(true, vec![0, 5, 15, 16], vec![0, 5, 10, 15, 16]), (false, vec![0, 5, 15, 35], vec![0, 5, 10, 15, 16])]
    {
        let mut all = zones(5, DAY);
        all[4].credential = "other".into();
        let running = run_with(
            all.clone(),
            HOUR - Duration::from_secs(1),
            async |job, poll| match (&**job.target.name.as_ref().unwrap(), poll) {
                ("zone-0.example" | "zone-4.example", 0..3) => Err(Failure::new(Reason::Unauthorized, "no")),
                ("zone-1.example", 0..4) => Err(Failure {
                    credential_refused: Some(CredentialRefused::Skipped),
                    ..Failure::new(Reason::Unauthorized, "no")
                }),
                ("zone-2.example", 0) => Err(Failure::new(Reason::Timeout, "no")),
                _ => good(),
            },
            async |running| {
                sleep(16 * MINUTE).await;
                if has_another_secret {
                    running.change_with(all.clone(), "another secret").await;
                } else {
                    running.recover.send("default".into()).unwrap();
                }
            },
        )
        .await;
        let minutes = |zone| running.polls(zone).iter().map(|time| time.as_secs() / 60).collect::<Vec<_>>();
        assert_eq!(minutes("zone-0.example"), first, "{has_another_secret}");
        assert_eq!(minutes("zone-1.example"), second, "{has_another_secret}");
        assert_eq!(minutes("zone-2.example"), [0, 5]);
        assert_eq!(minutes("zone-3.example"), [0]);
        assert_eq!(minutes("zone-4.example"), [0, 5, 15, 35]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_poll_keeps_the_last_good_listing_and_counts() {
    let running = run(zones(1, HOUR), HOUR + 30 * MINUTE, async |_, poll| {
        sleep(Duration::from_secs(2)).await;
        if poll == 0 { good() } else { Err(Failure::new(Reason::Forbidden, "no")) }
    })
    .await;
    let state = running.state(0);
    // After an hour, then 5, 10 and 20 minutes apart.
    assert_eq!((state.polls, state.failures(Reason::Forbidden), state.failures(Reason::Timeout)), (4, 3, 0));
    assert!(state.listing.is_some());
    let last = state.last_poll.as_ref().unwrap();
    assert_eq!((last.at, last.duration), (WALL, Duration::from_secs(2)));
    assert_eq!(last.failure.as_ref().map(|failure| failure.reason), Some(Reason::Forbidden));
}

#[tokio::test(start_paused = true)]
async fn a_name_is_asked_for_until_it_is_known() {
    let unnamed = |number| Target { name: None, ..zone(number, HOUR) };
    let asked = RefCell::new(HashMap::<_, Vec<bool>>::new());
    let running = run(vec![unnamed(0), unnamed(1), zone(2, HOUR)], 4 * HOUR, |job, poll| {
        asked.borrow_mut().entry(job.target.id.clone()).or_default().push(job.wants_name);
        async move {
            let is_known = poll > 0 && job.target.id == zone(0, HOUR).id;
            let name = is_known.then(|| "found.example".into());
            Ok(Fetched { listing: Arc::default(), vanished: 0, completed: 0, name })
        }
    })
    .await;
    let asked = asked.into_inner();
    assert_eq!(asked[&zone(0, HOUR).id][..3], [true, true, false]);
    assert_eq!(asked[&zone(1, HOUR).id][..3], [true, true, true]);
    assert_eq!(asked[&zone(2, HOUR).id][..3], [false, false, false]);
    let names: Vec<_> = running.snapshots.borrow().targets.iter().map(|zone| zone.name.to_string()).collect();
    assert_eq!(names, ["found.example", zone(1, HOUR).id.as_str(), "zone-2.example"]);
}

#[tokio::test(start_paused = true)]
async fn zones_that_failed_have_a_priority_of_their_own() {
    let priorities = RefCell::new(Vec::new());
    run(zones(1, HOUR), 3 * HOUR, |job, poll| {
        priorities.borrow_mut().push(job.priority);
        async move { if poll == 1 { Err(Failure::new(Reason::Timeout, "no")) } else { good() } }
    })
    .await;
    use Priority::{Failing, Urgent};
    assert_eq!(priorities.into_inner(), [Urgent, Urgent, Failing, Urgent, Urgent]);
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_zones_are_due_as_if_it_had_never_stopped() {
    // In how many minutes it would be due, and the minutes at which it is polled.
    for (interval, due_in, polls) in [
        (HOUR, Some(0), vec![0, 60, 120]),
        (HOUR, Some(1), vec![1, 61, 121]),
        (HOUR, Some(59), vec![59, 119, 179]),
        (HOUR, Some(60), vec![60, 120, 180]),
        // It was longer before.
        (HOUR, Some(95), vec![35, 95, 155]),
        // Late ones come within five minutes, by their place, and then have their old place again.
        (HOUR, Some(-7), vec![3, 53, 113]),
        (HOUR, Some(-10), vec![5, 50, 110]),
        (HOUR, Some(-61), vec![4, 59, 119]),
        (HOUR, Some(-56), vec![4, 64, 124]),
        (2 * MINUTE, Some(-3), vec![1, 3, 5]),
        (30 * DAY, Some(-24 * 60), vec![5]),
        (HOUR, None, vec![0, 60, 120]),
    ] {
        let state = TargetState::new(Arc::new(zone(0, interval)));
        let due_in = vec![due_in.map(|minutes| minutes * 60_000)];
        let running = run_from(vec![state], due_in.clone(), DAY, async |_, _| good(), || WALL, async |_| {}).await;
        let minutes: Vec<_> =
            running.seconds("zone-0.example").iter().map(|seconds| seconds / 60).take(polls.len()).collect();
        assert_eq!(minutes, polls, "{interval:?} {due_in:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn zones_that_are_late_together_do_not_come_in_a_burst() {
    // A thousand zones that an hour is shared by, after a night without the program.
    let states = zones(1000, HOUR).into_iter().map(|zone| TargetState::new(Arc::new(zone))).collect();
    let due_in = (0..1000).map(|place| Some(place * 3600 - 10 * 3_600_000)).collect();
    let running = run_from(states, due_in, 3 * HOUR, async |_, _| good(), || WALL, async |_| {}).await;
    let polls = running.polls.borrow();
    let first: Vec<_> = polls.values().map(|times| times[0]).collect();
    for start in 0..60 {
        let window = Duration::from_secs(start * 5)..Duration::from_secs(start * 5 + 5);
        let count = first.iter().filter(|time| window.contains(*time)).count();
        assert!(count <= 25, "{count} of 1000 zones in five of 300 seconds, from {window:?}");
    }
    // And they are spread over the hour again.
    let second: Vec<_> = polls.values().map(|times| times[2].as_secs() % 3600 / 60).collect();
    for minute in 0..60 {
        let count = second.iter().filter(|time| **time == minute).count();
        assert!((12..=21).contains(&count), "{count} zones in minute {minute}");
    }
}

#[tokio::test(start_paused = true)]
async fn zones_that_were_never_listed_come_one_after_the_other_unless_this_is_the_first_start() {
    for (count, restored, expected) in [(3, 0, vec![0, 0, 0]), (3, 1, vec![0, 1, 2]), (3000, 1, vec![0, 0, 0])] {
        let states = zones(restored + count, HOUR).into_iter().map(|zone| TargetState::new(Arc::new(zone))).collect();
        let due_in = vec![Some(1_800_000); restored];
        let due_in = due_in.into_iter().chain(vec![None; count]).collect();
        let running = run_from(states, due_in, HOUR / 2, async |_, _| good(), || WALL, async |_| {}).await;
        let first = |zone: usize| running.seconds(&format!("zone-{zone}.example"))[0];
        assert_eq!((restored..restored + 3).map(first).collect::<Vec<_>>(), expected, "{count} {restored}");
        assert!(first(restored + count - 1) < 300);
    }
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_tries_a_refused_credential_before_its_turn_keeps_its_turn() {
    let [first, second] = [0, 1].map(|number| Arc::new(zone(number, DAY)));
    let states = vec![TargetState::new(first), TargetState::restored(second, Some((Arc::default(), WALL)), None)];
    let hours = |hours: i64| Some(hours * 3_600_000);
    let running = run_from(
        states,
        vec![hours(0), hours(20)],
        3 * DAY,
        async |job, poll| match (&**job.target.name.as_ref().unwrap(), poll) {
            ("zone-0.example", 0) => Err(Failure {
                credential_refused: Some(CredentialRefused::ProbeAfter(MINUTE)),
                ..Failure::new(Reason::Unauthorized, "no")
            }),
            _ => good(),
        },
        || WALL,
        async |_| {},
    )
    .await;
    let minutes: Vec<_> = running.seconds("zone-1.example").iter().map(|seconds| seconds / 60).collect();
    assert_eq!(minutes, [1, 20 * 60, 44 * 60, 68 * 60]);
}

#[tokio::test(start_paused = true)]
async fn a_poll_knows_when_the_zone_is_due_after_it() {
    let due_times = RefCell::new(Vec::new());
    let started = Instant::now();
    run(zones(2, HOUR), 4 * HOUR, |job, poll| {
        if *job.target.id.as_str() == *zone(0, HOUR).id.as_str() {
            due_times.borrow_mut().push((job.next_due - started).as_secs() / 60);
        }
        async move { if poll == 1 { Err(Failure::new(Reason::Timeout, "no")) } else { good() } }
    })
    .await;
    // Polled at 0, 30 and, since that failed, 35 minutes.
    assert_eq!(due_times.into_inner()[..4], [30, 90, 90, 150]);
}

#[tokio::test(start_paused = true)]
async fn timers_follow_no_wall_clock_and_ages_stay_true_when_it_is_set() {
    for (jump, completed) in [(-24 * 3600, WALL - 24 * 3600 - 30), (24 * 3600, WALL - 30), (0, WALL - 30)] {
        let started = Instant::now();
        let now = || {
            let elapsed = started.elapsed();
            let set = if elapsed >= 10 * MINUTE { jump } else { 0 };
            WALL + i64::try_from(elapsed.as_secs()).unwrap() + set
        };
        let state = TargetState::restored(Arc::new(zone(0, HOUR)), Some((Arc::default(), WALL - 30)), None);
        let published = Cell::new(0);
        let running = run_from(
            vec![state],
            vec![Some(1_800_000)],
            5 * HOUR,
            async |_, _| good(),
            now,
            async |running| {
                sleep(11 * MINUTE).await;
                published.set(running.state(0).listing.as_ref().unwrap().1);
            },
        )
        .await;
        let minutes: Vec<_> = running.seconds("zone-0.example").iter().map(|seconds| seconds / 60).collect();
        assert_eq!(minutes, [30, 90, 150, 210, 270], "{jump}");
        // Set back: as old as before. Set forward: as old as it seems, which is what a machine that slept must show.
        assert_eq!(published.get(), completed, "{jump}");
        assert_eq!(running.corrected.borrow().len(), usize::from(jump < 0), "{jump}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_keeps_what_stays_starts_what_is_new_and_ends_what_is_gone() {
    let given_up = Cell::new(0);
    struct CountsDrops<'a>(&'a Cell<u32>);
    impl Drop for CountsDrops<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let fetch = |job: Job<&'static str>, _| {
        let (hangs, guard) = (job.target.name.as_deref() == Some("zone-2.example"), CountsDrops(&given_up));
        async move {
            if hangs {
                sleep(DAY).await;
            }
            std::mem::forget(guard);
            good()
        }
    };
    let running = run_with(zones(3, HOUR), 3 * HOUR, fetch, async |running| {
        sleep(30 * MINUTE).await;
        assert_eq!(given_up.get(), 0);
        // Zone 0 stays, zone 1 goes, zone 2 goes while it is polled, and zone 3 comes.
        running.change(vec![zone(3, HOUR), zone(0, HOUR)]).await;
        assert_eq!((running.state(1).polls, running.state(0).polls), (2, 1));
        sleep(MINUTE).await;
        assert_eq!(given_up.get(), 1);
    })
    .await;
    assert_eq!(running.seconds("zone-0.example"), [0, 1200, 4800, 8400]);
    assert_eq!(running.seconds("zone-1.example"), [0]);
    assert_eq!(running.seconds("zone-3.example"), [1800, 5400, 9000]);
    assert_eq!(running.snapshots.borrow().targets.len(), 2);
    assert_eq!((running.state(0).polls, running.state(1).polls), (3, 4));
}

#[tokio::test(start_paused = true)]
async fn another_interval_or_credential_takes_effect_at_once() {
    let running = run_with(
        vec![zone(0, DAY), zone(1, MINUTE), zone(2, DAY)],
        3 * HOUR,
        async |_, _| good(),
        async |running| {
            sleep(10 * MINUTE).await;
            let other = Target { credential: "other".into(), ..zone(2, DAY) };
            running.change(vec![zone(0, HOUR), zone(1, DAY), other]).await;
        },
    )
    .await;
    assert_eq!(running.seconds("zone-0.example"), [0, 4200, 7800]);
    // Two were planned already; the next comes a day later.
    assert_eq!(running.seconds("zone-1.example").last(), Some(&700));
    assert_eq!(running.seconds("zone-2.example"), [0, 600]);
}

#[tokio::test(start_paused = true)]
async fn what_a_zone_is_called_follows_the_configuration() {
    let nameless = || Target { name: None, ..zone(0, HOUR) };
    let fetch = async |job: Job<&'static str>, _| {
        let name = job.wants_name.then(|| "named.example".into());
        Ok(Fetched { listing: Arc::default(), vanished: 0, completed: 0, name })
    };
    let names = RefCell::new(Vec::new());
    run_with(vec![zone(0, HOUR)], DAY, fetch, async |running| {
        let look = async |zone: Target| {
            running.change(vec![zone]).await;
            let at_once = running.state(0).name.to_string();
            sleep(2 * HOUR).await;
            names.borrow_mut().push([at_once, running.state(0).name.to_string()]);
        };
        look(nameless()).await;
        look(nameless()).await;
        look(zone(0, HOUR)).await;
    })
    .await;
    let id = format!("{:032x}", 0);
    assert_eq!(
        names.into_inner(),
        [[&*id, "named.example"], ["named.example", "named.example"], ["zone-0.example", "zone-0.example"]]
    );
}

#[tokio::test(start_paused = true)]
async fn polls_with_another_secret_begin_again_and_zones_that_wait_keep_their_place() {
    let asked = RefCell::new(Vec::new());
    let fetch = |job: Job<&'static str>, poll| {
        let asked = &asked;
        async move {
            let name = job.target.name.clone().unwrap();
            if &*name != "zone-0.example" && poll == 0 {
                sleep(20 * MINUTE).await;
            }
            asked.borrow_mut().push((name[5..6].to_owned(), *job.client));
            good()
        }
    };
    let three = || vec![zone(0, HOUR), zone(1, HOUR), Target { credential: "other".into(), ..zone(2, HOUR) }];
    let running = run_with(three(), 170 * MINUTE, fetch, async |running| {
        sleep(10 * MINUTE).await;
        running.change_with(three(), "another secret").await;
    })
    .await;
    // Zone 0 waited; zone 1 was being polled, and has its place of before afterwards; zone 2 has another credential.
    assert_eq!(running.seconds("zone-0.example"), [0, 1200, 4800, 8400]);
    assert_eq!(running.seconds("zone-1.example"), [0, 600, 2400, 6000, 9600]);
    assert_eq!(running.seconds("zone-2.example"), [0, 3600, 7200]);
    let of =
        |zone: &str| asked.borrow().iter().filter(|(of, _)| of == zone).map(|(_, secret)| *secret).collect::<Vec<_>>();
    assert_eq!(of("0"), ["a secret", "another secret", "another secret", "another secret"]);
    assert_eq!(of("1"), ["another secret"; 4]);
    assert_eq!(of("2"), ["the other secret"; 3]);
}

#[tokio::test(start_paused = true)]
async fn another_name_for_the_same_secret_disturbs_no_poll() {
    let fetch = async |_: Job<&'static str>, _| {
        sleep(20 * MINUTE).await;
        good()
    };
    let running = run_with(vec![zone(0, HOUR)], 30 * MINUTE, fetch, async |running| {
        sleep(10 * MINUTE).await;
        running.change(vec![Target { credential: "renamed".into(), ..zone(0, HOUR) }]).await;
    })
    .await;
    assert_eq!((running.seconds("zone-0.example"), running.state(0).polls), (vec![0], 1));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_the_configuration_gives_during_a_poll_beats_the_one_of_the_api() {
    let fetch = async |_: Job<&'static str>, _| {
        sleep(MINUTE).await;
        Ok(Fetched { listing: Arc::default(), vanished: 0, completed: 0, name: Some("named.example".into()) })
    };
    let running = run_with(vec![Target { name: None, ..zone(0, HOUR) }], 2 * MINUTE, fetch, async |running| {
        sleep(MINUTE / 2).await;
        running.change(vec![zone(0, HOUR)]).await;
    })
    .await;
    assert_eq!((&*running.state(0).name, running.state(0).polls), ("zone-0.example", 1));
}

#[tokio::test(start_paused = true)]
async fn a_shorter_interval_shortens_the_wait_after_a_failure_but_not_one_that_the_server_wants() {
    for (wait_at_least, seconds) in [
        (Duration::ZERO, [0, 300, 900, 2100, 4500, 8100, 17_700]),
        (HOUR, [0, 3600, 7200, 10_800, 14_400, 19_200, 28_800]),
    ] {
        let running = run_with(
            vec![zone(0, DAY)],
            DAY,
            async |_, _| Err(Failure { wait_at_least, ..Failure::new(Reason::Forbidden, "no") }),
            async |running| {
                // The next try would come at 9,300 seconds.
                sleep(Duration::from_secs(7500)).await;
                running.change(vec![zone(0, 10 * MINUTE)]).await;
            },
        )
        .await;
        assert_eq!(running.seconds("zone-0.example")[..7], seconds, "{wait_at_least:?}");
    }
    // A good poll is followed by the next one an interval later, and not where the longer one had it.
    let fails_once = async |_, poll| if poll == 0 { Err(Failure::new(Reason::Timeout, "no")) } else { good() };
    let running = run_with(vec![zone(0, DAY)], 2 * HOUR, fails_once, async |running| {
        sleep(MINUTE).await;
        running.change(vec![zone(0, HOUR)]).await;
    })
    .await;
    assert_eq!(running.seconds("zone-0.example"), [0, 300, 3900]);
}

#[tokio::test(start_paused = true)]
async fn kinds_of_one_zone_are_polled_apart_and_the_end_of_one_leaves_the_other() {
    let other = || Target { kind: Kind::OriginCa, name: Some("other-kind.example".into()), ..zone(0, HOUR) };
    let running = run_with(
        vec![zone(0, HOUR), other()],
        170 * MINUTE,
        async |_, _| good(),
        async |running| {
            sleep(80 * MINUTE).await;
            running.change(vec![other()]).await;
        },
    )
    .await;
    assert_eq!(running.seconds("zone-0.example"), [0, 1800]);
    assert_eq!(running.seconds("other-kind.example"), [0, 3600, 7200]);
    assert_eq!((running.snapshots.borrow().targets.len(), running.state(0).polls), (1, 3));
}
