//! Every metric of zones and certificates: its name, its HELP, and what its samples say.

use std::fmt::Display;

use super::{SeriesSettings, text::Text};
use crate::model::{Certificate, Listing, Reason, Rejection, SECONDS_PER_DAY, Status, ZoneState};

/// One metric.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) help: &'static str,
    pub(super) of: Of,
}

/// What it is told of.
#[derive(Clone, Copy)]
pub(super) enum Of {
    /// Single certificates, with the labels that name them alone.
    Certificates(fn(&Listing, &Certificate, i64) -> Option<Value>),
    /// Single certificates, with all that Cloudflare tells of them in the labels.
    Details,
    /// Zones.
    Zones(fn(&mut ZoneSamples<'_>)),
}

/// The value of a sample.
pub(super) struct Value {
    pub(super) value: i64,
    /// The Unix second from which on it is another one; the largest if there is none.
    pub(super) until: i64,
}

impl Value {
    pub(super) const fn fixed(value: i64) -> Self {
        Self { value, until: i64::MAX }
    }
}

/// Takes the samples of one family for one zone.
pub(super) struct ZoneSamples<'a> {
    pub(super) text: &'a mut Text,
    pub(super) name: &'static str,
    /// `kind`, `zone` and `zone_id`.
    pub(super) labels: &'a str,
    pub(super) zone: &'a ZoneState,
    pub(super) settings: &'a SeriesSettings,
    pub(super) now: i64,
    /// Certificates left out because of the cap.
    pub(super) hidden: usize,
}

impl<'a> ZoneSamples<'a> {
    fn listing(&self) -> Option<&'a Listing> {
        self.zone.listing.as_ref().map(|(listing, _)| &**listing)
    }

    fn sample(&mut self, value: impl Display) {
        self.text.sample(self.name, self.labels, value);
    }

    /// What is unknown has no series.
    fn sample_if(&mut self, value: Option<impl Display>) {
        if let Some(value) = value {
            self.sample(value);
        }
    }

    /// With one more label, whose value needs no escaping.
    fn labelled(&mut self, label: &str, label_value: impl Display, value: impl Display) {
        self.text.sample(self.name, &format!("{},{label}=\"{label_value}\"", self.labels), value);
    }
}

