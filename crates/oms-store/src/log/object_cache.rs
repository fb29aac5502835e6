//! Cache of recent commit objects, bounded by bytes: outbox, relay, projection and feed read next
//! what was just committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use oms_core::domain::ids::{Offset, PartitionId};
use oms_core::log::object::CommitObject;

/// Bytes of a shard at least: four of the largest objects.
const SHARD_BYTES: u64 = 16 << 20;

type Key = (PartitionId, Offset);

#[derive(Clone)]
struct ByBytes;

impl Weighter<Key, Arc<CommitObject>> for ByBytes {
    fn weight(&self, _: &Key, object: &Arc<CommitObject>) -> u64 {
        (object.bytes.len() + object.lines.len() * 8 + 256) as u64
    }
}

/// A cache of commit objects by partition and offset.
pub struct ObjectCache {
    cache: Cache<Key, Arc<CommitObject>, ByBytes>,
    made: Instant,
    /// Seconds from then until it was last used.
    last_used: AtomicU64,
}

impl ObjectCache {
    /// A cache of about `bytes` bytes.
    pub fn new(bytes: u64) -> Self {
        // The estimate only sizes the hash table: a busy store's commits are around 16 KiB.
        let items = (bytes / 16_384).max(64) as usize;
        // Each shard has its own share of the bytes, which must have room for some of the largest
        // objects, however many cores there are.
        let shards = usize::try_from(bytes / SHARD_BYTES)
            .unwrap_or(1)
            .clamp(1, 64);
        let options = OptionsBuilder::new()
            .estimated_items_capacity(items)
            .weight_capacity(bytes)
            .shards(shards)
            .build();
        let cache = match options {
            Ok(options) => Cache::with_options(
                options,
                ByBytes,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            ),
            // Not reachable: both capacities are given.
            Err(_) => Cache::with_weighter(items, bytes, ByBytes),
        };
        Self {
            cache,
            made: Instant::now(),
            last_used: AtomicU64::new(0),
        }
    }

    fn used(&self) {
        let now = self.made.elapsed().as_secs();
        self.last_used.store(now, Ordering::Relaxed);
    }

    /// Lets go of everything once nobody has read or written for so long.
    pub fn sweep(&self, idle_after: Duration) {
        let last_used = Duration::from_secs(self.last_used.load(Ordering::Relaxed));
        if self.made.elapsed().saturating_sub(last_used) > idle_after {
            self.cache.clear();
        }
    }

    /// Bytes of the cached objects.
    pub fn bytes(&self) -> u64 {
        self.cache.weight()
    }

    /// The object, if it is cached.
    pub fn get(&self, partition: PartitionId, offset: Offset) -> Option<Arc<CommitObject>> {
        self.used();
        self.cache.get(&(partition, offset))
    }

    /// Caches an object.
    pub fn insert(&self, object: Arc<CommitObject>) {
        self.used();
        self.cache
            .insert((object.header.partition, object.header.offset), object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use oms_core::domain::event::{EncodedEvents, Recorded};
    use oms_core::domain::ids::{Epoch, WriterId};
    use oms_core::log::object::{CommitHeader, CommitKind, FORMAT, ObjectHash};

    fn object(offset: Offset, len: usize) -> Arc<CommitObject> {
        let header = CommitHeader {
            format: FORMAT,
            partition: PartitionId(0),
            offset,
            epoch: Epoch(1),
            writer: WriterId(uuid::Uuid::from_u128(1)),
            batch: offset,
            prev: ObjectHash::NONE,
            at: jiff::Timestamp::UNIX_EPOCH,
            count: 1,
            kind: CommitKind::Events,
        };
        let part = EncodedEvents {
            bytes: Bytes::from(vec![b'x'; len]),
            spans: std::iter::once(0..len as u32 - 1).collect(),
            recorded: Recorded::default(),
        };
        Arc::new(CommitObject::build(header, &[&part]))
    }

    #[test]
    fn law_13_what_nobody_reads_any_more_is_let_go_of() {
        let cache = ObjectCache::new(64 << 20);
        cache.insert(object(0, 4 << 20));
        cache.sweep(Duration::from_secs(60));
        assert!(cache.bytes() > 4 << 20, "it was used just now");
        cache.sweep(Duration::ZERO);
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn law_13_objects_are_kept_by_their_bytes_the_largest_too() {
        let cache = ObjectCache::new(64 << 20);
        for offset in 0..64 {
            cache.insert(object(offset, 4 << 20));
            assert!(cache.get(PartitionId(0), offset).is_some(), "{offset}");
            assert!(cache.bytes() <= 64 << 20);
        }
        assert!(cache.bytes() >= 32 << 20, "{}", cache.bytes());
    }
}
