//! What the page says, without a browser; how it looks and what it does there is in `tests/suite/page.rs`.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;

use super::{notices::Notice, view::*, words::*, *};
use crate::{
    exposition::SeriesSettings,
    model::{
        Certificate, Expiry, Failure, Field, Kind, Listing, Reason, SECONDS_PER_DAY, Shard, Snapshot, Status, Target,
        TargetState, Texts, two_kinds,
    },
};

const NOW: i64 = 1_795_521_600;
const DAY: i64 = SECONDS_PER_DAY;
const HOUR: i64 = 3600;

fn zone(number: u32, name: &str) -> TargetState {
    TargetState::new(Arc::new(Target {
        kind: Kind::Client,
        id: format!("{number:032x}").parse().unwrap(),
        name: Some(name.into()),
        zone: None,
        credential: "default".into(),
        interval: Duration::from_secs(3600),
    }))
}

fn certificate(id: &str, common_name: &str, status: Status, left: i64) -> Certificate {
    Certificate {
        texts: Texts::from([(Field::Id, id), (Field::CommonName, common_name)]),
        status,
        expiry: Expiry::At(NOW + left),
        not_before: Some(NOW + left - 365 * DAY),
    }
}

fn active(id: &str, left: i64) -> Certificate {
    certificate(id, id, Status::Active, left)
}

fn listed(zone: &TargetState, age: i64, certificates: Vec<Certificate>) -> TargetState {
    zone.succeeded(Listing::new(certificates), NOW - age, Duration::from_secs(1))
}

fn refused(zone: &TargetState, age: i64) -> TargetState {
    zone.failed(Failure::new(Reason::Forbidden, "403 from Cloudflare"), NOW - age, Duration::from_secs(1))
}

fn exposition(zones: Vec<TargetState>) -> Arc<Exposition> {
    let settings = SeriesSettings {
        statuses: vec![Status::Active, Status::PendingRevocation],
        max_certificates_per_zone: 10_000,
        expiring_within_days: vec![7],
        forget_expired_after: Duration::from_secs(90 * 86_400),
        labels: Default::default(),
    };
    let snapshot = Snapshot { targets: zones.into_iter().map(Arc::new).collect(), ..Snapshot::default() };
    Arc::new(Exposition::new(settings).next(Arc::new(snapshot), NOW))
}

/// The page of these zones from where its content begins.
fn page(zones: Vec<TargetState>) -> String {
    let made = PageCache::new(None, "metrics").make(&exposition(zones), NOW).unwrap();
    let text = String::from_utf8(made.plain.to_vec()).unwrap();
    text[text.find("<body>").unwrap()..].to_owned()
}

/// The number in each box at the top, with its class and its note.
fn figures(page: &str) -> Vec<String> {
    page.lines()
        .filter_map(|line| line.strip_prefix("<div><dt>"))
        .map(|line| {
            let (_, rest) = line.split_once("</dt><dd").unwrap();
            let rest = rest.replace(" class=\"", "").replace("\">", " ").replace("<dd", "");
            rest.trim_end_matches("</div>")
                .split("</dd>")
                .map(|dd| dd.trim_start_matches('>'))
                .collect::<Vec<_>>()
                .join("|")
        })
        .collect()
}

/// The rows of the zones, in their order.
fn zone_rows(page: &str) -> Vec<&str> {
    page.lines().filter(|line| line.starts_with("<tr><th scope=\"row\">")).collect()
}

fn assert_says(page: &str, says: &[&str]) {
    for words in says {
        assert!(page.contains(words), "no {words:?} in {page}");
    }
}

#[test]
fn what_is_not_known_is_no_number() {
    let (a, b) = (zone(1, "a.example"), zone(2, "b.example"));
    for (zones, poll) in [
        (vec![a.clone(), b.clone()], ">not polled yet<"),
        (vec![refused(&a, 60), refused(&b, 60)], ">failed 1 minute ago: 403"),
    ] {
        let page = page(zones);
        let failed = if poll.contains("403") { "bad 2|" } else { "0|" };
        assert_eq!(figures(&page), ["–|", "–|", "–|", "–|", "2|", failed, "warn 2|"]);
        let missing = "None of the 2 zones was listed yet: nothing is known of their certificates.";
        assert_says(&page, &[missing, poll, "UTC without any listing.", ">not yet<", ">None yet."]);
        assert!(page.lines().last().is_some() && !page.contains(">0</td>"), "{page}");
    }
    let one = page(vec![refused(&a, 60)]);
    assert_says(&one, &["The zone was not listed yet: nothing is known of its certificates."]);
}

