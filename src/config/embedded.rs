//! The embedded parts.

use serde::{Deserialize, Serialize};

/// A backlog of the outbox and the read model, and the write-ahead log PostgreSQL needs to work it
/// off and to come up again: some tens of megabytes, and room for an operator's mistakes.
const RESERVE_BYTES: u64 = 256 << 20;

/// See the module.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddedConfig {
    /// With less room on the disk of the data directory commands are refused, with less than half
    /// of it every other write to the log too; PostgreSQL has the rest. 0: write until the disk is
    /// full.
    pub reserve_bytes: u64,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self {
            reserve_bytes: RESERVE_BYTES,
        }
    }
}
