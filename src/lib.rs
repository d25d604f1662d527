//! A Prometheus exporter for the mTLS client certificates that Cloudflare issues.
//!
//! One loop turns Cloudflare's answers into an immutable [`model::Snapshot`]; everything else is a
//! function of the latest snapshot and the time. From the top down, and no module uses one above it:
//!
//! - [`cli`]: the commands.
//! - this file: the one place that joins the parts.
//! - [`systemd`]: what systemd is told and hands over.
//! - [`config`]: the configuration file; [`server`]: HTTP; [`demo`]: a simulated Cloudflare API.
//! - [`poller`]: which zone is due; [`exposition`]: the text that Prometheus reads.
//! - [`cloudflare`]: the client of the API.
//! - [`state`]: files that survive a restart.
//! - [`model`]: pure data.

pub mod cli;
pub mod cloudflare;
pub mod config;
pub mod demo;
pub mod exposition;
pub mod model;
pub mod poller;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod properties;
pub mod server;
pub mod state;
pub mod systemd;

use std::{
    collections::HashMap, future::pending, io, net::TcpListener, num::NonZero, panic::resume_unwind, sync::Arc, thread,
    time::Duration,
};

use chrono::{DateTime, Utc};
use prometheus::{IntCounter, IntGauge, Registry};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, JoinError, JoinSet},
    time::{Instant, timeout},
};

use cloudflare::{Client, ClientError, Credential, Lane, Revival};
use config::{Config, ConfigErrors};
use exposition::SeriesSettings;
use model::{Failure, Listing, Reason, Snapshot, Zone, ZoneState};
use poller::{Change, Fetched, Job, Name, Poller};
use server::{BindError, WebConfigErrors};
use state::{Directory, InUse, SavedZone};

/// How long a scrape in flight may take to finish once the program has to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// How long a finished listing waits for its zone's name, so that its series need not change their label.
const NAME_PATIENCE: Duration = Duration::from_secs(5);

