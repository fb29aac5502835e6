//! The log, pure: what a commit object is, what a partition knows about its streams, and which
//! command of a batch may commit. No I/O: the adapters of the store move the bytes, and
//! `actors::event_store` drives the protocol.
//!
//! ```text
//! partition 2:  [0 control][1 events][2 events][3 events] …   immutable, gap-free, hash-chained
//!                             │ line 0: header (offset, prev, writer, batch, epoch, kind)
//!                             │ line 1…: one event each, CloudEvents JSON
//! ```
//!
//! * [`object`]: bytes ⇄ commit object
//! * [`lead`]: which place of the log decides; [`fence`]: who may append
//! * [`index`]: stream → head version and the places of its events; recent commands
//! * [`partition`]: the commit protocol's decisions
//! * [`segment`]: checkpoint of the index
//! * [`identity`]: which log it is, and on which commit a copy of it stands
//! * [`audit`]: whether a partition is what the laws say
//! * [`keys`]: where everything lies in the bucket

pub mod audit;
pub mod copy_kind;
pub mod fence;
pub mod identity;
pub mod index;
pub mod keys;
pub mod lead;
pub mod object;
pub mod partition;
pub mod segment;

#[cfg(test)]
mod checkpoint_tests;
