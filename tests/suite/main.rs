//! The program from outside, and what is shipped beside it.
//!
//! One program of many modules: each one more would be linked with all of the exporter again, and tests that mostly
//! wait can wait beside each other.

#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc, reason = "a test that fails panics")]
#![allow(clippy::too_many_lines, reason = "tables of cases are long")]

mod access;
mod check;
mod configuration;
mod discovery;
mod disk;
mod docs;
mod faults;
mod hostile;
mod kinds;
mod labels;
mod layers;
mod listing;
mod logs;
mod monitoring;
mod outside;
mod packaging;
mod page;
mod prometheus;
mod reload;
mod secrets;
mod server;
mod support;
mod survival;
mod systemd;
mod web_config;
