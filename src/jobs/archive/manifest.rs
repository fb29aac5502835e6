//! The contents of an export; enough to check it without this program.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::ids::{Offset, PartitionId};

/// Format version of manifests written by this program.
const FORMAT: u32 = 1;

/// The end of a partition in PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionEnd {
    pub partition: PartitionId,
    /// The offset after its last commit.
    pub end: Offset,
    /// Hash of that commit's object in the log, which covers all commits before it.
    pub digest: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its key in the bucket.
    pub key: String,
    pub partition: PartitionId,
    /// The first commit it covers.
    pub from: Offset,
    /// The commit after the last one it covers.
    pub to: Offset,
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Digest of its events: one SHA-256 over `partition/offset/index`, a line end and the envelope
    /// of each, in order.
    pub digest: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format version of this file.
    pub format: u32,
    pub export: Uuid,
    pub created: Timestamp,
    pub rows: u64,
    /// The ends of the exported partitions.
    pub partitions: Vec<PartitionEnd>,
    pub parts: Vec<Part>,
}

impl Manifest {
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
