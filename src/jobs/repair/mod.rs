//! Repairs what a verification found, where the hash chain tells which side is right. Every
//! difference is checked again immediately before; what is replaced or removed is saved in
//! quarantine first.
//!
//! Copies are repaired automatically. The log that leads is the truth: there only objects are
//! touched that an operator has named by offset and hash ([`crate::proof::order`]).
//!
//! * [`report`]: the result; `run`: one difference after the other; `beyond`: objects beyond the
//!   end of the log

mod beyond;
pub mod report;
mod run;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use self::run::{Checkpoint, Run};
use super::context::JobContext;
use super::failure::{JobFailure, read, write};
use super::pace::Pace;
use super::runner::{JobRefused, Runner};
use super::verify::{Verifier, VerifyOrder, check_partitions, order_of};
use crate::domain::ids::PartitionId;
use crate::domain::refusal::Refusal;
use crate::migration::job::{JobKind, JobState};
use crate::proof::divergence::{Divergence, Remedy, StrayName};
use crate::proof::order::LeaderOrder;
use crate::proof::report::VerifyReport;
use crate::store::ports::job_table::JobTable;
use crate::store::ports::object_store::ObjectStore;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RepairOrder {
    /// The verification whose report is repaired; the last one that is done if not given.
    pub verification: Option<Uuid>,
    /// Run a new verification instead of using a report.
    pub fresh: bool,
    /// Only these partitions; all if empty.
    pub partitions: Vec<PartitionId>,
    /// Report what would be done without doing it.
    pub dry_run: bool,
    /// Also quarantine objects of the copy beyond the end of the log that could follow it: the
    /// operator has made sure that none is the only copy of an acknowledged write.
    pub quarantine_beyond_end: bool,
    /// Objects of the log that leads that may be replaced, filled in or removed; no others there
    /// are touched.
    pub replace_in_leader: Vec<LeaderOrder>,
}

pub struct RepairRunner {
    /// Checks each difference again.
    pub verifier: Verifier,
    /// Where quarantine is kept.
    pub bucket: Arc<dyn ObjectStore>,
    /// Where the reports are.
    pub jobs: Arc<dyn JobTable>,
}

impl RepairRunner {
    async fn list(
        &self,
        order: &RepairOrder,
        job: &JobContext,
    ) -> Result<Vec<Divergence>, JobFailure> {
        let mut list = if order.fresh {
            let verify = VerifyOrder {
                partitions: order.partitions.clone(),
                ..VerifyOrder::default()
            };
            let starts = BTreeMap::new();
            // It starts again after an interruption: the results of the last run count.
            let keep = |_: Value| Value::Null;
            let verified = self
                .verifier
                .verify(job, &verify, &starts, None, &keep)
                .await?;
            verified.divergences
        } else {
            let verification = match order.verification {
                Some(id) => self.jobs.job(id).await?,
                None => {
                    let done = Some(JobState::Done);
                    self.jobs.latest(JobKind::Verify, done).await?
                }
            };
            let report = verification.and_then(|job| job.report);
            let report = report.ok_or_else(|| {
                JobFailure::Failed("there is no report of a verification to repair".into())
            })?;
            read::<VerifyReport>(&report, "report of the verification")?.divergences
        };
        list.retain(|d| {
            let foreign = d.partition.0 >= self.verifier.places.partitions;
            order.partitions.is_empty() || foreign || order.partitions.contains(&d.partition)
        });
        // Stray objects first: they may occupy the place of something that is repaired after them.
        list.sort_by_key(|d| {
            let rank = match &d.stray {
                Some(StrayName::Commit { .. }) => 0,
                Some(_) if d.repair == Remedy::Quarantine => 1,
                _ => 2,
            };
            (rank, d.partition, d.offset)
        });
        Ok(list)
    }
}

#[async_trait]
impl Runner for RepairRunner {
    fn kind(&self) -> JobKind {
        JobKind::Repair
    }

    async fn check(&self, parameters: &Value) -> Result<(), JobRefused> {
        let order: RepairOrder = order_of(parameters)?;
        check_partitions(&order.partitions, self.verifier.places.partitions)?;
        let named: Vec<_> = order
            .replace_in_leader
            .iter()
            .filter_map(LeaderOrder::partition)
            .collect();
        check_partitions(&named, self.verifier.places.partitions)?;
        if order.fresh {
            return Ok(());
        }
        let found = match order.verification {
            Some(id) => self.jobs.job(id).await?,
            None => {
                let done = Some(JobState::Done);
                self.jobs.latest(JobKind::Verify, done).await?
            }
        };
        match found {
            Some(job) if job.kind == JobKind::Verify && job.report.is_some() => Ok(()),
            Some(_) => {
                let message = "the job named is no verification that is done";
                Err(Refusal::conflict("no_verification", message).into())
            }
            None => {
                let message =
                    "there is no verification to repair: verify first, or ask for `fresh`";
                Err(Refusal::conflict("no_verification", message).into())
            }
        }
    }

    async fn run(&self, job: &JobContext) -> Result<Value, JobFailure> {
        let order: RepairOrder = job.parameters()?;
        let checkpoint: Option<Option<Checkpoint>> = job.checkpoint()?;
        let state = match checkpoint.flatten() {
            Some(state) => state,
            None => Checkpoint {
                began: self.verifier.clock.now(),
                list: self.list(&order, job).await?,
                next: 0,
                examined: None,
                counts: [0; 4],
                needs_order: 0,
                results: Vec::new(),
            },
        };
        let mut run = Run {
            runner: self,
            order,
            job,
            pace: Pace::new(None),
            ends: None,
            state,
        };
        job.keep(write(&run.state)?);
        while run.state.next < run.state.list.len() {
            run.step().await?;
        }
        write(&run.report())
    }
}
