use std::{
    collections::{BTreeMap, HashSet},
    io::Read as _,
    sync::Arc,
    time::Duration,
};

use flate2::bufread::GzDecoder;
use proptest::prelude::*;

use super::*;
use crate::model::{
    Certificate, Expiry, Failure, Field, Kind, Listing, Reason, Rejection, SECONDS_PER_DAY, Status, Target, Texts,
    clean, two_kinds,
};

/// 2026-11-24T12:00:00Z
const NOW: i64 = 1_795_521_600;
const DAY: i64 = SECONDS_PER_DAY;

fn settings() -> SeriesSettings {
    SeriesSettings {
        statuses: Status::ALL.into_iter().filter(|&status| status != Status::Revoked).collect(),
        max_certificates_per_zone: 5000,
        expiring_within_days: vec![7, 30],
        forget_expired_after: Duration::from_secs(90 * 86_400),
        labels: Default::default(),
    }
}

fn certificate(id: &str, common_name: &str, status: Status, not_after: i64) -> Certificate {
    Certificate {
        texts: Texts::from([
            (Field::Id, id),
            (Field::CommonName, common_name),
            (Field::SerialNumber, "01ab"),
            (Field::FingerprintSha256, "f1"),
            (Field::Ski, "5c"),
            (Field::Issuer, "Managed CA"),
            (Field::Signature, "SHA256WithRSA"),
            (Field::Country, "DE"),
        ]),
        status,
        expiry: Expiry::At(not_after),
        not_before: Some(not_after - 365 * DAY),
    }
}

fn zone(number: u32, name: Option<&str>) -> TargetState {
    TargetState::new(Arc::new(Target {
        kind: Kind::Client,
        id: format!("{number:032x}").parse().unwrap(),
        name: name.map(Arc::from),
        zone: None,
        credential: "default".into(),
        interval: Duration::from_secs(900),
    }))
}

fn listed(number: u32, name: &str, entries: Vec<Certificate>) -> TargetState {
    zone(number, Some(name)).succeeded(Listing::new(entries), NOW - 60, Duration::from_millis(250))
}

fn snapshot(zones: Vec<TargetState>) -> Snapshot {
    Snapshot { targets: zones.into_iter().map(Arc::new).collect(), ..Snapshot::default() }
}

fn render(snapshot: &Snapshot, settings: &SeriesSettings, now: i64) -> String {
    text(&Exposition::new(settings.clone()).next(Arc::new(snapshot.clone()), now))
}

/// The whole text, which is the same in both forms.
fn text(exposition: &Exposition) -> String {
    let text: String = (0..).map_while(|block| exposition.text(block)).collect();
    assert_eq!(text.len() as u64, exposition.text_length());
    let mut gzip: Vec<u8> = (0..).map_while(|part| exposition.gzip(part)).flatten().collect();
    assert_eq!(gzip.len() as u64, exposition.gzip_length());
    let rest = "and the rest\n";
    gzip.extend(exposition.gzip_end(rest));
    let mut decoder = GzDecoder::new(&*gzip);
    let mut unpacked = String::new();
    decoder.read_to_string(&mut unpacked).unwrap();
    assert!(decoder.into_inner().is_empty(), "one member is all");
    assert_eq!(unpacked.strip_suffix(rest), Some(&*text));
    text
}

#[test]
fn many_certificates_and_many_targets_are_cut_into_blocks() {
    let entries = (0..1100).map(|n| certificate(&format!("{n}"), "x\"", Status::Active, NOW + n * DAY / 7)).collect();
    let mut zones = vec![listed(0, "large", entries), listed(1, "empty", vec![])];
    zones.extend((2..100).map(|n| zone(n, None)));
    let exposition = Exposition::new(settings()).next(Arc::new(snapshot(zones)), NOW);
    let series = parse(&text(&exposition));
    for (family, expected) in [("cloudflare_certificate_info", 1100), ("cloudflare_certificates_polls_total", 100)] {
        assert_eq!(series.keys().filter(|(name, _)| name == family).count(), expected);
    }
    let largest = (0..).map_while(|block| exposition.text(block)).map(|text| text.len()).max();
    assert!(largest < Some(100_000), "a client that does not read holds {largest:?} bytes");
    assert_eq!(parse(&text(&Exposition::new(settings()))).len(), 0);
}

