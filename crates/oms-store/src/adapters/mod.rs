//! What speaks to real stores, and one in memory.
//!
//! * [`s3`]: the bucket, over rust-s3; [`memory`]: a bucket in memory, the oracle of tests
//! * [`postgres`]: the pool, the schema, and what is kept in tables
//! * [`kafka`]: the transport
//! * [`proxy`]: proxies that the environment names

pub mod kafka;
pub mod memory;
pub mod postgres;
pub mod proxy;
pub mod s3;
