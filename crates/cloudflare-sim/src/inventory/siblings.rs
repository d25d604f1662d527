//! The demo's other certificates: of each listing what is usual, and what is of interest.

use chrono::{DateTime, Duration, Utc};
use serde_json::{Value, json};

use crate::{
    sibling::{
        Sibling::{self, *},
        SimulatedListing,
    },
    world::{SimulatedAccount, World, hex, seeded_rng},
};

/// Where the rows of the demo go: the first zone is that of the shop, and where there are fewer zones they go round.
const SHOP: usize = 0;
const IOT: usize = 1;
const PARTNERS: usize = 2;
const API: usize = 3;
/// Where those go that belong to an account.
const FIRST_ACCOUNT: usize = 0;

/// Listing, zone or account, name (`{}` is that of the zone), age in days, days to the expiry, and what is unusual.
type Row = (Sibling, usize, &'static str, i64, i64, fn(&mut Value, &Demo));

const USUAL: fn(&mut Value, &Demo) = |_, _| {};
/// An uploaded edge certificate is listed as a pack of its own type, too.
const UPLOADED: fn(&mut Value, &Demo) = |pack, _| pack["type"] = json!("sni_custom");

const ROWS: &[Row] = &[
    (CertificatePacks, SHOP, "backup.{}", 20, 70, backup),
    (CertificatePacks, SHOP, "checkout.{}", 2, 88, waiting_for_validation),
    (CertificatePacks, SHOP, "www.{}", 50, 40, with_two_keys),
    (CertificatePacks, SHOP, "pay.{}", 361, 4, UPLOADED),
    (CertificatePacks, SHOP, "account.{}", 100, 265, UPLOADED),
    (CustomCertificates, SHOP, "pay.{}", 361, 4, USUAL),
    (CustomCertificates, SHOP, "account.{}", 100, 265, USUAL),
    (OriginCa, SHOP, "legacy.{}", 356, 9, with_go_date),
    (OriginCa, SHOP, "old.{}", 700, 25, |entry, demo| {
        entry["revoked_at"] = json!((demo.now - Duration::days(200)).format("%Y-%m-%dT%H:%M:00Z").to_string());
    }),
    // Both zones list it.
    (OriginCa, SHOP, "gateway.{}", 300, 65, |entry, demo| {
        entry["hostnames"] = json!([SHOP, IOT].map(|zone| format!("gateway.{}", demo.zone(zone).1)));
    }),
    // The one that was uploaded last is used, though it expires first.
    (OriginPull, SHOP, "pull-1.{}", 330, 400, USUAL),
    (OriginPull, SHOP, "pull-2.{}", 10, 28, USUAL),
    // It stays active when it has expired.
    (OriginPull, IOT, "pull.{}", 385, -20, USUAL),
    (OriginPullHostnames, API, "v1.{}", 350, 15, USUAL),
    (OriginPullHostnames, API, "v2.{}", 30, 335, USUAL),
    (TrustStore, SHOP, "Example Origin Root 1", 3590, 60, USUAL),
    (TrustStore, SHOP, "Example Origin Root 2", 200, 3450, USUAL),
    (CustomHostnames, PARTNERS, "app.northwind.example", 20, 70, USUAL),
    (CustomHostnames, PARTNERS, "bare.contoso.example", 1, 89, |entry, _| {
        entry["status"] = json!("pending");
        entry["ssl"] = Value::Null;
    }),
    (CustomHostnames, PARTNERS, "shop.fabrikam.example", 80, 10, |entry, _| entry["ssl"]["status"] = json!("")),
    (CustomHostnames, PARTNERS, "portal.adatum.example", 340, 25, with_uploaded_certificate),
    (MtlsCertificates, FIRST_ACCOUNT, "pos-fleet-ca", 3650 - 88, 88, USUAL),
    (MtlsCertificates, FIRST_ACCOUNT, "partner-ca", 400, 3250, USUAL),
    (MtlsCertificates, FIRST_ACCOUNT, "Gateway CA 1", 1785, 40, twin_of_gateway),
    (MtlsCertificates, FIRST_ACCOUNT, "Gateway CA 2", 25, 1800, twin_of_gateway),
    (AccessCertificates, FIRST_ACCOUNT, "Contractors", 700, 30, |entry, _| {
        entry["associated_hostnames"] = json!(["admin.shop.example"]);
    }),
    (AccessCertificates, FIRST_ACCOUNT, "Developers", 165, 565, |entry, _| entry["associated_hostnames"] = Value::Null),
    (GatewayCertificates, FIRST_ACCOUNT, "Gateway CA 1", 1785, 40, USUAL),
    (GatewayCertificates, FIRST_ACCOUNT, "Gateway CA 2", 25, 1800, |entry, _| entry["in_use"] = json!(false)),
];

/// What the plan of a zone does not include, unless there are too few zones.
const REFUSED: [(Sibling, usize); 3] = [(CustomCertificates, API), (TrustStore, IOT), (CustomHostnames, IOT)];

/// Gives the first zones, and the accounts, everything beside client certificates.
pub(super) fn add(world: &mut World, now: DateTime<Utc>, inhabited: usize) {
    let second = SimulatedAccount::new(&hex(&mut seeded_rng("second account"), 32), "Simulated subsidiary");
    if inhabited > PARTNERS {
        world.zones[PARTNERS].account_id.clone_from(&second.id);
    }
    let zones = world.zones.iter().take(inhabited).map(|zone| (zone.id.clone(), zone.name.clone())).collect();
    let demo = Demo { now, zones };
    for (id, name) in &demo.zones {
        // Cloudflare renews the universal pack in time. That of the origin is for fifteen years.
        let left = seeded_rng(name).i64(31..90);
        put(world, CertificatePacks, id, demo.entry(CertificatePacks, name, 90 - left, left));
        put(world, OriginCa, id, demo.entry(OriginCa, name, 400, 5475 - 400));
    }
    for &(endpoint, place, name, age, left, change) in ROWS {
        let (id, zone) = if endpoint.is_of_account() {
            (world.accounts[place].id.clone(), String::new())
        } else if demo.zones.is_empty() {
            continue;
        } else {
            demo.zone(place).clone()
        };
        let mut entry = demo.entry(endpoint, &name.replace("{}", &zone), age, left);
        change(&mut entry, &demo);
        put(world, endpoint, &id, entry);
    }
    let refused = REFUSED.into_iter().filter_map(|(endpoint, zone)| Some((endpoint, &demo.zones.get(zone)?.0)));
    for (endpoint, id) in refused.chain([(AccessCertificates, &second.id)]) {
        world.listings.push(SimulatedListing::refused(endpoint, id, endpoint.not_on_the_plan()));
    }
    world.accounts.push(second);
}

fn put(world: &mut World, endpoint: Sibling, scope_id: &str, entry: Value) {
    match world.listings.iter_mut().find(|one| one.endpoint == endpoint && one.scope_id == scope_id) {
        Some(listing) => listing.entries.push(entry),
        None => world.listings.push(SimulatedListing::new(endpoint, scope_id, [entry])),
    }
}

struct Demo {
    now: DateTime<Utc>,
    /// Id and name.
    zones: Vec<(String, String)>,
}

impl Demo {
    fn zone(&self, n: usize) -> &(String, String) {
        &self.zones[n % self.zones.len()]
    }

    /// An entry of this age in days, with so many days left. Not all change their day at once.
    fn entry(&self, endpoint: Sibling, name: &str, age: i64, left: i64) -> Value {
        let later = seeded_rng(name).i64(1..720);
        let date = |days| {
            let minutes = (self.now + Duration::days(days)).timestamp().div_euclid(60) + later;
            DateTime::from_timestamp(minutes * 60, 0).unwrap_or(self.now)
        };
        endpoint.entry(name, date(-age), date(left))
    }
}

/// Issued by another authority, in case of need; not deployed.
fn backup(pack: &mut Value, demo: &Demo) {
    let name = &demo.zone(SHOP).1;
    pack["hosts"] = json!([name, format!("*.{name}")]);
    pack["status"] = json!("backup_issued");
    pack["certificate_authority"] = json!("lets_encrypt");
    pack["certificates"][0]["issuer"] = json!("LetsEncrypt");
}

fn waiting_for_validation(pack: &mut Value, demo: &Demo) {
    let message = format!("SERVFAIL looking up CAA for checkout.{}", demo.zone(SHOP).1);
    pack["type"] = json!("advanced");
    pack["status"] = json!("pending_validation");
    pack["primary_certificate"] = json!("0");
    pack["certificates"] = json!([]);
    pack["validation_errors"] = json!([{ "message": message }]);
}

/// One for each type of key. Cloudflare removes the pack with the first that expires.
fn with_two_keys(pack: &mut Value, demo: &Demo) {
    let name = format!("rsa.www.{}", demo.zone(SHOP).1);
    let mut rsa = demo.entry(CertificatePacks, &name, 78, 12)["certificates"][0].take();
    rsa["signature"] = json!("SHA256WithRSA");
    rsa["hosts"] = pack["hosts"].clone();
    pack["type"] = json!("advanced");
    pack["certificates"] = json!([pack["certificates"][0], rsa]);
}

/// Some dates are as Go prints them.
fn with_go_date(entry: &mut Value, _: &Demo) {
    let expires = entry["expires_on"].as_str().unwrap_or_default().replace('T', " ").replace('Z', " +0000 UTC");
    entry["expires_on"] = json!(expires);
}

/// Its date is beside the list of those that Cloudflare issues.
fn with_uploaded_certificate(entry: &mut Value, _: &Demo) {
    let ssl = &mut entry["ssl"];
    let issued = ssl["certificates"][0].take();
    ssl["type"] = json!("custom");
    ssl["certificates"] = json!([]);
    for field in ["issuer", "signature", "expires_on"] {
        ssl[field] = issued[field].clone();
    }
}

/// Authorities of Gateway are listed among those of client certificates too, unless a query leaves them out.
fn twin_of_gateway(entry: &mut Value, demo: &Demo) {
    let name = entry["name"].as_str().unwrap_or_default();
    entry["id"] = demo.entry(GatewayCertificates, name, 0, 0)["id"].take();
    entry["type"] = json!("gateway_managed");
}

#[cfg(test)]
mod tests;
