//! A job of the migration: long work that operators start, watch, pause and resume, and that
//! continues from its checkpoint after an interruption, in any process.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// The kinds of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Copies history into the log.
    Backfill,
    /// Compares the two stores of the log.
    Verify,
    /// Repairs what a verification found.
    Repair,
    /// Exports PostgreSQL's retired events, then empties their tables.
    Archive,
}

impl JobKind {
    /// Every kind.
    pub const ALL: [JobKind; 4] = [
        JobKind::Backfill,
        JobKind::Verify,
        JobKind::Repair,
        JobKind::Archive,
    ];

    /// The name as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            JobKind::Backfill => "backfill",
            JobKind::Verify => "verify",
            JobKind::Repair => "repair",
            JobKind::Archive => "archive",
        }
    }
}

/// The states of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// A process works on it.
    Running,
    /// It was told to pause and has not stopped yet.
    Pausing,
    /// It waits to be resumed.
    Paused,
    /// It has ended successfully, with a report.
    Done,
    /// It cannot go on; its error says why.
    Failed,
    /// It was stopped for good by an operator.
    Cancelled,
}

impl JobState {
    /// Every state.
    pub const ALL: [JobState; 6] = [
        JobState::Running,
        JobState::Pausing,
        JobState::Paused,
        JobState::Done,
        JobState::Failed,
        JobState::Cancelled,
    ];

    /// The name as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            JobState::Running => "running",
            JobState::Pausing => "pausing",
            JobState::Paused => "paused",
            JobState::Done => "done",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
        }
    }

    /// Whether it has ended for good.
    pub fn is_over(self) -> bool {
        matches!(
            self,
            JobState::Done | JobState::Failed | JobState::Cancelled
        )
    }
}

/// A text that is no name of a kind or state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no kind and no state of a job")]
pub struct UnknownWord(pub String);

impl FromStr for JobKind {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| UnknownWord(text.to_owned()))
    }
}

impl FromStr for JobState {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| UnknownWord(text.to_owned()))
    }
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// What an earlier build recorded may lack members.
/// The progress of a job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct JobProgress {
    /// The phase it is in.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub phase: String,
    /// What `done` and `total` count.
    #[cfg_attr(feature = "openapi", schema(required, example = "objects"))]
    pub unit: String,
    /// Units done so far.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub done: u64,
    /// Units in total, as far as known.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub total: u64,
    /// Events processed.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub events: u64,
    /// Events per second, over the last seconds.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub rate: f64,
    /// Estimated seconds to the end; not known while there is no rate.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub eta_seconds: Option<f64>,
    /// The store it waits for, if it cannot work.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub waiting: Option<String>,
}

/// A job as recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Job {
    /// Its id.
    pub id: Uuid,
    /// What it does.
    pub kind: JobKind,
    /// Its state.
    pub state: JobState,
    /// The parameters of the request.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub parameters: Value,
    /// The principal who started it.
    pub by: String,
    /// Where it continues; its format is the runner's.
    #[serde(skip_serializing, default)]
    pub checkpoint: Option<Value>,
    /// Its progress.
    pub progress: JobProgress,
    /// Its report, once it is done, with the fields of its kind: what a verification compared and
    /// found to differ, what a repair put right, which files an archive has.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>, required))]
    pub report: Option<Value>,
    /// Why it failed.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub error: Option<String>,
    /// The process that works on it, or did so last.
    pub node: String,
    /// When that process last stored its progress.
    pub heartbeat: Timestamp,
    /// When it was started.
    pub begun: Timestamp,
    /// When it ended.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub ended: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back() {
        for kind in JobKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        for state in JobState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        assert!("walk".parse::<JobKind>().is_err());
    }
}
