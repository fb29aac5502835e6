//! The state of every partition as this process knows it: read from the rows in PostgreSQL and from
//! the control records that the writers have read, and published on a watch channel.
//!
//! With S3 leading nothing here needs PostgreSQL: the log says that S3 leads (law 10). A partition
//! without a beginning is given one by the process that inserts its row into PostgreSQL first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::actors::event_store::LogWriter;

use crate::clock::new_uuid;
use crate::domain::ids::{Epoch, PartitionId, WriterId};
use crate::domain::time::Clock;
use crate::log::batch::Stamp;
use crate::log::lead::{Lead, Leadership};
use crate::log::object::{CommitObject, ControlRecord};
use crate::log::partition::PartitionLog;
use crate::metrics;
use crate::migration::partition_state::{
    Known, PartitionState, PartitionStates, of_known, without_postgres,
};
use crate::migration::record::MigrationRow;
use crate::migration::stage::{Stage, StageKind, Whole};
use crate::migration::unread::UnreadBucket;
use crate::store::alarms::CopyKind;
use crate::store::error::{StoreError, StoreErrorKind};
use crate::store::halts::{HAND_OFF, Halts, WRITES};
use crate::store::ports::commit_store::CommitStore as _;
use crate::store::ports::migration_table::{MigrationTable, RowSeen};

/// Shortest time between two reads of PostgreSQL, however often the state is reported stale.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// How long the bucket may take to be read before that is reported.
const UNREAD_PATIENCE: Duration = Duration::from_secs(3);

/// Halts that concern all partitions are reported under the first.
const WHOLE: PartitionId = PartitionId(0);

pub struct PartitionRegistryDeps {
    pub writer: LogWriter,
    /// The rows; `None` where PostgreSQL holds no log: then S3 always leads.
    pub table: Option<Arc<dyn MigrationTable>>,
    /// Where the states are published.
    pub states: watch::Sender<PartitionStates>,
    /// The stage of a partition that has neither row nor log. `None`: `legacy` where PostgreSQL
    /// holds commits, else `s3_only`.
    pub initial: Option<StageKind>,
    /// Whether PostgreSQL may lead while the bucket has not been read.
    pub unread: UnreadBucket,
    pub clock: Arc<dyn Clock>,
    /// Notified when the published state turns out to be out of date.
    pub stale: Arc<Notify>,
    /// Where it reports that a partition waits for the end of a hand-off, or for its leader.
    pub halts: Halts,
}

pub struct PartitionRegistry {
    deps: PartitionRegistryDeps,
    rows: Mutex<BTreeMap<PartitionId, RowSeen>>,
    /// Partitions whose log was led by a PostgreSQL that is gone; reported once.
    lost: Mutex<BTreeSet<PartitionId>>,
    /// Partitions that were given their beginning without a row, because PostgreSQL's rows belong
    /// to another log.
    begun_alone: Mutex<BTreeSet<PartitionId>>,
    /// When PostgreSQL was last asked.
    looked: tokio::sync::Mutex<Option<Instant>>,
    begun: Instant,
}

impl PartitionRegistry {
    pub fn new(deps: PartitionRegistryDeps) -> Self {
        Self {
            deps,
            rows: Mutex::new(BTreeMap::new()),
            lost: Mutex::new(BTreeSet::new()),
            begun_alone: Mutex::new(BTreeSet::new()),
            looked: tokio::sync::Mutex::new(None),
            begun: Instant::now(),
        }
    }

    pub fn writer(&self) -> &LogWriter {
        &self.deps.writer
    }

    pub fn table(&self) -> Option<&Arc<dyn MigrationTable>> {
        self.deps.table.as_ref()
    }

    /// Notified when the published state may be out of date.
    pub fn stale(&self) -> &Notify {
        &self.deps.stale
    }

    pub fn clock(&self) -> &dyn Clock {
        &*self.deps.clock
    }

    pub fn rows(&self) -> BTreeMap<PartitionId, RowSeen> {
        self.rows.lock().clone()
    }

    pub fn states(&self) -> PartitionStates {
        self.deps.states.borrow().clone()
    }

