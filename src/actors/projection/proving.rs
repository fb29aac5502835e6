//! Verifies that the read model is of this log. A model of another log is dropped and rebuilt at
//! once; one of another end of this log is rebuilt beside the existing one; where the log has lost
//! its end, nothing is done until that is back or the log has gone another way.

use tokio::time::Instant;

use super::projector::Projector;
use crate::domain::ids::{Offset, PartitionId};
use crate::log::identity::{Foreign, Mark, Ownership};
use crate::store::alarms::CopyKind;
use crate::store::error::StoreError;
use crate::store::ports::read_model::{GenerationState, Generations};

const DROPPED: &str = "It was dropped and is made anew from the log; until then queries find only \
    what was taken in so far";
const MADE_ANEW: &str = "It is made anew beside what there is; until then queries may show what \
    the log does not hold, and not what it holds since";
const WAITS: &str = "Nothing of the partition is projected until the log's end is there again: put \
    the missing objects back. When the log goes another way, the read model is made anew by itself";

impl Projector {
    /// Verifies the generations' positions that are not known to be in this log. False when the
    /// generations have changed and have to be read again.
    pub(super) async fn prove(&mut self, generations: &Generations) -> Result<bool, StoreError> {
        let live = generations.live.generation;
        let building = generations.building.as_ref();
        let known = |g| g == live || building.is_some_and(|b| b.generation == g);
        self.proven.retain(|(generation, _), _| known(*generation));
        if self.distrusted.is_some_and(|g| g != live) {
            self.distrusted = None;
        }
        let all = std::iter::once(&generations.live).chain(building);
        for state in all {
            if !self.prove_one(state, state.generation == live).await? {
                return Ok(false);
            }
        }
        if self.distrusted.is_some() && building.is_none() {
            self.deps.model.begin_rebuild().await?;
            return Ok(false);
        }
        Ok(true)
    }

    async fn prove_one(
        &mut self,
        state: &GenerationState,
        is_live: bool,
    ) -> Result<bool, StoreError> {
        let now = Instant::now();
        for partition in self.deps.log.partition_ids() {
            let mark = state.mark(partition);
            let key = (state.generation, partition);
            let waits = is_live && self.halted.holds(partition, now);
            if waits || self.stands(state, partition).is_some() {
                continue;
            }
            match self.deps.log.judge(partition, &mark).await? {
                Ownership::Ours { hash, marked } => {
                    if is_live {
                        self.halted.goes_on(self.deps.log.alarms(), partition);
                    }
                    if let (Some(hash), false) = (hash, marked) {
                        if mark.next > 0 {
                            tracing::warn!(%partition, next = mark.next, %hash, "the read model does \
                                not say of which log it is: the log holds a commit where it \
                                stands, so it is taken for this log's");
                        }
                        let model = &self.deps.model;
                        model.mark(state.generation, partition, mark, hash).await?;
                        return Ok(false);
                    }
                    self.proven.insert(key, mark);
                }
                Ownership::Foreign(why) if !is_live => {
                    tracing::error!(%partition, generation = state.generation.0,
                        reason = why.as_str(), "a rebuild of the read model is not of this log: \
                        it begins anew");
                    self.deps.model.discard(state.generation).await?;
                    return Ok(false);
                }
                Ownership::Foreign(Foreign::Behind) => {
                    let found = (Foreign::Behind, mark.next);
                    let alarms = self.deps.log.alarms();
                    self.halted.note(alarms, partition, found, WAITS, now);
                }
                Ownership::Foreign(why @ Foreign::OtherLog { .. }) => {
                    self.say(why, partition, mark.next, DROPPED);
                    self.deps.model.discard(state.generation).await?;
                    return Ok(false);
                }
                Ownership::Foreign(why @ Foreign::Diverged) => {
                    self.say(why, partition, mark.next, MADE_ANEW);
                    self.distrusted = Some(state.generation);
                }
            }
        }
        Ok(true)
    }

    fn say(&mut self, why: Foreign, partition: PartitionId, next: Offset, what: &str) {
        self.remade.insert(partition);
        let wrong = why.describe(CopyKind::ReadModel.name(), partition, next);
        let message = format!("{wrong}. {what}");
        let alarms = self.deps.log.alarms();
        alarms.raise(CopyKind::ReadModel, partition, why.as_str(), message);
    }

    /// A generation's position in a partition, if it was verified.
    pub(super) fn stands(&self, state: &GenerationState, partition: PartitionId) -> Option<Mark> {
        let mark = state.mark(partition);
        let proven = self.proven.get(&(state.generation, partition))?;
        (*proven == mark).then_some(mark)
    }

    /// Clears the alarm of every partition whose rebuilt model has reached the log's end.
    pub(super) fn remade(&mut self, generations: &Generations) {
        if self.remade.is_empty() || self.distrusted.is_some() {
            return;
        }
        let live = &generations.live;
        for partition in std::mem::take(&mut self.remade) {
            let head = self.deps.heads.next_offset(partition);
            if live.mark(partition).next >= head && head > 0 {
                self.deps.log.alarms().clear(CopyKind::ReadModel, partition);
            } else {
                self.remade.insert(partition);
            }
        }
    }
}
