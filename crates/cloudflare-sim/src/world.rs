//! What the simulation holds: zones, certificates, credentials, quota. Plain data, no I/O.

use std::time::Duration;

use chrono::DateTime;
use serde_json::{Value, json};

use super::{fault::Fault, sibling::SimulatedListing};

/// Everything there is.
#[derive(Debug, Clone)]
pub struct World {
    /// The accounts: one, unless a test needs more.
    pub accounts: Vec<SimulatedAccount>,
    /// The zones, in the order in which they are listed.
    pub zones: Vec<SimulatedZone>,
    /// What goes wrong when the zones are listed.
    pub zones_fault: Option<Fault>,
    /// The certificates of zones and accounts that are no client certificates.
    pub listings: Vec<SimulatedListing>,
    /// Who may ask. Each is a user of its own, with a quota of its own.
    pub credentials: Vec<AcceptedCredential>,
    /// When every token expires, if it does.
    pub tokens_expire: Option<String>,
    /// Tokens belong to the account, and not to a user.
    pub tokens_of_account: bool,
    /// How long after its arrival a request is answered.
    pub latency: Duration,
    /// How much each user may ask.
    pub quota: Quota,
    /// What goes wrong for every request.
    pub fault: Option<Fault>,
    /// How many of the latest requests are kept; the demo runs for days and keeps none.
    pub remembered_requests: usize,
}

impl Default for World {
    /// One account, no zones, one token, no latency, Cloudflare's quota.
    fn default() -> Self {
        Self {
            accounts: vec![SimulatedAccount::new(ACCOUNT, "Simulated account")],
            zones: Vec::new(),
            zones_fault: None,
            listings: Vec::new(),
            credentials: vec![AcceptedCredential::Token(
                // Unmistakable where it must not be found, and of no shape that scanners look for.
                "simulated-token-0123456789-abcdefghijklm".into(),
            )],
            tokens_expire: None,
            tokens_of_account: false,
            latency: Duration::ZERO,
            quota: Quota::default(),
            fault: None,
            remembered_requests: 1_000_000,
        }
    }
}

impl World {
    /// A world of these zones.
    #[must_use]
    pub fn of(zones: impl IntoIterator<Item = SimulatedZone>) -> Self {
        Self { zones: zones.into_iter().collect(), ..Self::default() }
    }

    /// The name of an account; empty where it is not known.
    pub(super) fn account_name(&self, id: &str) -> &str {
        self.accounts.iter().find(|account| account.id == id).map_or("", |account| &account.name)
    }

    /// The first token that is accepted; empty where none is.
    #[must_use]
    pub fn token(&self) -> &str {
        self.credentials
            .iter()
            .find_map(|credential| match credential {
                AcceptedCredential::Token(token) => Some(token.as_str()),
                AcceptedCredential::Key { .. } => None,
            })
            .unwrap_or_default()
    }
}

/// An account, to which zones belong.
#[derive(Debug, Clone)]
pub struct SimulatedAccount {
    /// 32 hexadecimal digits.
    pub id: String,
    /// Any text.
    pub name: String,
    /// Every credential lacks the permissions for its listings: 403 / 10000.
    pub denied: bool,
}

impl SimulatedAccount {
    /// An account that may be asked.
    #[must_use]
    pub fn new(id: &str, name: &str) -> Self {
        Self { id: id.to_owned(), name: name.to_owned(), denied: false }
    }
}

/// One of Cloudflare's two ways to sign in: docs/cloudflare-api.md, "Credentials".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AcceptedCredential {
    /// `Authorization: Bearer`.
    Token(String),
    /// `X-Auth-Email` and `X-Auth-Key`.
    Key {
        /// Whose key it is.
        email: String,
        /// The key.
        key: String,
    },
}

/// `Ratelimit-Policy`, kept as a sliding window. Who goes beyond it is blocked for a whole window.
#[derive(Debug, Clone, Copy)]
pub struct Quota {
    /// The policy's name in the headers.
    pub name: &'static str,
    /// Requests of one user in any window.
    pub requests: usize,
    /// Length of the window, and of the block.
    pub window: Duration,
    /// What the same user spends in each window by dashboard and Terraform.
    pub spent_elsewhere: usize,
}

