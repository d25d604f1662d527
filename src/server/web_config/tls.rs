//! The section `tls_server_config`: what it says in Go's names, and the settings of rustls that this makes.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    CipherSuite, NamedGroup, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    server::NoServerSessionStorage,
    version::{TLS12, TLS13},
};
use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use serde_saphyr::Spanned;

use super::{
    FileBytes, Report, WebMistake,
    client::{self, ClientAuth, Roots},
    document::{self, HIDDEN, Text, line, may_be_secret, shown},
    p521::SECP521R1,
    read_bytes,
};

/// What TLS is served with; its files are not read yet.
#[derive(Debug)]
pub(super) struct TlsSettings {
    cert: Pem,
    key: Pem,
    client_ca: Option<Pem>,
    client_auth: ClientAuth,
    allowed_sans: Option<Vec<String>>,
    /// Those of TLS 1.2, the preferred first; `None` is what rustls prefers.
    cipher_suites: Option<Vec<CipherSuite>>,
    groups: Option<Vec<NamedGroup>>,
    versions: Versions,
    ignore_client_order: bool,
}

/// Something in PEM form and where it is.
#[derive(Debug)]
struct Pem {
    key: &'static str,
    line: Option<usize>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Inline(SecretString),
    File {
        path: PathBuf,
        /// It in a message.
        shown: String,
    },
}

/// What the files of the settings hold.
pub(super) struct Material {
    cert: FileBytes,
    key: FileBytes,
    client_ca: Option<FileBytes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    Tls10,
    Tls11,
    Tls12,
    Tls13,
}

/// Those that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Versions {
    Only12,
    Only13,
    Both,
}

const VERSIONS: [(&str, Version); 4] =
    [("TLS10", Version::Tls10), ("TLS11", Version::Tls11), ("TLS12", Version::Tls12), ("TLS13", Version::Tls13)];

/// The cipher suites that Go knows by these names.
const CIPHERS: [(&str, Cipher); 17] = [
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", Cipher::Tls12(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Cipher::Tls12(CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256)),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", Cipher::Tls12(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384)),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", Cipher::Tls12(CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384)),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        Cipher::Tls12(CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        Cipher::Tls12(CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ),
    ("TLS_AES_128_GCM_SHA256", Cipher::Tls13),
    ("TLS_AES_256_GCM_SHA384", Cipher::Tls13),
    ("TLS_CHACHA20_POLY1305_SHA256", Cipher::Tls13),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", Cipher::Lacking),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", Cipher::Lacking),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", Cipher::Lacking),
    ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", Cipher::Lacking),
    ("TLS_RSA_WITH_AES_128_CBC_SHA", Cipher::Lacking),
    ("TLS_RSA_WITH_AES_256_CBC_SHA", Cipher::Lacking),
    ("TLS_RSA_WITH_AES_128_GCM_SHA256", Cipher::Lacking),
    ("TLS_RSA_WITH_AES_256_GCM_SHA384", Cipher::Lacking),
];

#[derive(Debug, Clone, Copy)]
enum Cipher {
    Tls12(CipherSuite),
    /// Always on where TLS 1.3 is: as in Go, nobody can choose among these.
    Tls13,
    /// Without forward secrecy or authenticated encryption, so rustls does not have it.
    Lacking,
}

/// Without one of them no client can speak HTTP/2 over TLS 1.2.
const HTTP2_CIPHERS: [CipherSuite; 2] =
    [CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256];

/// The curves that Go knows by these names.
const CURVES: [(&str, Option<NamedGroup>); 4] = [
    ("CurveP256", Some(NamedGroup::secp256r1)),
    ("CurveP384", Some(NamedGroup::secp384r1)),
    ("CurveP521", Some(NamedGroup::secp521r1)),
    ("X25519", Some(NamedGroup::X25519)),
];

const SECTION: &str = "tls_server_config";

/// A value that is there and not blank.
fn given(text: &Text) -> Option<&Spanned<String>> {
    text.as_ref().filter(|text| !text.value.is_empty())
}

