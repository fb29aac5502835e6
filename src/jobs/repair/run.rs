//! A repair in progress: one difference after the other.

use bytes::Bytes;
use jiff::Timestamp;
use metrics::counter;
use serde::{Deserialize, Serialize};

use super::report::{RepairOutcome, RepairReport, Repaired};
use super::{RepairOrder, RepairRunner};
use crate::domain::ids::{Offset, PartitionId};
use crate::jobs::context::JobContext;
use crate::jobs::failure::{JobFailure, write};
use crate::jobs::log_copies::other;
use crate::jobs::pace::Pace;
use crate::jobs::verify::Ends;
use crate::log::keys;
use crate::log::lead::Lead;
use crate::log::object::{CommitObject, ObjectHash};
use crate::metrics::REPAIRS;
use crate::migration::job::JobProgress;
use crate::proof::divergence::{Divergence, DivergenceKind, MAX_LISTED, Remedy, StrayName};
use crate::proof::found::Found;
use crate::proof::order::LeaderOrder;
use crate::store::error::StoreErrorKind;
use crate::store::ports::log_repair::{Mended, Rivals};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    pub(super) began: Timestamp,
    /// The differences to repair; of a fresh verification once it has ended.
    pub(super) list: Vec<Divergence>,
    /// How many of the list are done.
    pub(super) next: usize,
    /// Up to which offset differences of the current partition were examined already.
    pub(super) examined: Option<(PartitionId, Offset)>,
    pub(super) counts: [u64; 4],
    #[serde(default)]
    pub(super) needs_order: u64,
    pub(super) results: Vec<Repaired>,
}

pub(super) struct Run<'a> {
    pub(super) runner: &'a RepairRunner,
    pub(super) order: RepairOrder,
    pub(super) job: &'a JobContext,
    pub(super) pace: Pace,
    /// The current partition, as it was when its turn came.
    pub(super) ends: Option<(PartitionId, Ends)>,
    pub(super) state: Checkpoint,
}

pub(super) struct RepairDecision {
    pub(super) outcome: RepairOutcome,
    pub(super) reason: String,
    pub(super) kept: Option<String>,
    pub(super) needed: Option<LeaderOrder>,
}

impl RepairDecision {
    pub(super) fn new(outcome: RepairOutcome, reason: impl Into<String>) -> Self {
        Self {
            outcome,
            reason: reason.into(),
            kept: None,
            needed: None,
        }
    }

    pub(super) fn not(reason: impl Into<String>) -> Self {
        Self::new(RepairOutcome::NotRepairable, reason)
    }

    /// It is in the log that leads, and no order names it.
    pub(super) fn unordered(needed: LeaderOrder, why: &str) -> Self {
        let reason = format!(
            "it lies in the log that leads, where only what is named is touched: \
             `replace_in_leader` `{needed}` has it done ({why})"
        );
        Self {
            needed: Some(needed),
            ..Self::new(RepairOutcome::NeedsOrder, reason)
        }
    }
}

