//! The kinds of certificates that every fault is tried with, and their listings in the simulation.

use cloudflare_sim::{
    Fault, Sibling, SimulatedAccount, SimulatedApi, SimulatedCertificate, SimulatedListing, SimulatedZone, World,
};
use serde_json::Value;

use crate::support::config;

/// A kind, and what is its own where something goes wrong.
pub(super) struct Kind {
    pub(super) label: &'static str,
    /// Nothing for client certificates, which the simulated zone itself holds.
    endpoint: Option<Sibling>,
    /// Its list has no pages.
    pub(super) comes_whole: bool,
    pub(super) permission: &'static str,
    /// The field that tells when a certificate was issued, if one does.
    pub(super) issued_in: Option<&'static str>,
}

/// Beside client certificates one kind of a zone, one that comes whole and one of an account.
pub(super) const KINDS: [Kind; 4] = [
    Kind {
        label: "client",
        endpoint: None,
        comes_whole: false,
        permission: "SSL and Certificates: Read on this zone",
        issued_in: Some("issued_on"),
    },
    Kind {
        label: "edge",
        endpoint: Some(Sibling::CertificatePacks),
        comes_whole: false,
        permission: "SSL and Certificates: Read on this zone",
        issued_in: Some("validity_days"),
    },
    Kind {
        label: "aop_zone",
        endpoint: Some(Sibling::OriginPull),
        comes_whole: true,
        permission: "SSL and Certificates: Read on this zone",
        issued_in: Some("certificate"),
    },
    Kind {
        label: "access_ca",
        endpoint: Some(Sibling::AccessCertificates),
        comes_whole: false,
        permission: "Access: Mutual TLS Certificates: Read on this account",
        issued_in: None,
    },
];

impl Kind {
    pub(super) fn is_of_account(&self) -> bool {
        self.endpoint.is_some_and(Sibling::is_of_account)
    }

    /// The label that holds the name of its zone or account.
    pub(super) fn scope(&self) -> &'static str {
        if self.is_of_account() { "account" } else { "zone" }
    }

    /// What it makes of a status of client certificates: a word that it does not know, or one that it does not look at.
    pub(super) fn status(&self, word: &'static str) -> &'static str {
        match self.label {
            "client" => word,
            "access_ca" => "active",
            _ if word == "active" => "active",
            _ => "unknown",
        }
    }

    /// Adds a listing of these entries, and the zone or account of this name if it is not there.
    pub(super) fn add(&self, world: &mut World, name: &str, entries: &[Entry]) {
        let scope = SimulatedZone::new(name);
        let id = scope.id.clone();
        if self.is_of_account() {
            world.accounts.push(SimulatedAccount::new(&id, name));
        } else if world.zones.iter().all(|zone| zone.id != id) {
            world.zones.push(scope);
        }
        match self.endpoint {
            Some(endpoint) => {
                let entries = entries.iter().map(|entry| entry.of(endpoint));
                world.listings.push(SimulatedListing::new(endpoint, &id, entries));
            }
            None => {
                let zone = world.zones.iter_mut().find(|zone| zone.id == id).unwrap();
                zone.certificates = entries.iter().map(Entry::of_client).collect();
            }
        }
    }

    /// What goes wrong with the listing of a zone or account, and how many entries it holds.
    pub(super) fn listing<'a>(&self, world: &'a mut World, name: &str) -> (&'a mut Option<Fault>, usize) {
        let id = id(name);
        match self.endpoint {
            Some(_) => {
                let listing = world.listings.iter_mut().find(|listing| listing.scope_id == id).unwrap();
                (&mut listing.fault, listing.entries.len())
            }
            None => {
                let zone = world.zones.iter_mut().find(|zone| zone.id == id).unwrap();
                (&mut zone.fault, zone.certificates.len())
            }
        }
    }
}

/// The id of a simulated zone or account.
pub(super) fn id(name: &str) -> String {
    SimulatedZone::new(name).id
}

/// An entry of any kind by its id, and its fields that are not as they should be; those without a value are absent.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) odd: Vec<(&'static str, Option<Value>)>,
}

impl Entry {
    /// So many entries without PEM, which is most of an entry, and which is slow to make and to pack.
    pub(super) fn light(count: usize) -> Vec<Self> {
        let odd = vec![("certificate", None), ("csr", None)];
        (0..count).map(|n| Self { id: format!("entry-{n}"), odd: odd.clone() }).collect()
    }

    fn of_client(&self) -> SimulatedCertificate {
        let mut certificate = SimulatedCertificate::new(&self.id, &self.id, "active", ISSUED, EXPIRES);
        for (field, value) in &self.odd {
            match value {
                Some(value) => certificate.set(field, value.clone()),
                None => certificate.remove(field),
            }
        }
        certificate
    }

    fn of(&self, endpoint: Sibling) -> Value {
        let mut entry = endpoint.entry(&self.id, ISSUED.parse().unwrap(), EXPIRES.parse().unwrap());
        let id = ("id", Some(self.id.clone().into()));
        for (field, value) in std::iter::once(&id).chain(&self.odd) {
            // What a pack says of its certificate is in there.
            let is_inside = endpoint == Sibling::CertificatePacks && ["id", "expires_on"].contains(field);
            let object = if is_inside { &mut entry["certificates"][0] } else { &mut entry };
            match value {
                Some(value) => object[field] = value.clone(),
                None => drop(object.as_object_mut().unwrap().remove(*field)),
            }
        }
        entry
    }
}

const ISSUED: &str = "2026-01-01T00:00:00Z";
const EXPIRES: &str = "2099-01-01T00:00:00Z";

/// Polls everything in a world that is of these kinds, this often; `more` is added to `[poll]` and after it.
pub(super) fn config_of(api: &SimulatedApi, kinds: &[Kind], api_settings: &str, interval: &str, more: &str) -> String {
    let labels: Vec<_> = kinds.iter().map(|kind| kind.label).collect();
    let intervals: Vec<_> = labels.iter().map(|label| format!("{label} = {interval:?}")).collect();
    let poll = format!(
        "[poll]
kinds = {labels:?}
intervals = {{ {} }}
",
        intervals.join(", ")
    );
    let mut text = config(
        api,
        &format!(
            "{api_settings}
{poll}{more}"
        ),
    );
    api.change(|world| {
        for account in &world.accounts {
            text.push_str(&format!(
                "[[accounts]]
id = {:?}
name = {:?}
",
                account.id, account.name
            ));
        }
    });
    text
}
