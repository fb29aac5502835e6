//! A repair under way: one difference after the other.

use bytes::Bytes;
use jiff::Timestamp;
use metrics::counter;
use serde::{Deserialize, Serialize};

use super::report::{RepairOutcome, RepairReport, Repaired};
use super::{RepairOrder, RepairRunner};
use crate::domain::ids::{Offset, PartitionId};
use crate::jobs::context::JobContext;
use crate::jobs::pace::Pace;
use crate::jobs::places::other;
use crate::jobs::runner::{JobFailure, write};
use crate::jobs::verify::Ends;
use crate::log::keys;
use crate::log::object::ObjectHash;
use crate::metrics::REPAIRS;
use crate::migration::job::JobProgress;
use crate::migration::lead::Lead;
use crate::proof::divergence::{Divergence, DivergenceKind, MAX_LISTED, Remedy, StrayName};
use crate::proof::found::Found;
use crate::store::custody::Mended;
use crate::store::error::StoreErrorKind;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    pub(super) began: Timestamp,
    /// What to repair; of a fresh verification once it has ended.
    pub(super) list: Vec<Divergence>,
    /// How many of the list are behind us.
    pub(super) next: usize,
    /// Up to where differences of the current partition were looked at already.
    pub(super) examined: Option<(PartitionId, Offset)>,
    pub(super) counts: [u64; 4],
    pub(super) results: Vec<Repaired>,
}

/// A repair under way.
pub(super) struct Run<'a> {
    pub(super) runner: &'a RepairRunner,
    pub(super) order: RepairOrder,
    pub(super) job: &'a JobContext,
    pub(super) pace: Pace,
    /// The partition in hand, as it was found when its turn came.
    pub(super) ends: Option<(PartitionId, Ends)>,
    pub(super) state: Checkpoint,
}

/// A decision about one difference.
struct Verdict {
    outcome: RepairOutcome,
    reason: String,
    kept: Option<String>,
}

impl Verdict {
    fn new(outcome: RepairOutcome, reason: impl Into<String>) -> Self {
        Self {
            outcome,
            reason: reason.into(),
            kept: None,
        }
    }

    fn not(reason: impl Into<String>) -> Self {
        Self::new(RepairOutcome::NotRepairable, reason)
    }
}

