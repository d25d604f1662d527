//! `check-config`: what the daemon would do with a configuration that is good.

use comfy_table::{Table, presets::NOTHING};

use super::print;
use exporter_toolkit::WebConfig;

use crate::{
    config::{Config, ConfigFile},
    model::{Kind, Reason, Rejection, Scope},
    poller::{BudgetFit, in_words},
};

/// Prints every zone and what each credential has to bear; returns the exit code.
pub(super) fn run(config: &Config, file: &ConfigFile) -> u8 {
    let mut text = if file.is_absent() {
        format!("There is no configuration file {}, so every setting has its default.\n\n", file.path().display())
    } else {
        "The configuration is good.\n\n".to_owned()
    };
    if !config.targets.is_empty() {
        text.push_str(&format!("{}\n\n", targets(config).trim_fmt()));
    }
    if let Some(discovery) = &config.discovery {
        let credentials = discovery.credentials.join(", ");
        text.push_str(&format!("Zones are discovered with {credentials}: how many there are is not known offline, the command zones tells.\n\n"));
    }
    if config.targets.iter().any(|target| target.kind != Kind::Client) {
        text.push_str(&format!("{}\n\n", kinds(config).trim_fmt()));
    }
    for fit in BudgetFit::new(config.api.requests_per_5m, config.targets.iter().map(|zone| &**zone)).report() {
        text.push_str(&format!(
            "Credential {}: needs at least {:.1} requests in five minutes, one for every 50 certificates of a zone. Its budget is {}.\n",
            fit.credential, fit.needed_per_5m, fit.allowed_per_5m
        ));
        if !fit.stretched.is_empty() {
            text.push_str(&format!(
                "  That is too few, so these will be listed less often: {}. Watch fewer kinds ({} costs most) or zones, raise the intervals, or raise api.requests_per_5m.\n",
                in_words(&fit.stretched),
                fit.costliest.label(),
            ));
        }
    }
    match &config.state_directory {
        Some(directory) => text.push_str(&format!("State is kept in {}.\n", directory.display())),
        None => text.push_str(
            "No state is kept, so a restart knows nothing until every zone has been listed again; see [state] directory.\n",
        ),
    }
    if let Some(file) = &config.web_config_file {
        text.push_str(&format!("The web configuration {} is good.\n", file.display()));
        // It was read without a mistake a moment ago.
        for warning in WebConfig::check(file).unwrap_or_default() {
            text.push_str(&format!("  {warning}.\n"));
        }
    }
    print(text.as_bytes())
}

/// A row for each zone and account, with what is listed in it.
fn targets(config: &Config) -> Table {
    let mut table = Table::new();
    let has_kinds = config.targets.iter().any(|target| target.kind != Kind::Client);
    let mut header = vec!["ZONE", "ZONE ID", "CREDENTIAL", "INTERVAL"];
    if has_kinds {
        header = vec!["ZONE OR ACCOUNT", "ID", "CREDENTIAL", "KIND", "INTERVAL"];
    }
    table.load_style(NOTHING).set_header(header);
    for target in &config.targets {
        let interval = humantime::format_duration(target.interval).to_string();
        let nameless = match target.kind.scope() {
            Scope::Zone => "(asked of the API)",
            Scope::Account => "(without a name)",
        };
        let mut cells =
            vec![target.name.as_deref().unwrap_or(nameless), target.id.as_str(), &target.credential, &interval];
        if has_kinds {
            cells.insert(3, target.kind.label());
        }
        table.add_row(cells);
    }
    table
}

/// What each kind costs of the budgets of all credentials, if every listing takes one request, and about how many
/// series a listing of it has.
fn kinds(config: &Config) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["KIND", "LISTINGS", "REQUESTS PER HOUR", "OF THE BUDGET", "SERIES AT LEAST"]);
    #[expect(clippy::cast_precision_loss, reason = "there are far fewer credentials than 2^53")]
    let budget = f64::from(config.api.requests_per_5m) * 12.0 * config.credentials.len().max(1) as f64;
    for kind in Kind::ALL {
        let targets = || config.targets.iter().filter(|target| target.kind == kind);
        if targets().next().is_none() {
            continue;
        }
        let per_hour: f64 = targets().map(|target| 3600.0 / target.interval.as_secs_f64()).sum();
        let series = targets().count() * series_of_a_listing(kind, config.series.expiring_within_days.len());
        table.add_row([
            kind.label().to_owned(),
            targets().count().to_string(),
            format!("{per_hour:.1}"),
            format!("{:.1} %", 100.0 * per_hour / budget),
            series.to_string(),
        ]);
    }
    table
}

/// The series of an empty listing.
fn series_of_a_listing(kind: Kind, within_days: usize) -> usize {
    const OTHERS: usize = 9;
    kind.statuses().len() + within_days + Rejection::ALL.len() + Reason::ALL.len() + OTHERS
}
