//! The kinds of data derived from the log, with their names in metrics, health and messages.

/// A kind of data derived from the log; each says what happens if it is not of this log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CopyKind {
    /// The outbox: it waits, because going on would skip events.
    Outbox,
    /// The read model: it is rebuilt, or waits for the log.
    ReadModel,
    /// The log's copy in the store that does not lead: it waits.
    Mirror,
    /// A checkpoint of the index: it is ignored.
    Index,
    /// PostgreSQL's rows of the migration: they are ignored.
    Migration,
    /// The bucket itself, if it cannot be read and nothing else may be used instead.
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

    /// The name as a metric label.
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

    /// The name within a sentence.
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
