//! The typed client of Cloudflare's API: signing, pacing, retrying, paging and reading its answers.
//!
//! The only place that knows the JSON of the API, and with `cli`, which asks the daemon, the only one that knows reqwest.
//! It hands out `model` types and knows nothing of schedules, metrics text or configuration files.

mod cause;
mod client;
mod clients;
mod credential;
mod date;
mod envelope;
mod headers;
mod kinds;
mod lenient;
mod metrics;
mod paging;
#[cfg(any(test, fuzzing))]
pub(crate) mod properties;
mod request;
mod response;
mod retry;
mod roots;
mod settings;
mod throttle;
mod token_expiry;
mod transport;
mod zones;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use client::{Client, ClientError, Listed};
pub use clients::{ClientMaker, Clients};
pub use credential::{Credential, CredentialError, Scheme, SecretSource, check_email};
pub use envelope::read_page;
pub use kinds::requests_for;
pub use roots::{CaFile, CaFileError, Roots, read_roots};
pub use settings::{ApiSettings, BaseUrl, InvalidBaseUrl};
#[cfg(test)]
pub(crate) use throttle::Throttle;
pub use throttle::{Priority, Ticket};
pub use transport::announce_proxy;

/// No change under a lock here can be left half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
