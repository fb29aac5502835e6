//! What `oms` needs of S3, PostgreSQL and Kafka: ports, adapters, and the metrics. A port is a trait
//! that says what the service needs of a store; an adapter speaks to a real one. Actors hold `Arc<dyn Port>`; only `boot` sees adapters.
//!
//! * [`object_store`]: the port to S3; adapters [`s3`] (rust-s3) and [`memory`] (tests' oracle)
//! * [`log_objects`]: who may write where in the bucket
//! * [`commit_store`]: the port to a place of the log; [`event_log`]: the partitioned log on top of it
//! * [`migration_table`]: the port to what PostgreSQL records of the migration; [`job_table`]: to its
//!   jobs
//! * [`custody`]: the port to a place of the log for whoever proves or mends it; adapter
//!   [`bucket_custody`]
//! * [`health`]: how the dependencies are; [`halts`]: what does not go on, and since when
//! * [`faulty`]: a decorator that makes a store fail on purpose
//! * [`postgres`]: the pool, the schema, and the adapters that use them
//! * [`import`]: the ports of an import: a foreign event store, and what is kept of how far we are
//! * [`audit_table`]: the port to the audit trail
//! * [`delivery`]: the port to the outbox; [`transport`]: the port to Kafka, adapter [`kafka`]
//! * [`alarms`]: what was found wrong with copies of the log
//! * [`metered`]: decorators that count, time, bound and hop to the I/O runtime; [`metrics`]: every
//!   metric of the service
//! * [`flaws`]: laws that are broken on purpose, in test builds

pub mod alarms;
pub mod audit_table;
pub mod backoff;
pub mod bucket_custody;
pub mod commit_store;
pub mod custody;
pub mod delivered;
pub mod delivery;
pub mod error;
pub mod event_log;
pub mod failpoint;
pub mod faulty;
pub mod flaws;
pub mod halts;
pub mod health;
pub mod import;
pub mod io_runtime;
pub mod job_table;
pub mod kafka;
pub mod log_heads;
pub mod log_objects;
pub mod memory;
pub mod metered;
pub mod metrics;
pub mod migration_table;
pub mod object_cache;
pub mod object_store;
pub mod outbox_rows;
pub mod postgres;
pub mod probe;
pub mod proxy;
pub mod read_model;
pub mod room;
pub mod s3;
pub mod s3_commits;
pub mod transport;
