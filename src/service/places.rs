//! A commit object as each of the two stores holds it.

use serde::Serialize;
use utoipa::ToSchema;

use super::Service;
use super::error::ServiceError;
use crate::actors::event_store::{LogWriter, ReadPlace};
use crate::domain::ids::{Offset, PartitionId};
use crate::domain::refusal::Refusal;
use crate::log::keys;
use crate::log::lead::Lead;
use crate::log::object::CommitObject;
use crate::store::error::{StoreError, StoreErrorKind};
use crate::store::log::log_reader::LogReader;

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

/// How often a commit is in memory at most while it is read: from either store, as lines, and as the
/// answer, in which quotes are escaped.
const COPIES: usize = 5;

/// How often it is in memory then, until it is answered: as lines and as the answer.
const KEPT: usize = 3;

impl Service {
    /// The commit object at an offset, read from both stores, with the room it takes: 404
    /// `commit_not_found` if neither has it. An error if a store that may have it cannot be read.
    pub async fn stored_object(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<(StoredObject, ReadPlace), ServiceError> {
        stored_object(&self.parts.entities.writer, partition, offset).await
    }
}

/// Reads once there is room for the largest commit. An older one may be larger: it is dropped, and read
/// again once there is room for it.
async fn stored_object(
    store: &LogWriter,
    partition: PartitionId,
    offset: Offset,
) -> Result<(StoredObject, ReadPlace), ServiceError> {
    let log = store.log();
    if partition.0 >= log.partitions() {
        let last = log.partitions() - 1;
        let message = format!("there is no partition {partition}; the last is {last}");
        return Err(Refusal::not_found("partition_not_found", message).into());
    }
    let mut place = store.read_room().place(COPIES * store.commit_bytes()).await;
    loop {
        let needed = {
            let (object, places) = read_both(log, partition, offset).await?;
            let size = object.bytes.len();
            if place.try_grow(COPIES * size) {
                let shown = StoredObject::of(&object, log.bucket(), places);
                place.shrink(KEPT * size);
                return Ok((shown, place));
            }
            COPIES * size
        };
        place.wait_for(needed).await;
    }
}

/// The commit, and what each store holds at its offset.
async fn read_both(
    log: &LogReader,
    partition: PartitionId,
    offset: Offset,
) -> Result<(CommitObject, Vec<PlaceView>), ServiceError> {
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
    match (found, failed) {
        (Some(object), _) => Ok((object, places)),
        (None, Some(error)) => Err(error.into()),
        (None, None) => {
            let message = format!("there is no commit {partition}/{offset}");
            Err(Refusal::not_found("commit_not_found", message).into())
        }
    }
}

impl StoredObject {
    fn of(object: &CommitObject, bucket: &str, places: Vec<PlaceView>) -> Self {
        let (partition, offset) = (object.header.partition, object.header.offset);
        let text = String::from_utf8_lossy(&object.bytes);
        Self {
            partition,
            offset,
            bucket: bucket.to_owned(),
            key: keys::commit(partition, offset),
            places,
            bytes: object.bytes.len(),
            lines: text.lines().map(str::to_owned).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use oms_testkit::log::{Log, order};
    use tokio::time::timeout;

    use super::*;
    use crate::actors::event_store::EventStoreSettings;

    const SOON: Duration = Duration::from_secs(1);
    const ROOM: usize = 8 << 20;
    const P0: PartitionId = PartitionId(0);

    /// A log whose commit 1 has a megabyte, and a reader of it that expects commits of so many bytes.
    async fn reader(batch_bytes: usize) -> LogWriter {
        let log = Log::new(1).await;
        log.append(&[order(0)], &"x".repeat(1 << 20)).await;
        let settings = EventStoreSettings {
            batch_bytes,
            read_bytes: ROOM,
            ..EventStoreSettings::default()
        };
        LogWriter::reader(log.log.clone(), log.heads.clone(), &settings)
    }

    #[tokio::test(start_paused = true)]
    async fn law_13_a_commit_is_shown_once_there_is_room_for_it() {
        // As large as expected, and larger.
        for batch_bytes in [4 << 20, 64 << 10] {
            let store = reader(batch_bytes).await;
            let room = store.read_room().clone();
            let others = room.place(6 << 20).await;
            let mut asked = std::pin::pin!(stored_object(&store, P0, 1));
            assert!(timeout(SOON, &mut asked).await.is_err());
            drop(others);
            let (shown, place) = timeout(SOON, asked).await.expect("in time").unwrap();
            assert_eq!(shown.lines.len(), 2);
            assert_eq!(room.taken(), KEPT * shown.bytes);
            drop(place);
            assert_eq!(room.taken(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_that_is_not_there_takes_no_room() {
        let store = reader(4 << 20).await;
        for (partition, code) in [(0, "commit_not_found"), (1, "partition_not_found")] {
            let shown = stored_object(&store, PartitionId(partition), 9).await;
            assert!(matches!(shown, Err(ServiceError::Refused(r)) if r.code == code));
            assert_eq!(store.read_room().taken(), 0);
        }
    }
}
