//! What `oms` needs of S3, PostgreSQL and Kafka: ports, adapters, and the metrics. A port is a trait
//! that says what the service needs of a store; an adapter speaks to a real one. Actors hold
//! `Arc<dyn Port>`; only the composition root sees adapters.
//!
//! * [`ports`]: the traits; [`adapters`]: their implementations; [`log`]: one log in two stores
//! * [`error`]: failures, and whether the operation happened; [`backoff`]: pauses between retries;
//!   [`probe`]: checks that a bucket keeps the promises that the log depends on
//! * [`health`]: state of the dependencies; [`halts`]: what does not go on, and since when;
//!   [`alarms`]: what is wrong with copies of the log; [`disk_space`]: free space for commands
//! * [`io_runtime`], [`metered`]: decorators that count, time and bound calls and run them on the
//!   I/O runtime; [`metrics`]: every metric of the service; [`traces`]: spans of what is done for a
//!   request
//! * [`failpoint`]: places where failures can be injected; [`flaws`]: laws that are broken on purpose,
//!   in test builds

pub mod adapters;
pub mod alarms;
pub mod backoff;
pub mod disk_space;
pub mod error;
pub mod failpoint;
pub mod flaws;
pub mod halts;
pub mod health;
pub mod io_runtime;
pub mod log;
pub mod metered;
pub mod metrics;
pub mod ports;
pub mod probe;
pub mod traces;
