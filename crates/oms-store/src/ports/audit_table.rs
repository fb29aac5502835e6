//! The port to the audit trail: what administrators ordered, and who was turned away.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::error::StoreError;

/// What kind of thing an entry tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum AuditKind {
    /// Somebody with the role `admin` ordered something.
    Command,
    /// Somebody was turned away: 401 or 403.
    Refusal,
}

impl AuditKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Command, Self::Refusal];

    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Refusal => "refusal",
        }
    }

    /// From its word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

impl fmt::Display for AuditKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// UUIDv7: orders entries by the time of the process that recorded them.
    pub id: Uuid,
    /// When the request was answered.
    pub time: Timestamp,
    /// The process that answered.
    pub node: String,
    /// What kind of thing it tells of.
    pub kind: AuditKind,
    /// Who; `None` where nobody was recognised.
    pub principal: Option<String>,
    /// The address the request came from.
    pub address: Option<String>,
    /// Method and path.
    pub action: String,
    /// The body of the order, cut where it is long.
    pub body: Option<String>,
    /// HTTP status of the answer.
    pub status: u16,
    /// Code of the problem, where the answer was one.
    pub code: Option<String>,
    /// The request's id, as answered in `X-Request-Id`; of the first, where several are counted.
    pub request_id: String,
    /// How often it happened: more than once only where refusals are counted together.
    pub times: u64,
}

/// Which entries to read.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Older than this entry.
    pub before: Option<Uuid>,
    /// Of this principal.
    pub principal: Option<String>,
    /// Of this kind.
    pub kind: Option<AuditKind>,
}

/// The audit trail.
#[async_trait]
pub trait AuditTable: Send + Sync + 'static {
    /// Adds entries; those that are there already stay as they are, so an append of unknown outcome
    /// may be made again.
    async fn append(&self, entries: Vec<AuditEntry>) -> Result<(), StoreError>;

    /// The newest entries first, at most `limit`.
    async fn entries(
        &self,
        filter: AuditFilter,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, StoreError>;

    /// Removes entries older than `keep` by the database's clock; answers how many.
    async fn prune(&self, keep: Duration) -> Result<u64, StoreError>;
}
