//! Verification: compares both stores of the log from offset 0, or from where the last verification
//! ended, to their common end; then finds what should not be in either of them.
//!
//! * [`look`]: inspects single offsets and ends
//! * `run`: the walk over all partitions

mod look;
mod run;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::look::{Ends, Verifier};
use super::context::JobContext;
use super::failure::{JobFailure, read, write};
use super::runner::{JobRefused, Runner};
use crate::domain::ids::{Offset, PartitionId};
use crate::domain::refusal::Refusal;
use crate::log::object::ObjectHash;
use crate::migration::job::{JobKind, JobState};
use crate::proof::report::VerifyReport;
use crate::store::ports::job_table::JobTable;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VerifyOrder {
    /// Continue where the last verification ended instead of at offset 0.
    pub incremental: bool,
    /// The partitions; all if empty.
    pub partitions: Vec<PartitionId>,
    /// At most so many events per second.
    pub rate: Option<f64>,
}

/// Where each partition is started, with the hash of the object before.
pub type Starts = BTreeMap<PartitionId, (Offset, Option<ObjectHash>)>;

pub struct VerifyRunner {
    /// Compares the stores.
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

/// Parses the parameters; refuses invalid ones.
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
