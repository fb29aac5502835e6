//! Verification: both places of the log compared from offset 0, or from where the last verification
//! ended, to their common end; then what lies in either place and should not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use metrics::{counter, gauge};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::context::JobContext;
use super::pace::Pace;
use super::places::{Places, SideBySide, beginnings, other};
use super::runner::{JobFailure, JobRefused, Runner, read, write};
use super::standing::{Standing, Standings};
use crate::domain::ids::{Offset, PartitionId};
use crate::domain::refusal::Refusal;
use crate::domain::time::Clock;
use crate::log::object::ObjectHash;
use crate::metrics::{DIVERGENCES, DIVERGENT_STREAMS, VERIFIED};
use crate::migration::job::{JobKind, JobProgress, JobState};
use crate::migration::lead::Lead;
use crate::proof::compare::Comparison;
use crate::proof::divergence::{Divergence, DivergenceKind, Divergences, Remedy, StrayName};
use crate::proof::found::{Found, drill_down};
use crate::proof::report::{PartitionReport, VerifyReport};
use crate::store::custody::{Stray, Survey};
use crate::store::error::StoreError;
use crate::store::job_table::JobTable;

/// What a verification is asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VerifyOrder {
    /// Go on from where the last verification ended, instead of from offset 0.
    pub incremental: bool,
    /// The partitions; all when there are none.
    pub partitions: Vec<PartitionId>,
    /// At most so many events per second.
    pub rate: Option<f64>,
}

/// Objects between two looks at the clock and at orders.
const BREATH: u64 = 64;

/// How long a copy in flight is waited for before it counts as missing. Copies are made many at a
/// time, so for a moment a later one may be there and an earlier one not.
const COPY_PATIENCE: Duration = Duration::from_secs(5);
const COPY_LOOK: Duration = Duration::from_millis(250);

/// Missing copies waited for in one verification; more are no coincidence.
const MAX_WAITS: u32 = 20;

/// How often the ends are looked at again when the lead moved meanwhile.
const MAX_LOOKS: u32 = 5;

/// Objects beyond the end that are told one by one.
const MAX_EXTRAS: u64 = 1_000;

/// What verification stands on.
#[derive(Clone)]
pub struct Verifier {
    /// The places.
    pub places: Places,
    /// Where the migration stands.
    pub standings: Arc<dyn Standings>,
    /// The time of reports.
    pub clock: Arc<dyn Clock>,
}

/// Both places of one partition, as they were found.
#[derive(Debug, Clone)]
pub struct Ends {
    /// Who leads; `None` while the lead was being moved.
    pub lead: Option<Lead>,
    /// S3.
    pub s3: Survey,
    /// PostgreSQL.
    pub postgres: Survey,
}

impl Ends {
    /// The end of what both reach.
    pub fn common(&self) -> Offset {
        self.s3.reach.min(self.postgres.reach)
    }

    /// What a place holds.
    pub fn of(&self, place: Lead) -> &Survey {
        match place {
            Lead::S3 => &self.s3,
            Lead::Postgres => &self.postgres,
        }
    }

    /// The place that reaches further, if one does.
    pub fn longer(&self) -> Option<Lead> {
        match self.s3.reach.cmp(&self.postgres.reach) {
            std::cmp::Ordering::Greater => Some(Lead::S3),
            std::cmp::Ordering::Less => Some(Lead::Postgres),
            std::cmp::Ordering::Equal => None,
        }
    }
}

/// What a verification has found so far.
#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint {
    began: Timestamp,
    seconds: f64,
    full: bool,
    done: Vec<PartitionReport>,
    current: Option<Current>,
    divergences: Divergences,
}

/// The partition a verification is in.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Current {
    report: PartitionReport,
    at: Offset,
    prev: Option<ObjectHash>,
}

/// Where a partition is begun.
type Starts = BTreeMap<PartitionId, (Offset, Option<ObjectHash>)>;

