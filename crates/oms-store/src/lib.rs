//! What `oms` needs of S3, PostgreSQL and Kafka: ports, adapters, and the metrics. A port is a trait
//! that says what the service needs of a store; an adapter speaks to a real one. Actors hold
//! `Arc<dyn Port>`; only the composition root sees adapters.
//!
//! * [`ports`]: the traits; [`adapters`]: what is behind them; [`log`]: what makes one log of two places
//! * [`error`]: did it happen? [`backoff`]: when it is tried again; [`probe`]: whether a bucket keeps
//!   what the log relies on
//! * [`health`]: how the dependencies are; [`halts`]: what does not go on, and since when; [`alarms`]:
//!   what was found wrong with copies of the log; [`disk_space`]: whether the disk has room
//! * [`io_runtime`], [`metered`]: decorators that count, time, bound and hop to the I/O runtime;
//!   [`metrics`]: every metric of the service
//! * [`failpoint`]: places where a store may be made to fail; [`flaws`]: laws that are broken on purpose,
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
