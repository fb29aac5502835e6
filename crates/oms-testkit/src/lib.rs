//! What the tests of `oms` start, break and look at.
//!
//! * servers: [`postgres`] and [`pooler`]s in front of it, [`kafka`] (whose faults can be ordered),
//!   [`broker`] (the real one, where one was asked for), [`secured_kafka`] (real, with TLS, accounts
//!   and rights), [`service`] (`oms serve` as a process), [`careless_s3`] (one that must not hold a
//!   log), [`collector`] of traces, [`provider`] whose tokens let people in; [`certificates`] for
//!   those that speak TLS
//! * what breaks the way between two of them: [`proxy`], [`kafka_proxy`]; [`tls`] in front of one
//! * [`held_port`]: the port of a server that is down
//! * doubles, which stand in for a port: [`faulty`], [`boastful`], [`undeleting`]
//! * [`log`]: a log written the way the service writes it
//!
//! Knows the core and the ports, not the service: a change of the service does not build it anew. What
//! needs the actors is in `tests/engine`. The bucket in memory is
//! `oms_store::adapters::memory`, because the tests of that crate need it too.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

pub mod boastful;
pub mod broker;
pub mod careless_s3;
pub mod certificates;
pub mod collector;
pub mod faulty;
pub mod held_port;
pub mod kafka;
pub mod kafka_proxy;
pub mod log;
pub mod pooler;
pub mod postgres;
pub mod provider;
pub mod proxy;
pub mod secured_kafka;
pub mod service;
pub mod tls;
pub mod undeleting;

use std::time::Duration;

/// Longest wait for anything a test waits for; far above what is normal, so that a busy machine does
/// not fail a test and a hang does.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `condition` gives something.
pub async fn eventually<T, F>(what: &str, mut condition: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "waited in vain: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The I/O runtime of a test: the one it runs on.
pub fn io() -> oms_store::io_runtime::IoRuntime {
    oms_store::io_runtime::IoRuntime::new(tokio::runtime::Handle::current())
}

/// The wall clock.
#[allow(
    clippy::disallowed_methods,
    reason = "tests live in the machine's time"
)]
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// A fresh id.
#[allow(clippy::disallowed_methods, reason = "tests make ids of their own")]
pub fn new_uuid() -> uuid::Uuid {
    uuid::Uuid::now_v7()
}
