//! Prometheus' web configuration for a Rust server: who may ask, and how.
//!
//! A server that scrapes reach is an `axum` router and some listeners. [`serve`] answers on them, with the TLS, client
//! certificates, passwords, headers and rate limit of a file in the format of Prometheus's exporter-toolkit, which it
//! follows while it runs. No client keeps another one out.
//!
//! Beside that stand two small things that a daemon with such files needs anyway: [`files`], which reads and follows
//! them, and [`log_throttle`], which keeps what clients cause from flooding the log.
//! What the router answers is none of its business.

mod activity;
mod connection;
pub mod files;
mod host;
mod listener;
pub mod log_throttle;
mod middleware;
mod request;
mod tls;
mod web_config;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use listener::{MAX_CONNECTIONS, serve};
#[cfg(any(feature = "properties", fuzzing))]
pub use web_config::properties;
pub use web_config::{Web, WebConfig, WebConfigErrors, WebMistake};

/// What is locked here is whole at all times.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
