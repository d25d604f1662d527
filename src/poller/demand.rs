//! Whether the request budget carries the zones at their intervals.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::model::Zone;

/// Cloudflare lists this many certificates for one request.
const CERTIFICATES_PER_REQUEST: usize = 50;

const FIVE_MINUTES: Duration = Duration::from_secs(300);

/// The demand is said again when it differs this much from what was said.
const WORTH_SAYING: f64 = 0.25;

/// What the zones of each credential need, against what each credential is allowed.
#[derive(Debug)]
pub struct Demand {
    allowed: f64,
    /// Credential, interval and requests of each zone.
    zones: Vec<(Arc<str>, Duration, usize)>,
    credentials: BTreeMap<Arc<str>, Load>,
}

#[derive(Debug, Default)]
struct Load {
    /// Requests per five minutes.
    needed: f64,
    /// What was said of it; nothing if it was never too much.
    said: Option<f64>,
}

impl Demand {
    /// Takes every zone to cost one request a poll, until it was listed.
    pub fn new<'a>(requests_per_5m: u32, zones: impl IntoIterator<Item = &'a Zone>) -> Self {
        let zones: Vec<_> = zones.into_iter().map(|zone| (zone.credential.clone(), zone.interval, 1)).collect();
        let mut credentials = BTreeMap::<_, Load>::new();
        for (credential, interval, requests) in &zones {
            credentials.entry(credential.clone()).or_default().needed += rate(*requests, *interval);
        }
        Self { allowed: f64::from(requests_per_5m), zones, credentials }
    }

    /// Each credential with the requests per five minutes that its zones need.
    pub fn needed(&self) -> impl Iterator<Item = (&str, f64)> {
        self.credentials.iter().map(|(credential, load)| (&**credential, load.needed))
    }

    /// A zone turned out to hold so many certificates.
    pub(super) fn sized(&mut self, index: usize, certificates: usize) {
        let (credential, interval, requests) = &mut self.zones[index];
        let before = rate(*requests, *interval);
        *requests = certificates.div_ceil(CERTIFICATES_PER_REQUEST).max(1);
        if let Some(load) = self.credentials.get_mut(credential) {
            load.needed += rate(*requests, *interval) - before;
        }
    }

    /// Says where the budget is not enough, where that changed much, and where it is enough again.
    pub(super) fn say_changes(&mut self) {
        let allowed = self.allowed;
        for (credential, load) in &mut self.credentials {
            let factor = load.needed / allowed;
            match load.said {
                None if factor <= 1.0 => {}
                Some(_) if factor <= 1.0 => {
                    load.said = None;
                    tracing::info!(%credential, needed_per_5m = load.needed.ceil(), allowed_per_5m = allowed, "The request budget is enough for the configured intervals again.");
                }
                Some(said) if (load.needed - said).abs() < said * WORTH_SAYING => {}
                _ => {
                    load.said = Some(load.needed);
                    let intervals = self
                        .zones
                        .iter()
                        .filter(|(name, ..)| name == credential)
                        .map(|(_, interval, _)| *interval)
                        .min()
                        .map(|interval| {
                            let real = Duration::from_secs(interval.mul_f64(factor).as_secs());
                            format!(
                                "{} becomes {}",
                                humantime::format_duration(interval),
                                humantime::format_duration(real)
                            )
                        });
                    tracing::warn!(
                        %credential,
                        needed_per_5m = load.needed.ceil(),
                        allowed_per_5m = allowed,
                        interval = intervals.unwrap_or_default(),
                        "The request budget cannot carry the zones at their intervals, so they are listed less often; raise the intervals or api.requests_per_5m."
                    );
                }
            }
        }
    }
}

/// Requests per five minutes.
fn rate(requests: usize, interval: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a zone costs far fewer than 2^53 requests")]
    let requests = requests as f64;
    requests * FIVE_MINUTES.as_secs_f64() / interval.as_secs_f64()
}
