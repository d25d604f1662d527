use std::cell::RefCell;

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use proptest::prelude::*;
use tokio::time::{advance, sleep};

use super::{
    super::headers::{LONGEST_WAIT, RateLimit, lowest_reset},
    breaker::PauseRecord,
    budget::WINDOW,
    *,
};
use crate::{model::Kind, properties::tests_everything};

fn status(status: u16) -> ResponseSummary {
    let verdict = match status {
        401 => Verdict::Refused,
        403 => Verdict::Forbidden,
        500.. => Verdict::None,
        _ => Verdict::Accepted,
    };
    ResponseSummary { verdict, listing: Some(Kind::Client), ..ResponseSummary::default() }
}

fn locked_out() -> ResponseSummary {
    ResponseSummary { verdict: Verdict::LockedOut, ..ResponseSummary::default() }
}

fn too_many(retry_after: Option<u64>) -> ResponseSummary {
    ResponseSummary { is_rate_limited: true, retry_after: retry_after.map(Duration::from_secs), ..status(429) }
}

fn left(remaining: u64, reset: u64) -> ResponseSummary {
    let limit = RateLimit {
        policy: "default".into(),
        quota: Some(1200),
        remaining: Some(remaining),
        reset: Duration::from_secs(reset),
    };
    ResponseSummary { low_for: lowest_reset(&[limit]), ..status(200) }
}

/// Waits for a permit as a poll of a healthy zone.
fn acquire(throttle: &Throttle) -> impl Future<Output = Result<Permit<'_>, Paused>> {
    throttle.acquire(throttle.next_ticket(), Priority::Healthy)
}

/// Sends a request that is answered at once.
async fn send(throttle: &Throttle, answer: ResponseSummary) -> Transition {
    acquire(throttle).await.unwrap().record_response(&answer)
}

/// How long it takes until a request may go out.
async fn time_to_send(throttle: &Throttle) -> Duration {
    let started = Instant::now();
    send(throttle, status(200)).await;
    started.elapsed()
}

/// Sends `requests` as fast as it may, each with the latency that `latency` draws, and returns when each was sent.
async fn run(throttle: &Throttle, requests: usize, mut latency: impl FnMut() -> Duration) -> Vec<Instant> {
    let sent = RefCell::new(Vec::new());
    let mut running: FuturesUnordered<_> = (0..requests)
        .map(|_| {
            let latency = latency();
            let sent = &sent;
            async move {
                let permit = acquire(throttle).await.unwrap();
                sent.borrow_mut().push(Instant::now());
                sleep(latency).await;
                permit.record_response(&status(200));
            }
        })
        .collect();
    while running.next().await.is_some() {}
    drop(running);
    sent.into_inner()
}

