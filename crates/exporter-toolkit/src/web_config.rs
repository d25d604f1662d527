//! The web configuration: who may ask and how, in the file format of Prometheus's exporter-toolkit.
//!
//! [`config`] is what a file says, checked. [`document`] reads its YAML, [`tls`], [`protocol`], [`pem`] and [`client_auth`]
//! make TLS settings of it, [`basic_auth`] compares passwords, [`rate_limit`] counts requests, and [`reload`] follows the file while the
//! program runs.
//! How requests and connections are held to it is in `middleware` and `tls`, beside this.
//!
//! Messages contain the words of the toolkit's own, so that a search for them finds them. None repeats a value
//! that could be a key, a password or its hash.

mod basic_auth;
mod certificate;
mod client_auth;
mod config;
mod document;
mod file;
mod pem;
#[cfg(any(feature = "properties", fuzzing))]
pub mod properties;
mod protocol;
mod rate_limit;
mod reload;
mod report;
mod tls;

pub(crate) use basic_auth::{Guesser, LoginVerdict};
pub use config::WebConfig;
pub use reload::Web;
pub use report::{WebConfigErrors, WebMistake};
