//! Whatever parses bytes from outside takes any bytes: no panic, a typed error or a value, and what
//! was taken reads back the same. Seeded (`OMS_FUZZ_SEED`), bounded (`OMS_FUZZ_RUNS`), on a corpus
//! in `tests/fuzz/corpus`, on stable Rust.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "../end_to_end/contract.rs"]
#[allow(dead_code, reason = "made for more than this")]
mod contract;
mod live;
mod mutate;
mod parsers;
#[path = "../end_to_end/service.rs"]
#[allow(dead_code, reason = "made for more than this")]
mod service;
