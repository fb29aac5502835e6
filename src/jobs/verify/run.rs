//! A verification in progress: the walk over every partition, with checkpoints.

use jiff::Timestamp;
use metrics::counter;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Starts, Verifier, VerifyOrder};
use crate::domain::ids::{Offset, PartitionId};
use crate::jobs::context::JobContext;
use crate::jobs::failure::{JobFailure, read, write};
use crate::jobs::log_copies::{SideBySide, beginnings};
use crate::jobs::pace::Pace;
use crate::log::lead::Lead;
use crate::log::object::ObjectHash;
use crate::metrics::VERIFIED;
use crate::migration::job::JobProgress;
use crate::proof::compare::Comparison;
use crate::proof::divergence::{Divergence, Divergences};
use crate::proof::found::Found;
use crate::proof::report::{PartitionReport, VerifyReport};

/// Objects between two checks of time and commands.
const BREATH: u64 = 64;

/// The results so far.
#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint {
    began: Timestamp,
    seconds: f64,
    full: bool,
    done: Vec<PartitionReport>,
    current: Option<Current>,
    divergences: Divergences,
}

/// The partition that is being compared.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Current {
    report: PartitionReport,
    at: Offset,
    prev: Option<ObjectHash>,
}

pub(super) struct Run<'a> {
    verifier: &'a Verifier,
    job: &'a JobContext,
    partitions: Vec<PartitionId>,
    starts: &'a Starts,
    keep: &'a (dyn Fn(Value) -> Value + Sync),
    state: Checkpoint,
    pace: Pace,
    /// Seconds spent in earlier runs of this job.
    before: f64,
    total: u64,
    /// Objects of partitions that are done, and of what was skipped.
    done: u64,
    waits: u32,
}

impl<'a> Run<'a> {
    pub(super) fn new(
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
                full: starts.is_empty() && order.partitions.is_empty(),
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

    pub(super) fn report(self) -> VerifyReport {
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

    pub(super) async fn walk(&mut self) -> Result<(), JobFailure> {
        let rest: Vec<PartitionId> = self
            .partitions
            .iter()
            .copied()
            .filter(|p| !self.state.done.iter().any(|d| d.partition == *p))
            .collect();
        let first = self.state.done.is_empty() && self.state.current.is_none();
        // The total first, so that progress can be shown. Each partition's ends are read again when
        // its turn comes.
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
            .unwrap_or(Current {
                report: PartitionReport {
                    partition,
                    lead: ends.lead,
                    from,
                    to: from,
                    s3_end: ends.s3.reach,
                    postgres_end: ends.postgres.reach,
                    unmirrored: 0,
                    copy_ahead: 0,
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
        let mut comparison = Comparison::new(partition, ends.lead, current.at, current.prev);
        let places = self.verifier.places.clone();
        let mut reader = SideBySide::new(&places, partition, current.at, common);
        // Counted once decided, so that a checkpoint and its counts agree.
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
        report.copy_ahead = ends.copy_ahead();
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
        // A row that contradicts its envelope may make its whole object unreadable: reported once.
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

/// Numbers of what was compared.
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
