//! The progress of delivery, kept in the bucket: an outbox that turns out to be new starts from it,
//! so that a dropped database does not publish all history again. Derived and conservative:
//! everything before a watermark was acknowledged by the broker; it may lag, but never be ahead.
//! Because buckets are copied, it records the log and the commits at which it stands, and both are
//! compared before it is used.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{StoreError, StoreErrorKind};
use crate::ports::object_store::ObjectStore;
use oms_core::domain::ids::{Offset, PartitionId};
use oms_core::log::identity::{LogId, Mark};
use oms_core::log::object::ObjectHash;

/// Its key in the bucket.
pub const KEY: &str = "delivery/watermarks.json";

const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    format: u32,
    at: Timestamp,
    /// The log; `None` in documents of older versions.
    #[serde(default)]
    log: Option<LogId>,
    delivered: BTreeMap<PartitionId, Offset>,
    /// The hash of the commit before each offset, if known.
    #[serde(default)]
    hashes: BTreeMap<PartitionId, ObjectHash>,
}

impl Document {
    fn marks(self) -> BTreeMap<PartitionId, Mark> {
        let mark = |(partition, next)| {
            let mark = match self.hashes.get(&partition) {
                Some(hash) => Mark::on(self.log, next, *hash),
                None => Mark::unmarked(next),
            };
            (partition, mark)
        };
        self.delivered.into_iter().map(mark).collect()
    }
}

/// Reads the watermarks; none if there is no such document or it cannot be used, since starting
/// from the beginning is always correct.
pub async fn load(store: &dyn ObjectStore) -> Result<BTreeMap<PartitionId, Mark>, StoreError> {
    let Some(bytes) = store.get(KEY).await? else {
        return Ok(BTreeMap::new());
    };
    match serde_json::from_slice::<Document>(&bytes) {
        Ok(document) if document.format == FORMAT => Ok(document.marks()),
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
    delivered: BTreeMap<PartitionId, Mark>,
    at: Timestamp,
) -> Result<(), StoreError> {
    let anchors = || delivered.values().filter_map(|mark| mark.anchor);
    let document = Document {
        format: FORMAT,
        at,
        log: anchors().find_map(|anchor| anchor.log),
        delivered: delivered.iter().map(|(p, mark)| (*p, mark.next)).collect(),
        hashes: delivered
            .iter()
            .filter_map(|(p, mark)| Some((*p, mark.hash()?)))
            .collect(),
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
    use crate::adapters::memory::MemoryObjectStore;

    #[tokio::test]
    async fn watermarks_read_back_and_rubbish_means_from_the_beginning() {
        let store = MemoryObjectStore::default();
        assert!(load(&store).await.unwrap().is_empty());
        let log = Some(LogId(uuid::Uuid::from_u128(7)));
        let delivered = BTreeMap::from([
            (PartitionId(0), Mark::on(log, 7, ObjectHash([3; 32]))),
            (PartitionId(12), Mark::start(log)),
            (PartitionId(13), Mark::unmarked(4)),
        ]);
        save(&store, delivered.clone(), Timestamp::UNIX_EPOCH)
            .await
            .unwrap();
        assert_eq!(load(&store).await.unwrap(), delivered);
        let before = r#"{"format":1,"at":"1970-01-01T00:00:00Z","delivered":{"3":9}}"#;
        store.put(KEY, before.into()).await.unwrap();
        let found = load(&store).await.unwrap();
        assert_eq!(found, BTreeMap::from([(PartitionId(3), Mark::unmarked(9))]));
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