/// Why the daemon ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Two processes would write over each other's state.
    #[error(transparent)]
    State(#[from] InUse),
    /// It cannot be served as somebody wants it to be.
    #[error("the web configuration cannot be used:\n{0}")]
    WebConfig(#[from] WebConfigErrors),
    /// Before anything was sent.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Nothing could be served.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A listener broke.
    #[error("the HTTP server ended: {0}")]
    Server(#[source] io::Error),
    /// A fault of this program.
    #[error("a part of the program ended that never should; please report this: {0}")]
    Task(#[from] JoinError),
}

/// What makes the daemon do something else than before.
pub struct Controls {
    /// Turns true when it has to end.
    pub stop: watch::Receiver<bool>,
    /// Something comes when the configuration has to be read again, as with a signal.
    pub reload: mpsc::UnboundedReceiver<()>,
    /// Reads the configuration.
    pub load: Arc<Load>,
    /// Listens on these, if there are any, and not where the configuration says.
    pub sockets: Vec<TcpListener>,
}

/// Reads the configuration.
type Load = dyn Fn() -> Result<Config, ConfigErrors> + Send + Sync;

/// Listens, polls and serves until it is told to stop, then finishes the scrapes in flight.
///
/// `notice` is for the top of the page.
///
/// # Errors
/// If it cannot start, or a part of it ends by itself.
pub async fn run(
    config: Config,
    now: fn() -> DateTime<Utc>,
    notice: Option<&'static str>,
    controls: Controls,
) -> Result<(), RunError> {
    let Controls { mut stop, mut reload, load, sockets } = controls;
    let registry = Registry::new();
    let write_failures = IntCounter::new(
        "cloudflare_cert_exporter_state_write_failures_total",
        "Writes to the state directory that failed; what they held would not survive a restart.",
    )
    .and_then(|counter| registry.register(Box::new(counter.clone())).map(|()| counter))
    .map_err(ClientError::from)?;
    let reloads = ReloadMetrics::register(&registry).map_err(ClientError::from)?;
    let directory = config.state_directory.as_deref().map(|path| Directory::open(path, write_failures)).transpose()?;
    let (revive, revived) = mpsc::unbounded_channel();
    let clients = clients(&config, &registry, now, &revive, directory.as_ref())?;
    let web = config.web_config_file.as_deref().map(server::Web::open).transpose()?;
    let probe = match &config.probe_listen_address {
        Some(address) => Some(server::bind_probe(address).await?),
        None => None,
    };
    let listeners = if sockets.is_empty() {
        server::bind(&config.listen_addresses, &config.telemetry_path).await?
    } else {
        server::adopt(sockets, &config.telemetry_path).map_err(RunError::Server)?
    };
    let access = server::Access { web, probe };
    let (zones, due_in) = match &directory {
        Some(directory) => restore(directory, &config, now()),
        None => (config.zones.iter().map(|zone| Arc::new(ZoneState::new(zone.clone()))).collect(), Vec::new()),
    };
    let (snapshots, latest) = watch::channel(Arc::new(Snapshot { zones }));
    let pulse = watch::Sender::new(Instant::now());
    let beat = watch::Sender::new(None);
    let series = watch::Sender::new(config.series.clone());
    let (ask_reload, mut asked) = mpsc::unbounded_channel();
    let sources = server::Sources {
        snapshots: latest,
        pulse: pulse.subscribe(),
        registry: registry.clone(),
        series: series.subscribe(),
        now,
        notice,
        reload: config.enable_lifecycle.then_some(ask_reload.clone()),
        beat: beat.clone(),
    };
    let telemetry_path = config.telemetry_path.clone();
    let stopped = stop.clone();
    let mut server =
        tokio::spawn(async move { server::serve(listeners, &telemetry_path, sources, access, stopped).await });

    // Dropped at the end, which cancels what is in it.
    let mut polling = JoinSet::new();
    let (changes, changed) = mpsc::unbounded_channel();
    let (turned, mut served) = (pulse.subscribe(), beat.subscribe());
    let poller =
        Poller { snapshots, due_in, revived, changes: changed, pulse, requests_per_5m: config.api.requests_per_5m };
    let mut live = Live {
        config,
        clients: watch::Sender::new(Arc::new(clients)),
        watching: Vec::new(),
        registry,
        revive,
        directory,
        series,
        changes,
        now,
    };
    live.watch(&mut polling);
    let (used, saved_in) = (live.clients.subscribe(), live.directory.clone());
    let poll = move |job: Job| {
        let (client, directory) = (used.borrow()[&job.zone.credential].clone(), saved_in.clone());
        async move {
            let fetched = fetch(client, &job.zone, job.lane, job.wants_name, now).await?;
            // Before it is shown: what was shown once is there after a restart too.
            if let Some(directory) = directory {
                let name = match &fetched.name {
                    Name::Known(name) => name.clone().into(),
                    Name::Unknown | Name::Refused => job.name,
                };
                save(&directory, &job.zone, name, fetched.listing.clone(), fetched.completed, job.next_due, now).await;
            }
            Ok(fetched)
        }
    };
    let saved_in = live.directory.clone();
    let corrected = move |state: &ZoneState, next_due| {
        if let (Some(directory), Some((listing, completed))) = (saved_in.clone(), state.listing.clone()) {
            let (zone, name) = (state.zone.clone(), state.name.clone());
            tokio::spawn(async move { save(&directory, &zone, name, listing, completed, next_due, now).await });
        }
    };
    polling.spawn(poller.run(poll, move || now().timestamp(), corrected));
    reloads.succeeded(now());
    let is_well = {
        let served = served.clone();
        move || server::polls(&turned) && server::serves(&served)
    };
    polling.spawn(systemd::feed_watchdog(is_well));
    polling.spawn(async move {
        // An error means that the server has ended, which is seen to elsewhere.
        if served.wait_for(Option::is_some).await.is_ok() {
            systemd::ready();
        }
        pending::<()>().await;
    });

    loop {
        let reply = tokio::select! {
            ended = &mut server => return ended?.map_err(RunError::Server),
            Some(ended) = polling.join_next() => match ended {
                // What watched a credential of before.
                Err(error) if error.is_cancelled() => continue,
                ended => return Ok(ended?),
            },
            Some(()) = reload.recv() => None,
            Some(reply) = asked.recv() => Some(reply),
            // An error means that whoever could say stop is gone.
            _ = stop.wait_for(|&stop| stop) => break,
        };
        systemd::reloading();
        let outcome = live.reload(&load, &mut polling).await;
        reloads.ended(&outcome, now());
        systemd::ready();
        if let Some(reply) = reply {
            // Whoever asked may have gone.
            let _ = reply.send(outcome);
        }
    }
    polling.abort_all();
    match timeout(DRAIN, server).await {
        Ok(ended) => ended?.map_err(RunError::Server),
        Err(_) => {
            tracing::warn!("Some scrapes did not finish in time and are cut off.");
            Ok(())
        }
    }
}

/// What a reload changes.
struct Live {
    config: Config,
    clients: watch::Sender<Arc<HashMap<Arc<str>, Arc<Client>>>>,
    watching: Vec<AbortHandle>,
    registry: Registry,
    revive: mpsc::UnboundedSender<(Arc<str>, Revival)>,
    directory: Option<Directory>,
    series: watch::Sender<SeriesSettings>,
    changes: mpsc::UnboundedSender<Change>,
    now: fn() -> DateTime<Utc>,
}

impl Live {
    /// Reads the configuration and goes over to it; on an error everything stays as it is.
    async fn reload(&mut self, load: &Arc<Load>, polling: &mut JoinSet<()>) -> Result<(), String> {
        let load = Arc::clone(load);
        // Files can be on a disk that hangs.
        let loaded = tokio::task::spawn_blocking(move || load()).await;
        let config = loaded.map_err(|bug| bug.to_string())?.map_err(|mistakes| mistakes.to_string())?;
        let before = self.clients.borrow().clone();
        let (mut clients, mut successions) = (HashMap::new(), Vec::new());
        for credential in &config.credentials {
            let slot = self.directory.as_ref().map(|directory| directory.credential(credential.name()));
            // Under another name, it is the same user of Cloudflare's, whose budget there is once.
            let is_renamed = |client: &&Arc<Client>| {
                client.credential().headers() == credential.headers()
                    && !config.credentials.iter().any(|other| other.name() == client.credential().name())
            };
            let old = before.get(credential.name()).or_else(|| before.values().find(is_renamed));
            let client = match old {
                Some(old) => old.succeeded_by(&config.api, credential.clone(), &self.registry, slot),
                None => {
                    Client::new(&config.api, credential.clone(), &self.registry, self.now, self.revive.clone(), slot)
                }
            };
            let client = Arc::new(client.map_err(|error| error.to_string())?);
            successions.extend(old.map(|old| (Arc::clone(&client), Arc::clone(old))));
            clients.insert(credential.name().clone(), client);
        }
        // From here on nothing fails.
        self.watching.drain(..).for_each(|watching| watching.abort());
        self.series.send_if_modified(|series| {
            let changed = *series != config.series;
            series.clone_from(&config.series);
            changed
        });
        let renewed = successions.iter().filter(|(client, before)| client.asks_otherwise_than(before));
        let renewed = renewed.map(|(client, _)| client.credential().name().clone()).collect();
        let in_use = self.clients.clone();
        let exchange = Box::new(move || {
            in_use.send_replace(Arc::new(clients));
            successions.iter().for_each(|(client, before)| client.take_over(before));
        });
        let (applied, is_applied) = oneshot::channel();
        let (zones, requests_per_5m) = (config.zones.clone(), config.api.requests_per_5m);
        let change = Change { zones, requests_per_5m, renewed, exchange, applied };
        if self.changes.send(change).is_ok() {
            // An error means that the loop is gone, and with it this daemon, at once.
            let _ = is_applied.await;
        }
        if let Some(directory) = &self.directory {
            let zones = self.config.zones.iter().filter(|old| !config.zones.iter().any(|new| new.id == old.id));
            let gone = |old: &&Arc<Credential>| !config.credentials.iter().any(|new| new.name() == old.name());
            let credentials = self.config.credentials.iter().filter(gone);
            zones.for_each(|zone| directory.zone(zone).forget());
            credentials.for_each(|credential| directory.credential(credential.name()).forget());
        }
        warn_of_restart(&self.config, &config);
        self.config = config;
        self.watch(polling);
        Ok(())
    }

    /// Watches the secrets that are in use now: their files, and when they expire.
    fn watch(&mut self, polling: &mut JoinSet<()>) {
        for client in self.clients.borrow().values() {
            let credential = client.credential();
            if credential.is_in_a_file() {
                let client = client.clone();
                self.watching.push(polling.spawn(async move { client.watch_credential().await }));
            }
            let zone = self.config.zones.iter().find(|zone| zone.credential == *credential.name());
            if let Some(zone) = zone.filter(|_| credential.is_token()) {
                let (client, zone) = (client.clone(), zone.id.clone());
                self.watching.push(polling.spawn(async move { client.watch_token(&zone).await }));
            }
        }
    }
}

/// Says which changes are not taken over by a reload.
fn warn_of_restart(before: &Config, after: &Config) {
    for (key, same) in [
        ("server.listen_addresses", before.listen_addresses == after.listen_addresses),
        ("server.telemetry_path", before.telemetry_path == after.telemetry_path),
        ("server.enable_lifecycle", before.enable_lifecycle == after.enable_lifecycle),
        ("server.web_config_file", before.web_config_file == after.web_config_file),
        ("server.probe_listen_address", before.probe_listen_address == after.probe_listen_address),
        ("state.directory", before.state_directory == after.state_directory),
    ] {
        if !same {
            tracing::warn!(
                key,
                "This setting changed, which takes a restart: what was read at the start stays in use."
            );
        }
    }
}

/// Tells of reloads.
struct ReloadMetrics {
    successful: IntGauge,
    succeeded_at: IntGauge,
}

impl ReloadMetrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name, help| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone())).map(|()| gauge)
        };
        Ok(Self {
            successful: gauge(
                "cloudflare_cert_exporter_config_last_reload_successful",
                "1 if the configuration that was read last is in use. If not, the one before it stays.",
            )?,
            succeeded_at: gauge(
                "cloudflare_cert_exporter_config_last_reload_success_timestamp_seconds",
                "When the configuration in use was read, as Unix time.",
            )?,
        })
    }

    fn succeeded(&self, now: DateTime<Utc>) {
        self.successful.set(1);
        self.succeeded_at.set(now.timestamp());
    }

    fn ended(&self, outcome: &Result<(), String>, now: DateTime<Utc>) {
        match outcome {
            Ok(()) => {
                self.succeeded(now);
                tracing::info!("The configuration was read again and is in use.");
            }
            Err(error) => {
                self.successful.set(0);
                tracing::error!(%error, "The configuration cannot be used, so the one before it stays in use.");
            }
        }
    }
}