    /// The stage of every partition; `None` while one is unknown.
    pub fn stages(&self) -> Option<Vec<StageKind>> {
        let states = self.deps.states.borrow();
        states.iter().map(|s| (*s)?.kind()).collect()
    }

    /// Publishes what the log alone says, without asking PostgreSQL: with S3 leading that is
    /// enough.
    pub fn publish_from_log(&self) {
        let rows = self.rows.lock().clone();
        let state = |partition, last| {
            let known = self.deps.writer.known_leadership(partition);
            let control = known.flatten();
            match rows.get(&partition) {
                // Where PostgreSQL holds no log, S3 leads from the beginning.
                None if self.deps.table.is_none() => {
                    let led = control.unwrap_or(Leadership::GENESIS_S3);
                    known.map(|_| PartitionState {
                        stage: Stage::s3_only(led.epoch),
                        moving: false,
                    })
                }
                Some(seen) if !self.may_lead(partition, &seen.row, known) => last,
                Some(seen) => {
                    let row = Some(seen.row);
                    of_known(Known { row, control })
                }
                None => without_postgres(control.or_else(|| self.begun_alone(partition)), last),
            }
        };
        self.publish(state);
    }

    /// Whether a row that says that PostgreSQL leads may be believed while the bucket was not read.
    /// If the bucket stays unread for [`UNREAD_PATIENCE`], that is reported.
    fn may_lead(
        &self,
        partition: PartitionId,
        row: &MigrationRow,
        known: Option<Option<Leadership>>,
    ) -> bool {
        let alarms = self.deps.writer.log().alarms();
        if known.is_some() || row.stage.lead() != Lead::Postgres {
            alarms.clear(CopyKind::Bucket, partition);
            return true;
        }
        let Err(why) = self.deps.unread.may_lead(partition, row) else {
            return true;
        };
        if self.begun.elapsed() > UNREAD_PATIENCE {
            let message = format!(
                "PostgreSQL's row says that it leads partition {partition}, and the bucket cannot \
                 be read: {why}. Writes wait for the bucket; if you know that PostgreSQL leads, \
                 start with `migration.lead_without_bucket = true`"
            );
            alarms.raise(CopyKind::Bucket, partition, "bucket_unread", message);
        }
        false
    }

