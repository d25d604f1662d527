//! What a daemon says of itself at `/metrics`, so that a test can ask for single series.

use std::{collections::HashMap, sync::Arc};

use super::Daemon;

/// The samples of one scrape.
pub(crate) struct Metrics {
    /// The kind of certificate that is meant where only a zone or an account is named.
    kind: &'static str,
    families: Arc<Families>,
}

/// The series of each family and their values, by zone or account, since tests ask for each of hundreds at every scrape.
type Families = HashMap<String, HashMap<String, Vec<(String, f64)>>>;

impl Metrics {
    pub(crate) async fn of(daemon: &Daemon) -> Self {
        let (status, body) = daemon.get("/metrics").await;
        assert_eq!(status, 200);
        let mut families = Families::new();
        for line in body.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let family = series.split('{').next().unwrap();
            let scopes = families.entry(family.to_owned()).or_default();
            let of_scope = scopes.entry(scope_of(series).to_owned()).or_default();
            of_scope.push((series.to_owned(), value.parse().unwrap()));
        }
        Self { kind: "client", families: Arc::new(families) }
    }

    /// The same where another kind is meant.
    pub(crate) fn of_kind(&self, kind: &'static str) -> Self {
        Self { kind, families: Arc::clone(&self.families) }
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
        // The series of zones alone have both.
        let scope = labels.iter().find(|(label, _)| ["zone", "account"].contains(label));
        let scope =
            scope.filter(|_| name != "cloudflare_zone_info").map(|(label, name)| format!("{{{label}={name:?}}}"));
        let scopes = self.families.get(name).into_iter().flatten();
        let asked = scopes.filter(move |(of, _)| scope.as_ref().is_none_or(|scope| *of == scope_of(scope)));
        let pairs: Vec<_> = labels.iter().map(|(label, value)| format!("{label}={value:?}")).collect();
        let has = |series: &str, pair: &String| {
            series.match_indices(pair).any(|(at, _)| matches!(series.as_bytes()[at - 1], b'{' | b','))
        };
        let series = asked.flat_map(|(_, series)| series);
        series
            .filter(move |(series, _)| pairs.iter().all(|pair| has(series, pair)))
            .map(|(series, value)| (series.as_str(), *value))
    }

    /// What the series of the listing of a zone or account have.
    fn labels<'a>(&self, scope: &'a str) -> [(&'static str, &'a str); 2] {
        let is_of_account = ["mtls_ca", "access_ca", "gateway_ca"].contains(&self.kind);
        [("kind", self.kind), (if is_of_account { "account" } else { "zone" }, scope)]
    }

    /// The counts of a zone's client certificates by status, in the order of the documentation.
    pub(crate) fn counts(&self, zone: &str) -> [Option<f64>; 5] {
        ["active", "pending_reactivation", "pending_revocation", "revoked", "unknown"].map(|status| {
            self.get("cloudflare_certificates", &[("kind", "client"), ("zone", zone), ("status", status)])
        })
    }

    /// How many entries a listing has, of every status.
    pub(crate) fn entries(&self, scope: &str) -> f64 {
        self.all("cloudflare_certificates", &self.labels(scope)).map(|(_, value)| value).sum()
    }

    pub(crate) fn up(&self, scope: &str) -> Option<f64> {
        self.get("cloudflare_certificates_up", &self.labels(scope))
    }

    /// The last poll of this zone or account succeeded, and none failed before it.
    #[track_caller]
    pub(crate) fn assert_polled(&self, scope: &str) {
        assert_eq!(self.up(scope), Some(1.0), "{scope}");
        assert_eq!(self.reasons(scope), [""; 0], "{scope}");
    }

    pub(crate) fn last_success(&self, scope: &str) -> Option<f64> {
        self.get("cloudflare_certificates_last_success_timestamp_seconds", &self.labels(scope))
    }

    /// How many polls of a zone or account ended.
    pub(crate) fn polls(&self, scope: &str) -> f64 {
        self.get("cloudflare_certificates_polls_total", &self.labels(scope)).unwrap()
    }

    /// How many seconds apart they are.
    pub(crate) fn interval(&self, scope: &str) -> f64 {
        self.get("cloudflare_certificates_poll_interval_seconds", &self.labels(scope)).unwrap()
    }

    /// How many polls of a zone or account failed, and for which reasons.
    pub(crate) fn failures<'a>(&'a self, scope: &str) -> (f64, Vec<&'a str>) {
        let all = self.all("cloudflare_certificates_poll_failures_total", &self.labels(scope));
        let failed = all.filter(|(_, value)| *value > 0.0);
        failed.fold((0.0, Vec::new()), |(sum, mut reasons), (series, value)| {
            reasons.push(series.split("reason=\"").nth(1).unwrap().trim_end_matches("\"}"));
            (sum + value, reasons)
        })
    }

    /// The reasons for which polls of a zone or account failed.
    pub(crate) fn reasons<'a>(&'a self, scope: &str) -> Vec<&'a str> {
        self.failures(scope).1
    }

    /// Everything that the last good listing of a zone or account is shown by, in order.
    pub(crate) fn listing<'a>(&'a self, scope: &str) -> Vec<(&'a str, f64)> {
        let is_of_a_poll = |name: &str| {
            let others = [
                "cloudflare_certificates_up",
                "cloudflare_certificates_available",
                "cloudflare_certificates_last_success_timestamp_seconds",
                // Days go by at a scrape, whatever was listed.
                "cloudflare_certificate_days_until_expiry",
            ];
            name.starts_with("cloudflare_certificates_poll") || others.contains(&name)
        };
        let families = self.families.keys().filter(|name| !is_of_a_poll(name));
        let mut listing: Vec<_> = families.flat_map(|name| self.all(name, &self.labels(scope))).collect();
        listing.sort_by_key(|(series, _)| *series);
        listing
    }
}

/// What a series has as its zone, or else as its account, up to a quotation mark; nothing for one without.
fn scope_of(series: &str) -> &str {
    let labels = ["{zone=\"", ",zone=\"", "{account=\"", ",account=\""];
    let value = labels.iter().find_map(|label| series.split_once(label));
    value.map_or("", |(_, rest)| rest.split('"').next().unwrap())
}