#[test]
fn each_certificate_has_its_own_details_and_those_that_it_shares() {
    let issuers = ["a", "a", "b", "a", "b", "b", "\""];
    let entries = issuers.iter().enumerate().map(|(n, issuer)| {
        let certificate = certificate(&format!("{n}"), "x", Status::Active, NOW + 10 * DAY);
        Certificate { texts: certificate.texts.with(Field::Issuer, issuer), ..certificate }
    });
    let series = parse(&render(&snapshot(vec![listed(0, "a.example", entries.collect())]), &settings(), NOW));
    let found = series.keys().filter(|(name, _)| name == "cloudflare_certificate_info");
    assert!(found.map(|(_, labels)| &*labels["issuer"]).eq(issuers));
}

/// The text as a reader understands it: every series once, in well-formed families.
fn parse(text: &str) -> BTreeMap<(String, BTreeMap<String, String>), f64> {
    let mut series = BTreeMap::new();
    let (mut family, mut families) = (String::new(), HashSet::new());
    let mut lines = text.strip_suffix('\n').unwrap().split('\n');
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty() && families.insert(name.to_owned()), "{line}");
            let (typed, kind) = lines.next().unwrap().strip_prefix("# TYPE ").unwrap().split_once(' ').unwrap();
            assert_eq!((typed, kind), (name, if name.ends_with("_total") { "counter" } else { "gauge" }));
            family = name.to_owned();
            continue;
        }
        let (name, mut rest) = line.split_once('{').unwrap();
        assert_eq!(name, family, "{line}");
        let mut labels = BTreeMap::new();
        loop {
            let (label, value) = rest.split_once("=\"").unwrap();
            assert!(label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{line}");
            let (mut text, mut characters) = (String::new(), value.char_indices());
            let end = loop {
                match characters.next().unwrap() {
                    (at, '"') => break at + 1,
                    (_, '\\') => match characters.next().unwrap().1 {
                        'n' => text.push('\n'),
                        escaped @ ('\\' | '"') => text.push(escaped),
                        other => panic!("\\{other} in {line}"),
                    },
                    (_, c) => text.push(c),
                }
            };
            assert!(labels.insert(label.to_owned(), text).is_none(), "{line}");
            rest = &value[end..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        let value = rest.strip_prefix("} ").unwrap().parse().unwrap();
        assert!(series.insert((name.to_owned(), labels), value).is_none(), "twice: {line}");
    }
    series
}

/// The values of one family, by one of its labels.
fn values(text: &str, name: &str, label: &str) -> Vec<(String, f64)> {
    parse(text)
        .into_iter()
        .filter(|((family, _), _)| family == name)
        .map(|((_, labels), value)| (labels[label].clone(), value))
        .collect()
}

#[test]
fn the_whole_output_is_as_reviewed() {
    let mut named_by_the_api = zone(3, None).succeeded(Listing::default(), NOW - 3600, Duration::from_secs(1));
    named_by_the_api.name = "named-by-the-api.example".into();
    let mut undated = certificate("no-date", "", Status::Active, 0);
    undated.expiry = Expiry::Missing;
    let mut unissued = certificate("hostile", "a\"b\\c{{ x }}<b>", Status::Unknown, NOW + 400 * DAY);
    unissued.not_before = None;
    let busy = vec![
        certificate("soon", "sensor-1", Status::Active, NOW + 3 * DAY - 1),
        certificate("renewed", "sensor-1", Status::Active, NOW + 300 * DAY),
        certificate("expired", "sensor-2", Status::Active, NOW - 1),
        certificate("long-expired", "sensor-3", Status::Active, NOW - 91 * DAY),
        certificate("revoked", "sensor-4", Status::Revoked, NOW + DAY),
        certificate("pending", "Cloudflare", Status::PendingRevocation, NOW + 20 * DAY),
        undated,
        unissued,
        certificate("soon", "sensor-1", Status::Active, NOW + 3 * DAY - 1),
    ];
    let failing = listed(1, "failing.example", vec![certificate("kept", "kept", Status::Active, NOW + 10 * DAY)])
        .failed(Failure::new(Reason::Forbidden, "403"), NOW, Duration::from_millis(1500));
    let never =
        zone(2, Some("never.example")).failed(Failure::new(Reason::Timeout, "late"), NOW, Duration::from_secs(30));
    let zones = vec![listed(0, "busy.example", busy), failing, never, named_by_the_api, zone(4, None)];
    let text = render(&snapshot(zones), &settings(), NOW);
    parse(&text);
    insta::assert_snapshot!(text);
}

#[test]
fn the_cap_takes_what_expires_next_and_then_what_expired_last() {
    let entries = [-100, -50, -2, -1, 1, 2, 300]
        .map(|days| certificate(&format!("{days}"), "", Status::Active, NOW + days * DAY))
        .to_vec();
    for (cap, shown, hidden) in [
        (0, vec![], 6.0),
        (1, vec!["1"], 5.0),
        (3, vec!["1", "2", "300"], 3.0),
        (5, vec!["-1", "-2", "1", "2", "300"], 1.0),
        // What expired longer ago than 90 days is only counted, and not for the cap.
        (6, vec!["-1", "-2", "-50", "1", "2", "300"], 0.0),
        (100, vec!["-1", "-2", "-50", "1", "2", "300"], 0.0),
    ] {
        let settings = SeriesSettings { max_certificates_per_zone: cap, ..settings() };
        let text = render(&snapshot(vec![listed(0, "a", entries.clone())]), &settings, NOW);
        for family in ["not_after_timestamp_seconds", "days_until_expiry", "superseded", "info"] {
            let ids = values(&text, &format!("cloudflare_certificate_{family}"), "certificate_id");
            assert_eq!(ids.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), shown, "{cap}");
        }
        assert_eq!(values(&text, "cloudflare_certificates_hidden", "zone"), [("a".to_owned(), hidden)], "{cap}");
        assert_eq!(values(&text, "cloudflare_certificates_expired", "zone"), [("a".to_owned(), 4.0)]);
    }
}

