//! The port to S3.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::StoreError;

/// Prefix of objects that are created once and never replaced or removed, except by a repair.
pub const IMMUTABLE: &str = oms_core::log::keys::EVENTS;

/// The outcome of a put-if-absent, when it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// This call created the object.
    Yes,
    /// The key was taken.
    Exists,
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The key.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
}

/// A bucket.
///
/// Implementations MUST be linearizable per key: a read that begins after a write was acknowledged
/// sees it, and of any number of concurrent [`ObjectStore::put_if_absent`] calls on one key exactly
/// one is answered [`Created::Yes`]. They MUST NOT retry by themselves, and MUST report every
/// failed write whose request may have reached the store as indeterminate.
#[async_trait]
pub trait ObjectStore: Send + Sync + 'static {
    /// Creates an object unless the key is taken.
    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<Created, StoreError>;

    /// Creates or replaces an object; only for derived data.
    async fn put(&self, key: &str, body: Bytes) -> Result<(), StoreError>;

    /// Reads an object; `None` if there is none.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError>;

    /// Reads part of an object; `None` if there is no such object. The result has exactly the
    /// requested length.
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, StoreError>;

    /// At most `limit` (1 to 1,000) keys that begin with `prefix` and come after `start_after`,
    /// in byte order.
    async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectInfo>, StoreError>;

    /// Removes an object if it exists; only for derived data.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;
}

/// Every key under a prefix, page by page.
pub async fn list_all(
    store: &dyn ObjectStore,
    prefix: &str,
    start_after: Option<&str>,
) -> Result<Vec<ObjectInfo>, StoreError> {
    let mut all: Vec<ObjectInfo> = Vec::new();
    loop {
        let after = all.last().map(|o| o.key.clone());
        let page = store
            .list(prefix, after.as_deref().or(start_after), 1000)
            .await?;
        let done = page.len() < 1000;
        all.extend(page);
        if done {
            return Ok(all);
        }
    }
}
