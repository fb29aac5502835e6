//! The migration from events in PostgreSQL to events in S3 and back, as decisions. Pure: the code
//! that does the I/O (`actors::migration_mode`, and the model in `tests/handoff_model`) asks
//! here for the next step, so that what is model-checked is what runs.
//!
//! ```text
//!  legacy ⇄ dual_write/postgres ⇄ dual_write/s3 ⇄ s3_only
//!         a                     b               c          only b moves the lead
//! ```
//!
//! A partition is ONE log; the stores differ only in where it ends, and one is always a prefix of
//! the other. What decides who may append:
//!
//! * to PostgreSQL: the partition's row, read in the append's own transaction;
//! * to S3: the last control record before the append's offset.
//!
//! * [`stage`], [`edge`]: the stages and the steps between them; who leads is part of the log:
//!   [`log::lead`](crate::log::lead)
//! * [`record`]: the row, and every change it may make
//! * [`handoff`]: decides the next step of a hand-off; [`fence`]: who may append to PostgreSQL
//! * [`partition_state`]: a partition's state as far as a process knows; [`unread`]: whether
//!   PostgreSQL may lead while the bucket has not been read
//! * [`switch`]: a request to change the stage, and its outcome; [`job`]: long-running work
//! * [`gate`]: conditions of a step; [`guardrail`]: when to step back; [`ramp`]: which partitions

pub mod edge;
pub mod fence;
pub mod gate;
pub mod guardrail;
pub mod handoff;
pub mod job;
#[cfg(feature = "openapi")]
mod openapi;
pub mod partition_state;
pub mod ramp;
pub mod record;
pub mod stage;
pub mod switch;
pub mod switch_order;
pub mod unread;

#[cfg(test)]
mod model_tests;