#[test]
fn zones_that_are_missing_from_the_numbers_are_named() {
    let expired = listed(&zone(1, "a.example"), 60, vec![active("x", -DAY), active("y", 100 * DAY)]);
    let page = page(vec![expired, refused(&zone(2, "b.example"), 60), zone(3, "c.example")]);
    assert_eq!(figures(&page), ["bad 1|", "0|", "0|", "2|", "3|", "bad 1|", "warn 2|"]);
    assert_says(&page, &["2 of 3 zones were not listed yet; their certificates are in none of these numbers."]);
    let whole = page_of_one(vec![active("x", DAY)]);
    assert!(!whole.contains("listed yet;"), "{whole}");
}

fn page_of_one(certificates: Vec<Certificate>) -> String {
    page(vec![listed(&zone(1, "a.example"), 60, certificates)])
}

#[test]
fn a_page_of_old_listings_says_how_old_they_are() {
    let zones =
        [60, 3 * DAY + HOUR, HOUR].into_iter().zip(1..).map(|(age, n)| listed(&zone(n, "a.example"), age, Vec::new()));
    let page = page(zones.collect());
    let words = "Page made at 2026-11-24 12:00:00 UTC from the last good listings; the oldest is 3 days old.";
    assert_says(&page, &[words, ">None."]);
}

#[test]
fn zones_that_need_somebody_come_first() {
    let restored = |n, age| {
        let zone = zone(n, &format!("{n}.example")).target;
        TargetState::restored(zone, Some((Arc::new(Listing::new(vec![active("x", 100 * DAY)])), NOW - age)), None)
    };
    let page = page(vec![
        listed(&zone(1, "1.example"), 2 * HOUR, Vec::new()),
        listed(&zone(2, "2.example"), 2 * HOUR + 1, Vec::new()),
        restored(3, 60),
        zone(4, "4.example"),
        refused(&listed(&zone(5, "5.example"), 60, Vec::new()), 5 * HOUR),
        restored(6, 9 * DAY),
        refused(&listed(&zone(7, "7.example"), 9 * HOUR, Vec::new()), -60),
    ]);
    let expected = [
        ("5.example", ">1 minute ago<", ">failed 5 hours ago: 403", "data-value=\"0\""),
        // It lies ahead, since the clock was set back.
        (
            "7.example",
            "class=\"warn\" data-label=\"Listed\" data-value=\"32400\">9 hours ago, overdue<",
            ">failed: 403",
            "data-value=\"0\"",
        ),
        ("2.example", ">2 hours ago, overdue<", ">good<", "data-value=\"1\""),
        ("4.example", ">not yet<", ">not polled yet<", "data-value=\"1\""),
        ("6.example", ">9 days ago, overdue<", ">not polled since the start<", "data-value=\"1\""),
        ("1.example", ">2 hours ago<", ">good<", "data-value=\"2\""),
        ("3.example", ">1 minute ago<", ">not polled since the start<", "data-value=\"2\""),
    ];
    let rows = zone_rows(&page);
    for (row, (name, listed, poll, rank)) in rows.iter().zip(expected) {
        assert!(row.starts_with(&format!("<tr><th scope=\"row\">{name}<")), "{name}: {row}");
        let last = row.rsplit("<td").next().unwrap();
        assert!(row.contains(listed) && last.contains(poll) && last.contains(rank), "{name}: {row}");
    }
    assert_eq!(figures(&page)[4..], ["7|", "bad 2|", "warn 4|"]);
}

#[test]
fn a_zone_that_is_polled_every_second_is_not_overdue_in_ten_minutes() {
    for (age, is_overdue) in [(600, false), (601, true)] {
        let mut zone = zone(1, "a.example");
        zone.interval = Duration::from_secs(1);
        let page = page(vec![listed(&zone, age, Vec::new())]);
        assert_eq!(page.contains(", overdue<"), is_overdue, "{age}");
    }
}

