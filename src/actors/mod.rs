//! The actors: thin actix shells over plain state machines.
//!
//! | actor | how many | owns | a restart in place |
//! |---|---|---|---|
//! | [`aggregate`] | one per live entity | folded state, version | reads snapshot and events again |
//! | [`event_store`] | one per partition | the batch being formed, the put in flight | reads the tail; settles what was in flight |
//! | [`outbox`] | one per process | the cursor of the tail into the outbox | watermarks are the truth |
//! | [`relay`] | one per process, partitions by lease | publishes in flight | rows and leases are the truth |
//! | [`projection`] | one per process | the cursor of the read model | its position is stored with the data |
//! | [`mirror`] | one per process | how far the copy in the other store is | the copy's end is the truth |
//! | [`migration_mode`] | one per process | which stage each partition is in; switches | reads rows and control records; switches are recorded |
//!
//! Policies are in [`supervision::policy`], limits in each actor's file. A write walks through
//! [`aggregate::registry`] → [`aggregate`] → [`event_store`], and only the outcome comes back.

pub mod aggregate;
pub mod arbiters;
pub mod claim;
mod corrupt_partitions;
pub mod error;
pub mod event_store;
mod halted;
pub mod import;
pub mod migration_mode;
pub mod mirror;
pub mod mirror_progress;
pub mod outbox;
pub mod projection;
pub mod relay;
pub mod supervision;
pub mod write_side;
pub mod write_stats;
