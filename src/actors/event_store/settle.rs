//! What follows a put: verdicts, the index, whoever waits for the copy.

use std::sync::Arc;

use actix::prelude::*;
use tokio::time::Instant;

use super::actor::EventStoreActor;
use super::put::Unsettled;
use super::waiting::{Waiting, answer_all};
use super::{AppendError, GaveUp};
use crate::flaws::{Flaw, flawed};
use crate::log::object::{CommitKind, CommitObject};
use crate::log::partition::{Batch, Owner, Verdict};
use crate::metrics;
use crate::migration::stage::Mode;
use crate::migration::standing::Standing;
use crate::store::error::StoreErrorKind;

impl EventStoreActor {
    pub(super) fn give_up(
        &mut self,
        batch: Batch<Waiting>,
        object: &CommitObject,
        unsettled: &Unsettled,
    ) {
        *self.deps.shared.gave_up.lock() = Some(GaveUp {
            at: Instant::now(),
            no_room: unsettled.error.kind == StoreErrorKind::Full,
        });
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

    pub(super) fn settle(
        &mut self,
        mut batch: Batch<Waiting>,
        object: Arc<CommitObject>,
        owner: Owner,
        standing: Standing,
        ctx: &mut Context<Self>,
    ) {
        *self.deps.shared.gave_up.lock() = None;
        let next = object.header.offset + 1;
        if let Some(log) = &*self.deps.shared.log.read() {
            batch.prepare(log, &owner);
        }
        let settled = match &mut *self.deps.shared.log.write() {
            Some(log) => log.settle(batch, &owner),
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
            // Whose put succeeded knows all there is: nothing was at its offset, under a leader
            // whose fence it passed.
            self.caught_up(&Ok(()));
        }
        let is_control = in_log.header.kind == CommitKind::Control;
        self.deps.log.remember(in_log);
        self.deps.heads.advance(self.id(), next);
        if is_control {
            self.deps.heads.nudge();
            self.deps.doubt.notify_one();
        }
        for append in settled.again.into_iter().rev() {
            append.reply.claim.put_back();
            self.queue.push_front(append);
        }
        if settled.verdicts.is_empty() {
            return;
        }
        if standing.stage.mode == Mode::DualWrite && self.deps.mirrors.of(self.id()).in_step {
            self.answer_when_mirrored(settled.verdicts, standing, next, ctx);
        } else {
            answer_all(settled.verdicts, standing, false);
        }
    }

    /// The write is made; the answers wait a little for its copy, and the next batch does not.
    fn answer_when_mirrored(
        &self,
        verdicts: Vec<(Waiting, Verdict)>,
        standing: Standing,
        next: u64,
        ctx: &mut Context<Self>,
    ) {
        let deps = self.deps.clone();
        let wait = async move {
            let patience = deps.settings.mirror_patience;
            deps.mirrors.wait(deps.shared.id, next, patience).await
        };
        ctx.spawn(wait.into_actor(self).map(move |mirrored, _, _| {
            answer_all(verdicts, standing, mirrored);
        }));
    }
}