/// In the order in which they are written.
pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "cloudflare_certificate_not_after_timestamp_seconds",
        kind: "gauge",
        help: "When the certificate expires, as Unix time. Polled and cached.",
        of: Of::Certificates(|_, certificate, _| certificate.not_after().map(Value::fixed)),
    },
    Family {
        name: "cloudflare_certificate_not_before_timestamp_seconds",
        kind: "gauge",
        help: "When the certificate was issued, as Unix time. Polled and cached.",
        of: Of::Certificates(|_, certificate, _| certificate.not_before.map(Value::fixed)),
    },
    Family {
        name: "cloudflare_certificate_days_until_expiry",
        kind: "gauge",
        help: "Whole days until the certificate expires, rounded down, negative once it expired. Computed at the scrape from polled and cached data.",
        of: Of::Certificates(|_, certificate, now| {
            let (days, expiry) = (certificate.days_until_expiry(now)?, certificate.not_after()?);
            // It is one less as soon as not even so many whole days are left.
            let until = days.checked_mul(SECONDS_PER_DAY).and_then(|left| expiry.checked_sub(left)?.checked_add(1));
            Some(Value { value: days, until: until.unwrap_or(now.saturating_add(1)) })
        }),
    },
    Family {
        name: "cloudflare_certificate_superseded",
        kind: "gauge",
        help: "1 if another active certificate of the same zone and common name expires later and was issued after half of this one's life. Never where more than two of the name were ever valid at once. Polled and cached.",
        of: Of::Certificates(|listing, certificate, _| {
            Some(Value::fixed(i64::from(listing.is_superseded(certificate))))
        }),
    },
    Family {
        name: "cloudflare_certificate_info",
        kind: "gauge",
        help: "Always 1; the labels say what Cloudflare tells of the certificate. Polled and cached.",
        of: Of::Details,
    },
    Family {
        name: "cloudflare_certificates",
        kind: "gauge",
        help: "Certificates of the zone by status, those without a usable date included. Polled and cached.",
        of: Of::Zones(|zone| {
            if let Some(listing) = zone.listing() {
                for status in Status::ALL {
                    zone.labelled("status", status.label(), listing.count(status));
                }
            }
        }),
    },
    Family {
        name: "cloudflare_certificates_expired",
        kind: "gauge",
        help: "Certificates that have expired and are not revoked, at the scrape. Polled and cached.",
        of: Of::Zones(|zone| zone.sample_if(zone.listing().map(|listing| listing.expired(zone.now)))),
    },
    Family {
        name: "cloudflare_certificates_expiring",
        kind: "gauge",
        help: "Certificates that are neither revoked nor expired and expire within so many days, at the scrape. Polled and cached.",
        of: Of::Zones(|zone| {
            if let Some(listing) = zone.listing() {
                for &days in &zone.settings.expiring_within_days {
                    zone.labelled("within_days", days, listing.expiring(zone.now, days));
                }
            }
        }),
    },
    Family {
        name: "cloudflare_certificates_next_expiry_timestamp_seconds",
        kind: "gauge",
        help: "The soonest expiry still ahead among certificates that are not revoked, as Unix time. Polled and cached.",
        of: Of::Zones(|zone| zone.sample_if(zone.listing().and_then(|listing| listing.next_expiry(zone.now)))),
    },
    Family {
        name: "cloudflare_certificates_rejected",
        kind: "gauge",
        help: "Entries of the last good listing that could not be used, by reason. Polled and cached.",
        of: Of::Zones(|zone| {
            if let Some(listing) = zone.listing() {
                for reason in Rejection::ALL {
                    zone.labelled("reason", reason.label(), listing.rejected(reason));
                }
            }
        }),
    },
    Family {
        name: "cloudflare_certificates_hidden",
        kind: "gauge",
        help: "Certificates that are counted but have no series of their own because of the cap. Polled and cached.",
        of: Of::Zones(|zone| zone.sample_if(zone.listing().map(|_| zone.hidden))),
    },
    Family {
        name: "cloudflare_certificates_vanished_total",
        kind: "counter",
        help: "Certificates that were not revoked, and were missing from two listings in a row. Polled and cached.",
        of: Of::Zones(|zone| zone.sample_if(zone.listing().map(|_| zone.zone.vanished))),
    },
    Family {
        name: "cloudflare_certificates_up",
        kind: "gauge",
        help: "1 if the last poll of the zone succeeded. If not, the last good listing stays.",
        of: Of::Zones(|zone| {
            let poll = zone.zone.last_poll.as_ref();
            zone.sample_if(poll.map(|poll| u8::from(poll.failure.is_none())));
        }),
    },
    Family {
        name: "cloudflare_certificates_last_success_timestamp_seconds",
        kind: "gauge",
        help: "When the last good listing of the zone was completed, as Unix time.",
        of: Of::Zones(|zone| zone.sample_if(zone.zone.listing.as_ref().map(|(_, completed)| completed))),
    },
    Family {
        name: "cloudflare_certificates_poll_duration_seconds",
        kind: "gauge",
        help: "How long the last poll of the zone took, waiting for the request budget included.",
        of: Of::Zones(|zone| {
            let poll = zone.zone.last_poll.as_ref();
            zone.sample_if(poll.map(|poll| poll.duration.as_secs_f64()));
        }),
    },
    Family {
        name: "cloudflare_certificates_poll_interval_seconds",
        kind: "gauge",
        help: "How often the zone is due to be polled.",
        of: Of::Zones(|zone| zone.sample(zone.zone.zone.interval.as_secs_f64())),
    },
    Family {
        name: "cloudflare_certificates_polls_total",
        kind: "counter",
        help: "Polls of the zone that ended.",
        of: Of::Zones(|zone| zone.sample(zone.zone.polls)),
    },
    Family {
        name: "cloudflare_certificates_poll_failures_total",
        kind: "counter",
        help: "Polls of the zone that failed, by reason.",
        of: Of::Zones(|zone| {
            for reason in Reason::ALL {
                zone.labelled("reason", reason.label(), zone.zone.failures(reason));
            }
        }),
    },
];