impl Run<'_> {
    pub(super) fn report(self) -> RepairReport {
        let [repaired, would_repair, gone, not_repairable] = self.state.counts;
        RepairReport {
            clean: not_repairable == 0 && would_repair == 0 && self.state.needs_order == 0,
            dry_run: self.order.dry_run,
            began: self.state.began,
            ended: self.runner.verifier.clock.now(),
            repaired,
            would_repair,
            needs_order: self.state.needs_order,
            gone,
            not_repairable,
            results: self.state.results,
        }
    }

    pub(super) async fn step(&mut self) -> Result<(), JobFailure> {
        let Some(divergence) = self.state.list.get(self.state.next).cloned() else {
            return Ok(());
        };
        if let Some(stray) = divergence
            .stray
            .clone()
            .filter(|_| divergence.repair == Remedy::Quarantine)
        {
            let verdict = self.stray(&divergence, &stray).await?;
            self.note(&divergence, verdict);
        } else if matches!(
            divergence.kind,
            DivergenceKind::ExtraInS3 | DivergenceKind::ExtraInPostgres
        ) {
            let verdict = self.extra(&divergence).await?;
            self.note(&divergence, verdict);
        } else {
            self.object(&divergence).await?;
        }
        self.state.next += 1;
        let pause = self.pace.advance(0, 1);
        let rest = self.state.list.len() - self.state.next;
        let progress = JobProgress {
            phase: "repairing".into(),
            unit: "divergences".into(),
            done: self.state.next as u64,
            total: self.state.list.len() as u64,
            events: 0,
            rate: 0.0,
            eta_seconds: self.pace.eta(rest as u64),
            waiting: None,
        };
        let state = &self.state;
        self.job.save(progress, || write(state))?;
        self.job.wait(pause).await;
        Ok(())
    }

    fn note(&mut self, divergence: &Divergence, verdict: RepairDecision) {
        let [repaired, would_repair, gone, not_repairable] = &mut self.state.counts;
        let count = match verdict.outcome {
            RepairOutcome::Repaired => repaired,
            RepairOutcome::WouldRepair => would_repair,
            RepairOutcome::NeedsOrder => &mut self.state.needs_order,
            RepairOutcome::Gone => gone,
            RepairOutcome::NotRepairable => not_repairable,
        };
        *count += 1;
        counter!(REPAIRS, "outcome" => verdict.outcome.as_str()).increment(1);
        if verdict.outcome == RepairOutcome::Repaired {
            tracing::warn!(partition = %divergence.partition, offset = divergence.offset,
                kind = divergence.kind.as_str(), kept = verdict.kept,
                "repaired the log: {}", divergence.repair.as_str());
        }
        if self.state.results.len() < MAX_LISTED {
            self.state.results.push(Repaired {
                partition: divergence.partition,
                offset: divergence.offset,
                kind: divergence.kind,
                stream: divergence.stream.clone(),
                repair: divergence.repair,
                outcome: verdict.outcome,
                reason: verdict.reason,
                kept: verdict.kept,
                needed: verdict.needed,
            });
        }
    }

    async fn ends(&mut self, partition: PartitionId) -> Result<Ends, JobFailure> {
        if let Some((p, ends)) = &self.ends
            && *p == partition
        {
            return Ok(ends.clone());
        }
        let ends = self.runner.verifier.ends(partition, 0).await?;
        self.ends = Some((partition, ends.clone()));
        Ok(ends)
    }

    /// Whether a store leads the partition, or may do so by now: there nothing is touched that no
    /// order names.
    pub(super) async fn may_lead(
        &self,
        place: Lead,
        partition: PartitionId,
    ) -> Result<bool, JobFailure> {
        let lead = self.runner.verifier.lead(partition).await?;
        Ok(lead.is_none_or(|lead| lead == place))
    }

    /// Whether an order names the object at this offset.
    pub(super) fn is_named(
        &self,
        partition: PartitionId,
        offset: Offset,
        found: Option<&ObjectHash>,
    ) -> bool {
        let mut orders = self.order.replace_in_leader.iter();
        orders.any(|order| order.names(partition, offset, found))
    }

    pub(super) fn place_of(divergence: &Divergence) -> Lead {
        match divergence.kind {
            DivergenceKind::ExtraInS3 => Lead::S3,
            _ => Lead::Postgres,
        }
    }

    /// Whether a store leads this partition or, of one that does not exist, any.
    async fn may_lead_around(
        &self,
        place: Lead,
        partition: PartitionId,
    ) -> Result<bool, JobFailure> {
        let partitions = self.runner.verifier.places.partitions;
        if partition.0 < partitions {
            return self.may_lead(place, partition).await;
        }
        for partition in (0..partitions).map(PartitionId) {
            if self.may_lead(place, partition).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Handles an object that is no commit object of the log.
    async fn stray(
        &mut self,
        divergence: &Divergence,
        stray: &StrayName,
    ) -> Result<RepairDecision, JobFailure> {
        let place = Self::place_of(divergence);
        let log_repair = self.runner.verifier.places.of(place).log_repair.clone();
        let Some(found) = log_repair.stray_hash(stray).await? else {
            let reason = "it is not there any more";
            return Ok(RepairDecision::new(RepairOutcome::Gone, reason));
        };
        let mut orders = self.order.replace_in_leader.iter();
        let is_named = orders.any(|order| order.names_stray(stray, &found));
        if !is_named && self.may_lead_around(place, divergence.partition).await? {
            let needed = LeaderOrder::naming_stray(stray, &found);
            return Ok(RepairDecision::unordered(needed, &divergence.why));
        }
        if self.order.dry_run {
            let reason = "it would be moved into quarantine";
            return Ok(RepairDecision::new(RepairOutcome::WouldRepair, reason));
        }
        Ok(match log_repair.quarantine(stray, found).await? {
            Mended::Yes => RepairDecision::new(RepairOutcome::Repaired, "moved into quarantine"),
            Mended::Changed => RepairDecision::not("it has changed, or is part of the log"),
        })
    }

    /// Handles an offset at which the stores differ, with those after it up to where they agree
    /// again: they can only be judged together.
    async fn object(&mut self, listed: &Divergence) -> Result<(), JobFailure> {
        let (partition, offset) = (listed.partition, listed.offset);
        if let Some((p, examined)) = self.state.examined
            && p == partition
            && offset < examined
        {
            return Ok(());
        }
        let ends = self.ends(partition).await?;
        if offset >= ends.common() {
            let reason = match listed.repair {
                Remedy::None => RepairDecision::not(listed.why.clone()),
                _ => RepairDecision::new(
                    RepairOutcome::Gone,
                    "one of the places does not reach it (any more)",
                ),
            };
            self.note(listed, reason);
            return Ok(());
        }
        let verifier = &self.runner.verifier;
        let (mut found, examined) = verifier
            .examine(self.job, partition, offset, offset, &ends)
            .await?;
        // Rows whose columns contradict their envelopes: the object itself is readable, and is
        // written again all the same.
        let columns = listed.stray.is_some()
            && found.is_empty()
            && ends
                .postgres
                .strays
                .iter()
                .any(|s| s.within_object && s.offset == offset);
        if columns {
            found.push(listed.clone());
        }
        if !found.iter().any(|d| d.offset == offset) {
            let reason = "both places agree by now";
            self.note(listed, RepairDecision::new(RepairOutcome::Gone, reason));
        }
        for divergence in found {
            let verdict = self.put_right(&divergence).await?;
            self.note(&divergence, verdict);
        }
        self.state.examined = Some((partition, examined));
        Ok(())
    }

    async fn put_right(&mut self, divergence: &Divergence) -> Result<RepairDecision, JobFailure> {
        let wrong = match divergence.repair {
            Remedy::CopyToS3 | Remedy::ReplaceInS3 => Lead::S3,
            Remedy::CopyToPostgres | Remedy::ReplaceInPostgres => Lead::Postgres,
            Remedy::Quarantine | Remedy::QuarantineOnOrder | Remedy::None => {
                return Ok(RepairDecision::not(divergence.why.clone()));
            }
        };
        let (partition, offset) = (divergence.partition, divergence.offset);
        let places = &self.runner.verifier.places;
        let right = places.of(other(wrong)).inspect(partition, offset).await?;
        let Some(object) = right.object() else {
            return Ok(RepairDecision::not("the right one is not there any more"));
        };
        let hash_now = right.hash().map(|h| h.to_string());
        let hash_then = match wrong {
            Lead::S3 => &divergence.postgres,
            Lead::Postgres => &divergence.s3,
        };
        if hash_then.is_some() && hash_now != *hash_then {
            return Ok(RepairDecision::not(
                "the right one changed while it was looked at: verify again",
            ));
        }
        let there = self.raw(wrong, partition, offset).await?;
        let hash = there.as_deref().map(ObjectHash::of);
        let leads = self.may_lead(wrong, partition).await?;
        if leads && !self.is_named(partition, offset, hash.as_ref()) {
            let needed = LeaderOrder::naming(partition, offset, hash.as_ref());
            return Ok(RepairDecision::unordered(needed, &divergence.why));
        }
        if self.order.dry_run {
            let reason = format!(
                "{} has the right one: {}",
                other(wrong).as_str(),
                divergence.why
            );
            return Ok(RepairDecision::new(RepairOutcome::WouldRepair, reason));
        }
        let kept = match &there {
            Some(bytes) if *bytes != object.bytes => {
                self.keep_bytes(partition, offset, bytes).await?
            }
            Some(_) | None => None,
        };
        let rivals = match leads {
            true => Rivals::Refuse,
            false => Rivals::TakeAway,
        };
        let mut verdict = self.place_right(wrong, object, hash, rivals).await?;
        if verdict.outcome == RepairOutcome::Repaired {
            verdict.reason.clone_from(&divergence.why);
        }
        verdict.kept = kept;
        Ok(verdict)
    }

    /// Puts an object into the store that lacks it.
    pub(super) async fn place_right(
        &self,
        place: Lead,
        object: &CommitObject,
        wrong: Option<ObjectHash>,
        rivals: Rivals,
    ) -> Result<RepairDecision, JobFailure> {
        let log_repair = &self.runner.verifier.places.of(place).log_repair;
        match log_repair.replace(object, wrong, rivals).await {
            Ok(Mended::Yes) => Ok(RepairDecision::new(
                RepairOutcome::Repaired,
                "put in its place",
            )),
            Ok(Mended::Changed) => Ok(RepairDecision::not(
                "it changed while it was looked at: verify again",
            )),
            // The store says what stands in the way; the others can still be repaired.
            Err(error)
                if matches!(
                    error.kind,
                    StoreErrorKind::Conflict | StoreErrorKind::Invalid | StoreErrorKind::Corrupt
                ) =>
            {
                Ok(RepairDecision::not(error.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn raw(
        &self,
        place: Lead,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<Bytes>, JobFailure> {
        let log_repair = &self.runner.verifier.places.of(place).log_repair;
        Ok(log_repair.raw(partition, offset).await?)
    }

    pub(super) async fn keep(
        &self,
        partition: PartitionId,
        offset: Offset,
        found: &Found,
    ) -> Result<Option<String>, JobFailure> {
        match found.bytes() {
            Some(bytes) => self.keep_bytes(partition, offset, bytes).await,
            None => Ok(None),
        }
    }

    /// Saves wrong bytes in quarantine; the key contains their hash, so that saving twice is
    /// harmless.
    async fn keep_bytes(
        &self,
        partition: PartitionId,
        offset: Offset,
        bytes: &Bytes,
    ) -> Result<Option<String>, JobFailure> {
        let key = keys::quarantined(partition, offset, &ObjectHash::of(bytes));
        self.runner.bucket.put(&key, bytes.clone()).await?;
        Ok(Some(key))
    }
}
