//! What is read to rebuild a state is read once there is room for it.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::timeout;

use super::*;
use crate::log::keys;
use crate::store::error::StoreError;
use crate::store::ports::object_store::{Created, ObjectInfo};

/// A bucket that counts reads of the snapshot of `note/a` at version 10.
#[derive(Default)]
struct Counting {
    objects: MemoryObjectStore,
    snapshots: AtomicUsize,
}

fn snapshot() -> String {
    keys::snapshot(&named("note", "a"), 1)
}

#[async_trait]
impl ObjectStore for Counting {
    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<Created, StoreError> {
        self.objects.put_if_absent(key, body).await
    }
    async fn put(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        self.objects.put(key, body).await
    }
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        if key == snapshot() {
            self.snapshots.fetch_add(1, Ordering::SeqCst);
        }
        self.objects.get(key).await
    }
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, StoreError> {
        self.objects.get_range(key, range).await
    }
    async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectInfo>, StoreError> {
        self.objects.list(prefix, start_after, limit).await
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.objects.delete(key).await
    }
}

/// A bucket with an instance of 15 versions, and the snapshot of its tenth.
async fn with_snapshot() -> Arc<Counting> {
    let store = Arc::new(Counting::default());
    let before = world(store.clone(), 1 << 20, 4 << 20);
    let large = json!({"extra": {"m0": "y".repeat(20_000)}});
    before.create("a", large).await.expect("taken");
    for i in 1..15 {
        let patch = json!({"extra": {"m1": i}});
        before.patch("a", patch).await.expect("taken");
    }
    let saved = async || {
        store
            .objects
            .get(&snapshot())
            .await
            .expect("read")
            .is_some()
    };
    while !saved().await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    store.snapshots.store(0, Ordering::SeqCst);
    store
}

#[test]
fn law_13_a_snapshot_is_read_once_there_is_room_for_it_and_what_follows() {
    run(async {
        let store = with_snapshot().await;
        let world = world(store.clone(), 1 << 20, 4 << 20);
        let room = world.side.writer.read_room().clone();
        let others = room.place(usize::MAX).await;
        let mut read = std::pin::pin!(world.read("a"));
        let waits = timeout(Duration::from_millis(300), &mut read).await;
        assert!(waits.is_err());
        assert_eq!(store.snapshots.load(Ordering::SeqCst), 0, "nothing is held");
        drop(others);
        assert_eq!(read.await.version, Version(15));
        assert_eq!(store.snapshots.load(Ordering::SeqCst), 1);
        assert_eq!(room.taken(), 0);
    });
}

#[test]
fn law_13_a_snapshot_larger_than_expected_is_dropped_until_there_is_room_for_it() {
    run(async {
        let store = with_snapshot().await;
        // As an older build may have written it, with a lot of space.
        let sound = store.objects.get(&snapshot()).await.expect("read");
        let mut spacious = sound.expect("a snapshot").to_vec();
        spacious.extend(vec![b' '; 2 << 20]);
        let put = store.objects.put(&snapshot(), spacious.into()).await;
        put.expect("put");
        let world = world(store.clone(), 1 << 20, 4 << 20);
        let room = world.side.writer.read_room().clone();
        let others = room.place(126 << 20).await;
        let mut read = std::pin::pin!(world.read("a"));
        let waits = timeout(Duration::from_millis(300), &mut read).await;
        assert!(waits.is_err());
        assert_eq!(store.snapshots.load(Ordering::SeqCst), 1);
        drop(others);
        assert_eq!(read.await.version, Version(15));
        assert_eq!(store.snapshots.load(Ordering::SeqCst), 2);
        assert_eq!(room.taken(), 0);
    });
}
