//! The description of the store, `meta/store.json`: written when the store is created, and never
//! again.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{StoreError, StoreErrorKind};
use crate::ports::object_store::ObjectStore;
use oms_core::log::identity::LogId;
use oms_core::log::keys;

/// The content of `meta/store.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreDescription {
    /// Format version of the whole layout.
    pub format: u32,
    /// Number of partitions; a stream's partition depends on it, so it never changes.
    pub partitions: u16,
    /// Name of the hash function of the chain and of stream names.
    pub hash: String,
    /// When the store was created.
    pub created: Timestamp,
    /// The id of the log. Descriptions of older versions have none and are never rewritten; their
    /// id follows from their bytes, see [`LogId::of_description`].
    #[serde(default)]
    pub id: Option<LogId>,
}

/// Reads the store's description; creates it with `partitions` and `id` if this is a new store.
pub async fn describe_store(
    store: &dyn ObjectStore,
    partitions: u16,
    now: Timestamp,
    id: LogId,
) -> Result<StoreDescription, StoreError> {
    let fresh = StoreDescription {
        format: oms_core::log::object::FORMAT,
        partitions: partitions.max(1),
        hash: "sha256".into(),
        created: now,
        id: Some(id),
    };
    let bytes = match store.get(keys::STORE).await? {
        Some(bytes) => bytes,
        None => {
            refuse_orphaned_log(store).await?;
            let body = serde_json::to_vec(&fresh).map_err(|e| {
                StoreError::determinate(
                    StoreErrorKind::Invalid,
                    "s3",
                    "describe store",
                    e.to_string(),
                )
            })?;
            // The first process decides the description; all processes read it back.
            store.put_if_absent(keys::STORE, body.into()).await?;
            store.get(keys::STORE).await?.ok_or_else(|| {
                StoreError::corrupt("s3", "describe store", "meta/store.json vanished")
            })?
        }
    };
    let mut found: StoreDescription = serde_json::from_slice(&bytes).map_err(|e| {
        StoreError::corrupt("s3", "describe store", format!("meta/store.json: {e}"))
    })?;
    if found.format != fresh.format || found.hash != fresh.hash || found.partitions == 0 {
        let message =
            format!("meta/store.json describes a store this program does not know: {found:?}");
        return Err(StoreError::corrupt("s3", "describe store", message));
    }
    found
        .id
        .get_or_insert_with(|| LogId::of_description(&bytes));
    Ok(found)
}

/// The id of the log in the bucket; `None` if there is no log yet.
pub async fn log_id(store: &dyn ObjectStore) -> Result<Option<LogId>, StoreError> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(default)]
        id: Option<LogId>,
    }
    let Some(bytes) = store.get(keys::STORE).await? else {
        return Ok(None);
    };
    let named: Named = serde_json::from_slice(&bytes).map_err(|e| {
        StoreError::corrupt("s3", "describe store", format!("meta/store.json: {e}"))
    })?;
    Ok(Some(named.id.unwrap_or(LogId::of_description(&bytes))))
}

/// Refuses a bucket with events but without a description: a new one could map streams to other
/// partitions than those that hold them.
async fn refuse_orphaned_log(store: &dyn ObjectStore) -> Result<(), StoreError> {
    // A description is older than the first event: if events exist without it, it was lost rather
    // than not written yet.
    let orphaned = !store.list(keys::EVENTS, None, 1).await?.is_empty()
        && store.get(keys::STORE).await?.is_none();
    if !orphaned {
        return Ok(());
    }
    let message = format!(
        "{} is missing, but there are events: restore that object from a copy of the bucket, or \
         write it again with the number of partitions this log was made with",
        keys::STORE
    );
    Err(StoreError::corrupt("s3", "describe store", message))
}
