//! `list`: one sweep over the zones, and every certificate on stdout.

use std::{
    borrow::Cow,
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, Table, presets::NOTHING};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serializer as _;

use super::{FAILED, USAGE, complain, daemon::block_on, print_with};
use crate::{
    cloudflare::{Client, ClientMaker, Priority, announce_proxy},
    config::{Config, parse_duration, remedy_for_kind},
    exposition::json::{CertificateRow, Column, DAYS_UNTIL_EXPIRY},
    fetch,
    model::{Baseline, Cause, Failure, Field, Kind, Listing, Scope, Target},
    poller::ZoneNameLookup,
};

/// Options of `list`.
#[derive(Debug, Args)]
pub(super) struct ListOptions {
    /// How the certificates are printed.
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    output: OutputFormat,
    /// Only this zone or account, by name or id; can be repeated.
    #[arg(long = "zone", value_name = "NAME_OR_ID")]
    zones: Vec<String>,
    /// Only certificates of this kind; can be repeated.
    #[arg(long = "kind", value_name = "KIND", value_parser = parse_kind)]
    kinds: Vec<Kind>,
    /// Only certificates that expire within this time, such as 30d, or have expired.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    expiring_within: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    Table,
    Json,
    Csv,
}

/// Lists and prints; returns the exit code.
pub(super) fn run(config: &Config, options: &ListOptions, now: fn() -> DateTime<Utc>) -> u8 {
    announce_proxy(&config.api);
    block_on(async {
        let clients = match ClientMaker::for_one_sweep(now).make(&config.api, &config.credentials) {
            Ok(clients) => clients,
            Err(error) => {
                complain(&error.to_string());
                return FAILED;
            }
        };
        let client = |zone: &Target| clients[&zone.credential].clone();
        let requests = || clients.values().map(|client| client.requests_sent()).sum::<u64>();
        let zones = match chosen(&config.targets, &options.zones, &options.kinds, client).await {
            Ok(zones) => zones,
            Err(message) => {
                complain(&message);
                return USAGE;
            }
        };
        let kinds: Vec<_> = Kind::ALL.into_iter().filter(|&kind| zones.iter().any(|zone| zone.kind == kind)).collect();
        let (listings, failures) = sweep(zones, client, requests, now).await;
        let now = now().timestamp();
        let until = options.expiring_within.map(|within| now.saturating_add_unsigned(within.as_secs()));
        let mut shown: Vec<_> = listings
            .iter()
            .flat_map(|(zone, name, listing)| {
                listing.certificates().iter().map(move |certificate| (zone, name, certificate))
            })
            .filter(|(_, _, certificate)| {
                until.is_none_or(|until| certificate.not_after().is_some_and(|time| time <= until))
            })
            .collect();
        shown.sort_by_key(|(_, _, certificate)| (certificate.not_after().is_none(), certificate.not_after()));
        let rows = shown.iter().map(|(zone, name, certificate)| CertificateRow::new(zone, name, certificate, now));
        let code = print_with(|out| options.output.write(&kinds, rows, out));
        for (zone, failure) in &failures {
            let name = zone.name.as_deref().unwrap_or(zone.id.as_str());
            let kind = if kinds.len() > 1 { format!("{}: ", zone.kind.label()) } else { String::new() };
            complain(&format!("{name}: {kind}{}: {failure}", failure.reason.label()));
        }
        complain(&format!(
            "{} of {} {} listed with {} requests, {} certificates shown.",
            listings.len(),
            listings.len() + failures.len(),
            if kinds == [Kind::Client] { "zones" } else { "targets" },
            requests(),
            shown.len()
        ));
        if failures.is_empty() { code } else { FAILED }
    })
}

/// Reads the word for a kind.
pub(super) fn parse_kind(word: &str) -> Result<Kind, String> {
    Kind::from_label(word).ok_or_else(|| remedy_for_kind(word))
}

