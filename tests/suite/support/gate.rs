//! What stands between the daemon and the simulated API, so that the host itself can fail.

use std::{net::SocketAddr, sync::Arc};

use rcgen::{Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType, date_time_ymd};
use tokio::{
    io::{AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivateKeyDer},
};

/// What somebody meets who connects.
#[derive(Clone)]
pub(crate) enum Door {
    /// Nobody listens.
    Closed,
    /// A server that does not speak TLS and says so.
    NoTls,
    /// The API behind TLS, with some certificate.
    Tls(TlsAcceptor),
}

/// A TCP proxy on one port of 127.0.0.1. Dropping it closes it.
pub(crate) struct Gate {
    address: SocketAddr,
    door: watch::Sender<Door>,
    serving: AbortHandle,
    /// Bound, and never listening: it keeps the port while the gate is closed.
    _port: TcpSocket,
}

impl Gate {
    /// Stands before `behind`.
    pub(crate) fn start(behind: SocketAddr, door: Door) -> Self {
        let port = bound(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = port.local_addr().unwrap();
        let (door, doors) = watch::channel(door);
        let serving = tokio::spawn(serve(address, behind, doors)).abort_handle();
        Self { address, door, serving, _port: port }
    }

    /// What stands in for `https://api.cloudflare.com/client/v4`.
    pub(crate) fn base_url(&self) -> String {
        format!("https://localhost:{}/client/v4", self.address.port())
    }

    /// From now on somebody who connects meets this; connections that there are break.
    pub(crate) fn switch(&self, door: Door) {
        self.door.send_replace(door);
    }
}

impl Drop for Gate {
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

async fn serve(address: SocketAddr, behind: SocketAddr, mut doors: watch::Receiver<Door>) {
    loop {
        let door = doors.borrow_and_update().clone();
        tokio::select! {
            () = open(address, behind, door) => {}
            changed = doors.changed() => if changed.is_err() { return },
        }
    }
}

/// Lets everybody in until it is dropped, and every connection with it.
async fn open(address: SocketAddr, behind: SocketAddr, door: Door) {
    if matches!(door, Door::Closed) {
        return std::future::pending().await;
    }
    let listener: TcpListener = bound(address).listen(64).unwrap();
    let mut connections = JoinSet::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let door = door.clone();
        connections.spawn(async move {
            match door {
                Door::Closed => {}
                Door::NoTls => {
                    let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
                }
                // A peer that does not like the certificate leaves in the middle.
                Door::Tls(acceptor) => {
                    if let Ok(mut stream) = acceptor.accept(stream).await {
                        let mut api = TcpStream::connect(behind).await.unwrap();
                        // Either side may break it off.
                        let _ = copy_bidirectional(&mut stream, &mut api).await;
                    }
                }
            }
        });
    }
}

/// A certificate and its key, in PEM form.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Identity {
    pub(crate) fn new(sign: impl FnOnce(&KeyPair) -> Certificate) -> Self {
        let key = KeyPair::generate().unwrap();
        Self { certificate: sign(&key).pem(), key: key.serialize_pem() }
    }

    /// A certificate that is its own authority, as `openssl req -x509` makes it.
    pub(crate) fn self_signed(name: &str) -> Self {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self::new(|key| params.self_signed(key).unwrap())
    }
}

/// A certificate authority of a test.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// It tells nothing but a name of another one.
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names, as one of a server and of a client, and its key.
    pub(crate) fn issue(&self, names: Vec<SanType>) -> Identity {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        Identity::new(|key| params.signed_by(key, &self.0).unwrap())
    }

    /// TLS with a certificate for this name that is good from the beginning of one year to that of another.
    pub(crate) fn tls(&self, name: &str, years: [i32; 2]) -> Door {
        Door::Tls(self.acceptor(name, years, &[]))
    }

    /// The same with these protocols in ALPN.
    pub(crate) fn acceptor(&self, name: &str, years: [i32; 2], protocols: &[&str]) -> TlsAcceptor {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        [params.not_before, params.not_after] = years.map(|year| date_time_ymd(year, 1, 1));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth();
        let mut config = config.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}
