//! Why a row was parked.

use serde::{Deserialize, Serialize};

/// Why a row was parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParkReason {
    /// It has no stream id, or one that is not valid here.
    BadStream,
    /// Its stream type is one of the ontology's: configure a `stream_type_prefix` for the source.
    ReservedType,
    /// Its version is missing or below the first.
    BadVersion,
    /// It has no event type.
    BadType,
    /// Its time cannot be parsed.
    BadTime,
    /// A column of it cannot be read.
    Unreadable,
    /// Its data or metadata are not JSON.
    BadData,
    /// Its data are compressed, encrypted or in another format.
    OpaqueData,
    /// It is too large.
    TooLarge,
    /// Versions before it are missing.
    Gap,
    /// Its version was in the source before.
    Duplicate,
    /// The log has another event at its version.
    Diverged,
    /// It follows a parked row of its stream.
    AfterParked,
}

impl ParkReason {
    /// The name as stored and reported.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadStream => "bad_stream",
            Self::ReservedType => "reserved_type",
            Self::BadVersion => "bad_version",
            Self::BadType => "bad_type",
            Self::BadTime => "bad_time",
            Self::Unreadable => "unreadable",
            Self::BadData => "bad_data",
            Self::OpaqueData => "opaque_data",
            Self::TooLarge => "too_large",
            Self::Gap => "gap",
            Self::Duplicate => "duplicate",
            Self::Diverged => "diverged",
            Self::AfterParked => "after_parked",
        }
    }
}
