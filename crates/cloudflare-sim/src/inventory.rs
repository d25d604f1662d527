//! The demo's world: a fleet with everything in it that a certificate's life can bring.
//!
//! The same for the same arguments: nothing is drawn from the operating system.

mod siblings;

use chrono::{DateTime, Duration, SecondsFormat, Utc};

use super::world::{SimulatedCertificate, SimulatedZone, World, seeded_rng, uuid};

/// Zone and what its devices are called; more zones go round the devices again.
const FLEETS: [(&str, &str); 5] = [
    ("shop.example", "pos-terminal"),
    ("iot.example", "sensor"),
    ("partners.example", "partner-gateway"),
    ("api.example", "service"),
    ("staging.example", "runner"),
];

/// What there is beside the plain fleet: common name, status, age in days, and days to the expiry,
/// if there is one. Rows of one group stay in one zone.
type Row = (&'static str, &'static str, i64, Option<i64>);
const REMARKABLE: &[&[Row]] = &[
    &[("pos-terminal-spare", "active", 366, Some(-1))],
    &[("sensor-calibration", "active", 40 + 365, Some(-40))],
    &[("partner-northwind", "active", 362, Some(3))],
    // A renewal: the successor is there already.
    &[("billing-service", "active", 360, Some(5)), ("billing-service", "active", 2, Some(363))],
    &[("courier-app", "active", 359, Some(6))],
    // Keys that the dashboard generated all bear this name.
    &[
        ("Cloudflare", "active", 165, Some(200)),
        ("Cloudflare", "active", 2150, Some(1500)),
        ("Cloudflare", "active", 30, Some(3620)),
    ],
    &[("kiosk-lobby", "active", 345, Some(20))],
    &[("warehouse-scanner", "active", 339, Some(26))],
    &[("sensor-prototype", "active", 365, None)],
    &[("partner-contoso", "active", 305, Some(60))],
    &[("backup-agent", "active", 280, Some(85))],
    &[("legacy-importer", "active", 365 + 120, Some(-120))],
    &[("field-tablet-07", "pending_revocation", 200, Some(165))],
    &[("field-tablet-08", "pending_reactivation", 200, Some(165))],
    &[("field-tablet-09", "revoked", 200, Some(165))],
    &[("old-vpn-gateway", "revoked", 765, Some(-400))],
    &[("hsm-escrow", "active", 200, Some(3450))],
    // No status that is documented: the list of them need not stay as it is.
    &[("meter-gateway", "pending_deployment", 1, Some(364))],
];

impl World {
    /// So many zones with so many certificates each, as seen at `now`. Where there are several zones,
    /// the last one is empty. With the defaults, 5 and 60, everything remarkable is there once.
    #[must_use]
    pub fn demo(now: DateTime<Utc>, zones: usize, certificates: usize) -> Self {
        let tokens_expire = Some((now + Duration::days(80)).to_rfc3339_opts(SecondsFormat::Secs, true));
        let inhabited = if zones > 1 { zones - 1 } else { zones };
        let mut world = Self::of((0..zones).map(|n| match FLEETS.get(n) {
            Some((name, _)) => SimulatedZone::new(name),
            None => SimulatedZone::new(&format!("site-{:04}.example", n + 1)),
        }));
        world.tokens_expire = tokens_expire;
        for (n, zone) in world.zones.iter_mut().enumerate().take(inhabited) {
            let remarkable = REMARKABLE.iter().skip(n).step_by(inhabited).copied().flatten();
            let mut fleet = Fleet { zone: &zone.name, now, made: Vec::with_capacity(certificates) };
            for &(common_name, status, age, left) in remarkable.take(certificates) {
                fleet.add(common_name, status, age, left);
            }
            let device = FLEETS[n % FLEETS.len()].1;
            while fleet.made.len() < certificates {
                fleet.add_device(device);
            }
            zone.certificates = fleet.made;
        }
        siblings::add(&mut world, now, inhabited);
        world.remembered_requests = 0;
        world
    }
}

struct Fleet<'a> {
    zone: &'a str,
    now: DateTime<Utc>,
    made: Vec<SimulatedCertificate>,
}

impl Fleet<'_> {
    fn add(&mut self, common_name: &str, status: &str, age: i64, left: Option<i64>) {
        let id = uuid(&format!("{}/{}/{common_name}", self.zone, self.made.len()));
        // The hour is drawn for each, so that not all change their day at once.
        let later = Duration::minutes(seeded_rng(&id).i64(1..720));
        let date = |days| (self.now + Duration::days(days) + later).format("%Y-%m-%dT%H:%M:00Z").to_string();
        let certificate =
            SimulatedCertificate::new(&id, common_name, status, &date(-age), &left.map(date).unwrap_or_default());
        self.made.push(if left.is_some() { certificate } else { certificate.without("expires_on") });
    }

    /// One of many: renewed in time as a rule, now and then a little late, sometimes retired.
    fn add_device(&mut self, device: &str) {
        let common_name = format!("{device}-{:04}", self.made.len() + 1);
        let mut rng = seeded_rng(&format!("{}/{common_name}", self.zone));
        let validity = [365, 730, 3650][rng.usize(..3)];
        let left = if rng.u8(..12) == 0 { rng.i64(8..90) } else { rng.i64(90..validity) };
        let status = if rng.u8(..10) == 0 { "revoked" } else { "active" };
        self.add(&common_name, status, validity - left, Some(left));
    }
}
