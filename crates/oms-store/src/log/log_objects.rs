//! Limits who may write under `events/`, where the log is (law 5). Three types for one bucket,
//! chosen when it is connected:
//!
//! * [`LogObjects`]: the log's writer. It can create objects at free offsets, and nothing else.
//! * [`RepairObjects`]: for repair. Only it can replace and remove objects of the log.
//! * [`DerivedObjects`]: everything else. It can read all objects, and write all but those of the
//!   log.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{StoreError, StoreErrorKind};
use crate::flaws::{Flaw, flawed};
use crate::ports::object_store::{Created, ObjectInfo, ObjectStore};
use oms_core::log::keys;

fn refused(operation: &'static str, why: String) -> StoreError {
    StoreError::determinate(StoreErrorKind::Invalid, "s3", operation, why)
}

/// Refuses keys that are no part of the log.
fn within_log(operation: &'static str, key: &str) -> Result<(), StoreError> {
    match keys::is_log(key) {
        true => Ok(()),
        false => Err(refused(operation, format!("{key} is no part of the log"))),
    }
}

/// Refuses keys of the log.
fn beside_log(operation: &'static str, key: &str) -> Result<(), StoreError> {
    match keys::is_log(key) {
        false => Ok(()),
        true => Err(refused(
            operation,
            format!("{key} is part of the log, which is only ever appended to"),
        )),
    }
}

/// The log's objects, for the writer of the log.
#[derive(Clone)]
pub struct LogObjects(Arc<dyn ObjectStore>);

impl LogObjects {
    /// The log's objects in this bucket.
    pub fn of(bucket: Arc<dyn ObjectStore>) -> Self {
        Self(bucket)
    }

    /// Creates an object unless its key is taken.
    pub async fn create(&self, key: &str, body: Bytes) -> Result<Created, StoreError> {
        within_log("append", key)?;
        if flawed(Flaw::OverwriteCommits) {
            self.0.put(key, body).await?;
            return Ok(Created::Yes);
        }
        self.0.put_if_absent(key, body).await
    }

    /// See [`ObjectStore::get`].
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.0.get(key).await
    }

    /// See [`ObjectStore::get_range`].
    pub async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, StoreError> {
        self.0.get_range(key, range).await
    }

    /// See [`ObjectStore::list`].
    pub async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectInfo>, StoreError> {
        self.0.list(prefix, start_after, limit).await
    }
}

/// The log's objects, for a repair. The caller has to make sure that each change is right.
#[derive(Clone)]
pub struct RepairObjects(Arc<dyn ObjectStore>);

impl RepairObjects {
    /// The log's objects in this bucket.
    pub fn of(bucket: Arc<dyn ObjectStore>) -> Self {
        Self(bucket)
    }

    /// Creates an object unless its key is taken.
    pub async fn create(&self, key: &str, body: Bytes) -> Result<Created, StoreError> {
        within_log("repair", key)?;
        self.0.put_if_absent(key, body).await
    }

    /// Replaces an object of the log.
    pub async fn replace(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        within_log("repair", key)?;
        self.0.put(key, body).await
    }

    /// Removes an object under `events/`.
    pub async fn remove(&self, key: &str) -> Result<(), StoreError> {
        within_log("repair", key)?;
        self.0.delete(key).await
    }

    /// Saves removed bytes in quarantine.
    pub async fn keep(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        beside_log("quarantine", key)?;
        self.0.put(key, body).await
    }

    /// See [`ObjectStore::get`].
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.0.get(key).await
    }

    /// See [`ObjectStore::list`].
    pub async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectInfo>, StoreError> {
        self.0.list(prefix, start_after, limit).await
    }
}

/// The bucket for everything outside the log: a write or removal under `events/` is refused and
/// does not happen.
pub struct DerivedObjects(Arc<dyn ObjectStore>);

impl DerivedObjects {
    /// The objects in this bucket.
    pub fn of(bucket: Arc<dyn ObjectStore>) -> Self {
        Self(bucket)
    }
}

#[async_trait]
impl ObjectStore for DerivedObjects {
    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<Created, StoreError> {
        beside_log("put_if_absent", key)?;
        self.0.put_if_absent(key, body).await
    }

    async fn put(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        beside_log("put", key)?;
        self.0.put(key, body).await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.0.get(key).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, StoreError> {
        self.0.get_range(key, range).await
    }

    async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectInfo>, StoreError> {
        self.0.list(prefix, start_after, limit).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        beside_log("delete", key)?;
        self.0.delete(key).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::memory::MemoryObjectStore;
    use oms_core::domain::ids::PartitionId;

    fn is_refused<T>(outcome: Result<T, StoreError>) -> bool {
        outcome.is_err_and(|e| e.kind == StoreErrorKind::Invalid && !e.is_indeterminate())
    }

    #[tokio::test]
    async fn law_5_only_the_writer_appends_and_only_custody_replaces() {
        let bucket = Arc::new(MemoryObjectStore::default());
        let key = keys::commit(PartitionId(1), 7);
        let writer = LogObjects::of(bucket.clone());
        assert_eq!(
            writer.create(&key, "one".into()).await.unwrap(),
            Created::Yes
        );
        assert_eq!(
            writer.create(&key, "two".into()).await.unwrap(),
            Created::Exists
        );
        assert!(is_refused(writer.create("index/x", "x".into()).await));

        let derived = DerivedObjects::of(bucket.clone());
        for key in [key.as_str(), "events/0000/new", "events/", "events/x"] {
            assert!(is_refused(derived.put(key, "x".into()).await), "{key}");
            assert!(
                is_refused(derived.put_if_absent(key, "x".into()).await),
                "{key}"
            );
            assert!(is_refused(derived.delete(key).await), "{key}");
        }
        assert_eq!(derived.get(&key).await.unwrap().unwrap(), "one");
        derived.put("index/x", "x".into()).await.unwrap();
        derived.delete("index/x").await.unwrap();

        let log_repair = RepairObjects::of(bucket.clone());
        for other in ["index/x", "meta/store.json", "quarantine/x"] {
            assert!(is_refused(log_repair.replace(other, "x".into()).await));
            assert!(is_refused(log_repair.remove(other).await));
        }
        assert!(is_refused(log_repair.keep(&key, "x".into()).await));
        log_repair.replace(&key, "right".into()).await.unwrap();
        assert_eq!(bucket.get(&key).await.unwrap().unwrap(), "right");
    }
}
