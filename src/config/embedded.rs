//! The embedded parts.

use serde::{Deserialize, Serialize};

/// Room for a backlog of outbox and read model, and for the write-ahead log that PostgreSQL needs
/// to process it and to start again: some tens of megabytes, plus a margin for operators' mistakes.
const RESERVE_BYTES: u64 = 256 << 20;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddedConfig {
    /// With less free space on the disk of the data directory commands are refused, with less than
    /// half of it every other write to the log too; PostgreSQL uses the rest. 0: write until the
    /// disk is full.
    pub reserve_bytes: u64,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self {
            reserve_bytes: RESERVE_BYTES,
        }
    }
}
