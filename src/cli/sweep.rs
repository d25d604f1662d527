//! One sweep over the zones and accounts, for `list` and `check --sweep`: which of them, and what each holds.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use clap::Args;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use indicatif::{ProgressBar, ProgressStyle};

use super::{CommandError, complain};
use crate::{
    cloudflare::{ClientMaker, Clients, Priority, announce_proxy},
    config::{Config, remedy_for_kind},
    fetch,
    inventory::Inventory,
    model::{Baseline, Cause, DiscoveryState, Failure, Kind, Scope, Snapshot, Target, TargetState},
    poller::Fetched,
};

/// What of the configuration is wanted.
#[derive(Debug, Args)]
pub(super) struct SelectionFlags {
    /// Only this zone or account, by name or id; can be repeated.
    #[arg(long = "zone", value_name = "NAME_OR_ID")]
    pub(super) zones: Vec<String>,
    /// Only certificates of this kind; can be repeated.
    #[arg(long = "kind", value_name = "KIND", value_parser = parse_kind)]
    pub(super) kinds: Vec<Kind>,
}

fn parse_kind(word: &str) -> Result<Kind, String> {
    Kind::from_label(word).ok_or_else(|| remedy_for_kind(word))
}

/// Names in one message: more help no one.
const MAX_NAMES: usize = 20;

/// What a sweep came back with.
pub(super) struct Sweep {
    pub(super) kinds: Vec<Kind>,
    /// What a daemon would know after it has polled each target once.
    pub(super) snapshot: Snapshot,
    pub(super) requests: u64,
}

/// Lists everything that is selected side by side, with a progress bar on a terminal.
pub(super) async fn sweep(
    config: &Config,
    selection: &SelectionFlags,
    now: fn() -> DateTime<Utc>,
) -> Result<Sweep, CommandError> {
    announce_proxy(&config.api);
    let clients =
        ClientMaker::for_one_sweep(now).make(&config.api, &config.credentials).map_err(CommandError::failed)?;
    let requests = || clients.values().map(|client| client.requests_sent()).sum::<u64>();
    let mut inventory = Inventory::new(&with_kinds(config.clone(), &selection.kinds));
    let undiscovered = inventory.discover(&clients, None, now).await;
    let targets = selected(inventory.targets(), undiscovered.is_empty(), selection, &clients).await;
    let targets = targets.map_err(CommandError::usage)?;
    let kinds = Kind::ALL.into_iter().filter(|&kind| targets.iter().any(|target| target.kind == kind)).collect();
    let mut swept = Vec::new();
    let style = "{bar:30} {pos}/{len}, {msg} requests, {elapsed}";
    // It draws on stderr, and only if that is a terminal.
    let bar = ProgressBar::new(targets.len() as u64)
        .with_style(ProgressStyle::with_template(style).expect("the template is a constant that a test renders"));
    let polls = targets.into_iter().map(|target| {
        let client = Arc::clone(&clients[&target.credential]);
        async move {
            let wants_name = target.name.is_none() && target.kind.scope() == Scope::Zone;
            let fetched = fetch(client, &target, Priority::Healthy, Baseline::default(), wants_name, now).await;
            (target, fetched)
        }
    });
    let mut running: FuturesUnordered<_> = polls.collect();
    let mut redraw = tokio::time::interval(Duration::from_millis(100));
    loop {
        let polled = tokio::select! {
            _ = redraw.tick() => {
                bar.set_message(requests().to_string());
                continue;
            }
            polled = running.next() => polled,
        };
        let Some((target, fetched)) = polled else { break };
        if fetched.as_ref().is_err_and(is_not_on_plan) {
            let (name, kind) = (name_or_id(&target), target.kind.label());
            bar.suspend(|| complain(&format!("{name}: {kind}: not on the plan.")));
        }
        swept.push(Arc::new(state_after(target, fetched, now().timestamp())));
        bar.inc(1);
    }
    bar.finish_and_clear();
    let states = inventory.states();
    let discoveries = states.iter().cloned().map(|state| {
        let failure = undiscovered.iter().find(|(credential, _)| *credential == state.credential);
        DiscoveryState { failure: failure.map(|(_, failure)| failure.clone()), ..state }
    });
    let snapshot = Snapshot { targets: swept, discoveries: discoveries.collect(), shard: config.shard };
    Ok(Sweep { kinds, snapshot, requests: requests() })
}

