//! The ontology's rules and the types that all other modules use. Pure: no I/O, no async, no
//! actors, no clock of its own.
//!
//! [`ids`] are the identifiers, [`event`] is the envelope that S3, PostgreSQL and Kafka all carry,
//! [`aggregate`] is the contract of an aggregate, [`database`], [`class`] and [`instance`] are the
//! three aggregates of the ontology, and [`plain`] is the one of streams that belong to other
//! programs. [`trace`] is what joins all that is done for one request. [`property`] has the types of properties, [`weight`] the limits of size, and
//! [`document`] the form in which data are kept.

pub mod aggregate;
pub mod class;
pub mod codec;
pub mod database;
pub mod document;
pub mod event;
pub mod ids;
pub mod instance;
pub mod merge_patch;
#[cfg(feature = "openapi")]
mod openapi;
pub mod plain;
pub mod property;
pub mod refusal;
pub mod time;
pub mod trace;
pub mod versions;
pub mod weight;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
pub(crate) mod testing;
