//! The section `tls_server_config`: what it says in Go's names, and the settings of rustls that this makes.

use std::{path::Path, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use secrecy::ExposeSecret as _;

use super::{
    certificate,
    client_auth::{ClientAuth, Verifier},
    document::{self, Text},
    pem::{DAMAGED, NO_CERTIFICATE, PemSetting, SECTION, TlsFiles, certificates, private_key},
    protocol::{Protocol, read_names},
    report::{Findings, WebMistake},
};

/// What TLS is served with; its files are not read yet.
#[derive(Debug)]
pub(super) struct TlsSettings {
    cert: PemSetting,
    key: PemSetting,
    client_ca: Option<PemSetting>,
    client_auth: ClientAuth,
    allowed_sans: Option<Vec<String>>,
    protocol: Protocol,
}

/// Something that keeps clients out where it is set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Protection {
    pub(super) key: &'static str,
    pub(super) is_there: bool,
    /// It is not there, and nothing says that it is not wanted.
    pub(super) is_gone: bool,
    /// What to say if it was there before.
    pub(super) lost: &'static str,
}

impl TlsSettings {
    /// `None` where the section asks for no TLS, or lacks what TLS needs, which is a mistake. For what is wrong
    /// otherwise something stands in, so that the files are looked at too.
    pub(super) fn read_section(
        section: document::TlsSection,
        directory: &Path,
        http2: bool,
        report: &mut Findings,
    ) -> Option<Self> {
        let protocol = Protocol::read(&section, http2, report);
        if !section.asks_for_tls() {
            if section.client_allowed_sans.is_some() {
                report.warnings.push("tls_server_config.client_allowed_sans has no effect: without TLS no client certificate is asked for".to_owned());
            }
            return None;
        }
        let cert = PemSetting::of(["cert_file", "cert"], section.cert_file, section.cert, directory);
        let key = PemSetting::of(["key_file", "key"], section.key_file, section.key, directory);
        let client_ca =
            PemSetting::of(["client_ca_file", "client_ca"], section.client_ca_file, section.client_ca, directory);
        let client_auth = read_client_auth(section.client_auth_type, report);
        if cert.is_none() {
            report.mistake(None, SECTION, "missing one of cert or cert_file: TLS needs a certificate");
        }
        if key.is_none() && cert.is_some() {
            report.mistake(None, SECTION, "missing one of key or key_file: TLS needs the certificate's private key");
        }
        if let (Some(ca), ClientAuth::None) = (&client_ca, client_auth) {
            let text = "client CA's have been configured without a Client Auth Policy: set client_auth_type, to RequireAndVerifyClientCert to let nobody else in";
            report.mistake(ca.line, &format!("{SECTION}.{}", ca.key), text);
        }
        if section.client_allowed_sans.is_some() && client_auth == ClientAuth::None {
            report.warnings.push("tls_server_config.client_allowed_sans has no effect, since no client is asked for a certificate: set client_auth_type".to_owned());
        }
        let allowed_sans = section.client_allowed_sans;
        Some(Self { cert: cert?, key: key?, client_ca, client_auth, allowed_sans, protocol: protocol? })
    }

    /// What keeps clients out. Another policy that is named is no lack.
    pub(super) fn protections(&self) -> [Protection; 3] {
        let asks = self.client_auth != ClientAuth::None;
        let verifies = self.client_auth.verifies();
        let demands = matches!(self.client_auth, ClientAuth::RequireAny | ClientAuth::RequireAndVerify);
        let (has_names, has_ca) = (self.allowed_sans.is_some(), self.client_ca.is_some());
        [
            Protection {
                key: "tls_server_config.client_auth_type",
                is_there: demands || (asks && has_names),
                is_gone: !asks,
                lost: "clients are not asked for certificates any more, but this program has demanded them",
            },
            Protection {
                key: "tls_server_config.client_ca_file",
                is_there: verifies && has_ca,
                is_gone: verifies && !has_ca,
                lost: "there is no client CA any more, and this program has trusted no other",
            },
            Protection {
                key: "tls_server_config.client_allowed_sans",
                is_there: asks && has_names,
                is_gone: asks && !has_names,
                lost: "there are no names any more, but this program has let in clients of some names alone",
            },
        ]
    }

    /// Reads the files.
    pub(super) fn read(&self) -> Result<TlsFiles, Vec<WebMistake>> {
        let client_ca = self.client_ca.as_ref().map(PemSetting::read).transpose();
        let (cert, key, client_ca) = all(self.cert.read(), self.key.read(), client_ca)?;
        Ok(TlsFiles { cert, key, client_ca })
    }

