//! Reading what other processes have committed.

use std::sync::Arc;

use actix::prelude::*;
use tokio::time::Instant;

use super::actor::{EventStoreActor, Phase};
use super::writer_deps::WriterDeps;
use crate::domain::ids::Offset;
use crate::flaws::{Flaw, flawed};
use crate::log::lead::Lead;
use crate::log::object::{CommitKind, CommitObject, CorruptObject};
use crate::log::partition::PartitionLog;
use crate::migration::fence::may_append_in_postgres;
use crate::migration::partition_state::PartitionState;
use crate::store::error::StoreError;

/// Commits read in one round; bounds the memory of a round.
pub const TAIL_ROUND: u64 = 256;

pub struct Round {
    /// The next commits, in order.
    pub objects: Vec<Arc<CommitObject>>,
    /// Whether they reach the end of the log, so that every write acknowledged before is among
    /// them. Also false when the store that was read no longer leads: then the log goes on in the
    /// other one.
    pub whole: bool,
}

/// Reads on from `from`. With `must_be_whole` a caller is to be told that nothing is missing, so it
/// is also checked that the store that was read still leads. The bucket's log says so itself.
pub async fn read_on(
    deps: &WriterDeps,
    from: Offset,
    state: Option<PartitionState>,
    must_be_whole: bool,
) -> Result<Round, StoreError> {
    let partition = deps.shared.id;
    let lead = deps.log.routes().lead(partition);
    let mut leads = true;
    if must_be_whole && lead == Lead::Postgres {
        leads = still_leads(deps, state).await?;
    }
    // The first read decides whether there is anything; mostly there is not.
    let Some(first) = deps.log.commit(partition, from).await? else {
        let objects = Vec::new();
        return Ok(Round {
            objects,
            whole: leads,
        });
    };
    let mut objects = vec![first];
    if let Some(place) = deps.log.place(lead) {
        let rest = place.span(partition, from + 1, from + TAIL_ROUND).await?;
        objects.extend(rest.into_iter().map(Arc::new));
    }
    // A span may end early: only a round that finds nothing proves the end.
    Ok(Round {
        objects,
        whole: false,
    })
}

/// Whether PostgreSQL still leads, by its row rather than by what was published.
async fn still_leads(deps: &WriterDeps, state: Option<PartitionState>) -> Result<bool, StoreError> {
    let (Some(table), Some(state)) = (&deps.table, state) else {
        return Ok(true);
    };
    let view = table.view(deps.shared.id).await?;
    let epoch = state.stage.leadership.epoch;
    Ok(view.is_some_and(|v| may_append_in_postgres(&v.row, epoch).is_ok()))
}

impl EventStoreActor {
    /// Starts to read what other processes have committed.
    pub(super) fn tail(&mut self, ctx: &mut Context<Self>) {
        let Some(from) = self
            .deps
            .shared
            .log
            .read()
            .as_ref()
            .map(PartitionLog::next_offset)
        else {
            return;
        };
        self.in_round.append(&mut self.catching_up);
        self.phase = Phase::Tailing;
        let deps = self.deps.clone();
        let state = deps.state();
        let somebody_waits = !self.in_round.is_empty();
        let read = async move { read_on(&deps, from, state, somebody_waits).await };
        ctx.spawn(read.into_actor(self).map(|round, actor, ctx| {
            actor.phase = Phase::Idle;
            actor.apply(round, ctx);
            actor.checkpoint_if_due(ctx);
            actor.proceed_later(ctx);
        }));
    }

    fn apply(&mut self, round: Result<Round, StoreError>, ctx: &mut Context<Self>) {
        let outcome = round.and_then(|round| {
            let mut whole = round.whole;
            for object in &round.objects {
                self.apply_one(object).map_err(|e| self.corrupt(&e))?;
            }
            if let Some(log) = &*self.deps.shared.log.read() {
                let lead = self.deps.log.routes().lead(self.id());
                // In the bucket the last control record says who leads from there on.
                whole &= lead == Lead::Postgres
                    || log.leadership().is_some_and(|l| l.lead == Lead::S3)
                    || flawed(Flaw::IgnoreFence);
            }
            if round
                .objects
                .iter()
                .any(|o| o.header.kind == CommitKind::Control)
            {
                self.deps.heads.nudge();
                self.deps.stale.notify_one();
            }
            Ok((!round.objects.is_empty(), whole))
        });
        match outcome {
            // There may be more: callers keep waiting and the next round begins at once.
            Ok((true, _)) => self.behind = true,
            Ok((false, true)) => {
                self.behind = false;
                self.caught_up(&Ok(()));
            }
            Ok((false, false)) => {
                self.behind = false;
                // Callers keep waiting, for the store that leads now.
                if !self.in_round.is_empty() {
                    self.hold(ctx);
                }
            }
            Err(e) => {
                self.behind = false;
                self.caught_up(&Err(e));
            }
        }
    }

    /// Decodes and checks an object outside the lock and holds it only to apply it: a start or a
    /// long absence has thousands of objects.
    fn apply_one(&self, object: &CommitObject) -> Result<(), CorruptObject> {
        let shared = &self.deps.shared;
        let checked = match &*shared.log.read() {
            // Two rounds may overlap if a put came in between.
            Some(log) if object.header.offset >= log.next_offset() => log.prepare(object)?,
            _ => return Ok(()),
        };
        if let Some(log) = &mut *shared.log.write() {
            log.commands_mut().tell_time(self.deps.clock.now());
            log.take(checked)?;
            self.deps.heads.advance(self.id(), log.next_offset());
        }
        if self.is_others(object) {
            *shared.others_wrote.lock() = Some(Instant::now());
        }
        Ok(())
    }

    pub(super) fn caught_up(&mut self, outcome: &Result<(), StoreError>) {
        for waiting in self.in_round.drain(..) {
            // The receiver may have given up; see `Waiting::answer`.
            drop(waiting.send(outcome.clone()));
        }
    }
}
