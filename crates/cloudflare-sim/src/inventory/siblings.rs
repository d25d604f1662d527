//! The demo's other certificates: of each listing what is usual, and what is of interest.

use chrono::{DateTime, Duration, Utc};
use serde_json::{Value, json};

use crate::{
    sibling::{Sibling, SimulatedListing},
    world::{SimulatedAccount, World, hex, seeded_rng},
};

/// Where the rows of the demo go: the first zone is that of the shop, and where there are fewer zones they go round.
const SHOP: usize = 0;
const IOT: usize = 1;
const PARTNERS: usize = 2;
const API: usize = 3;

/// Gives the first zones, and the accounts, everything beside client certificates.
pub(super) fn add(world: &mut World, now: DateTime<Utc>, inhabited: usize) {
    let second = SimulatedAccount::new(&hex(&mut seeded_rng("second account"), 32), "Simulated subsidiary");
    if inhabited > PARTNERS {
        world.zones[PARTNERS].account_id.clone_from(&second.id);
    }
    let zones = world.zones.iter().take(inhabited).map(|zone| (zone.id.clone(), zone.name.clone())).collect();
    let mut demo = Demo { now, zones, listings: Vec::new() };
    if inhabited > 0 {
        demo.add_packs();
        demo.add_origin_ca();
        demo.add_uploaded();
        demo.add_origin_pull();
        demo.add_trust_store();
        demo.add_custom_hostnames();
    }
    demo.add_authorities(&world.accounts[0].id);
    let not_enabled = Sibling::AccessCertificates.not_on_the_plan();
    demo.listings.push(SimulatedListing::refused(Sibling::AccessCertificates, &second.id, not_enabled));
    world.accounts.push(second);
    world.listings = demo.listings;
}

struct Demo {
    now: DateTime<Utc>,
    /// Id and name.
    zones: Vec<(String, String)>,
    listings: Vec<SimulatedListing>,
}

