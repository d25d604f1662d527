//! What a new listing is compared with: certificates that were listed do not leave the list.

use std::{collections::HashSet, sync::Arc};

use super::{Certificate, Listing, SECONDS_PER_DAY};

/// Ids that a listing was expected to hold and did not.
pub type MissingIds = HashSet<Box<str>>;

/// What was known of a target before it is listed again.
///
/// Cloudflare keeps client certificates for good, revoked ones included. A listing that lacks ids of the one before
/// is therefore a fault over there more likely than the truth, and it would end every alert about them. Certificates of
/// other kinds can be deleted, and Cloudflare removes some of them in the moment of the outage.
#[derive(Debug, Clone, Default)]
pub struct Baseline {
    /// The last good listing, if there is one.
    pub listing: Option<Arc<Listing>>,
    /// When it was completed, in Unix seconds.
    pub completed: i64,
    /// What the last complete reading lacked of it. Whatever is missing once more really is.
    pub missing: Option<Arc<MissingIds>>,
}

/// What became of the certificates of the baseline.
#[derive(Debug, PartialEq, Eq)]
pub enum Comparison {
    /// All are there, or those that are missing may be missing.
    Believed {
        /// Those that are gone and are missed: usable ones, and of kinds whose certificates can be deleted those that
        /// were about to expire or had just done so.
        vanished: u64,
    },
    /// These are missing for the first time.
    Doubted(MissingIds),
}

impl Baseline {
    /// Compares the ids of a whole new listing with what was known.
    #[must_use]
    pub fn compare(&self, ids: &HashSet<&str>) -> Comparison {
        let known = self.listing.as_ref().map_or(&[][..], |listing| listing.certificates());
        let is_missing = |certificate: &&Certificate| !certificate.id().is_empty() && !ids.contains(certificate.id());
        let missing = known.iter().filter(is_missing);
        let was_missing =
            |certificate: &Certificate| self.missing.as_ref().is_some_and(|missing| missing.contains(certificate.id()));
        let keeps_ids = self.listing.as_ref().is_none_or(|listing| listing.kind().keeps_ids());
        if !keeps_ids || missing.clone().all(was_missing) {
            let is_missed = |certificate: &&Certificate| {
                certificate.status.is_usable() && (keeps_ids || self.was_near_its_end(certificate))
            };
            Comparison::Believed { vanished: missing.filter(is_missed).count() as u64 }
        } else {
            Comparison::Doubted(missing.map(|certificate| certificate.id().into()).collect())
        }
    }

    /// Whether a certificate had 30 days or less left when it was listed last, or had expired less than 7 days before.
    fn was_near_its_end(&self, certificate: &Certificate) -> bool {
        let left = certificate.not_after().map(|expiry| expiry.saturating_sub(self.completed));
        left.is_some_and(|left| left > -7 * SECONDS_PER_DAY && left <= 30 * SECONDS_PER_DAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Expiry, Field, Status, Texts};

    fn listing(entries: &[(&str, Status)]) -> Listing {
        let certificate = |&(id, status): &(&str, Status)| Certificate {
            texts: Texts::from([(Field::Id, id)]),
            status,
            expiry: Expiry::Missing,
            not_before: None,
        };
        Listing::new(entries.iter().map(certificate).collect())
    }

    #[test]
    fn missing_ids_are_believed_when_they_are_missing_once_more() {
        let before = listing(&[
            ("a", Status::Active),
            ("b", Status::PendingRevocation),
            ("c", Status::Revoked),
            ("d", Status::Active),
            ("", Status::Active),
        ]);
        let missing = |ids: &[&str]| ids.iter().copied().map(Box::from).collect::<MissingIds>();
        let believed = |vanished| Comparison::Believed { vanished };
        let doubted = |ids| Comparison::Doubted(missing(ids));
        for (missing_before, now, expected) in [
            (None, &["a", "b", "c", "d", "e"][..], believed(0)),
            (None, &["a", "b", "d"], doubted(&["c"])),
            (None, &[], doubted(&["a", "b", "c", "d"])),
            (Some(&["c"][..]), &["a", "b", "d"], believed(0)),
            (Some(&["a", "b", "c", "d"]), &["a"], believed(2)),
            (Some(&["a", "b"]), &["c", "d"], believed(2)),
            // More is missing than before, or something else.
            (Some(&["c"]), &["a", "b"], doubted(&["c", "d"])),
            (Some(&["c"]), &["b", "c", "d"], doubted(&["a"])),
            (Some(&["a"]), &["a", "b", "c", "d"], believed(0)),
        ] {
            let baseline = Baseline {
                listing: Some(Arc::new(before.clone())),
                completed: 0,
                missing: missing_before.map(|ids| Arc::new(missing(ids))),
            };
            let ids = now.iter().copied().collect();
            assert_eq!(baseline.compare(&ids), expected, "{missing_before:?} {now:?}");
        }
        assert_eq!(Baseline::default().compare(&HashSet::new()), believed(0));
    }
}
