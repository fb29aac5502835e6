//! What the service needs of its stores, as traits: components hold these and do not know the
//! adapter.
//!
//! * [`object_store`]: S3; [`commit_store`]: the log in one store, S3 or PostgreSQL
//! * [`log_repair`]: verification and repair of the log in one store
//! * [`migration_table`], [`job_table`]: records of the migration and its jobs in PostgreSQL
//! * [`delivery`]: the outbox; [`transport`]: Kafka
//! * [`read_model`]: queries, and updates by the projection
//! * [`import`]: another event store, and the checkpoint of its import
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