impl Verifier {
    /// Looks at both ends of a partition. The copy is looked at first: what it holds then, the
    /// leader holds too.
    pub async fn ends(&self, partition: PartitionId, from: Offset) -> Result<Ends, StoreError> {
        let mut before = self.standing(partition).await?;
        for _ in 0..MAX_LOOKS {
            let lead = before.map_or(Lead::S3, |s| s.stage.lead());
            let copy = self
                .places
                .of(other(lead))
                .custody
                .survey(partition, from)
                .await?;
            let leader = self.places.of(lead).custody.survey(partition, from).await?;
            let (s3, postgres) = match lead {
                Lead::S3 => (leader, copy),
                Lead::Postgres => (copy, leader),
            };
            let after = self.standing(partition).await?;
            let moved = |s: &Standing| (s.stage.lead(), s.epoch, s.steady);
            if after.as_ref().map(moved) == before.as_ref().map(moved) {
                let lead = match after {
                    Some(standing) => standing.lead(),
                    // Without a row nothing was ever led but by S3.
                    None => Some(Lead::S3),
                };
                return Ok(Ends { lead, s3, postgres });
            }
            before = after;
        }
        Ok(Ends {
            lead: None,
            s3: self.places.s3.custody.survey(partition, from).await?,
            postgres: self.places.postgres.custody.survey(partition, from).await?,
        })
    }

    async fn standing(&self, partition: PartitionId) -> Result<Option<Standing>, StoreError> {
        Ok(self.standings.standings().await?.get(&partition).copied())
    }

