//! Supervision: what actix does not do. An actor that panics is restarted in place by its
//! [`guard`], with its mailbox kept and its state rebuilt; [`policy`] says how often and how fast;
//! the [`tree`] shows everyone what happened and takes orders to kill; [`health`] is judged from
//! outside.

pub mod guard;
pub mod health;
pub mod policy;
pub mod tree;

#[cfg(test)]
mod tests;
