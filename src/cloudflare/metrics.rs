//! What the requests of one credential add up to, in the `prometheus` crate's registry.
//!
//! The credential's name is a constant label and no other free text is beside a second label,
//! because the crate hashes label values without a separator: `("ab", "c")` is `("a", "bc")` to it.

use std::{sync::Mutex, time::Duration};

use prometheus::{
    Counter, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry, core::Collector,
};

use tokio::time::Instant;

use super::{headers::RateLimit, kinds::source, lock};
use crate::model::{Kind, Scope};

/// An endpoint of the API: the value of the `endpoint` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// The listing of certificates of this kind.
    Listing(Kind),
    /// `GET /zones`
    Zones,
    /// `GET /zones/{id}`
    Zone,
    /// `GET /user/tokens/verify` or `GET /accounts/{id}/tokens/verify`
    TokenVerify,
}

impl Endpoint {
    /// Whether certificates or zones are listed there.
    pub(super) const fn is_listing(self) -> bool {
        matches!(self, Self::Listing(_) | Self::Zones)
    }

    pub(super) fn permission(self) -> &'static str {
        match self {
            Self::Listing(kind) => source(kind).permission,
            Self::Zones => "Zone → Zone → Read",
            Self::Zone => "Zone: Read on this zone",
            Self::TokenVerify => "to read itself, which every token has",
        }
    }

    /// What the id in its path is of.
    pub(super) fn scope(self) -> Scope {
        match self {
            Self::Listing(kind) => kind.scope(),
            Self::Zones | Self::Zone | Self::TokenVerify => Scope::Zone,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Listing(kind) => source(kind).endpoint,
            Self::Zones => "zones",
            Self::Zone => "zone",
            Self::TokenVerify => "token_verify",
        }
    }
}

/// Registered for as long as it lives.
#[derive(Debug)]
pub(super) struct ApiMetrics {
    registry: Registry,
    requests: IntCounterVec,
    duration: HistogramVec,
    retries: IntCounter,
    throttled: Counter,
    quota: GaugeVec,
    remaining: GaugeVec,
    /// Only once it is known: zero would be a date.
    token_expires: GaugeVec,
    shown_policies: Mutex<Vec<Box<str>>>,
}

impl Drop for ApiMetrics {
    fn drop(&mut self) {
        for collector in self.collectors() {
            // It was registered when this was made.
            let _ = self.registry.unregister(collector);
        }
    }
}

impl ApiMetrics {
    /// # Errors
    /// If this credential's metrics are registered already.
    pub(super) fn register(registry: &Registry, credential: &str) -> prometheus::Result<Self> {
        let opts = |name: &str, help: &str| Opts::new(name, help).const_label("credentials", credential);
        let gauge = |name, help, labels: &[&str]| GaugeVec::new(opts(name, help), labels);
        let buckets = vec![0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
        let duration = HistogramOpts::new(
            "cloudflare_api_request_duration_seconds",
            "Duration of requests to the Cloudflare API in seconds, including the body.",
        );
        let metrics = Self {
            registry: registry.clone(),
            shown_policies: Mutex::default(),
            token_expires: gauge(
                "cloudflare_api_token_expires_timestamp_seconds",
                "When the exporter's own API token expires, as Unix time in seconds, if Cloudflare reports it. Polled once a day and cached.",
                &[],
            )?,
            requests: IntCounterVec::new(
                opts(
                    "cloudflare_api_requests_total",
                    "Number of requests sent to the Cloudflare API, by HTTP status. The code is none if no response arrived.",
                ),
                &["endpoint", "code"],
            )?,
            duration: HistogramVec::new(
                duration.const_label("credentials", credential).buckets(buckets),
                &["endpoint"],
            )?,
            retries: IntCounter::with_opts(opts(
                "cloudflare_api_retries_total",
                "Number of requests to the Cloudflare API that were retries of a failed one.",
            ))?,
            throttled: Counter::with_opts(opts(
                "cloudflare_api_throttled_seconds_total",
                "Time in seconds that the next request waited for the request budget.",
            ))?,
            quota: gauge(
                "cloudflare_api_rate_limit_quota",
                "Number of requests that Cloudflare allows in one window, from the Ratelimit-Policy header of the last response.",
                &["policy"],
            )?,
            remaining: gauge(
                "cloudflare_api_rate_limit_remaining",
                "Number of requests that Cloudflare still allows in the window, from the Ratelimit header of the last response.",
                &["policy"],
            )?,
        };
        for collector in metrics.collectors() {
            registry.register(collector)?;
        }
        Ok(metrics)
    }

    fn collectors(&self) -> [Box<dyn Collector>; 7] {
        [
            Box::new(self.requests.clone()),
            Box::new(self.duration.clone()),
            Box::new(self.retries.clone()),
            Box::new(self.throttled.clone()),
            Box::new(self.quota.clone()),
            Box::new(self.remaining.clone()),
            Box::new(self.token_expires.clone()),
        ]
    }

    /// Counts a request when it is dropped, so that one that is given up under way counts too.
    pub(super) fn start_request(&self, endpoint: Endpoint) -> RequestTimer<'_> {
        RequestTimer { metrics: self, endpoint, started: Instant::now(), status: None }
    }

    pub(super) fn count_retry(&self) {
        self.retries.inc();
    }

    pub(super) fn add_throttled(&self, waited: Duration) {
        self.throttled.inc_by(waited.as_secs_f64());
    }

    /// Shows when the token expires, or that nothing is known of it.
    pub(super) fn set_token_expiry(&self, at: Option<i64>) {
        self.token_expires.reset();
        if let Some(at) = at {
            #[expect(clippy::cast_precision_loss, reason = "a date is far below 2^53 seconds")]
            self.token_expires.with_label_values::<&str>(&[]).set(at as f64);
        }
    }

    /// Shows these limits, and no longer those that are not among them.
    pub(super) fn set_limits(&self, limits: &[RateLimit]) {
        let show = |gauge: &GaugeVec, policy: &str, value: Option<u64>| match value {
            #[expect(clippy::cast_precision_loss, reason = "a quota is far below 2^53")]
            Some(value) => gauge.with_label_values(&[policy]).set(value as f64),
            // It may never have been there.
            None => drop(gauge.remove_label_values(&[policy])),
        };
        let mut shown = lock(&self.shown_policies);
        for gone in shown.iter().filter(|shown| !limits.iter().any(|limit| limit.policy == **shown)) {
            show(&self.quota, gone, None);
            show(&self.remaining, gone, None);
        }
        for limit in limits {
            show(&self.quota, &limit.policy, limit.quota);
            show(&self.remaining, &limit.policy, limit.remaining);
        }
        *shown = limits.iter().map(|limit| limit.policy.clone()).collect();
    }
}

#[derive(Debug)]
pub(super) struct RequestTimer<'a> {
    metrics: &'a ApiMetrics,
    endpoint: Endpoint,
    started: Instant,
    /// The HTTP status, once it is answered.
    pub(super) status: Option<u16>,
}

impl Drop for RequestTimer<'_> {
    fn drop(&mut self) {
        let (endpoint, code) = (self.endpoint.label(), self.status.map(|status| status.to_string()));
        self.metrics.requests.with_label_values(&[endpoint, code.as_deref().unwrap_or("none")]).inc();
        self.metrics.duration.with_label_values(&[endpoint]).observe(self.started.elapsed().as_secs_f64());
    }
}
