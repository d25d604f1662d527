//! Reading the configuration again while the program runs, and going over to it.
//!
//! What listens and where state is kept stays as it was at the start; that is said. All else is exchanged here.

use std::{convert::Infallible, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use prometheus::{IntGauge, Registry};
use tokio::{
    sync::{mpsc::UnboundedSender, oneshot, watch},
    task::{AbortHandle, JoinSet},
    time::Instant,
};
use tracing::{dispatcher, instrument::WithSubscriber as _, subscriber::NoSubscriber};

use crate::{
    cloudflare::{ClientMaker, Clients, Credential, Succession, watch_ca_file},
    config::{Config, ConfigErrors},
    exposition::SeriesSettings,
    poller::Change,
    systemd,
};

/// Reads the configuration.
pub type Load = dyn Fn() -> Result<Config, ConfigErrors> + Send + Sync;

/// What a reload changes.
pub(crate) struct Live {
    load: Arc<Load>,
    config: Config,
    /// What takes a restart, as it was at the start.
    fixed: [(&'static str, String); 6],
    maker: ClientMaker,
    clients: watch::Sender<Arc<Clients>>,
    /// What watches files and secrets.
    watching: Vec<AbortHandle>,
    series: watch::Sender<SeriesSettings>,
    changes: UnboundedSender<Change>,
    metrics: ReloadMetrics,
    logged: Logged,
}

/// Who wants a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AskedBy {
    Signal,
    /// Anyone who may ask this server, and as often as they like.
    Request,
}

impl Live {
    /// The configuration of the start is in use, with clients that `maker` has made.
    pub(crate) fn new(
        load: Arc<Load>,
        config: Config,
        maker: ClientMaker,
        clients: Clients,
        changes: UnboundedSender<Change>,
        metrics: ReloadMetrics,
    ) -> Self {
        Self {
            load,
            fixed: fixed(&config),
            maker,
            clients: watch::Sender::new(Arc::new(clients)),
            watching: Vec::new(),
            series: watch::Sender::new(config.series.clone()),
            changes,
            metrics,
            logged: Logged::default(),
            config,
        }
    }

    /// The clients to ask with.
    pub(crate) fn clients(&self) -> watch::Receiver<Arc<Clients>> {
        self.clients.subscribe()
    }

    /// Which series there are to be.
    pub(crate) fn series(&self) -> watch::Receiver<SeriesSettings> {
        self.series.subscribe()
    }

    /// Reads the configuration and goes over to it; on an error everything stays as it is.
    pub(crate) async fn reload(&mut self, by: AskedBy, watchers: &mut JoinSet<Infallible>) -> Result<(), String> {
        systemd::reloading();
        let outcome = if self.logged.begins(by) {
            self.go_over(watchers).await
        } else {
            self.go_over(watchers).with_subscriber(NoSubscriber::default()).await
        };
        self.metrics.ended(&outcome, (self.maker.now)());
        self.logged.ended(&outcome);
        systemd::ready();
        outcome
    }

    async fn go_over(&mut self, watchers: &mut JoinSet<Infallible>) -> Result<(), String> {
        let (config, succession) = self.read().await?;
        // From here on nothing fails.
        self.watching.drain(..).for_each(|watching| watching.abort());
        self.series.send_if_modified(|series| {
            let changed = *series != config.series;
            series.clone_from(&config.series);
            changed
        });
        let (renewed, in_use) = (succession.renewed(), self.clients.clone());
        let exchange = Box::new(move || {
            succession.take_over();
            in_use.send_replace(Arc::new(succession.clients));
        });
        let (applied, is_applied) = oneshot::channel();
        let (zones, requests_per_5m) = (config.zones.clone(), config.api.requests_per_5m);
        let change = Change { zones, requests_per_5m, renewed, exchange, applied };
        if self.changes.send(change).is_ok() {
            // An error means that the loop is gone, and with it this daemon, at once.
            let _ = is_applied.await;
        }
        self.forget_what_is_gone_from(&config);
        self.warn_of_restart(&config);
        self.config = config;
        self.watch(watchers);
        Ok(())
    }

    /// Reads files, which can be on a disk that hangs.
    async fn read(&self) -> Result<(Config, Succession), String> {
        let (load, maker, before) = (Arc::clone(&self.load), self.maker.clone(), self.clients.borrow().clone());
        let read = move || {
            let config = load().map_err(|mistakes| mistakes.to_string())?;
            let succession = maker.succeed(&before, &config.api, &config.credentials);
            Ok((config, succession.map_err(|error| error.to_string())?))
        };
        // What it logs goes where this does.
        let log = dispatcher::get_default(Clone::clone);
        let read = move || dispatcher::with_default(&log, read);
        tokio::task::spawn_blocking(read).await.unwrap_or_else(|bug| Err(bug.to_string()))
    }

    /// Watches what is in use now: the files of secrets and certificate authorities, and when secrets expire.
    pub(crate) fn watch(&mut self, watchers: &mut JoinSet<Infallible>) {
        if let Some(file) = self.config.api.ca_file.clone() {
            let clients = self.clients.borrow().values().cloned().collect();
            self.watching.push(watchers.spawn(watch_ca_file(file, clients)));
        }
        for client in self.clients.borrow().values() {
            let credential = client.credential();
            if credential.is_in_a_file() {
                let client = client.clone();
                self.watching.push(watchers.spawn(async move { client.watch_credential().await }));
            }
            let zone = self.config.zones.iter().find(|zone| zone.credential == *credential.name());
            if let Some(zone) = zone.filter(|_| credential.is_token()) {
                let (client, zone) = (client.clone(), zone.id.clone());
                self.watching.push(watchers.spawn(async move { client.watch_token(&zone).await }));
            }
        }
    }

    fn forget_what_is_gone_from(&self, config: &Config) {
        let Some(directory) = &self.maker.directory else { return };
        let zones = self.config.zones.iter().filter(|old| !config.zones.iter().any(|new| new.id == old.id));
        zones.for_each(|zone| directory.zone(zone).forget());
        let is_gone = |old: &&Arc<Credential>| !config.credentials.iter().any(|new| new.name() == old.name());
        let credentials = self.config.credentials.iter().filter(is_gone);
        credentials.for_each(|credential| directory.credential(credential.name()).forget());
    }

    /// Says what is not as it was at the start, and stays so.
    fn warn_of_restart(&self, config: &Config) {
        for ((key, in_use), (_, wanted)) in self.fixed.iter().zip(fixed(config)) {
            if *in_use != wanted {
                tracing::warn!(
                    key,
                    "This setting is not what it was at the start, which takes a restart: what was read then stays in use."
                );
            }
        }
    }
}

/// What takes a restart, by its key.
fn fixed(config: &Config) -> [(&'static str, String); 6] {
    [
        ("server.listen_addresses", format!("{:?}", config.listen_addresses)),
        ("server.telemetry_path", format!("{:?}", config.telemetry_path)),
        ("server.enable_lifecycle", format!("{:?}", config.enable_lifecycle)),
        ("server.web_config_file", format!("{:?}", config.web_config_file)),
        ("server.probe_listen_address", format!("{:?}", config.probe_listen_address)),
        ("state.directory", format!("{:?}", config.state_directory)),
    ]
}

/// Tells of reloads.
pub(crate) struct ReloadMetrics {
    successful: IntGauge,
    succeeded_at: IntGauge,
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
                "1 if the configuration that was read last is in use. If not, the one before it stays.",
                1,
            )?,
            succeeded_at: gauge(
                "cloudflare_cert_exporter_config_last_reload_success_timestamp_seconds",
                "When the configuration in use was read, as Unix time.",
                now.timestamp(),
            )?,
        })
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
struct Logged {
    /// When a reload by request was last logged in full.
    request: Option<Instant>,
    /// Whether the current one is.
    in_full: bool,
    /// How many were not, since the last that was.
    unlogged: u64,
    outcome: Option<Result<(), String>>,
}

impl Logged {
    /// Whether all that the reload logs is to be in the log.
    fn begins(&mut self, by: AskedBy) -> bool {
        let lately = self.request.is_some_and(|logged| logged.elapsed() < LOG_AGAIN_AFTER);
        self.in_full = by == AskedBy::Signal || !lately;
        if !self.in_full {
            self.unlogged += 1;
            return false;
        }
        let by = match by {
            AskedBy::Signal => "signal",
            AskedBy::Request => {
                self.request = Some(Instant::now());
                "request"
            }
        };
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
