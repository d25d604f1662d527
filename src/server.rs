//! What is served over HTTP: the exposition, health, and a page for people.
//!
//! The only place that knows axum. It takes bound listeners and a stop signal, and only reads the snapshot: no request
//! to it ever causes one to Cloudflare. Who may ask, and how, is what the web configuration says.

mod cross_site;
mod current_exposition;
mod heartbeats;
mod metrics;
mod page;
mod response;
mod settings;
mod status;

use std::{future::pending, io, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chrono::{DateTime, Utc};
use exporter_toolkit::{MAX_CONNECTIONS, Web};
use prometheus::Registry;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    time::interval,
};

pub use heartbeats::Heartbeats;
pub use settings::{InvalidListenAddress, InvalidTelemetryPath, ListenAddress, TelemetryPath};

use current_exposition::CurrentExposition;
use heartbeats::SERVER_EVERY;
use response::Responses;

use crate::{exposition::SeriesSettings, model::Snapshot};

/// What answers are made of.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The latest snapshot.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Whether the daemon does its work.
    pub heartbeats: Heartbeats,
    /// The program's own counters and histograms.
    pub registry: Registry,
    /// Which series there are.
    pub series: watch::Receiver<SeriesSettings>,
    /// The wall clock.
    pub now: fn() -> DateTime<Utc>,
    /// Something that a person has to know about the data, for the top of the page.
    pub notice: Option<&'static str>,
    /// Takes requests to read the configuration again, if clients may send them.
    pub reload: Option<mpsc::UnboundedSender<ReloadReply>>,
}

/// Gets what came of a reload: nothing, or why it failed.
pub type ReloadReply = oneshot::Sender<Result<(), String>>;

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}; {remedy} with {setting}", remedy = remedy(error))]
pub struct BindError {
    address: ListenAddress,
    setting: &'static str,
    error: io::Error,
}

/// What to do where an address cannot be listened on; the setting that it is about follows.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "stop the process that uses it, or choose another address",
        io::ErrorKind::PermissionDenied => "grant CAP_NET_BIND_SERVICE, or choose a port above 1023",
        _ => "choose an address of this machine",
    }
}

/// Starts to listen on every address.
///
/// # Errors
/// With the first address that cannot be listened on.
pub async fn bind(addresses: &[ListenAddress], telemetry_path: &TelemetryPath) -> Result<Vec<TcpListener>, BindError> {
    let mut listeners = Vec::new();
    for address in addresses {
        let fail = |error| BindError {
            address: address.clone(),
            setting: "--web.listen-address or server.listen_addresses",
            error,
        };
        let listener = address.bind(addresses).await.map_err(fail)?;
        let bound = listener.local_addr().map_err(fail)?;
        tracing::info!(address = %bound, telemetry_path = telemetry_path.as_str(), "Listening.");
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Takes listeners that somebody else has opened.
///
/// # Errors
/// If one of them cannot be used.
pub fn adopt(sockets: Vec<std::net::TcpListener>, telemetry_path: &TelemetryPath) -> io::Result<Vec<TcpListener>> {
    let adopt = |socket: std::net::TcpListener| {
        socket.set_nonblocking(true)?;
        let listener = TcpListener::from_std(socket)?;
        tracing::info!(address = %listener.local_addr()?, telemetry_path = telemetry_path.as_str(), handed_over = true, "Listening.");
        Ok(listener)
    };
    sockets.into_iter().map(adopt).collect()
}

/// Starts to listen for probes.
///
/// # Errors
/// If the address cannot be listened on.
pub async fn bind_probe(address: &ListenAddress) -> Result<TcpListener, BindError> {
    let fail = |error| BindError { address: address.clone(), setting: "server.probe_listen_address", error };
    let listener = address.bind(&[]).await.map_err(fail)?;
    tracing::info!(address = %listener.local_addr().map_err(fail)?, "Listening for probes of health and readiness.");
    Ok(listener)
}

/// Who may ask what.
#[derive(Debug, Default)]
pub struct Access {
    /// The web configuration; without one, everybody is answered, in plain HTTP.
    pub web: Option<Web>,
    /// Where anyone gets health and readiness, in plain HTTP.
    pub probe: Option<TcpListener>,
}

/// Serves until `stop` turns true, then finishes the requests in flight and closes every other connection.
///
/// # Errors
/// If a listener breaks.
pub async fn serve(
    listeners: Vec<TcpListener>,
    telemetry_path: &TelemetryPath,
    sources: Sources,
    access: Access,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let Sources { snapshots, heartbeats, registry, series, now, notice, reload } = sources;
    let snapshot = snapshots.borrow().clone();
    let first_series = series.borrow().clone();
    let exposition = CurrentExposition::new(snapshot, first_series, now).await;
    let served = Arc::new(Served { exposition, responses: Responses::default(), heartbeats, registry, now });
    let following = async {
        served.exposition.follow(snapshots, series).await;
        // The poll loop is gone. What is known is still shown, and health reports the rest.
        pending::<()>().await;
    };
    let web = access.web.map(Arc::new);
    let beating = async {
        let mut beats = interval(SERVER_EVERY);
        loop {
            beats.tick().await;
            let can_be_answered = web.as_ref().is_none_or(|web| web.is_read());
            if can_be_answered && served.exposition.is_fresh() {
                served.heartbeats.beat();
            }
        }
    };
    let router = router(telemetry_path, notice, reload, Arc::clone(&served));
    let probes = async {
        let Some(probe) = access.probe else { return Ok(()) };
        exporter_toolkit::serve(vec![probe], probe_router(Arc::clone(&served)), None, MAX_PROBES, stop.clone()).await
    };
    let served_all = async {
        let all = exporter_toolkit::serve(listeners, router, web.clone(), MAX_CONNECTIONS, stop.clone());
        tokio::try_join!(all, probes).map(drop)
    };
    tokio::select! {
        () = beating => Ok(()),
        served = served_all => served,
        () = following => Ok(()),
    }
}

/// Connections of probes at once, in addition to all others.
const MAX_PROBES: usize = 32;

/// What requests are answered with.
#[derive(Debug)]
struct Served {
    exposition: CurrentExposition,
    responses: Responses,
    heartbeats: Heartbeats,
    registry: Registry,
    now: fn() -> DateTime<Utc>,
}

fn probe_router(served: Arc<Served>) -> Router {
    Router::new().route("/-/healthy", get(healthy)).route("/-/ready", get(ready)).fallback(not_found).with_state(served)
}

async fn not_found() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "404 page not found\n")
}

