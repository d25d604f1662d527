//! What webpki does not say of a certificate: its version and its names.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use x509_parser::{
    prelude::{FromDer as _, GeneralName, X509Certificate},
    x509::X509Version,
};

/// Whether a certificate is of the version that names and purposes came with; webpki reads no other.
pub(super) fn is_version_3(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, certificate)| certificate.version() == X509Version::V3)
}

/// The alternative names of a certificate, written as Go writes them; `None` if it cannot be read.
pub(super) fn names(certificate: &CertificateDer<'_>) -> Option<Vec<String>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let Some(extension) = certificate.subject_alternative_name().ok()? else { return Some(Vec::new()) };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let ip = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok()?;
            Some(ip.to_canonical().to_string())
        }
        _ => None,
    };
    Some(extension.value.general_names.iter().filter_map(name).collect())
}