#[test]
fn what_no_alert_is_about_is_counted_and_not_red() {
    use Status::{Active, PendingRevocation, Revoked};
    let silent = vec![
        certificate("a", "billing", Active, 5 * DAY),
        certificate("b", "billing", Active, 300 * DAY),
        certificate("c", "till", PendingRevocation, -DAY),
        certificate("d", "old", Active, -91 * DAY),
        certificate("e", "gone", Revoked, DAY),
    ];
    let page = page_of_one(silent.clone());
    let notes = ["2|1 of them pending revocation, 1 forgotten|", "1|1 of them superseded|", "1|1 of them superseded|"];
    assert_eq!(figures(&page)[..3], notes.map(|note| note.replacen('|', "|note ", 1)));
    let body = page.split("<tbody>").skip(1).map(|table| table.split("</tbody>").next().unwrap()).collect::<String>();
    assert!(!body.contains("bad") && !body.contains("warn"), "{body}");
    assert_says(&body, &[">in 5 days <span class=\"tag\">superseded</span></td>"]);

    let page = page_of_one([silent, vec![active("f", 6 * DAY), active("g", 20 * DAY), active("h", -DAY)]].concat());
    assert_eq!(figures(&page)[0], "bad 3|note 1 of them pending revocation, 1 forgotten|");
    assert_eq!(figures(&page)[1], "bad 2|note 1 of them superseded|");
    let then = "in 5 days <span class=\"tag\">superseded</span> then <span class=\"bad\">in 6 days</span></td>";
    assert_says(
        &page,
        &[then, "<td class=\"number bad\" data-label=\"Expired\">3</td>", "<td class=\"bad\">in 6 days<"],
    );
}

#[test]
fn figures_are_what_the_metrics_count() {
    let left = [-100 * DAY, -1, 0, 1, 7 * DAY, 7 * DAY + 1, 30 * DAY, 30 * DAY + 1];
    let listing = Listing::new(left.iter().map(|&left| active(&format!("x{left}"), left)).collect());
    let counts = [listing.expired(NOW), listing.expiring(NOW, 7), listing.expiring(NOW, 30)];
    assert_eq!(counts, [2, 3, 5]);
    let page = page(vec![zone(1, "a.example").succeeded(listing, NOW, Duration::ZERO)]);
    assert_eq!(figures(&page)[..3], ["bad 2|note 1 of them forgotten|", "bad 3|", "warn 5|"]);
}

#[test]
fn certificates_that_are_only_counted_are_mentioned() {
    let undated = Certificate { expiry: Expiry::Missing, ..active("u", 0) };
    let kept = vec![active("a", DAY), certificate("", "x", Status::Active, DAY), undated, active("d", -91 * DAY)];
    let unlisted = certificate("e", "e", Status::Unknown, DAY);
    let revoked = certificate("f", "f", Status::Revoked, DAY);
    let page = page_of_one([kept, vec![unlisted, revoked]].concat());
    assert_says(
        &page,
        &["All that have metrics of their own: 1.", "4 more are only counted: ", ">2 entries rejected<"],
    );
    let page = page_of_one(vec![active("d", -91 * DAY)]);
    assert_says(&page, &["1 more is only counted: ", ">None."]);
    let page = page_of_one(vec![active("a", DAY)]);
    assert!(!page.contains("only counted") && !page.contains("rejected<"), "{page}");
}

#[test]
fn of_too_many_those_are_listed_whose_expiry_is_nearest() {
    let good = (1..).take(MAX_CERTIFICATES).map(|n| active(&format!("good-{n}."), n * HOUR));
    let expired = (1..=10).map(|n| active(&format!("expired-{n}."), -n * HOUR));
    let page = page_of_one(good.chain(expired).collect());
    let caption = "The 5000 whose expiry is nearest to now, of the 5010 that have metrics of their own;";
    assert_says(&page, &[caption, "expired-10.", "expired-1.", "good-4990.", "data-total=\"5010\""]);
    assert!(!page.contains("good-4991.") && !page.contains("good-5000."));
    assert!(page.find("expired-10.") < page.find("expired-1."), "they are in the order of their expiry");
}

#[test]
fn zones_of_one_name_have_their_ids() {
    let zones = [(1, "a.example"), (2, "a.example"), (3, "b.example")]
        .map(|(n, name)| listed(&zone(n, name), 60, vec![active(&format!("of-{n}"), DAY)]));
    let page = page(zones.into());
    for (n, times) in [(1, 2), (2, 2), (3, 0)] {
        assert_eq!(page.matches(&format!("<small class=\"id\">{n:032x}</small>")).count(), times, "{n}");
    }
}

