//! How far delivery has got, kept in the bucket: where an outbox that turns out to be new begins,
//! so that a dropped database does not publish all of history again. Derived and conservative:
//! everything before a watermark was acknowledged by the broker; it may lag, never lead.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::{StoreError, StoreErrorKind};
use super::object_store::ObjectStore;
use crate::domain::ids::{Offset, PartitionId};

/// Where it lies in the bucket.
pub const KEY: &str = "delivery/watermarks.json";

const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    format: u32,
    at: Timestamp,
    delivered: BTreeMap<PartitionId, Offset>,
}

/// Reads the watermarks; none if there is no such document or it cannot be used, since starting
/// from the beginning is always right.
pub async fn load(store: &dyn ObjectStore) -> Result<BTreeMap<PartitionId, Offset>, StoreError> {
    let Some(bytes) = store.get(KEY).await? else {
        return Ok(BTreeMap::new());
    };
    match serde_json::from_slice::<Document>(&bytes) {
        Ok(document) if document.format == FORMAT => Ok(document.delivered),
        Ok(document) => {
            tracing::warn!(format = document.format, "{KEY} has a format unknown here");
            Ok(BTreeMap::new())
        }
        Err(error) => {
            tracing::warn!(%error, "{KEY} is damaged");
            Ok(BTreeMap::new())
        }
    }
}

/// Writes the watermarks.
pub async fn save(
    store: &dyn ObjectStore,
    delivered: BTreeMap<PartitionId, Offset>,
    at: Timestamp,
) -> Result<(), StoreError> {
    let document = Document {
        format: FORMAT,
        at,
        delivered,
    };
    let body = serde_json::to_vec(&document).map_err(|e| {
        StoreError::determinate(
            StoreErrorKind::Invalid,
            "s3",
            "save watermarks",
            e.to_string(),
        )
    })?;
    store.put(KEY, body.into()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryObjectStore;

    #[tokio::test]
    async fn watermarks_read_back_and_rubbish_means_from_the_beginning() {
        let store = MemoryObjectStore::default();
        assert!(load(&store).await.unwrap().is_empty());
        let delivered = BTreeMap::from([(PartitionId(0), 7), (PartitionId(12), 0)]);
        save(&store, delivered.clone(), Timestamp::UNIX_EPOCH)
            .await
            .unwrap();
        assert_eq!(load(&store).await.unwrap(), delivered);
        for rubbish in [
            "",
            "{",
            r#"{"format":9,"at":"1970-01-01T00:00:00Z","delivered":{}}"#,
        ] {
            store.put(KEY, rubbish.into()).await.unwrap();
            assert!(load(&store).await.unwrap().is_empty(), "{rubbish}");
        }
    }
}
