//! The read model and its projection, against a real PostgreSQL.

#[path = "../support/mod.rs"]
mod support;

mod actor;
mod history;
mod measure;
mod oracle;
mod projection;
mod queries;
mod world;
