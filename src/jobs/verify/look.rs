//! Inspects single offsets and ends of both stores, and describes what it finds.

use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use serde_json::Value;

use super::run::Run;
use super::{Starts, VerifyOrder};
use crate::domain::ids::{Offset, PartitionId};
use crate::domain::time::Clock;
use crate::jobs::context::JobContext;
use crate::jobs::failure::JobFailure;
use crate::jobs::log_copies::{LogCopies, SideBySide, other};
use crate::jobs::recorded_states::{RecordedState, RecordedStates};
use crate::log::lead::Lead;
use crate::log::object::ObjectHash;
use crate::metrics::{DIVERGENCES, DIVERGENT_STREAMS};
use crate::proof::compare::Comparison;
use crate::proof::divergence::{Divergence, DivergenceKind, Remedy, StrayName};
use crate::proof::found::{Found, drill_down};
use crate::proof::report::VerifyReport;
use crate::store::error::StoreError;
use crate::store::ports::log_repair::{Stray, Survey};

/// How long a copy in flight is awaited before it counts as missing. Many are copied concurrently,
/// so that for a moment a later one may be there and an earlier one not.
const COPY_PATIENCE: Duration = Duration::from_secs(5);
const COPY_LOOK: Duration = Duration::from_millis(250);

/// Missing copies awaited in one verification; more of them are no coincidence.
const MAX_WAITS: u32 = 20;

/// How often the ends are read again if the lead moved meanwhile.
const MAX_LOOKS: u32 = 5;

/// Objects beyond the end that are listed one by one.
const MAX_EXTRAS: u64 = 1_000;

/// What a verification needs.
#[derive(Clone)]
pub struct Verifier {
    pub places: LogCopies,
    pub states: Arc<dyn RecordedStates>,
    /// Gives the times in reports.
    pub clock: Arc<dyn Clock>,
}

/// The ends of one partition in both stores.
#[derive(Debug, Clone)]
pub struct Ends {
    /// The leader; `None` while the lead is being moved.
    pub lead: Option<Lead>,
    pub s3: Survey,
    pub postgres: Survey,
}

impl Ends {
    /// The offset up to which both stores reach.
    pub fn common(&self) -> Offset {
        self.s3.reach.min(self.postgres.reach)
    }

    /// What a store holds.
    pub fn of(&self, place: Lead) -> &Survey {
        match place {
            Lead::S3 => &self.s3,
            Lead::Postgres => &self.postgres,
        }
    }

    /// Commits that the copy holds beyond the end of its leader; there should never be any.
    pub fn copy_ahead(&self) -> u64 {
        let Some(lead) = self.lead else { return 0 };
        let leader = self.of(lead).reach;
        self.of(other(lead)).reach.saturating_sub(leader)
    }

    /// The store that reaches further, if one does.
    pub fn longer(&self) -> Option<Lead> {
        match self.s3.reach.cmp(&self.postgres.reach) {
            std::cmp::Ordering::Greater => Some(Lead::S3),
            std::cmp::Ordering::Less => Some(Lead::Postgres),
            std::cmp::Ordering::Equal => None,
        }
    }
}

impl Verifier {
    /// Reads both ends of a partition. The copy first: what it holds then, the leader holds too.
    pub async fn ends(&self, partition: PartitionId, from: Offset) -> Result<Ends, StoreError> {
        let mut before = self.standing(partition).await?;
        for _ in 0..MAX_LOOKS {
            let lead = before.map_or(Lead::S3, |s| s.stage.lead());
            let copy = self
                .places
                .of(other(lead))
                .log_repair
                .survey(partition, from)
                .await?;
            let leader = self
                .places
                .of(lead)
                .log_repair
                .survey(partition, from)
                .await?;
            let (s3, postgres) = match lead {
                Lead::S3 => (leader, copy),
                Lead::Postgres => (copy, leader),
            };
            let after = self.standing(partition).await?;
            let moved = |s: &RecordedState| (s.stage.lead(), s.epoch, s.steady);
            if after.as_ref().map(moved) == before.as_ref().map(moved) {
                let lead = match after {
                    Some(state) => state.lead(),
                    // A partition without a row was never led by any store but S3.
                    None => Some(Lead::S3),
                };
                return Ok(Ends { lead, s3, postgres });
            }
            before = after;
        }
        Ok(Ends {
            lead: None,
            s3: self.places.s3.log_repair.survey(partition, from).await?,
            postgres: self
                .places
                .postgres
                .log_repair
                .survey(partition, from)
                .await?,
        })
    }

    /// Who leads a partition now; `None` while the lead is being moved.
    pub async fn lead(&self, partition: PartitionId) -> Result<Option<Lead>, StoreError> {
        // A partition without a row was never led by any store but S3.
        let state = self.standing(partition).await?;
        Ok(state.map_or(Some(Lead::S3), |s| s.lead()))
    }

