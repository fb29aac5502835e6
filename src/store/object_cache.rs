//! Recent commit objects in memory, bounded by bytes: what was just committed is what the outbox,
//! the relay, the projection and the feed read next.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::domain::ids::{Offset, PartitionId};
use crate::log::object::CommitObject;

type Key = (PartitionId, Offset);

#[derive(Clone)]
struct ByBytes;

impl Weighter<Key, Arc<CommitObject>> for ByBytes {
    fn weight(&self, _: &Key, object: &Arc<CommitObject>) -> u64 {
        (object.bytes.len() + object.lines.len() * 8 + 256) as u64
    }
}

/// See the module.
pub struct ObjectCache {
    cache: Cache<Key, Arc<CommitObject>, ByBytes>,
}

impl ObjectCache {
    /// A cache of about `bytes` bytes.
    pub fn new(bytes: u64) -> Self {
        // The estimate only sizes the hash table: commits of a busy store are around 16 KiB.
        let items = (bytes / 16_384).max(64) as usize;
        Self {
            cache: Cache::with_weighter(items, bytes, ByBytes),
        }
    }

    /// The object, if it is here.
    pub fn get(&self, partition: PartitionId, offset: Offset) -> Option<Arc<CommitObject>> {
        self.cache.get(&(partition, offset))
    }

    /// Keeps an object.
    pub fn insert(&self, object: Arc<CommitObject>) {
        self.cache
            .insert((object.header.partition, object.header.offset), object);
    }
}
