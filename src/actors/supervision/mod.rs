//! Supervision: what actix does not do.
//!
//! 1. An actor that panics is restarted in place by its [`guard`], with its mailbox kept and its
//!    state rebuilt; [`policy`] says how often and how fast.
//! 2. One that fails more often, or whose task or thread ends unexpectedly, is rebuilt by the
//!    [`supervisor`] behind the same [`handle`], with another mailbox.
//! 3. When that does not help ([`tiers`]), the process ends or goes on without the actor.
//!
//! The [`tree`] shows everyone what happened and takes orders to kill; [`health`] finds stuck
//! actors ([`condition`]).

pub mod condition;
pub mod guard;
pub mod handle;
pub mod health;
mod intensity;
pub mod policy;
pub mod supervisor;
pub mod tiers;
pub mod tree;
mod wakes;

#[cfg(test)]
mod tests;