    async fn standing(&self, partition: PartitionId) -> Result<Option<RecordedState>, StoreError> {
        Ok(self.states.states().await?.get(&partition).copied())
    }

    /// Whether a difference still exists; a copy in flight is awaited.
    pub(super) async fn confirm(
        &self,
        job: &JobContext,
        divergence: &Divergence,
        lead: Option<Lead>,
        waits: &mut u32,
    ) -> Result<bool, JobFailure> {
        if divergence.kind == DivergenceKind::ChainBroken {
            return Ok(true);
        }
        let copy = lead.map(other);
        let may_come = copy.is_none_or(|copy| divergence.kind == DivergenceKind::missing_in(copy));
        let deadline = tokio::time::Instant::now() + COPY_PATIENCE;
        let mut waited = false;
        loop {
            let (p, o) = (divergence.partition, divergence.offset);
            let (s3, postgres) = tokio::try_join!(
                self.places.s3.inspect(p, o),
                self.places.postgres.inspect(p, o)
            )?;
            if s3.agrees_with(&postgres) {
                return Ok(false);
            }
            let late = tokio::time::Instant::now() >= deadline;
            if !may_come || late || *waits >= MAX_WAITS {
                return Ok(true);
            }
            if !waited {
                *waits += 1;
                waited = true;
            }
            job.wait(COPY_LOOK).await;
            job.interrupted()?;
        }
    }

    /// Objects beyond the common end of a partition that should not be there, and those missing
    /// there.
    pub(super) async fn beyond(
        &self,
        partition: PartitionId,
        ends: &Ends,
    ) -> Result<Vec<Divergence>, StoreError> {
        let (Some(longer), Some(lead)) = (ends.longer(), ends.lead) else {
            // While the lead is being moved either store may be ahead.
            return Ok(Vec::new());
        };
        let survey = ends.of(longer);
        let common = ends.common();
        let mut found = Vec::new();
        let gaps: Vec<_> = survey.gaps.iter().filter(|gap| gap.end > common).collect();
        // In the leader, objects after a gap; in the copy, everything.
        let first_extra = match longer == lead {
            true => gaps.first().map(|gap| gap.end),
            false => Some(common),
        };
        if longer == lead {
            for gap in &gaps {
                let kind = DivergenceKind::missing_in(longer);
                let mut missing = Divergence::new(partition, gap.start.max(common), kind);
                missing.why = format!(
                    "neither place holds anything from here up to offset {}, after which {} goes on",
                    gap.end,
                    longer.as_str()
                );
                found.push(missing);
            }
        }
        let Some(first) = first_extra else {
            return Ok(found);
        };
        let place = self.places.of(longer);
        for offset in first..survey.reach.min(first.saturating_add(MAX_EXTRAS)) {
            let what = place.inspect(partition, offset).await?;
            if matches!(what, Found::Absent) {
                continue;
            }
            found.push(self.extra(partition, offset, longer, lead, &what).await?);
        }
        Ok(found)
    }

    async fn extra(
        &self,
        partition: PartitionId,
        offset: Offset,
        place: Lead,
        lead: Lead,
        what: &Found,
    ) -> Result<Divergence, StoreError> {
        let mut extra = Divergence::new(partition, offset, DivergenceKind::extra_in(place));
        let hash = what.hash().map(|hash| hash.to_string());
        match place {
            Lead::S3 => extra.s3 = hash,
            Lead::Postgres => extra.postgres = hash,
        }
        let drilled = drill_down(what, &Found::Absent);
        extra.index = drilled.index;
        extra.events = drilled.events;
        extra.streams = drilled.streams;
        if let Some(first) = drilled.first {
            extra.stream = Some(first.stream.to_string());
            extra.version = Some(first.version);
        }
        // What cannot follow the log as it is was never part of it.
        let cannot_follow = match what.object() {
            None => true,
            Some(object) if place != lead => {
                let before = match offset.checked_sub(1) {
                    None => Some(ObjectHash::NONE),
                    Some(before) => {
                        let found = self.places.of(lead).inspect(partition, before).await?;
                        found.object().map(|object| object.hash())
                    }
                };
                before.is_some_and(|hash| hash != object.header.prev)
            }
            Some(_) => false,
        };
        (extra.repair, extra.why) = match cannot_follow {
            true => (
                Remedy::Quarantine,
                "it lies beyond the end of the log and cannot follow it".into(),
            ),
            false => (
                Remedy::QuarantineOnOrder,
                "it lies beyond the end of the log: either it was put there by mistake, or the \
                 leader has lost what it once held (restored from a backup?). If it has, restore a \
                 younger backup, or bring this back with `replace_in_leader`; if it is certain that \
                 nobody was told of it, `quarantine_beyond_end` moves it away"
                    .into(),
            ),
        };
        Ok(extra)
    }

