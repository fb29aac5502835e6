//! Implementations of the ports for real stores, and one in memory.
//!
//! * [`s3`]: the bucket, over rust-s3; [`memory`]: a bucket in memory, the reference for tests
//! * [`postgres`]: the pool, the schema, and the stores in its tables
//! * [`kafka`]: the transport
//! * [`proxy`]: proxies named by the environment; [`tls`]: whom a client trusts

pub mod kafka;
pub mod memory;
pub mod postgres;
pub mod proxy;
pub mod s3;
pub mod tls;