    /// Reads rows and control records and publishes the result.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        self.publish_from_log();
        let mut looked = self.looked.lock().await;
        if let Some(at) = *looked {
            tokio::time::sleep_until(at + LOOK_PAUSE).await;
        }
        let outcome = self.ask().await;
        *looked = Some(Instant::now());
        drop(looked);
        self.publish_from_log();
        outcome
    }

    async fn ask(&self) -> Result<(), StoreError> {
        let alarms = self.deps.writer.log().alarms();
        let rows = match &self.deps.table {
            Some(table) => match table.rows().await {
                Err(e) if e.kind == StoreErrorKind::Conflict => {
                    let message = format!("{}; the log alone says who leads", e.message);
                    alarms.raise(CopyKind::Migration, WHOLE, "other_log", message);
                    return self.without_rows().await;
                }
                rows => rows?,
            },
            None => BTreeMap::new(),
        };
        alarms.clear(CopyKind::Migration, WHOLE);
        for partition in self.deps.writer.log().partition_ids() {
            match rows.get(&partition) {
                None => self.begin(partition).await?,
                Some(seen) => {
                    if self.lost.lock().remove(&partition) {
                        self.deps.halts.goes_on(WRITES, Some(partition));
                    }
                    self.finish_beginning(partition, &seen.row).await?;
                }
            }
        }
        let whole = rows.len() == usize::from(self.deps.writer.log().partitions());
        let rows = match &self.deps.table {
            Some(table) if !whole => table.rows().await?,
            _ => rows,
        };
        self.correct(&rows).await?;
        let first = std::mem::replace(&mut *self.rows.lock(), rows).is_empty();
        if first {
            self.tell_what_wins();
        }
        Ok(())
    }

    /// PostgreSQL's rows belong to another log, so they count as missing. A partition without a
    /// beginning is given one, led by S3, unless the configuration says that PostgreSQL leads it.
    async fn without_rows(&self) -> Result<(), StoreError> {
        self.rows.lock().clear();
        if self
            .deps
            .initial
            .is_some_and(|i| i.lead() == Lead::Postgres)
        {
            return Ok(());
        }
        let log = self.deps.writer.log();
        for partition in log.partition_ids() {
            let empty = self.deps.writer.known_leadership(partition) == Some(None);
            if empty && !log.has_index(partition).await? {
                let row = MigrationRow::new(StageKind::S3Only, Epoch(1));
                let first = self.first(partition, &row);
                log.s3().put(&first).await?;
                self.begun_alone.lock().insert(partition);
            }
        }
        Ok(())
    }

    /// Who leads a partition that has just been given its beginning. The writer that opens it waits
    /// for this before it reads on, so it cannot know yet.
    fn begun_alone(&self, partition: PartitionId) -> Option<Leadership> {
        let begun = self.begun_alone.lock().contains(&partition);
        begun.then_some(Leadership::GENESIS_S3)
    }

    /// Logs that the configured initial stage applies to new stores only, where it differs from the
    /// stored one.
    fn tell_what_wins(&self) {
        let Some(initial) = self.deps.initial else {
            return;
        };
        let rows = self.rows.lock();
        if let Some((partition, seen)) = rows.iter().find(|(_, s)| s.row.stage != initial) {
            tracing::warn!(%partition, recorded = %seen.row.stage, configured = %initial,
                "the recorded stage wins over the configured one; to change it, order a switch");
        }
    }

    /// Gives a partition without a row its row, and, if it has no log either, its beginning.
    async fn begin(&self, partition: PartitionId) -> Result<(), StoreError> {
        // Nothing can be said before the bucket has been read.
        let Some(known) = self.deps.writer.known_leadership(partition) else {
            return Ok(());
        };
        let stage = match known {
            Some(Leadership { lead: Lead::S3, .. }) => StageKind::S3Only,
            Some(Leadership {
                lead: Lead::Postgres,
                epoch,
            }) => {
                self.tell_lost(partition);
                if self.lost.lock().insert(partition) {
                    tracing::error!(%partition, epoch = epoch.0,
                        "PostgreSQL leads this partition, and its row there is gone: restore the \
                         database; writes wait");
                }
                return Ok(());
            }
            None if self.deps.writer.log().has_index(partition).await? => {
                self.tell_lost(partition);
                if self.lost.lock().insert(partition) {
                    tracing::error!(%partition,
                        "the bucket holds an index of a log that neither the bucket nor PostgreSQL \
                         has: PostgreSQL led and was lost; restore the database; writes wait");
                }
                return Ok(());
            }
            None => match (self.deps.initial, &self.deps.table) {
                (Some(initial), Some(_)) => initial,
                (None, Some(table)) if table.has_commits(partition).await? => StageKind::Legacy,
                _ => StageKind::S3Only,
            },
        };
        let epoch = known.map_or(Epoch(1), |found| found.epoch);
        let mut row = MigrationRow::new(stage, epoch);
        if let Some(table) = &self.deps.table {
            let first = (stage.lead() == Lead::Postgres).then(|| self.first(partition, &row));
            row = table.begin(partition, &row, first.as_ref()).await?;
            tracing::info!(%partition, stage = %row.stage, "the partition has its row");
        }
        if known.is_none() && row.stage.lead() == Lead::S3 {
            let first = self.first(partition, &row);
            self.deps.writer.log().s3().put(&first).await?;
        }
        Ok(())
    }

    /// Completes a beginning: the process that inserted the row may have stopped before it wrote
    /// the log's first object to S3.
    async fn finish_beginning(
        &self,
        partition: PartitionId,
        row: &MigrationRow,
    ) -> Result<(), StoreError> {
        let fresh = *row == MigrationRow::new(StageKind::S3Only, Epoch(1));
        let empty = self.deps.writer.known_leadership(partition) == Some(None);
        if fresh && empty {
            let first = self.first(partition, row);
            self.deps.writer.log().s3().put(&first).await?;
        }
        Ok(())
    }

    /// The first object of a partition's log.
    fn first(&self, partition: PartitionId, row: &MigrationRow) -> CommitObject {
        let stamp = Stamp {
            writer: WriterId(new_uuid()),
            batch: 0,
            at: self.deps.clock.now(),
        };
        let record = ControlRecord {
            lead: row.stage.lead(),
            epoch: row.epoch,
        };
        PartitionLog::new(partition).control(stamp, record)
    }

    /// Corrects rows that are older than the log: a database restored from a backup may hold rows
    /// from before a hand-off, which must not let PostgreSQL lead again.
    async fn correct(&self, rows: &BTreeMap<PartitionId, RowSeen>) -> Result<(), StoreError> {
        let Some(table) = &self.deps.table else {
            return Ok(());
        };
        for (partition, seen) in rows {
            let Some(Some(known)) = self.deps.writer.known_leadership(*partition) else {
                continue;
            };
            let row = &seen.row;
            let older = known.lead == Lead::S3
                && known.epoch > row.epoch
                && row.stage.lead() == Lead::Postgres
                && row.step == crate::migration::record::Step::Steady;
            if older {
                tracing::error!(%partition, row_epoch = row.epoch.0, log_epoch = known.epoch.0,
                    "PostgreSQL's row of partition {partition} is older than the log: S3 leads");
                let right = MigrationRow {
                    revision: row.revision + 1,
                    ..MigrationRow::new(StageKind::S3Only, known.epoch)
                };
                table.compare_and_set(*partition, row, &right).await?;
            }
        }
        Ok(())
    }

    fn tell_moving(&self, partition: PartitionId, moving: bool) {
        let halts = &self.deps.halts;
        if moving {
            let why = "a hand-off is under way, and writes wait for its end";
            halts.set(HAND_OFF, Some(partition), why, true);
        } else {
            halts.goes_on(HAND_OFF, Some(partition));
        }
    }

    /// Reports that a partition's leader is gone: it takes no writes until that is restored.
    fn tell_lost(&self, partition: PartitionId) {
        let why = "PostgreSQL led, and its row there is gone: restore the database; writes wait";
        self.deps.halts.set(WRITES, Some(partition), why, false);
    }

    fn publish(&self, of: impl Fn(PartitionId, Option<PartitionState>) -> Option<PartitionState>) {
        let log = self.deps.writer.log();
        self.deps.states.send_if_modified(|known| {
            let found: PartitionStates = log
                .partition_ids()
                .zip(known.iter())
                .map(|(partition, last)| of(partition, *last))
                .collect();
            if *known == found {
                return false;
            }
            for (partition, state) in log.partition_ids().zip(&found) {
                let Some(state) = state else { continue };
                self.tell_moving(partition, state.moving);
                metrics::stage(partition, &state.stage, state.moving);
                if let Some(stage) = state.kind() {
                    log.routes().set_stage(partition, stage);
                }
            }
            let stages: Option<Vec<StageKind>> = found.iter().map(|s| (*s)?.kind()).collect();
            if let Some(whole) = stages.as_deref().and_then(Whole::of) {
                metrics::mode(whole.stage.mode());
            }
            let changed = log.partition_ids().zip(known.iter().zip(&found));
            for (partition, (_, now)) in changed.filter(|(_, (before, now))| before != now) {
                told(partition, *now);
            }
            *known = found;
            true
        });
    }
}

/// The log message for a partition whose state has changed.
fn told(partition: PartitionId, state: Option<PartitionState>) {
    let Some(state) = state else {
        tracing::warn!(%partition, "nobody is known to lead partition {partition}");
        return;
    };
    let (mode, lead) = (state.stage.mode, state.stage.leadership.lead);
    let (mode, lead) = (mode.as_str(), lead.as_str());
    let epoch = state.stage.leadership.epoch.0;
    if state.moving {
        tracing::info!(%partition, mode, lead, epoch,
            "partition {partition}: the lead is being moved; writes wait");
    } else {
        tracing::info!(%partition, mode, lead, epoch,
            "partition {partition} is in {mode}, led by {lead}");
    }
}
