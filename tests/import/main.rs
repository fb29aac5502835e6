//! Imports of other people's events: what real tools wrote, into a log written the ordinary way.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod faithful;
mod following;
mod numbering;
mod pooled;
mod presets;
mod recovery;
mod speed;
mod world;
