//! What an entry of each listing looks like. Tests alter the fields as they need.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::Sibling;
use crate::{
    world::{hex, seeded_rng, uuid},
    x509::{Sample, pem},
};

/// In place of a private key: unmistakable where it must not be found.
pub const PRIVATE_KEY: &str = "simulated-private-key-that-must-stay-where-it-is";

impl Sibling {
    /// An active entry with every field that the real API gives. The name is a host name or that of an authority, and
    /// id and serial number follow from it.
    #[must_use]
    pub fn entry(self, name: &str, issued: DateTime<Utc>, expires: DateTime<Utc>) -> Value {
        let seed = format!("{self:?}/{name}");
        // At most 127 bits: positive in DER without another byte.
        let serial_number = seeded_rng(&seed).u128(1 << 100..1 << 127);
        let sample = Sample { name, issued, expires, id: uuid(&seed), serial_number };
        match self {
            Self::OriginCa => sample.origin_ca(),
            Self::CertificatePacks => sample.pack(),
            Self::CustomCertificates => sample.custom(),
            Self::OriginPull | Self::OriginPullHostnames => sample.origin_pull(),
            Self::TrustStore => sample.trust_store(),
            Self::CustomHostnames => sample.custom_hostname(),
            Self::MtlsCertificates => sample.mtls(),
            Self::AccessCertificates => sample.access(),
            Self::GatewayCertificates => sample.gateway(),
        }
    }
}

/// As most dates are.
fn seconds(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// As dates of uploads are.
fn micros(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Bytes with colons between them.
fn colons(seed: &str, bytes: usize) -> String {
    let digits = hex(&mut seeded_rng(seed), 2 * bytes).to_uppercase();
    digits.as_bytes().chunks(2).map(String::from_utf8_lossy).collect::<Vec<_>>().join(":")
}

impl Sample<'_> {
    fn hosts(&self) -> Value {
        json!([self.name, format!("*.{}", self.name)])
    }

    /// The id is the serial number.
    fn origin_ca(&self) -> Value {
        json!({
            "id": self.serial_number.to_string(),
            "hostnames": self.hosts(),
            "expires_on": seconds(self.expires),
            "request_type": "origin-ecc",
            "requested_validity": (self.expires - self.issued).num_days(),
            "certificate": pem(self, "Cloudflare Origin SSL ECC Certificate Authority", false),
            "csr": "-----BEGIN CERTIFICATE REQUEST-----\nc2ltdWxhdGVk\n-----END CERTIFICATE REQUEST-----\n",
        })
    }

    fn pack(&self) -> Value {
        let certificate = uuid(&format!("certificate of {}", self.id));
        json!({
            "id": self.id,
            "type": "universal",
            "hosts": self.hosts(),
            "primary_certificate": certificate,
            "status": "active",
            "certificate_authority": "google",
            "validation_method": "txt",
            "validity_days": (self.expires - self.issued).num_days(),
            "created_on": micros(self.issued),
            "certificates": [{
                "id": certificate,
                "hosts": self.hosts(),
                "issuer": "GoogleTrustServices",
                "signature": "ECDSAWithSHA256",
                "status": "active",
                "bundle_method": "ubiquitous",
                "uploaded_on": micros(self.issued),
                "modified_on": micros(self.issued),
                "expires_on": micros(self.expires),
                "priority": null,
            }],
        })
    }

    fn custom(&self) -> Value {
        json!({
            "id": self.id,
            "hosts": self.hosts(),
            "issuer": "ExampleTrust",
            "signature": "SHA256WithRSA",
            "status": "active",
            "bundle_method": "ubiquitous",
            "geo_restrictions": null,
            "priority": 1,
            "uploaded_on": seconds(self.issued),
            "modified_on": seconds(self.issued),
            "expires_on": seconds(self.expires),
        })
    }

    /// A newer SDK names a private key among the fields, so here it is.
    fn origin_pull(&self) -> Value {
        json!({
            "id": self.id,
            "status": "active",
            "enabled": true,
            "issuer": "CN=Example Origin Pull CA,O=Example",
            "serial_number": self.serial_number.to_string(),
            "signature": "ECDSA-SHA256",
            "certificate": pem(self, "Example Origin Pull CA", false),
            "private_key": PRIVATE_KEY,
            "uploaded_on": micros(self.issued),
            "expires_on": seconds(self.expires),
        })
    }

    fn trust_store(&self) -> Value {
        json!({
            "id": self.id,
            "status": "active",
            "issuer": format!("CN={},O=Example", self.name),
            "signature": "ECDSA-SHA256",
            "certificate": pem(self, self.name, true),
            "uploaded_on": micros(self.issued),
            "updated_at": micros(self.issued),
            "expires_on": seconds(self.expires),
        })
    }

    fn custom_hostname(&self) -> Value {
        let certificate = uuid(&format!("certificate of {}", self.id));
        json!({
            "id": self.id,
            "hostname": self.name,
            "status": "active",
            "created_at": micros(self.issued),
            "ssl": {
                "id": uuid(&format!("ssl of {}", self.id)),
                "type": "dv",
                "method": "txt",
                "status": "active",
                "wildcard": true,
                "hosts": self.hosts(),
                "certificate_authority": "google",
                "certificates": [{
                    "id": certificate,
                    "issuer": "GoogleTrustServices",
                    "serial_number": self.serial_number.to_string(),
                    "signature": "ECDSAWithSHA256",
                    "issued_on": seconds(self.issued),
                    "expires_on": seconds(self.expires),
                    "fingerprint_sha256": hex(&mut seeded_rng(&certificate), 64),
                }],
                "custom_key": PRIVATE_KEY,
            },
        })
    }

    fn mtls(&self) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "issuer": format!("CN={},O=Example", self.name),
            "serial_number": self.serial_number.to_string(),
            "signature": "ECDSAWithSHA256",
            "ca": true,
            "type": "custom",
            "certificates": pem(self, self.name, true),
            "private_key": PRIVATE_KEY,
            "uploaded_on": micros(self.issued),
            "expires_on": seconds(self.expires),
        })
    }

    fn access(&self) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "associated_hostnames": [],
            "fingerprint": format!("MD5 Fingerprint={}", colons(&self.id, 16)),
            "created_at": seconds(self.issued),
            "updated_at": seconds(self.issued),
            "expires_on": seconds(self.expires),
        })
    }

    /// Dates that are not set are what Go takes for none.
    fn gateway(&self) -> Value {
        json!({
            "id": self.id,
            "type": "gateway_managed",
            "in_use": true,
            "binding_status": "available",
            "issuer_org": "Cloudflare, Inc.",
            "issuer_raw": format!("CN={},O=Cloudflare\\, Inc.", self.name),
            "fingerprint": colons(&self.id, 32),
            "certificate": pem(self, self.name, true),
            "qs_pack_id": "00000000-0000-0000-0000-000000000000",
            "created_at": micros(self.issued),
            "expires_on": seconds(self.expires),
            "uploaded_on": "0001-01-01T00:00:00Z",
            "updated_at": "0001-01-01T00:00:00Z",
        })
    }
}