    /// What rustls serves with, and what is odd about the files.
    pub(super) fn build(
        &self,
        material: &TlsFiles,
        http2: bool,
    ) -> Result<(ServerConfig, Vec<String>), Vec<WebMistake>> {
        let mut warnings = Vec::new();
        let certificates = certificates(&material.cert).map_err(|error| self.cert.unusable(error));
        let key = private_key(&material.key).map_err(|error| self.key.unusable(error));
        let provider = Arc::new(self.protocol.provider());
        let chains = self.chains(material, &provider, &mut warnings);
        let (certificates, key, chains) = all(certificates, key, chains)?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(self.protocol.versions)
            .map_err(|error| vec![self.cert.mistake(format!("these TLS settings cannot be used together: {error}"))])?;
        let builder = if self.client_auth == ClientAuth::None {
            builder.with_no_client_auth()
        } else {
            let algorithms = provider.signature_verification_algorithms;
            let allowed_sans = self.allowed_sans.clone();
            builder.with_client_cert_verifier(Arc::new(Verifier {
                auth: self.client_auth,
                chains,
                allowed_sans,
                algorithms,
            }))
        };
        let is_version_3 = certificate::is_version_3(&certificates[0]);
        let mut config = builder
            .with_single_cert(certificates, key)
            .map_err(|error| vec![self.unusable_pair(error, is_version_3)])?;
        if self.client_auth != ClientAuth::None {
            // A session that is resumed shows no certificate, and what it showed before may have expired since.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        config.ignore_client_order = self.protocol.ignore_client_order;
        let protocols: &[&[u8]] = if http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        warnings.extend(self.key.warning_if_open());
        Ok((config, warnings))
    }

    /// Why this certificate with this key is of no use.
    fn unusable_pair(&self, error: rustls::Error, is_version_3: bool) -> WebMistake {
        match error {
            rustls::Error::InvalidCertificate(_) if !is_version_3 => self.cert.unusable("it is not an X.509 version 3 certificate, as `openssl x509 -req` makes none without -extfile; sign it again with -extfile and its names in a subjectAltName"),
            rustls::Error::InvalidCertificate(error) => self.cert.unusable(format!("{error}; have it issued again")),
            rustls::Error::InconsistentKeys(_) => self.key.unusable("private key does not match public key of the certificate; name the key that the certificate was issued for"),
            error => self.key.unusable(error),
        }
    }

    /// What verifies who has issued a certificate of a client; `None` without any authority. As in Go, those of the system
    /// are trusted where none is named.
    fn chains(
        &self,
        material: &TlsFiles,
        provider: &Arc<CryptoProvider>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, WebMistake> {
        if !self.client_auth.verifies() {
            return Ok(None);
        }
        let mut store = RootCertStore::empty();
        let builder = |store| WebPkiClientVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider));
        let (Some(ca), Some(bytes)) = (&self.client_ca, &material.client_ca) else {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if store.is_empty() {
                warnings.push("No certificate authority of clients is configured and this system has none, so no client certificate is accepted; set tls_server_config.client_ca_file".to_owned());
            }
            // Clients choose a certificate by the names that they are sent. These would be a hundred.
            return Ok(builder(store).clear_root_hint_subjects().build().ok());
        };
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(bytes.expose_secret()).collect();
        let found = certificates.len();
        let (added, _) = store.add_parsable_certificates(certificates.into_iter().flatten());
        let left_out = found - added;
        if added == 0 {
            let why = if left_out == 0 { NO_CERTIFICATE } else { DAMAGED };
            return Err(ca.mistake(format!("the client CA cannot be used: {why}")));
        }
        if left_out > 0 {
            let key = ca.key;
            warnings.push(format!("{SECTION}.{key}: {left_out} of its certificates cannot be read and are left out; copy them again, or take them out"));
        }
        Ok(builder(store).build().ok())
    }
}

/// What is asked of clients. For an unknown policy the strictest stands in.
fn read_client_auth(text: Text, report: &mut Findings) -> ClientAuth {
    let text = text.filter(|text| !text.value.is_empty());
    let known = read_names(("client_auth_type", "invalid ClientAuth"), text.as_slice(), &ClientAuth::NAMED, report);
    match known.as_deref() {
        Some([(_, known), ..]) => *known,
        _ if text.is_none() => ClientAuth::None,
        _ => ClientAuth::RequireAndVerify,
    }
}

/// All three, or every mistake in them.
fn all<A, B, C>(
    a: Result<A, WebMistake>,
    b: Result<B, WebMistake>,
    c: Result<C, WebMistake>,
) -> Result<(A, B, C), Vec<WebMistake>> {
    match (a, b, c) {
        (Ok(a), Ok(b), Ok(c)) => Ok((a, b, c)),
        (a, b, c) => Err([a.err(), b.err(), c.err()].into_iter().flatten().collect()),
    }
}
