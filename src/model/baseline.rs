//! What a new listing is compared with: certificates that were listed do not leave the list.

use std::{collections::HashSet, sync::Arc};

use super::{Certificate, Listing, Status};

/// Ids that a listing was expected to hold and did not.
pub type MissingIds = HashSet<Box<str>>;

/// What was known of a target before it is listed again.
///
/// Cloudflare keeps client certificates for good, revoked ones included. A listing that lacks ids of the one before
/// is therefore a fault over there more likely than the truth, and it would end every alert about them.
#[derive(Debug, Clone, Default)]
pub struct Baseline {
    /// The last good listing, if there is one.
    pub listing: Option<Arc<Listing>>,
    /// What the last complete reading lacked of it. Whatever is missing once more really is.
    pub missing: Option<Arc<MissingIds>>,
}

/// What became of the certificates of the baseline.
#[derive(Debug, PartialEq, Eq)]
pub enum Comparison {
    /// All are there, or those that are missing were missing before: this many of them were usable.
    Believed {
        /// Usable certificates that are gone.
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
        if missing.clone().all(was_missing) {
            let usable = missing.filter(|certificate| certificate.status != Status::Revoked);
            Comparison::Believed { vanished: usable.count() as u64 }
        } else {
            Comparison::Doubted(missing.map(|certificate| certificate.id().into()).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Expiry, Field, Texts};

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
                missing: missing_before.map(|ids| Arc::new(missing(ids))),
            };
            let ids = now.iter().copied().collect();
            assert_eq!(baseline.compare(&ids), expected, "{missing_before:?} {now:?}");
        }
        assert_eq!(Baseline::default().compare(&HashSet::new()), believed(0));
    }
}