    /// Whether a difference is still there; a copy in flight is waited for.
    async fn confirm(
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
            let (s3, postgres) =
                tokio::try_join!(self.places.s3.look(p, o), self.places.postgres.look(p, o))?;
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

    /// What lies beyond the common end of a partition and should not, and what is missing there.
    async fn beyond(
        &self,
        partition: PartitionId,
        ends: &Ends,
    ) -> Result<Vec<Divergence>, StoreError> {
        let (Some(longer), Some(lead)) = (ends.longer(), ends.lead) else {
            // While the lead is being moved the ends may differ either way.
            return Ok(Vec::new());
        };
        let survey = ends.of(longer);
        let common = ends.common();
        let mut found = Vec::new();
        let gaps: Vec<_> = survey.gaps.iter().filter(|gap| gap.end > common).collect();
        // In the leader, what comes after nothing; in the copy, everything.
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
            let what = place.look(partition, offset).await?;
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
                        let found = self.places.of(lead).look(partition, before).await?;
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
                 leader has lost what it once held (restored from a backup?)"
                    .into(),
            ),
        };
        Ok(extra)
    }

    /// What lies in no partition there is.
    pub async fn foreign(&self) -> Result<Vec<Divergence>, StoreError> {
        let mut found = Vec::new();
        for place in [Lead::S3, Lead::Postgres] {
            let custody = &self.places.of(place).custody;
            let foreign = custody.foreign(self.places.partitions).await?;
            found.extend(
                foreign
                    .into_iter()
                    .map(|stray| describe(PartitionId(u16::MAX), place, stray)),
            );
        }
        Ok(found)
    }

    /// What the surveys of a partition found.
    pub fn strays(&self, partition: PartitionId, ends: &Ends) -> Vec<Divergence> {
        let of = |place: Lead| {
            let strays = ends.of(place).strays.iter().cloned();
            strays.map(move |stray| describe(partition, place, stray))
        };
        of(Lead::S3).chain(of(Lead::Postgres)).collect()
    }

    /// Every difference of a partition from `from` on that is there now, without a job around it:
    /// up to the first offset after `until` at which both places agree again.
    pub async fn examine(
        &self,
        job: &JobContext,
        partition: PartitionId,
        from: Offset,
        until: Offset,
        ends: &Ends,
    ) -> Result<(Vec<Divergence>, Offset), JobFailure> {
        let lead = ends.lead.unwrap_or(Lead::S3);
        let common = ends.common();
        let prev = self.hash_before(partition, from).await?;
        let mut comparison = Comparison::new(partition, lead, from, prev);
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

    /// Hash of the object before an offset, where both places agree on it.
    async fn hash_before(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<ObjectHash>, StoreError> {
        let Some(before) = offset.checked_sub(1) else {
            return Ok(Some(ObjectHash::NONE));
        };
        let (s3, postgres) = tokio::try_join!(
            self.places.s3.look(partition, before),
            self.places.postgres.look(partition, before)
        )?;
        Ok(if s3.agrees_with(&postgres) {
            s3.hash()
        } else {
            None
        })
    }

    /// What the longer place holds after the common end: it may name the last common object.
    async fn after(&self, partition: PartitionId, ends: &Ends) -> Result<Found, StoreError> {
        match ends.longer() {
            Some(longer) => {
                let place = self.places.of(longer);
                place.look(partition, ends.common()).await
            }
            None => Ok(Found::Absent),
        }
    }

    /// The whole verification, within a job.
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

/// A verification under way.
struct Run<'a> {
    verifier: &'a Verifier,
    job: &'a JobContext,
    partitions: Vec<PartitionId>,
    starts: &'a Starts,
    keep: &'a (dyn Fn(Value) -> Value + Sync),
    state: Checkpoint,
    pace: Pace,
    /// Seconds spent before this run.
    before: f64,
    total: u64,
    /// Objects of partitions that are done, and of what was skipped.
    done: u64,
    waits: u32,
}

impl<'a> Run<'a> {
    fn new(
        verifier: &'a Verifier,
        job: &'a JobContext,
        order: &VerifyOrder,
        starts: &'a Starts,
        checkpoint: Option<Value>,
        keep: &'a (dyn Fn(Value) -> Value + Sync),
    ) -> Result<Self, JobFailure> {
        let state = match checkpoint {
            Some(value) => read(&value, "checkpoint")?,
            None => Checkpoint {
                began: verifier.clock.now(),
                seconds: 0.0,
                full: starts.is_empty(),
                done: Vec::new(),
                current: None,
                divergences: Divergences::default(),
            },
        };
        let partitions = match order.partitions.is_empty() {
            true => verifier.places.partition_ids().collect(),
            false => order.partitions.clone(),
        };
        Ok(Self {
            verifier,
            job,
            partitions,
            starts,
            keep,
            before: state.seconds,
            state,
            pace: Pace::new(order.rate),
            total: 0,
            done: 0,
            waits: 0,
        })
    }

    fn seconds(&self) -> f64 {
        self.before + self.pace.elapsed().as_secs_f64()
    }

    fn report(self) -> VerifyReport {
        let seconds = self.seconds();
        let ended = self.verifier.clock.now();
        let Checkpoint {
            began,
            full,
            done,
            divergences,
            ..
        } = self.state;
        VerifyReport::new(full, (began, ended), seconds, done, divergences)
    }

    fn save(&mut self, within: u64) -> Result<(), JobFailure> {
        let done = self.done + within;
        let events = self.state.done.iter().map(|p| p.events).sum::<u64>()
            + self.state.current.as_ref().map_or(0, |c| c.report.events);
        let progress = JobProgress {
            phase: "comparing".into(),
            unit: "objects".into(),
            done,
            total: self.total,
            events,
            rate: self.pace.rate(),
            eta_seconds: self.pace.eta(self.total.saturating_sub(done)),
            waiting: None,
        };
        let seconds = self.seconds();
        let (state, keep) = (&mut self.state, self.keep);
        state.seconds = seconds;
        self.job.save(progress, || {
            let stored = Checkpoint {
                done: state.done.clone(),
                current: state.current.clone(),
                divergences: state.divergences.to_store(),
                ..*state
            };
            Ok(keep(write(&stored)?))
        })
    }

    async fn walk(&mut self) -> Result<(), JobFailure> {
        let rest: Vec<PartitionId> = self
            .partitions
            .iter()
            .copied()
            .filter(|p| !self.state.done.iter().any(|d| d.partition == *p))
            .collect();
        let first = self.state.done.is_empty() && self.state.current.is_none();
        // The total first, so that the progress means something. Each partition's ends are looked
        // at again when its turn comes.
        for partition in &rest {
            let (from, _) = self.start_of(*partition);
            let ends = self.verifier.ends(*partition, from).await?;
            self.total += ends.common().saturating_sub(from);
            self.job.interrupted()?;
        }
        self.done = self.state.done.iter().map(|p| p.objects).sum();
        self.total += self.done;
        if first {
            for foreign in self.verifier.foreign().await? {
                self.state.divergences.add(foreign);
            }
        }
        for partition in rest {
            self.partition(partition).await?;
        }
        Ok(())
    }

    fn start_of(&self, partition: PartitionId) -> (Offset, Option<ObjectHash>) {
        let none = (0, None);
        self.starts.get(&partition).copied().unwrap_or(none)
    }

    async fn partition(&mut self, partition: PartitionId) -> Result<(), JobFailure> {
        let (from, prev) = self.start_of(partition);
        let ends = self.verifier.ends(partition, from).await?;
        let resumed = self.state.current.take();
        let mut current = resumed
            .filter(|current| current.report.partition == partition)
            .unwrap_or_else(|| Current {
                report: PartitionReport {
                    partition,
                    lead: ends.lead,
                    from,
                    to: from,
                    s3_end: ends.s3.reach,
                    postgres_end: ends.postgres.reach,
                    unmirrored: 0,
                    objects: 0,
                    events: 0,
                    streams: 0,
                    bytes: 0,
                    divergences: 0,
                    digest: None,
                },
                at: from,
                prev,
            });
        let common = ends.common().max(current.at);
        let lead = ends.lead.unwrap_or(Lead::S3);
        let mut comparison = Comparison::new(partition, lead, current.at, current.prev);
        let places = self.verifier.places.clone();
        let mut reader = SideBySide::new(&places, partition, current.at, common);
        // Counted once decided, so that a checkpoint and its counts belong together.
        let mut undecided = Counts::default();
        let mut breath = Counts::default();
        while let Some((s3, postgres)) = reader.next().await? {
            let counts = Counts::of(&s3, &postgres);
            undecided.add(&counts);
            breath.add(&counts);
            for found in comparison.take(&s3, &postgres) {
                self.add(&mut current.report, found, ends.lead).await?;
            }
            if !comparison.is_pending() {
                undecided.settle(&mut current.report);
                (current.at, current.prev) = comparison.settled();
            }
            if breath.objects >= BREATH || breath.bytes > 8 << 20 {
                let pause = self.pace.advance(breath.events, breath.objects);
                counter!(VERIFIED).increment(breath.events);
                breath = Counts::default();
                let within = comparison.next_offset() - current.report.from;
                self.state.current = Some(current.clone());
                self.save(within)?;
                self.job.wait(pause).await;
            }
        }
        let pause = self.pace.advance(breath.events, breath.objects);
        counter!(VERIFIED).increment(breath.events);
        let after = self.verifier.after(partition, &ends).await?;
        for found in comparison.end(&after) {
            self.add(&mut current.report, found, ends.lead).await?;
        }
        undecided.settle(&mut current.report);
        let (_, prev) = comparison.settled();
        let mut others = self.verifier.strays(partition, &ends);
        others.extend(self.verifier.beyond(partition, &ends).await?);
        let mut report = current.report;
        for found in others {
            self.count(&mut report, found);
        }
        report.lead = ends.lead;
        report.to = common;
        (report.s3_end, report.postgres_end) = (ends.s3.reach, ends.postgres.reach);
        let ahead = ends
            .longer()
            .filter(|longer| ends.lead.is_none_or(|lead| lead == *longer));
        report.unmirrored = ahead.map_or(0, |longer| ends.of(longer).reach - ends.common());
        report.digest = prev.filter(|_| common > 0).map(|hash| hash.to_string());
        self.done += report.objects;
        self.state.done.push(report);
        self.save(0)?;
        self.job.wait(pause).await;
        Ok(())
    }

    async fn add(
        &mut self,
        report: &mut PartitionReport,
        found: Divergence,
        lead: Option<Lead>,
    ) -> Result<(), JobFailure> {
        let there = self
            .verifier
            .confirm(self.job, &found, lead, &mut self.waits)
            .await?;
        if there {
            self.count(report, found);
        }
        Ok(())
    }

    fn count(&mut self, report: &mut PartitionReport, found: Divergence) {
        // A row that contradicts its envelope may make its whole object unreadable: told once.
        let told = found.stray.is_some()
            && self.state.divergences.listed.iter().rev().any(|d| {
                d.partition == found.partition
                    && d.offset == found.offset
                    && d.kind == found.kind
                    && d.stray
                        .as_ref()
                        .is_none_or(|s| Some(s) == found.stray.as_ref())
            });
        if !told {
            report.divergences += 1;
            self.state.divergences.add(found);
        }
    }
}

/// What was compared.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    objects: u64,
    events: u64,
    streams: u64,
    bytes: u64,
}