impl Default for Quota {
    /// 1,200 in five minutes: docs/cloudflare-api.md, "Rate limit".
    fn default() -> Self {
        Self { name: "default", requests: 1200, window: Duration::from_secs(300), spent_elsewhere: 0 }
    }
}

/// A zone with its certificates in the order in which they are listed.
#[derive(Debug, Clone)]
pub struct SimulatedZone {
    /// 32 hexadecimal digits.
    pub id: String,
    /// Domain.
    pub name: String,
    /// `active`, `pending`, `moved` and others.
    pub status: String,
    /// Whose it is.
    pub account_id: String,
    /// Of every status.
    pub certificates: Vec<SimulatedCertificate>,
    /// Every credential lacks the permission: 403 / 10000 for all that is below it, and no list of zones holds it.
    pub denied: bool,
    /// What goes wrong when the client certificates are listed.
    pub fault: Option<Fault>,
    /// What goes wrong when the zone itself is asked for, which is how its name is found.
    pub name_fault: Option<Fault>,
}

impl SimulatedZone {
    /// An empty zone whose id follows from its name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            id: hex(&mut seeded_rng(name), 32),
            name: name.to_owned(),
            status: "active".into(),
            account_id: ACCOUNT.into(),
            certificates: Vec::new(),
            denied: false,
            fault: None,
            name_fault: None,
        }
    }

    /// A zone with this many active certificates, all different and none of them remarkable.
    #[must_use]
    pub fn of_size(name: &str, certificates: usize) -> Self {
        let certificate = |n: usize| {
            let common_name = format!("device-{n:05}");
            let id = uuid(&format!("{name}/{common_name}"));
            SimulatedCertificate::new(&id, &common_name, "active", "2026-01-01T00:00:00Z", "2036-01-01T00:00:00Z")
        };
        Self { certificates: (1..=certificates).map(certificate).collect(), ..Self::new(name) }
    }

    /// The same zone with this fault in its listing.
    #[must_use]
    pub fn with_fault(self, fault: Fault) -> Self {
        Self { fault: Some(fault), ..self }
    }

    /// What `GET /zones/{id}` tells, and `GET /zones` of each.
    pub(super) fn fields(&self, world: &World) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "status": self.status,
            "type": "full",
            "paused": false,
            "account": { "id": self.account_id, "name": world.account_name(&self.account_id) },
        })
    }
}

pub(super) const ACCOUNT: &str = "11cbe197c050c9e422aaa103cfe30ed8";

/// A certificate, small: what a test does not set is made from the id when it is listed.
#[derive(Debug, Clone)]
pub struct SimulatedCertificate {
    id: Box<str>,
    common_name: Box<str>,
    status: Box<str>,
    issued_on: Box<str>,
    expires_on: Box<str>,
    /// Later changes win; `None` means absent.
    changes: Vec<(Box<str>, Option<Value>)>,
}

impl SimulatedCertificate {
    /// A certificate with every field that the real API gives.
    #[must_use]
    pub fn new(id: &str, common_name: &str, status: &str, issued_on: &str, expires_on: &str) -> Self {
        Self {
            id: id.into(),
            common_name: common_name.into(),
            status: status.into(),
            issued_on: issued_on.into(),
            expires_on: expires_on.into(),
            changes: Vec::new(),
        }
    }

