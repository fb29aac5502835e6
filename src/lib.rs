//! `oms`: an event-sourced ontology service. S3 holds the events and is the single source of
//! truth, PostgreSQL is the outbox and the read model, Kafka is the transport.

#![allow(missing_docs, reason = "only the binary and the tests use these")]

pub mod actors;
pub mod boot;
pub mod cli;
pub mod clock;
pub mod config;
pub mod file_stamp;
pub mod http;
pub mod jobs;
pub mod service;
pub mod telemetry;

// Modules of the other crates, under the paths that they have in this one.
pub use oms_core::{domain, import, log, migration, projection, proof};
pub use oms_embedded as embedded;
pub use oms_store as store;
pub use oms_store::{flaws, metrics};
