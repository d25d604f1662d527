//! A Prometheus exporter for the mTLS client certificates that Cloudflare issues.

pub mod cloudflare;
pub mod config;
pub mod exposition;
pub mod model;
pub mod poller;
pub mod server;
