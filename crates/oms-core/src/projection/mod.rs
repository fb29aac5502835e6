//! The read model's changes by events; pure. Events in log order are folded into the last state of
//! everything they changed, so that a batch costs one row per database, class or instance and not
//! one per event.
//!
//! * [`payload`]: the data of the ontology's events, as stored
//! * [`changes`]: the fold
//!
//! Each row has its stream's version, and older changes are ignored, so that any part of the log
//! may be folded again. Deletions leave a tombstone that holds the version.

pub mod changes;
pub mod payload;
