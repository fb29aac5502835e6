//! The runtime on which all I/O runs. A pooled connection belongs to the runtime that opened it; if
//! that were an arbiter, one busy actor would delay the queries of all others. Therefore every call
//! to a store is spawned here, and only its result goes back to the arbiter. A call goes on when
//! its caller is gone: its outcome is settled by reading back.

use std::future::Future;

use tokio::runtime::Handle;

use crate::error::{StoreError, StoreErrorKind};

/// Handle of the I/O runtime.
#[derive(Debug, Clone)]
pub struct IoRuntime {
    handle: Handle,
}

impl IoRuntime {
    /// Runs calls on `handle`'s runtime.
    pub fn new(handle: Handle) -> Self {
        Self { handle }
    }

    /// Runs one call to a store to its end. A panic in it is an indeterminate failure, because it
    /// is unknown how far it got.
    pub async fn run<T: Send + 'static>(
        &self,
        store: &'static str,
        operation: &'static str,
        call: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        match self.handle.spawn(call).await {
            Ok(outcome) => outcome,
            Err(e) if e.is_cancelled() => Err(StoreError::indeterminate(
                StoreErrorKind::Closed,
                store,
                operation,
                "the I/O runtime is shutting down",
            )),
            Err(e) => Err(StoreError::indeterminate(
                StoreErrorKind::Unavailable,
                store,
                operation,
                format!("panicked: {e}"),
            )),
        }
    }

    /// Spawns background work.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.handle.spawn(work)
    }

    /// The runtime's handle.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}
