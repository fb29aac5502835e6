//! The port to the audit trail: administrators' requests and refused callers.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::error::StoreError;

/// The kinds of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum AuditKind {
    /// A request to a route that requires the role `admin`.
    Command,
    /// A refused request: 401 or 403.
    Refusal,
}

impl AuditKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Command, Self::Refusal];

    /// The name as stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Refusal => "refusal",
        }
    }

    /// The kind of a stored name.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

impl fmt::Display for AuditKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An entry of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// UUIDv7: orders entries by the time of the process that recorded them.
    pub id: Uuid,
    /// When the request was answered.
    pub time: Timestamp,
    /// The process that answered.
    pub node: String,
    /// The kind of entry.
    pub kind: AuditKind,
    /// The principal; `None` if none was recognised.
    pub principal: Option<String>,
    /// The address the request came from.
    pub address: Option<String>,
    /// Method and path.
    pub action: String,
    /// The body of the request, cut if it is long.
    pub body: Option<String>,
    /// HTTP status of the answer.
    pub status: u16,
    /// Code of the problem, if the answer was one.
    pub code: Option<String>,
    /// The request's id, as answered in `X-Request-Id`; of the first one, if several are counted
    /// together.
    pub request_id: String,
    /// Number of requests; more than one only where refusals are counted together.
    pub times: u64,
}

/// Selects entries.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only those before this entry.
    pub before: Option<Uuid>,
    /// Only those of this principal.
    pub principal: Option<String>,
    /// Only those of this kind.
    pub kind: Option<AuditKind>,
}

/// The stored audit trail.
#[async_trait]
pub trait AuditTable: Send + Sync + 'static {
    /// Adds entries; existing ones stay as they are, so that an append of unknown outcome can be
    /// repeated.
    async fn append(&self, entries: Vec<AuditEntry>) -> Result<(), StoreError>;

    /// Entries, newest first, at most `limit`.
    async fn entries(
        &self,
        filter: AuditFilter,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, StoreError>;

    /// Removes entries older than `keep` by the database's clock; returns how many.
    async fn prune(&self, keep: Duration) -> Result<u64, StoreError>;
}
