//! The daemon: builds its parts, serves, and supervises them until it has to stop.
//!
//! This is the one place that joins the parts. What a part does stands in its own module.

use std::{convert::Infallible, error::Error, io, net::TcpListener, path::Path, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use exporter_toolkit::Web;
use prometheus::{IntCounter, Registry};
use tokio::{
    sync::{
        mpsc::{self, UnboundedReceiver},
        watch,
    },
    task::{JoinError, JoinHandle, JoinSet, spawn_blocking},
    time::{Instant, interval, timeout},
};

use crate::{
    cloudflare::{Client, ClientMaker, Clients, Listed, Priority},
    config::{Config, Listening},
    model::{Baseline, Failure, Snapshot, Target, TargetState, usable_time},
    poller::{Fetched, Job, Poller},
    reload::{Change, LoadConfig, ReloadMetrics, Reloader},
    restart::{Restored, restore, save},
    runtime_file::RuntimeFile,
    server::{self, Heartbeats, ReloadReply},
    state::Directory,
    systemd,
};

/// How long a scrape in flight may take to finish once the program has to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// How often it is made sure that the clock can be used. hyper and rustls panic where it cannot.
const CLOCK_EVERY: Duration = Duration::from_secs(1);

/// How long a finished listing waits for its zone's name, so that its series need not change their label.
const NAME_PATIENCE: Duration = Duration::from_secs(5);

/// Why the daemon ended on its own. A person reads it; only [`exporter_toolkit::WebConfigErrors`] has an exit code of its own.
pub type RunError = Box<dyn Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
#[error("a part of the program ended that never should; please report this: {0}")]
struct Bug(JoinError);

/// What joins the daemon to the process that it runs in.
pub struct Controls {
    /// Turns true when it has to end.
    pub stop: watch::Receiver<bool>,
    /// Something comes when the configuration has to be read again, as with a signal.
    pub reload: UnboundedReceiver<()>,
    /// Reads the configuration.
    pub load: Arc<LoadConfig>,
    /// Listens on these, if there are any, and not where the configuration says.
    pub sockets: Vec<TcpListener>,
    /// Counts log lines that could not be written, for the metrics.
    pub log_lines_dropped: IntCounter,
}

/// Runs the daemon: builds its parts, serves, and supervises them until it has to stop.
///
/// `notice` is for the top of the page.
///
/// # Errors
/// If it cannot start, or a part of it ends on its own.
pub async fn run(
    config: Config,
    now: fn() -> DateTime<Utc>,
    notice: Option<&'static str>,
    controls: Controls,
) -> Result<(), RunError> {
    let Controls { mut stop, reload, load, sockets, log_lines_dropped } = controls;
    let Some(mut parts) = build(config, log_lines_dropped, now, &mut stop).await? else { return Ok(()) };
    let bound = bind(&parts.config, parts.web.take(), sockets).await?;
    let running = serve(parts, bound, load, notice, stop.clone());
    supervise(running, reload, now, stop).await
}

/// What has to be there before anything is served or polled.
struct DaemonParts {
    config: Config,
    reload_metrics: ReloadMetrics,
    maker: ClientMaker,
    clients: Clients,
    /// Credentials that Cloudflare accepts again.
    recovered: UnboundedReceiver<Arc<str>>,
    web: Option<Web>,
    restored: Restored,
}

/// Opens everything and restores the state. `None` if the daemon has to stop before that is done.
async fn build(
    config: Config,
    log_lines_dropped: IntCounter,
    now: fn() -> DateTime<Utc>,
    stop: &mut watch::Receiver<bool>,
) -> Result<Option<DaemonParts>, RunError> {
    config.log_without_effect();
    let registry = Registry::new();
    let write_failures = register_counters(&registry, log_lines_dropped)?;
    let reload_metrics = ReloadMetrics::register(&registry, now())?;
    let (recover, recovered) = mpsc::unbounded_channel();

    let open = move || -> Result<_, RunError> {
        let directory = config.state_directory.as_deref();
        let directory = directory.map(|path| Directory::open(path, write_failures)).transpose()?;
        let maker = ClientMaker { registry, now, recovered: recover, directory };
        let clients = maker.make(&config.api, &config.credentials)?;
        let web = config.web_config_file.as_deref().map(Web::open).transpose()?;
        let restored = match &maker.directory {
            Some(directory) => restore(directory, &config, now()),
            None => Restored::nothing(&config),
        };
        Ok(DaemonParts { config, reload_metrics, maker, clients, recovered, web, restored })
    };
    // On a thread of its own: a disk that hangs holds up no signal.
    tokio::select! {
        biased;
        // An error means that the sender is gone, and with it the process.
        _ = stop.wait_for(|&stop| stop) => Ok(None),
        opened = spawn_blocking(open) => opened.map_err(Bug)?.map(Some),
    }
}

/// Counters of no other room. Returns the one of writes to the state directory that failed.
fn register_counters(registry: &Registry, log_lines_dropped: IntCounter) -> prometheus::Result<IntCounter> {
    registry.register(Box::new(log_lines_dropped))?;
    let write_failures = IntCounter::new(
        "cloudflare_cert_exporter_state_write_failures_total",
        "Number of failed writes to the state directory. Data that was not written does not survive a restart.",
    )?;
    registry.register(Box::new(write_failures.clone()))?;
    Ok(write_failures)
}

/// Where the daemon listens.
struct Bound {
    listeners: Vec<tokio::net::TcpListener>,
    access: server::Access,
    runtime_file: Option<RuntimeFile>,
}

/// Binds the configured addresses, or takes the sockets that were handed over.
async fn bind(config: &Config, web: Option<Web>, sockets: Vec<TcpListener>) -> Result<Bound, RunError> {
    let probe = match &config.probe_listen_address {
        Some(address) => Some(server::bind_probe(address).await?),
        None => None,
    };
    let probe_address = config.probe_listen_address.as_ref().zip(probe.as_ref());
    let probe_address = probe_address.map(|(address, listener)| address.bound_by(listener));
    let listeners;
    let addresses;
    if sockets.is_empty() {
        listeners = server::bind(&config.listen_addresses, &config.telemetry_path).await?;
        let bound = config.listen_addresses.iter().zip(&listeners);
        addresses = bound.map(|(address, listener)| address.bound_by(listener)).collect();
    } else {
        listeners = server::adopt(sockets, &config.telemetry_path)
            .map_err(|error| format!("cannot listen on a socket from systemd: {error}; check the .socket unit"))?;
        let bound = listeners.iter().filter_map(|listener| listener.local_addr().ok());
        addresses = bound.filter_map(|address| address.to_string().parse().ok()).collect();
    }
    let listening = Listening { addresses, is_tls: Ok(web.as_ref().is_some_and(Web::is_tls)), probe_address };
    let runtime_file = config.runtime_directory.as_deref().and_then(|directory| announce(directory, &listening));
    Ok(Bound { listeners, access: server::Access { web, probe }, runtime_file })
}

/// The daemon while it serves and polls.
struct RunningDaemon {
    server: JoinHandle<io::Result<()>>,
    /// The poll loop and the watchdog. They end when this is dropped.
    polling: JoinSet<Infallible>,
    reloader: Reloader,
    /// Clients that want a reload.
    reload_requests: UnboundedReceiver<ReloadReply>,
    heartbeats: Heartbeats,
    /// Removes the file when it is dropped.
    _runtime_file: Option<RuntimeFile>,
}

/// Starts the server and the poll loop.
fn serve(
    parts: DaemonParts,
    Bound { listeners, access, runtime_file }: Bound,
    load: Arc<LoadConfig>,
    notice: Option<&'static str>,
    stop: watch::Receiver<bool>,
) -> RunningDaemon {
    let DaemonParts { config, reload_metrics, maker, clients, recovered, restored, .. } = parts;
    let (now, directory, registry) = (maker.now, maker.directory.clone(), maker.registry.clone());
    let discoveries = restored.inventory.states();
    let snapshot = Snapshot { targets: restored.targets, discoveries, shard: config.shard };
    let (snapshots, latest) = watch::channel(Arc::new(snapshot));
    let poll_heartbeat = watch::Sender::new(Instant::now());
    let heartbeats = Heartbeats::new(poll_heartbeat.subscribe());
    let (request_reload, reload_requests) = mpsc::unbounded_channel();
    let telemetry_path = config.telemetry_path.clone();
    let request_reload = config.enable_lifecycle.then_some(request_reload);
    let reloader = Reloader::new(load, config, restored.inventory, maker, clients, latest.clone(), reload_metrics);

    let sources = server::Sources {
        snapshots: latest,
        heartbeats: heartbeats.clone(),
        registry,
        series: reloader.series(),
        now,
        notice,
        reload: request_reload,
    };
    let server = tokio::spawn(async move { server::serve(listeners, &telemetry_path, sources, access, stop).await });

    let mut polling = JoinSet::new();
    let watched = heartbeats.clone();
    let plans = reloader.plan();
    let plan = Arc::clone(&plans.borrow());
    let poller = Poller { plan, plans, snapshots, due_in: restored.due_in, recovered, heartbeat: poll_heartbeat };
    let saved_in = directory.clone();
    let poll = move |job| poll_and_save(job, saved_in.clone(), now);
    let save = move |state: &TargetState, next_due| {
        if let Some(directory) = directory.clone() {
            let state = state.clone();
            tokio::spawn(async move { save(&directory, &state, next_due, now).await });
        }
    };
    polling.spawn(poller.run(poll, move || now().timestamp(), save));
    polling.spawn(systemd::feed_watchdog(move || watched.problem().is_none()));
    RunningDaemon { server, polling, reloader, reload_requests, heartbeats, _runtime_file: runtime_file }
}

/// What changes the configuration in use.
enum ConfigChange {
    /// The configuration is read again. If a client asked for it, and not a signal, it gets the outcome.
    Reload(Option<ReloadReply>),
    /// Something changed outside.
    Outside(Change),
}

/// Follows signals, requests and changed files until the daemon has to stop or a part of it ends. Then finishes the
/// scrapes in flight.
async fn supervise(
    mut running: RunningDaemon,
    mut reload_signals: UnboundedReceiver<()>,
    now: fn() -> DateTime<Utc>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), RunError> {
    let mut is_ready = false;
    let mut look_at_clock = interval(CLOCK_EVERY);
    loop {
        let change = tokio::select! {
            // Once it has to stop, systemd hears of it, and of nothing else after that.
            biased;
            // An error means that the sender is gone, and with it the process.
            _ = stop.wait_for(|&stop| stop) => break,
            _ = look_at_clock.tick() => {
                usable_time(now())?;
                continue;
            }
            ended = &mut running.server => return server_ended(ended),
            Some(ended) = running.polling.join_next() => match ended.map_err(Bug)? {},
            changed = running.reloader.changed() => ConfigChange::Outside(changed.map_err(Bug)?),
            () = running.heartbeats.server_works(), if !is_ready => {
                systemd::ready();
                is_ready = true;
                continue;
            }
            Some(()) = reload_signals.recv(), if is_ready => ConfigChange::Reload(None),
            Some(reply) = running.reload_requests.recv(), if is_ready => ConfigChange::Reload(Some(reply)),
        };
        tokio::select! {
            biased;
            // The disk with the files may hang.
            _ = stop.wait_for(|&stop| stop) => break,
            () = handle(&mut running.reloader, change) => {}
        }
    }
    // A client that wants a reload now gets an error at once.
    drop(running.reload_requests);
    running.polling.abort_all();
    match timeout(DRAIN, running.server).await {
        Ok(ended) => server_ended(ended),
        Err(_) => {
            tracing::warn!("Some scrapes did not finish in time and are cut off.");
            Ok(())
        }
    }
}

fn server_ended(ended: Result<io::Result<()>, JoinError>) -> Result<(), RunError> {
    Ok(ended.map_err(Bug)?.map_err(|error| format!("the HTTP server ended: {error}"))?)
}

async fn handle(reloader: &mut Reloader, change: ConfigChange) {
    match change {
        ConfigChange::Outside(change) => reloader.follow(change).await,
        ConfigChange::Reload(reply) => {
            let outcome = reloader.reload(reply.is_some()).await;
            if let Some(reply) = reply {
                // The client may have gone.
                let _ = reply.send(outcome);
            }
        }
    }
}

/// One poll of the loop. A listing is saved before it is shown: what was shown once is there after a restart too.
async fn poll_and_save(
    job: Job<Client>,
    directory: Option<Directory>,
    now: fn() -> DateTime<Utc>,
) -> Result<Fetched, Failure> {
    let fetched = fetch(job.client, &job.target, job.priority, job.baseline, job.wants_name, now).await?;
    if let Some(directory) = directory {
        let mut state = TargetState::restored(job.target, Some((fetched.listing.clone(), fetched.completed)), None);
        state.name = fetched.name.clone().unwrap_or(job.name);
        save(&directory, &state, job.next_due, now).await;
    }
    Ok(fetched)
}

/// Lets `check` and `healthcheck` find this process. Without it they go by the configuration.
fn announce(directory: &Path, listening: &Listening) -> Option<RuntimeFile> {
    RuntimeFile::write(directory, listening)
        .inspect_err(|error| {
            let directory = directory.display();
            tracing::warn!(%directory, %error, "The addresses in use cannot be written to the runtime directory, so check and healthcheck go by the configuration.");
        })
        .ok()
}

/// One poll: the listing and, where it is wanted, the zone's name.
///
/// # Errors
/// If the zone cannot be listed, or lacks what was known of it. A name that cannot be had fails nothing, and is not waited for long.
pub async fn fetch(
    client: Arc<Client>,
    zone: &Target,
    priority: Priority,
    baseline: Baseline,
    wants_name: bool,
    now: fn() -> DateTime<Utc>,
) -> Result<Fetched, Failure> {
    let ticket = client.next_ticket();
    let Listed { listing, vanished } = client.list(zone, ticket, priority, baseline).await?;
    let completed = now().timestamp();
    let mut name = None;
    if wants_name && let Ok(found) = timeout(NAME_PATIENCE, client.zone_name(&zone.id, ticket, priority)).await {
        name = found;
    }
    Ok(Fetched { listing: Arc::new(listing), vanished, completed, name })
}
