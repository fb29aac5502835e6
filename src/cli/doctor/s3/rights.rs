//! What the key may do, tried on one small object. Nothing more is written where that one cannot be
//! removed again, and a later run takes the one that an earlier run had to leave.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::cli::doctor::check::Finding;
use crate::store::error::StoreError;
use crate::store::ports::object_store::{Created, ObjectStore};

/// Where the check writes: beside the probe of the service's start, under a name of its own.
pub const PREFIX: &str = "probe/doctor-";

/// After so long nobody who wrote an object there is still at work.
const LEFT_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// What was tried, in this order, up to the first failure.
#[derive(Debug, Clone)]
pub struct Rights {
    list: Option<StoreError>,
    put: Option<Result<Created, StoreError>>,
    get: Option<Result<bool, StoreError>>,
    delete: Option<Result<(), StoreError>>,
    /// The object that was written, or found.
    key: String,
}

impl Rights {
    /// Whether what is written can be removed again.
    pub fn cleans_up(&self) -> bool {
        matches!(self.delete, Some(Ok(())))
    }
}

/// Tries to list, put, get and remove.
pub async fn try_all(store: &dyn ObjectStore, id: Uuid, now: Timestamp) -> Rights {
    let mut rights = Rights {
        list: None,
        put: None,
        get: None,
        delete: None,
        key: format!("{PREFIX}{id}"),
    };
    match store.list(PREFIX, None, 1000).await {
        Err(error) => {
            rights.list = Some(error);
            return rights;
        }
        Ok(listed) => {
            let left = listed.into_iter().filter(|o| is_left(&o.key, now));
            for object in left {
                rights.delete = Some(store.delete(&object.key).await);
                rights.key = object.key;
                if !rights.cleans_up() {
                    return rights;
                }
            }
        }
    }
    rights.key = format!("{PREFIX}{id}");
    let body = Bytes::from_static(b"oms doctor");
    let put = store.put_if_absent(&rights.key, body.clone()).await;
    let written = put.is_ok();
    rights.put = Some(put);
    if written {
        let got = store.get(&rights.key).await;
        rights.get = Some(got.map(|found| found == Some(body)));
        rights.delete = Some(store.delete(&rights.key).await);
    }
    rights
}

/// Whether an object was left by a run that ended long ago: its id has the time.
fn is_left(key: &str, now: Timestamp) -> bool {
    let id = key
        .strip_prefix(PREFIX)
        .and_then(|id| Uuid::parse_str(id).ok());
    let Some((seconds, _)) = id.and_then(|id| id.get_timestamp()).map(|t| t.to_unix()) else {
        return false;
    };
    let then = i64::try_from(seconds).ok();
    let then = then.and_then(|s| Timestamp::from_second(s).ok());
    then.is_some_and(|then| now.duration_since(then) > LEFT_AFTER)
}