impl Counts {
    fn of(s3: &Found, postgres: &Found) -> Self {
        let Some(object) = s3.object().or(postgres.object()) else {
            return Self {
                objects: 1,
                ..Self::default()
            };
        };
        Self {
            objects: 1,
            events: object.event_count() as u64,
            streams: beginnings(object),
            bytes: object.bytes.len() as u64,
        }
    }

    fn add(&mut self, other: &Counts) {
        self.objects += other.objects;
        self.events += other.events;
        self.streams += other.streams;
        self.bytes += other.bytes;
    }

    fn settle(&mut self, report: &mut PartitionReport) {
        report.objects += self.objects;
        report.events += self.events;
        report.streams += self.streams;
        report.bytes += self.bytes;
        *self = Self::default();
    }
}

/// The job.
pub struct VerifyRunner {
    /// What it stands on.
    pub verifier: Verifier,
    /// Knows where the last verification ended.
    pub jobs: Arc<dyn JobTable>,
}

impl VerifyRunner {
    async fn starts(&self, order: &VerifyOrder) -> Result<Starts, JobFailure> {
        let mut starts = Starts::new();
        if !order.incremental {
            return Ok(starts);
        }
        let last = self
            .jobs
            .latest(JobKind::Verify, Some(JobState::Done))
            .await?;
        let Some(report) = last.and_then(|job| job.report) else {
            return Ok(starts);
        };
        let report: VerifyReport = read(&report, "report of the last verification")?;
        for partition in self.verifier.places.partition_ids() {
            if let Some((to, digest)) = report.verified(partition) {
                let mut hash = [0; 32];
                if hex::decode_to_slice(&digest, &mut hash).is_ok() {
                    starts.insert(partition, (to, Some(ObjectHash(hash))));
                }
            }
        }
        Ok(starts)
    }
}

