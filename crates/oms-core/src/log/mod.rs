//! The log, pure: commit objects, the index of a partition's streams, and which commands of a batch
//! may commit. No I/O: the adapters of the store move the bytes, and `actors::event_store` drives
//! the protocol.
//!
//! ```text
//! partition 2:  [0 control][1 events][2 events][3 events] …   immutable, gap-free, hash-chained
//!                             │ line 0: header (offset, prev, writer, batch, epoch, kind)
//!                             │ line 1…: one event each, CloudEvents JSON
//! ```
//!
//! * [`object`]: a commit object and its bytes
//! * [`lead`]: which store leads; [`fence`]: who may append
//! * [`partition`]: the decisions of the commit protocol; [`batch`]: appends that share an object
//! * [`index`]: stream → head version and the locations of its events, from the [`summary`] of each
//!   object; [`recent_commands`]: what a repeated request is told
//! * [`segment`]: checkpoint of the index
//! * [`identity`]: which log a copy is of, and at which commit it stands
//! * [`audit`]: checks of a partition against the laws
//! * [`keys`]: the keys of the bucket

pub mod audit;
pub mod batch;
pub mod copy_kind;
pub mod fence;
pub mod identity;
pub mod index;
pub mod keys;
pub mod lead;
pub mod object;
pub mod partition;
pub mod recent_commands;
pub mod segment;
pub mod summary;

#[cfg(test)]
mod checkpoint_tests;
