//! Finding out who owns an offset: the I/O between forming a batch and settling it.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio::time::{Instant, sleep};

use crate::log::object::CommitObject;
use crate::log::partition::Owner;
use crate::metrics;
use crate::store::error::{StoreError, StoreErrorKind};
use crate::store::event_log::EventLog;
use crate::store::object_store::Created;

/// First pause before the same put is tried again.
const BACKOFF_MIN: Duration = Duration::from_millis(10);

/// Longest pause: a store that comes back is noticed within this time.
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// The deadline passed, or the store refused, before it was known who owns the offset.
#[derive(Debug)]
pub struct Unsettled {
    /// Whether the object may be there.
    pub may_be_there: bool,
    /// The last error.
    pub error: StoreError,
}

/// Puts `object`, again and again with the same bytes, until it is known who owns its offset
/// (law 4: an indeterminate outcome is settled by asking again and reading back).
pub async fn find_owner(
    log: &EventLog,
    object: &CommitObject,
    deadline: Instant,
) -> Result<Owner, Unsettled> {
    let (partition, offset) = (object.header.partition, object.header.offset);
    let mut may_be_there = false;
    let mut pause = BACKOFF_MIN;
    loop {
        let outcome = match log.put_commit(object).await {
            Ok(Created::Yes) => Ok(Some(Owner::Us)),
            Ok(Created::Exists) => {
                // Ours, for all that is known until it was read: something on the way may have
                // repeated the request.
                may_be_there = true;
                let found = log.commit(partition, offset).await;
                found.map(|found| found.map(|o| Owner::Found(Arc::unwrap_or_clone(o))))
            }
            Err(e) => {
                may_be_there |= e.is_indeterminate();
                Err(e)
            }
        };
        let error = match outcome {
            Ok(Some(owner)) => {
                if may_be_there {
                    metrics::put_settled(&owner, object);
                }
                return Ok(owner);
            }
            // Taken, yet not there: another answer will follow.
            Ok(None) => StoreError::determinate(
                StoreErrorKind::Conflict,
                "s3",
                "put-if-absent",
                format!("partition {partition} offset {offset} is taken but cannot be read"),
            ),
            Err(e) => e,
        };
        let worth_another = error.is_transient()
            || error.is_indeterminate()
            || error.kind == StoreErrorKind::Conflict;
        let wait = pause.mul_f64(rand::rng().random_range(0.5..1.0));
        if !worth_another || Instant::now() + wait >= deadline {
            return Err(Unsettled {
                may_be_there,
                error,
            });
        }
        tracing::debug!(%partition, offset, %error, "put is tried again");
        sleep(wait).await;
        pause = (pause * 2).min(BACKOFF_MAX);
    }
}
