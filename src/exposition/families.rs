//! Every metric of zones and certificates: its name, its HELP, and what its samples say.

use std::fmt::Display;

use super::{RenderContext, target::TargetView, text};
use crate::model::{Certificate, Listing, Reason, Rejection, TargetState};

/// One metric.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) subject: Subject,
}

/// What the samples are about.
#[derive(Clone, Copy)]
pub(super) enum Subject {
    /// Certificates that have series of their own, with the labels that identify them.
    Certificate(fn(&Listing, &Certificate, i64) -> Option<i64>),
    /// The same, with everything that Cloudflare says about them in the labels.
    CertificateInfo,
    /// Zones.
    Listing(fn(&mut ListingSamples<'_>)),
}

/// Writes the samples of one family about one zone.
pub(super) struct ListingSamples<'a> {
    pub(super) text: &'a mut String,
    pub(super) name: &'static str,
    pub(super) view: &'a TargetView,
    pub(super) context: RenderContext<'a>,
}

impl<'a> ListingSamples<'a> {
    fn listing(&self) -> Option<&'a Listing> {
        self.view.listing()
    }

    fn state(&self) -> &'a TargetState {
        &self.view.state
    }

    fn sample(&mut self, value: impl Display) {
        text::sample(self.text, self.name, &[&self.view.labels, &self.view.end_of_labels], value);
    }

    /// What is unknown has no series.
    fn sample_if(&mut self, value: Option<impl Display>) {
        if let Some(value) = value {
            self.sample(value);
        }
    }

    /// With one more label, whose value needs no escaping.
    fn labelled(&mut self, label: &str, label_value: &str, value: impl Display) {
        let TargetView { labels, end_of_labels, .. } = self.view;
        text::sample(self.text, self.name, &[labels, ",", label, "=\"", label_value, "\"", end_of_labels], value);
    }
}

