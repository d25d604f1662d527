//! `check-config`: what the daemon would do with a configuration that is good.

use std::{collections::HashSet, path::Path, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use comfy_table::{Table, presets::NOTHING};

use super::{CommandError, UNUSABLE_CONFIG, print};
use exporter_toolkit::WebConfig;

use crate::{
    config::{Config, ConfigFile, DiscoverySettings},
    inventory::{Inventory, Watched},
    model::{Kind, LabelRules, Reason, Rejection, Scope, Shard, Target},
    poller::{BudgetFit, in_words},
    state::{peek_at_discovery, peek_at_target},
};

/// Prints every zone and what each credential has to bear; returns the exit code.
pub(super) fn run(config: &Config, file: &ConfigFile, now: fn() -> DateTime<Utc>) -> Result<u8, CommandError> {
    let mut text = if file.is_absent() {
        format!("There is no configuration file {}, so every setting has its default.\n\n", file.path().display())
    } else {
        "The configuration is good.\n\n".to_owned()
    };
    let state = config.state_directory.as_deref();
    let mut inventory = Inventory::new(config);
    let peek = |credential: &str| peek_at_discovery(state?, credential);
    inventory.restore(peek, now());
    let watched = inventory.targets();
    if !config.targets.is_empty() {
        text.push_str(&format!("{}\n\n", configured(config).trim_fmt()));
    }
    if config.shard.total > 1 {
        text.push_str(&shard(config));
    }
    if let Some(discovery) = &config.discovery {
        text.push_str(&discovered(config, discovery, &inventory));
    }
    if !watched.is_empty() {
        text.push_str(&format!("{}\n\n", kinds(config, &watched).trim_fmt()));
    }
    for sentence in &config.without_effect {
        text.push_str(&format!("{sentence}\n"));
    }
    text.push_str(&budgets(config, &watched));
    text.push_str(&labels(&config.series.labels, &watched, inventory.is_complete(), state));
    match &config.state_directory {
        Some(directory) if directory.ancestors().any(Path::is_file) => {
            let directory = directory.display();
            let why = format!("State cannot be kept in {directory}: a file is in its place. Remove it, or choose another [state] directory.");
            return Err(CommandError { text: why, code: UNUSABLE_CONFIG });
        }
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
    print(text.as_bytes()).map(|()| 0)
}

/// What each rule of `[[labels]]` matches. Certificates are those of the saved state, where there is one.
fn labels(rules: &LabelRules, watched: &[Arc<Target>], is_complete: bool, state: Option<&Path>) -> String {
    let mut text = String::new();
    let mut counts: Vec<_> = rules.rules.iter().map(|rule| (rule, HashSet::new(), 0)).collect();
    // Each file is read once, for all rules.
    for target in watched.iter().filter(|_| !rules.rules.is_empty()) {
        let saved = state.and_then(|state| peek_at_target(state, target));
        let saved_name = saved.as_ref().and_then(|saved| saved.name.clone());
        let name = target.name.clone().or(saved_name).unwrap_or_else(|| target.id.as_str().into());
        let listing = saved.and_then(|saved| saved.listing);
        for (rule, scopes, certificates) in counts.iter_mut().filter(|(rule, ..)| rule.matches(target, &name)) {
            scopes.insert(&target.id);
            let is_named = |name: &str| rule.common_name.as_ref().is_none_or(|pattern| pattern.matches(name));
            let listed = listing.iter().flat_map(|listing| listing.certificates());
            *certificates += listed.filter(|certificate| is_named(certificate.common_name())).count();
        }
    }
    for (number, (rule, scopes, certificates)) in (1..).zip(counts) {
        let given = rule.labels.iter().map(|(name, value)| format!("{name}={value:?}"));
        let given = given.collect::<Vec<_>>().join(", ");
        let found = match (scopes.len(), is_complete) {
            (0, true) => "matches nothing, so it has no effect; correct its patterns or remove it".to_owned(),
            (0, false) => "matches nothing that is known before a discovery".to_owned(),
            (count, _) if state.is_none() => format!("matches {count} zones or accounts"),
            (count, _) => {
                format!("matches {count} zones or accounts, and {certificates} certificates of the saved state")
            }
        };
        text.push_str(&format!("Rule {number} of [[labels]] ({given}): {found}.\n"));
    }
    text
}

/// A row for each zone and account of the configuration, with the interval of each kind and the requests that it needs if
/// every listing takes one.
fn configured(config: &Config) -> Table {
    let kinds = kinds_of(&config.targets);
    let is_sharded = config.shard.total > 1;
    let mut header = vec!["ZONE OR ACCOUNT".to_owned(), "ID".to_owned(), "CREDENTIAL".to_owned()];
    header.extend(is_sharded.then(|| "SHARD".to_owned()));
    header.extend(kinds.iter().map(|kind| kind.label().to_uppercase()));
    header.push("REQUESTS PER HOUR".to_owned());
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    for of_one in config.targets.chunk_by(|one, next| one.id == next.id && one.kind.scope() == next.kind.scope()) {
        let nameless = match of_one[0].kind.scope() {
            Scope::Zone => "(asked of the API)",
            Scope::Account => "(without a name)",
        };
        let Target { name, id, credential, .. } = &*of_one[0];
        let mut cells = vec![name.as_deref().unwrap_or(nameless).to_owned(), id.to_string(), credential.to_string()];
        cells.extend(is_sharded.then(|| Shard::of(id, config.shard.total).to_string()));
        cells.extend(kinds.iter().map(|&kind| {
            let target = of_one.iter().find(|target| target.kind == kind);
            target.map_or_else(|| "-".to_owned(), |target| humantime::format_duration(target.interval).to_string())
        }));
        cells.push(format!("{:.2}", per_hour(of_one.iter().map(|target| target.interval))));
        table.add_row(cells);
    }
    table
}

fn kinds_of(targets: &[Arc<Target>]) -> Vec<Kind> {
    Kind::ALL.into_iter().filter(|kind| targets.iter().any(|target| target.kind == *kind)).collect()
}

/// Requests, if each listing takes one.
fn per_hour(intervals: impl Iterator<Item = Duration>) -> f64 {
    intervals.map(|interval| 3600.0 / interval.as_secs_f64()).sum()
}

/// Which of the configured zones and accounts this process watches.
fn shard(config: &Config) -> String {
    let Shard { ordinal, total } = config.shard;
    let ids: HashSet<_> = config.targets.iter().map(|target| &target.id).collect();
    let configured = if ids.is_empty() {
        String::new()
    } else {
        let own = ids.iter().filter(|id| Shard::of(id, total) == ordinal).count();
        format!(" It watches {own} of these {}; what follows is about its share.", ids.len())
    };
    format!("This is shard {ordinal} of {total}, counted from 0.{configured}\n\n")
}

/// What is known offline of zones that are discovered.
fn discovered(config: &Config, discovery: &DiscoverySettings, inventory: &Inventory) -> String {
    let credentials = discovery.credentials.join(", ");
    let interval = humantime::format_duration(discovery.interval);
    let of = |scope| {
        let kinds = config.poll_defaults.kinds.iter().filter(move |kind| kind.scope() == scope);
        per_hour(kinds.map(|&kind| config.poll_defaults.interval(kind)))
    };
    let (zone, account) = (of(Scope::Zone), of(Scope::Account));
    let found = if inventory.is_complete() {
        let verdicts = inventory.verdicts();
        let watched = verdicts.iter().filter(|verdict| matches!(verdict.watched, Watched::Yes)).count();
        format!(
            "The saved state has {} of them, of which {watched} are watched; the command zones shows them.",
            verdicts.len()
        )
    } else {
        "Their number is not known offline, and what follows is without them; the command zones shows them.".to_owned()
    };
    let mut text = format!(
        "Zones are discovered every {interval} with {credentials}. {found}\n  The discovery needs one request for every 50 zones.\n"
    );
    if account > 0.0 {
        text.push_str(&format!("  Each account of a zone needs at least {account:.2} requests per hour.\n"));
    }
    if zone > 0.0 {
        let most = BudgetFit::for_polls_per_hour(config.api.requests_per_5m) / zone;
        text.push_str(&format!(
            "  Each zone needs at least {zone:.2} requests per hour, so the budget of a credential carries at most {:.0} zones.\n",
            most.floor()
        ));
    }
    text.push('\n');
    text
}

/// What each kind costs of the budgets of all credentials, if every listing takes one request, and about how many
/// series a listing of it has.
fn kinds(config: &Config, watched: &[Arc<Target>]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["KIND", "LISTINGS", "REQUESTS PER HOUR", "OF THE BUDGET", "SERIES AT LEAST"]);
    #[expect(clippy::cast_precision_loss, reason = "there are far fewer credentials than 2^53")]
    let budget = f64::from(config.api.requests_per_5m) * 12.0 * config.credentials.len().max(1) as f64;
    for kind in kinds_of(watched) {
        let targets = || watched.iter().filter(|target| target.kind == kind);
        let per_hour = per_hour(targets().map(|target| target.interval));
        let series = targets().count() * series_of_a_listing(kind, config.series.expiring_within_days.len());
        table.add_row([
            kind.label().to_owned(),
            targets().count().to_string(),
            format!("{per_hour:.2}"),
            format!("{:.1} %", 100.0 * per_hour / budget),
            series.to_string(),
        ]);
    }
    table
}

/// Whether the budget of each credential carries what is known to be watched.
fn budgets(config: &Config, watched: &[Arc<Target>]) -> String {
    let mut text = String::new();
    let total = config.shard.total;
    let part = if total > 1 {
        format!(": api.requests_per_5m = {} is divided among {total} shards", config.requests_per_5m)
    } else {
        String::new()
    };
    for fit in BudgetFit::new(config.api.requests_per_5m, watched.iter().map(|target| &**target)).report() {
        text.push_str(&format!(
            "Credential {}: needs at least {:.1} requests in five minutes, one for every 50 certificates of a zone. Its budget is {}{part}.\n",
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
    if text.is_empty() {
        text = format!(
            "The budget of each credential is {} requests in five minutes{part}.\n",
            config.api.requests_per_5m
        );
    }
    text
}

/// The series of an empty listing.
fn series_of_a_listing(kind: Kind, within_days: usize) -> usize {
    const OTHERS: usize = 9;
    kind.statuses().len() + within_days + Rejection::ALL.len() + Reason::ALL.len() + OTHERS
}
