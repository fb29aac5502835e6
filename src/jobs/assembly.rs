//! Wires the jobs: the caller passes adapters, and the runners for backfill.
//!
//! ```text
//! let jobs = jobs::assembly::assemble(JobAssembly {
//!     s3: Arc::new(S3CommitStore::new(LogObjects::of(bucket.clone()))),
//!     postgres: Arc::new(PostgresCommitStore::new(postgres.clone())),
//!     bucket: objects.clone(),
//!     repair_objects: RepairObjects::of(bucket),
//!     tables: Arc::new(PostgresLogRepair::new(postgres.clone())),
//!     retired: Arc::new(PostgresLogRepair::new(postgres.clone())),
//!     table: Arc::new(PostgresJobs::new(postgres)),
//!     states: Arc::new(RowStates(migration_table)),
//!     …
//! });
//! housekeeping.push(jobs.watch());
//! ```

use std::sync::Arc;
use std::time::Duration;

use super::archive::ArchiveRunner;
use super::log_copies::{LogCopies, LogCopy};
use super::manager::{JobParts, JobSettings, Jobs};
use super::recorded_states::RecordedStates;
use super::repair::RepairRunner;
use super::runner::{Runner, Runners};
use super::verify::{Verifier, VerifyRunner};
use crate::domain::time::Clock;
use crate::store::halts::Halts;
use crate::store::io_runtime::IoRuntime;
use crate::store::log::log_objects::RepairObjects;
use crate::store::log::s3_log_repair::S3LogRepair;
use crate::store::ports::commit_store::CommitStore;
use crate::store::ports::job_table::JobTable;
use crate::store::ports::log_repair::{LogRepair, RetiredTables};
use crate::store::ports::object_store::ObjectStore;

/// The adapters and settings of the jobs.
pub struct JobAssembly {
    pub s3: Arc<dyn CommitStore>,
    pub postgres: Arc<dyn CommitStore>,
    /// The bucket outside the log: quarantine, archive.
    pub bucket: Arc<dyn ObjectStore>,
    /// The log in the bucket, with the right to replace objects.
    pub repair_objects: RepairObjects,
    /// PostgreSQL's tables of the log, for inspection and repair.
    pub tables: Arc<dyn LogRepair>,
    /// PostgreSQL's tables of the log, to be emptied after an archive.
    pub retired: Arc<dyn RetiredTables>,
    /// Where jobs are recorded.
    pub table: Arc<dyn JobTable>,
    pub states: Arc<dyn RecordedStates>,
    pub partitions: u16,
    /// How long every partition must have been in `s3_only` before an archive.
    pub archive_after: Duration,
    /// This process's name among those that share the table.
    pub node: String,
    pub io: IoRuntime,
    /// Gives the times in reports.
    pub clock: Arc<dyn Clock>,
    /// Intervals of the jobs.
    pub settings: JobSettings,
    /// Where it reports that a job waits for a store.
    pub halts: Halts,
    /// The runners for backfill. They come first: of several runners that accept an order the first
    /// one gets it.
    pub more: Vec<Arc<dyn Runner>>,
}

/// Builds the jobs; none runs or is taken over until [`Jobs::watch`].
pub fn assemble(assembly: JobAssembly) -> Jobs {
    let verifier = Verifier {
        places: LogCopies {
            s3: LogCopy {
                log: assembly.s3,
                log_repair: Arc::new(S3LogRepair::new(
                    assembly.repair_objects,
                    assembly.partitions,
                )),
            },
            postgres: LogCopy {
                log: assembly.postgres,
                log_repair: assembly.tables,
            },
            partitions: assembly.partitions,
        },
        states: assembly.states,
        clock: assembly.clock.clone(),
    };
    let verify = VerifyRunner {
        verifier: verifier.clone(),
        jobs: assembly.table.clone(),
    };
    let repair = RepairRunner {
        verifier: verifier.clone(),
        bucket: assembly.bucket.clone(),
        jobs: assembly.table.clone(),
    };
    let archive = ArchiveRunner {
        verifier,
        bucket: assembly.bucket,
        tables: assembly.retired,
        after: assembly.archive_after,
    };
    let runners = assembly
        .more
        .into_iter()
        .fold(Runners::new(), Runners::with);
    Jobs::new(JobParts {
        table: assembly.table,
        runners: runners
            .with(Arc::new(verify))
            .with(Arc::new(repair))
            .with(Arc::new(archive)),
        node: assembly.node,
        io: assembly.io,
        clock: assembly.clock,
        settings: assembly.settings,
        halts: assembly.halts,
    })
}
