//! Reading the configuration again while the program runs, and going over to it.
//!
//! What listens and where state is kept stays as it was at the start; that is logged. All else is replaced here, and so is
//! what is in the files of secrets and certificate authorities, whenever they change.

use std::{collections::HashSet, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use prometheus::{IntGauge, Registry};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::{Instant, sleep, sleep_until},
};
use tracing::{dispatcher, instrument::WithSubscriber as _, subscriber::NoSubscriber};

use crate::{
    cloudflare::{Client, ClientMaker, Clients},
    config::{Config, ConfigErrors},
    exposition::SeriesSettings,
    inventory::{DueDiscovery, Inventory},
    model::{Failure, Shard, Snapshot, ZoneList},
    poller::Plan,
    systemd,
};

/// How soon a file that changed is tried again where no clients could be made with it.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Reads the configuration.
pub type LoadConfig = dyn Fn() -> Result<Config, ConfigErrors> + Send + Sync;

/// Holds the configuration in use, and replaces it.
pub(crate) struct Reloader {
    load: Arc<LoadConfig>,
    config: Config,
    inventory: Inventory,
    /// What takes a restart, as it was at the start.
    requires_restart: [(&'static str, String); 6],
    maker: ClientMaker,
    plan: watch::Sender<Arc<Plan<Client>>>,
    series: watch::Sender<SeriesSettings>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Watch the files of secrets and certificate authorities, and when tokens expire, and discover zones.
    watchers: JoinSet<Change>,
    metrics: ReloadMetrics,
    logged: ReloadLog,
}

/// Puts what a file of a secret or of authorities holds now into a configuration.
type FileChange = Box<dyn Fn(&mut Config) + Send>;

/// What changed outside, and changes what is polled or how.
pub(crate) enum Change {
    File(FileChange),
    /// Zones were discovered with the credential of this name, or could not be.
    Discovered(Arc<str>, Result<ZoneList, Failure>),
}

impl Reloader {
    /// The configuration of the start is in use, with clients that `maker` has made.
    pub(crate) fn new(
        load: Arc<LoadConfig>,
        config: Config,
        inventory: Inventory,
        maker: ClientMaker,
        clients: Clients,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        metrics: ReloadMetrics,
    ) -> Self {
        metrics.show_shard(config.shard);
        let mut reloader = Self {
            load,
            requires_restart: requires_restart(&config),
            maker,
            plan: watch::Sender::new(Arc::new(plan(&config, &inventory, clients))),
            series: watch::Sender::new(config.series.clone()),
            snapshots,
            watchers: JoinSet::new(),
            metrics,
            logged: ReloadLog::default(),
            config,
            inventory,
        };
        reloader.watch();
        reloader
    }

    /// What is polled.
    pub(crate) fn plan(&self) -> watch::Receiver<Arc<Plan<Client>>> {
        self.plan.subscribe()
    }

    /// Which series there are to be.
    pub(crate) fn series(&self) -> watch::Receiver<SeriesSettings> {
        self.series.subscribe()
    }

    /// Reads the configuration and goes over to it; on an error everything stays as it is.
    ///
    /// A request comes from anyone who may ask this server, and as often as they like; else it is a signal.
    pub(crate) async fn reload(&mut self, is_request: bool) -> Result<(), String> {
        systemd::reloading();
        let in_full = self.logged.begins(is_request);
        let load = Arc::clone(&self.load);
        let reloading = async {
            self.apply(move || load().map_err(|mistakes| mistakes.to_string())).await?;
            self.warn_of_restart();
            Ok(())
        };
        let outcome = if in_full { reloading.await } else { reloading.with_subscriber(NoSubscriber::default()).await };
        self.metrics.ended(&outcome, (self.maker.now)());
        self.logged.ended(&outcome);
        systemd::ready();
        outcome
    }

    /// Goes over to another configuration. `read` may read files, which can be on a disk that hangs.
    async fn apply(&mut self, read: impl FnOnce() -> Result<Config, String> + Send + 'static) -> Result<(), String> {
        let maker = self.maker.clone();
        let in_use = Arc::clone(&self.plan.borrow());
        let read = move || {
            let config = read()?;
            let clients = maker.make_after(&in_use.clients, &config.api, &config.credentials);
            Ok((config, clients.map_err(|error| error.to_string())?))
        };
        // What it logs goes where this does.
        let log = dispatcher::get_default(Clone::clone);
        let read = tokio::task::spawn_blocking(move || dispatcher::with_default(&log, read)).await;
        let (config, clients) = read.unwrap_or_else(|bug| Err(bug.to_string()))?;
        // From here on nothing fails.
        self.series.send_if_modified(|series| {
            let changed = *series != config.series;
            series.clone_from(&config.series);
            changed
        });
        self.metrics.show_shard(config.shard);
        self.config = config;
        // What these still find out is about secrets of before.
        self.watchers.shutdown().await;
        clients.values().for_each(|client| client.activate());
        self.inventory.reconfigure(&self.config);
        self.publish(clients).await;
        self.watch();
        Ok(())
    }

    /// Has the poll loop go over to what the inventory holds now, and removes the state of what it no longer holds.
    async fn publish(&mut self, clients: Clients) {
        let plan = Arc::new(plan(&self.config, &self.inventory, clients));
        let before = self.plan.send_replace(Arc::clone(&plan));
        // When a snapshot has these targets, no poll of others goes on. An error means that the loop is gone, and with it
        // this daemon, at once.
        let shown = |snapshot: &Arc<Snapshot>| snapshot.targets.iter().map(|state| &state.target).eq(&plan.targets);
        let _ = self.snapshots.wait_for(shown).await;
        if let Some(directory) = &self.maker.directory {
            let kept: HashSet<_> = plan.targets.iter().map(|target| target.key()).collect();
            let gone = before.targets.iter().filter(|target| !kept.contains(&target.key()));
            gone.for_each(|target| directory.target(target).forget());
        }
    }

    /// Takes what came of a discovery. It is saved before anything follows from it, so that a restart finds its zones.
    async fn discovered(&mut self, credential: &str, outcome: Result<ZoneList, Failure>) {
        let now = (self.maker.now)();
        let is_good = outcome.is_ok();
        self.inventory.discovered(credential, outcome, now.timestamp());
        if let Some(directory) = self.maker.directory.as_ref().filter(|_| is_good) {
            self.inventory.save(directory, credential, now).await;
        }
        let before = Arc::clone(&self.plan.borrow());
        self.publish(before.clients.clone()).await;
        self.watch_discoveries(Some(credential));
        if !before.targets.iter().any(|target| *target.credential == *credential) {
            self.watch_token(&before.clients[credential]);
        }
    }

    /// Waits until something changes outside.
    ///
    /// # Errors
    /// If what watches for it ended.
    pub(crate) async fn changed(&mut self) -> Result<Change, JoinError> {
        match self.watchers.join_next().await {
            Some(ended) => ended,
            None => std::future::pending().await,
        }
    }

    /// Goes over to what changed.
    pub(crate) async fn follow(&mut self, change: Change) {
        match change {
            Change::File(change) => self.apply_file(change).await,
            Change::Discovered(credential, outcome) => self.discovered(&credential, outcome).await,
        }
    }

    /// Goes over to what a file holds.
    async fn apply_file(&mut self, change: FileChange) {
        let mut config = self.config.clone();
        change(&mut config);
        if let Err(error) = self.apply(move || Ok(config)).await {
            tracing::warn!(%error, "No connections can be made with what a file holds now. It is tried again.");
            self.watchers.spawn(async move {
                sleep(TRY_AGAIN_AFTER).await;
                Change::File(change)
            });
        }
    }

    /// Watches what is in use now.
    fn watch(&mut self) {
        if let Some(file) = self.config.api.ca_file.clone() {
            self.watchers.spawn(async move {
                let file = file.changed().await;
                tracing::info!("The certificate authorities in api.ca_file changed.");
                Change::File(Box::new(move |config| config.api.ca_file = Some(Arc::clone(&file))))
            });
        }
        for credential in self.config.credentials.iter().filter(|credential| credential.is_in_a_file()) {
            let credential = Arc::clone(credential);
            self.watchers.spawn(async move {
                let new = credential.changed().await;
                Change::File(Box::new(move |config| {
                    let old = config.credentials.iter_mut().filter(|old| old.name() == new.name());
                    old.for_each(|old| *old = Arc::clone(&new));
                }))
            });
        }
        let plan = Arc::clone(&self.plan.borrow());
        plan.clients.values().for_each(|client| self.watch_token(client));
        self.watch_discoveries(None);
    }

    /// Keeps up with when a token expires, once there is something that it lists.
    fn watch_token(&mut self, client: &Arc<Client>) {
        let credential = client.credential();
        let plan = self.plan.borrow();
        let target = plan.targets.iter().find(|target| target.credential == *credential.name());
        if let Some(target) = target.filter(|_| credential.is_token()) {
            let (client, target) = (Arc::clone(client), Arc::clone(target));
            self.watchers.spawn(async move { match client.watch_token(&target).await {} });
        }
    }

    /// Makes the discoveries when they are due: those with this credential, or all.
    fn watch_discoveries(&mut self, credential: Option<&str>) {
        let due = self.inventory.due().filter(|due| credential.is_none_or(|credential| *due.credential == *credential));
        for DueDiscovery { credential, filter, due, priority } in due {
            // The configuration holds each of these credentials, and each has a client.
            let client = Arc::clone(&self.plan.borrow().clients[&credential]);
            self.watchers.spawn(async move {
                sleep_until(due).await;
                Change::Discovered(credential, client.zones(&filter, priority).await)
            });
        }
    }

    /// Says what is not as it was at the start, and stays so.
    fn warn_of_restart(&self) {
        for ((key, in_use), (_, wanted)) in self.requires_restart.iter().zip(requires_restart(&self.config)) {
            if *in_use != wanted {
                tracing::warn!(
                    key,
                    "Changing this setting requires a restart; until then, the value read at the start stays in effect."
                );
            }
        }
    }
}

/// What is polled, and with which clients.
fn plan(config: &Config, inventory: &Inventory, clients: Clients) -> Plan<Client> {
    Plan {
        targets: inventory.targets(),
        clients,
        requests_per_5m: config.api.requests_per_5m,
        discoveries: inventory.states(),
        shard: config.shard,
    }
}

/// What takes a restart, by its key.
fn requires_restart(config: &Config) -> [(&'static str, String); 6] {
    [
        ("server.listen_addresses", format!("{:?}", config.listen_addresses)),
        ("server.telemetry_path", format!("{:?}", config.telemetry_path)),
        ("server.enable_lifecycle", format!("{:?}", config.enable_lifecycle)),
        ("server.web_config_file", format!("{:?}", config.web_config_file)),
        ("server.probe_listen_address", format!("{:?}", config.probe_listen_address)),
        ("state.directory", format!("{:?}", config.state_directory)),
    ]
}

/// The metrics of reloads, and of what only a reload changes.
pub(crate) struct ReloadMetrics {
    successful: IntGauge,
    succeeded_at: IntGauge,
    shard_ordinal: IntGauge,
    total_shards: IntGauge,
}

impl ReloadMetrics {
    /// The configuration of the start counts as the first that succeeded.
    pub(crate) fn register(registry: &Registry, now: DateTime<Utc>) -> prometheus::Result<Self> {
        let gauge = |name, help, value| {
            let gauge = IntGauge::new(name, help)?;
            gauge.set(value);
            registry.register(Box::new(gauge.clone())).map(|()| gauge)
        };
        Ok(Self {
            successful: gauge(
                "cloudflare_cert_exporter_config_last_reload_successful",
                "1 if the last reload of the configuration succeeded, 0 if it failed. After a failure, the previous configuration stays in use.",
                1,
            )?,
            succeeded_at: gauge(
                "cloudflare_cert_exporter_config_last_reload_success_timestamp_seconds",
                "When the configuration in use was loaded, as Unix time in seconds.",
                now.timestamp(),
            )?,
            shard_ordinal: gauge(
                "cloudflare_cert_exporter_shard_ordinal",
                "Which shard this exporter is, counted from 0.",
                Shard::WHOLE.ordinal.into(),
            )?,
            total_shards: gauge(
                "cloudflare_cert_exporter_total_shards",
                "Number of shards that share the zones and accounts; 1 if this exporter watches all of them.",
                Shard::WHOLE.total.into(),
            )?,
        })
    }

    fn show_shard(&self, shard: Shard) {
        self.shard_ordinal.set(shard.ordinal.into());
        self.total_shards.set(shard.total.into());
    }

    fn ended(&self, outcome: &Result<(), String>, now: DateTime<Utc>) {
        self.successful.set(outcome.is_ok().into());
        if outcome.is_ok() {
            self.succeeded_at.set(now.timestamp());
        }
    }
}

/// How often reloads by request are logged in full. Each that comes sooner is logged only if it ends otherwise than
/// the one before.
const LOG_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What the log says of reloads already.
#[derive(Debug, Default)]
struct ReloadLog {
    /// When a reload by request was last logged in full.
    request: Option<Instant>,
    /// Whether the current one is.
    in_full: bool,
    /// How many were not, since the last that was.
    unlogged: u64,
    outcome: Option<Result<(), String>>,
}

impl ReloadLog {
    /// Whether all that the reload logs is to be in the log.
    fn begins(&mut self, is_request: bool) -> bool {
        let lately = self.request.is_some_and(|logged| logged.elapsed() < LOG_AGAIN_AFTER);
        self.in_full = !(is_request && lately);
        if !self.in_full {
            self.unlogged += 1;
            return false;
        }
        if is_request {
            self.request = Some(Instant::now());
        }
        let by = if is_request { "request" } else { "signal" };
        let not_logged_before = Some(std::mem::take(&mut self.unlogged)).filter(|reloads| *reloads > 0);
        tracing::info!(by, not_logged_before, "Reading the configuration again.");
        true
    }

    fn ended(&mut self, outcome: &Result<(), String>) {
        if !self.in_full && self.outcome.as_ref() == Some(outcome) {
            return;
        }
        match outcome {
            Ok(()) => tracing::info!("The configuration was read again and is in use."),
            Err(error) => {
                tracing::error!(%error, "The configuration cannot be used, so the one before it stays in use.");
            }
        }
        self.outcome = Some(outcome.clone());
    }
}
