//! What an export consists of; enough to check it without this program.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::ids::{Offset, PartitionId};

/// Format of manifests written by this program.
const FORMAT: u32 = 1;

/// How far PostgreSQL held a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionEnd {
    /// The partition.
    pub partition: PartitionId,
    /// The offset after its last commit.
    pub end: Offset,
    /// Hash of that commit's object in the log: names everything before it.
    pub digest: Option<String>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its key.
    pub key: String,
    /// The partition its events come from.
    pub partition: PartitionId,
    /// The first commit it covers.
    pub from: Offset,
    /// The commit after the last one it covers.
    pub to: Offset,
    /// Its rows.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Digest of its events: SHA-256 rolled over `partition/offset/index`, a line end and the
    /// envelope of each, in order.
    pub digest: String,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format of this file.
    pub format: u32,
    /// Names the export.
    pub export: Uuid,
    /// When it began.
    pub created: Timestamp,
    /// Rows of all parts.
    pub rows: u64,
    /// What was exported.
    pub partitions: Vec<PartitionEnd>,
    /// The files.
    pub parts: Vec<Part>,
}

impl Manifest {
    /// Of these parts.
    pub fn new(
        export: Uuid,
        created: Timestamp,
        partitions: Vec<PartitionEnd>,
        parts: Vec<Part>,
    ) -> Self {
        Self {
            format: FORMAT,
            export,
            created,
            rows: parts.iter().map(|p| p.rows).sum(),
            partitions,
            parts,
        }
    }
}
