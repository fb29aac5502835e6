//! The ontology's rules and the words everything else speaks. Pure: no I/O, no async, no actors,
//! no clock of its own.
//!
//! [`ids`] names things, [`event`] is the envelope that S3, PostgreSQL and Kafka all carry,
//! [`aggregate`] is the contract of everything that decides, [`database`], [`class`] and
//! [`instance`] are the three aggregates of the ontology, and [`plain`] is the one of streams that
//! belong to other programs. [`property`] knows the types that data can have, [`weight`] how large a
//! command and its events may be, and [`document`] is how data is kept.

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
pub mod versions;
pub mod weight;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
pub(crate) mod testing;