#[test]
fn days_are_whole_and_follow_the_clock_and_not_the_poll() {
    let snapshot = snapshot(vec![listed(0, "a", vec![certificate("x", "", Status::Active, NOW)])]);
    for (passed, days, expired, expiring, next) in [
        (-8 * DAY, 8.0, 0.0, 0.0, true),
        (-7 * DAY - 1, 7.0, 0.0, 0.0, true),
        (-7 * DAY, 7.0, 0.0, 1.0, true),
        (-DAY, 1.0, 0.0, 1.0, true),
        (-DAY + 1, 0.0, 0.0, 1.0, true),
        (0, 0.0, 0.0, 1.0, true),
        (1, -1.0, 1.0, 0.0, false),
        (DAY, -1.0, 1.0, 0.0, false),
        (DAY + 1, -2.0, 1.0, 0.0, false),
    ] {
        let text = render(&snapshot, &SeriesSettings { expiring_within_days: vec![7], ..settings() }, NOW + passed);
        let value = |name: &str| values(&text, name, "zone").first().map(|(_, value)| *value);
        assert_eq!(value("cloudflare_certificate_days_until_expiry"), Some(days), "{passed}");
        assert_eq!(value("cloudflare_certificates_expired"), Some(expired), "{passed}");
        assert_eq!(value("cloudflare_certificates_expiring"), Some(expiring), "{passed}");
        assert_eq!(value("cloudflare_certificates_next_expiry_timestamp_seconds").is_some(), next, "{passed}");
    }
}

#[test]
fn zones_of_one_name_show_an_id_once() {
    let entries = vec![certificate("same", "x", Status::Active, NOW), certificate("own", "x", Status::Active, NOW)];
    let zones = vec![listed(0, "a", entries.clone()), listed(1, "a", entries[..1].to_vec()), listed(2, "b", entries)];
    let text = render(&snapshot(zones), &settings(), NOW);
    let ids = values(&text, "cloudflare_certificate_info", "certificate_id");
    assert_eq!(ids.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["own", "own", "same", "same"]);
}

