//! What the page says of the discovery of zones.

use super::view::{age, duration};
use crate::model::DiscoveryState;

/// How it goes with one credential, in a sentence or two.
pub(super) struct DiscoveryLine {
    pub(super) words: String,
    pub(super) class: &'static str,
}

impl DiscoveryLine {
    pub(super) fn new(discovery: &DiscoveryState, now: i64) -> Self {
        let DiscoveryState { credential, watched, unwatched, completed, failure, .. } = discovery;
        let found = match completed {
            Some(completed) => {
                let (all, ago) = (watched + unwatched, duration(age(*completed, now)));
                format!(
                    "Credential {credential} sees {all} zones, of which {watched} are watched here; discovered {ago} ago."
                )
            }
            None => format!("The zones that credential {credential} sees were not discovered yet."),
        };
        match failure {
            None => Self { words: found, class: "dim" },
            Some(failure) => Self { words: format!("{found} The last discovery failed: {failure}"), class: "notice" },
        }
    }
}
