//! TLS around a connection, with the settings of the moment.

use std::{
    io::{self, ErrorKind},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use rustls::{ServerConfig, server::Acceptor};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::watch,
    time::timeout,
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use super::{
    connection::{self, Ended, Watched, linger, stopped},
    http2,
    web_config::Unusable,
};

/// How long a handshake may take in all. A client on the other side of the world needs one second.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// What is kept encrypted until the client takes it.
const SEND_BUFFER: usize = 32 * 1024;

/// Serves a client that speaks TLS, in the protocol that it has chosen. `settings` is asked once the client has said
/// something.
pub(super) async fn serve<S>(
    stream: Watched<S>,
    settings: impl FnOnce() -> Result<Arc<ServerConfig>, Unusable>,
    router: Router,
    mut stop: watch::Receiver<bool>,
) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::clone(stream.activity());
    let shaking = async {
        match timeout(HANDSHAKE_TIME, shake_hands(stream, settings)).await {
            Ok(Ok(Some(stream))) => Ok(stream),
            // The log says so already.
            Ok(Ok(None)) => Err(Ended::Done),
            Ok(Err(Refused { error, stream })) => {
                if let Some(mut stream) = stream {
                    linger(&mut stream).await;
                }
                Err(failed(&error))
            }
            Err(_) => Err(Ended::Handshake(format!("it was not over after {} seconds", HANDSHAKE_TIME.as_secs()))),
        }
    };
    let stream = tokio::select! {
        shaken = shaking => match shaken {
            Ok(stream) => stream,
            Err(ended) => return ended,
        },
        // Half a handshake is nothing that anybody waits for.
        () = stopped(&mut stop) => return Ended::Done,
    };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        http2::serve(stream, &activity, router, stop).await
    } else {
        connection::serve_http1(stream, &activity, router, stop).await
    }
}

/// The first bytes of requests in plain HTTP, and what Go answers them.
const HTTP: [&[u8; 5]; 5] = [b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO"];
const TO_HTTP: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// A handshake that failed.
struct Refused<S> {
    error: io::Error,
    /// The client is told why on it, unless it is gone. With TLS 1.3 a client without a certificate has sent its
    /// request already, and closing the connection with that unread would destroy the alert.
    stream: Option<S>,
}

impl<S> From<io::Error> for Refused<S> {
    fn from(error: io::Error) -> Self {
        Self { error, stream: None }
    }
}

/// `None` if there are no settings.
async fn shake_hands<S>(
    mut stream: S,
    settings: impl FnOnce() -> Result<Arc<ServerConfig>, Unusable>,
) -> Result<Option<TlsStream<S>>, Refused<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // A record of TLS begins with as much.
    let mut first = [0; 5];
    stream.read_exact(&mut first).await?;
    if HTTP.contains(&&first) {
        // It fails if the client is gone.
        let _ = stream.write_all(TO_HTTP).await;
        let error = "the client speaks HTTP without TLS: it has to ask https://";
        return Err(Refused { error: io::Error::new(ErrorKind::InvalidData, error), stream: Some(stream) });
    }
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut &first[..])?;
    let mut beginning = LazyConfigAcceptor::new(acceptor, stream);
    let begun = match (&mut beginning).await {
        Ok(begun) => begun,
        Err(error) => return Err(Refused { error, stream: beginning.take_io() }),
    };
    let Ok(settings) = settings() else { return Ok(None) };
    let shaken = begun
        .into_stream_with(settings, |connection| connection.set_buffer_limit(Some(SEND_BUFFER)))
        .into_fallible()
        .await;
    shaken.map(Some).map_err(|(error, stream)| Refused { error, stream: Some(stream) })
}

