//! A small router behind a web configuration, from outside.

#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

use std::{path::Path, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use exporter_toolkit::{MAX_CONNECTIONS, Web, WebConfig, serve};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    spawn,
    sync::{Notify, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;

const DEADLINE: Duration = Duration::from_secs(60);

/// The value of `Authorization` for `prometheus` with the password `right`.
const RIGHT: &str = "Basic cHJvbWV0aGV1czpyaWdodA==";

/// A server, and what it takes to ask it.
struct Server {
    directory: tempfile::TempDir,
    address: std::net::SocketAddr,
    certificate: String,
    /// Notified once `/late` has begun, and then to let it end.
    late: Arc<[Notify; 2]>,
    stop: watch::Sender<bool>,
    served: JoinHandle<std::io::Result<()>>,
}

impl Server {
    /// Starts one with TLS and a password.
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = certified.cert.pem();
        std::fs::write(directory.path().join("server.pem"), &certificate).unwrap();
        std::fs::write(directory.path().join("server.key"), certified.signing_key.serialize_pem()).unwrap();
        put_password(directory.path(), "right");
        let web = Web::open(&directory.path().join("web.yml")).unwrap();
        assert!(web.is_tls());

        let late = Arc::new([Notify::new(), Notify::new()]);
        let of_handler = Arc::clone(&late);
        let respond_late = async move || {
            of_handler[0].notify_one();
            of_handler[1].notified().await;
            "late\n"
        };
        let router = Router::new().route("/metrics", get(async || "up 1\n")).route("/late", get(respond_late));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let served = spawn(serve(vec![listener], router, Some(Arc::new(web)), MAX_CONNECTIONS, stopped));
        Self { directory, address, certificate, late, stop, served }
    }

    /// The whole response to a request over TLS.
    async fn get(&self, path: &str, authorization: &str) -> String {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()).unwrap();
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let tls =
            tls.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let mut stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: {authorization}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        timeout(DEADLINE, stream.read_to_string(&mut response)).await.unwrap().unwrap();
        response
    }
}

fn put_password(directory: &Path, password: &str) {
    let hash = bcrypt::hash(password, 4).unwrap();
    let text = format!(
        "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\nbasic_auth_users:\n  prometheus: {hash}\n"
    );
    std::fs::write(directory.join("web.yml"), text).unwrap();
}

#[tokio::test]
async fn only_those_with_the_password_of_the_moment_get_a_response() {
    let server = Server::start().await;
    let response = server.get("/metrics", RIGHT).await;
    assert!(response.starts_with("HTTP/1.1 200 ") && response.ends_with("up 1\n"), "{response}");
    let response = server.get("/metrics", "Basic d3Jvbmc=").await;
    assert!(response.starts_with("HTTP/1.1 401 ") && response.contains("www-authenticate: Basic"), "{response}");
    assert!(!response.contains("up 1"), "{response}");

    put_password(server.directory.path(), "another");
    let changed = async {
        while !server.get("/metrics", RIGHT).await.starts_with("HTTP/1.1 401 ") {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(DEADLINE, changed).await.expect("the new password does not count");
}

#[tokio::test]
async fn a_response_in_progress_is_finished_at_the_stop() {
    let server = Server::start().await;
    let stopping = async {
        server.late[0].notified().await;
        server.stop.send_replace(true);
        // Connections without a response in progress are closed by then.
        sleep(Duration::from_millis(300)).await;
        server.late[1].notify_one();
    };
    let (response, ()) = tokio::join!(server.get("/late", RIGHT), stopping);
    assert!(response.starts_with("HTTP/1.1 200 ") && response.ends_with("late\n"), "{response}");
    timeout(DEADLINE, server.served).await.expect("it does not stop").unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[test]
fn every_mistake_in_a_file_has_its_line_and_key() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("web.yml");
    let text = "tls_server_config:\n  cert_file: server.pem\nbasic_auth_users:\n  prometheus: secret\n";
    std::fs::write(&file, text).unwrap();
    let errors = WebConfig::check(&file).unwrap_err();
    assert!(errors.mistakes.len() >= 2, "{errors}");
    assert!(errors.mistakes.iter().any(|mistake| mistake.key.starts_with("tls_server_config")), "{errors}");
    assert!(errors.mistakes.iter().any(|mistake| mistake.line == Some(4)), "{errors}");
    assert!(!errors.to_string().contains("secret"), "{errors}");
}