#[test]
fn times_are_in_words() {
    for (left, words, class) in [
        (-2 * DAY - 23 * HOUR, "expired 2 d 23 h ago", "bad"),
        (-2 * DAY, "expired 2 d 0 h ago", "bad"),
        (-DAY, "expired 1 d 0 h ago", "bad"),
        (-3_599, "expired 59 minutes ago", "bad"),
        (-1, "expired 1 second ago", "bad"),
        (0, "in 0 seconds", "bad"),
        (20 * 60, "in 20 minutes", "bad"),
        (DAY - 1, "in 23 hours", "bad"),
        (DAY, "in 1 day", "bad"),
        (7 * DAY - 1, "in 6 days", "bad"),
        (7 * DAY, "in 7 days", "warn"),
        (30 * DAY - 1, "in 29 days", "warn"),
        (30 * DAY, "in 30 days", ""),
    ] {
        let expiry = NOW + left;
        assert_eq!((until(expiry, NOW), urgency(expiry, NOW)), (words.into(), class), "{left}");
    }
    for extreme in [i64::MIN, i64::MAX] {
        assert!(!until(extreme, -extreme.signum()).is_empty());
    }
    assert_eq!(date(NOW, "%Y-%m-%d %H:%M"), "2026-11-24 12:00");
    assert_eq!(date(i64::MAX, "%Y"), "–");
}

#[test]
fn the_style_leaves_out_the_rows_that_the_script_does_not_show_at_first() {
    for first in [FIRST_ZONES, FIRST_CERTIFICATES] {
        let rule = format!("[data-first=\"{first}\"] tbody tr:nth-child(n+{})", first + 1);
        assert!(STYLE.contains(&rule), "{rule}");
    }
}

#[test]
fn nothing_runs_that_is_not_known_by_its_hash() {
    let policy = policy();
    let policy = policy.to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
    // They would end the element that they are in.
    assert!(!STYLE.contains("</") && !SCRIPT.contains("</") && !SCRIPT.contains("<!--"));
}

#[tokio::test]
async fn who_gives_up_leaves_one_rendering_and_not_many() {
    let pages = PageCache::new(None, "metrics");
    let exposition = exposition(Vec::new());
    let ask = || pages.made(|| Arc::clone(&exposition), || NOW);
    // It has begun when it is dropped, and ends all the same.
    let _ = ask().now_or_never();
    drop(pages.last.lock().await);
    let begun = pages.last.lock().await.clone().expect("it was not made again by a client that waited");
    assert!(Arc::ptr_eq(&ask().await.unwrap().plain, &begun.plain));
}

#[test]
fn kinds_of_one_zone_are_kept_apart() {
    let zones = two_kinds::snapshot(NOW).targets.iter().map(|zone| TargetState::clone(zone)).collect();
    let page = page(zones);
    // The one that could not be listed comes first.
    let rows = zone_rows(&page);
    for (row, kind, says) in [
        (rows[0], "origin_ca", [">in 3 days<", ">10 hours ago, overdue<", ">failed 0 seconds ago: no<"]),
        (rows[1], "client", [">in 40 days<", ">0 seconds ago<", ">good<"]),
    ] {
        assert!(
            row.starts_with(&format!("<tr><th scope=\"row\">a.example <small class=\"kind\">{kind}</small></th>")),
            "{row}"
        );
        assert_says(row, &says);
    }
    assert_says(
        &page,
        &["<td class=\"text\">a.example <small class=\"kind\">origin_ca</small><td>active<td class=\"id\">same"],
    );
    assert_eq!(figures(&page), ["0|", "bad 1|", "warn 1|", "2|", "2|", "bad 1|", "warn 1|"]);
}

/// What the timeline says: its sentence, and each bar's class, title and height.
fn timeline(page: &str) -> (String, Vec<String>) {
    let (_, from) = page.split_once("<section class=\"timeline\"").unwrap();
    let (section, _) = from.split_once("</section>").unwrap();
    let sentence = section.split_once("<p class=\"dim\">").unwrap().1.split_once("</p>").unwrap().0;
    let bars = section.lines().filter_map(|line| line.strip_prefix("<g ")).map(|bar| {
        let (attributes, _) = bar.split_once('>').unwrap();
        let class = attributes.split_once("class=\"").map_or("", |(_, rest)| rest.trim_end_matches('"'));
        let title = bar.split_once("<title>").unwrap().1.split_once("</title>").unwrap().0;
        let height = bar.rsplit_once("height=\"").unwrap().1.split_once('"').unwrap().0;
        format!("{class}|{title}|{height}")
    });
    (sentence.to_owned(), bars.collect())
}