/// Refuses partitions that do not exist.
pub fn check_partitions(given: &[PartitionId], partitions: u16) -> Result<(), Refusal> {
    match given.iter().find(|p| p.0 >= partitions) {
        Some(p) => Err(Refusal::invalid(
            "unknown_partition",
            format!("there is no partition {p}: there are {partitions}"),
        )),
        None => Ok(()),
    }
}

/// Reads an order, refusing what is none.
pub fn order_of<T: serde::de::DeserializeOwned>(parameters: &Value) -> Result<T, Refusal> {
    T::deserialize(parameters).map_err(|e| Refusal::invalid("invalid_order", e.to_string()))
}

#[async_trait]
impl Runner for VerifyRunner {
    fn kind(&self) -> JobKind {
        JobKind::Verify
    }

    async fn check(&self, parameters: &Value) -> Result<(), JobRefused> {
        let order: VerifyOrder = order_of(parameters)?;
        check_partitions(&order.partitions, self.verifier.places.partitions)?;
        Ok(())
    }

    async fn run(&self, job: &JobContext) -> Result<Value, JobFailure> {
        let order: VerifyOrder = job.parameters()?;
        let checkpoint: Option<Stored> = job.checkpoint()?;
        let (starts, checkpoint) = match checkpoint {
            Some(stored) => (stored.starts.into_iter().collect(), Some(stored.verify)),
            None => (self.starts(&order).await?, None),
        };
        let stored: Vec<_> = starts.iter().map(|(p, s)| (*p, *s)).collect();
        let keep = |verify: Value| serde_json::json!({ "starts": stored, "verify": verify });
        let report = self
            .verifier
            .verify(job, &order, &starts, checkpoint, &keep)
            .await?;
        write(&report)
    }
}

#[derive(Deserialize)]
struct Stored {
    starts: Vec<(PartitionId, (Offset, Option<ObjectHash>))>,
    verify: Value,
}
