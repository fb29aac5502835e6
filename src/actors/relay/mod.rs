//! RelayActor
pub mod queue;