    /// Objects in partitions that the store does not have.
    pub async fn foreign(&self) -> Result<Vec<Divergence>, StoreError> {
        let mut found = Vec::new();
        for place in [Lead::S3, Lead::Postgres] {
            let log_repair = &self.places.of(place).log_repair;
            let foreign = log_repair.foreign(self.places.partitions).await?;
            found.extend(
                foreign
                    .into_iter()
                    .map(|stray| describe(PartitionId(u16::MAX), place, stray)),
            );
        }
        Ok(found)
    }

    /// The stray objects that the surveys of a partition found.
    pub fn strays(&self, partition: PartitionId, ends: &Ends) -> Vec<Divergence> {
        let of = |place: Lead| {
            let strays = ends.of(place).strays.iter().cloned();
            strays.map(move |stray| describe(partition, place, stray))
        };
        of(Lead::S3).chain(of(Lead::Postgres)).collect()
    }

    /// Every current difference of a partition from `from` on, without a job: up to the first
    /// offset after `until` at which both stores agree again.
    pub async fn examine(
        &self,
        job: &JobContext,
        partition: PartitionId,
        from: Offset,
        until: Offset,
        ends: &Ends,
    ) -> Result<(Vec<Divergence>, Offset), JobFailure> {
        let common = ends.common();
        let prev = self.hash_before(partition, from).await?;
        let mut comparison = Comparison::new(partition, ends.lead, from, prev);
        let mut reader = SideBySide::new(&self.places, partition, from, common);
        let mut found = Vec::new();
        while let Some((s3, postgres)) = reader.next().await? {
            found.extend(comparison.take(&s3, &postgres));
            if !comparison.is_pending() && comparison.next_offset() > until {
                return Ok((found, comparison.next_offset()));
            }
            job.interrupted()?;
        }
        found.extend(comparison.end(&self.after(partition, ends).await?));
        Ok((found, comparison.next_offset()))
    }

    /// Hash of the object before an offset, if both stores agree on it.
    async fn hash_before(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<ObjectHash>, StoreError> {
        let Some(before) = offset.checked_sub(1) else {
            return Ok(Some(ObjectHash::NONE));
        };
        let (s3, postgres) = tokio::try_join!(
            self.places.s3.inspect(partition, before),
            self.places.postgres.inspect(partition, before)
        )?;
        Ok(if s3.agrees_with(&postgres) {
            s3.hash()
        } else {
            None
        })
    }

    /// The leader's object after the common end, which contains the hash of the last common object.
    /// What a copy holds beyond its leader's end was never, or is no longer, part of the log, and
    /// says nothing about what the leader should hold.
    pub(super) async fn after(
        &self,
        partition: PartitionId,
        ends: &Ends,
    ) -> Result<Found, StoreError> {
        match ends.longer() {
            Some(longer) if ends.lead == Some(longer) => {
                let place = self.places.of(longer);
                place.inspect(partition, ends.common()).await
            }
            _ => Ok(Found::Absent),
        }
    }

    /// The whole verification, as a job.
    pub async fn verify(
        &self,
        job: &JobContext,
        order: &VerifyOrder,
        starts: &Starts,
        checkpoint: Option<Value>,
        keep: &(dyn Fn(Value) -> Value + Sync),
    ) -> Result<VerifyReport, JobFailure> {
        let mut run = Run::new(self, job, order, starts, checkpoint, keep)?;
        run.walk().await?;
        let report = run.report();
        gauge!(DIVERGENCES).set(report.divergences_total as f64);
        gauge!(DIVERGENT_STREAMS).set(report.divergent_streams as f64);
        Ok(report)
    }
}

fn describe(partition: PartitionId, place: Lead, stray: Stray) -> Divergence {
    let kind = match stray.within_object {
        true if place == Lead::Postgres => DivergenceKind::DamagedInPostgres,
        true => DivergenceKind::DamagedInS3,
        false => DivergenceKind::extra_in(place),
    };
    let mut divergence = Divergence::new(partition, stray.offset, kind);
    if let StrayName::Row { index, .. } = &stray.name {
        divergence.index = u32::try_from(*index).ok();
    }
    if let Some((stream, version)) = stray.event {
        divergence.stream = Some(stream);
        divergence.version = Some(version);
        divergence.events = 1;
    }
    match place {
        Lead::S3 => divergence.s3_event = stray.digest,
        Lead::Postgres => divergence.postgres_event = stray.digest,
    }
    divergence.why = stray.why;
    divergence.right = stray.within_object.then(|| other(place));
    divergence.repair = match (stray.within_object, place) {
        (false, _) => Remedy::Quarantine,
        (true, Lead::Postgres) => Remedy::ReplaceInPostgres,
        (true, Lead::S3) => Remedy::ReplaceInS3,
    };
    divergence.stray = Some(stray.name);
    divergence
}
