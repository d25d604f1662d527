//! What a daemon says of itself at `/metrics`, so that a test can ask for single series.

use std::collections::HashMap;

use super::Daemon;

/// The samples of one scrape: the series of each family and their values, by zone, since tests ask for each of hundreds
/// of zones at every scrape.
pub(crate) struct Metrics(HashMap<String, HashMap<String, Vec<(String, f64)>>>);

impl Metrics {
    pub(crate) async fn of(daemon: &Daemon) -> Self {
        let (status, body) = daemon.get("/metrics").await;
        assert_eq!(status, 200);
        let mut families = HashMap::<_, HashMap<_, Vec<_>>>::new();
        for line in body.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let family = series.split('{').next().unwrap();
            let zones = families.entry(family.to_owned()).or_default();
            let of_zone = zones.entry(zone_of(series).to_owned()).or_default();
            of_zone.push((series.to_owned(), value.parse().unwrap()));
        }
        Self(families)
    }

    /// The value of the only series of this family whose labels contain all of these.
    pub(crate) fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let found: Vec<_> = self.all(name, labels).collect();
        assert!(found.len() < 2, "{name} {labels:?}: {found:?}");
        found.first().map(|(_, value)| *value)
    }

    pub(crate) fn all<'a>(
        &'a self,
        name: &str,
        labels: &[(&str, &str)],
    ) -> impl Iterator<Item = (&'a str, f64)> + use<'a> {
        let zone = labels.iter().find(|(label, _)| *label == "zone").map(|(_, zone)| format!("{{zone={zone:?}}}"));
        let zones = self.0.get(name).into_iter().flatten();
        let asked = zones.filter(move |(of, _)| zone.as_ref().is_none_or(|zone| *of == zone_of(zone)));
        let pairs: Vec<_> = labels.iter().map(|(label, value)| format!("{label}={value:?}")).collect();
        let has = |series: &str, pair: &String| {
            series.match_indices(pair).any(|(at, _)| matches!(series.as_bytes()[at - 1], b'{' | b','))
        };
        let series = asked.flat_map(|(_, series)| series);
        series
            .filter(move |(series, _)| pairs.iter().all(|pair| has(series, pair)))
            .map(|(series, value)| (series.as_str(), *value))
    }

    /// The counts of a zone's client certificates by status, in the order of the documentation.
    pub(crate) fn counts(&self, zone: &str) -> [Option<f64>; 5] {
        ["active", "pending_reactivation", "pending_revocation", "revoked", "unknown"].map(|status| {
            self.get("cloudflare_certificates", &[("kind", "client"), ("zone", zone), ("status", status)])
        })
    }

    pub(crate) fn up(&self, zone: &str) -> Option<f64> {
        self.get("cloudflare_certificates_up", &[("kind", "client"), ("zone", zone)])
    }

    /// The last poll of this zone succeeded, and none failed before it.
    #[track_caller]
    pub(crate) fn assert_polled(&self, zone: &str) {
        assert_eq!(self.up(zone), Some(1.0), "{zone}");
        assert_eq!(self.reasons(zone), [""; 0], "{zone}");
    }

    pub(crate) fn last_success(&self, zone: &str) -> Option<f64> {
        self.get("cloudflare_certificates_last_success_timestamp_seconds", &[("zone", zone)])
    }

    /// How many polls of a zone ended.
    pub(crate) fn polls(&self, zone: &str) -> f64 {
        self.get("cloudflare_certificates_polls_total", &[("zone", zone)]).unwrap()
    }

    /// How many polls of a zone failed, and for which reasons.
    pub(crate) fn failures<'a>(&'a self, zone: &str) -> (f64, Vec<&'a str>) {
        let of_zone = [("zone", zone)];
        let failed =
            self.all("cloudflare_certificates_poll_failures_total", &of_zone).filter(|(_, value)| *value > 0.0);
        failed.fold((0.0, Vec::new()), |(sum, mut reasons), (series, value)| {
            reasons.push(series.split("reason=\"").nth(1).unwrap().trim_end_matches("\"}"));
            (sum + value, reasons)
        })
    }

    /// The reasons for which polls of a zone failed.
    pub(crate) fn reasons<'a>(&'a self, zone: &str) -> Vec<&'a str> {
        self.failures(zone).1
    }

    /// Everything that the last good listing of a zone is shown by, in order.
    pub(crate) fn listing<'a>(&'a self, zone: &str) -> Vec<(&'a str, f64)> {
        let is_of_a_poll = |name: &str| {
            let others = [
                "cloudflare_certificates_up",
                "cloudflare_certificates_available",
                // That is known of a zone without any listing.
                "cloudflare_zone_info",
                "cloudflare_certificates_last_success_timestamp_seconds",
                // Days go by at a scrape, whatever was listed.
                "cloudflare_certificate_days_until_expiry",
            ];
            name.starts_with("cloudflare_certificates_poll") || others.contains(&name)
        };
        let families = self.0.keys().filter(|name| !is_of_a_poll(name));
        let mut listing: Vec<_> = families.flat_map(|name| self.all(name, &[("zone", zone)])).collect();
        listing.sort_by_key(|(series, _)| *series);
        listing
    }
}

/// What a series has as its zone, up to a quotation mark; nothing for one without.
fn zone_of(series: &str) -> &str {
    let value = ["{zone=\"", ",zone=\""].iter().find_map(|label| series.split_once(label));
    value.map_or("", |(_, rest)| rest.split('"').next().unwrap())
}