/// What the outcome means.
pub fn judge(rights: &Rights) -> Finding {
    let policy = "the service lists, gets and puts in the whole bucket, and removes below probe/ \
                  and index/: allow s3:ListBucket, s3:GetObject, s3:PutObject and, but for \
                  events/, s3:DeleteObject";
    let failed = |what: &str, error: &StoreError| {
        Finding::failed(format!("it may not {what}: {}", error.message), policy)
    };
    if let Some(error) = &rights.list {
        return failed("list", error);
    }
    match &rights.put {
        Some(Err(error)) => return failed("put", error),
        Some(Ok(Created::Exists)) => {
            return Finding::failed(
                format!("a put to the fresh key {} was refused as taken", rights.key),
                "this server must not hold the log: its put-if-absent is not to be relied on",
            );
        }
        Some(Ok(Created::Yes)) | None => {}
    }
    match &rights.get {
        Some(Err(error)) => return failed("get", error),
        Some(Ok(false)) => {
            return Finding::failed(
                "an object that was acknowledged was not read back",
                "this server must not hold the log: a read must see an acknowledged write",
            );
        }
        Some(Ok(true)) | None => {}
    }
    match &rights.delete {
        Some(Err(error)) => Finding::failed(
            format!(
                "it may not remove below probe/: {}; {}, of 10 bytes, is left there",
                error.message, rights.key
            ),
            format!(
                "{policy}; the service removes what its start-up check writes, or does not start"
            ),
        ),
        Some(Ok(())) | None => Finding::ok("may list, put, get and remove below probe/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::check::Verdict;
    use crate::store::adapters::memory::MemoryObjectStore;
    use crate::store::error::StoreErrorKind;
    use crate::store::ports::object_store::ObjectInfo;
    use async_trait::async_trait;
    use std::ops::Range;

    /// A bucket whose policy refuses one operation.
    struct Closed {
        inner: MemoryObjectStore,
        refuses: &'static str,
    }

    impl Closed {
        fn new(refuses: &'static str) -> Self {
            let inner = MemoryObjectStore::default();
            Self { inner, refuses }
        }

        fn ask(&self, operation: &'static str) -> Result<(), StoreError> {
            let denied = || StoreError::determinate(StoreErrorKind::Denied, "s3", operation, "no");
            (self.refuses != operation).then_some(()).ok_or_else(denied)
        }
    }

    #[async_trait]
    impl ObjectStore for Closed {
        async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<Created, StoreError> {
            self.ask("put")?;
            self.inner.put_if_absent(key, body).await
        }
        async fn put(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
            self.ask("put")?;
            self.inner.put(key, body).await
        }
        async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
            self.ask("get")?;
            self.inner.get(key).await
        }
        async fn get_range(
            &self,
            key: &str,
            range: Range<u64>,
        ) -> Result<Option<Bytes>, StoreError> {
            self.inner.get_range(key, range).await
        }
        async fn list(
            &self,
            prefix: &str,
            start_after: Option<&str>,
            limit: usize,
        ) -> Result<Vec<ObjectInfo>, StoreError> {
            self.ask("list")?;
            self.inner.list(prefix, start_after, limit).await
        }
        async fn delete(&self, key: &str) -> Result<(), StoreError> {
            self.ask("delete")?;
            self.inner.delete(key).await
        }
    }

    /// An id of this time.
    fn id(at: Timestamp) -> Uuid {
        let at = uuid::Timestamp::from_unix(uuid::NoContext, at.as_second() as u64, 0);
        Uuid::new_v7(at)
    }

    async fn run(store: &Closed, at: &str) -> (Finding, usize) {
        let at: Timestamp = at.parse().unwrap();
        let rights = try_all(store, id(at), at).await;
        let left = store.inner.list("", None, 1000).await.unwrap();
        (judge(&rights), left.len())
    }

    #[tokio::test]
    async fn each_missing_right_is_named_and_nothing_is_left() {
        let at = "2026-01-02T03:04:05Z";
        let (open, left) = run(&Closed::new("nothing"), at).await;
        assert_eq!((open.verdict, left), (Verdict::Ok, 0));
        for (operation, left) in [("list", 0), ("put", 0), ("get", 0), ("delete", 1)] {
            let (finding, found) = run(&Closed::new(operation), at).await;
            assert_eq!(finding.verdict, Verdict::Failed, "{operation}");
            let word = if operation == "delete" {
                "remove"
            } else {
                operation
            };
            assert!(
                finding.seen.contains(&format!("may not {word}")),
                "{finding:?}"
            );
            assert!(finding.advice.unwrap().contains("s3:PutObject"));
            assert_eq!(found, left, "{operation}");
        }
    }

    #[tokio::test]
    async fn where_nothing_can_be_removed_one_object_is_left_however_often_it_runs() {
        let store = Closed::new("delete");
        for day in 1..=5 {
            let at = format!("2026-01-0{day}T03:04:05Z");
            let (finding, left) = run(&store, &at).await;
            assert_eq!((finding.verdict, left), (Verdict::Failed, 1), "{at}");
        }
        // Another run may be at work: what is fresh is left alone.
        let sound = Closed::new("nothing");
        let fresh = id("2026-01-02T03:00:00Z".parse().unwrap());
        let key = format!("{PREFIX}{fresh}");
        sound.inner.put(&key, Bytes::new()).await.unwrap();
        let (_, left) = run(&sound, "2026-01-02T03:04:05Z").await;
        assert_eq!(left, 1);
        let (finding, left) = run(&sound, "2026-01-02T04:00:00Z").await;
        assert_eq!((finding.verdict, left), (Verdict::Ok, 0));
    }
}