impl Run<'_> {
    pub(super) fn report(self) -> RepairReport {
        let [repaired, would_repair, gone, not_repairable] = self.state.counts;
        RepairReport {
            clean: not_repairable == 0 && would_repair == 0,
            dry_run: self.order.dry_run,
            began: self.state.began,
            ended: self.runner.verifier.clock.now(),
            repaired,
            would_repair,
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

    fn note(&mut self, divergence: &Divergence, verdict: Verdict) {
        let count = match verdict.outcome {
            RepairOutcome::Repaired => 0,
            RepairOutcome::WouldRepair => 1,
            RepairOutcome::Gone => 2,
            RepairOutcome::NotRepairable => 3,
        };
        self.state.counts[count] += 1;
        let outcome = ["repaired", "would_repair", "gone", "not_repairable"][count];
        counter!(REPAIRS, "outcome" => outcome).increment(1);
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

    fn place_of(divergence: &Divergence) -> Lead {
        match divergence.kind {
            DivergenceKind::ExtraInS3 => Lead::S3,
            _ => Lead::Postgres,
        }
    }

    /// What is no commit object of the log.
    async fn stray(
        &mut self,
        divergence: &Divergence,
        stray: &StrayName,
    ) -> Result<Verdict, JobFailure> {
        if self.order.dry_run {
            let reason = "it would be moved into quarantine";
            return Ok(Verdict::new(RepairOutcome::WouldRepair, reason));
        }
        let place = Self::place_of(divergence);
        let custody = &self.runner.verifier.places.of(place).custody;
        Ok(match custody.quarantine(stray).await? {
            Mended::Yes => Verdict::new(RepairOutcome::Repaired, "moved into quarantine"),
            Mended::Changed => Verdict::not("it is part of the log"),
        })
    }

    /// An object beyond the end of the log.
    async fn extra(&mut self, divergence: &Divergence) -> Result<Verdict, JobFailure> {
        let (partition, offset) = (divergence.partition, divergence.offset);
        let place = Self::place_of(divergence);
        // Just before: the log may have grown up to it.
        let verifier = &self.runner.verifier;
        let ends = verifier.ends(partition, 0).await?;
        let found = verifier.places.of(place).look(partition, offset).await?;
        let Some(hash) = found.hash() else {
            return Ok(Verdict::new(
                RepairOutcome::Gone,
                "nothing is there any more",
            ));
        };
        let Some(lead) = ends.lead else {
            return Ok(Verdict::not("the lead is being moved: try again"));
        };
        let common = ends.common();
        let in_log = match place == lead {
            // What comes after nothing is no part of the leader's log.
            true => !ends
                .of(lead)
                .gaps
                .iter()
                .any(|gap| gap.end > common && gap.end <= offset),
            false => offset < ends.of(lead).reach,
        };
        if in_log {
            let reason = "the log has come this far: verify again";
            return Ok(Verdict::new(RepairOutcome::Gone, reason));
        }
        if divergence.repair == Remedy::QuarantineOnOrder && !self.order.quarantine_beyond_end {
            return Ok(Verdict::not(format!(
                "{}; `quarantine_beyond_end` moves it away",
                divergence.why
            )));
        }
        if self.order.dry_run {
            let reason = "it would be moved into quarantine";
            return Ok(Verdict::new(RepairOutcome::WouldRepair, reason));
        }
        let kept = self.keep(partition, offset, &found).await?;
        let custody = &self.runner.verifier.places.of(place).custody;
        let mut verdict = match custody.remove(partition, offset, hash).await? {
            Mended::Yes => Verdict::new(RepairOutcome::Repaired, "moved into quarantine"),
            Mended::Changed => Verdict::not("it changed while it was looked at: verify again"),
        };
        verdict.kept = kept;
        Ok(verdict)
    }

    /// An offset at which the places differ, and those after it up to where they agree again: only
    /// together can they be judged.
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
                Remedy::None => Verdict::not(listed.why.clone()),
                _ => Verdict::new(
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
        // Rows whose columns contradict their envelopes: the object reads well, and is put there
        // anew all the same.
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
            self.note(listed, Verdict::new(RepairOutcome::Gone, reason));
        }
        for divergence in found {
            let verdict = self.put_right(&divergence).await?;
            self.note(&divergence, verdict);
        }
        self.state.examined = Some((partition, examined));
        Ok(())
    }

    async fn put_right(&mut self, divergence: &Divergence) -> Result<Verdict, JobFailure> {
        let wrong = match divergence.repair {
            Remedy::CopyToS3 | Remedy::ReplaceInS3 => Lead::S3,
            Remedy::CopyToPostgres | Remedy::ReplaceInPostgres => Lead::Postgres,
            Remedy::Quarantine | Remedy::QuarantineOnOrder | Remedy::None => {
                return Ok(Verdict::not(divergence.why.clone()));
            }
        };
        let (partition, offset) = (divergence.partition, divergence.offset);
        let places = &self.runner.verifier.places;
        let right = places.of(other(wrong)).look(partition, offset).await?;
        let Some(object) = right.object() else {
            return Ok(Verdict::not("the right one is not there any more"));
        };
        let hash_now = right.hash().map(|h| h.to_string());
        let hash_then = match wrong {
            Lead::S3 => &divergence.postgres,
            Lead::Postgres => &divergence.s3,
        };
        if hash_then.is_some() && hash_now != *hash_then {
            return Ok(Verdict::not(
                "the right one changed while it was looked at: verify again",
            ));
        }
        let there = self.raw(wrong, partition, offset).await?;
        if self.order.dry_run {
            let reason = format!(
                "{} has the right one: {}",
                other(wrong).as_str(),
                divergence.why
            );
            return Ok(Verdict::new(RepairOutcome::WouldRepair, reason));
        }
        let kept = match &there {
            Some(bytes) if *bytes != object.bytes => {
                self.keep_bytes(partition, offset, bytes).await?
            }
            Some(_) | None => None,
        };
        let hash = there.as_deref().map(ObjectHash::of);
        let custody = &self.runner.verifier.places.of(wrong).custody;
        let mut verdict = match custody.replace(object, hash).await {
            Ok(Mended::Yes) => Verdict::new(RepairOutcome::Repaired, divergence.why.clone()),
            Ok(Mended::Changed) => Verdict::not("it changed while it was looked at: verify again"),
            // The store says what stands in the way; others can still be repaired.
            Err(error)
                if matches!(
                    error.kind,
                    StoreErrorKind::Conflict | StoreErrorKind::Invalid
                ) =>
            {
                Verdict::not(error.to_string())
            }
            Err(error) => return Err(error.into()),
        };
        verdict.kept = kept;
        Ok(verdict)
    }

    async fn raw(
        &self,
        place: Lead,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<Bytes>, JobFailure> {
        let custody = &self.runner.verifier.places.of(place).custody;
        Ok(custody.raw(partition, offset).await?)
    }

    async fn keep(
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

    /// Puts wrong bytes into quarantine; the key has their hash, so twice is once.
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
