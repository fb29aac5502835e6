//! The ontology's rules and the words everything else speaks. Pure: no I/O, no async, no actors,
//! no clock of its own.
//!
//! [`ids`] names things, [`event`] is the envelope that S3, PostgreSQL and Kafka all carry,
//! [`aggregate`] is the contract of everything that decides, and [`database`], [`class`] and
//! [`instance`] are the three aggregates of the ontology.

pub mod aggregate;
pub mod class;
pub mod event;
pub mod ids;
pub mod refusal;
pub mod time;
