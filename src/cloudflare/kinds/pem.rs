//! What a certificate in PEM says of itself. Nothing of it is kept but that.

use aws_lc_rs::digest::{SHA256, digest};
use x509_parser::{
    certificate::X509Certificate,
    extensions::ParsedExtension,
    oid_registry::{OidRegistry, format_oid},
    pem::parse_x509_pem,
    prelude::FromDer as _,
};

use super::hexadecimal;
use crate::model::Field;

pub(super) struct Pem {
    pub(super) not_before: i64,
    /// The whole name of its holder: DER, in hexadecimal.
    pub(super) subject: String,
    pub(super) texts: Vec<(Field, String)>,
}

impl Pem {
    /// Reads the first certificate of a text; of a chain, that is the one it is about. `None` if it cannot be read: the
    /// list says enough without it. Algorithms that are not known here matter to none of this.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (_, block) = parse_x509_pem(text.as_bytes()).ok()?;
        let (_, certificate) = X509Certificate::from_der(&block.contents).ok()?;
        let names = OidRegistry::default().with_crypto();
        let algorithm = &certificate.signature_algorithm.algorithm;
        let signature =
            names.get(algorithm).map_or_else(|| format_oid(algorithm, &names), |known| known.sn().to_owned());
        let subject = certificate.subject();
        let texts = [
            (Field::CommonName, first(subject.iter_common_name())),
            (Field::Organization, first(subject.iter_organization())),
            (Field::OrganizationalUnit, first(subject.iter_organizational_unit())),
            // As Cloudflare writes it: `CN=Example, O=Example`.
            (Field::Issuer, Some(certificate.issuer().to_string())),
            (Field::SerialNumber, serial_number(&certificate)),
            (Field::FingerprintSha256, Some(hexadecimal(digest(&SHA256, &block.contents).as_ref()))),
            (Field::Ski, ski(&certificate)),
            (Field::Signature, Some(signature)),
        ];
        let texts = texts.into_iter().filter_map(|(field, text)| Some((field, text?))).collect();
        let not_before = certificate.validity().not_before.timestamp();
        Some(Self { not_before, subject: hexadecimal(subject.as_raw()), texts })
    }
}

fn first<'a>(mut values: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>) -> Option<String> {
    values.next()?.as_str().ok().map(str::to_owned)
}

/// In decimal, as Cloudflare writes it. One that is much longer than the 20 bytes of the standard would take long.
fn serial_number(certificate: &X509Certificate<'_>) -> Option<String> {
    (certificate.raw_serial().len() <= 64).then(|| certificate.serial.to_string())
}

fn ski(certificate: &X509Certificate<'_>) -> Option<String> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(key) => Some(hexadecimal(key.0)),
        _ => None,
    })
}