    /// The same with a field of any value, of the right type or not.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.set(field, value);
        self
    }

    /// The same without a field.
    #[must_use]
    pub fn without(mut self, field: &str) -> Self {
        self.remove(field);
        self
    }

    /// Gives a field any value, of the right type or not.
    pub fn set(&mut self, field: &str, value: impl Into<Value>) {
        self.changes.push((field.into(), Some(value.into())));
    }

    /// Makes a field absent.
    pub fn remove(&mut self, field: &str) {
        self.changes.push((field.into(), None));
    }

    /// What the status filter sees.
    pub(super) fn has_status(&self, status: &str) -> bool {
        match self.changes.iter().rev().find(|(field, _)| &**field == "status") {
            Some((_, value)) => value.as_ref().and_then(Value::as_str) == Some(status),
            None => &*self.status == status,
        }
    }

    /// The entry as it is listed: 3 to 4 kB, nearly all of it PEM.
    #[must_use]
    pub fn fields(&self) -> Value {
        let mut rng = seeded_rng(&self.id);
        let serial_number = format!("{:020}{:020}", rng.u64(..), rng.u64(..));
        let mut fields = json!({
            "id": self.id,
            "common_name": self.common_name,
            "status": self.status,
            "issued_on": self.issued_on,
            "expires_on": self.expires_on,
            "validity_days": self.validity_days(),
            "serial_number": serial_number,
            "fingerprint_sha256": hex(&mut rng, 64),
            "ski": hex(&mut rng, 40),
            "signature": "SHA256WithRSA",
            "country": "US",
            "state": "CA",
            "location": "Somewhere",
            "organization": "Example Corporation",
            "organizational_unit": "Devices",
            "certificate": pem("CERTIFICATE", "\n", 24, &mut rng),
            "csr": pem("CERTIFICATE REQUEST", "\r\n", 22, &mut rng),
            "certificate_authority": {
                "id": "8f5606d9-3f3f-4b5c-9a5e-0c4a0c7f1d21",
                "name": format!("Cloudflare Managed CA for account {ACCOUNT}"),
            },
        });
        for (field, value) in &self.changes {
            match value {
                Some(value) => fields[&**field] = value.clone(),
                None => drop(fields.as_object_mut().and_then(|fields| fields.remove(&**field))),
            }
        }
        fields
    }

    fn validity_days(&self) -> Option<i64> {
        let issued = DateTime::parse_from_rfc3339(&self.issued_on).ok()?;
        let expires = DateTime::parse_from_rfc3339(&self.expires_on).ok()?;
        Some((expires - issued).num_days())
    }
}

/// Numbers that look random and are the same in every run.
pub(super) fn seeded_rng(seed: &str) -> fastrand::Rng {
    // FNV-1a.
    let hash = seed
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    fastrand::Rng::with_seed(hash)
}

/// An id as client certificates have it: a UUID, though 32 digits are documented.
pub(super) fn uuid(seed: &str) -> String {
    let digits = hex(&mut seeded_rng(seed), 32);
    format!("{}-{}-4{}-8{}-{}", &digits[..8], &digits[8..12], &digits[13..16], &digits[17..20], &digits[20..])
}

pub(super) fn hex(rng: &mut fastrand::Rng, digits: usize) -> String {
    let mut text: String = (0..digits.div_ceil(16)).map(|_| format!("{:016x}", rng.u64(..))).collect();
    text.truncate(digits);
    text
}

/// The size and look of PEM, and nothing in it. Lines are cut from one text, so that making and
/// compressing them costs little next to what is measured.
fn pem(label: &str, line_end: &str, lines: usize, rng: &mut fastrand::Rng) -> String {
    const LINE: usize = 64;
    const TEXT: &str = "MIIDmDCCAoCgAwIBAgIUO7lP8USsVnufda1mS2xV+NXkgYIwDQYJKoZIhvcNAQEL\
        BQAwgagxCzAJBgNVBAYTAlVTMRMwEQYDVQQIEwpDYWxpZm9ybmlhMRYwFAYDVQQHEw1TYW4gRnJhbmNpc2Nv\
        k9Qd3Zr7xHn2VtYw8JmBs5LpEa0GfXuC1oRi6TeKjDhNvSyAbWgMcIlPzOqUFt4x";
    let mut text = format!("-----BEGIN {label}-----{line_end}");
    for _ in 0..lines {
        let start = rng.usize(..TEXT.len() - LINE);
        text.push_str(&TEXT[start..start + LINE]);
        text.push_str(line_end);
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----");
    text.push_str(line_end);
    text
}
