//! The core of `oms`, pure: no I/O, no async, no actors, no clock. What it decides depends on what it
//! is given alone, so it is tested by properties and by a model checker, and whoever does the I/O runs
//! what was checked. It keeps no state of its own but the scratch memory of pattern searches, on which
//! no answer depends.
//!
//! ```text
//! proof   import   projection
//!   │  ╲     │         │
//!   │ migration        │
//!   │     │  │         │
//!   └──▶ log │         │
//!         └─▶ domain ◀─┘
//! ```
//!
//! * [`domain`]: the ontology's rules and the words everything else speaks
//! * [`log`]: what a commit object is, and which command of a batch may commit
//! * [`migration`]: how the lead moves between the two places of the log
//! * [`projection`]: what events mean to the read model
//! * [`proof`]: whether two places hold the same log
//! * [`import`]: from a row of another event store to an event of ours

pub mod domain;
pub mod import;
pub mod log;
pub mod migration;
pub mod projection;
pub mod proof;
