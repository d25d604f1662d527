//! A Prometheus exporter for the mTLS client certificates that Cloudflare issues.
//!
//! One loop turns Cloudflare's answers into an immutable [`model::Snapshot`]; everything else is a
//! function of the latest snapshot and the time. From the top down, and no module uses one above it:
//!
//! - [`cli`]: the commands.
//! - this file: the one place that joins the parts.
//! - [`config`]: the configuration file; [`server`]: HTTP; [`demo`]: a simulated Cloudflare API.
//! - [`poller`]: which zone is due; [`exposition`]: the text that Prometheus reads.
//! - [`cloudflare`]: the client of the API.
//! - [`model`]: pure data.

pub mod cli;
pub mod cloudflare;
pub mod config;
pub mod demo;
pub mod exposition;
pub mod model;
pub mod poller;
pub mod server;

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use prometheus::Registry;
use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
    time::{Instant, timeout},
};

use cloudflare::{Client, ClientError, Revival};
use config::Config;
use model::{Failure, Reason, Snapshot, ZoneState};
use poller::{Fetched, Job, Name, Poller};
use server::BindError;

/// How long a scrape in flight may take to finish once the program has to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// How long a finished listing waits for its zone's name, so that its series need not change their label.
const NAME_PATIENCE: Duration = Duration::from_secs(5);

/// Why the daemon ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
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

/// Listens, polls and serves until `stop` turns true, then finishes the scrapes in flight.
///
/// `notice` is for the top of the page.
///
/// # Errors
/// If it cannot start, or a part of it ends by itself.
pub async fn run(
    config: Config,
    now: fn() -> DateTime<Utc>,
    notice: Option<&'static str>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), RunError> {
    let registry = Registry::new();
    let (revive, revived) = mpsc::unbounded_channel();
    let clients = clients(&config, &registry, now, &revive)?;
    let listeners = server::bind(&config.listen_addresses, &config.telemetry_path).await?;
    let zones = config.zones.iter().map(|zone| Arc::new(ZoneState::new(zone.clone()))).collect();
    let (snapshots, latest) = watch::channel(Arc::new(Snapshot { zones }));
    let pulse = watch::Sender::new(Instant::now());
    let sources =
        server::Sources { snapshots: latest, pulse: pulse.subscribe(), registry, series: config.series, now, notice };
    let telemetry_path = config.telemetry_path;
    let stopped = stop.clone();
    let mut server = tokio::spawn(async move { server::serve(listeners, &telemetry_path, sources, stopped).await });

    // Dropped at the end, which cancels what is in it.
    let mut polling = JoinSet::new();
    for client in clients.values().filter(|client| client.credential().is_in_a_file()) {
        let client = client.clone();
        polling.spawn(async move { client.watch_credential().await });
    }
    let poller = Poller { snapshots, revived, pulse, requests_per_5m: config.api.requests_per_5m };
    polling.spawn(poller.run(move |job| fetch(clients[&job.zone.credential].clone(), job, now)));

    tokio::select! {
        ended = &mut server => return ended?.map_err(RunError::Server),
        Some(ended) = polling.join_next() => return Ok(ended?),
        // An error means that whoever could say stop is gone.
        _ = stop.wait_for(|&stop| stop) => {}
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

/// A client for each credential, by its name. `revive` is told which credentials work again.
///
/// # Errors
/// If the machine cannot make TLS connections.
pub fn clients(
    config: &Config,
    registry: &Registry,
    now: fn() -> DateTime<Utc>,
    revive: &mpsc::UnboundedSender<(Arc<str>, Revival)>,
) -> Result<HashMap<Arc<str>, Arc<Client>>, ClientError> {
    config
        .credentials
        .iter()
        .map(|credential| {
            let client = Client::new(&config.api, credential.clone(), registry, now, revive.clone())?;
            Ok((credential.name().clone(), Arc::new(client)))
        })
        .collect()
}

/// One poll: the listing and, where it is wanted, the zone's name.
///
/// # Errors
/// If the zone cannot be listed. A name that cannot be had fails nothing, and is not waited for long.
pub async fn fetch(client: Arc<Client>, job: Job, now: fn() -> DateTime<Utc>) -> Result<Fetched, Failure> {
    let turn = client.turn();
    let listing = client.list(&job.zone, turn, job.lane).await?;
    let completed = now().timestamp();
    let name = if job.wants_name {
        let named = timeout(NAME_PATIENCE, client.zone_name(&job.zone.id, turn, job.lane)).await;
        named.map_or(Name::Unknown, |named| match named {
            Ok(name) => Name::Known(name),
            Err(failure) => {
                tracing::debug!(zone_id = %job.zone.id, error = %failure, "The name of the zone is not known; its id stands in.");
                let told = matches!(failure.reason, Reason::Unauthorized | Reason::Forbidden | Reason::NotFound);
                if told && failure.dead_token.is_none() { Name::Refused } else { Name::Unknown }
            }
        })
    } else {
        Name::Unknown
    };
    Ok(Fetched { listing, completed, name })
}
