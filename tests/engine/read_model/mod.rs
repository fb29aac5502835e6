//! The read model and its projection, against a real PostgreSQL.

mod actor;
mod busy;
mod foreign;
mod history;
mod oracle;
mod projection;
mod queries;
mod world;
