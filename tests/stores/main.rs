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
mod kafka_secured;
mod outbox_store;
mod postgres;
mod postgres_tls;
mod s3_tls;
mod store_conformance;

use std::time::Duration;

use oms::embedded::S3Endpoint;
use oms::store::adapters::s3::{S3ObjectStore, S3Settings};

/// Production's client of an embedded endpoint.
fn client(endpoint: &S3Endpoint) -> S3ObjectStore {
    let keys = (endpoint.access_key.as_str(), endpoint.secret_key.as_str());
    S3ObjectStore::new(&S3Settings::at(
        &endpoint.endpoint,
        &endpoint.region,
        &endpoint.bucket,
        keys,
        Duration::from_secs(30),
    ))
    .unwrap()
}
