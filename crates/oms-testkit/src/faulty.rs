//! A store that fails on purpose. Two random decisions are made for every write: whether it
//! happens, and whether that is reported. "Happened but reported as failed" is the case that can
//! lose or double events, so it is provoked here. Seeded: the same seed and the same calls fail in
//! the same way.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use oms_store::error::{StoreError, StoreErrorKind};
use oms_store::ports::object_store::{Created, ObjectInfo, ObjectStore};

/// The rates of failures, as probabilities from 0 to 1.
#[derive(Debug, Clone, Copy, Default)]
pub struct FaultRates {
    /// A write does not happen and is reported as indeterminate.
    pub lost_request: f64,
    /// A write happens and is reported as indeterminate.
    pub lost_reply: f64,
    /// A write or read is refused, determinately.
    pub refused: f64,
}

/// A decorator of an object store that injects failures.
pub struct FaultyObjectStore {
    inner: Arc<dyn ObjectStore>,
    rates: Mutex<FaultRates>,
    rng: Mutex<StdRng>,
}

enum Fate {
    Fine,
    LostRequest,
    LostReply,
    Refused,
}

impl FaultyObjectStore {
    /// Wraps `inner`; injects nothing until [`FaultyObjectStore::set`] is called.
    pub fn new(inner: Arc<dyn ObjectStore>, seed: u64) -> Self {
        Self {
            inner,
            rates: Mutex::new(FaultRates::default()),
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
        }
    }

    /// Sets the rates of failures.
    pub fn set(&self, rates: FaultRates) {
        *self.rates.lock() = rates;
    }

    fn fate(&self) -> Fate {
        let rates = *self.rates.lock();
        let coin: f64 = self.rng.lock().random();
        if coin < rates.lost_request {
            Fate::LostRequest
        } else if coin < rates.lost_request + rates.lost_reply {
            Fate::LostReply
        } else if coin < rates.lost_request + rates.lost_reply + rates.refused {
            Fate::Refused
        } else {
            Fate::Fine
        }
    }

    async fn write<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let lost =
            || StoreError::indeterminate(StoreErrorKind::Timeout, "faulty", operation, "injected");
        match self.fate() {
            Fate::Fine => call.await,
            Fate::LostRequest => Err(lost()),
            Fate::LostReply => {
                call.await?;
                Err(lost())
            }
            Fate::Refused => Err(refused(operation)),
        }
    }

    fn read(&self, operation: &'static str) -> Result<(), StoreError> {
        match self.fate() {
            Fate::Fine => Ok(()),
            _ => Err(refused(operation)),
        }
    }
}

fn refused(operation: &'static str) -> StoreError {
    StoreError::determinate(StoreErrorKind::Throttled, "faulty", operation, "injected")
}

#[async_trait]
impl ObjectStore for FaultyObjectStore {
    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<Created, StoreError> {
        self.write("put-if-absent", self.inner.put_if_absent(key, body))
            .await
    }

    async fn put(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        self.write("put", self.inner.put(key, body)).await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.read("get")?;
        self.inner.get(key).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, StoreError> {
        self.read("get range")?;
        self.inner.get_range(key, range).await
    }

    async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectInfo>, StoreError> {
        self.read("list")?;
        self.inner.list(prefix, start_after, limit).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.write("delete", self.inner.delete(key)).await
    }
}
