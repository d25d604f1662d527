//! The daemon over time: its end and its next start, a clock that is set, weeks of changes and faults.
//!
//! In one program, so that these tests, which mostly wait, wait beside each other.

mod clock;
mod restart;
mod soak;
