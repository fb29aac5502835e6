//! `oms`: an event-sourced ontology service. S3 holds the events and is the single source of
//! truth, PostgreSQL is the outbox and the read model, Kafka is the transport.

pub mod actors;
pub mod boot;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod embedded;
pub mod flaws;
pub mod http;
pub mod import;
pub mod jobs;
pub mod log;
pub mod metrics;
pub mod migration;
pub mod projection;
pub mod proof;
pub mod service;
pub mod store;
pub mod telemetry;
