//! The core of `oms`, pure: no I/O, no async, no actors, no clock. Its results depend on its
//! arguments alone, so that it is tested by properties and by a model checker, and the callers that
//! do the I/O run what was checked. It keeps no state except the scratch memory of pattern
//! searches, which affects no result.
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
//! * [`domain`]: the ontology's rules and the types that all other modules use
//! * [`log`]: commit objects, and which commands of a batch may commit
//! * [`migration`]: how the lead moves between the two stores of the log
//! * [`projection`]: what events mean to the read model
//! * [`proof`]: whether two stores hold the same log
//! * [`import`]: converts rows of another event store into events

pub mod domain;
pub mod import;
pub mod log;
pub mod migration;
pub mod projection;
pub mod proof;
