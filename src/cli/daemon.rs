//! `run` and `demo`: the daemon, from the first signal that it takes to the last scrape.

use std::{net::TcpListener, path::Path, pin::pin, sync::Arc};

use chrono::{DateTime, Utc};
use clap::Args;
use cloudflare_sim::{SimulatedApi, World};
use exporter_toolkit::WebConfigErrors;
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

use super::{CommandError, FAILED, UNUSABLE_CONFIG, WebFlags, logging::Log, no_threads};
use crate::{
    Controls, LoadConfig,
    cloudflare::{ApiSettings, announce_proxy},
    config::{Config, ConfigErrors, ShardFlags},
    systemd,
};

#[derive(Debug, Args)]
pub(super) struct DemoOptions {
    /// Zones of the simulated API.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    zones: u32,
    /// Certificates of each zone that has any.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    certificates: u32,
    #[command(flatten)]
    web: WebFlags,
}

/// What stands at the top of the page and in the log of a demo.
const DEMO_NOTICE: &str = "This is a demo: the data is simulated and comes from no Cloudflare account.";

/// Runs on a simulated API until a signal comes, and returns the exit code.
pub(super) fn demo(
    options: DemoOptions,
    web: WebFlags,
    shard: ShardFlags,
    log: &Log,
    now: fn() -> DateTime<Utc>,
) -> Result<u8, CommandError> {
    let DemoOptions { zones, certificates, web: own } = options;
    let web = web.and(own);
    let sockets = web.sockets()?;
    block_on(async {
        let mut world = World::demo(now(), zones as usize, certificates as usize);
        let requests_per_5m = (zones * (certificates.div_ceil(50).max(1) + 9)).max(600);
        world.quota.requests = world.quota.requests.max(2 * requests_per_5m as usize);
        // It runs until it is dropped.
        let api = SimulatedApi::start(world).await.map_err(CommandError::failed)?;
        let read = demo_config(&api, requests_per_5m, shard);
        let read = move || read().map(|config| web.apply(config));
        let config = read()?;
        tracing::warn!("{DEMO_NOTICE}");
        serve(config, Arc::new(read), sockets, log, now, Some(DEMO_NOTICE)).await
    })
}

/// Who has to act in a demo. The last rule is for the rest.
const DEMO_LABELS: &str = "\
[[labels]]
match = { kind = \"*_ca\" }
labels = { owner = \"pki\" }
[[labels]]
match = { zone = \"shop.*\", kind = \"client\" }
labels = { owner = \"payments\" }
[[labels]]
match = { zone = \"partners.*\" }
labels = { owner = \"partners\" }
[[labels]]
match = { zone = \"*\" }
labels = { owner = \"platform\" }
";

/// The configuration of somebody who wants to see everything that the token sees.
fn demo_config(
    api: &SimulatedApi,
    requests_per_5m: u32,
    shard: ShardFlags,
) -> impl Fn() -> Result<Config, ConfigErrors> + Send + Sync + use<> {
    let requests_per_5m = requests_per_5m.min(*ApiSettings::REQUESTS_PER_5M.end());
    let mut text = format!(
        "[api]\nbase_url = {:?}\nrequests_per_5m = {requests_per_5m}\n[poll]\nkinds = \"all\"\ninterval = \"5m\"\n{DEMO_LABELS}",
        api.base_url()
    );
    let of_shard = |key, value: Option<u32>| value.map(|value| format!("{key} = {value}\n")).unwrap_or_default();
    text += &format!("[shard]\n{}{}", of_shard("ordinal", shard.ordinal), of_shard("total", shard.total));
    let token = api.change(|world| world.token().to_owned());
    move || Config::parse(&text, Path::new("demo"), &|name| (name == "CLOUDFLARE_API_TOKEN").then(|| token.clone()))
}

/// Runs a command on an asynchronous runtime of its own.
pub(super) fn block_on<T>(command: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    let runtime = Runtime::new().map_err(|error| no_threads(&error))?;
    let done = runtime.block_on(command);
    // Nothing waits for a rendering under way.
    runtime.shutdown_background();
    done
}

/// Runs until a signal comes, and returns the exit code. `notice` is for the top of the page.
pub(super) async fn serve(
    config: Config,
    load: Arc<LoadConfig>,
    sockets: Vec<TcpListener>,
    log: &Log,
    now: fn() -> DateTime<Utc>,
    notice: Option<&'static str>,
) -> Result<u8, CommandError> {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        revision = env!("BUILD_REVISION"),
        configured_targets = config.targets.len(),
        discovers_zones = config.discovery.is_some(),
        credentials = config.credentials.len(),
        shard = config.shard.ordinal,
        total_shards = config.shard.total,
        "Starting cloudflare-cert-exporter."
    );
    announce_proxy(&config.api);
    let unheard = |error| CommandError::failed(format!("The daemon cannot listen for signals: {error}"));
    let listen = |kind| signal(kind).map_err(unheard);
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let mut hangup = listen(SignalKind::hangup())?;
    let (stop, stopped) = watch::channel(false);
    let (reload, asked) = mpsc::unbounded_channel();
    let controls = Controls { stop: stopped, reload: asked, load, sockets, log_lines_dropped: log.dropped() };
    let mut running = pin!(crate::run(config, now, notice, controls));
    loop {
        let signal = tokio::select! {
            ended = &mut running => {
                return match ended {
                    Ok(()) => {
                        tracing::info!("Stopped.");
                        Ok(0)
                    }
                    Err(error) => {
                        tracing::error!(%error, "The daemon cannot continue.");
                        Ok(if error.is::<WebConfigErrors>() { UNUSABLE_CONFIG } else { FAILED })
                    }
                };
            }
            _ = hangup.recv() => {
                // It listens until it has to stop.
                let _ = reload.send(());
                continue;
            }
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        // Before anything ends: without a client to answer, that takes no time.
        systemd::stopping();
        if stop.send_replace(true) {
            tracing::info!(signal, "A second signal: ending at once.");
            return Ok(0);
        }
        tracing::info!(signal, "Stopping: scrapes in flight are finished, polls are not.");
    }
}
