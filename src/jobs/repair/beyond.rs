//! Objects beyond the end of the log: moved to quarantine, or returned to the leader.

use super::report::RepairOutcome;
use super::run::{RepairDecision, Run};
use crate::domain::ids::{Offset, PartitionId};
use crate::jobs::failure::JobFailure;
use crate::jobs::verify::Ends;
use crate::log::lead::Lead;
use crate::log::object::{CommitObject, ObjectHash};
use crate::proof::divergence::{Divergence, Remedy};
use crate::proof::order::LeaderOrder;
use crate::store::ports::log_repair::{Mended, Rivals};

impl Run<'_> {
    pub(super) async fn extra(
        &mut self,
        divergence: &Divergence,
    ) -> Result<RepairDecision, JobFailure> {
        let (partition, offset) = (divergence.partition, divergence.offset);
        let place = Self::place_of(divergence);
        // Immediately before the move: the log may have grown up to the object.
        let verifier = &self.runner.verifier;
        let ends = verifier.ends(partition, 0).await?;
        let found = verifier.places.of(place).inspect(partition, offset).await?;
        let Some(hash) = found.hash() else {
            return Ok(RepairDecision::new(
                RepairOutcome::Gone,
                "nothing is there any more",
            ));
        };
        let Some(lead) = ends.lead else {
            return Ok(RepairDecision::not("the lead is being moved: try again"));
        };
        let common = ends.common();
        let in_log = match place == lead {
            // In the leader, an object after a gap is no part of the log.
            true => !ends
                .of(lead)
                .gaps
                .iter()
                .any(|gap| gap.end > common && gap.end <= offset),
            false => offset < ends.of(lead).reach,
        };
        if in_log {
            let reason = "the log has come this far: verify again";
            return Ok(RepairDecision::new(RepairOutcome::Gone, reason));
        }
        if place == lead && !self.is_named(partition, offset, Some(&hash)) {
            let needed = LeaderOrder::naming(partition, offset, Some(&hash));
            return Ok(RepairDecision::unordered(needed, &divergence.why));
        }
        let next = found.object().filter(|_| place != lead);
        let goes_on = match next {
            Some(object) => self.goes_on(lead, object, &ends).await?,
            None => false,
        };
        if let Some(object) = next.filter(|_| goes_on && self.is_named(partition, offset, None)) {
            return self.bring_back(lead, object).await;
        }
        let waits = divergence.repair == Remedy::QuarantineOnOrder && place != lead;
        if waits && !self.order.quarantine_beyond_end {
            let needed = LeaderOrder::naming(partition, offset, None);
            let verdict = RepairDecision::not(divergence.why.clone());
            return Ok(RepairDecision {
                needed: goes_on.then_some(needed),
                ..verdict
            });
        }
        if self.order.dry_run {
            let reason = "it would be moved into quarantine";
            return Ok(RepairDecision::new(RepairOutcome::WouldRepair, reason));
        }
        let kept = self.keep(partition, offset, &found).await?;
        self.move_away(place, partition, offset, hash, kept).await
    }

    async fn move_away(
        &self,
        place: Lead,
        partition: PartitionId,
        offset: Offset,
        hash: ObjectHash,
        kept: Option<String>,
    ) -> Result<RepairDecision, JobFailure> {
        let log_repair = &self.runner.verifier.places.of(place).log_repair;
        let mut verdict = match log_repair.remove(partition, offset, hash).await? {
            Mended::Yes => RepairDecision::new(RepairOutcome::Repaired, "moved into quarantine"),
            Mended::Changed => {
                RepairDecision::not("it changed while it was looked at: verify again")
            }
        };
        verdict.kept = kept;
        Ok(verdict)
    }

    /// Whether an object of the copy would be the next one in the leader's log.
    async fn goes_on(
        &self,
        lead: Lead,
        object: &CommitObject,
        ends: &Ends,
    ) -> Result<bool, JobFailure> {
        let (partition, offset) = (object.header.partition, object.header.offset);
        if offset != ends.of(lead).reach {
            return Ok(false);
        }
        let Some(before) = offset.checked_sub(1) else {
            return Ok(object.header.prev == ObjectHash::NONE);
        };
        let place = self.runner.verifier.places.of(lead);
        let last = place.inspect(partition, before).await?;
        let last = last.object().map(CommitObject::hash);
        Ok(last == Some(object.header.prev))
    }

    /// Returns to the leader what it has lost and its copy still holds, at the very next offset:
    /// put-if-absent, so that a writer that is there first wins.
    async fn bring_back(
        &self,
        lead: Lead,
        object: &CommitObject,
    ) -> Result<RepairDecision, JobFailure> {
        if self.order.dry_run {
            let reason = "it would be brought back into the log that leads";
            return Ok(RepairDecision::new(RepairOutcome::WouldRepair, reason));
        }
        let verdict = self.place_right(lead, object, None, Rivals::Refuse).await?;
        Ok(match verdict.outcome {
            RepairOutcome::Repaired => RepairDecision {
                reason: "brought back into the log that leads".into(),
                ..verdict
            },
            _ => verdict,
        })
    }
}
