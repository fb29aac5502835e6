//! The outermost decorator of a bucket: calls run on the I/O runtime, are counted and timed, and
//! update the dependency's health.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{StoreError, StoreErrorKind};
use crate::failpoint::{self, Side};
use crate::health::Health;
use crate::io_runtime::IoRuntime;
use crate::metrics;
use crate::ports::object_store::{Created, ObjectInfo, ObjectStore};

/// A decorator that measures an object store.
pub struct MeteredObjectStore {
    inner: Arc<dyn ObjectStore>,
    io: IoRuntime,
    health: Arc<Health>,
}

impl MeteredObjectStore {
    /// Decorates `inner`.
    pub fn new(inner: Arc<dyn ObjectStore>, io: IoRuntime, health: Arc<Health>) -> Self {
        Self { inner, io, health }
    }

    async fn call<T: Send + 'static>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        measured(
            "s3",
            operation,
            &self.health,
            self.io.run("s3", operation, call),
        )
        .await
    }
}

/// Counts and times one call to a dependency and updates its health; a fail point is on either side
/// of it.
pub async fn measured<T>(
    dependency: &'static str,
    operation: &'static str,
    health: &Health,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    metrics::dependency_started(dependency, operation);
    let begun = Instant::now();
    let outcome: Result<T, StoreError> = async {
        failpoint::pass(dependency, operation, Side::Before).await?;
        let value = call.await?;
        failpoint::pass(dependency, operation, Side::After).await?;
        Ok(value)
    }
    .await;
    let elapsed = begun.elapsed();
    metrics::dependency_ended(
        dependency,
        operation,
        elapsed,
        outcome.as_ref().err().map(|e| e.kind),
    );
    match &outcome {
        Ok(_) => health.succeeded(elapsed),
        Err(e) if e.is_transient() || e.kind == StoreErrorKind::Denied => health.failed(e),
        Err(_) => {}
    }
    outcome
}

#[async_trait]
impl ObjectStore for MeteredObjectStore {
    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<Created, StoreError> {
        let (inner, key) = (self.inner.clone(), key.to_owned());
        self.call("put_if_absent", async move {
            inner.put_if_absent(&key, body).await
        })
        .await
    }

    async fn put(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        let (inner, key) = (self.inner.clone(), key.to_owned());
        self.call("put", async move { inner.put(&key, body).await })
            .await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let (inner, key) = (self.inner.clone(), key.to_owned());
        self.call("get", async move { inner.get(&key).await }).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, StoreError> {
        let (inner, key) = (self.inner.clone(), key.to_owned());
        self.call(
            "get_range",
            async move { inner.get_range(&key, range).await },
        )
        .await
    }

    async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectInfo>, StoreError> {
        let (inner, prefix) = (self.inner.clone(), prefix.to_owned());
        let after = start_after.map(str::to_owned);
        self.call("list", async move {
            inner.list(&prefix, after.as_deref(), limit).await
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let (inner, key) = (self.inner.clone(), key.to_owned());
        self.call("delete", async move { inner.delete(&key).await })
            .await
    }
}
