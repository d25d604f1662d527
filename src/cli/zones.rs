//! `zones`: what the credentials can see, and whether it is watched.

use std::{collections::HashSet, io};

use chrono::{DateTime, Utc};
use clap::Args;
use comfy_table::{Table, presets::NOTHING};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    CommandError, FAILED, complain,
    daemon::block_on,
    list::{OutputFormat, text_cell, write_csv},
    print_with,
    sweep::complain_of_undiscovered,
};
use crate::{
    cloudflare::{ClientMaker, announce_proxy},
    config::{Config, DiscoverySettings},
    inventory::{Inventory, Watched, ZoneVerdict},
    model::{FilterVerdict, NamePattern, Scope, Target, ZoneFilter, counted},
};

#[derive(Debug, Args)]
pub(super) struct ZonesOptions {
    /// How the zones are printed.
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    output: OutputFormat,
}

/// The columns of CSV: the members of [`SeenZone`], as in JSON.
const COLUMNS: [&str; 8] = ["name", "id", "account", "account_id", "status", "credentials", "watched", "reason"];

/// A zone.
#[derive(Debug, Serialize)]
struct SeenZone {
    name: String,
    id: String,
    account: Option<String>,
    account_id: Option<String>,
    /// `None` if no credential sees it.
    status: Option<String>,
    credentials: String,
    watched: bool,
    /// Why it is not watched, or what is odd about it.
    reason: Option<String>,
}

/// Discovers once and prints; returns the exit code.
pub(super) fn run(mut config: Config, options: &ZonesOptions, now: fn() -> DateTime<Utc>) -> Result<u8, CommandError> {
    let has_discovery = config.discovery.is_some();
    let settings = config.discovery.get_or_insert_with(|| DiscoverySettings {
        filter: ZoneFilter::everything(),
        interval: DiscoverySettings::INTERVAL,
        credentials: config.credentials.iter().map(|credential| credential.name().clone()).collect(),
    });
    // Where the token may ask for names alone, it can see no others.
    let by_name = settings.filter.include.iter().all(|pattern| NamePattern::only_name(pattern).is_some());
    let filter = if by_name { settings.filter.clone() } else { ZoneFilter::everything() };
    let (rows, failures, requests) = block_on(async {
        announce_proxy(&config.api);
        let clients =
            ClientMaker::for_one_sweep(now).make(&config.api, &config.credentials).map_err(CommandError::failed)?;
        let mut inventory = Inventory::new(&config);
        let failures = inventory.discover(&clients, Some(&filter), now).await;
        let requests: u64 = clients.values().map(|client| client.requests_sent()).sum();
        Ok((rows(&config, &inventory, has_discovery), failures, requests))
    })?;
    print_with(|out| options.output.write_zones(&rows, out))?;
    complain_of_undiscovered(failures.iter().map(|(credential, failure)| (credential, failure)));
    let watched = rows.iter().filter(|row| row.watched).count();
    let (zones, requests) = (counted(rows.len() as u64, "zone"), counted(requests, "request"));
    complain(&format!("{zones}, {watched} of them watched, found with {requests}."));
    Ok(if failures.is_empty() { 0 } else { FAILED })
}

/// A row for each zone that was found, and for each that the configuration lists, by name.
fn rows(config: &Config, inventory: &Inventory, has_discovery: bool) -> Vec<SeenZone> {
    let listed = || config.targets.iter().filter(|target| target.kind.scope() == Scope::Zone);
    let is_listed = |found: &ZoneVerdict<'_>| listed().any(|target| target.id == found.zone.id);
    let verdicts = inventory.verdicts();
    // A zone that several credentials see is one row.
    let found = verdicts.iter().filter(|found| !matches!(found.watched, Watched::ByCredential(_)));
    let mut rows: Vec<_> = found.map(|found| SeenZone::found(found, has_discovery || is_listed(found))).collect();
    let mut known: HashSet<&str> = verdicts.iter().map(|found| found.zone.id.as_str()).collect();
    for target in listed() {
        if known.insert(target.id.as_str()) {
            rows.push(SeenZone::not_found(target, config.shard.owns(&target.id)));
        }
    }
    rows.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
    rows
}

impl SeenZone {
    /// A zone that was found. Without a discovery, only what the configuration lists is watched.
    fn found(found: &ZoneVerdict<'_>, can_be_watched: bool) -> Self {
        let ZoneVerdict { zone, credential, watched } = found;
        let reason = match watched {
            _ if !can_be_watched => Some("not in [[zones]]".to_owned()),
            Watched::Yes | Watched::Filtered(FilterVerdict::Watched) => None,
            Watched::Filtered(FilterVerdict::NotIncluded) => Some("not in discovery.include".to_owned()),
            Watched::Filtered(FilterVerdict::ExcludedBy(pattern)) => {
                Some(format!("excluded by {:?}", pattern.as_str()))
            }
            Watched::Filtered(FilterVerdict::OtherAccount) => {
                Some("its account is not in discovery.accounts".to_owned())
            }
            Watched::ByCredential(other) => Some(format!("watched with credential {other}")),
            Watched::ByShard(ordinal) => Some(format!("watched by shard {ordinal}")),
        };
        let account = zone.account.as_ref();
        Self {
            name: zone.name.to_string(),
            id: zone.id.to_string(),
            account: account.map(|account| account.name.to_string()),
            account_id: account.map(|account| account.id.to_string()),
            status: Some(zone.status.to_string()),
            credentials: credential.to_string(),
            watched: reason.is_none(),
            reason,
        }
    }

    /// A zone that the configuration lists and no credential sees.
    fn not_found(target: &Target, is_mine: bool) -> Self {
        let why = if is_mine {
            "in [[zones]], but no credential sees it"
        } else {
            "another shard's, and no credential sees it"
        };
        Self {
            name: target.name.as_deref().unwrap_or(target.id.as_str()).to_owned(),
            id: target.id.to_string(),
            account: None,
            account_id: None,
            status: None,
            credentials: target.credential.to_string(),
            watched: is_mine,
            reason: Some(why.to_owned()),
        }
    }
}

impl OutputFormat {
    fn write_zones(self, rows: &[SeenZone], out: &mut dyn io::Write) -> io::Result<()> {
        match self {
            Self::Table => out.write_all(table(rows).as_bytes()),
            Self::Json => {
                serde_json::to_writer_pretty(&mut *out, rows)?;
                out.write_all(b"\n")
            }
            Self::Csv => {
                let rows = rows.iter().map(|row| json!(row));
                let cells = rows.map(|row| {
                    let cell = |column| match &row[column] {
                        Value::Null => String::new(),
                        Value::String(text) => text_cell(text),
                        other => other.to_string(),
                    };
                    COLUMNS.map(cell).to_vec()
                });
                write_csv(COLUMNS, cells, out)
            }
        }
    }
}

fn table(rows: &[SeenZone]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["NAME", "ID", "ACCOUNT", "ACCOUNT ID", "STATUS", "WATCHED"]);
    for row in rows {
        let watched = match (&row.reason, row.watched) {
            (None, _) => "yes".to_owned(),
            (Some(reason), true) => format!("yes: {reason}"),
            (Some(reason), false) => format!("no: {reason}"),
        };
        let unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
        let [account, account_id, status] = [&row.account, &row.account_id, &row.status].map(unknown);
        table.add_row([row.name.clone(), row.id.clone(), account, account_id, status, watched]);
    }
    format!("{}\n", table.trim_fmt())
}
