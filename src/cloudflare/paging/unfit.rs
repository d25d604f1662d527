//! Why a listing cannot be read.

use super::MAX_PAGES;
use crate::model::{Failure, MissingIds, Reason};

/// Why no listing came of it. A number is only there to be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::cloudflare) enum Unfit {
    /// Twice.
    #[error("The listing changed while it was read, and again while it was read once more")]
    Changing,
    /// Twice.
    #[error(
        "The listing ends early, also when it is read once more: Cloudflare says that it holds {promised} entries, and sends {sent}"
    )]
    Short { promised: usize, sent: usize },
    /// Twice.
    #[error(
        "The listing lacks {} of the {known} certificates that were listed before, also when it is read once more. Cloudflare keeps client certificates for good, so this is believed only if the next poll finds the same; until then the last good listing stays", .missing.len()
    )]
    Missing { missing: MissingIds, known: usize },
    /// More than [`Paged::max_entries`](super::Paged::max_entries).
    #[error("A page holds more than {max} entries{}", match .asked { Some(asked) => format!(", and {asked} were asked for"), None => String::new() })]
    Oversized { max: usize, asked: Option<usize> },
    /// More than [`MAX_PAGES`], by what page 1 says.
    #[error(
        "Cloudflare says that the listing holds {promised} entries, and sends {page_size} in a page: that would be more than {MAX_PAGES} pages, so the number cannot be right"
    )]
    Implausible { promised: usize, page_size: usize },
    /// Many times what was promised.
    #[error(
        "Cloudflare says that the listing holds {promised} entries, and goes on after {sent}: the number cannot be right"
    )]
    Excessive { promised: usize, sent: usize },
    /// More than [`MAX_PAGES`].
    #[error("The listing has no end within {MAX_PAGES} pages")]
    Endless,
}

impl From<Unfit> for Failure {
    fn from(unfit: Unfit) -> Self {
        let reason = match unfit {
            Unfit::Changing | Unfit::Short { .. } | Unfit::Missing { .. } => Reason::Incomplete,
            Unfit::Oversized { .. } | Unfit::Implausible { .. } | Unfit::Excessive { .. } | Unfit::Endless => {
                Reason::TooLarge
            }
        };
        let failure = Self::new(reason, format!("{unfit}."));
        match unfit {
            Unfit::Missing { missing, .. } => Self { missing: Some(missing.into()), ..failure },
            _ => failure,
        }
    }
}
