//! Why a job ended before its work was done.

use serde_json::Value;

use crate::store::error::StoreError;

/// The command that a job has received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobCommand {
    /// No command: go on.
    Run,
    /// Stop at a checkpoint.
    Pause,
    /// Stop for good.
    Cancel,
    /// Another process has taken the job over, or this one is shutting down.
    Leave,
}

/// The runner must stop, because of this command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("told to stop ({0:?})")]
pub struct Interrupted(pub JobCommand);

/// Why a job ended without a report.
#[derive(Debug, thiserror::Error)]
pub enum JobFailure {
    /// It was told to stop, and left a checkpoint.
    #[error("interrupted: {0:?}")]
    Interrupted(#[from] Interrupted),
    /// A store failed. After a temporary failure the job continues from its checkpoint.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be done; repeating it would not help.
    #[error("{0}")]
    Failed(String),
}

/// Parses parameters or a checkpoint; `what` names them in the error.
pub fn read<T: serde::de::DeserializeOwned>(value: &Value, what: &str) -> Result<T, JobFailure> {
    T::deserialize(value).map_err(|e| JobFailure::Failed(format!("{what}: {e}")))
}

/// Serialises a report or a checkpoint.
pub fn write<T: serde::Serialize>(value: &T) -> Result<Value, JobFailure> {
    serde_json::to_value(value).map_err(|e| JobFailure::Failed(e.to_string()))
}
