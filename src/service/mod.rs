//! Use cases: what the service does for whoever asks, free of HTTP. Commands go to the actors,
//! queries to the read model or to the log; [`error`] is everything a caller can be told.
//!
//! * [`context`]: who asks, and under which promises
//! * [`commands`]: writes
//! * [`queries`]: reads
//! * [`operations`]: what operators see and do
//! * [`view`]: what callers get to see
//! * [`error`]: refusals and failures

pub mod commands;
pub mod context;
pub mod error;
pub mod operations;
pub mod queries;
pub mod view;

/// Everything the service can do. Cheap to share; made by `boot`.
pub struct Service {}