fn router(
    telemetry_path: &TelemetryPath,
    notice: Option<&'static str>,
    reload: Option<mpsc::UnboundedSender<ReloadReply>>,
    served: Arc<Served>,
) -> Router {
    let scrape = async |State(served): State<Arc<Served>>, headers: HeaderMap| metrics::answer(&served, &headers).await;
    let status = async |State(served): State<Arc<Served>>| status::answer(&served).await;
    let mut router = Router::new()
        .route(telemetry_path.as_str(), get(scrape))
        .route("/-/status.json", get(status))
        .route("/-/healthy", get(healthy))
        .route("/-/ready", get(ready));
    if telemetry_path.as_str() != "/" {
        // Relative, so that a proxy may serve it below another path.
        let pages = page::PageCache::new(notice, telemetry_path.as_str().trim_start_matches('/'));
        let page =
            async move |State(served): State<Arc<Served>>, headers: HeaderMap| pages.answer(&served, &headers).await;
        router = router.route("/", get(page));
    }
    if let Some(sender) = reload {
        let reload = async move |uri: Uri, headers: HeaderMap| {
            if cross_site::is_cross_site(&uri, &headers) {
                return (StatusCode::FORBIDDEN, "A page of another site may not ask for a reload.\n").into_response();
            }
            reload_configuration(&sender).await
        };
        router = router.route("/-/reload", post(reload));
    }
    router.fallback(not_found).with_state(served)
}

async fn healthy(State(served): State<Arc<Served>>) -> Response {
    match served.heartbeats.problem() {
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")).into_response(),
        None => "Healthy.\n".into_response(),
    }
}

async fn reload_configuration(sender: &mpsc::UnboundedSender<ReloadReply>) -> Response {
    let (reply, outcome) = oneshot::channel();
    // It fails if the program is about to end.
    let _ = sender.send(reply);
    match outcome.await {
        Ok(Ok(())) => "The configuration was read again and is in use.\n".into_response(),
        Ok(Err(error)) => {
            let text = format!("The configuration cannot be used, so the one before it stays in use:\n{error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "The program is about to end.\n").into_response(),
    }
}

async fn ready(State(served): State<Arc<Served>>) -> Response {
    let latest = served.exposition.latest();
    let snapshot = latest.snapshot();
    let (untried, targets) = (snapshot.untried(), snapshot.targets.len());
    let why = match snapshot.undiscovered() {
        0 if untried == 0 => return "Ready.\n".into_response(),
        0 => format!("{untried} of {targets} zones were not polled yet.\n"),
        _ => "The zones were not discovered yet.\n".to_owned(),
    };
    (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
}
