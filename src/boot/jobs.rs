//! The jobs of the migration on their adapters, and what the gates learn from them.

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

/// Puts the jobs together; `more` are the runners for backfill. They begin to be taken over with
/// [`Jobs::watch`].
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

/// As recorded, unless the log knows better: a database that was restored from a backup may say that
/// PostgreSQL leads what was handed over since. Until that is put right, nobody is said to lead, so
/// that a repair takes neither place for the copy.
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
            let heard = self.store.known_leadership(*partition).flatten();
            state.steady &= heard.is_none_or(|heard| heard.epoch <= state.epoch);
        }
        Ok(states)
    }
}

/// Two clocks that are kept do not differ more.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_secs(60);

/// What the jobs prove, for the gates.
pub struct RecordedVerifications {
    table: PostgresJobs,
    /// Most commits that a verification may have found to be still without a copy.
    max_lag: u64,
}

impl RecordedVerifications {
    /// As recorded in this database.
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

/// Streams that differ; at least one where anything does.
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
        // What was not there to be compared is not proved: at most a tenth, and few.
        let report = report_of(&full)?;
        if report.unmirrored > self.max_lag.min(report.objects / 10) {
            return Ok(None);
        }
        // A younger one that looked at less may have found more.
        let last = self.table.latest(JobKind::Verify, Some(JobState::Done));
        let found = match last.await? {
            Some(last) => divergent(&last)?.max(divergent(&full)?),
            None => divergent(&full)?,
        };
        let ended = full.ended.unwrap_or(full.begun);
        let age = SystemClock.now().duration_since(ended);
        // PostgreSQL's clock may be a little ahead of ours. Much further ahead one of them has leapt,
        // and nobody knows how old the proof is.
        if age < -CLOCKS_DIFFER {
            return Ok(None);
        }
        Ok(Some(Verified {
            age: Duration::try_from(age).unwrap_or_default(),
            divergent_streams: found,
        }))
    }
}