impl TlsSettings {
    /// `None` where the section asks for no TLS. A mistake in it is no such thing.
    pub(super) fn read_section(
        section: document::Tls,
        folder: &Path,
        http2: bool,
        report: &mut Report,
    ) -> Option<Self> {
        // Also without TLS: what nobody knows is a mistake wherever it is.
        let (cipher_suites, lacking_ciphers) = read_ciphers(section.cipher_suites.as_deref(), report);
        let (groups, lacking_curves) = read_curves(section.curve_preferences.as_deref(), report);
        let min = read_version("min_version", &section.min_version, report);
        let max = read_version("max_version", &section.max_version, report);

        let file = |key, text: &Text| {
            let text = given(text)?;
            let path = folder.join(&text.value);
            let shown = if may_be_secret(&text.value) { HIDDEN.to_owned() } else { format!("({})", path.display()) };
            let source = Source::File { path, shown };
            Some(Pem { key, line: line(text.referenced.line()), source })
        };
        let inline = |key, text: &Text| {
            let text = given(text)?;
            let source = Source::Inline(text.value.as_str().into());
            Some(Pem { key, line: line(text.referenced.line()), source })
        };
        let inline_key = section.key.filter(|key| !key.value.expose_secret().is_empty()).map(|key| Pem {
            key: "key",
            line: line(key.referenced.line()),
            source: Source::Inline(key.value),
        });
        // A file wins.
        let cert = file("cert_file", &section.cert_file).or_else(|| inline("cert", &section.cert));
        let key = file("key_file", &section.key_file).or(inline_key);
        let client_ca =
            file("client_ca_file", &section.client_ca_file).or_else(|| inline("client_ca", &section.client_ca));
        let auth = given(&section.client_auth_type);
        if cert.is_none() && key.is_none() && client_ca.is_none() && auth.is_none() {
            if section.client_allowed_sans.is_some() {
                report.warnings.push(
                    "tls_server_config.client_allowed_sans has no effect: without TLS no client certificate is asked for".to_owned(),
                );
            }
            return None;
        }

        let client_auth = auth.map_or(Some(ClientAuth::None), |auth| {
            let known = ClientAuth::NAMED.iter().find(|(name, _)| *name == auth.value).map(|(_, auth)| *auth);
            if known.is_none() {
                let names = ClientAuth::NAMED.map(|(name, _)| name).join(", ");
                let text = format!("invalid ClientAuth: {}; it can be {names}", shown(&auth.value));
                report.mistake(line(auth.referenced.line()), "tls_server_config.client_auth_type", text);
            }
            known
        });
        if cert.is_none() {
            report.mistake(None, SECTION, "missing one of cert or cert_file: TLS needs a certificate");
        }
        if key.is_none() && cert.is_some() {
            report.mistake(None, SECTION, "missing one of key or key_file: TLS needs the certificate's private key");
        }
        if let (Some(ca), Some(ClientAuth::None)) = (&client_ca, client_auth) {
            let text = "client CA's have been configured without a Client Auth Policy: set client_auth_type, to RequireAndVerifyClientCert to let nobody else in";
            report.mistake(ca.line, &format!("{SECTION}.{}", ca.key), text);
        }
        if let (Some(_), Some(ClientAuth::None)) = (&section.client_allowed_sans, client_auth) {
            report.warnings.push("tls_server_config.client_allowed_sans has no effect, since no client is asked for a certificate: set client_auth_type".to_owned());
        }
        let versions = read_versions(min, max, report);
        let skipped = |what: &str, names: &[&str]| {
            format!("{what} that this program's TLS library does not have are left out: {}", names.join(", "))
        };
        if !lacking_ciphers.is_empty() {
            report.warnings.push(skipped("Cipher suites", &lacking_ciphers));
        }
        if !lacking_curves.is_empty() {
            report.warnings.push(skipped("Curves", &lacking_curves));
        }
        let at = |list: &Option<Vec<Spanned<String>>>| {
            list.iter().flatten().next().and_then(|first| line(first.referenced.line()))
        };
        if groups.as_ref().is_some_and(Vec::is_empty) {
            let text = "no curve remains: CurveP521 is not supported by this program's TLS library; add CurveP256, CurveP384 or X25519";
            report.mistake(at(&section.curve_preferences), "tls_server_config.curve_preferences", text);
        }
        if let Some(suites) = &cipher_suites {
            let key = "tls_server_config.cipher_suites";
            let at = at(&section.cipher_suites);
            if suites.is_empty() && versions == Some(Versions::Only12) {
                let text = "no cipher suite of TLS 1.2 remains, and max_version is TLS12; add TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
                report.mistake(at, key, text);
            } else if http2
                && versions != Some(Versions::Only13)
                && !HTTP2_CIPHERS.iter().any(|needed| suites.contains(needed))
            {
                let text = "TLSConfig.CipherSuites is missing an HTTP/2-required AES_128_GCM_SHA256 cipher (need at least one of TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256); add one, or set http_server_config.http2 to false or min_version to TLS13";
                report.mistake(at, key, text);
            }
        }
        Some(Self {
            cert: cert?,
            key: key?,
            client_ca,
            client_auth: client_auth?,
            allowed_sans: section.client_allowed_sans,
            cipher_suites,
            groups,
            versions: versions?,
            ignore_client_order: section.prefer_server_cipher_suites.unwrap_or(true),
        })
    }

