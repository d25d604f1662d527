//! `list`: one sweep over the zones, and every certificate on stdout.

use std::{
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, Table, presets::NOTHING};
use serde::Serializer as _;

use super::{
    CommandError, FAILED, complain,
    daemon::block_on,
    print_with,
    sweep::{SelectionFlags, Sweep, complain_of_undiscovered, sweep},
};
use crate::{
    config::{Config, parse_duration},
    exposition::json::{CertificateRow, Column, DAYS_UNTIL_EXPIRY},
    model::{Field, Kind, counted},
};

#[derive(Debug, Args)]
pub(super) struct ListOptions {
    /// How the certificates are printed.
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    output: OutputFormat,
    #[command(flatten)]
    selection: SelectionFlags,
    /// Only certificates that expire within this time, such as 30d, or have expired.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    expiring_within: Option<Duration>,
}

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    Table,
    Json,
    Csv,
}

/// Lists and prints; returns the exit code.
pub(super) fn run(config: &Config, options: &ListOptions, now: fn() -> DateTime<Utc>) -> Result<u8, CommandError> {
    let Sweep { kinds, snapshot, requests } = block_on(sweep(config, &options.selection, now))?;
    let now = now().timestamp();
    let until = options.expiring_within.map(|within| now.saturating_add_unsigned(within.as_secs()));
    let rules = &config.series.labels;
    let listed: Vec<_> = snapshot
        .targets
        .iter()
        .filter_map(|state| Some((state, &state.listing.as_ref()?.0, rules.of_target(&state.target, &state.name))))
        .collect();
    let mut shown: Vec<_> = listed
        .iter()
        .flat_map(|(state, listing, labels)| listing.certificates().iter().map(move |one| (state, one, labels)))
        .filter(|(_, one, _)| until.is_none_or(|until| one.not_after().is_some_and(|time| time <= until)))
        .collect();
    shown.sort_by_key(|(_, one, _)| (one.not_after().is_none(), one.not_after()));
    let rows =
        shown.iter().map(|(state, one, labels)| CertificateRow::new(&state.target, &state.name, one, labels, now));
    print_with(|out| options.output.write(&kinds, &rules.names, rows, out))?;
    let failures: Vec<_> = snapshot.targets.iter().filter_map(|state| Some((state, state.failure()?))).collect();
    for (state, failure) in &failures {
        let kind = if kinds.len() > 1 { format!("{}: ", state.target.kind.label()) } else { String::new() };
        complain(&format!("{}: {kind}{}: {failure}", state.name, failure.reason.label()));
    }
    let undiscovered = || snapshot.discoveries.iter().filter_map(|one| Some((&one.credential, one.failure.as_ref()?)));
    complain_of_undiscovered(undiscovered());
    complain(&format!(
        "{} of {} {} listed with {}, {} shown.",
        listed.len(),
        listed.len() + failures.len(),
        if kinds == [Kind::Client] { "zones" } else { "targets" },
        counted(requests, "request"),
        counted(shown.len() as u64, "certificate")
    ));
    Ok(if failures.is_empty() && undiscovered().next().is_none() { 0 } else { FAILED })
}

/// A text as a spreadsheet shows it: what it would run as a formula gets an apostrophe in front, as OWASP advises.
///
/// Spreadsheets disagree about what they skip before a formula and which characters begin one, so all of them count.
pub(super) fn text_cell(text: &str) -> String {
    let is_skipped = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '`' | '\u{feff}');
    let is_first = |c: char| {
        matches!(c, '=' | '+' | '-' | '@' | '|' | '%' | '＝' | '＋' | '－' | '＠' | '−' | '﹦' | '﹢' | '﹣' | '﹫')
    };
    let runs = text.trim_start_matches(is_skipped).starts_with(is_first) || text.starts_with(char::is_control);
    if runs { format!("'{text}") } else { text.to_owned() }
}

impl OutputFormat {
    /// One row after the other: all at once, 100,000 would be as long again as their listing.
    fn write<'a>(
        self,
        kinds: &[Kind],
        own_labels: &[Arc<str>],
        rows: impl Iterator<Item = CertificateRow<'a>>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        match self {
            Self::Table => out.write_all(table(kinds, own_labels, rows).as_bytes()),
            Self::Json => {
                serde_json::Serializer::pretty(&mut *out).collect_seq(rows)?;
                out.write_all(b"\n")
            }
            Self::Csv => {
                let columns = Column::all(kinds);
                let names = columns.iter().map(|column| column.name()).chain([DAYS_UNTIL_EXPIRY]);
                let cells = |row: CertificateRow<'a>| {
                    let texts = columns.iter().map(|&column| text_cell(row.text(column).unwrap_or_default()));
                    // A number, and a spreadsheet may take it for one even if it begins with a minus.
                    let days = row.days_until_expiry.map_or_else(String::new, |days| days.to_string());
                    texts.chain([days]).chain(row.own_labels().map(|(_, value)| text_cell(value))).collect()
                };
                write_csv(names.chain(own_labels.iter().map(|name| &**name)), rows.map(cells), out)
            }
        }
    }
}

/// Writes a table as CSV. Its header is there if there is no row, too.
pub(super) fn write_csv<'a>(
    header: impl IntoIterator<Item = &'a str>,
    mut rows: impl Iterator<Item = Vec<String>>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(out);
    let written = writer.write_record(header).and_then(|()| rows.try_for_each(|row| writer.write_record(row)));
    written.map_err(|error| match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    })?;
    writer.flush()
}

fn table<'a>(kinds: &[Kind], own_labels: &[Arc<str>], rows: impl Iterator<Item = CertificateRow<'a>>) -> String {
    let mut table = Table::new();
    let has_kinds = kinds.len() > 1;
    let header = ["DAYS", "EXPIRES ON", "STATUS", "ZONE", "COMMON NAME", "CERTIFICATE ID"].map(str::to_owned);
    let mut header: Vec<_> = header.into_iter().chain(own_labels.iter().map(|name| name.to_uppercase())).collect();
    if has_kinds {
        header.insert(2, "KIND".to_owned());
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
        cells.extend(row.own_labels().map(|(_, value)| value));
        table.add_row(cells);
    }
    format!("{}\n", table.trim_fmt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        exposition::json::date,
        model::{TargetLabels, Texts},
    };

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
        let own_labels = TargetLabels::default();
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
            own_labels: &own_labels,
        };
        let mut out = Vec::new();
        OutputFormat::Csv.write(&[Kind::Client], &[], [row(Some(-3)), row(None)].into_iter(), &mut out).unwrap();
        let texts = format!("client,{},'+11476-08-15T05:20:00Z", ["'=1"; 16].join(","));
        let names = "kind,zone,certificate_id,common_name,zone_id,status,serial_number,fingerprint_sha256,ski,issuer,\
            signature,organization,organizational_unit,country,state,location,expires_on,issued_on,days_until_expiry";
        let expected = format!("{names}\n{texts},-3\n{texts},\n");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
