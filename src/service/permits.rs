//! Commands in flight are bounded over the whole service, however they came in: a batch takes one
//! place at the door but has up to 256 commands at work at a time.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::error::{RETRY_AFTER, ServiceError};
use crate::metrics;

/// Commands at work at once: twice the requests that are let in, so that single commands alone
/// never reach it, or 32 batches at their full width. At 1 KiB each that is 8 MiB of events.
pub const MAX_COMMANDS: usize = 8_192;

/// How long a single command waits for a permit: a few group commits, in which a burst of batches
/// moves on; whoever waits longer meets a service that does not keep up.
const PATIENCE: Duration = Duration::from_millis(100);

/// The permits. Given out in the order they were asked for, so batches do not starve single
/// commands.
#[derive(Debug)]
pub struct CommandPermits(Semaphore);

impl Default for CommandPermits {
    fn default() -> Self {
        Self::new(MAX_COMMANDS)
    }
}

impl CommandPermits {
    /// So many at once.
    pub fn new(limit: usize) -> Self {
        Self(Semaphore::new(limit))
    }

    /// A permit for a single command; `Overloaded` when none is free within a moment.
    pub async fn ask(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, ServiceError> {
        match self.wait(deadline.min(Instant::now() + PATIENCE)).await {
            Err(ServiceError::DeadlineExceeded) => {
                metrics::admission_rejected("commands");
                Err(ServiceError::Overloaded {
                    limit: "commands",
                    callers_own: false,
                    retry_after: RETRY_AFTER,
                })
            }
            other => other,
        }
    }

    /// A permit for an item of a batch, which was let in already and waits for its turn until its
    /// deadline.
    pub async fn wait(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, ServiceError> {
        match timeout_at(deadline, self.0.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(closed)) => Err(ServiceError::Internal(closed.to_string())),
            Err(_) => Err(ServiceError::DeadlineExceeded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn law_13_commands_in_flight_are_bounded() {
        let permits = CommandPermits::new(1);
        let deadline = Instant::now() + Duration::from_secs(10);
        let held = permits.ask(deadline).await.unwrap();
        let refused = permits.ask(deadline).await.unwrap_err();
        assert!(matches!(
            refused,
            ServiceError::Overloaded {
                limit: "commands",
                callers_own: false,
                ..
            }
        ));
        // An item of a batch waits beyond that, but not for ever.
        let (waited, ()) = tokio::join!(permits.wait(deadline), async {
            tokio::time::sleep(PATIENCE * 2).await;
            drop(held);
        });
        let _held = waited.unwrap();
        let late = permits.wait(deadline).await.unwrap_err();
        assert!(matches!(late, ServiceError::DeadlineExceeded));
    }
}
