//! What a restart finds again: every zone as the process before left it, and what this one leaves.
//!
//! How a file is written and read is for `state` to know, and when a zone is due for the poller.

use std::{num::NonZero, panic::resume_unwind, sync::Arc, thread};

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::{
    config::Config,
    inventory::Inventory,
    model::{Target, TargetState},
    state::{Directory, SavedDiscovery, SavedTarget},
};

/// What there is to begin with.
pub(crate) struct Restored {
    /// With the zones that were discovered.
    pub(crate) inventory: Inventory,
    /// A state for each of its targets.
    pub(crate) targets: Vec<Arc<TargetState>>,
    /// In how many milliseconds each of them is due, negative if that was before now; `None` if it was never listed.
    pub(crate) due_in: Vec<Option<i64>>,
}

impl Restored {
    /// For a daemon that keeps no state.
    pub(crate) fn nothing(config: &Config) -> Self {
        let inventory = Inventory::new(config);
        let targets = inventory.targets().into_iter().map(|target| Arc::new(TargetState::new(target)));
        Self { targets: targets.collect(), due_in: Vec::new(), inventory }
    }
}

/// Every zone as the process before left it; what is no longer watched is removed.
pub(crate) fn restore(directory: &Directory, config: &Config, now: DateTime<Utc>) -> Restored {
    let mut inventory = Inventory::new(config);
    let load =
        |credential: &str| directory.discovery(credential).load(|saved: &SavedDiscovery| saved.is_of(credential));
    inventory.restore(load, now);
    let all = inventory.targets();
    // As long as it is not known which zones there are, none is taken for gone.
    if inventory.is_complete() {
        let targets = all.iter().map(|target| directory.target(target));
        let credentials = config.credentials.iter().map(|credential| directory.credential(credential.name()));
        directory.keep_only(targets.chain(credentials).chain(inventory.slots(directory)));
    }
    let runtime = tokio::runtime::Handle::current();
    let restored = |zone: &Arc<Target>| {
        let slot = directory.target(zone);
        let Some(mut saved) = slot.load(|saved: &SavedTarget| saved.is_of(zone)) else {
            return (Arc::new(TargetState::new(zone.clone())), None);
        };
        if saved.completed > now.timestamp() {
            tracing::warn!(zone_id = %zone.id, "The saved listing comes from the future, so the clock was wrong then or is now; it counts as completed at this start.");
            saved.completed = now.timestamp();
            let saved = saved.clone();
            // So that the next start does not take it for new once more.
            runtime.spawn(async move { slot.save(saved, true).await });
        }
        let due_in = saved.due_ms.saturating_sub(now.timestamp_millis());
        let listing = saved.listing.map(|listing| (listing, saved.completed));
        let mut state = TargetState::restored(zone.clone(), listing, saved.name);
        state.available = if saved.available { None } else { Some(false) };
        (Arc::new(state), Some(due_in))
    };
    // Nothing is shown before all are read, so every processor helps. A share each is not quite fair and good enough.
    let share = all.len().div_ceil(thread::available_parallelism().map_or(1, NonZero::get)).max(1);
    let (targets, due_in): (Vec<_>, Vec<_>) = thread::scope(|scope| {
        let read = |zones: &[Arc<Target>]| zones.iter().map(&restored).collect::<Vec<_>>();
        let readers: Vec<_> = all.chunks(share).map(|zones| scope.spawn(move || read(zones))).collect();
        readers.into_iter().flat_map(|reader| reader.join().unwrap_or_else(|panic| resume_unwind(panic))).unzip()
    });
    let restored = due_in.iter().flatten().count();
    if restored > 0 {
        tracing::info!(restored, targets = targets.len(), "The last good listings were restored.");
    }
    Restored { inventory, targets, due_in }
}

/// Puts on disk what is known of a target that was polled well.
pub(crate) async fn save(directory: &Directory, state: &TargetState, next_due: Instant, now: fn() -> DateTime<Utc>) {
    let due_in = next_due.saturating_duration_since(Instant::now()).as_millis();
    let zone = &state.target;
    let saved = SavedTarget {
        kind: zone.kind,
        id: zone.id.clone(),
        name: state.found_name(),
        completed: state.listing.as_ref().map_or_else(|| now().timestamp(), |(_, completed)| *completed),
        listing: state.listing.as_ref().map(|(listing, _)| listing.clone()),
        available: state.available != Some(false),
        due_ms: now().timestamp_millis().saturating_add(i64::try_from(due_in).unwrap_or(i64::MAX)),
    };
    directory.target(zone).save(saved, true).await;
}
