//! Differences between the stores, and lists of them with bounded size.

use std::fmt;

use hashbrown::HashSet;
use serde::{Deserialize, Serialize};

use crate::domain::ids::{Offset, PartitionId, StreamKey, Version};
use crate::log::keys;
use crate::log::lead::Lead;

/// Differences listed in full; further ones are only counted. A store that differs at so many
/// offsets needs a decision rather than a list.
pub const MAX_LISTED: usize = 10_000;

/// Divergent streams that are distinguished, at 16 bytes each. Beyond it the count is a lower
/// bound.
const MAX_STREAMS: usize = 1_000_000;

/// The kinds of differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DivergenceKind {
    /// PostgreSQL has the object, S3 does not.
    MissingInS3,
    /// S3 has the object, PostgreSQL does not.
    MissingInPostgres,
    /// Both have a readable object, but different ones.
    Differs,
    /// What S3 has at the offset cannot be read as its commit object.
    DamagedInS3,
    /// What PostgreSQL has at the offset cannot be read as its commit object, or its columns
    /// contradict its events.
    DamagedInPostgres,
    /// Neither store has a readable object at the offset.
    DamagedInBoth,
    /// S3 has an object that is no part of the log.
    ExtraInS3,
    /// PostgreSQL has rows that are no part of the log.
    ExtraInPostgres,
    /// Both have the same object, but it does not follow the previous one.
    ChainBroken,
}

impl DivergenceKind {
    /// The name as stored and shown.
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

    /// The kind of an object that `place` lacks.
    pub fn missing_in(place: Lead) -> Self {
        match place {
            Lead::S3 => Self::MissingInS3,
            Lead::Postgres => Self::MissingInPostgres,
        }
    }

    /// The kind of an object of `place` that is no part of the log.
    pub fn extra_in(place: Lead) -> Self {
        match place {
            Lead::S3 => Self::ExtraInS3,
            Lead::Postgres => Self::ExtraInPostgres,
        }
    }
}

/// How a difference can be repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// Copy PostgreSQL's object to the free offset in S3.
    CopyToS3,
    /// Copy S3's object to the free offset in PostgreSQL.
    CopyToPostgres,
    /// Move S3's bytes to quarantine and put PostgreSQL's object in their place.
    ReplaceInS3,
    /// Move PostgreSQL's rows to quarantine and put S3's object in their place.
    ReplaceInPostgres,
    /// Move what is no part of the log to quarantine.
    Quarantine,
    /// As [`Remedy::Quarantine`], but only when an operator orders it: it may be the only copy of
    /// an acknowledged write.
    QuarantineOnOrder,
    /// Not repairable by this program.
    None,
}

impl Remedy {
    /// The name as shown.
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

/// Identifies an object or row that is no commit object of the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StrayName {
    /// A key of the bucket.
    Key(String),
    /// A row of PostgreSQL's `events`.
    Row {
        /// Its partition column.
        partition: i32,
        /// Its commit column.
        offset: i64,
        /// Its index column.
        index: i32,
    },
    /// A row of PostgreSQL's `commits` in a partition that does not exist.
    Commit {
        /// Its partition column.
        partition: i32,
        /// Its offset column.
        offset: i64,
    },
}

impl StrayName {
    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        if text.starts_with(keys::EVENTS) {
            return Some(Self::Key(text.to_owned()));
        }
        let mut parts = text.split('/');
        let kind = parts.next()?;
        let numbers: Vec<i64> = parts.map(|n| n.parse().ok()).collect::<Option<_>>()?;
        match (kind, numbers.as_slice()) {
            ("row", &[partition, offset, index]) => Some(Self::Row {
                partition: partition.try_into().ok()?,
                offset,
                index: index.try_into().ok()?,
            }),
            ("commit", &[partition, offset]) => Some(Self::Commit {
                partition: partition.try_into().ok()?,
                offset,
            }),
            _ => None,
        }
    }
}

impl fmt::Display for StrayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => f.write_str(key),
            Self::Row {
                partition,
                offset,
                index,
            } => write!(f, "row/{partition}/{offset}/{index}"),
            Self::Commit { partition, offset } => write!(f, "commit/{partition}/{offset}"),
        }
    }
}

/// A difference between the stores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Divergence {
    /// The partition.
    pub partition: PartitionId,
    /// The offset.
    pub offset: Offset,
    /// The kind of difference.
    pub kind: DivergenceKind,
    /// The stream of the first event that differs, if known.
    pub stream: Option<String>,
    /// That event's version.
    pub version: Option<Version>,
    /// That event's index in the object.
    pub index: Option<u32>,
    /// Number of events that differ; 0 if only the header does.
    pub events: u64,
    /// SHA-256 of S3's object, in hex.
    pub s3: Option<String>,
    /// SHA-256 of PostgreSQL's object, in hex.
    pub postgres: Option<String>,
    /// SHA-256 of the first event that differs, in S3, in hex.
    pub s3_event: Option<String>,
    /// SHA-256 of the first event that differs, in PostgreSQL, in hex.
    pub postgres_event: Option<String>,
    /// The store that is right; `None` if that is unknown.
    pub right: Option<Lead>,
    /// Why that store is right, or why it is unknown.
    pub why: String,
    /// How it can be repaired.
    pub repair: Remedy,
    /// What it is, if it is no commit object of the log.
    pub stray: Option<StrayName>,
    /// The streams whose events differ.
    #[serde(skip)]
    pub streams: Vec<StreamKey>,
}

impl Divergence {
    /// A difference without details.
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

/// A list of differences with bounded size.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Divergences {
    /// Number of differences.
    pub total: u64,
    /// The first [`MAX_LISTED`] of them.
    pub listed: Vec<Divergence>,
    #[serde(skip)]
    streams: HashSet<StreamKey>,
    /// Number of divergent streams when the list was loaded from a checkpoint.
    #[serde(default)]
    streams_before: u64,
}

impl Divergences {
    /// Adds a difference.
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

    /// Number of streams with events that differ. After an interruption, a stream that differs on
    /// both sides of it counts twice.
    pub fn streams(&self) -> u64 {
        self.streams_before + self.streams.len() as u64
    }

    /// The list as a checkpoint stores it.
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
