//! What events mean to the read model, pure: events in log order are folded to the last state of
//! everything they changed, so that a batch costs a row for each thing and not for each event.
//!
//! * [`payload`]: the data of the ontology's events, as stored
//! * [`changes`]: the fold
//!
//! Everything is keyed by its stream's version: a change that is older than what is known is
//! ignored, so any stretch of the log may be folded again. Deletions leave a tombstone that holds
//! the version.

pub mod changes;
pub mod payload;
