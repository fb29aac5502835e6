//! The stores: what each of them promises to whoever uses it, on real servers and real protocols.
//!
//! One PostgreSQL serves all of them; each test has a database of its own in it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod commits;
mod embedded_crash;
mod embedded_s3_protocol;
mod kafka;
mod outbox_store;
mod postgres;
mod store_conformance;
