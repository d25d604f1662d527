//! What has to hold whatever Cloudflare, or somebody in its place, answers. See `src/properties.rs`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc, reason = "a property that fails panics")]

use std::{collections::HashSet, sync::LazyLock, time::Duration};

use chrono::{DateTime, Datelike as _, FixedOffset, SecondsFormat, Utc};
use reqwest::{
    StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde::de::IgnoredAny;
use serde_json::Value;

use super::{
    date,
    envelope::{self, Body, Page},
    headers,
    kinds::source,
    metrics::Endpoint,
    paging::{Next, Paged, Paging},
    response,
    transport::Response,
};
use crate::model::{Baseline, Certificate, Expiry, Field, Kind, Listing, MAX_TEXT_CHARS, clean};

fn client_certificates(body: &[u8]) -> Body<Page> {
    envelope::page(body, source(Kind::Client))
}

/// The bytes are the body of an answer.
pub fn answer(bytes: &[u8]) {
    let read = client_certificates(bytes);
    match &read {
        Body::Good(page) => {
            page.items.iter().for_each(assert_harmless);
        }
        Body::Refused(refusal) => {
            assert_harmless_sentence(&refusal.words);
            assert!(refusal.errors.len() <= 5 * 6 && refusal.words.len() < 5 * 6 * 3 * 4 * (MAX_TEXT_CHARS + 30));
        }
        Body::Unreadable(_) => {}
    }
    another_kind(bytes);
    // What can be passed over can be read.
    if bytes.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(bytes).is_ok() {
        assert_ne!(read, Body::Unreadable("it is not the JSON of the API"));
    }
    if let Body::Good(Some(zone)) = envelope::single_zone(bytes, &"0".repeat(32).parse().unwrap()) {
        assert!(!zone.name.is_empty() && *zone.name == *clean(&zone.name), "{zone:?}");
    }
    for status in [200, 403, 429, 502] {
        let status = StatusCode::from_u16(status).unwrap();
        let response = Response { status, headers: HeaderMap::new(), body: Ok(bytes.to_vec()) };
        match response::into_result(response, client_certificates, "default", Endpoint::Listing(Kind::Client)) {
            Ok(page) => assert!(status.is_success() && read == Body::Good(page), "{status}"),
            Err(failure) => assert_harmless_sentence(&failure.message),
        }
    }
    // Another reader of JSON has to agree. It is stricter, and takes the last of two equal keys.
    if let Ok(value) = serde_json::from_str::<Value>(&String::from_utf8_lossy(bytes)) {
        if let Body::Good(page) = &read {
            assert_eq!(value["success"], true);
            assert_eq!(
                page.items.len(),
                value["result"].as_array().map_or(0, |items| items.len().min(Paged::Numbered.max_entries() + 1))
            );
        }
        let written = value.to_string();
        match (client_certificates(written.as_bytes()), &value["success"], &value["result"]) {
            (Body::Good(page), Value::Bool(true), Value::Array(items)) => {
                let mut ids = items.iter().map(|item| clean(item["id"].as_str().unwrap_or_default()));
                assert!(
                    page.items.iter().all(|entry| ids.next().as_deref() == Some(entry.id())),
                    "an entry is lost in {written}"
                );
                let count = &value["result_info"]["total_count"];
                assert_eq!(page.total_count, count.as_u64());
            }
            (Body::Good(page), Value::Bool(true), Value::Null) => {
                assert_eq!((page.items.len(), page.total_count), (0, Some(0)));
            }
            (Body::Unreadable(_), Value::Bool(true), result) => assert!(!result.is_array(), "{written}"),
            (Body::Refused(_), Value::Bool(false), _) | (Body::Unreadable(_), _, _) => {}
            (read, ..) => panic!("{read:?} from {written}"),
        }
    }
}

/// The bytes are a page of some kind, which their number decides.
fn another_kind(bytes: &[u8]) {
    let kind = Kind::ALL[bytes.len() % Kind::ALL.len()];
    let Body::Good(page) = envelope::page(bytes, source(kind)) else { return };
    page.items.iter().for_each(assert_harmless);
    assert!(page.items.iter().all(|certificate| kind.statuses().contains(&certificate.status)));
    let listing = Listing::of(kind, page.items);
    let of_entries: u64 = kind.statuses().iter().map(|&status| listing.count(status)).sum();
    assert!(of_entries <= listing.certificates().len() as u64);
    // One that is in use is superseded by none.
    let is_superseded = |certificate: &&Certificate| listing.is_superseded(certificate);
    let purposes = || listing.certificates().iter().filter(|certificate| !certificate.texts[Field::Purpose].is_empty());
    assert!(
        kind == Kind::Client
            || purposes().count() == 0
            || purposes().filter(is_superseded).count() < purposes().count()
    );
}

fn assert_harmless(entry: &Certificate) {
    for (field, text) in entry.texts.iter() {
        if field == Field::Hosts {
            assert!(entry.texts.hosts().all(|host| *host == *clean(host)), "{text:?}");
        } else {
            assert!(*text == *clean(text) && text.chars().count() <= MAX_TEXT_CHARS, "{text:?}");
        }
    }
    if let Expiry::At(time) = entry.expiry {
        assert_is_shown(time);
    }
    entry.not_before.into_iter().for_each(assert_is_shown);
}

/// A sentence can be longer than a name.
fn assert_harmless_sentence(text: &str) {
    let chars: Vec<_> = text.chars().collect();
    for part in chars.chunks(MAX_TEXT_CHARS) {
        let part: String = part.iter().collect();
        assert_eq!(*part, *clean(&part));
    }
}

fn assert_is_shown(time: i64) {
    assert!(DateTime::from_timestamp(time, 0).is_some_and(|date| date.year() > 1), "{time}");
}

/// The bytes are how a server behaves: of which kind a list is, how much there is, what totals it states, and then for
/// each request what it does and which answer arrives next. When they are used up it is honest.
///
/// Pages are of six entries at most and listings of 43, whereas the real ones are of fifty and of thousands: what is
/// decided depends on how many pages there are and on which entries come where, and not on how many are on a page.
#[allow(clippy::too_many_lines, reason = "one conversation, from its first request to what came of it")]
pub fn listing(bytes: &[u8]) {
    let mut script = bytes.iter().map(|&byte| usize::from(byte));
    let mut next = || script.next().unwrap_or_default();
    let first = next();
    let (concurrency, paged) = (1 + first % 20, source(Kind::ALL[first / 20 % Kind::ALL.len()]).paged);
    let (n, size) = (next() % 30 + next() % 15, 1 + next() % 6);
    let (tells, lie) = (next(), next());
    // A server that may send everything at once does so where it counts nothing.
    let is_whole = paged == Paged::Whole || paged == Paged::NumberedOrWhole && tells & 3 == 3;
    let size = if is_whole { n.max(1) } else { size };
    let tells_count = tells & 1 == 0;
    let count = tells_count.then_some(if tells & 4 == 0 { n } else { lie });
    let pages = (tells & 2 == 0).then_some(if tells & 8 == 0 { n.div_ceil(size) } else { lie });
    let mut honest = tells & 12 == 0;

    let mut paging = Paging::new(paged, Baseline::default());
    let (mut in_flight, mut asked) = (Vec::new(), 0);
    // Of the reading that is under way.
    let (mut readings, mut last_asked, mut given, mut promised) = (0, 0, HashSet::new(), None);
    let (mut totals, mut given_first, mut looked_again) = (Vec::new(), HashSet::new(), false);
    let whole = loop {
        let step = if in_flight.len() < concurrency { paging.next() } else { Next::Wait };
        match step {
            Next::Ask(number) => {
                // The second reading may look at page 1 twice.
                let looks_again = number == 1 && readings == 2 && !std::mem::replace(&mut looked_again, readings == 2);
                if number == 1 && !looks_again {
                    assert!(in_flight.is_empty(), "a reading begins while another is under way");
                    (readings, last_asked) = (readings + 1, 0);
                    given_first = std::mem::take(&mut given);
                    totals.clear();
                }
                if !looks_again {
                    assert_eq!(number, last_asked + 1, "a page is asked for twice, or left out");
                    last_asked = number;
                }
                asked += 1;
                let deed = next();
                let (mut from, mut to) = (((number - 1) * size).min(n), (number * size).min(n));
                let mut count = count;
                match deed {
                    // Nothing, another page, more than fits, something that is nowhere else, a changed total.
                    1 => to = from,
                    2 => (from, to) = (0, size.min(n)),
                    // The list has moved.
                    3 => (from, to) = ((from + 1).min(n), (to + 1).min(n)),
                    4 => (from, to) = (from.saturating_sub(1), to.saturating_sub(1)),
                    5 => to = (to + size).min(n),
                    6 => (from, to) = (1000 + asked * 100, 1000 + asked * 100 + size),
                    7 => count = Some(next()),
                    8 => count = None,
                    _ => {}
                }
                honest &= !(1..=8).contains(&deed);
                if number == 1 && !looks_again {
                    promised = count;
                }
                totals.extend(count);
                let mut entries: Vec<_> = (from..to).map(entry).collect();
                if deed == 9 {
                    entries.reverse();
                }
                if !looks_again {
                    given.insert((from, to));
                }
                let total = |number: Option<usize>| number.map(|number| number as u64);
                let page = Page {
                    entries: entries.len(),
                    items: entries,
                    skipped: 0,
                    total_count: total(count),
                    total_pages: total(pages),
                };
                in_flight.push((number, page));
            }
            Next::Wait => {
                assert!(!in_flight.is_empty(), "it waits for nothing");
                let (number, page) = in_flight.remove(next() % in_flight.len());
                paging.add(number, page);
            }
            Next::Done(whole) => break Ok(whole),
            Next::Failed(unfit) => break Err(unfit),
        }
        assert!(readings <= 2, "it reads again and again");
        assert!(asked <= 2 * (n.div_ceil(size) + concurrency + 1) + bytes.len(), "{asked} requests");
    };
    let Ok(whole) = whole else {
        assert!(!honest, "an honest listing is refused: {whole:?}");
        return;
    };
    assert!(in_flight.is_empty(), "it ends before every answer is there");
    let all = |pages: &HashSet<(usize, usize)>| -> Vec<usize> {
        let mut ids: Vec<_> = pages.iter().flat_map(|&(from, to)| from..to).collect();
        ids.sort_unstable();
        ids
    };
    let distinct = |mut ids: Vec<usize>| {
        ids.dedup();
        ids
    };
    let mut ids: Vec<usize> = whole.items.iter().map(|entry| entry.id().parse().unwrap()).collect();
    ids.sort_unstable();
    // Where totals go up and down, it is not known which of them is right.
    let least = if totals.is_sorted() { totals.first() } else { totals.iter().max() }.copied();
    assert!(least.is_none_or(|least| ids.len() >= least), "{} of {least:?}", ids.len());
    assert_eq!(whole.exceeds_total_count, totals.last().is_some_and(|&promised| ids.len() > promised));
    if totals.iter().any(|&count| Some(count) != promised) {
        assert!(readings == 2, "its total changed: {totals:?}");
        assert!(all(&given_first).iter().all(|id| ids.contains(id)), "something that was seen is gone");
        assert_eq!(ids, distinct(all(&given)), "it is not what each page that came held");
        return;
    }
    assert_eq!(ids, all(&given), "it is not what each page that came held, one that came again left out");
    let different = distinct(ids.clone());
    if different.len() < ids.len() && promised.is_none_or(|promised| different.len() < promised) {
        let again = readings == 2 && different == distinct(all(&given_first));
        assert!(again, "what is there twice may stand for what was missed");
    }
    if honest {
        assert!(ids.into_iter().eq(0..n), "an honest listing is not whole");
        assert!(!tells_count || asked == n.div_ceil(size).max(1), "{asked} requests for an honest listing");
    }
}

/// Entries of which nothing is known but their ids, which are their places here.
static ENTRIES: LazyLock<Vec<Certificate>> =
    LazyLock::new(|| match client_certificates(br#"{"success":true,"result":[{}]}"#) {
        Body::Good(page) => (0..64).map(|id| with_id(&page.items[0], id)).collect(),
        other => panic!("{other:?}"),
    });

fn with_id(template: &Certificate, id: usize) -> Certificate {
    Certificate { texts: template.texts.with(Field::Id, &id.to_string()), ..template.clone() }
}

fn entry(id: usize) -> Certificate {
    ENTRIES.get(id).cloned().unwrap_or_else(|| with_id(&ENTRIES[0], id))
}

/// The bytes are a date as it is written, and also one as it is meant.
pub fn date(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let read = date::parse(&text);
    assert_eq!(read, date::parse(&format!(" {text}\n")));
    match read {
        Expiry::At(time) => {
            assert_is_shown(time);
            assert_reads_back(DateTime::from_timestamp(time, 0).unwrap(), 0);
        }
        Expiry::Missing | Expiry::Invalid | Expiry::NoCertificate => {}
    }
    let number = |range: std::ops::Range<usize>| {
        let mut eight = [0; 8];
        let given = bytes.get(range).unwrap_or_default();
        eight[..given.len()].copy_from_slice(given);
        i64::from_le_bytes(eight)
    };
    let nanos = u32::try_from(number(8..12).rem_euclid(1_000_000_000)).unwrap();
    let offset = i32::try_from(number(12..14).rem_euclid(28 * 60)).unwrap() - 14 * 60;
    // Every moment that chrono knows, and more often one that has four digits in its year.
    for seconds in [number(0..8), number(0..8) % 253_402_300_800] {
        if let Some(moment) = DateTime::from_timestamp(seconds, nanos) {
            assert_reads_back(moment, offset);
        }
    }
}

/// Written in each known form, with an offset in minutes where the form has one, it is the same moment.
fn assert_reads_back(moment: DateTime<Utc>, offset: i32) {
    let expected = if moment.year() <= 1 { Expiry::Missing } else { Expiry::At(moment.timestamp()) };
    let go = moment.format("%Y-%m-%d %H:%M:%S%.f %z UTC").to_string();
    assert_eq!(date::parse(&go), expected, "{go}");
    let offset = FixedOffset::east_opt(offset * 60).unwrap();
    let Some(local) = moment.naive_utc().checked_add_offset(offset) else { return };
    // RFC 3339 has four digits for the year.
    if (0..=9999).contains(&local.year()) {
        let rfc3339 = moment.with_timezone(&offset).to_rfc3339_opts(SecondsFormat::AutoSi, true);
        assert_eq!(date::parse(&rfc3339), expected, "{rfc3339}");
    }
}

/// The bytes are header lines; one without a known name is a value for each of them.
pub fn headers(bytes: &[u8]) {
    const DAY: Duration = Duration::from_secs(86_400);
    const NAMES: [&str; 3] = ["ratelimit", "ratelimit-policy", "retry-after"];
    let mut headers = HeaderMap::new();
    for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let named =
            NAMES.iter().find_map(|name| Some((*name, line.strip_prefix(name.as_bytes())?.strip_prefix(b":")?)));
        let lines = named.map_or_else(|| NAMES.map(|name| (name, line)).to_vec(), |line| vec![line]);
        for (name, value) in lines {
            if let Ok(value) = HeaderValue::from_bytes(value.trim_ascii()) {
                headers.append(HeaderName::from_static(name), value);
            }
        }
    }
    let read = headers::rate_limits(&headers);
    assert!(read.len() <= 8, "{} policies", read.len());
    let policies: HashSet<_> = read.iter().map(|limit| &limit.policy).collect();
    assert_eq!(policies.len(), read.len(), "a policy is there twice");
    let text = String::from_utf8_lossy(bytes);
    for limit in &read {
        assert_eq!(limit.policy, clean(&limit.policy));
        assert!(limit.reset <= DAY, "{limit:?}");
        for number in [limit.quota, limit.remaining].into_iter().flatten() {
            assert!(text.contains(&number.to_string()), "{number} is made up");
        }
    }
    let low = headers::lowest_reset(&read);
    assert!(low.is_none_or(|reset| read.iter().any(|limit| limit.reset == reset)), "{low:?}");
    for now in [DateTime::UNIX_EPOCH, DateTime::from_timestamp(1_795_000_000, 0).unwrap(), DateTime::<Utc>::MAX_UTC] {
        let wait = headers::retry_after(&headers, now);
        assert!(wait.is_none_or(|wait| wait <= DAY), "{wait:?}");
        let value = headers.get("retry-after").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if let Ok(seconds) = value.parse().map(Duration::from_secs)
            && !value.starts_with('+')
        {
            assert_eq!(wait, Some(seconds.min(DAY)), "{value}");
        }
    }
}