/// The targets that were asked for; the API is asked for names only if the configuration does not settle it.
pub(super) async fn chosen(
    targets: &[Arc<Target>],
    wanted: &[String],
    kinds: &[Kind],
    client: impl Fn(&Target) -> Arc<Client>,
) -> Result<Vec<Arc<Target>>, String> {
    let is_polled = |kind: &Kind| targets.iter().any(|target| target.kind == *kind);
    if let Some(kind) = kinds.iter().find(|kind| !is_polled(kind)) {
        let polled: Vec<_> = Kind::ALL.into_iter().filter(is_polled).map(Kind::label).collect();
        let kind = kind.label();
        return Err(format!(
            "The configuration does not list kind {kind}, only {}; add it to poll.kinds.",
            polled.join(", ")
        ));
    }
    let zones: Vec<_> =
        targets.iter().filter(|target| kinds.is_empty() || kinds.contains(&target.kind)).cloned().collect();
    if wanted.is_empty() {
        return Ok(zones);
    }
    let is = |zone: &Target, wanted: &str| {
        zone.id.as_str().eq_ignore_ascii_case(wanted) || zone.name.as_deref().is_some_and(|name| name == wanted)
    };
    let mut zones = zones;
    if wanted.iter().any(|wanted| !zones.iter().any(|zone| is(zone, wanted))) {
        for zone in zones.iter_mut().filter(|zone| zone.name.is_none() && zone.kind.scope() == Scope::Zone) {
            let client = client(zone);
            if let Ok(name) = client.zone_name(&zone.id, client.next_ticket(), Priority::Healthy).await {
                *zone = Arc::new(Target { name: Some(name.into()), ..Target::clone(zone) });
            }
        }
    }
    if let Some(unknown) = wanted.iter().find(|wanted| !zones.iter().any(|zone| is(zone, wanted))) {
        let mut known: Vec<_> = zones.iter().map(|zone| zone.name.as_deref().unwrap_or(zone.id.as_str())).collect();
        known.dedup();
        return Err(format!("There is no zone {unknown:?} in the configuration; the zones are {}.", known.join(", ")));
    }
    zones.retain(|zone| wanted.iter().any(|wanted| is(zone, wanted)));
    Ok(zones)
}

pub(super) type NamedListing = (Arc<Target>, Arc<str>, Arc<Listing>);

/// Lists all zones side by side, with a progress bar on a terminal.
pub(super) async fn sweep(
    zones: Vec<Arc<Target>>,
    client: impl Fn(&Target) -> Arc<Client>,
    requests: impl Fn() -> u64,
    now: fn() -> DateTime<Utc>,
) -> (Vec<NamedListing>, Vec<(Arc<Target>, Failure)>) {
    let style = "{bar:30} {pos}/{len}, {msg} requests, {elapsed}";
    // It draws on stderr, and only if that is a terminal.
    let bar = ProgressBar::new(zones.len() as u64)
        .with_style(ProgressStyle::with_template(style).expect("the template is a constant that a test renders"));
    let polls = zones.into_iter().map(|zone| {
        let client = client(&zone);
        async move {
            let wants_name = zone.name.is_none() && zone.kind.scope() == Scope::Zone;
            let fetched = fetch(client, &zone, Priority::Healthy, Baseline::default(), wants_name, now).await;
            (zone, fetched)
        }
    });
    let mut running: FuturesUnordered<_> = polls.collect();
    let (mut listings, mut failures) = (Vec::new(), Vec::new());
    let mut redraw = tokio::time::interval(Duration::from_millis(100));
    loop {
        let polled = tokio::select! {
            _ = redraw.tick() => {
                bar.set_message(requests().to_string());
                continue;
            }
            polled = running.next() => polled,
        };
        let Some((zone, fetched)) = polled else { break };
        match fetched {
            Ok(fetched) => {
                let name = name(&zone, fetched.name);
                listings.push((zone, name, fetched.listing));
            }
            Err(failure) if failure.cause == Some(Cause::NotOnPlan) => {
                let name = zone.name.as_deref().unwrap_or(zone.id.as_str());
                bar.suspend(|| complain(&format!("{name}: {}: not on the plan.", zone.kind.label())));
            }
            Err(failure) => failures.push((zone, failure)),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    (listings, failures)
}

/// What a zone is called: as the configuration says, or else the API, or else by its id.
fn name(zone: &Target, found: ZoneNameLookup) -> Arc<str> {
    match (&zone.name, found) {
        (Some(name), _) => name.clone(),
        (None, ZoneNameLookup::Known(name)) => name.into(),
        (None, ZoneNameLookup::Unknown | ZoneNameLookup::Refused) => zone.id.as_str().into(),
    }
}

/// A text as a spreadsheet shows it: what it would run as a formula gets an apostrophe in front, as OWASP advises.
///
/// Spreadsheets disagree about what they skip before a formula and which characters begin one, so all of them count.
fn text_cell(text: &str) -> Cow<'_, str> {
    let is_skipped = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '`' | '\u{feff}');
    let is_first = |c: char| {
        matches!(c, '=' | '+' | '-' | '@' | '|' | '%' | '＝' | '＋' | '－' | '＠' | '−' | '﹦' | '﹢' | '﹣' | '﹫')
    };
    let runs = text.trim_start_matches(is_skipped).starts_with(is_first) || text.starts_with(char::is_control);
    if runs { format!("'{text}").into() } else { text.into() }
}

