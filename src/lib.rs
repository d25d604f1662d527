//! A Prometheus exporter for the certificates that Cloudflare issues or holds.
//!
//! One loop turns Cloudflare's answers into an immutable [`model::Snapshot`]; everything else is a
//! function of the latest snapshot and the time. From the top down, and no module uses one above it:
//!
//! - [`cli`]: the commands.
//! - `run`: the daemon, which is the one place that joins the parts.
//! - `inventory`: what there is to poll.
//! - `reload`: another configuration while the program runs; `restart`: what a restart finds again; `runtime_file`:
//!   where the running daemon answers.
//! - [`config`]: the configuration file; [`server`]: HTTP.
//! - [`poller`]: which zone is due; [`exposition`]: the text that Prometheus reads.
//! - [`cloudflare`]: the client of the API.
//! - [`state`]: files that survive a restart; [`systemd`]: what systemd gets and hands over.
//! - [`model`]: pure data.
//!
//! Below all of them is `exporter_toolkit`, with [`files`] that a person names, and [`log_throttle`].

pub mod cli;
pub mod cloudflare;
pub mod config;
pub mod exposition;
mod inventory;
pub mod model;
pub mod poller;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod properties;
mod reload;
mod restart;
mod run;
mod runtime_file;
pub mod server;
pub mod state;
pub mod systemd;

pub use exporter_toolkit::{files, log_throttle};
pub use reload::LoadConfig;
pub use run::{Controls, RunError, fetch, run};
