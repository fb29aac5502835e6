//! What the tests start by themselves.
#![allow(dead_code, reason = "every test binary uses its own part of this")]

pub mod boastful;
pub mod kafka;
pub mod kafka_proxy;
pub mod log;
pub mod pooler;
pub mod postgres;
pub mod proxy;
pub mod undeleting;
pub mod world;

use std::time::Duration;

/// Longest wait for a condition; only a failing test waits this long.
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
pub fn io() -> oms::store::io_runtime::IoRuntime {
    oms::store::io_runtime::IoRuntime::new(tokio::runtime::Handle::current())
}

/// The wall clock.
pub fn now() -> jiff::Timestamp {
    use oms::clock::SystemClock;
    use oms::domain::time::Clock;
    SystemClock.now()
}
