//! A store that refuses writes: what is said of the partition, and what is not.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::*;
use crate::actors::event_store::WritesFail;
use crate::log::keys;
use crate::store::error::{StoreError, StoreErrorKind};
use crate::store::halts::WRITES;
use crate::store::ports::object_store::{Created, ObjectInfo};

/// Refuses every commit object with this kind of failure.
#[derive(Default)]
struct Refusing {
    objects: MemoryObjectStore,
    with: Mutex<Option<StoreErrorKind>>,
}

#[async_trait]
impl ObjectStore for Refusing {
    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<Created, StoreError> {
        let with = *self.with.lock();
        if let Some(kind) = with.filter(|_| keys::is_log(key)) {
            return Err(StoreError::determinate(kind, "s3", "test", "refused"));
        }
        self.objects.put_if_absent(key, body).await
    }
    async fn put(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        self.objects.put(key, body).await
    }
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
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

#[test]
fn law_3_a_partition_that_refuses_every_write_is_named_until_one_succeeds() {
    run(async {
        let store = Arc::new(Refusing::default());
        let p = process(store.clone(), RegistrySettings::default());
        p.change("a", 1, 1).await.expect("ok");
        let events = &p.side.writer;
        let partition = events.log().partition_of(&purse("a"));

        // What one request is refused for is not the partition's fault.
        *store.with.lock() = Some(StoreErrorKind::Invalid);
        p.change("a", 1, 2).await.expect_err("refused");
        assert_eq!((events.writes_fail(), events.refusing()), (None, vec![]));
        assert_eq!(p.halts.list(), []);

        *store.with.lock() = Some(StoreErrorKind::Denied);
        p.change("a", 1, 3).await.expect_err("refused");
        assert_eq!(events.writes_fail(), Some(WritesFail::Otherwise));
        let first = events.refusing();
        assert_eq!(first[0].partition, Some(partition));
        p.change("a", 1, 4).await.expect_err("refused");
        assert_eq!(
            events.refusing()[0].since,
            first[0].since,
            "since the first"
        );
        // And for as long as it lasts, whether anybody tries again or not.
        let told = p.halts.list();
        assert_eq!((told[0].what, told[0].partition), (WRITES, Some(partition)));

        *store.with.lock() = None;
        p.change("a", 1, 5).await.expect("ok");
        assert_eq!((events.writes_fail(), events.refusing()), (None, vec![]));
        assert_eq!(p.halts.list(), []);
    });
}