#[test]
fn the_timeline_counts_what_an_alert_can_be_about_week_by_week() {
    let mut certificates = vec![
        active("expired", -1),
        certificate("revoked", "r", Status::Revoked, 3 * DAY),
        certificate("pending", "p", Status::PendingRevocation, 3 * DAY),
        active("forgotten", -100 * DAY),
        active("this-second", 0),
        active("end-of-the-first-week", 7 * DAY - 1),
        active("second-week", 7 * DAY),
        active("fifth-week", 28 * DAY),
        active("sixth-week", 35 * DAY),
        active("last-week", 182 * DAY - 1),
        active("later", 182 * DAY),
        // Superseded by one that expires later.
        certificate("old", "renewed", Status::Active, 5 * DAY),
        certificate("new", "renewed", Status::Active, 365 * DAY),
    ];
    certificates.extend((0..98).map(|n| active(&format!("many-{n}"), 50 * DAY)));
    let page = page(vec![listed(&zone(1, "a.example"), 60, certificates)]);
    let (sentence, bars) = timeline(&page);
    assert_eq!(
        sentence,
        "104 certificates expire within 26 weeks, 2 later; 1 has expired. Not counted are those that are superseded, revoked or about to be, long expired, or without a date."
    );
    assert_eq!(
        bars,
        [
            "bad|2 in the week from 2026-11-24|4",
            "warn|1 in the week from 2026-12-01|4",
            "warn|1 in the week from 2026-12-22|4",
            "|1 in the week from 2026-12-29|4",
            "|98 in the week from 2027-01-12|90",
            "|1 in the week from 2027-05-18|4",
        ]
    );
    let weeks: Vec<_> = page.matches("<tr data-week=\"0\"").collect();
    assert_eq!(weeks.len(), 2, "the rows that the first bar counts");
    assert!(!self::page(vec![zone(1, "a.example")]).contains("26 weeks"), "nothing is known");
}

#[test]
fn the_shard_and_kinds_that_are_not_on_the_plan_are_mentioned() {
    let (good, missing) = (zone(1, "a.example"), zone(2, "b.example"));
    let missing = missing.not_available(NOW, Duration::from_secs(1));
    let mut snapshot = Snapshot { targets: vec![Arc::new(good)], ..Snapshot::default() };
    assert_eq!(Notice::all(&snapshot, NOW).len(), 0);
    snapshot.shard = Shard { ordinal: 1, total: 3 };
    snapshot.targets.push(Arc::new(missing));
    let said: Vec<_> = Notice::all(&snapshot, NOW).into_iter().map(|notice| notice.words).collect();
    assert_eq!(
        said,
        [
            "This is shard 1 of 3, counted from 0: the others watch the other zones and accounts.",
            "Not on the plan, and asked for once a day: client (1).",
        ]
    );
}

#[test]
fn what_keeps_cloudflare_from_issuing_is_in_its_words() {
    let waiting = |id: &str, hosts: &str, status| Certificate {
        texts: Texts::from([
            (Field::Id, id),
            (Field::Entry, id),
            (Field::Hosts, hosts),
            (Field::Problem, "SERVFAIL looking up <CAA>"),
        ]),
        status,
        expiry: Expiry::NoCertificate,
        not_before: None,
    };
    let status = |word| Status::from_label(word).unwrap();
    let mut packs: Vec<_> =
        (1..=6).map(|n| waiting(&format!("p{n}"), "a.example *.a.example", status("pending_validation"))).collect();
    packs.push(waiting("p6", "", status("pending_validation")));
    packs.push(waiting("gone", "", status("deleted")));
    packs[1] = waiting("p2", "", status("validation_timed_out"));
    let page = page(vec![listed(&zone(1, "a.example"), 60, packs)]);
    assert_says(
        &page,
        &[
            "</p>\n<p class=\"notice\">a.example, client for a.example, *.a.example: pending validation. SERVFAIL looking up &#60;CAA&#62;",
            "<p class=\"notice\">a.example, client for p2: validation timed out. SERVFAIL",
            "<p class=\"notice\">Entries with such a problem that are not shown here: 3.</p>",
        ],
    );
}
