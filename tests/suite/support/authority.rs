//! Certificate authorities of tests, and the certificates that they issue.

use std::sync::Arc;

use rcgen::{Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType, date_time_ymd};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivateKeyDer},
};

use super::fault_proxy::Upstream;

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
    /// It differs from another one in its name only.
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
    pub(crate) fn tls(&self, name: &str, years: [i32; 2]) -> Upstream {
        Upstream::Tls(self.acceptor(name, years, &[]))
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
