//! Wires the migration's jobs to their adapters, and their results to the gates.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::SignedDuration;

use super::stores::Stores;
use crate::actors::event_store::LogWriter;
use crate::actors::migration_mode::figures::{Verifications, Verified};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::domain::ids::PartitionId;
use crate::domain::time::Clock;
use crate::jobs::assembly::{JobAssembly, assemble};
use crate::jobs::manager::{JobSettings, Jobs};
use crate::jobs::recorded_states::{RecordedState, RecordedStates, RowStates};
use crate::jobs::runner::Runner;
use crate::migration::job::{Job, JobKind, JobState};
use crate::proof::report::VerifyReport;
use crate::store::adapters::postgres::Postgres;
use crate::store::adapters::postgres::commits::PostgresCommitStore;
use crate::store::adapters::postgres::jobs::PostgresJobs;
use crate::store::adapters::postgres::log_repair::PostgresLogRepair;
use crate::store::adapters::postgres::migration::PostgresMigration;
use crate::store::error::StoreError;
use crate::store::io_runtime::IoRuntime;
use crate::store::ports::job_table::JobTable;

/// Builds the jobs; `more` are the runners for backfill. Unfinished jobs are taken over once
/// [`Jobs::watch`] runs.
pub fn jobs(
    config: &Config,
    stores: &Stores,
    store: &LogWriter,
    io: &IoRuntime,
    node: &str,
    more: Vec<Arc<dyn Runner>>,
) -> Jobs {
    let postgres = &stores.postgres;
    assemble(JobAssembly {
        s3: Arc::new(stores.log.s3().clone()),
        postgres: Arc::new(PostgresCommitStore::new(postgres.clone())),
        bucket: stores.objects.clone(),
        repair_objects: stores.repair_objects.clone(),
        tables: Arc::new(PostgresLogRepair::new(postgres.clone())),
        retired: Arc::new(PostgresLogRepair::new(postgres.clone())),
        table: Arc::new(PostgresJobs::new(postgres.clone())),
        states: Arc::new(ConfirmedStates {
            recorded: RowStates(Arc::new(
                PostgresMigration::new(postgres.clone()).of_log(stores.log.id()),
            )),
            store: store.clone(),
        }),
        partitions: stores.log.partitions(),
        archive_after: config.migration.archive_after,
        node: node.to_owned(),
        io: io.clone(),
        clock: Arc::new(SystemClock),
        settings: JobSettings::default(),
        halts: stores.halts.clone(),
        more,
    })
}

/// The recorded states, unless the log contradicts them: a database restored from a backup may say
/// that PostgreSQL leads a partition that was handed over since. Until that is corrected the leader
/// counts as unknown, so that a repair takes neither store for the copy.
struct ConfirmedStates {
    recorded: RowStates,
    store: LogWriter,
}

#[async_trait]
impl RecordedStates for ConfirmedStates {
    async fn states(&self) -> Result<BTreeMap<PartitionId, RecordedState>, StoreError> {
        let mut states = self.recorded.states().await?;
        for (partition, state) in &mut states {
            if partition.0 >= self.store.log().partitions() {
                continue;
            }
            let known = self.store.known_leadership(*partition).flatten();
            state.steady &= known.is_none_or(|known| known.epoch <= state.epoch);
        }
        Ok(states)
    }
}

/// Two synchronised clocks differ by less.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_secs(60);

/// The results of verification jobs, for the gates.
pub struct RecordedVerifications {
    table: PostgresJobs,
    /// Commits without a copy that a verification may have found at most.
    max_lag: u64,
}

impl RecordedVerifications {
    pub fn new(postgres: Postgres, max_lag: u64) -> Self {
        Self {
            table: PostgresJobs::new(postgres),
            max_lag,
        }
    }
}

fn report_of(job: &Job) -> Result<VerifyReport, StoreError> {
    let report = job.report.clone().unwrap_or_default();
    serde_json::from_value(report)
        .map_err(|e| StoreError::corrupt("postgres", "last verification", e.to_string()))
}

/// Streams that differ; at least one if anything does.
fn divergent(job: &Job) -> Result<u64, StoreError> {
    let report = report_of(job)?;
    Ok(match report.clean {
        true => 0,
        false => report.divergent_streams.max(1),
    })
}

#[async_trait]
impl Verifications for RecordedVerifications {
    async fn last(&self) -> Result<Option<Verified>, StoreError> {
        let Some(full) = self.table.latest_full_verification().await? else {
            return Ok(None);
        };
        // What was missing was not compared: at most a tenth, and few commits, may be.
        let report = report_of(&full)?;
        if report.unmirrored > self.max_lag.min(report.objects / 10) {
            return Ok(None);
        }
        // A younger verification that compared less may have found more.
        let last = self.table.latest(JobKind::Verify, Some(JobState::Done));
        let found = match last.await? {
            Some(last) => divergent(&last)?.max(divergent(&full)?),
            None => divergent(&full)?,
        };
        let ended = full.ended.unwrap_or(full.begun);
        let age = SystemClock.now().duration_since(ended);
        // PostgreSQL's clock may be a little ahead of ours. If it is much further ahead, one of
        // them has jumped and the age of the proof is unknown.
        if age < -CLOCKS_DIFFER {
            return Ok(None);
        }
        Ok(Some(Verified {
            age: Duration::try_from(age).unwrap_or_default(),
            divergent_streams: found,
        }))
    }
}
