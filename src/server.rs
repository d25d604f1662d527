//! What is served over HTTP: the exposition, health, and a page for people.
//!
//! The only place that knows axum. It takes bound listeners and a stop signal, and only reads the snapshot.

mod settings;

pub use settings::{InvalidListenAddress, InvalidTelemetryPath, ListenAddress, TelemetryPath};
