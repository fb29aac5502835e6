//! Commands in flight are bounded over the whole service, whichever request they belong to: a batch
//! is one admitted request but runs up to 256 commands concurrently.
//!
//! They are bounded by number and by size. A small patch of a large instance holds that instance
//! several times over: the old state, the new one, the event, the answer. Light commands, nearly
//! all, are bounded by number alone, so that they never wait for heavy ones.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::Service;
use super::commands::CommandMetadata;
use super::context::RequestContext;
use super::error::{RETRY_AFTER, ServiceError};
use crate::actors::event_store::ReadPlace;
use crate::metrics;

/// Concurrent commands: twice the number of admitted requests, so that single commands alone never
/// reach it, or 32 batches at full width. At 1 KiB each that is 8 MiB of events.
pub const MAX_COMMANDS: usize = 8_192;

/// How long a single heavy command waits for memory: heavy ones of batches may be before it.
const HEAVY_PATIENCE: Duration = Duration::from_secs(2);

/// A command up to this size is light: all of them together take at most 128 MiB.
const LIGHT: usize = 16 * 1024;

/// How many copies a command holds of the instance it changes.
const COPIES: usize = 4;

/// How much larger JSON is when it is parsed, at worst: an array of zeros.
const PARSED: usize = 48;

/// Copies of a query while it is answered: as it was parsed, for its class, as a condition, as parameters.
const ASKED: usize = 5;

/// Longer than the queries that people and programs ask. As many of them as there are requests at once
/// take a gigabyte at worst, of as many connections.
const SHORT_QUESTION: usize = 2 * 1024;

/// How long a single command waits for a permit: a few group commits, in which a burst of batches
/// proceeds; waiting longer means that the service does not keep up.
const PATIENCE: Duration = Duration::from_millis(100);

/// The permits. Granted in the order of the requests, so that batches do not starve single
/// commands.
#[derive(Debug)]
pub struct CommandPermits {
    commands: Semaphore,
    bytes: Semaphore,
    max_bytes: usize,
}

/// Held while a heavy command runs; empty for a light one.
#[derive(Debug)]
pub struct Held<'a> {
    weight: Option<SemaphorePermit<'a>>,
    permits: &'a CommandPermits,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(weight) = self.weight.take() {
            drop(weight);
            self.permits.show();
        }
    }
}

impl CommandPermits {
    /// At most `commands` at once, and `bytes` of heavy ones.
    pub fn new(commands: usize, bytes: usize) -> Self {
        let max_bytes = bytes.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self {
            commands: Semaphore::new(commands),
            bytes: Semaphore::new(max_bytes),
            max_bytes,
        }
    }

    fn show(&self) {
        metrics::command_bytes(self.max_bytes - self.bytes.available_permits());
    }

    /// Reserves memory for a command on `bytes` bytes of JSON. A single command waits a moment for
    /// it, an item of a batch until its deadline.
    pub async fn hold(
        &self,
        bytes: usize,
        deadline: Instant,
        patient: bool,
    ) -> Result<Held<'_>, ServiceError> {
        // Larger than the limit: it runs alone.
        let weight = bytes.saturating_mul(COPIES).min(self.max_bytes);
        if weight <= LIGHT {
            return Ok(Held {
                weight: None,
                permits: self,
            });
        }
        let until = if patient {
            deadline
        } else {
            deadline.min(Instant::now() + HEAVY_PATIENCE)
        };
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        match timeout_at(until, self.bytes.acquire_many(weight)).await {
            Ok(Ok(permit)) => {
                self.show();
                Ok(Held {
                    weight: Some(permit),
                    permits: self,
                })
            }
            Ok(Err(closed)) => Err(ServiceError::Internal(closed.to_string())),
            Err(_) if patient => Err(ServiceError::DeadlineExceeded),
            Err(_) => Err(overloaded("command_bytes")),
        }
    }

    /// A permit for a single command; `Overloaded` if none becomes free within a moment.
    pub async fn ask(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, ServiceError> {
        match self.wait(deadline.min(Instant::now() + PATIENCE)).await {
            Err(ServiceError::DeadlineExceeded) => Err(overloaded("commands")),
            other => other,
        }
    }

    /// A permit for an item of a batch, which is part of an admitted request and waits until its
    /// deadline.
    pub async fn wait(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, ServiceError> {
        match timeout_at(deadline, self.commands.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(closed)) => Err(ServiceError::Internal(closed.to_string())),
            Err(_) => Err(ServiceError::DeadlineExceeded),
        }
    }
}

impl Service {
    /// Reserves memory for a document that is parsed as a whole and kept for as long as the command
    /// takes.
    pub async fn room_to_parse(
        &self,
        ctx: &RequestContext,
        bytes: usize,
    ) -> Result<Held<'_>, ServiceError> {
        let bytes = bytes.saturating_mul(PARSED / COPIES);
        self.permits.hold(bytes, ctx.deadline, false).await
    }

    /// Reserves memory for a question of so many bytes of JSON, for as long as its answer takes. Short
    /// ones need none.
    pub async fn room_to_ask(&self, bytes: usize) -> Result<ReadPlace, ServiceError> {
        let weight = match bytes {
            0..=SHORT_QUESTION => 0,
            _ => bytes.saturating_mul(ASKED * PARSED),
        };
        Ok(self.parts.entities.writer.read_room().place(weight).await)
    }

    /// Reserves memory for a command on so many bytes of JSON.
    pub(super) async fn hold(
        &self,
        meta: &CommandMetadata<'_>,
        bytes: usize,
    ) -> Result<Held<'_>, ServiceError> {
        let deadline = meta.ctx.deadline;
        self.permits.hold(bytes, deadline, meta.patient).await
    }
}

fn overloaded(limit: &'static str) -> ServiceError {
    metrics::admission_rejected(limit);
    ServiceError::Overloaded {
        limit,
        callers_own: false,
        retry_after: RETRY_AFTER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn law_13_commands_in_flight_are_bounded() {
        let permits = CommandPermits::new(1, 1);
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

    #[tokio::test(start_paused = true)]
    async fn law_13_heavy_commands_are_bounded_by_weight_and_light_ones_never_wait_for_them() {
        let permits = CommandPermits::new(10, 1 << 20);
        let deadline = Instant::now() + Duration::from_secs(10);
        let held = permits.hold(1 << 30, deadline, false).await.unwrap();
        let refused = permits.hold(100_000, deadline, false).await.unwrap_err();
        assert!(matches!(
            refused,
            ServiceError::Overloaded {
                limit: "command_bytes",
                callers_own: false,
                ..
            }
        ));
        let begun = Instant::now();
        drop(permits.hold(1_000, deadline, false).await.unwrap());
        assert_eq!(begun.elapsed(), Duration::ZERO);
        let (waited, ()) = tokio::join!(permits.hold(100_000, deadline, true), async {
            tokio::time::sleep(HEAVY_PATIENCE * 2).await;
            drop(held);
        });
        waited.unwrap();
    }
}
