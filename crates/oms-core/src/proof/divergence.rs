//! What is told of a difference, and lists of differences that stay bounded.

use hashbrown::HashSet;
use serde::{Deserialize, Serialize};

use crate::domain::ids::{Offset, PartitionId, StreamKey, Version};
use crate::log::lead::Lead;

/// Divergences listed in full; more are only counted. A place that differs at so many offsets needs
/// a decision, not a list.
pub const MAX_LISTED: usize = 10_000;

/// Divergent streams that are told apart: 16 bytes each. Beyond it the count is a lower bound.
const MAX_STREAMS: usize = 1_000_000;

/// What kind of difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DivergenceKind {
    /// PostgreSQL holds it, S3 does not.
    MissingInS3,
    /// S3 holds it, PostgreSQL does not.
    MissingInPostgres,
    /// Both hold a readable object, not the same.
    Differs,
    /// What S3 holds cannot be read as the object of its offset.
    DamagedInS3,
    /// What PostgreSQL holds cannot be read as the object of its offset, or its columns contradict
    /// its events.
    DamagedInPostgres,
    /// Neither place holds it in a form that can be read.
    DamagedInBoth,
    /// S3 holds what is no part of the log.
    ExtraInS3,
    /// PostgreSQL holds what is no part of the log.
    ExtraInPostgres,
    /// Both hold the same object, and it does not follow the one before it.
    ChainBroken,
}

impl DivergenceKind {
    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingInS3 => "missing_in_s3",
            Self::MissingInPostgres => "missing_in_postgres",
            Self::Differs => "differs",
            Self::DamagedInS3 => "damaged_in_s3",
            Self::DamagedInPostgres => "damaged_in_postgres",
            Self::DamagedInBoth => "damaged_in_both",
            Self::ExtraInS3 => "extra_in_s3",
            Self::ExtraInPostgres => "extra_in_postgres",
            Self::ChainBroken => "chain_broken",
        }
    }

    /// What one place lacks that the other holds.
    pub fn missing_in(place: Lead) -> Self {
        match place {
            Lead::S3 => Self::MissingInS3,
            Lead::Postgres => Self::MissingInPostgres,
        }
    }

    /// What one place holds that is no part of the log.
    pub fn extra_in(place: Lead) -> Self {
        match place {
            Lead::S3 => Self::ExtraInS3,
            Lead::Postgres => Self::ExtraInPostgres,
        }
    }
}

/// What would mend a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// Copy PostgreSQL's object to the free offset in S3.
    CopyToS3,
    /// Copy S3's object to the free offset in PostgreSQL.
    CopyToPostgres,
    /// Put S3's bytes into quarantine and PostgreSQL's object in their place.
    ReplaceInS3,
    /// Put PostgreSQL's rows into quarantine and S3's object in their place.
    ReplaceInPostgres,
    /// Move what is no part of the log out of the way, into quarantine.
    Quarantine,
    /// The same, but only on a person's word: it may be the only copy of what was acknowledged.
    QuarantineOnOrder,
    /// Nothing this program can decide.
    None,
}

impl Remedy {
    /// As shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CopyToS3 => "copy_to_s3",
            Self::CopyToPostgres => "copy_to_postgres",
            Self::ReplaceInS3 => "replace_in_s3",
            Self::ReplaceInPostgres => "replace_in_postgres",
            Self::Quarantine => "quarantine",
            Self::QuarantineOnOrder => "quarantine_on_order",
            Self::None => "none",
        }
    }
}

/// What names a thing that is no commit object of the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StrayName {
    /// A key of the bucket.
    Key(String),
    /// A row of PostgreSQL's `events`.
    Row {
        /// Its partition, as it says.
        partition: i32,
        /// Its commit, as it says.
        offset: i64,
        /// Its place in the commit, as it says.
        index: i32,
    },
    /// A row of PostgreSQL's `commits` in a partition that does not exist.
    Commit {
        /// Its partition, as it says.
        partition: i32,
        /// Its offset, as it says.
        offset: i64,
    },
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Divergence {
    /// The partition.
    pub partition: PartitionId,
    /// The offset.
    pub offset: Offset,
    /// What kind of difference.
    pub kind: DivergenceKind,
    /// The stream of the first event that differs, where it can be told.
    pub stream: Option<String>,
    /// That event's number in its stream.
    pub version: Option<Version>,
    /// That event's place in the object.
    pub index: Option<u32>,
    /// How many events differ; 0 where only the header does.
    pub events: u64,
    /// SHA-256 of what S3 holds.
    pub s3: Option<String>,
    /// SHA-256 of what PostgreSQL holds.
    pub postgres: Option<String>,
    /// SHA-256 of the first event that differs, in S3.
    pub s3_event: Option<String>,
    /// SHA-256 of the first event that differs, in PostgreSQL.
    pub postgres_event: Option<String>,
    /// The place that is right; `None` where that cannot be told.
    pub right: Option<Lead>,
    /// Why that one, or why none.
    pub why: String,
    /// What would mend it.
    pub repair: Remedy,
    /// What it is, where it is no commit object of the log.
    pub stray: Option<StrayName>,
    /// The streams whose events differ.
    #[serde(skip)]
    pub streams: Vec<StreamKey>,
}

impl Divergence {
    /// A difference of which no more is known yet.
    pub fn new(partition: PartitionId, offset: Offset, kind: DivergenceKind) -> Self {
        Self {
            partition,
            offset,
            kind,
            stream: None,
            version: None,
            index: None,
            events: 0,
            s3: None,
            postgres: None,
            s3_event: None,
            postgres_event: None,
            right: None,
            why: String::new(),
            repair: Remedy::None,
            stray: None,
            streams: Vec::new(),
        }
    }
}

/// A list of divergences that stays bounded.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Divergences {
    /// How many there are.
    pub total: u64,
    /// The first [`MAX_LISTED`] of them.
    pub listed: Vec<Divergence>,
    #[serde(skip)]
    streams: HashSet<StreamKey>,
    /// Streams known to be divergent when the list was read back.
    #[serde(default)]
    streams_before: u64,
}

impl Divergences {
    /// Adds one.
    pub fn add(&mut self, divergence: Divergence) {
        self.total += 1;
        for stream in &divergence.streams {
            if self.streams.len() < MAX_STREAMS {
                self.streams.insert(*stream);
            }
        }
        if self.listed.len() < MAX_LISTED {
            self.listed.push(divergence);
        }
    }

    /// Streams with events that differ. After an interruption a stream that differs on both sides of
    /// it counts twice.
    pub fn streams(&self) -> u64 {
        self.streams_before + self.streams.len() as u64
    }

    /// As it is stored by a checkpoint.
    pub fn to_store(&self) -> Self {
        Self {
            total: self.total,
            listed: self.listed.clone(),
            streams: HashSet::new(),
            streams_before: self.streams(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::StreamName;

    #[test]
    fn law_13_the_list_is_bounded_and_the_count_is_not() {
        let mut list = Divergences::default();
        for offset in 0..MAX_LISTED as u64 + 5 {
            let mut divergence =
                Divergence::new(PartitionId(0), offset, DivergenceKind::MissingInS3);
            let stream = StreamName::from_stored("order", &format!("{}", offset % 7));
            divergence.streams.push(stream.key());
            list.add(divergence);
        }
        assert_eq!(list.listed.len(), MAX_LISTED);
        assert_eq!(list.total, MAX_LISTED as u64 + 5);
        assert_eq!(list.streams(), 7);
        assert_eq!(list.to_store().streams(), 7);
    }
}
