//! The simulated API over HTTP/2 and TLS, behind a proxy that can go dead while its sockets live.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::body::{Body, to_bytes};
use hyper::{Request, Response, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, duplex, split},
    net::TcpListener,
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

/// Dropping it closes it, and every connection.
pub(crate) struct FreezingProxy {
    address: SocketAddr,
    accepted: Arc<AtomicU64>,
    /// Connections of a lower number pass nothing on.
    alive_from: Arc<AtomicU64>,
    serving: AbortHandle,
}

impl FreezingProxy {
    /// Stands before `api`, which speaks HTTP/1.1 in plain text.
    pub(crate) async fn start(api: SocketAddr, acceptor: TlsAcceptor) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, alive_from) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let task = serve(listener, api, acceptor, accepted.clone(), alive_from.clone());
        let serving = tokio::spawn(task).abort_handle();
        Self { address, accepted, alive_from, serving }
    }

    pub(crate) fn base_url(&self) -> String {
        format!("https://localhost:{}/client/v4", self.address.port())
    }

    /// How many connections were made so far.
    pub(crate) fn connections(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }

    /// From now on the connections that there are take everything in and pass nothing on; new ones are as before.
    pub(crate) fn freeze(&self) {
        self.alive_from.store(self.connections(), Ordering::SeqCst);
    }
}

impl Drop for FreezingProxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(
    listener: TcpListener,
    api: SocketAddr,
    acceptor: TlsAcceptor,
    accepted: Arc<AtomicU64>,
    alive_from: Arc<AtomicU64>,
) {
    // The machine's certificate authorities are not needed, and take long to read.
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let mut connections = JoinSet::new();
    loop {
        let (outside, _) = listener.accept().await.unwrap();
        let number = accepted.fetch_add(1, Ordering::SeqCst);
        let alive_from = alive_from.clone();
        let is_alive = move || number >= alive_from.load(Ordering::SeqCst);
        let (inside, server) = duplex(64 * 1024);
        let (from_client, to_client) = outside.into_split();
        let (from_server, to_server) = split(inside);
        connections.spawn(pass(from_client, to_server, is_alive.clone()));
        connections.spawn(pass(from_server, to_client, is_alive));
        let (acceptor, client) = (acceptor.clone(), client.clone());
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(server).await else { return };
            let answer = service_fn(move |request| forward(client.clone(), api, request));
            // The peer may break it off.
            let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

/// Takes in what comes, and passes it on for as long as the connection is alive.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, is_alive: impl Fn() -> bool) {
    let mut buffer = [0; 16 * 1024];
    loop {
        let Ok(read) = from.read(&mut buffer).await else { return };
        if read == 0 || is_alive() && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

async fn forward(
    client: reqwest::Client,
    api: SocketAddr,
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Body>, reqwest::Error> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(Body::new(body), 1024).await.unwrap();
    let url = format!("http://{api}{}", parts.uri.path_and_query().unwrap());
    let mut headers = parts.headers;
    headers.remove("host");
    let answer = client.request(parts.method, url).headers(headers).body(body).send().await?;
    let mut response = Response::builder().status(answer.status());
    for name in ["content-type", "content-encoding", "cf-ray"] {
        if let Some(value) = answer.headers().get(name) {
            response = response.header(name, value);
        }
    }
    Ok(response.body(Body::from(answer.bytes().await?)).unwrap())
}
