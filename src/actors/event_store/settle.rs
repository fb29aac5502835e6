//! Handles the outcome of a put: updates the index and answers the callers, after the copy where
//! they wait for it.

use std::sync::Arc;

use actix::prelude::*;
use tokio::time::Instant;

use super::actor::EventStoreActor;
use super::put::Unsettled;
use super::waiting::{Waiting, answer_all};
use super::{AppendError, GaveUp};
use crate::flaws::{Flaw, flawed};
use crate::log::batch::{AppendOutcome, Batch, Owner};
use crate::log::object::{CommitKind, CommitObject};
use crate::metrics;
use crate::migration::partition_state::PartitionState;
use crate::migration::stage::Mode;
use crate::store::error::{StoreError, StoreErrorKind};
use crate::store::halts::WRITES;

/// After so many refused batches in a row, and none accepted, the fault is taken to be the store's.
const REFUSES_EVERYTHING: u32 = 8;

impl EventStoreActor {
    pub(super) fn give_up(
        &mut self,
        batch: Batch<Waiting>,
        object: &CommitObject,
        unsettled: &Unsettled,
    ) {
        self.note_given_up(&unsettled.error);
        tracing::warn!(partition = %self.id(), offset = object.header.offset,
            commands = batch.commands(), may_be_there = unsettled.may_be_there,
            error = %unsettled.error, "gave up on a put");
        for waiting in batch.abandon() {
            waiting.answer(Err(
                if unsettled.may_be_there && !flawed(Flaw::DenyUnknown) {
                    AppendError::Unknown(unsettled.error.to_string())
                } else {
                    AppendError::NotWritten(unsettled.error.clone())
                },
            ));
        }
    }

    /// A put that the store refused for its content says nothing about the next one: only its
    /// callers are told. Only after [`REFUSES_EVERYTHING`] refusals in a row does the partition
    /// count as taking no writes.
    fn note_given_up(&mut self, error: &StoreError) {
        if error.kind == StoreErrorKind::Invalid {
            self.refused_in_a_row += 1;
            if self.refused_in_a_row >= REFUSES_EVERYTHING {
                self.deps.halts.failed(WRITES, Some(self.id()), error);
            }
            return;
        }
        let mut gave_up = self.deps.shared.gave_up.lock();
        *gave_up = Some(GaveUp {
            at: Instant::now(),
            since: gave_up.map_or_else(|| self.deps.clock.now(), |earlier| earlier.since),
            kind: error.kind,
        });
        if !error.is_transient() {
            self.deps.halts.failed(WRITES, Some(self.id()), error);
        }
    }

    pub(super) fn settle(
        &mut self,
        mut batch: Batch<Waiting>,
        object: Arc<CommitObject>,
        owner: Owner,
        state: PartitionState,
        ctx: &mut Context<Self>,
    ) {
        *self.deps.shared.gave_up.lock() = None;
        let next = object.header.offset + 1;
        if let Some(log) = &*self.deps.shared.log.read() {
            log.prepare_to_settle(&mut batch, &owner);
        }
        let settled = match &mut *self.deps.shared.log.write() {
            Some(log) => {
                log.commands_mut().tell_time(self.deps.clock.now());
                log.settle(batch, &owner)
            }
            None => return,
        };
        let settled = match settled {
            Ok(settled) => settled,
            Err(unsettled) => {
                let error = self.corrupt(&unsettled.corrupt);
                for waiting in unsettled.batch.abandon() {
                    waiting.answer(Err(AppendError::NotWritten(error.clone())));
                }
                return;
            }
        };
        self.deps.halts.goes_on(WRITES, Some(self.id()));
        self.refused_in_a_row = 0;
        let in_log = match owner {
            Owner::Us => object,
            Owner::Found(found) => Arc::new(found),
        };
        if settled.lost_race {
            if self.is_others(&in_log) {
                *self.deps.shared.others_wrote.lock() = Some(Instant::now());
            }
            metrics::race_lost();
            self.behind = true;
        } else {
            metrics::committed(&in_log);
            // A put that succeeded under the leader's fence proves that nothing was at its offset:
            // there is nothing more to read.
            self.caught_up(&Ok(()));
        }
        let is_control = in_log.header.kind == CommitKind::Control;
        self.deps.log.remember(in_log);
        self.deps.heads.advance(self.id(), next);
        if is_control {
            self.deps.heads.nudge();
            self.deps.stale.notify_one();
        }
        for append in settled.again.into_iter().rev() {
            append.reply.claim.put_back();
            self.queue.push_front(append);
        }
        if settled.verdicts.is_empty() {
            return;
        }
        if state.stage.mode == Mode::DualWrite && self.deps.mirrors.of(self.id()).in_step {
            self.answer_when_mirrored(settled.verdicts, state, next, ctx);
        } else {
            answer_all(settled.verdicts, state, false);
        }
    }

    /// The write is made. The answers wait for its copy for a moment; the next batch does not.
    fn answer_when_mirrored(
        &self,
        verdicts: Vec<(Waiting, AppendOutcome)>,
        state: PartitionState,
        next: u64,
        ctx: &mut Context<Self>,
    ) {
        let deps = self.deps.clone();
        let wait = async move {
            let patience = deps.settings.mirror_patience;
            deps.mirrors.wait(deps.shared.id, next, patience).await
        };
        ctx.spawn(wait.into_actor(self).map(move |mirrored, _, _| {
            answer_all(verdicts, state, mirrored);
        }));
    }
}
