//! What stands between the daemon and the simulated API, so that the host itself can fail.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

/// What a client finds that connects to the proxy.
#[derive(Clone)]
pub(crate) enum Upstream {
    /// No server listens.
    Closed,
    /// A server that does not speak TLS and says so.
    PlainText,
    /// The API behind TLS, with some certificate.
    Tls(TlsAcceptor),
}

/// A TCP proxy on one port of 127.0.0.1. Dropping it closes it.
pub(crate) struct FaultProxy {
    address: SocketAddr,
    upstream: watch::Sender<Upstream>,
    serving: AbortHandle,
    /// Bound, and never listening: it keeps the port while no server listens.
    _port: TcpSocket,
}

impl FaultProxy {
    /// Listens in front of `api`.
    pub(crate) fn start(api: SocketAddr, upstream: Upstream) -> Self {
        let port = bound(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = port.local_addr().unwrap();
        let (upstream, upstreams) = watch::channel(upstream);
        let serving = tokio::spawn(serve(address, api, upstreams)).abort_handle();
        Self { address, upstream, serving, _port: port }
    }

    /// What stands in for `https://api.cloudflare.com/client/v4`.
    pub(crate) fn base_url(&self) -> String {
        format!("https://localhost:{}/client/v4", self.address.port())
    }

    /// From now on clients that connect find this; open connections break.
    pub(crate) fn switch_to(&self, upstream: Upstream) {
        self.upstream.send_replace(upstream);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Shared among sockets that ask for the same, and so given to nothing else while one of them is bound.
fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

async fn serve(address: SocketAddr, api: SocketAddr, mut upstreams: watch::Receiver<Upstream>) {
    loop {
        let upstream = upstreams.borrow_and_update().clone();
        tokio::select! {
            () = listen(address, api, upstream) => {}
            changed = upstreams.changed() => if changed.is_err() { return },
        }
    }
}

/// Serves every client until it is dropped, and every connection with it.
async fn listen(address: SocketAddr, api: SocketAddr, upstream: Upstream) {
    if matches!(upstream, Upstream::Closed) {
        return std::future::pending().await;
    }
    let listener: TcpListener = bound(address).listen(64).unwrap();
    let mut connections = JoinSet::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let upstream = upstream.clone();
        connections.spawn(async move {
            match upstream {
                Upstream::Closed => {}
                Upstream::PlainText => {
                    let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
                }
                // A peer that does not like the certificate leaves in the middle.
                Upstream::Tls(acceptor) => {
                    if let Ok(mut stream) = acceptor.accept(stream).await {
                        let mut api = TcpStream::connect(api).await.unwrap();
                        // Either side may break it off.
                        let _ = copy_bidirectional(&mut stream, &mut api).await;
                    }
                }
            }
        });
    }
}
