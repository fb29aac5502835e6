//! A commit object as each of the two stores holds it.

use serde::Serialize;
use utoipa::ToSchema;

use super::Service;
use super::error::ServiceError;
use crate::domain::ids::{Offset, PartitionId};
use crate::domain::refusal::Refusal;
use crate::log::keys;
use crate::log::lead::Lead;
use crate::log::object::CommitObject;
use crate::store::error::{StoreError, StoreErrorKind};

/// Whether a place holds a commit.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = CommitPlaceState)]
pub enum PlaceState {
    /// It does.
    Here,
    /// It does not.
    Absent,
    /// It could not be asked, or what it holds cannot be read.
    Unknown,
}

/// What one store holds at an offset.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = CommitPlace)]
pub struct PlaceView {
    /// The store.
    pub store: Lead,
    /// `here`, `absent` or `unknown`: the store could not be read, or holds something unreadable.
    pub state: PlaceState,
    /// SHA-256 of what it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub sha256: Option<String>,
    /// Why it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<&'static str>,
}

/// A commit object as stored.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StoredObject {
    /// Its partition.
    pub partition: PartitionId,
    /// Its number there.
    #[schema(value_type = u64)]
    pub offset: Offset,
    /// The bucket of the log.
    pub bucket: String,
    /// Its key in the bucket, whether or not it is there.
    #[schema(example = "events/0000/00000000000000000002.ndjson")]
    pub key: String,
    /// S3 and PostgreSQL, each asked anew.
    pub places: Vec<PlaceView>,
    /// Its size.
    #[schema(value_type = u64)]
    pub bytes: usize,
    /// Each line as stored, without its line end: the header, then the events.
    pub lines: Vec<String>,
}

impl Service {
    /// The commit object at an offset, read from both stores: 404 `commit_not_found` if neither has
    /// it. An error if a store that may have it cannot be read.
    pub async fn stored_object(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<StoredObject, ServiceError> {
        let log = self.parts.entities.writer.log();
        if partition.0 >= log.partitions() {
            let last = log.partitions() - 1;
            let message = format!("there is no partition {partition}; the last is {last}");
            return Err(Refusal::not_found("partition_not_found", message).into());
        }
        let mut places = Vec::new();
        let mut found: Option<CommitObject> = None;
        let mut failed: Option<StoreError> = None;
        for store in [Lead::S3, Lead::Postgres] {
            let Some(place) = log.place(store) else {
                continue;
            };
            let (state, sha256, error) = match place.get(partition, offset).await {
                Ok(Some(object)) => {
                    let hash = object.hash().to_string();
                    found.get_or_insert(object);
                    (PlaceState::Here, Some(hash), None)
                }
                Ok(None) => (PlaceState::Absent, None, None),
                Err(error) if error.kind == StoreErrorKind::NotFound => {
                    (PlaceState::Absent, None, None)
                }
                Err(error) => {
                    // Not returned to the caller, because it names hosts and tables.
                    tracing::debug!(%error, %partition, offset, "a commit cannot be shown");
                    let why = if error.is_transient() {
                        "it could not be asked"
                    } else {
                        "what it holds cannot be read"
                    };
                    failed.get_or_insert(error);
                    (PlaceState::Unknown, None, Some(why))
                }
            };
            places.push(PlaceView {
                store,
                state,
                sha256,
                error,
            });
        }
        let Some(object) = found else {
            return Err(match failed {
                Some(error) => error.into(),
                None => {
                    let message = format!("there is no commit {partition}/{offset}");
                    Refusal::not_found("commit_not_found", message).into()
                }
            });
        };
        let text = String::from_utf8_lossy(&object.bytes);
        Ok(StoredObject {
            partition,
            offset,
            bucket: log.bucket().to_owned(),
            key: keys::commit(partition, offset),
            places,
            bytes: object.bytes.len(),
            lines: text.lines().map(str::to_owned).collect(),
        })
    }
}
