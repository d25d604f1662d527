//! The section `tls_server_config`: what it says in Go's names, and the settings of rustls that this makes.

use std::{path::Path, sync::Arc};

use rustls::{
    CipherSuite, NamedGroup, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, pem::PemObject as _},
    server::NoServerSessionStorage,
    version::{TLS12, TLS13},
};
use secrecy::ExposeSecret as _;
use serde_saphyr::Spanned;

use super::{
    certificate,
    client_auth::{self, Authorities, ClientAuth},
    document::{self, Text},
    pem::{DAMAGED, Material, NO_CERTIFICATE, Pem, SECTION, certificates, private_key},
    report::{Report, WebMistake, line, shown},
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

/// Which rules of `tls_server_config` keep clients out.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ClientRules {
    /// They need a certificate.
    certificate: bool,
    /// It has to come from an authority that is named.
    authority: bool,
    /// It has to have a name that is allowed.
    names: bool,
}

impl ClientRules {
    /// Takes these as well.
    pub(super) const fn add(&mut self, more: Self) {
        self.certificate |= more.certificate;
        self.authority |= more.authority;
        self.names |= more.names;
    }
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

/// The curves that Go knows by these names; `None` is one that rustls does not have.
const CURVES: [(&str, Option<NamedGroup>); 4] = [
    ("CurveP256", Some(NamedGroup::secp256r1)),
    ("CurveP384", Some(NamedGroup::secp384r1)),
    ("CurveP521", None),
    ("X25519", Some(NamedGroup::X25519)),
];

impl TlsSettings {
    /// `None` where the section asks for no TLS, or lacks what TLS needs, which is a mistake. For what is wrong
    /// otherwise something stands in, so that the files are looked at too.
    pub(super) fn read_section(
        section: document::Tls,
        folder: &Path,
        http2: bool,
        report: &mut Report,
    ) -> Option<Self> {
        // Also without TLS: what nobody knows is a mistake wherever it is.
        let suites = section.cipher_suites.as_deref().unwrap_or_default();
        let first_suite = suites.first().and_then(|first| line(first.referenced.line()));
        let suites = read_names(("cipher_suites", "unknown cipher"), suites, &CIPHERS, report);
        let curves = section.curve_preferences.as_deref().unwrap_or_default();
        let first_curve = curves.first().and_then(|first| line(first.referenced.line()));
        let curves = read_names(("curve_preferences", "unknown curve"), curves, &CURVES, report);
        let mut version = |key, text: &Text| {
            let versions = read_names((key, "unknown TLS version"), text.as_slice(), &VERSIONS, report)?;
            Some((versions[0].1, text.as_ref().and_then(|text| line(text.referenced.line()))))
        };
        let (min, max) = (version("min_version", &section.min_version), version("max_version", &section.max_version));

        if !section.asks_for_tls() {
            if section.client_allowed_sans.is_some() {
                report.warnings.push("tls_server_config.client_allowed_sans has no effect: without TLS no client certificate is asked for".to_owned());
            }
            return None;
        }
        let cert = Pem::of(["cert_file", "cert"], section.cert_file, section.cert, folder);
        let key = Pem::of(["key_file", "key"], section.key_file, section.key, folder);
        let client_ca = Pem::of(["client_ca_file", "client_ca"], section.client_ca_file, section.client_ca, folder);
        let auth = section.client_auth_type.filter(|auth| !auth.value.is_empty());
        let known = read_names(("client_auth_type", "invalid ClientAuth"), auth.as_slice(), &ClientAuth::NAMED, report);
        let client_auth = match known {
            Some(known) => known[0].1,
            None if auth.is_none() => ClientAuth::None,
            None => ClientAuth::RequireAndVerify,
        };
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
        let versions = read_versions(min, max, report);
        Some(Self {
            cert: cert?,
            key: key?,
            client_ca,
            client_auth,
            allowed_sans: section.client_allowed_sans,
            cipher_suites: suites.and_then(|suites| read_suites(&suites, first_suite, versions, http2, report)),
            groups: curves.and_then(|curves| read_curves(&curves, first_curve, report)),
            versions,
            ignore_client_order: section.prefer_server_cipher_suites.unwrap_or(true),
        })
    }

    /// What keeps clients out.
    pub(super) fn client_rules(&self) -> ClientRules {
        let names = self.client_auth != ClientAuth::None && self.allowed_sans.is_some();
        let demands = matches!(self.client_auth, ClientAuth::RequireAny | ClientAuth::RequireAndVerify);
        ClientRules {
            certificate: demands || names,
            authority: self.client_auth.verifies() && self.client_ca.is_some(),
            names,
        }
    }

