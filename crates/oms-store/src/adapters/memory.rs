//! A bucket in memory: the reference for the conformance suite, and the store in tests of pure
//! logic.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::error::{StoreError, StoreErrorKind};
use crate::ports::object_store::{Created, ObjectInfo, ObjectStore};

/// A bucket in memory, complete with conditional puts.
#[derive(Debug, Default)]
pub struct MemoryObjectStore {
    objects: Mutex<BTreeMap<String, Bytes>>,
}

#[async_trait]
impl ObjectStore for MemoryObjectStore {
    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<Created, StoreError> {
        let mut objects = self.objects.lock();
        if objects.contains_key(key) {
            return Ok(Created::Exists);
        }
        objects.insert(key.to_owned(), body);
        Ok(Created::Yes)
    }

    async fn put(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        self.objects.lock().insert(key.to_owned(), body);
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.objects.lock().get(key).cloned())
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, StoreError> {
        let Some(object) = self.objects.lock().get(key).cloned() else {
            return Ok(None);
        };
        if range.end > object.len() as u64 {
            return Err(StoreError::determinate(
                StoreErrorKind::Invalid,
                "memory",
                "get range",
                format!("{key} has {} bytes, {range:?} asked for", object.len()),
            ));
        }
        Ok(Some(object.slice(range.start as usize..range.end as usize)))
    }

    async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectInfo>, StoreError> {
        let from = match start_after {
            Some(after) if after >= prefix => Bound::Excluded(after.to_owned()),
            _ => Bound::Included(prefix.to_owned()),
        };
        Ok(self
            .objects
            .lock()
            .range((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(limit)
            .map(|(key, body)| ObjectInfo {
                key: key.clone(),
                size: body.len() as u64,
            })
            .collect())
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.objects.lock().remove(key);
        Ok(())
    }
}
