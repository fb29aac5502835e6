//! What the service needs of its stores, as traits: whoever works with a store holds one of these and
//! does not know which adapter is behind it.
//!
//! * [`object_store`]: S3; [`commit_store`]: a place of the log, in S3 or PostgreSQL
//! * [`log_repair`]: a place of the log for whoever proves or mends it
//! * [`migration_table`], [`job_table`]: what PostgreSQL records of the migration and of its jobs
//! * [`delivery`]: the outbox; [`transport`]: Kafka
//! * [`read_model`]: queries, and the projection's side of them
//! * [`import`]: another event store, and what is kept of how far its import is
//! * [`audit_table`]: the audit trail

pub mod audit_table;
pub mod commit_store;
pub mod delivery;
pub mod import;
pub mod job_table;
pub mod log_repair;
pub mod migration_table;
pub mod object_store;
pub mod read_model;
pub mod transport;