#[test]
fn the_program_tells_of_itself() {
    let text = render_program(&Snapshot::default(), NOW);
    for name in [
        "\ncloudflare_cert_exporter_clock_timestamp_seconds 1795521600\n",
        "cloudflare_cert_exporter_build_info{version=\"",
        "\nprocess_cpu_seconds_total ",
        "\nprocess_open_fds ",
        "\nprocess_max_fds ",
        "\nprocess_virtual_memory_bytes ",
        "\nprocess_resident_memory_bytes ",
        "\nprocess_start_time_seconds ",
        "\nprocess_threads ",
    ] {
        assert!(text.contains(name), "{name} is missing in {text}");
    }
}

/// A step in the life of an exposition.
#[derive(Debug, Clone)]
enum Step {
    /// The clock goes on, or back.
    Clock(i64),
    Listed(usize, Vec<Certificate>),
    /// The listing is the one that it was.
    ListedAgain(usize),
    Failed(usize),
}

fn any_step(zones: usize) -> impl Strategy<Value = Step> {
    // Some hundred, so that there are several chunks.
    let entries = prop_oneof![
        3 => proptest::collection::vec(any_certificate(), 0..12),
        1 => (proptest::collection::vec(any_certificate(), 12), 0..700_usize).prop_map(|(some, n)| {
            let numbered = |(n, c): (usize, &Certificate)| Certificate { texts: c.texts.with(Field::Id, &format!("{n}-{}", c.id())), ..c.clone() };
            some.iter().cycle().take(n).enumerate().map(numbered).collect()
        }),
    ];
    prop_oneof![
        4 => prop_oneof![0..200 * DAY, 0..3 * DAY, 0..4_i64, -4..0_i64, Just(-DAY), Just(1_i64)].prop_map(Step::Clock),
        3 => (0..zones, entries).prop_map(|(zone, entries)| Step::Listed(zone, entries)),
        1 => (0..zones).prop_map(Step::ListedAgain),
        1 => (0..zones).prop_map(Step::Failed),
    ]
}

fn any_text() -> impl Strategy<Value = Box<str>> {
    // What hurts is drawn more often than chance would.
    let hostile =
        prop_oneof![Just('"'), Just('\\'), Just('\n'), Just('{'), Just('\u{202e}'), Just('\0'), any::<char>()];
    proptest::collection::vec(hostile, 0..6).prop_map(|text| clean(&text.into_iter().collect::<String>()))
}

fn any_certificate() -> impl Strategy<Value = Certificate> {
    let expiry = prop_oneof![
        4 => any::<i64>().prop_map(Expiry::At),
        8 => (NOW - 200 * DAY..NOW + 200 * DAY).prop_map(Expiry::At),
        1 => Just(Expiry::Missing),
        1 => Just(Expiry::Invalid),
    ];
    let status = proptest::sample::select(Kind::Client.statuses());
    (any_text(), any_text(), status, expiry, any::<Option<i64>>()).prop_map(|(id, text, status, expiry, not_before)| {
        let mut certificate = certificate(&id, &text, status, 0);
        (certificate.expiry, certificate.not_before) = (expiry, not_before);
        certificate.texts = certificate.texts.with(Field::Issuer, &text);
        certificate
    })
}