    /// Reads the files.
    ///
    /// # Errors
    /// With each that cannot be read.
    pub(super) fn read(&self) -> Result<Material, Vec<WebMistake>> {
        let (cert, key) = (self.cert.read(), self.key.read());
        let client_ca = self.client_ca.as_ref().map(Pem::read).transpose();
        match (cert, key, client_ca) {
            (Ok(cert), Ok(key), Ok(client_ca)) => Ok(Material { cert, key, client_ca }),
            (cert, key, client_ca) => Err([cert.err(), key.err(), client_ca.err()].into_iter().flatten().collect()),
        }
    }

    /// What rustls serves with.
    ///
    /// # Errors
    /// If the certificate, its key or the certificate authorities cannot be used.
    pub(super) fn build(&self, material: &Material, http2: bool) -> Result<ServerConfig, WebMistake> {
        let provider = Arc::new(self.provider());
        let certificates = certificates(&material.cert)
            .map_err(|error| self.cert.mistake(format!("failed to load X509KeyPair: {error}")))?;
        let key = PrivateKeyDer::from_pem_slice(material.key.expose_secret()).map_err(|error| {
            let error = match error {
                pem::Error::NoItemsFound => "it holds no private key in PEM form (one with a password cannot be used)",
                _ => "its PEM is damaged",
            };
            self.key.mistake(format!("failed to load X509KeyPair: {error}"))
        })?;
        let versions = match self.versions {
            Versions::Only12 => &[&TLS12][..],
            Versions::Only13 => &[&TLS13],
            Versions::Both => &[&TLS12, &TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| self.cert.mistake(format!("these TLS settings cannot be used together: {error}")))?;
        let builder = if self.client_auth == ClientAuth::None {
            builder.with_no_client_auth()
        } else {
            let verifier =
                client::verifier(self.client_auth, self.roots(material)?, self.allowed_sans.clone(), provider);
            builder.with_client_cert_verifier(verifier)
        };
        let mut config = builder.with_single_cert(certificates, key).map_err(|error| {
            let error = match error {
                rustls::Error::InconsistentKeys(_) => {
                    "private key does not match public key of the certificate".to_owned()
                }
                error => error.to_string(),
            };
            self.key.mistake(format!("failed to load X509KeyPair: {error}"))
        })?;
        if self.client_auth != ClientAuth::None {
            // A session that is resumed shows no certificate, and what it showed before may have expired since.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        config.ignore_client_order = self.ignore_client_order;
        let protocols: &[&[u8]] = if http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }

    fn provider(&self) -> CryptoProvider {
        let mut provider = aws_lc_rs::default_provider();
        if let Some(wanted) = &self.cipher_suites {
            let mut suites = std::mem::take(&mut provider.cipher_suites);
            let of_tls12 = suites.extract_if(.., |suite| suite.tls13().is_none()).collect::<Vec<_>>();
            provider.cipher_suites = suites;
            let find = |wanted: &CipherSuite| of_tls12.iter().find(|suite| suite.suite() == *wanted).copied();
            provider.cipher_suites.extend(wanted.iter().filter_map(find));
        }
        if let Some(wanted) = &self.groups {
            let mut groups = std::mem::take(&mut provider.kx_groups);
            groups.push(SECP521R1);
            let find = |wanted: &NamedGroup| groups.iter().find(|group| group.name() == *wanted).copied();
            provider.kx_groups = wanted.iter().filter_map(find).collect();
        }
        provider
    }

    /// The certificate authorities of clients. As in Go, those of the system where none is named.
    fn roots(&self, material: &Material) -> Result<Roots, WebMistake> {
        let mut store = RootCertStore::empty();
        if !self.client_auth.verifies() {
            return Ok(Roots { store, named: Vec::new() });
        }
        let (Some(ca), Some(bytes)) = (&self.client_ca, &material.client_ca) else {
            let system = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(system.certs);
            if store.is_empty() {
                tracing::warn!(
                    "No certificate authority of clients is configured and this system has none, so no client certificate is accepted; set client_ca_file."
                );
            }
            return Ok(Roots { store, named: Vec::new() });
        };
        let fail = |error| ca.mistake(format!("the client CA cannot be used: {error}"));
        let named = certificates(bytes).map_err(fail)?;
        for certificate in &named {
            store.add(certificate.clone()).map_err(|_| fail("it holds a certificate that cannot be read"))?;
        }
        Ok(Roots { store, named })
    }
}

impl Pem {
    fn read(&self) -> Result<FileBytes, WebMistake> {
        match &self.source {
            Source::Inline(text) => Ok(SecretBox::new(Box::new(text.expose_secret().as_bytes().to_vec()))),
            Source::File { path, shown } => {
                read_bytes(path).map_err(|error| self.mistake(format!("failed to read {} {shown}: {error}", self.key)))
            }
        }
    }

    fn mistake(&self, text: String) -> WebMistake {
        WebMistake { line: self.line, key: format!("{SECTION}.{}", self.key), text }
    }
}

impl Material {
    /// All of it, each part with whether it is there.
    pub(super) fn parts(&self) -> [Option<&[u8]>; 3] {
        [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()]
            .map(|part| part.map(|bytes| bytes.expose_secret().as_slice()))
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Material([REDACTED])")
    }
}

fn certificates(pem: &FileBytes) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.expose_secret()).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err("it holds no certificate in PEM form"),
        Ok(certificates) => Ok(certificates),
        Err(_) => Err("its PEM is damaged"),
    }
}

