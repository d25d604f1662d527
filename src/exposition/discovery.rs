//! The metrics of the discovery of zones. There are none where the configuration lists all zones.

use std::fmt::Display;

use super::text::{head, label, sample};
use crate::model::{DiscoveryState, Reason};

/// Gives the samples of one discovery, each with one more label, if that has a name.
type AddSamples = fn(&DiscoveryState, &mut dyn FnMut(&str, &str, &dyn Display));

/// Writes all of them.
pub(super) fn render(discoveries: &[DiscoveryState]) -> String {
    let mut text = String::new();
    if discoveries.is_empty() {
        return text;
    }
    let mut family = |name, help, add: AddSamples| {
        head(&mut text, name, help);
        for discovery in discoveries {
            let mut labels = String::new();
            label(&mut labels, "credentials", &discovery.credential);
            add(discovery, &mut |more, of_more, value| {
                let mut labels = labels.clone();
                if !more.is_empty() {
                    label(&mut labels, more, of_more);
                }
                sample(&mut text, name, &[&labels], value);
            });
        }
    };
    family(
        "cloudflare_discovery_up",
        "1 if the last discovery of zones succeeded, 0 if it failed. After a failure, the zones of the last good one stay.",
        |discovery, sample| {
            if discovery.is_tried {
                sample("", "", &u8::from(discovery.failure.is_none()));
            }
        },
    );
    family(
        "cloudflare_discovery_last_success_timestamp_seconds",
        "When the last good discovery of zones was completed, as Unix time in seconds.",
        |discovery, sample| {
            if let Some(completed) = discovery.completed {
                sample("", "", &completed);
            }
        },
    );
    family(
        "cloudflare_discovery_zones",
        "Number of zones that the last good discovery found, by whether this exporter watches them. Polled and cached.",
        |discovery, sample| {
            if discovery.completed.is_some() {
                sample("watched", "true", &discovery.watched);
                sample("watched", "false", &discovery.unwatched);
            }
        },
    );
    family(
        "cloudflare_discovery_failures_total",
        "Number of failed discoveries of zones, by reason.",
        |discovery, sample| {
            for reason in Reason::ALL {
                sample("reason", reason.label(), &discovery.failures[reason as usize]);
            }
        },
    );
    text
}
