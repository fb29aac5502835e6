//! What works between the requests and the stores: delivery, the read model, imports, the proof,
//! validation, parsers. In this process, on a log in memory, a real PostgreSQL and the real Kafka
//! protocol.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod copies;
mod delivery;
mod fuzz;
mod import;
mod proof;
mod read_model;
mod relays;
mod validators;
mod world;

/// The binary under test.
const OMS: &str = env!("CARGO_BIN_EXE_oms");
