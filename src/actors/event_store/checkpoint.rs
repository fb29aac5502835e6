//! Checkpoints of a partition's index, so that the next start need not read the whole log.

use actix::prelude::*;

use super::actor::EventStoreActor;
use crate::log::partition::PartitionLog;
use crate::log::segment::Segment;
use crate::metrics;

impl EventStoreActor {
    pub(super) fn checkpoint_if_due(&mut self, ctx: &mut Context<Self>) {
        let due = match &*self.deps.shared.log.read() {
            Some(log) => log.unsaved() >= self.checkpoint_at,
            None => false,
        };
        if due && !self.checkpointing {
            ctx.spawn(self.checkpoint());
        }
    }

    /// Stores the part of the index that is not saved yet, as a segment.
    pub(super) fn checkpoint(&mut self) -> ResponseActFuture<Self, ()> {
        let segment = match &*self.deps.shared.log.read() {
            Some(log) => segment_of(log),
            None => None,
        };
        let Some(segment) = segment else {
            return Box::pin(actix::fut::ready(()));
        };
        self.checkpointing = true;
        let deps = self.deps.clone();
        let to = segment.to;
        let save = async move { deps.log.save_segment(&segment).await };
        Box::pin(save.into_actor(self).map(move |saved, actor, _| {
            actor.checkpointing = false;
            let every = actor.deps.settings.checkpoint_commits.max(1);
            match (saved, &mut *actor.deps.shared.log.write()) {
                (Ok(()), Some(log)) => {
                    log.saved_up_to(to);
                    actor.checkpoint_at = every;
                    metrics::index_size(log);
                }
                // The index is derived: without the checkpoint only the next start is slower.
                (Err(error), Some(log)) => {
                    tracing::warn!(partition = %log.id(), %error, "no checkpoint of the index");
                    actor.checkpoint_at = log.unsaved() + every;
                }
                (_, None) => {}
            }
        }))
    }
}

fn segment_of(log: &PartitionLog) -> Option<Segment> {
    let commits = log.unsaved_commits();
    let from = commits.first()?.offset;
    Some(Segment::new(
        log.id(),
        from,
        log.prev(),
        log.controls().to_vec(),
        commits.to_vec(),
    ))
}