    /// What of these rules is not there: the key, and what that means. Another policy that is named is no lack.
    pub(super) fn lacking(&self, rules: ClientRules) -> Vec<(&'static str, &'static str)> {
        let asks = self.client_auth != ClientAuth::None;
        let lacking = [
            (
                rules.certificate && !asks,
                "tls_server_config.client_auth_type",
                "clients are not asked for certificates any more, but this program has demanded them",
            ),
            (
                rules.authority && self.client_auth.verifies() && self.client_ca.is_none(),
                "tls_server_config.client_ca_file",
                "there is no client CA any more, and this program has trusted no other",
            ),
            (
                rules.names && asks && self.allowed_sans.is_none(),
                "tls_server_config.client_allowed_sans",
                "there are no names any more, but this program has let in clients of some names alone",
            ),
        ];
        lacking.into_iter().filter(|(lacks, ..)| *lacks).map(|(_, key, what)| (key, what)).collect()
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

    /// What rustls serves with, and what is odd about the files.
    ///
    /// # Errors
    /// With each of certificate, key and certificate authorities that cannot be used.
    pub(super) fn build(
        &self,
        material: &Material,
        http2: bool,
    ) -> Result<(ServerConfig, Vec<String>), Vec<WebMistake>> {
        let mut warnings = Vec::new();
        let certificates = certificates(&material.cert).map_err(|error| self.cert.unusable(error));
        let key = private_key(&material.key).map_err(|error| self.key.unusable(error));
        let authorities = self.authorities(material, &mut warnings);
        let (certificates, key, authorities) = match (certificates, key, authorities) {
            (Ok(certificates), Ok(key), Ok(authorities)) => (certificates, key, authorities),
            (certificates, key, authorities) => {
                return Err([certificates.err(), key.err(), authorities.err()].into_iter().flatten().collect());
            }
        };
        let provider = Arc::new(self.provider());
        let versions = match self.versions {
            Versions::Only12 => &[&TLS12][..],
            Versions::Only13 => &[&TLS13],
            Versions::Both => &[&TLS12, &TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| vec![self.cert.mistake(format!("these TLS settings cannot be used together: {error}"))])?;
        let builder = if self.client_auth == ClientAuth::None {
            builder.with_no_client_auth()
        } else {
            let verifier = client_auth::verifier(self.client_auth, authorities, self.allowed_sans.clone(), provider);
            builder.with_client_cert_verifier(verifier)
        };
        let is_version_3 = certificate::is_version_3(&certificates[0]);
        let mut config = builder.with_single_cert(certificates, key).map_err(|error| {
            vec![match error {
                rustls::Error::InvalidCertificate(_) if !is_version_3 => self.cert.unusable("it is not an X.509 version 3 certificate, as `openssl x509 -req` makes none without -extfile; sign it again with -extfile and its names in a subjectAltName"),
                rustls::Error::InvalidCertificate(error) => self.cert.unusable(format!("{error}; have it issued again")),
                rustls::Error::InconsistentKeys(_) => self.key.unusable("private key does not match public key of the certificate; name the key that the certificate was issued for"),
                error => self.key.unusable(error.to_string()),
            }]
        })?;
        if self.client_auth != ClientAuth::None {
            // A session that is resumed shows no certificate, and what it showed before may have expired since.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        config.ignore_client_order = self.ignore_client_order;
        let protocols: &[&[u8]] = if http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        warnings.extend(self.key.warning_if_open());
        Ok((config, warnings))
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
            let groups = std::mem::take(&mut provider.kx_groups);
            let find = |wanted: &NamedGroup| groups.iter().find(|group| group.name() == *wanted).copied();
            provider.kx_groups = wanted.iter().filter_map(find).collect();
        }
        provider
    }

    /// The certificate authorities of clients. As in Go, those of the system where none is named.
    fn authorities(&self, material: &Material, warnings: &mut Vec<String>) -> Result<Authorities, WebMistake> {
        let mut store = RootCertStore::empty();
        if !self.client_auth.verifies() {
            return Ok(Authorities { store, are_named: false });
        }
        let (Some(ca), Some(bytes)) = (&self.client_ca, &material.client_ca) else {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if store.is_empty() {
                warnings.push("No certificate authority of clients is configured and this system has none, so no client certificate is accepted; set tls_server_config.client_ca_file".to_owned());
            }
            return Ok(Authorities { store, are_named: false });
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
        Ok(Authorities { store, are_named: true })
    }
}

/// What the names of a list stand for. `None` if there are none; and with one that nobody knows, for what is left says
/// nothing then.
fn read_names<T: Copy>(
    (key, unknown): (&str, &str),
    names: &[Spanned<String>],
    known: &[(&'static str, T)],
    report: &mut Report,
) -> Option<Vec<(&'static str, T)>> {
    let mut found = Vec::new();
    for name in names {
        match known.iter().find(|(known, _)| *known == name.value) {
            Some(known) => found.push(*known),
            None => {
                let known: Vec<_> = known.iter().map(|(known, _)| *known).collect();
                let text = format!("{unknown}: {}; known are {}", shown(&name.value), known.join(", "));
                report.mistake(line(name.referenced.line()), &format!("{SECTION}.{key}"), text);
            }
        }
    }
    (!found.is_empty() && found.len() == names.len()).then_some(found)
}

/// The suites of TLS 1.2 among those that are wanted; `None` if that leaves nothing to speak.
fn read_suites(
    wanted: &[(&'static str, Cipher)],
    at: Option<usize>,
    versions: Versions,
    http2: bool,
    report: &mut Report,
) -> Option<Vec<CipherSuite>> {
    let key = "tls_server_config.cipher_suites";
    let is_lacking = |(_, cipher): &&(_, Cipher)| matches!(cipher, Cipher::Lacking);
    warn_of_lacking("Cipher suites", wanted.iter().filter(is_lacking), report);
    let of_tls12 = |(_, cipher): &(_, Cipher)| if let Cipher::Tls12(suite) = cipher { Some(*suite) } else { None };
    let suites: Vec<_> = wanted.iter().filter_map(of_tls12).collect();
    if suites.is_empty() && versions == Versions::Only12 {
        let text = "no cipher suite of TLS 1.2 remains, and max_version is TLS12; add TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
        report.mistake(at, key, text);
        return None;
    }
    if http2 && versions != Versions::Only13 && !HTTP2_CIPHERS.iter().any(|needed| suites.contains(needed)) {
        let text = "TLSConfig.CipherSuites is missing an HTTP/2-required AES_128_GCM_SHA256 cipher (need at least one of TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256); add one, or set http_server_config.http2 to false or min_version to TLS13";
        report.mistake(at, key, text);
    }
    Some(suites)
}

/// The curves that are wanted; `None` if none of them is there.
fn read_curves(
    wanted: &[(&'static str, Option<NamedGroup>)],
    at: Option<usize>,
    report: &mut Report,
) -> Option<Vec<NamedGroup>> {
    warn_of_lacking("Curves", wanted.iter().filter(|(_, group)| group.is_none()), report);
    let groups: Vec<_> = wanted.iter().filter_map(|(_, group)| *group).collect();
    if groups.is_empty() {
        let text = "no curve remains; add X25519, CurveP256 or CurveP384";
        report.mistake(at, "tls_server_config.curve_preferences", text);
        return None;
    }
    Some(groups)
}

fn warn_of_lacking<'a, T: 'a>(what: &str, lacking: impl Iterator<Item = &'a (&'static str, T)>, report: &mut Report) {
    let names: Vec<_> = lacking.map(|(name, _)| *name).collect();
    if !names.is_empty() {
        let names = names.join(", ");
        report.warnings.push(format!("{what} that this program's TLS library does not have are left out: {names}"));
    }
}

/// The lowest and the highest, each with its line, if it is there and known.
fn read_versions(
    min: Option<(Version, Option<usize>)>,
    max: Option<(Version, Option<usize>)>,
    report: &mut Report,
) -> Versions {
    let (min, _) = min.unwrap_or((Version::Tls12, None));
    let (max, at) = max.unwrap_or((Version::Tls13, None));
    let key = "tls_server_config.max_version";
    if max < Version::Tls12 {
        let text = "TLS before 1.2 is not supported, since it is broken; the highest version must be TLS12 or TLS13";
        report.mistake(at, key, text);
    } else if min > max {
        report.mistake(at, key, "no TLS version remains: max_version is lower than min_version");
    } else if min < Version::Tls12 {
        report.warnings.push(
            "tls_server_config.min_version is lower than TLS12, which is the lowest that is supported, so TLS12 it is"
                .to_owned(),
        );
    }
    match (min, max) {
        (Version::Tls13, _) => Versions::Only13,
        (_, Version::Tls12) => Versions::Only12,
        _ => Versions::Both,
    }
}
