//! How many queries are answered at once: of the connections half at most, so that those who write,
//! deliver and lease always find one, however slow the queries of others are.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::{StoreError, StoreErrorKind};
use crate::metrics;

/// How long a query waits for others to end: who waits longer would not be answered in time either.
const PATIENCE: Duration = Duration::from_secs(2);

/// When to ask again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Places for queries.
pub(super) struct Places {
    free: Arc<Semaphore>,
}

impl Places {
    /// For a pool of so many connections.
    pub fn of(connections: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new((connections / 2).max(1))),
        }
    }

    /// A place, to be held until the query has ended in PostgreSQL, whoever still waits for it.
    pub async fn take(&self, operation: &'static str) -> Result<OwnedSemaphorePermit, StoreError> {
        match timeout(PATIENCE, self.free.clone().acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            // Never closed, or no place in time.
            _ => {
                metrics::admission_rejected("queries");
                let message = "as many queries are being answered as may be at once";
                let kind = StoreErrorKind::Throttled;
                let mut busy = StoreError::determinate(kind, "postgres", operation, message);
                busy.retry_after = Some(ASK_AGAIN);
                Err(busy)
            }
        }
    }
}