/// A client for each credential, by its name. `revive` is told which credentials work again; in
/// `directory` is what is known of their budgets.
///
/// # Errors
/// If the machine cannot make TLS connections.
pub fn clients(
    config: &Config,
    registry: &Registry,
    now: fn() -> DateTime<Utc>,
    revive: &mpsc::UnboundedSender<(Arc<str>, Revival)>,
    directory: Option<&Directory>,
) -> Result<HashMap<Arc<str>, Arc<Client>>, ClientError> {
    config
        .credentials
        .iter()
        .map(|credential| {
            let slot = directory.map(|directory| directory.credential(credential.name()));
            let client = Client::new(&config.api, credential.clone(), registry, now, revive.clone(), slot)?;
            Ok((credential.name().clone(), Arc::new(client)))
        })
        .collect()
}

/// One poll: the listing and, where it is wanted, the zone's name.
///
/// # Errors
/// If the zone cannot be listed. A name that cannot be had fails nothing, and is not waited for long.
pub async fn fetch(
    client: Arc<Client>,
    zone: &Zone,
    lane: Lane,
    wants_name: bool,
    now: fn() -> DateTime<Utc>,
) -> Result<Fetched, Failure> {
    let turn = client.turn();
    let listing = client.list(zone, turn, lane).await?;
    let completed = now().timestamp();
    let name = if wants_name {
        let named = timeout(NAME_PATIENCE, client.zone_name(&zone.id, turn, lane)).await;
        named.map_or(Name::Unknown, |named| match named {
            Ok(name) => Name::Known(name),
            Err(failure) => {
                tracing::debug!(zone_id = %zone.id, error = %failure, "The name of the zone is not known; its id stands in.");
                let told = matches!(failure.reason, Reason::Unauthorized | Reason::Forbidden | Reason::NotFound);
                if told && failure.dead_token.is_none() { Name::Refused } else { Name::Unknown }
            }
        })
    } else {
        Name::Unknown
    };
    Ok(Fetched { listing: Arc::new(listing), completed, name })
}

