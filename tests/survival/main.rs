//! The daemon over time: its end and its next start, a clock that is set, weeks of changes and faults.
//!
//! In one program, so that these tests, which mostly wait, wait beside each other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

mod clock;
mod restart;
mod soak;
#[path = "../support/mod.rs"]
mod support;
