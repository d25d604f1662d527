#![doc = include_str!("../README.md")]

mod activity;
mod connection;
pub mod files;
mod host;
mod listener;
pub mod log_throttle;
mod middleware;
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