proptest! {
    #[test]
    fn any_listing_is_written_so_that_it_is_read_back(
        first in proptest::collection::vec(any_certificate(), 0..20),
        second in proptest::collection::vec(any_certificate(), 0..20),
        names in proptest::collection::vec(any_text(), 2..=2),
        cap in 0..30_usize,
        now in prop_oneof![Just(NOW), any::<i64>()],
    ) {
        let settings = SeriesSettings { max_certificates_per_zone: cap, statuses: Status::ALL.to_vec(), ..settings() };
        let zones = vec![listed(0, &names[0], first.clone()), listed(1, &names[1], second.clone())];
        let series = parse(&render(&snapshot(zones), &settings, now));
        // Everything that was listed is there, or counted as left out, forgotten or rejected.
        for (entries, id) in [(&first, 0), (&second, 1)] {
            let listing = Listing::new(entries.clone());
            let of_zone = |name: &str| -> f64 {
                series.iter().filter(|((family, labels), _)| family == name && labels["zone_id"] == format!("{id:032x}")).map(|(_, value)| value).sum()
            };
            prop_assert_eq!(of_zone("cloudflare_certificates"), listing.certificates().len() as f64);
            prop_assert_eq!(of_zone("cloudflare_certificates_rejected"), Rejection::ALL.into_iter().map(|reason| listing.rejected(reason) as f64).sum::<f64>());
            if names[0] != names[1] {
                let forgotten = listing.certificates().iter().filter(|c| c.rejection().is_none() && c.status.is_usable() && c.not_after() < Some(now.saturating_sub(90 * DAY))).count();
                let usable = listing.certificates().iter().filter(|c| c.rejection().is_none()).count();
                let shown = of_zone("cloudflare_certificate_info") + of_zone("cloudflare_certificates_hidden");
                prop_assert_eq!(shown, (usable - forgotten) as f64);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.div_ceil(8), ..ProptestConfig::default() })]

    #[test]
    fn an_update_renders_what_a_full_rendering_does(
        steps in proptest::collection::vec(any_step(20), 1..6),
        // Some zones share a name.
        names in proptest::collection::vec(0..18_usize, 20),
        cap in prop_oneof![0..12_usize, Just(5000)],
        looks in proptest::collection::vec(any::<proptest::sample::Index>(), 2),
    ) {
        let settings = SeriesSettings { max_certificates_per_zone: cap, ..settings() };
        let names: Vec<_> = names.iter().map(|name| format!("zone-{name}")).collect();
        let mut zones: Vec<_> = (0_u32..).zip(&names).map(|(n, name)| Arc::new(zone(n, Some(name)))).collect();
        let (mut now, mut exposition, second) = (NOW, Exposition::new(settings.clone()), Duration::from_secs(1));
        for step in steps {
            match step {
                Step::Clock(seconds) => now += seconds,
                Step::Listed(n, entries) => zones[n] = Arc::new(zones[n].succeeded(Listing::new(entries), now, second)),
                Step::ListedAgain(n) => if let Some((listing, _)) = zones[n].listing.clone() {
                    zones[n] = Arc::new(zones[n].succeeded(listing, now, second));
                },
                Step::Failed(n) => zones[n] = Arc::new(zones[n].failed(Failure::new(Reason::Timeout, "late"), now, second)),
            }
            let snapshot = Snapshot { targets: zones.clone(), ..Snapshot::default() };
            exposition = exposition.next(Arc::new(snapshot.clone()), now);
            let written = text(&exposition);
            parse(&written);
            prop_assert_eq!(&written, &render(&snapshot, &settings, now));
            // It is right as long as it says that it is.
            prop_assert!(exposition.is_valid_at(now) && !exposition.is_valid_at(now - 1));
            let end = exposition.valid_until().min(now + 1000 * DAY);
            let seconds: Vec<_> = (now..end).step_by(usize::try_from((end - now) / 1000 + 1).unwrap()).collect();
            for later in looks.iter().map(|look| *look.get(&seconds)).chain([end - 1]) {
                prop_assert_eq!(&written, &render(&snapshot, &settings, later), "{} seconds later", later - now);
            }
        }
    }
}

#[test]
fn kinds_of_one_zone_are_kept_apart() {
    let text = render(&two_kinds::snapshot(NOW), &settings(), NOW);
    for (name, more, [client, origin_ca]) in [
        ("certificate_days_until_expiry", "certificate_id=\"same\",common_name=\"same\"", ["40", "3"]),
        ("certificates_up", "zone_id=\"023e105f4ecef8ad9ca31a8372d0c353\"", ["1", "0"]),
        ("certificates_hidden", "zone_id=\"023e105f4ecef8ad9ca31a8372d0c353\"", ["0", "0"]),
        (
            "certificates_last_success_timestamp_seconds",
            "zone_id=\"023e105f4ecef8ad9ca31a8372d0c353\"",
            [&NOW.to_string(), &(NOW - 36_000).to_string()],
        ),
    ] {
        for (kind, value) in [("client", client), ("origin_ca", origin_ca)] {
            let line = format!("\ncloudflare_{name}{{kind=\"{kind}\",zone=\"a.example\",{more}}} {value}\n");
            assert_eq!(text.matches(&line).count(), 1, "{line}{text}");
        }
    }
}
