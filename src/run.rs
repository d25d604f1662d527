//! The daemon: the one place that joins the parts.

use std::{convert::Infallible, io, net::TcpListener, path::Path, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use exporter_toolkit::{Web, WebConfigErrors};
use prometheus::{IntCounter, Registry};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinSet, spawn_blocking},
    time::{Instant, interval, timeout},
};

use crate::{
    cloudflare::{Client, ClientError, ClientMaker, Listed, Priority},
    config::{Config, Listening},
    model::{Baseline, Failure, Reason, Snapshot, UnusableClock, Zone, ZoneState, usable_time},
    poller::{Fetched, Job, Name, Poller},
    reload::{AskedBy, FileChange, Load, ReloadMetrics, Reloader},
    restart::{restore, save},
    runtime_file::RuntimeFile,
    server::{self, BindError, ReloadReply},
    state::{Directory, InUse},
    systemd,
};

/// How long a scrape in flight may take to finish once the program has to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// How often it is made sure that the clock can be used. hyper and rustls panic where it cannot.
const CLOCK_EVERY: Duration = Duration::from_secs(1);

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
    /// A socket that systemd has opened is no good.
    #[error("a socket that was handed over cannot be listened on: {0}; look at the .socket unit")]
    Adopt(#[source] io::Error),
    /// A listener broke.
    #[error("the HTTP server ended: {0}")]
    Server(#[source] io::Error),
    /// It was set to a time that nothing can be done with.
    #[error(transparent)]
    Clock(#[from] UnusableClock),
    /// A fault of this program.
    #[error("a part of the program ended that never should; please report this: {0}")]
    Task(#[from] JoinError),
}

/// What joins the daemon to the process that it runs in.
pub struct Controls {
    /// Turns true when it has to end.
    pub stop: watch::Receiver<bool>,
    /// Something comes when the configuration has to be read again, as with a signal.
    pub reload: mpsc::UnboundedReceiver<()>,
    /// Reads the configuration.
    pub load: Arc<Load>,
    /// Listens on these, if there are any, and not where the configuration says.
    pub sockets: Vec<TcpListener>,
    /// Counts log lines that could not be written, for the metrics.
    pub log_lines_dropped: IntCounter,
}

/// What changes the configuration in use.
enum Task {
    /// And who gets the outcome.
    Reload(AskedBy, Option<ReloadReply>),
    Follow(FileChange),
}

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
    let Controls { mut stop, mut reload, load, sockets, log_lines_dropped } = controls;
    let registry = Registry::new();
    registry.register(Box::new(log_lines_dropped)).map_err(ClientError::from)?;
    let write_failures = IntCounter::new(
        "cloudflare_cert_exporter_state_write_failures_total",
        "Writes to the state directory that failed; what they held would not survive a restart.",
    )
    .and_then(|counter| registry.register(Box::new(counter.clone())).map(|()| counter))
    .map_err(ClientError::from)?;
    let reloads = ReloadMetrics::register(&registry, now()).map_err(ClientError::from)?;
    let (recover, recovered) = mpsc::unbounded_channel();
    let registry_of_clients = registry.clone();
    let open = move || -> Result<_, RunError> {
        let directory = config.state_directory.as_deref();
        let directory = directory.map(|path| Directory::open(path, write_failures)).transpose()?;
        let maker =
            ClientMaker { registry: registry_of_clients, now, recovered: recover, directory: directory.clone() };
        let clients = maker.make(&config.api, &config.credentials)?;
        let web = config.web_config_file.as_deref().map(Web::open).transpose()?;
        Ok((config, directory, maker, clients, web))
    };
    let Some(opened) = unless_stopped(&mut stop, open).await? else { return Ok(()) };
    let (config, directory, maker, clients, web) = opened?;
    let probe = match &config.probe_listen_address {
        Some(address) => Some(server::bind_probe(address).await?),
        None => None,
    };
    let (listeners, addresses) = if sockets.is_empty() {
        let listeners = server::bind(&config.listen_addresses, &config.telemetry_path).await?;
        let addresses = config.listen_addresses.iter().zip(&listeners);
        let addresses = addresses.map(|(address, listener)| address.bound_by(listener)).collect();
        (listeners, addresses)
    } else {
        let listeners = server::adopt(sockets, &config.telemetry_path).map_err(RunError::Adopt)?;
        let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok()?.to_string().parse().ok());
        let addresses = addresses.collect();
        (listeners, addresses)
    };
    let listening = Listening {
        addresses,
        telemetry_path: config.telemetry_path.clone(),
        is_tls: Ok(web.as_ref().is_some_and(Web::is_tls)),
        probe_address: config
            .probe_listen_address
            .as_ref()
            .zip(probe.as_ref())
            .map(|(address, by)| address.bound_by(by)),
    };
    let access = server::Access { web, probe };
    let restored_from = directory.clone();
    let restoring = move || {
        let restored = match &restored_from {
            Some(directory) => restore(directory, &config, now()),
            None => (config.zones.iter().map(|zone| Arc::new(ZoneState::new(zone.clone()))).collect(), Vec::new()),
        };
        let runtime_file = config.runtime_directory.as_deref().and_then(|directory| announce(directory, &listening));
        (config, restored, runtime_file)
    };
    // The file is removed at the end.
    let Some((config, (zones, due_in), _runtime_file)) = unless_stopped(&mut stop, restoring).await? else {
        return Ok(());
    };
    let (snapshots, latest) = watch::channel(Arc::new(Snapshot { zones }));
    let pulse = watch::Sender::new(Instant::now());
    let beat = watch::Sender::new(None);
    let (ask_reload, mut asked) = mpsc::unbounded_channel();
    let (telemetry_path, may_ask) = (config.telemetry_path.clone(), config.enable_lifecycle);
    let mut reloader = Reloader::new(load, config, maker, clients, latest.clone(), reloads);
    let sources = server::Sources {
        snapshots: latest,
        pulse: pulse.subscribe(),
        registry,
        series: reloader.series(),
        now,
        notice,
        reload: may_ask.then_some(ask_reload.clone()),
        beat: beat.clone(),
    };
    let stopped = stop.clone();
    let mut server =
        tokio::spawn(async move { server::serve(listeners, &telemetry_path, sources, access, stopped).await });

    // Dropped at the end, which cancels what is in it.
    let mut polling = JoinSet::<Infallible>::new();
    let (turned, mut served, started) = (pulse.subscribe(), beat.subscribe(), Instant::now());
    let plans = reloader.plan();
    let plan = Arc::clone(&plans.borrow());
    let poller = Poller { plan, plans, snapshots, due_in, recovered, pulse };
    let saved_in = directory.clone();
    let poll = move |job: Job<Client>| {
        let directory = saved_in.clone();
        async move {
            let fetched = fetch(job.client, &job.zone, job.priority, job.baseline, job.wants_name, now).await?;
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
    let corrected = move |state: &ZoneState, next_due| {
        if let (Some(directory), Some((listing, completed))) = (directory.clone(), state.listing.clone()) {
            let (zone, name) = (state.zone.clone(), state.name.clone());
            tokio::spawn(async move { save(&directory, &zone, name, listing, completed, next_due, now).await });
        }
    };
    polling.spawn(poller.run(poll, move || now().timestamp(), corrected));
    let is_well = {
        let served = served.clone();
        move || server::polls(&turned) && server::serves(&served, started)
    };
    polling.spawn(systemd::feed_watchdog(is_well));

    let mut is_ready = false;
    let mut look_at_clock = interval(CLOCK_EVERY);
    loop {
        let task = tokio::select! {
            // Once it has to end, systemd is told so, and nothing else after that.
            biased;
            // An error means that whoever could say stop is gone.
            _ = stop.wait_for(|&stop| stop) => break,
            _ = look_at_clock.tick() => {
                usable_time(now())?;
                continue;
            }
            ended = &mut server => return ended?.map_err(RunError::Server),
            Some(ended) = polling.join_next() => match ended? {},
            changed = reloader.file_changed() => Task::Follow(changed?),
            Ok(_) = served.wait_for(Option::is_some), if !is_ready => {
                systemd::ready();
                is_ready = true;
                continue;
            }
            Some(()) = reload.recv(), if is_ready => Task::Reload(AskedBy::Signal, None),
            Some(reply) = asked.recv(), if is_ready => Task::Reload(AskedBy::Request, Some(reply)),
        };
        let done = async {
            match task {
                Task::Follow(change) => reloader.follow(change).await,
                Task::Reload(by, reply) => {
                    let outcome = reloader.reload(by).await;
                    if let Some(reply) = reply {
                        // The client may have gone.
                        let _ = reply.send(outcome);
                    }
                }
            }
        };
        tokio::select! {
            biased;
            // The disk with the files may hang.
            _ = stop.wait_for(|&stop| stop) => break,
            () = done => {}
        }
    }
    // Who asks for a reload now is told that there is none.
    drop(asked);
    polling.abort_all();
    match timeout(DRAIN, server).await {
        Ok(ended) => ended?.map_err(RunError::Server),
        Err(_) => {
            tracing::warn!("Some scrapes did not finish in time and are cut off.");
            Ok(())
        }
    }
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

/// Does what reads files on a thread of its own: a disk that hangs holds up no signal. `None` if the program has to end
/// before that is done.
async fn unless_stopped<T: Send + 'static>(
    stop: &mut watch::Receiver<bool>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Option<T>, JoinError> {
    tokio::select! {
        biased;
        // An error means that whoever could say stop is gone.
        _ = stop.wait_for(|&stop| stop) => Ok(None),
        done = spawn_blocking(work) => done.map(Some),
    }
}

/// One poll: the listing and, where it is wanted, the zone's name.
///
/// # Errors
/// If the zone cannot be listed, or lacks what was known of it. A name that cannot be had fails nothing, and is not waited for long.
pub async fn fetch(
    client: Arc<Client>,
    zone: &Zone,
    priority: Priority,
    baseline: Baseline,
    wants_name: bool,
    now: fn() -> DateTime<Utc>,
) -> Result<Fetched, Failure> {
    let ticket = client.next_ticket();
    let Listed { listing, vanished } = client.list(zone, ticket, priority, baseline).await?;
    let completed = now().timestamp();
    let name = if wants_name {
        let named = timeout(NAME_PATIENCE, client.zone_name(&zone.id, ticket, priority)).await;
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
    Ok(Fetched { listing: Arc::new(listing), vanished, completed, name })
}
