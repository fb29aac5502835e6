//! The read model and its projection, against a real PostgreSQL.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod actor;
mod foreign;
mod history;
mod oracle;
mod projection;
mod queries;
mod world;
