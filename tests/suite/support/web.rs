//! Web configurations of tests, with the certificates that they name, and clients that speak TLS.

use std::{
    fs::Permissions,
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{SanType, string::Ia5String};
use rustls::{
    ALL_VERSIONS, ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    Daemon,
    authority::{Authority, Identity},
};

pub(crate) const ALICE: (&str, &str) = ("alice", "wonderland");
pub(crate) const BOB: (&str, &str) = ("bob", "builder");

/// A directory with every file that the configurations of `tests/web-config` name.
pub(crate) struct Directory {
    directory: tempfile::TempDir,
    authority: Authority,
    pub(crate) client: Identity,
    hashes: [String; 2],
}

impl Directory {
    pub(crate) fn new() -> Self {
        let authority = Authority::new("The authority of a test");
        let client = authority.issue(vec![
            SanType::DnsName(ia5("prometheus.example")),
            SanType::Rfc822Name(ia5("prometheus@example.com")),
            SanType::URI(ia5("spiffe://example.com/prometheus")),
            SanType::IpAddress("2001:db8::7".parse().unwrap()),
        ]);
        let hash = |password: &str| bcrypt::hash(password, 4).unwrap();
        let made = Self {
            directory: tempfile::tempdir().unwrap(),
            authority,
            client,
            hashes: [ALICE, BOB].map(|(_, password)| hash(password)),
        };
        let server = made.server();
        made.put_server(&server);
        made.write("ca.pem", &made.authority.pem());
        made.write("other.key", &made.server().key);
        made.write("client.pem", &made.client.certificate);
        made.write("client.key", &made.client.key);
        made
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        // The daemon could look at half of it.
        let half_written = self.path("half-written");
        std::fs::write(&half_written, text).unwrap();
        if name.ends_with(".key") {
            std::fs::set_permissions(&half_written, Permissions::from_mode(0o600)).unwrap();
        }
        std::fs::rename(half_written, self.path(name)).unwrap();
    }

    /// Another certificate for this machine.
    pub(crate) fn server(&self) -> Identity {
        self.authority.issue(vec![SanType::DnsName(ia5("localhost")), SanType::IpAddress("127.0.0.1".parse().unwrap())])
    }

    pub(crate) fn put_server(&self, server: &Identity) {
        self.write("server.pem", &server.certificate);
        self.write("server.key", &server.key);
    }

    /// What a file of `tests/web-config` says, once what only a test can know is put in.
    pub(crate) fn fill_in(&self, text: &str) -> String {
        let inline = |name| std::fs::read_to_string(self.path(name)).unwrap().trim_end().replace('\n', "\n    ");
        text.replace("HASH_OF_ALICE", &self.hashes[0])
            .replace("HASH_OF_BOB", &self.hashes[1])
            .replace("    CERTIFICATE", &format!("    {}", inline("server.pem")))
            .replace("    KEY", &format!("    {}", inline("server.key")))
    }

    /// Puts a file of `tests/web-config` where the daemon looks for its web configuration.
    pub(crate) fn put(&self, name: &str) -> PathBuf {
        let text = std::fs::read_to_string(corpus().join(name)).unwrap();
        self.put_text(&text)
    }

    pub(crate) fn put_text(&self, text: &str) -> PathBuf {
        self.write("web.yml", &self.fill_in(text));
        self.path("web.yml")
    }

    /// A client that trusts this authority, and has a certificate if it is given one.
    pub(crate) fn tls(&self, identity: Option<&Identity>) -> ClientConfig {
        self.tls_of(identity, aws_lc_rs::default_provider(), ALL_VERSIONS)
    }

    /// The same, with this cryptography and these versions alone.
    pub(crate) fn tls_of(
        &self,
        identity: Option<&Identity>,
        provider: CryptoProvider,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.pem().as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(versions);
        let config = config.unwrap().with_root_certificates(roots);
        match identity {
            None => config.with_no_client_auth(),
            Some(Identity { certificate, key }) => {
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                config.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        }
    }
}

pub(crate) fn ia5(text: &str) -> Ia5String {
    text.try_into().unwrap()
}

/// Where the configurations are that have an expected outcome.
pub(crate) fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/web-config")
}

pub(crate) async fn connect(daemon: &Daemon, tls: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(daemon.address()).await?;
    TlsConnector::from(Arc::new(tls)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// The whole answer to a GET over TLS, on a connection of its own.
pub(crate) async fn get(daemon: &Daemon, tls: ClientConfig, path: &str, headers: &str) -> io::Result<String> {
    let mut stream = connect(daemon, tls).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// The same without TLS.
pub(crate) async fn get_plain(address: &str, path: &str, headers: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The header of somebody who says who they are.
pub(crate) fn basic((user, password): (&str, &str)) -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    format!("authorization: Basic {}\r\n", BASE64_STANDARD.encode(format!("{user}:{password}")))
}