/// In the order in which they are written.
pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "cloudflare_certificate_not_after_timestamp_seconds",
        help: "When the certificate expires, as Unix time in seconds. Polled and cached.",
        subject: Subject::Certificate(|_, certificate, _| certificate.not_after()),
    },
    Family {
        name: "cloudflare_certificate_not_before_timestamp_seconds",
        help: "When the certificate was issued, as Unix time in seconds. Polled and cached.",
        subject: Subject::Certificate(|_, certificate, _| certificate.not_before),
    },
    Family {
        name: "cloudflare_certificate_days_until_expiry",
        help: "Whole days until the certificate expires, rounded down, and negative after expiry. Computed at each scrape from polled and cached data.",
        subject: Subject::Certificate(|_, certificate, now| certificate.days_until_expiry(now)),
    },
    Family {
        name: "cloudflare_certificate_superseded",
        help: "1 if another certificate has taken the place of this one, otherwise 0. For kind client: another active one of the same zone and common name expires later and was issued after half of this one's lifetime. Always 0 in a fleet, where more than two active certificates of a common name were ever valid at the same time. Polled and cached.",
        subject: Subject::Certificate(|listing, certificate, _| Some(listing.is_superseded(certificate).into())),
    },
    Family {
        name: "cloudflare_certificate_info",
        help: "Always 1. The labels hold what Cloudflare reports about the certificate. Polled and cached.",
        subject: Subject::CertificateInfo,
    },
    Family {
        name: "cloudflare_certificates",
        help: "Number of entries in the listing by status, including those without a readable expiry. An entry of kind edge or custom_hostname can hold several certificates or none. Polled and cached.",
        subject: Subject::Listing(|samples| {
            if let Some(listing) = samples.listing() {
                for status in listing.kind().statuses() {
                    samples.labelled("status", status.label(), listing.count(*status));
                }
            }
        }),
    },
    Family {
        name: "cloudflare_certificates_expired",
        help: "Number of usable certificates that have expired. Counted at each scrape from polled and cached data.",
        subject: Subject::Listing(|samples| {
            samples.sample_if(samples.listing().map(|listing| listing.expired(samples.context.now)));
        }),
    },
    Family {
        name: "cloudflare_certificates_expiring",
        help: "Number of usable certificates that have not expired and expire within within_days days. Counted at each scrape from polled and cached data.",
        subject: Subject::Listing(|samples| {
            if let Some(listing) = samples.listing() {
                for &days in &samples.context.settings.expiring_within_days {
                    samples.labelled("within_days", &days.to_string(), listing.expiring(samples.context.now, days));
                }
            }
        }),
    },
    Family {
        name: "cloudflare_certificates_next_expiry_timestamp_seconds",
        help: "When the next usable certificate expires, as Unix time in seconds. Chosen at each scrape from polled and cached data.",
        subject: Subject::Listing(|samples| {
            samples.sample_if(samples.listing().and_then(|listing| listing.next_expiry(samples.context.now)));
        }),
    },
    Family {
        name: "cloudflare_certificates_rejected",
        help: "Number of entries in the last good listing that could not be read, by reason. Polled and cached.",
        subject: Subject::Listing(|samples| {
            if let Some(listing) = samples.listing() {
                for reason in Rejection::ALL {
                    samples.labelled("reason", reason.label(), listing.rejected(reason));
                }
            }
        }),
    },
    Family {
        name: "cloudflare_certificates_hidden",
        help: "Number of certificates that are counted but have no series of their own, because the listing exceeds metrics.max_certificates_per_zone. Polled and cached.",
        subject: Subject::Listing(|samples| {
            samples.sample_if(samples.listing().map(|_| samples.view.selection.hidden));
        }),
    },
    Family {
        name: "cloudflare_certificates_vanished_total",
        help: "Number of usable certificates that disappeared. Of kind client, those missing from two listings in a row. Of other kinds, those that had 30 days or less left, or had expired less than 7 days before. Polled and cached.",
        subject: Subject::Listing(|samples| samples.sample_if(samples.listing().map(|_| samples.state().vanished))),
    },
    Family {
        name: "cloudflare_certificates_available",
        help: "0 if Cloudflare reports that the plan does not include this kind of certificate, otherwise 1. Polled and cached.",
        subject: Subject::Listing(|samples| samples.sample_if(samples.state().available.map(u8::from))),
    },
    Family {
        name: "cloudflare_certificates_up",
        help: "1 if the last poll of the listing succeeded, 0 if it failed. After a failure, the last good listing stays.",
        subject: Subject::Listing(|samples| {
            let poll = samples.state().last_poll.as_ref().filter(|_| samples.state().available != Some(false));
            samples.sample_if(poll.map(|poll| u8::from(poll.failure.is_none())));
        }),
    },
    Family {
        name: "cloudflare_certificates_last_success_timestamp_seconds",
        help: "When the last good listing was completed, as Unix time in seconds. All polled and cached data of the listing is from then.",
        subject: Subject::Listing(|samples| {
            samples.sample_if(samples.state().listing.as_ref().map(|(_, completed)| completed));
        }),
    },
    Family {
        name: "cloudflare_certificates_poll_duration_seconds",
        help: "How long the last poll of the listing took, in seconds, including the wait for the request budget.",
        subject: Subject::Listing(|samples| {
            let poll = samples.state().last_poll.as_ref();
            samples.sample_if(poll.map(|poll| poll.duration.as_secs_f64()));
        }),
    },
    Family {
        name: "cloudflare_certificates_poll_interval_seconds",
        help: "Time between two polls of the listing, in seconds: as configured, or longer where the request budget is too small.",
        subject: Subject::Listing(|samples| samples.sample(samples.state().poll_interval().as_secs_f64())),
    },
    Family {
        name: "cloudflare_certificates_polls_total",
        help: "Number of completed polls of the listing, successful or not.",
        subject: Subject::Listing(|samples| samples.sample(samples.state().polls)),
    },
    Family {
        name: "cloudflare_certificates_poll_failures_total",
        help: "Number of failed polls of the listing, by reason.",
        subject: Subject::Listing(|samples| {
            for reason in Reason::ALL {
                samples.labelled("reason", reason.label(), samples.state().failures(reason));
            }
        }),
    },
    Family {
        name: "cloudflare_zone_info",
        help: "Always 1, for each zone that is watched. The labels hold what the discovery of zones reports about it. Polled and cached.",
        subject: Subject::Listing(|samples| {
            if let Some(labels) = samples.view.zone_labels() {
                text::sample(samples.text, samples.name, &[&labels], 1);
            }
        }),
    },
];