/// A client that goes without a word is one that looks whether the port is open, and nothing to speak of.
fn failed(error: &io::Error) -> Ended {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Ended::Done,
        _ => Ended::Handshake(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        time::{Instant, sleep},
    };

    use rustls::{ClientConfig, RootCertStore, server::WebPkiClientVerifier};
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::server::{connection::LINGER, web_config::Guesser};

    fn no_settings() -> Result<Arc<ServerConfig>, Unusable> {
        Err(Unusable)
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_may_take_its_time_and_no_longer_however_it_comes() {
        for trickles in [false, true] {
            let (_stop, stopped) = watch::channel(false);
            let (mut client, server) = duplex(1024);
            let served =
                tokio::spawn(serve(Watched::new(server, Guesser::default()), no_settings, Router::new(), stopped));
            let started = Instant::now();
            if trickles {
                client.write_all(&[0x16, 0x03, 0x01, 0x10, 0x00, 0x01]).await.unwrap();
                while client.write_all(&[0]).await.is_ok() {
                    sleep(Duration::from_millis(100)).await;
                }
            }
            assert!(matches!(served.await.unwrap(), Ended::Handshake(_)));
            assert!(started.elapsed() >= HANDSHAKE_TIME && started.elapsed() < 2 * HANDSHAKE_TIME);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_handshake_delays_the_stop() {
        let (stop, stopped) = watch::channel(false);
        let (mut client, server) = duplex(1024);
        let served = tokio::spawn(serve(Watched::new(server, Guesser::default()), no_settings, Router::new(), stopped));
        sleep(Duration::from_secs(1)).await;
        let started = Instant::now();
        stop.send_replace(true);
        assert_eq!(served.await.unwrap(), Ended::Done);
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test]
    async fn who_speaks_something_else_is_told_of_and_who_says_nothing_is_not() {
        for (sent, failed, answer) in [
            (&b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..], true, TO_HTTP),
            (b"SSH-2.0-OpenSSH_9.2p1\r\n", true, &[0x15, 0x03, 0x03, 0x00, 0x02, 2, 50]),
            (b"GET", false, b""),
            (b"", false, b""),
        ] {
            let (_stop, stopped) = watch::channel(false);
            let (mut client, server) = duplex(1024);
            client.write_all(sent).await.unwrap();
            client.shutdown().await.unwrap();
            let ended = serve(Watched::new(server, Guesser::default()), no_settings, Router::new(), stopped).await;
            assert_eq!(matches!(ended, Ended::Handshake(_)), failed, "{ended:?}");
            let mut answered = Vec::new();
            client.read_to_end(&mut answered).await.unwrap();
            assert_eq!(answered, answer);
        }
    }

    /// Settings that ask clients for a certificate, and a client that has none.
    fn strict_settings_and_a_stranger() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let (roots, provider) = (Arc::new(roots), Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let server = server.unwrap().with_client_cert_verifier(verifier.build().unwrap());
        let key = key.serialize_der().try_into().unwrap();
        let server = server.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
        (Arc::new(server), Arc::new(client.unwrap().with_root_certificates(roots).with_no_client_auth()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_refused_can_send_its_request_and_is_told_why() {
        let (settings, stranger) = strict_settings_and_a_stranger();
        let (_stop, stopped) = watch::channel(false);
        let (client, server) = duplex(64 * 1024);
        let server = Watched::new(server, Guesser::default());
        let served = tokio::spawn(serve(server, || Ok(settings), Router::new(), stopped));
        // With TLS 1.3 a client thinks that it is let in.
        let name = "a.example".try_into().unwrap();
        let mut client = TlsConnector::from(stranger).connect(name, client).await.unwrap();
        sleep(LINGER / 2).await;
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        client.flush().await.unwrap();
        let error = client.read_u8().await.unwrap_err();
        assert!(error.to_string().contains("CertificateRequired"), "{error}");
        let silent = Instant::now();
        assert!(matches!(served.await.unwrap(), Ended::Handshake(_)));
        // It is not waited for any longer, though it does not close its side.
        assert!(silent.elapsed() <= LINGER);
    }
}
