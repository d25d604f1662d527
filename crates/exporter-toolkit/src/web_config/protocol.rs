//! Which versions, cipher suites and curves TLS is spoken with, by Go's names.

use rustls::{
    CipherSuite, NamedGroup, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs},
    version::{TLS12, TLS13},
};
use serde_saphyr::Spanned;

use super::{
    document::{self, Text},
    pem::SECTION,
    report::{Findings, line, shown},
};

/// How TLS is spoken.
#[derive(Debug)]
pub(super) struct Protocol {
    pub(super) versions: &'static [&'static SupportedProtocolVersion],
    /// Those of TLS 1.2, the preferred first; `None` is what rustls prefers.
    cipher_suites: Option<Vec<SupportedCipherSuite>>,
    groups: Option<Vec<&'static dyn SupportedKxGroup>>,
    pub(super) ignore_client_order: bool,
}

/// By their names, from the lowest up.
const VERSIONS: [(&str, u8); 4] = [("TLS10", 10), ("TLS11", 11), ("TLS12", 12), ("TLS13", 13)];

/// The cipher suites that Go knows. Those that rustls does not have lack forward secrecy or authenticated encryption.
const CIPHER_SUITES: [&str; 17] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
];

/// Without one of them no client can speak HTTP/2 over TLS 1.2.
const HTTP2_CIPHERS: [CipherSuite; 2] =
    [CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256];

/// The curves that Go knows. rustls has no P-521.
const CURVES: [(&str, NamedGroup); 4] = [
    ("CurveP256", NamedGroup::secp256r1),
    ("CurveP384", NamedGroup::secp384r1),
    ("CurveP521", NamedGroup::secp521r1),
    ("X25519", NamedGroup::X25519),
];

impl Protocol {
    /// Reads what the section says of it; `None` without TLS. An unknown name is a mistake also then.
    pub(super) fn read(section: &document::TlsSection, http2: bool, report: &mut Findings) -> Option<Self> {
        let library = aws_lc_rs::default_provider();
        let known = CIPHER_SUITES.map(|name| (name, cipher_suite(&library, name)));
        let wanted = section.cipher_suites.as_deref().unwrap_or_default();
        let first_suite = wanted.first().and_then(|first| line(first.referenced.line()));
        let suites = read_names(("cipher_suites", "unknown cipher"), wanted, &known, report);
        let known =
            CURVES.map(|(name, group)| (name, library.kx_groups.iter().find(|has| has.name() == group).copied()));
        let wanted = section.curve_preferences.as_deref().unwrap_or_default();
        let first_curve = wanted.first().and_then(|first| line(first.referenced.line()));
        let curves = read_names(("curve_preferences", "unknown curve"), wanted, &known, report);
        let min = read_version("min_version", &section.min_version, report);
        let max = read_version("max_version", &section.max_version, report);
        if !section.asks_for_tls() {
            return None;
        }
        let versions = served_versions(min, max, section.max_version.as_ref(), report);
        let cipher_suites = suites.and_then(|named| {
            let mut suites = supported("Cipher suites", named, report);
            // As in Go, those of TLS 1.3 cannot be chosen.
            suites.retain(|suite| suite.tls13().is_none());
            check_cipher_suites(&suites, versions, http2, first_suite, report).then_some(suites)
        });
        let groups = curves.and_then(|named| {
            let groups = supported("Curves", named, report);
            if groups.is_empty() {
                let text = "no curve remains; add X25519, CurveP256 or CurveP384";
                report.mistake(first_curve, "tls_server_config.curve_preferences", text);
                return None;
            }
            Some(groups)
        });
        let ignore_client_order = section.prefer_server_cipher_suites.unwrap_or(true);
        Some(Self { versions, cipher_suites, groups, ignore_client_order })
    }

