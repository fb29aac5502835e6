//! The repository itself: who may know whom, what may be depended on, and that the documents are true.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod architecture;
mod dependencies;
mod documents;