/// The suites of TLS 1.2 that are wanted, if any are named, and what is named and lacking.
fn read_ciphers(
    names: Option<&[Spanned<String>]>,
    report: &mut Report,
) -> (Option<Vec<CipherSuite>>, Vec<&'static str>) {
    let (mut suites, mut lacking, mut all_known) = (Vec::new(), Vec::new(), true);
    for name in names.unwrap_or_default() {
        match CIPHERS.iter().find(|(known, _)| *known == name.value) {
            Some((_, Cipher::Tls12(suite))) => suites.push(*suite),
            Some((_, Cipher::Tls13)) => {}
            Some((known, Cipher::Lacking)) => lacking.push(*known),
            None => {
                all_known = false;
                let text = format!(
                    "unknown cipher: {}; the ciphers of TLS 1.2 are {}",
                    shown(&name.value),
                    CIPHERS[..6].iter().map(|(known, _)| *known).collect::<Vec<_>>().join(", ")
                );
                report.mistake(line(name.referenced.line()), "tls_server_config.cipher_suites", text);
            }
        }
    }
    // With one that nobody knows, what is left says nothing.
    (names.is_some_and(|names| !names.is_empty() && all_known).then_some(suites), lacking)
}

fn read_curves(names: Option<&[Spanned<String>]>, report: &mut Report) -> (Option<Vec<NamedGroup>>, Vec<&'static str>) {
    let (mut groups, mut lacking) = (Vec::new(), Vec::new());
    for name in names.unwrap_or_default() {
        match CURVES.iter().find(|(known, _)| *known == name.value) {
            Some((_, Some(group))) => groups.push(*group),
            Some((known, None)) => lacking.push(*known),
            None => {
                let text = format!(
                    "unknown curve: {}; the curves are {}",
                    shown(&name.value),
                    CURVES.map(|(known, _)| known).join(", ")
                );
                report.mistake(line(name.referenced.line()), "tls_server_config.curve_preferences", text);
            }
        }
    }
    // One that nobody knows is a mistake already.
    let all_unknown = groups.is_empty() && lacking.is_empty();
    (names.is_some_and(|names| !names.is_empty() && !all_unknown).then_some(groups), lacking)
}

/// A version with its line, if it is there and known.
fn read_version(key: &str, text: &Text, report: &mut Report) -> Option<(Version, Option<usize>)> {
    let text = text.as_ref()?;
    let at = line(text.referenced.line());
    let known = VERSIONS.iter().find(|(name, _)| *name == text.value);
    if known.is_none() {
        let names = VERSIONS.map(|(name, _)| name).join(", ");
        let text = format!("unknown TLS version: {}; the versions are {names}", shown(&text.value));
        report.mistake(at, &format!("{SECTION}.{key}"), text);
    }
    known.map(|(_, version)| (*version, at))
}

fn read_versions(
    min: Option<(Version, Option<usize>)>,
    max: Option<(Version, Option<usize>)>,
    report: &mut Report,
) -> Option<Versions> {
    let (min, _) = min.unwrap_or((Version::Tls12, None));
    let (max, at) = max.unwrap_or((Version::Tls13, None));
    let key = "tls_server_config.max_version";
    if max < Version::Tls12 {
        report.mistake(
            at,
            key,
            "TLS before 1.2 is not supported, since it is broken; the highest version must be TLS12 or TLS13",
        );
        return None;
    }
    if min > max {
        report.mistake(at, key, "no TLS version remains: max_version is lower than min_version");
        return None;
    }
    if min < Version::Tls12 {
        report.warnings.push(
            "tls_server_config.min_version is lower than TLS12, which is the lowest that is supported, so TLS12 it is"
                .to_owned(),
        );
    }
    Some(match (min, max) {
        (Version::Tls13, _) => Versions::Only13,
        (_, Version::Tls12) => Versions::Only12,
        _ => Versions::Both,
    })
}