    /// The library with these choices.
    pub(super) fn provider(&self) -> CryptoProvider {
        let mut provider = aws_lc_rs::default_provider();
        if let Some(suites) = &self.cipher_suites {
            provider.cipher_suites.retain(|suite| suite.tls13().is_some());
            provider.cipher_suites.extend(suites);
        }
        if let Some(groups) = &self.groups {
            provider.kx_groups.clone_from(groups);
        }
        provider
    }
}

fn cipher_suite(library: &CryptoProvider, name: &str) -> Option<SupportedCipherSuite> {
    // rustls says TLS13_AES_128_GCM_SHA256 where everybody else says TLS_AES_128_GCM_SHA256.
    let is_named = |suite: &&SupportedCipherSuite| {
        suite.suite().as_str().is_some_and(|known| known.replacen("TLS13_", "TLS_", 1) == name)
    };
    library.cipher_suites.iter().find(is_named).copied()
}

/// What the names of a list stand for. `None` if there are none; and with an unknown one, for what is left says
/// nothing then.
pub(super) fn read_names<T: Copy>(
    (key, unknown): (&str, &str),
    names: &[Spanned<String>],
    known: &[(&'static str, T)],
    report: &mut Findings,
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

/// Leaves out what the library does not have, with a warning.
fn supported<T>(what: &str, named: Vec<(&'static str, Option<T>)>, report: &mut Findings) -> Vec<T> {
    let lacking: Vec<_> = named.iter().filter(|(_, found)| found.is_none()).map(|(name, _)| *name).collect();
    if !lacking.is_empty() {
        let lacking = lacking.join(", ");
        report.warnings.push(format!("{what} that this program's TLS library does not have are left out: {lacking}"));
    }
    named.into_iter().filter_map(|(_, found)| found).collect()
}

/// Whether these suites of TLS 1.2 leave something to speak.
fn check_cipher_suites(
    suites: &[SupportedCipherSuite],
    versions: &[&SupportedProtocolVersion],
    http2: bool,
    at: Option<usize>,
    report: &mut Findings,
) -> bool {
    let key = "tls_server_config.cipher_suites";
    if suites.is_empty() && versions == ONLY_12 {
        let text = "no cipher suite of TLS 1.2 remains, and max_version is TLS12; add TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
        report.mistake(at, key, text);
        return false;
    }
    if http2 && versions != ONLY_13 && !suites.iter().any(|suite| HTTP2_CIPHERS.contains(&suite.suite())) {
        let text = "TLSConfig.CipherSuites is missing an HTTP/2-required AES_128_GCM_SHA256 cipher (need at least one of TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256); add one, or set http_server_config.http2 to false or min_version to TLS13";
        report.mistake(at, key, text);
    }
    true
}

fn read_version(key: &str, text: &Text, report: &mut Findings) -> Option<u8> {
    let names = read_names((key, "unknown TLS version"), text.as_slice(), &VERSIONS, report)?;
    names.first().map(|(_, version)| *version)
}

const ONLY_12: &[&SupportedProtocolVersion] = &[&TLS12];
const ONLY_13: &[&SupportedProtocolVersion] = &[&TLS13];
const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

/// From the lowest to the highest, where these are there and known.
fn served_versions(
    min: Option<u8>,
    max: Option<u8>,
    max_text: Option<&Spanned<String>>,
    report: &mut Findings,
) -> &'static [&'static SupportedProtocolVersion] {
    let (min, max) = (min.unwrap_or(12), max.unwrap_or(13));
    let at = max_text.and_then(|text| line(text.referenced.line()));
    let key = "tls_server_config.max_version";
    if max < 12 {
        let text = "TLS before 1.2 is not supported, since it is broken; the highest version must be TLS12 or TLS13";
        report.mistake(at, key, text);
    } else if min > max {
        report.mistake(at, key, "no TLS version remains: max_version is lower than min_version");
    } else if min < 12 {
        report.warnings.push(
            "tls_server_config.min_version is lower than TLS12, which is the lowest that is supported, so TLS12 it is"
                .to_owned(),
        );
    }
    match (min, max) {
        (13, _) => ONLY_13,
        (_, 12) => ONLY_12,
        _ => BOTH,
    }
}
