//! Whatever parses bytes from outside takes any bytes: no panic, a typed error or a value, and what
//! was taken reads back the same. Seeded (`OMS_FUZZ_SEED`), bounded (`OMS_FUZZ_RUNS`), on a corpus
//! in `tests/fuzz/corpus`, on stable Rust.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod live;
mod mutate;
mod parsers;

/// The binary under test.
const OMS: &str = env!("CARGO_BIN_EXE_oms");
