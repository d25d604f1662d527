//! The TLS handshake of a connection, with the settings of the moment.

use std::{
    io::{self, ErrorKind},
    sync::Arc,
    time::Duration,
};

use hyper::Version;
use rustls::{ServerConfig, server::Acceptor};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use super::connection::CloseReason;

/// How long a handshake may take in all. A client on the other side of the world needs one second.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What is kept encrypted until the client takes it.
const SEND_BUFFER: usize = 32 * 1024;

/// The settings of the moment, if there are any.
type Settings = Option<Arc<ServerConfig>>;

/// Shakes hands with a client. `settings` is called once the client has sent something.
///
/// A refused client gets the reason. With TLS 1.3 it has perhaps sent its request already, so the shutdown of
/// `stream` has to read that: left unread, it would reset the connection and destroy the alert.
pub(crate) async fn accept<S>(stream: S, settings: impl FnOnce() -> Settings) -> Result<TlsStream<S>, CloseReason>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match timeout(HANDSHAKE_TIMEOUT, shake_hands(stream, settings)).await {
        Ok(shaken) => shaken,
        Err(_) => Err(CloseReason::Handshake(format!("it was not over after {} seconds", HANDSHAKE_TIMEOUT.as_secs()))),
    }
}

/// The version of HTTP that client and server have agreed on.
pub(crate) fn negotiated_version<S>(stream: &TlsStream<S>) -> Version {
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") { Version::HTTP_2 } else { Version::HTTP_11 }
}

/// The first bytes of requests in plain HTTP, and Go's response to them.
const HTTP: [&[u8; 5]; 5] = [b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO"];
const TO_HTTP: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

async fn shake_hands<S>(mut stream: S, settings: impl FnOnce() -> Settings) -> Result<TlsStream<S>, CloseReason>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // A record of TLS begins with as much.
    let mut first = [0; 5];
    stream.read_exact(&mut first).await.map_err(|error| close_reason(&error))?;
    if HTTP.contains(&&first) {
        // It fails if the client is gone.
        let _ = stream.write_all(TO_HTTP).await;
        let error = "the client speaks HTTP without TLS: it has to ask https://";
        return Err(close(stream, &io::Error::new(ErrorKind::InvalidData, error)).await);
    }
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut &first[..]).map_err(|error| close_reason(&error))?;
    let mut beginning = LazyConfigAcceptor::new(acceptor, stream);
    let begun = match (&mut beginning).await {
        Ok(begun) => begun,
        Err(error) => {
            return Err(match beginning.take_io() {
                Some(stream) => close(stream, &error).await,
                None => close_reason(&error),
            });
        }
    };
    // The log has the reason already.
    let settings = settings().ok_or(CloseReason::Done)?;
    let shaking = begun.into_stream_with(settings, |connection| connection.set_buffer_limit(Some(SEND_BUFFER)));
    match shaking.into_fallible().await {
        Ok(stream) => Ok(stream),
        Err((error, stream)) => Err(close(stream, &error).await),
    }
}

/// Ends a connection on which the client got the reason.
async fn close<S: AsyncWrite + Unpin>(mut stream: S, error: &io::Error) -> CloseReason {
    // It fails if the client is gone.
    let _ = stream.shutdown().await;
    close_reason(error)
}

/// A client that goes without a word is one that looks whether the port is open, and no fault.
fn close_reason(error: &io::Error) -> CloseReason {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => CloseReason::Done,
        _ => CloseReason::Handshake(error.to_string()),
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
    use crate::activity::{LINGER, TrackedStream};

    fn no_settings() -> Settings {
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_may_take_its_time_and_no_longer_however_it_comes() {
        for trickles in [false, true] {
            let (mut client, server) = duplex(1024);
            let accepted = tokio::spawn(accept(server, no_settings));
            let started = Instant::now();
            if trickles {
                client.write_all(&[0x16, 0x03, 0x01, 0x10, 0x00, 0x01]).await.unwrap();
                while client.write_all(&[0]).await.is_ok() {
                    sleep(Duration::from_millis(100)).await;
                }
            }
            assert!(matches!(accepted.await.unwrap(), Err(CloseReason::Handshake(_))));
            assert!(started.elapsed() >= HANDSHAKE_TIMEOUT && started.elapsed() < 2 * HANDSHAKE_TIMEOUT);
        }
    }

    #[tokio::test]
    async fn a_client_without_tls_is_logged_and_a_silent_one_is_not() {
        for (sent, failed, answer) in [
            (&b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..], true, TO_HTTP),
            (b"SSH-2.0-OpenSSH_9.2p1\r\n", true, &[0x15, 0x03, 0x03, 0x00, 0x02, 2, 50]),
            (b"GET", false, b""),
            (b"", false, b""),
        ] {
            let (mut client, server) = duplex(1024);
            client.write_all(sent).await.unwrap();
            client.shutdown().await.unwrap();
            let reason = accept(server, no_settings).await.map(drop).unwrap_err();
            assert_eq!(matches!(reason, CloseReason::Handshake(_)), failed, "{reason:?}");
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
    async fn a_refused_client_can_send_its_request_and_gets_the_reason() {
        let (settings, stranger) = strict_settings_and_a_stranger();
        let (client, server) = duplex(64 * 1024);
        let server = TrackedStream::new(server, Arc::default());
        let accepted = tokio::spawn(accept(server, || Some(settings)));
        // With TLS 1.3 a client thinks that it is let in.
        let name = "a.example".try_into().unwrap();
        let mut client = TlsConnector::from(stranger).connect(name, client).await.unwrap();
        sleep(LINGER / 2).await;
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        client.flush().await.unwrap();
        let error = client.read_u8().await.unwrap_err();
        assert!(error.to_string().contains("CertificateRequired"), "{error}");
        let silent = Instant::now();
        assert!(matches!(accepted.await.unwrap(), Err(CloseReason::Handshake(_))));
        // It is not waited for any longer, though it does not close its side.
        assert!(silent.elapsed() <= LINGER);
    }
}
