//! What is derived from the log, by kind: the words of metrics, health and messages.

/// Which copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CopyKind {
    /// The outbox: it waits, or it would skip events.
    Outbox,
    /// The read model: it is made anew, or waits for the log.
    ReadModel,
    /// The log's copy in the store that does not lead: it waits.
    Mirror,
    /// A checkpoint of the index: it is done without.
    Index,
    /// PostgreSQL's rows of the migration: they are not believed.
    Migration,
    /// The bucket itself, where it cannot be read and nothing else may stand in for it.
    Bucket,
}

impl CopyKind {
    /// Every kind.
    pub const ALL: [CopyKind; 6] = [
        Self::Outbox,
        Self::ReadModel,
        Self::Mirror,
        Self::Index,
        Self::Migration,
        Self::Bucket,
    ];

    /// As a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outbox => "outbox",
            Self::ReadModel => "read_model",
            Self::Mirror => "mirror",
            Self::Index => "index",
            Self::Migration => "migration",
            Self::Bucket => "bucket",
        }
    }

    /// In a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Self::Outbox => "the outbox",
            Self::ReadModel => "the read model",
            Self::Mirror => "the copy",
            Self::Index => "the index's checkpoint",
            Self::Migration => "the migration's row",
            Self::Bucket => "the bucket",
        }
    }
}
