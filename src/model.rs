//! Pure data: zones, certificates, listings, failures and the snapshot that holds them, and which certificates matter.
//!
//! Nothing here does I/O, reads a clock, knows the JSON of the API or the text of the metrics.
//! Times are Unix seconds: X.509 dates have no finer grain.

mod baseline;
mod certificate;
mod clock;
mod expiry_counts;
mod failure;
mod field;
mod kind;
mod labels;
mod listing;
mod selection;
mod shard;
mod snapshot;
#[cfg(any(test, fuzzing))]
mod stand_in;
mod status;
mod target;
mod text;
#[cfg(test)]
pub(crate) mod two_kinds;
mod words;
mod zone;
mod zone_filter;

pub use baseline::{Baseline, Comparison, MissingIds};
pub use certificate::{Certificate, Expiry, Rejection, SECONDS_PER_DAY};
pub use clock::{UnusableClock, usable_time};
pub use expiry_counts::{ExpiryCount, ExpiryCounts};
pub use failure::{Cause, CredentialRefused, Failure, Reason};
pub use field::{ByField, Field, Interner, Texts};
pub use kind::{Kind, Scope};
pub use labels::{LabelRule, LabelRules, TargetLabels};
pub use listing::Listing;
pub use selection::{Selection, SeriesSettings, Suppression};
pub use shard::Shard;
pub use snapshot::{DiscoveryState, LastPoll, Snapshot, TargetState};
#[cfg(any(test, fuzzing))]
pub(crate) use stand_in::StandIn;
pub use status::{Class, Status};
pub use target::{InvalidScopeId, ScopeId, Target};
pub use text::{MAX_TEXT_CHARS, clean, counted};
pub use zone::{Account, Zone, ZoneList};
pub use zone_filter::{FilterVerdict, NamePattern, ZoneFilter};
