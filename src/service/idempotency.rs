//! Refuses an idempotency key that already stands for another request.
//!
//! The check covers everything that was committed anywhere when the request began. Two *different*
//! requests under one key that run at the very same time in different partitions may therefore both
//! commit; so may a single command after a batch whose item 0 changed nothing. The same request
//! twice is safe regardless: both have the same command ids, and each stream takes a command once.

use std::time::Duration;

use tokio::sync::SemaphorePermit;

use super::Service;
use super::batch::MAX_BATCH;
use super::context::RequestContext;
use super::error::{RETRY_WHEN_FULL, ServiceError};
use crate::domain::ids::CommandId;
use crate::domain::refusal::Refusal;

/// Longest wait for reading what other processes have written.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(1);

/// The request hash of a committed command, if it had one.
type RequestHash = Option<u64>;

impl Service {
    /// The checks before a single command: its key must not stand for a batch, and there must be
    /// disk space. Whether the key stands for another single command shows when the command is
    /// executed.
    pub(super) async fn begin(
        &self,
        ctx: &RequestContext,
    ) -> Result<SemaphorePermit<'_>, ServiceError> {
        self.catch_up_on_keys(ctx).await;
        if stands_for_batch(ctx, |id| self.committed(id)) {
            return Err(Refusal::key_reused().into());
        }
        self.refuse_without_room(ctx.command_id())?;
        self.permits.ask(ctx.deadline).await
    }

    /// Reads what other processes have committed, in all partitions, before a new key is accepted.
    /// Only a key used for two *different* requests needs this: the same request has the same
    /// stream, which executes a command once in any case. Therefore a log that cannot be read now
    /// does not hold the request up.
    async fn catch_up_on_keys(&self, ctx: &RequestContext) {
        let store = &self.parts.entities.writer;
        let known = || {
            self.committed(ctx.command_id()).is_some()
                || self.committed(ctx.item_command_id(0)).is_some()
        };
        if ctx.idempotency.is_none() || !store.others_write() || known() {
            return;
        }
        match tokio::time::timeout(CATCH_UP_PATIENCE, store.catch_up_all()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "keys of other processes are not known yet"),
            Err(_) => tracing::debug!("keys of other processes are not known yet"),
        }
    }

    /// The check before a batch: its key must not stand for a single command or for another batch
    /// of any length.
    pub(super) async fn refuse_reused_batch_key(
        &self,
        ctx: &RequestContext,
    ) -> Result<(), ServiceError> {
        self.catch_up_on_keys(ctx).await;
        if stands_for_other_than_this_batch(ctx, |id| self.committed(id)) {
            return Err(Refusal::key_reused().into());
        }
        Ok(())
    }

    /// Refuses a command while the disk is nearly full, before anything is done; a command that was
    /// committed before still gets its answer.
    pub(super) fn refuse_without_room(&self, command: CommandId) -> Result<(), ServiceError> {
        let low = self.parts.room.as_ref().filter(|room| room.is_low());
        let Some(room) = low else {
            return Ok(());
        };
        if self.committed(command).is_some() {
            return Ok(());
        }
        let status = room.status();
        Err(ServiceError::NoRoom {
            place: "disk",
            message: format!(
                "{} bytes are left, the reserve is {}",
                status.free_bytes, status.reserve_bytes
            ),
            retry_after: RETRY_WHEN_FULL,
        })
    }

    fn committed(&self, id: CommandId) -> Option<RequestHash> {
        let (_, outcome) = self.parts.entities.writer.command(id)?;
        Some(outcome.request_hash)
    }
}

/// Only place 0 is checked: to check every place of the longest batch would cost every single
/// command more than everything else it does.
fn stands_for_batch(
    ctx: &RequestContext,
    committed: impl Fn(CommandId) -> Option<RequestHash>,
) -> bool {
    ctx.idempotency.is_some() && committed(ctx.item_command_id(0)).is_some()
}

fn stands_for_other_than_this_batch(
    ctx: &RequestContext,
    committed: impl Fn(CommandId) -> Option<RequestHash>,
) -> bool {
    let Some(idempotency) = &ctx.idempotency else {
        return false;
    };
    committed(ctx.command_id()).is_some()
        || (0..MAX_BATCH).any(|place| {
            committed(ctx.item_command_id(place))
                .is_some_and(|hash| hash != Some(idempotency.request_hash))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Idempotency;
    use std::collections::HashMap;
    use tokio::time::Instant;

    fn request(key: &str, request_hash: u64) -> RequestContext {
        RequestContext {
            principal: "ann".into(),
            correlation_id: "story".into(),
            trace: None,
            idempotency: Some(Idempotency {
                key: key.into(),
                request_hash,
            }),
            deadline: Instant::now(),
        }
    }

    #[test]
    fn law_2_a_key_stands_for_one_request_be_it_single_or_a_batch_of_any_length() {
        // Of the batch under `b` only the item at the last possible place was committed, of the
        // one under `z` only the first; under `s` there was a single command.
        let (batch, zero, single) = (request("b", 1), request("z", 1), request("s", 2));
        let known = HashMap::from([
            (batch.item_command_id(MAX_BATCH - 1), Some(1)),
            (zero.item_command_id(0), Some(1)),
            (single.command_id(), Some(2)),
        ]);
        let committed = |id| known.get(&id).copied();
        assert!(!stands_for_other_than_this_batch(&batch, committed));
        assert!(!stands_for_other_than_this_batch(&zero, committed));
        for other in [request("b", 3), request("z", 3), request("s", 2)] {
            assert!(stands_for_other_than_this_batch(&other, committed));
        }
        assert!(stands_for_batch(&request("z", 1), committed));
        for fresh in [request("s", 2), request("z#0", 1), request("new", 1)] {
            assert!(!stands_for_batch(&fresh, committed));
        }
        assert!(!stands_for_other_than_this_batch(
            &request("z#0", 1),
            committed
        ));
        let keyless = RequestContext {
            idempotency: None,
            ..batch
        };
        assert!(!stands_for_batch(&keyless, |_| Some(None)));
        assert!(!stands_for_other_than_this_batch(&keyless, |_| Some(None)));
    }
}