impl OutputFormat {
    /// One row after the other: all at once, 100,000 would be as long again as their listing.
    fn write<'a>(
        self,
        kinds: &[Kind],
        mut rows: impl Iterator<Item = CertificateRow<'a>>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        match self {
            Self::Table => out.write_all(table(kinds, rows).as_bytes()),
            Self::Json => {
                serde_json::Serializer::pretty(&mut *out).collect_seq(rows)?;
                out.write_all(b"\n")
            }
            Self::Csv => {
                let columns = Column::all(kinds);
                // The header is there for no certificates too.
                let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(out);
                let mut write = || {
                    writer.write_record(columns.iter().map(|column| column.name()).chain([DAYS_UNTIL_EXPIRY]))?;
                    rows.try_for_each(|row| {
                        let mut texts = columns.iter().map(|&column| row.text(column).unwrap_or_default());
                        texts.try_for_each(|text| writer.write_field(text_cell(text).as_bytes()))?;
                        // A number, and a spreadsheet may take it for one even if it begins with a minus.
                        writer.write_field(row.days_until_expiry.map_or_else(String::new, |days| days.to_string()))?;
                        writer.write_record(None::<&[u8]>)
                    })?;
                    Ok(writer.flush()?)
                };
                write().map_err(|error: csv::Error| match error.into_kind() {
                    csv::ErrorKind::Io(error) => error,
                    other => io::Error::other(format!("{other:?}")),
                })
            }
        }
    }
}

fn table<'a>(kinds: &[Kind], rows: impl Iterator<Item = CertificateRow<'a>>) -> String {
    let mut table = Table::new();
    let has_kinds = kinds.len() > 1;
    let mut header = vec!["DAYS", "EXPIRES ON", "STATUS", "ZONE", "COMMON NAME", "CERTIFICATE ID"];
    if has_kinds {
        header.insert(2, "KIND");
    }
    table.load_style(NOTHING).set_header(header);
    if let Some(days) = table.column_mut(0) {
        days.set_cell_alignment(CellAlignment::Right);
    }
    for row in rows {
        let days = row.days_until_expiry.map_or_else(|| "?".to_owned(), |days| days.to_string());
        let expires_on = row.expires_on.as_deref().unwrap_or("unknown");
        let [common_name, id] = [Field::CommonName, Field::Id].map(|field| &row.texts[field]);
        let mut cells = vec![&*days, expires_on, row.status, row.scope, common_name, id];
        if has_kinds {
            cells.insert(2, row.kind.label());
        }
        table.add_row(cells);
    }
    format!("{}\n", table.trim_fmt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{exposition::json::date, model::Texts};

    #[test]
    fn a_mistyped_kind_is_answered_with_the_nearest_one() {
        assert_eq!(parse_kind("edge"), Ok(Kind::Edge));
        for (word, expected) in [
            ("egde", "did you mean \"edge\"? The kinds are client, "),
            ("Origin-CA", "did you mean \"origin_ca\"? The kinds are client, "),
            ("server", "the kinds are client, "),
        ] {
            let error = parse_kind(word).unwrap_err();
            assert!(error.starts_with(expected), "{word}: {error}");
        }
    }

    #[test]
    fn no_text_is_a_formula_and_every_number_stays_one() {
        let begins = ["=", "+", "-", "@", "|", "%", "＝", "＋", "－", "＠", "−"];
        let before = ["", " ", "   ", "\t", "\r", "\n", "\u{a0}", "\u{3000}", "\"", "'", "\u{feff}", " \"' \t"];
        for first in begins {
            for before in before {
                let text = format!("{before}{first}1+1");
                assert_eq!(text_cell(&text), format!("'{text}"));
            }
        }
        for control in ["\t", "\r", "\n"] {
            assert_eq!(text_cell(&format!("{control}a")), format!("'{control}a"));
        }
        for plain in ["", " ", "a", "a=1", "*.example", "1-2", "(=1)", "Zürich", "'", "\u{fffd}=1"] {
            assert_eq!(text_cell(plain), plain);
        }
        // In every column that is text, wherever it comes from.
        let texts = Texts::from(Field::ALL.map(|field| (field, "=1")));
        let row = |days_until_expiry| CertificateRow {
            kind: Kind::Client,
            scope: "=1",
            scope_id: "=1",
            status: "=1",
            texts: &texts,
            expires_on: Some("=1".to_owned()),
            // A year after 9999.
            issued_on: date(300_000_000_000),
            days_until_expiry,
        };
        let mut out = Vec::new();
        OutputFormat::Csv.write(&[Kind::Client], [row(Some(-3)), row(None)].into_iter(), &mut out).unwrap();
        let texts = format!("client,{},'+11476-08-15T05:20:00Z", ["'=1"; 16].join(","));
        let names = "kind,zone,certificate_id,common_name,zone_id,status,serial_number,fingerprint_sha256,ski,issuer,\
            signature,organization,organizational_unit,country,state,location,expires_on,issued_on,days_until_expiry";
        let expected = format!("{names}\n{texts},-3\n{texts},\n");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
