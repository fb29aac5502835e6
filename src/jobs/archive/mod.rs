//! Archive: PostgreSQL's retired events as Parquet files in the bucket, read back and compared, and
//! only then their tables emptied.
//!
//! ```text
//! gates ─▶ verify both places ─▶ export ─▶ read back, compare with the tables ─▶ manifest ─▶ empty
//! ```
//!
//! * [`parquet`]: rows ⇄ a file; [`manifest`]: the contents of an export; [`export`]: its parts

pub mod export;
pub mod manifest;
pub mod parquet;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::export::Exporter;
use self::manifest::{Manifest, Part, PartitionEnd};
use super::context::JobContext;
use super::failure::{JobFailure, write};
use super::recorded_states::RecordedState;
use super::runner::{JobRefused, Runner};
use super::verify::{Verifier, VerifyOrder, order_of};
use crate::domain::ids::{Offset, PartitionId};
use crate::domain::refusal::Refusal;
use crate::log::keys;
use crate::migration::job::JobKind;
use crate::migration::stage::StageKind;
use crate::proof::report::VerifyReport;
use crate::store::error::StoreError;
use crate::store::ports::log_repair::RetiredTables;
use crate::store::ports::object_store::ObjectStore;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArchiveOrder {
    /// Check whether it may be done, and create the files to measure them; write and empty nothing.
    pub dry_run: bool,
    /// Export, but leave the tables as they are.
    pub keep_rows: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArchiveReport {
    /// Whether nothing was written or emptied.
    pub dry_run: bool,
    pub began: Timestamp,
    pub ended: Timestamp,
    /// Key of the manifest.
    pub manifest: Option<String>,
    /// Rows exported, or that a real run would export.
    pub rows: u64,
    /// Bytes of the files.
    pub bytes: u64,
    pub parts: u64,
    /// Commit objects that hold those rows.
    #[serde(default)]
    pub commits: u64,
    pub emptied: bool,
    /// The ends of the partitions in PostgreSQL.
    pub partitions: Vec<PartitionEnd>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint {
    began: Timestamp,
    verify: Option<Value>,
    ends: Option<Vec<PartitionEnd>>,
    parts: Vec<Part>,
    compared: bool,
}

pub struct ArchiveRunner {
    /// Compares the stores and knows the partitions' states.
    pub verifier: Verifier,
    /// Where exports are stored.
    pub bucket: Arc<dyn ObjectStore>,
    /// The tables to be emptied.
    pub tables: Arc<dyn RetiredTables>,
    /// How long every partition must have been in `s3_only`.
    pub after: Duration,
}

impl ArchiveRunner {
    /// Why the tables may not be archived yet, if so.
    async fn gate(&self) -> Result<Result<(), String>, StoreError> {
        let states = self.verifier.states.states().await?;
        Ok(retired(
            &states,
            self.verifier.places.partitions,
            self.after,
        ))
    }

    async fn proven(
        &self,
        job: &JobContext,
        state: &Checkpoint,
    ) -> Result<Vec<PartitionEnd>, JobFailure> {
        let starts = BTreeMap::new();
        let began = state.began;
        let keep = |verify: Value| {
            let stored = Checkpoint {
                began,
                verify: Some(verify),
                ends: None,
                parts: Vec::new(),
                compared: false,
            };
            // Cannot fail: plain data.
            serde_json::to_value(&stored).unwrap_or_default()
        };
        let order = VerifyOrder::default();
        let verified = self
            .verifier
            .verify(job, &order, &starts, state.verify.clone(), &keep)
            .await?;
        refuse_unproven(&verified).map_err(JobFailure::Failed)?;
        Ok(verified
            .partitions
            .into_iter()
            .map(|p| PartitionEnd {
                partition: p.partition,
                end: p.postgres_end,
                digest: p.digest,
            })
            .collect())
    }
}

/// Why PostgreSQL's tables may not be archived yet, if so.
fn retired(
    states: &BTreeMap<PartitionId, RecordedState>,
    partitions: u16,
    after: Duration,
) -> Result<(), String> {
    for partition in (0..partitions).map(PartitionId) {
        let Some(state) = states.get(&partition) else {
            return Err(format!(
                "it is not recorded where partition {partition} stands"
            ));
        };
        if state.stage != StageKind::S3Only || !state.steady {
            return Err(format!(
                "partition {partition} is in stage {}, not at rest in s3_only",
                state.stage
            ));
        }
        let held = state.held.unwrap_or_default();
        if held < after {
            return Err(format!(
                "partition {partition} has been s3_only for {} s, {} s are asked for",
                held.as_secs(),
                after.as_secs()
            ));
        }
    }
    Ok(())
}

fn refuse_unproven(report: &VerifyReport) -> Result<(), String> {
    if !report.clean {
        let mut why = format!(
            "{} divergences between PostgreSQL and S3: repair them first",
            report.divergences_total
        );
        for ahead in &report.copies_ahead {
            why.push_str("; ");
            why.push_str(ahead);
        }
        return Err(why);
    }
    match report.partitions.iter().find(|p| p.postgres_end > p.to) {
        Some(p) => Err(format!(
            "S3 does not hold all of partition {} that PostgreSQL holds",
            p.partition
        )),
        None => Ok(()),
    }
}

#[async_trait]
impl Runner for ArchiveRunner {
    fn kind(&self) -> JobKind {
        JobKind::Archive
    }

    async fn check(&self, parameters: &Value) -> Result<(), JobRefused> {
        let _: ArchiveOrder = order_of(parameters)?;
        match self.gate().await? {
            Ok(()) => Ok(()),
            Err(why) => Err(Refusal::conflict("not_retired", why).into()),
        }
    }

    async fn run(&self, job: &JobContext) -> Result<Value, JobFailure> {
        let order: ArchiveOrder = job.parameters()?;
        let mut state = job.checkpoint()?.unwrap_or_else(|| Checkpoint {
            began: self.verifier.clock.now(),
            verify: None,
            ends: None,
            parts: Vec::new(),
            compared: false,
        });
        self.gate().await?.map_err(JobFailure::Failed)?;
        let ends = match state.ends.clone() {
            Some(ends) => ends,
            None => self.proven(job, &state).await?,
        };
        state.ends = Some(ends.clone());
        state.verify = None;
        job.keep(write(&state)?);
        let exporter = Exporter {
            table: &*self.verifier.places.postgres.log,
            bucket: (!order.dry_run).then_some(&*self.bucket),
            job,
            export: job.id(),
        };
        let keep = |parts: &[Part]| {
            write(&Checkpoint {
                began: state.began,
                verify: None,
                ends: state.ends.clone(),
                parts: parts.to_vec(),
                compared: false,
            })
        };
        let parts = match state.compared {
            true => state.parts.clone(),
            false => {
                let parts = exporter.export(&ends, state.parts.clone(), &keep).await?;
                exporter.compare(&ends, &parts).await?;
                parts
            }
        };
        state.parts = parts;
        if order.dry_run {
            return write(&self.report(&order, &state, None, false));
        }
        state.compared = true;
        job.keep(write(&state)?);
        let manifest = Manifest::new(job.id(), state.began, ends.clone(), state.parts.clone());
        let key = keys::archive_manifest(job.id());
        let body =
            serde_json::to_vec_pretty(&manifest).map_err(|e| JobFailure::Failed(e.to_string()))?;
        self.bucket.put(&key, body.into()).await?;
        let mut emptied = false;
        if !order.keep_rows {
            self.gate().await?.map_err(JobFailure::Failed)?;
            let ends: Vec<(PartitionId, Offset)> =
                ends.iter().map(|e| (e.partition, e.end)).collect();
            emptied = self.tables.empty(&ends).await?;
            // After an interruption they may be empty already.
            if !emptied && !self.are_empty().await? {
                return Err(JobFailure::Failed(
                    "PostgreSQL's tables changed while they were exported: nothing was emptied"
                        .into(),
                ));
            }
            emptied = true;
        }
        write(&self.report(&order, &state, Some(key), emptied))
    }
}

impl ArchiveRunner {
    async fn are_empty(&self) -> Result<bool, StoreError> {
        for partition in self.verifier.places.partition_ids() {
            let end = self.verifier.places.postgres.log.end(partition, 0).await?;
            if end > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn report(
        &self,
        order: &ArchiveOrder,
        state: &Checkpoint,
        manifest: Option<String>,
        emptied: bool,
    ) -> ArchiveReport {
        ArchiveReport {
            dry_run: order.dry_run,
            began: state.began,
            ended: self.verifier.clock.now(),
            manifest,
            rows: state.parts.iter().map(|p| p.rows).sum(),
            bytes: state.parts.iter().map(|p| p.bytes).sum(),
            parts: state.parts.len() as u64,
            commits: state.parts.iter().map(|p| p.to - p.from).sum(),
            emptied,
            partitions: state.ends.clone().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Epoch;

    const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

    #[test]
    fn rows_retire_only_when_every_partition_was_s3_only_for_long_enough() {
        let at = |days: Option<u64>, stage, steady| RecordedState {
            stage,
            held: days.map(|days| Duration::from_secs(days * 24 * 3600)),
            epoch: Epoch(3),
            steady,
        };
        let ask = |states: &[RecordedState]| {
            let numbered = (0..).map(PartitionId).zip(states.iter().copied());
            retired(&numbered.collect(), 2, WEEK)
        };
        let old = at(Some(8), StageKind::S3Only, true);
        assert_eq!(ask(&[old, old]), Ok(()));
        for young in [
            at(Some(6), StageKind::S3Only, true),
            at(Some(8), StageKind::DualWriteS3, true),
            at(Some(8), StageKind::S3Only, false),
            // A clock that went backwards proves nothing.
            at(None, StageKind::S3Only, true),
        ] {
            assert!(ask(&[old, young]).is_err(), "{young:?}");
        }
        assert!(ask(&[old]).is_err(), "one partition is not recorded");
    }
}