impl Demo {
    fn zone(&self, n: usize) -> (String, String) {
        self.zones[n % self.zones.len()].clone()
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

    fn put(&mut self, endpoint: Sibling, scope_id: &str, entry: Value) {
        let known = self.listings.iter_mut().find(|one| one.endpoint == endpoint && one.scope_id == scope_id);
        match known {
            Some(listing) => listing.entries.push(entry),
            None => self.listings.push(SimulatedListing::new(endpoint, scope_id, [entry])),
        }
    }

    /// A plan does not include this in one zone, unless it is the only one.
    fn refuse(&mut self, endpoint: Sibling, zone: usize) {
        if self.zones.len() > zone {
            let id = &self.zones[zone].0;
            self.listings.push(SimulatedListing::refused(endpoint, id, endpoint.not_on_the_plan()));
        }
    }

    /// Each zone has a universal pack that Cloudflare renews in time.
    fn add_packs(&mut self) {
        let endpoint = Sibling::CertificatePacks;
        for (id, name) in self.zones.clone() {
            let left = seeded_rng(&name).i64(31..90);
            let universal = self.entry(endpoint, &name, 90 - left, left);
            self.listings.push(SimulatedListing::new(endpoint, &id, [universal]));
        }
        let (id, name) = self.zone(SHOP);
        // Issued by another authority, in case of need; not deployed.
        let mut backup = self.entry(endpoint, &format!("backup.{name}"), 20, 70);
        backup["hosts"] = json!([name, format!("*.{name}")]);
        backup["status"] = json!("backup_issued");
        backup["certificate_authority"] = json!("lets_encrypt");
        backup["certificates"][0]["issuer"] = json!("LetsEncrypt");
        self.put(endpoint, &id, backup);

        let mut waiting = self.entry(endpoint, &format!("checkout.{name}"), 2, 88);
        waiting["type"] = json!("advanced");
        waiting["status"] = json!("pending_validation");
        waiting["primary_certificate"] = json!("0");
        waiting["certificates"] = json!([]);
        let message = format!("SERVFAIL looking up CAA for checkout.{name}");
        waiting["validation_errors"] = json!([{ "message": message }]);
        self.put(endpoint, &id, waiting);

        // One for each type of key. Cloudflare removes the pack with the first that expires.
        let mut two = self.entry(endpoint, &format!("www.{name}"), 50, 40);
        two["type"] = json!("advanced");
        let mut rsa = self.entry(endpoint, &format!("rsa.www.{name}"), 78, 12)["certificates"][0].take();
        rsa["signature"] = json!("SHA256WithRSA");
        rsa["hosts"] = two["hosts"].clone();
        if let Some(certificates) = two["certificates"].as_array_mut() {
            certificates.push(rsa);
        }
        self.put(endpoint, &id, two);
    }

    /// Each zone has one for fifteen years.
    fn add_origin_ca(&mut self) {
        let endpoint = Sibling::OriginCa;
        for (id, name) in self.zones.clone() {
            let usual = self.entry(endpoint, &name, 400, 5475 - 400);
            self.listings.push(SimulatedListing::new(endpoint, &id, [usual]));
        }
        let ((shop_id, shop), (_, iot)) = (self.zone(SHOP), self.zone(IOT));
        // Some dates are as Go prints them.
        let mut in_go = self.entry(endpoint, &format!("legacy.{shop}"), 356, 9);
        let expires = in_go["expires_on"].as_str().unwrap_or_default().replace('T', " ").replace('Z', " +0000 UTC");
        in_go["expires_on"] = json!(expires);
        self.put(endpoint, &shop_id, in_go);

        let mut revoked = self.entry(endpoint, &format!("old.{shop}"), 700, 25);
        revoked["revoked_at"] = json!((self.now - Duration::days(200)).format("%Y-%m-%dT%H:%M:00Z").to_string());
        self.put(endpoint, &shop_id, revoked);

        // Both zones list it.
        let mut shared = self.entry(endpoint, &format!("gateway.{shop}"), 300, 65);
        shared["hostnames"] = json!([format!("gateway.{shop}"), format!("gateway.{iot}")]);
        self.put(endpoint, &shop_id, shared);
    }

    /// Uploaded edge certificates are listed as packs of their own type, too.
    fn add_uploaded(&mut self) {
        let (id, name) = self.zone(SHOP);
        for (host, age, left) in [("pay", 361, 4), ("account", 100, 265)] {
            let host = format!("{host}.{name}");
            self.put(Sibling::CustomCertificates, &id, self.entry(Sibling::CustomCertificates, &host, age, left));
            let mut pack = self.entry(Sibling::CertificatePacks, &host, age, left);
            pack["type"] = json!("sni_custom");
            self.put(Sibling::CertificatePacks, &id, pack);
        }
        self.refuse(Sibling::CustomCertificates, API);
    }

    fn add_origin_pull(&mut self) {
        let endpoint = Sibling::OriginPull;
        let (id, name) = self.zone(SHOP);
        // The one that was uploaded last is used, though it expires first.
        self.put(endpoint, &id, self.entry(endpoint, &format!("pull-1.{name}"), 330, 400));
        self.put(endpoint, &id, self.entry(endpoint, &format!("pull-2.{name}"), 10, 28));
        // It stays active when it has expired.
        let (id, name) = self.zone(IOT);
        self.put(endpoint, &id, self.entry(endpoint, &format!("pull.{name}"), 385, -20));

        let endpoint = Sibling::OriginPullHostnames;
        let (id, name) = self.zone(API);
        for (host, age, left) in [("v1", 350, 15), ("v2", 30, 335)] {
            self.put(endpoint, &id, self.entry(endpoint, &format!("{host}.{name}"), age, left));
        }
    }

    fn add_trust_store(&mut self) {
        let endpoint = Sibling::TrustStore;
        let (id, _) = self.zone(SHOP);
        for (name, age, left) in [("Example Origin Root 1", 3590, 60), ("Example Origin Root 2", 200, 3450)] {
            self.put(endpoint, &id, self.entry(endpoint, name, age, left));
        }
        self.refuse(endpoint, IOT);
    }

    fn add_custom_hostnames(&mut self) {
        let endpoint = Sibling::CustomHostnames;
        let (id, _) = self.zone(PARTNERS);
        self.put(endpoint, &id, self.entry(endpoint, "app.northwind.example", 20, 70));

        let mut bare = self.entry(endpoint, "bare.contoso.example", 1, 89);
        bare["status"] = json!("pending");
        bare["ssl"] = Value::Null;
        self.put(endpoint, &id, bare);

        let mut without_word = self.entry(endpoint, "shop.fabrikam.example", 80, 10);
        without_word["ssl"]["status"] = json!("");
        self.put(endpoint, &id, without_word);

        // The date of an uploaded one is beside the list of those that Cloudflare issues.
        let mut uploaded = self.entry(endpoint, "portal.adatum.example", 340, 25);
        let issued = uploaded["ssl"]["certificates"][0].take();
        uploaded["ssl"]["type"] = json!("custom");
        uploaded["ssl"]["certificates"] = json!([]);
        for field in ["issuer", "signature", "expires_on"] {
            uploaded["ssl"][field] = issued[field].clone();
        }
        self.put(endpoint, &id, uploaded);
        self.refuse(endpoint, IOT);
    }

    /// What belongs to an account.
    fn add_authorities(&mut self, account_id: &str) {
        let endpoint = Sibling::MtlsCertificates;
        for (name, age, left) in [("pos-fleet-ca", 3650 - 88, 88), ("partner-ca", 400, 3250)] {
            self.put(endpoint, account_id, self.entry(endpoint, name, age, left));
        }

        let endpoint = Sibling::AccessCertificates;
        let mut contractors = self.entry(endpoint, "Contractors", 700, 30);
        contractors["associated_hostnames"] = json!(["admin.shop.example"]);
        self.put(endpoint, account_id, contractors);
        let mut developers = self.entry(endpoint, "Developers", 165, 565);
        developers["associated_hostnames"] = Value::Null;
        self.put(endpoint, account_id, developers);

        let endpoint = Sibling::GatewayCertificates;
        for (name, age, left, in_use) in [("Gateway CA 1", 1785, 40, true), ("Gateway CA 2", 25, 1800, false)] {
            let mut authority = self.entry(endpoint, name, age, left);
            authority["in_use"] = json!(in_use);
            // It is listed among the authorities of client certificates too, unless a query leaves it out.
            let mut twin = self.entry(Sibling::MtlsCertificates, name, age, left);
            twin["id"] = authority["id"].clone();
            twin["type"] = json!("gateway_managed");
            self.put(endpoint, account_id, authority);
            self.put(Sibling::MtlsCertificates, account_id, twin);
        }
    }
}

#[cfg(test)]
mod tests;