#[tokio::test(start_paused = true)]
async fn no_five_minutes_hold_more_requests_than_the_budget_and_little_of_it_is_wasted() {
    let (budget, hours) = (600, if tests_everything() { 24 } else { 6 });
    let throttle = Throttle::new(budget, 4);
    let requests = budget as usize * 12 * hours;
    let mut random = fastrand::Rng::with_seed(1);
    let started = Instant::now();
    let sent = run(&throttle, requests, || Duration::from_millis(random.u64(20..500))).await;
    for (first, beyond) in sent.iter().zip(&sent[budget as usize..]) {
        assert!(*beyond - *first > Duration::from_secs(300));
    }
    let ideal = Duration::from_secs(hours as u64 * 3600).as_secs_f64();
    let used = ideal / started.elapsed().as_secs_f64();
    assert!(used >= 0.95, "only {used:.3} of the budget was used");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn the_budget_holds_whatever_the_latencies_are(budget in 1..40_u32, concurrency in 1..20_u32, seed: u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let throttle = Throttle::new(budget, concurrency);
            let mut random = fastrand::Rng::with_seed(seed);
            let sent = run(&throttle, 300, || Duration::from_millis(random.u64(0..40_000))).await;
            // As it arrives over there: up to a second late.
            let mut arrived: Vec<_> = sent.iter().map(|time| *time + Duration::from_millis(random.u64(0..1000))).collect();
            arrived.sort_unstable();
            for (first, beyond) in arrived.iter().zip(&arrived[budget as usize..]) {
                assert!(*beyond - *first >= Duration::from_secs(300));
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn only_so_many_requests_are_out_at_a_time() {
    let throttle = Throttle::new(600, 3);
    let permits: Vec<_> = (0..3).map(|_| acquire(&throttle).now_or_never().unwrap().unwrap()).collect();
    assert!(acquire(&throttle).now_or_never().is_none());
    drop(permits);
    assert!(acquire(&throttle).now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn zones_that_may_hang_leave_a_place_free() {
    for (concurrency, failing) in [(1, 1), (2, 1), (4, 3)] {
        let throttle = Throttle::new(600, concurrency);
        send(&throttle, status(200)).await;
        let hanging: Vec<_> =
            std::iter::from_fn(|| throttle.acquire(throttle.next_ticket(), Priority::Failing).now_or_never())
                .take(10)
                .map(Result::unwrap)
                .collect();
        assert_eq!(hanging.len(), failing);
        assert_eq!(acquire(&throttle).now_or_never().is_some(), concurrency > 1, "{concurrency}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_left_below_a_fifth_is_the_owners() {
    let throttle = Throttle::new(600, 4);
    send(&throttle, left(240, 1)).await;
    assert_eq!(time_to_send(&throttle).await, Duration::ZERO);
    for (reset, seconds) in [(30, 30), (0, 1), (3000, 3000)] {
        send(&throttle, left(239, reset)).await;
        assert_eq!(time_to_send(&throttle).await, Duration::from_secs(seconds), "{reset}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_one_request_looks_before_others_follow() {
    let throttle = Throttle::new(600, 4);
    send(&throttle, left(100, 10)).await;
    let probe = acquire(&throttle).await.unwrap();
    advance(Duration::from_secs(5)).await;
    assert!(acquire(&throttle).now_or_never().is_none());
    // Still low: everything waits again. No word: likewise, for a second.
    assert_eq!(
        probe.record_response(&left(100, 20)).paused,
        Some(Paused { reason: PauseReason::Low, wait: Duration::from_secs(20) })
    );
    let probe = acquire(&throttle).await.unwrap();
    probe.record_response(&ResponseSummary::default());
    let probe = acquire(&throttle).await.unwrap();
    assert!(acquire(&throttle).now_or_never().is_none());
    probe.record_response(&left(1000, 1));
    let open: Vec<_> = (0..4).map(|_| acquire(&throttle).now_or_never().unwrap()).collect();
    assert_eq!(open.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_look_that_is_given_up_lets_another_one_look() {
    let throttle = Throttle::new(600, 4);
    send(&throttle, left(100, 10)).await;
    drop(acquire(&throttle).await.unwrap());
    assert_eq!(time_to_send(&throttle).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_429_stops_the_credential_as_a_whole() {
    for (retry_after, seconds) in [(Some(0), 1), (Some(60), 60), (Some(61), 61), (None, 300), (Some(3600), 3600)] {
        let throttle = Throttle::new(600, 4);
        let under_way = acquire(&throttle).await.unwrap();
        let wait = Duration::from_secs(seconds);
        assert_eq!(
            send(&throttle, too_many(retry_after)).await.paused,
            Some(Paused { reason: PauseReason::RateLimited, wait })
        );
        // What was sent before does not open it again.
        under_way.record_response(&status(200));
        if wait > PATIENCE {
            let paused = acquire(&throttle).now_or_never().unwrap().unwrap_err();
            assert_eq!(paused, Paused { reason: PauseReason::RateLimited, wait });
            advance(wait).await;
        } else {
            assert_eq!(time_to_send(&throttle).await, wait);
        }
        assert_eq!(time_to_send(&throttle).await, Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_when_a_long_block_begins_fail() {
    let throttle = Throttle::new(1, 2);
    let first = acquire(&throttle).await.unwrap();
    let mut waiting = std::pin::pin!(acquire(&throttle));
    assert!(waiting.as_mut().now_or_never().is_none());
    first.record_response(&too_many(Some(600)));
    assert!(waiting.await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_dead_token_is_tried_ever_more_rarely() {
    let throttle = Throttle::new(600, 4);
    assert_eq!(send(&throttle, status(401)).await, Transition::default());
    assert_eq!(send(&throttle, status(401)).await, Transition::default());
    let mut waits = Vec::new();
    for _ in 0..8 {
        let paused = send(&throttle, status(401)).await.paused.unwrap();
        assert_eq!(acquire(&throttle).now_or_never().unwrap().unwrap_err(), paused);
        assert_eq!(paused.reason, PauseReason::Refused);
        advance(paused.wait - Duration::from_secs(1)).await;
        assert!(acquire(&throttle).now_or_never().unwrap().is_err());
        advance(Duration::from_secs(1)).await;
        waits.push(paused.wait.as_secs());
    }
    assert_eq!(waits, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
    assert!(send(&throttle, status(200)).await.recovered);
    assert_eq!(time_to_send(&throttle).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_lock_out_stops_the_credential_at_once_and_for_longer() {
    let dead = |minutes: u64| Transition {
        paused: Some(Paused { reason: PauseReason::Refused, wait: Duration::from_secs(60 * minutes) }),
        recovered: false,
    };
    let throttle = Throttle::new(600, 4);
    let under_way: Vec<_> = (0..2).map(|_| acquire(&throttle).now_or_never().unwrap().unwrap()).collect();
    assert_eq!(send(&throttle, locked_out()).await, dead(15));
    // What was sent before is answered in the same way, and says nothing new.
    for permit in under_way {
        assert_eq!(permit.record_response(&locked_out()), Transition::default());
    }
    for minutes in [30, 60, 60] {
        let paused = acquire(&throttle).now_or_never().unwrap().unwrap_err();
        advance(paused.wait).await;
        assert_eq!(send(&throttle, locked_out()).await, dead(minutes));
    }
    // A pause that had begun becomes longer.
    let throttle = Throttle::new(600, 4);
    let under_way = acquire(&throttle).await.unwrap();
    for _ in 0..3 {
        send(&throttle, status(401)).await;
    }
    assert_eq!(under_way.record_response(&locked_out()), dead(15));
    // What the server asks for counts, and a new token does too.
    let throttle = Throttle::new(600, 4);
    let retry_after = Some(Duration::from_secs(2 * 3600));
    assert_eq!(send(&throttle, ResponseSummary { retry_after, ..locked_out() }).await, dead(120));
    assert_eq!(time_to_send(&with_another_secret(&throttle)).await, Duration::ZERO);
}

/// The throttle of a client that took over with another secret.
fn with_another_secret(throttle: &Throttle) -> Throttle {
    let next = throttle.successor(600, 100, true);
    assert!(next.activate());
    next
}

/// A credential that was refused three times, a minute ago.
async fn refused() -> Throttle {
    let throttle = Throttle::new(600, 4);
    for _ in 0..3 {
        send(&throttle, status(401)).await;
    }
    advance(Duration::from_secs(60)).await;
    throttle
}

#[tokio::test(start_paused = true)]
async fn only_a_good_answer_brings_a_dead_token_back() {
    let dead = |seconds| Transition {
        paused: Some(Paused { reason: PauseReason::Refused, wait: Duration::from_secs(seconds) }),
        recovered: false,
    };
    for (answers, transitions) in [
        (vec![status(403)], vec![dead(120)]),
        (vec![status(503), status(401)], vec![dead(60), dead(120)]),
        (vec![ResponseSummary::default(), status(401), status(401)], vec![dead(60), dead(120), dead(240)]),
        (vec![status(503), status(200)], vec![dead(60), Transition { paused: None, recovered: true }]),
        (vec![status(404)], vec![Transition { paused: None, recovered: true }]),
    ] {
        let throttle = refused().await;
        for (answer, transition) in answers.iter().zip(transitions) {
            assert_eq!(send(&throttle, *answer).await, transition, "{answers:?}");
            advance(transition.paused.map_or(Duration::ZERO, |paused| paused.wait)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_was_never_accepted_does_not_stop_the_others() {
    let of = |kind, verdict| ResponseSummary { verdict, listing: Some(kind), ..ResponseSummary::default() };
    let refused = |kind| of(kind, Verdict::Unauthorized);
    let throttle = Throttle::new(600, 4);
    send(&throttle, of(Kind::Client, Verdict::Accepted)).await;
    for kind in [Kind::Edge, Kind::MtlsCa, Kind::AccessCa, Kind::GatewayCa, Kind::Edge] {
        assert_eq!(send(&throttle, refused(kind)).await, Transition::default());
    }
    // A word about the credential counts, and so does a refusal of what was accepted.
    send(&throttle, of(Kind::Edge, Verdict::Refused)).await;
    send(&throttle, refused(Kind::Client)).await;
    assert!(send(&throttle, refused(Kind::Client)).await.paused.is_some());
    // Another secret starts over.
    let successor = throttle.successor(600, 4, true);
    successor.activate();
    for _ in 0..2 {
        assert_eq!(send(&successor, refused(Kind::Edge)).await, Transition::default());
    }
    assert!(send(&successor, refused(Kind::Edge)).await.paused.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_look_does_not_open_what_a_429_closed_since() {
    let throttle = Throttle::new(600, 4);
    let under_way = acquire(&throttle).await.unwrap();
    send(&throttle, left(100, 1)).await;
    let probe = acquire(&throttle).await.unwrap();
    under_way.record_response(&too_many(Some(3600)));
    assert_eq!(probe.record_response(&status(200)), Transition::default());
    assert!(acquire(&throttle).now_or_never().unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn all_requests_of_a_poll_go_before_those_of_later_polls() {
    let throttle = Throttle::new(600, 1);
    let first = throttle.next_ticket();
    let under_way = throttle.acquire(first, Priority::Healthy).await.unwrap();
    let order = RefCell::new(Vec::new());
    let (throttle, order) = (&throttle, &order);
    let wait = async |name: &'static str, ticket: Ticket| {
        drop(throttle.acquire(ticket, Priority::Healthy).await.unwrap());
        order.borrow_mut().push(name);
    };
    let later = throttle.next_ticket();
    let mut waiting: FuturesUnordered<_> = [("later", later), ("page 2", first), ("page 3", first)]
        .map(|(name, ticket)| wait(name, ticket))
        .into_iter()
        .collect();
    assert!(waiting.next().now_or_never().is_none());
    drop(under_way);
    while waiting.next().await.is_some() {}
    assert_eq!(*order.borrow(), ["page 2", "page 3", "later"]);
}

#[tokio::test(start_paused = true)]
async fn urgent_requests_go_before_all_others_and_among_themselves_by_their_tickets() {
    use Priority::{Failing, Healthy, Urgent};
    let throttle = &Throttle::new(600, 1);
    let under_way = acquire(throttle).await.unwrap();
    let order = &RefCell::new(Vec::new());
    let wait = |(name, priority): (&'static str, Priority)| {
        let ticket = throttle.next_ticket();
        async move {
            drop(throttle.acquire(ticket, priority).await.unwrap());
            order.borrow_mut().push(name);
        }
    };
    let polls = [("failing", Failing), ("healthy", Healthy), ("urgent", Urgent), ("urgent, later", Urgent)];
    let mut waiting: FuturesUnordered<_> = polls.map(wait).into_iter().collect();
    assert!(waiting.next().now_or_never().is_none());
    drop(under_way);
    while waiting.next().await.is_some() {}
    assert_eq!(*order.borrow(), ["urgent", "urgent, later", "failing", "healthy"]);
}

#[tokio::test(start_paused = true)]
async fn refusals_are_counted_since_the_last_answer_that_says_that_the_secret_is_good() {
    for (other, resets) in [
        (status(200), true),
        (status(404), true),
        (status(403), false),
        (status(500), false),
        (ResponseSummary::default(), false),
    ] {
        let throttle = Throttle::new(600, 4);
        for answer in [status(401), status(401), other] {
            assert_eq!(send(&throttle, answer).await, Transition::default());
        }
        assert_eq!(send(&throttle, status(401)).await.paused.is_none(), resets, "{other:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_was_not_accepted_yet_is_sent_three_times_at_once_at_most() {
    let throttle = Throttle::new(600, 100);
    let admitted =
        |throttle: &Throttle| std::iter::from_fn(|| acquire(throttle).now_or_never()).collect::<Vec<_>>().len();
    assert_eq!(admitted(&throttle), 3);
    send(&throttle, status(200)).await;
    assert_eq!(admitted(&throttle), 100);
    assert_eq!(admitted(&with_another_secret(&throttle)), 3);
}

const WALL: i64 = 1_795_521_600;

fn record(throttle: &Throttle) -> ThrottleRecord {
    throttle.record(WALL, Duration::from_secs(30))
}

/// The throttle of a process that begins so many seconds after the record.
fn restarted(record: &ThrottleRecord, budget: u32, after: i64) -> Throttle {
    let throttle = Throttle::new(budget, 4);
    throttle.restore(record, WALL + after);
    throttle
}

#[tokio::test(start_paused = true)]
async fn a_restart_forgets_no_request_of_the_last_five_minutes() {
    let throttle = Throttle::new(3, 4);
    send(&throttle, status(200)).await;
    advance(Duration::from_secs(100)).await;
    send(&throttle, status(200)).await;
    let _in_flight = acquire(&throttle).await.unwrap();
    let record = record(&throttle);
    // Seconds after the record, and after the restart until the first, second and third request may go out.
    for (after, waits) in [
        (0, [201, 301, 301]),
        (20, [181, 281, 301]),
        (60, [141, 241, 271]),
        (250, [0, 51, 81]),
        (271, [0, 30, 60]),
        (400, [0, 0, 0]),
        // The clock was set back: as if all had just been.
        (-5000, [301, 301, 301]),
    ] {
        let next = restarted(&record, 3, after);
        let started = Instant::now();
        let mut permits = Vec::new();
        for wait in waits {
            permits.push(acquire(&next).await.unwrap());
            assert_eq!(started.elapsed(), Duration::from_secs(wait), "{after}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_forgets_no_block() {
    for (retry_after, after, wait) in
        [(600, 0, 600), (600, 599, 1), (600, 600, 0), (600, 9999, 0), (600, -5000, 600), (86_400, 3600, 82_800)]
    {
        let throttle = Throttle::new(600, 4);
        send(&throttle, too_many(Some(retry_after))).await;
        let next = restarted(&record(&throttle), 600, after);
        if wait > 60 {
            let paused = acquire(&next).now_or_never().unwrap().unwrap_err();
            assert_eq!(paused, Paused { reason: PauseReason::RateLimited, wait: Duration::from_secs(wait) }, "{after}");
            advance(Duration::from_secs(wait)).await;
        } else {
            let probe = acquire(&next).await.unwrap();
            assert!(acquire(&next).now_or_never().is_none(), "one looks before others follow");
            probe.record_response(&status(200));
        }
        assert_eq!(time_to_send(&next).await, Duration::ZERO, "{after}");
    }
    let throttle = Throttle::new(600, 4);
    send(&throttle, left(100, 10)).await;
    assert_eq!(time_to_send(&restarted(&record(&throttle), 600, 4)).await, Duration::from_secs(6));
}

#[tokio::test(start_paused = true)]
async fn a_restart_tries_a_dead_token_again_since_it_may_be_another_one() {
    let throttle = Throttle::new(600, 4);
    for _ in 0..3 {
        send(&throttle, status(401)).await;
    }
    assert_eq!(time_to_send(&restarted(&record(&throttle), 600, 0)).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_million_requests_are_recorded_by_the_second() {
    let throttle = Throttle::new(1_000_000, 100);
    for _ in 0..10 {
        for _ in 0..500 {
            send(&throttle, status(200)).await;
        }
        advance(Duration::from_millis(400)).await;
    }
    let record = record(&throttle);
    assert!(record.requests.len() <= 5, "{record:?}");
    assert_eq!(record.requests.iter().map(|(_, count)| count).sum::<usize>(), 5000);
    assert!(record.requests.iter().all(|(ended, _)| (WALL - 5..=WALL).contains(ended)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_record_is_too_odd(requests: Vec<(i64, usize)>, until: i64, length: u64, now: i64, limited: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let throttle = Throttle::new(600, 4);
            let reason = if limited { PauseReason::RateLimited } else { PauseReason::Low };
            throttle.restore(&ThrottleRecord { requests, pause: Some(PauseRecord { reason, until, length }) }, now);
            throttle.record(now, Duration::from_secs(600));
            // Whatever it says, it is over after a day and a window.
            advance(LONGEST_WAIT + WINDOW).await;
            assert!(acquire(&throttle).now_or_never().unwrap().is_ok());
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_token_is_tried_at_once() {
    let throttle = Throttle::new(600, 4);
    for _ in 0..3 {
        send(&throttle, status(401)).await;
    }
    assert_eq!(time_to_send(&with_another_secret(&throttle)).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_response_about_the_secret_before_says_nothing_about_the_new_one() {
    for old in [status(401), locked_out(), status(200)] {
        let throttle = Throttle::new(600, 4);
        let under_way: Vec<_> = (0..3).map(|_| acquire(&throttle).now_or_never().unwrap().unwrap()).collect();
        let next = with_another_secret(&throttle);
        for permit in under_way {
            assert_eq!(permit.record_response(&old), Transition::default(), "{old:?}");
        }
        // No secret of this credential was accepted yet.
        assert_eq!(std::iter::from_fn(|| acquire(&next).now_or_never()).collect::<Vec<_>>().len(), 3, "{old:?}");
    }
    // Nor does what waits with the secret before go out.
    let throttle = Throttle::new(600, 1);
    let under_way = acquire(&throttle).await.unwrap();
    let mut waiting = Box::pin(acquire(&throttle));
    assert!(waiting.as_mut().now_or_never().is_none());
    let next = with_another_secret(&throttle);
    drop(under_way);
    assert!(waiting.as_mut().now_or_never().is_none());
    drop(waiting);
    assert!(acquire(&next).now_or_never().is_some());
    // Too many requests are too many, whatever they were signed with.
    let throttle = Throttle::new(600, 4);
    let under_way = acquire(&throttle).await.unwrap();
    let next = with_another_secret(&throttle);
    under_way.record_response(&too_many(Some(600)));
    assert!(acquire(&next).now_or_never().unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_successor_has_the_budget_that_is_left() {
    let throttle = Throttle::new(5, 4);
    for _ in 0..2 {
        send(&throttle, status(200)).await;
    }
    let next = throttle.successor(3, 4, false);
    assert!(!next.activate());
    assert_eq!(time_to_send(&next).await, Duration::ZERO);
    assert_eq!(time_to_send(&next).await, Duration::from_secs(301));
}