/// Lists these kinds in every zone or account, where the configuration lists them nowhere: asked for once, they need not
/// be watched.
fn with_kinds(mut config: Config, kinds: &[Kind]) -> Config {
    for &kind in kinds {
        if config.poll_defaults.kinds.contains(&kind) || config.targets.iter().any(|target| target.kind == kind) {
            continue;
        }
        config.poll_defaults.kinds.push(kind);
        let mut scopes: Vec<_> = config.targets.iter().filter(|target| target.kind.scope() == kind.scope()).collect();
        scopes.dedup_by_key(|target| &target.id);
        let more: Vec<_> =
            scopes.into_iter().map(|target| Arc::new(Target { kind, ..Target::clone(target) })).collect();
        config.targets.extend(more);
    }
    config
}

fn is_not_on_plan(failure: &Failure) -> bool {
    failure.cause == Some(Cause::NotOnPlan)
}

/// What is known of a target after its poll.
fn state_after(target: Arc<Target>, fetched: Result<Fetched, Failure>, now: i64) -> TargetState {
    match fetched {
        Ok(Fetched { name, listing, completed, .. }) => TargetState::restored(target, Some((listing, completed)), name),
        Err(failure) if is_not_on_plan(&failure) => TargetState::new(target).not_available(now, Duration::ZERO),
        Err(failure) => TargetState::new(target).failed(failure, now, Duration::ZERO),
    }
}

/// Says of which credentials the zones are not known.
pub(super) fn complain_of_undiscovered<'a>(failures: impl IntoIterator<Item = (&'a Arc<str>, &'a Failure)>) {
    for (credential, failure) in failures {
        let reason = failure.reason.label();
        complain(&format!("The zones of credential {credential} cannot be discovered: {reason}: {failure}"));
    }
}

/// What the configuration calls a zone or account, or else its id.
fn name_or_id(target: &Target) -> &str {
    target.name.as_deref().unwrap_or(target.id.as_str())
}

/// What is selected of these targets; the API is asked for names only if the configuration does not settle it.
///
/// If not all zones could be discovered, a selected one may be among the others.
async fn selected(
    mut targets: Vec<Arc<Target>>,
    is_all: bool,
    SelectionFlags { zones: wanted, kinds }: &SelectionFlags,
    clients: &Clients,
) -> Result<Vec<Arc<Target>>, String> {
    let is_listed = |kind: &Kind| targets.iter().any(|target| target.kind == *kind);
    if let Some(kind) = kinds.iter().find(|kind| !is_listed(kind))
        && is_all
        && !targets.is_empty()
    {
        let (scope, section) = match kind.scope() {
            Scope::Zone => ("zone", "[[zones]]"),
            Scope::Account => ("account", "[[accounts]]"),
        };
        let kind = kind.label();
        return Err(format!(
            "No {scope} is known in which kind {kind} could be listed; add {section} or [discovery], and the kind to poll.kinds."
        ));
    }
    targets.retain(|target| kinds.is_empty() || kinds.contains(&target.kind));
    if wanted.is_empty() {
        return Ok(targets);
    }
    let is = |target: &Target, wanted: &str| {
        let name = target.name.as_deref();
        target.id.as_str().eq_ignore_ascii_case(wanted) || name.is_some_and(|name| name.eq_ignore_ascii_case(wanted))
    };
    if wanted.iter().any(|wanted| !targets.iter().any(|target| is(target, wanted))) {
        for zone in targets.iter_mut().filter(|target| target.name.is_none() && target.kind.scope() == Scope::Zone) {
            let client = &clients[&zone.credential];
            if let Some(name) = client.zone_name(&zone.id, client.next_ticket(), Priority::Healthy).await {
                *zone = Arc::new(Target { name: Some(name), ..Target::clone(zone) });
            }
        }
    }
    if let Some(unknown) = wanted.iter().find(|wanted| !targets.iter().any(|target| is(target, wanted)))
        && is_all
    {
        let mut known: Vec<_> = targets.iter().map(|target| name_or_id(target)).collect();
        known.dedup();
        let more = known.len().saturating_sub(MAX_NAMES);
        known.truncate(MAX_NAMES);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        return Err(format!("There is no zone {unknown:?} among those that are watched: {}{more}.", known.join(", ")));
    }
    targets.retain(|target| wanted.iter().any(|wanted| is(target, wanted)));
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
