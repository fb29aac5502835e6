//! `oms`: an event-sourced ontology service. S3 holds the events and is the single source of
//! truth, PostgreSQL is the outbox and the read model, Kafka is the transport.

pub mod actors;
pub mod domain;
pub mod http;
pub mod log;
pub mod metrics;
pub mod migration;
pub mod service;
pub mod store;