/// Every zone as the process before left it, with in how many milliseconds it is due; what is no longer
/// configured is removed.
fn restore(directory: &Directory, config: &Config, now: DateTime<Utc>) -> (Vec<Arc<ZoneState>>, Vec<Option<i64>>) {
    let zones = config.zones.iter().map(|zone| directory.zone(zone));
    let credentials = config.credentials.iter().map(|credential| directory.credential(credential.name()));
    directory.keep_only(zones.chain(credentials));
    let runtime = tokio::runtime::Handle::current();
    let restored = |zone: &Arc<Zone>| {
        let slot = directory.zone(zone);
        let Some(mut saved) = slot.load(|saved: &SavedZone| saved.id == zone.id) else {
            return (Arc::new(ZoneState::new(zone.clone())), None);
        };
        if saved.completed > now.timestamp() {
            tracing::warn!(zone_id = %zone.id, "The saved listing comes from the future, so the clock was wrong then or is now; it counts as completed at this start.");
            saved.completed = now.timestamp();
            let saved = saved.clone();
            // So that the next start does not take it for new once more.
            runtime.spawn(async move { slot.save(saved, true).await });
        }
        let due_in = saved.due_ms.saturating_sub(now.timestamp_millis());
        (Arc::new(ZoneState::restored(zone.clone(), saved.listing, saved.completed, saved.name)), Some(due_in))
    };
    // Nothing is shown before all are read, so every processor helps. A share each is not quite fair and good enough.
    let share = config.zones.len().div_ceil(thread::available_parallelism().map_or(1, NonZero::get)).max(1);
    let (zones, due_in): (Vec<_>, Vec<_>) = thread::scope(|scope| {
        let read = |zones: &[Arc<Zone>]| zones.iter().map(&restored).collect::<Vec<_>>();
        let readers: Vec<_> = config.zones.chunks(share).map(|zones| scope.spawn(move || read(zones))).collect();
        readers.into_iter().flat_map(|reader| reader.join().unwrap_or_else(|panic| resume_unwind(panic))).unzip()
    });
    let restored = due_in.iter().flatten().count();
    if restored > 0 {
        tracing::info!(restored, zones = zones.len(), "The last good listings were restored.");
    }
    (zones, due_in)
}

/// Puts a good listing on disk.
async fn save(
    directory: &Directory,
    zone: &Zone,
    name: Arc<str>,
    listing: Arc<Listing>,
    completed: i64,
    next_due: Instant,
    now: fn() -> DateTime<Utc>,
) {
    let due_in = next_due.saturating_duration_since(Instant::now()).as_millis();
    let saved = SavedZone {
        id: zone.id.clone(),
        name: Some(name).filter(|name| zone.name.is_none() && **name != *zone.id.as_str()),
        listing,
        completed,
        due_ms: now().timestamp_millis().saturating_add(i64::try_from(due_in).unwrap_or(i64::MAX)),
    };
    directory.zone(zone).save(saved, true).await;
}
