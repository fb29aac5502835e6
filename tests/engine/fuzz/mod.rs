//! Whatever parses bytes from outside takes any bytes: no panic, a typed error or a value, and what
//! was taken reads back the same. Seeded (`OMS_FUZZ_SEED`), bounded (`OMS_FUZZ_RUNS`), on a corpus
//! in `corpus` beside this file, on stable Rust.

mod live;
mod mutate;
mod parsers;
