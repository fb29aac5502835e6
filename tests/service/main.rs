//! The service as a process: started, used, killed and operated as its users do all that.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod end_to_end;
mod runbook;

/// The binary under test.
const OMS: &str = env!("CARGO_BIN_EXE_oms");
