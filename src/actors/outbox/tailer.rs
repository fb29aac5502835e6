//! The tailer: writes the log's events into the outbox.
//!
//! Where S3 leads it inserts every row; where PostgreSQL leads, the appends insert their own and
//! the tailer only fills gaps. It holds nothing but a cursor per partition. Rows and watermark are
//! written by one transaction, so a crash between S3 and PostgreSQL needs no repair: the next
//! tailer goes on where the watermark stands. Any number of processes may tail; the watermark
//! decides who was first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use futures_util::stream::TryStreamExt;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::actors::corrupt_partitions::CorruptPartitions;
use crate::actors::halted::Halted;
use crate::domain::ids::{Offset, PartitionId};
use crate::domain::trace::TraceContext;
use crate::log::identity::{Foreign, Mark, Ownership};
use crate::log::lead::Lead;
use crate::log::object::ObjectHash;
use crate::metrics::{self, OUTBOX_WATERMARK_LAG};
use crate::migration::partition_state::{PartitionState, PartitionStates};
use crate::migration::stage::Mode;
use crate::store::alarms::CopyKind;
use crate::store::backoff::Backoff;
use crate::store::error::StoreError;
use crate::store::halts::{self, Halts};
use crate::store::log::delivery_watermarks;
use crate::store::log::log_heads::LogHeads;
use crate::store::log::log_reader::LogReader;
use crate::store::log::outbox_rows::rows_of;
use crate::store::ports::delivery::{CommitGroup, DeliveryStore};
use crate::store::ports::object_store::ObjectStore;
use crate::store::ports::transport::TopicNames;
use crate::store::traces::{self, Kind, SharedSpan};

/// Rows of one transaction: with more, PostgreSQL is no faster, and a smaller transaction wakes the
/// relay sooner. A commit is never split.
const TRANSACTION_ROWS: usize = 2_000;

/// Commits of one partition in one transaction: control records and small commits have few rows,
/// and each commit is an object to be read.
const TRANSACTION_COMMITS: u64 = 256;

/// Shortest time from one transaction to the next. Commits meanwhile go into one transaction, which
/// costs about the same for one row as for a hundred; the delay is far below what consumers notice.
const PACE: Duration = Duration::from_millis(15);

/// Pauses while S3 or PostgreSQL does not answer.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// How often the watermarks are read without a commit: a database that was restored from a backup
/// lacks rows, which nothing else would notice.
const READ_AGAIN: Duration = Duration::from_secs(5);

/// The advice in the log and the halt for a partition whose outbox is not of this log.
const WHAT_TO_DO: &str = "Nothing of it is delivered until that is put right, and nothing is \
    skipped: put the log's missing objects back, or point the service at the bucket or the \
    database (`postgres.schema`) that belong together; docs/OPERATIONS.md says how to have delivery \
    begin anew, with repeats";

#[derive(Clone)]
pub struct OutboxDeps {
    pub log: Arc<LogReader>,
    /// How far the log is known to reach.
    pub heads: Arc<LogHeads>,
    pub store: Arc<dyn DeliveryStore>,
    /// The bucket, for the watermarks of delivery that an empty outbox starts from.
    pub objects: Arc<dyn ObjectStore>,
    pub topics: TopicNames,
    /// The stages: in which mode events are committed, and which store leads.
    pub stages: watch::Receiver<PartitionStates>,
    pub recorded: Arc<Notify>,
    /// How often to look for commits of other processes.
    pub look_every: Duration,
    /// Where it reports that a partition does not go on.
    pub halts: Halts,
}

pub struct Tailer {
    deps: OutboxDeps,
    cursors: BTreeMap<PartitionId, Cursor>,
    /// Partitions led by PostgreSQL whose outbox lacks rows. There appends insert their rows only
    /// while the watermark stands at their offset.
    lagging: BTreeSet<PartitionId>,
    looked: Option<Instant>,
    read: Instant,
    damaged: CorruptPartitions,
    halted: Halted,
}

/// How far a partition was written to the outbox, with the hash of the last commit, if known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    next: Offset,
    hash: Option<ObjectHash>,
}

impl Tailer {
    pub fn new(deps: OutboxDeps) -> Self {
        Self {
            damaged: CorruptPartitions::new(halts::OUTBOX, deps.halts.clone()),
            deps,
            cursors: BTreeMap::new(),
            lagging: BTreeSet::new(),
            looked: None,
            read: Instant::now(),
            halted: Halted::new(CopyKind::Outbox),
        }
    }

    pub async fn run(mut self) {
        let mut heads = self.deps.heads.subscribe();
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            heads.mark_unchanged();
            let begun = Instant::now();
            let round = self.round().await;
            match &round {
                Ok(_) => {
                    self.deps.halts.goes_on(halts::OUTBOX, None);
                }
                Err(error) => self.deps.halts.failed(halts::OUTBOX, None, error),
            }
            match round {
                Ok(true) => {
                    backoff.reset();
                    tokio::time::sleep_until(begun + PACE).await;
                }
                Ok(false) => {
                    let look = self.deps.look_every;
                    // Cannot fail: `deps` holds the sender.
                    let _ = tokio::time::timeout(look, heads.changed()).await;
                }
                Err(error) => {
                    let pause = backoff.pause();
                    if backoff.failures() == 1 {
                        tracing::warn!(%error, "the outbox waits; writes go on");
                    } else {
                        tracing::debug!(%error, ?pause, "the outbox still waits");
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Writes what is there, up to the size of a transaction; returns whether there was anything.
    pub async fn round(&mut self) -> Result<bool, StoreError> {
        self.follow_appends().await?;
        self.read_again().await?;
        self.load_cursors().await?;
        let spans = self.spans().await?;
        if spans.is_empty() {
            return Ok(false);
        }
        let share = (TRANSACTION_ROWS / spans.len()).max(1);
        let this = &*self;
        let reads = spans
            .iter()
            .map(|(p, from, to)| this.read(*p, *from, *to, share));
        let reads = join_all(reads).await;
        let mut groups = Vec::with_capacity(reads.len());
        let mut traces = Vec::new();
        for ((partition, from, _), read) in spans.iter().zip(reads) {
            match read.transpose() {
                None => self.halt(*partition, Foreign::Diverged, from.next),
                Some(read) => match read {
                    Err(error) if CorruptPartitions::is_damage(&error) => {
                        self.damaged.note(*partition, &error, Instant::now());
                    }
                    group => {
                        let (group, traced) = group?;
                        groups.push(group);
                        traces.extend(traced);
                        self.damaged.goes_on(*partition);
                    }
                },
            }
        }
        if groups.is_empty() {
            return Ok(false);
        }
        let end = |g: &CommitGroup| {
            let hash = Some(g.after);
            (g.partition, Cursor { next: g.to, hash })
        };
        let ends: Vec<(PartitionId, Cursor)> = groups.iter().map(end).collect();
        let mut span = SharedSpan::begin(traces, Kind::Client, "PostgreSQL outbox");
        span.set("db.system.name", "postgresql");
        span.set(
            "oms.batch.events",
            groups.iter().map(|g| g.rows.len()).sum::<usize>(),
        );
        let moved = match self.deps.store.record(groups).await {
            Ok(moved) => moved,
            Err(e) => {
                span.fail(e.kind.as_str());
                // The watermarks, read again, tell whether the transaction happened.
                self.cursors.clear();
                return Err(e);
            }
        };
        drop(span);
        self.deps.recorded.notify_one();
        for (partition, to) in ends {
            if moved.contains(&partition) {
                self.cursors.insert(partition, to);
                self.report_lag(partition, to.next);
            } else {
                tracing::debug!(%partition, "another process took these commits in");
                self.cursors.remove(&partition);
            }
        }
        Ok(true)
    }

    fn state_of(&self, partition: PartitionId) -> Option<PartitionState> {
        let stages = self.deps.stages.borrow();
        stages.get(usize::from(partition.0)).copied().flatten()
    }

    fn mode_of(&self, partition: PartitionId) -> Mode {
        let state = self.state_of(partition);
        state.map_or(Mode::S3Only, |s| s.stage.mode)
    }

    fn appends_bring_rows(&self, partition: PartitionId) -> bool {
        let state = self.state_of(partition);
        state.is_some_and(|s| s.stage.leadership.lead == Lead::Postgres)
    }

    /// Where appends insert their own rows: wakes the relay for those, and checks at intervals
    /// whether the watermark was left behind, as it is after a hand-off.
    async fn follow_appends(&mut self) -> Result<(), StoreError> {
        let led: Vec<PartitionId> = self
            .deps
            .log
            .partition_ids()
            .filter(|p| self.appends_bring_rows(*p))
            .collect();
        self.lagging.retain(|p| led.contains(p));
        if led.is_empty() {
            return Ok(());
        }
        self.deps.recorded.notify_one();
        let every = self.deps.look_every;
        if self.looked.is_some_and(|at| at.elapsed() < every) {
            return Ok(());
        }
        let head = |p: &PartitionId| (*p, self.deps.heads.next_offset(*p));
        let heads: Vec<(PartitionId, Offset)> = led.iter().map(head).collect();
        for partition in &led {
            self.cursors.remove(partition);
        }
        self.load_cursors().await?;
        for (partition, head) in heads {
            if self.cursors.get(&partition).is_some_and(|c| c.next < head) {
                self.lagging.insert(partition);
            } else {
                self.lagging.remove(&partition);
            }
        }
        Ok(())
    }

    fn report_lag(&self, partition: PartitionId, cursor: Offset) {
        let head = self.deps.heads.known(partition);
        let lag = head.map(|head| head.saturating_sub(cursor) as f64);
        metrics::known_gauge(OUTBOX_WATERMARK_LAG, partition, lag);
    }

    /// Checks at intervals whether the outbox still stands where it is believed to.
    async fn read_again(&mut self) -> Result<(), StoreError> {
        if self.read.elapsed() < READ_AGAIN {
            return Ok(());
        }
        let recorded = self.deps.store.watermarks().await?;
        self.read = Instant::now();
        self.cursors.retain(|partition, cursor| {
            let mark = recorded.get(partition);
            mark.is_some_and(|m| m.next == cursor.next && m.hash() == cursor.hash)
        });
        Ok(())
    }

    /// Reads the watermarks of partitions whose cursor is unknown. An outbox that never had a
    /// partition starts with what is known to be delivered.
    async fn load_cursors(&mut self) -> Result<(), StoreError> {
        let now = Instant::now();
        let unknown: Vec<PartitionId> = self
            .deps
            .log
            .partition_ids()
            .filter(|p| !self.cursors.contains_key(p) && !self.halted.holds(*p, now))
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let mut recorded = self.deps.store.watermarks().await?;
        let fresh: Vec<PartitionId> = unknown
            .iter()
            .copied()
            .filter(|p| !recorded.contains_key(p))
            .collect();
        if !fresh.is_empty() {
            let starts = self.starts(&fresh).await?;
            self.deps.store.begin(starts).await?;
            recorded = self.deps.store.watermarks().await?;
        }
        for partition in unknown {
            let start = Mark::start(self.deps.log.id());
            let mark = recorded.get(&partition).copied().unwrap_or(start);
            match self.deps.log.judge(partition, &mark).await? {
                Ownership::Foreign(why) => self.halt(partition, why, mark.next),
                Ownership::Ours { hash, marked } => {
                    self.halted.goes_on(self.deps.log.alarms(), partition);
                    let cursor = self.stand(partition, mark, hash, marked).await?;
                    self.cursors.insert(partition, cursor);
                    self.report_lag(partition, mark.next);
                }
            }
        }
        Ok(())
    }

    /// Adds the hash of the last commit to a watermark that lacks it, because an earlier version
    /// wrote it.
    async fn stand(
        &self,
        partition: PartitionId,
        mark: Mark,
        hash: Option<ObjectHash>,
        marked: bool,
    ) -> Result<Cursor, StoreError> {
        let next = mark.next;
        let hash = match hash {
            Some(hash) if !marked => {
                tracing::warn!(%partition, next, %hash, "the outbox does not say of which log it is: \
                    the log holds a commit where it stands, so it is taken for this log's");
                self.deps.store.mark(partition, mark, hash).await?;
                Some(hash)
            }
            // The object after it tells whether it is the one that was written to the outbox.
            _ => mark.hash(),
        };
        Ok(Cursor { next, hash })
    }

    /// Where an outbox starts that knows nothing of these partitions: with what the bucket says was
    /// delivered, if that is of this log, else with the first event.
    async fn starts(&self, fresh: &[PartitionId]) -> Result<Vec<(PartitionId, Mark)>, StoreError> {
        let log = &self.deps.log;
        let delivered = delivery_watermarks::load(&*self.deps.objects).await?;
        let mut starts = Vec::with_capacity(fresh.len());
        for partition in fresh {
            let mut start = Mark::start(log.id());
            if let Some(mark) = delivered.get(partition) {
                match log.judge(*partition, mark).await? {
                    Ownership::Ours {
                        hash: Some(hash), ..
                    } => start = Mark::on(log.id(), mark.next, hash),
                    Ownership::Ours { hash: None, .. } => start = *mark,
                    Ownership::Foreign(why) => {
                        let what = why.describe(delivery_watermarks::KEY, *partition, mark.next);
                        tracing::error!(%partition, reason = why.as_str(),
                            "{what}. Delivery begins with the first event: all are repeated");
                    }
                }
            }
            starts.push((*partition, start));
        }
        Ok(starts)
    }

    fn halt(&mut self, partition: PartitionId, why: Foreign, next: Offset) {
        self.cursors.remove(&partition);
        let alarms = self.deps.log.alarms();
        let now = Instant::now();
        self.halted
            .note(alarms, partition, (why, next), WHAT_TO_DO, now);
    }

    /// The spans to read: of each partition that has commits beyond its cursor.
    async fn spans(&mut self) -> Result<Vec<(PartitionId, Cursor, Offset)>, StoreError> {
        let now = Instant::now();
        let look = self
            .looked
            .is_none_or(|at| now - at >= self.deps.look_every);
        let this = &*self;
        let mine = |p: &PartitionId| {
            !this.damaged.holds(*p, now)
                && (this.lagging.contains(p) || !this.appends_bring_rows(*p))
        };
        let cursors = this.cursors.iter().filter(|(p, _)| mine(p));
        let spans = cursors.map(|(partition, from)| async move {
            let mut head = this.deps.heads.next_offset(*partition);
            if head <= from.next && look {
                head = this.find_end(*partition, from.next).await?;
            }
            let to = head.min(from.next + TRANSACTION_COMMITS);
            Ok::<_, StoreError>((to > from.next).then_some((*partition, *from, to)))
        });
        let spans: Vec<_> = try_join_all(spans).await?.into_iter().flatten().collect();
        if look {
            self.looked = Some(now);
        }
        Ok(spans)
    }

    /// Looks for commits of another process from `from` on and returns the end. The log has no
    /// gaps, so that steps that double find many commits with few requests.
    async fn find_end(&self, partition: PartitionId, from: Offset) -> Result<Offset, StoreError> {
        let mut head = from;
        let mut stride = 1;
        while head < from + TRANSACTION_COMMITS
            && self
                .deps
                .log
                .commit(partition, head + stride - 1)
                .await?
                .is_some()
        {
            head += stride;
            stride *= 2;
        }
        if head > from {
            self.deps.heads.advance(partition, head);
        }
        Ok(head)
    }

    /// Reads on from a cursor, with the recorded traces of what is read; `None` when the next commit
    /// does not follow the last one written to the outbox.
    async fn read(
        &self,
        partition: PartitionId,
        from: Cursor,
        to: Offset,
        max_rows: usize,
    ) -> Result<Option<(CommitGroup, Vec<TraceContext>)>, StoreError> {
        let mut traced = Vec::new();
        let mut group = CommitGroup {
            partition,
            from: from.next,
            to: from.next,
            before: from.hash,
            after: ObjectHash::NONE,
            rows: Vec::new(),
        };
        let mut last = None;
        let mut commits = std::pin::pin!(self.deps.log.commits(partition, from.next, to));
        while group.rows.len() < max_rows {
            let next = async {
                let Some(object) = commits.try_next().await? else {
                    return Ok(None);
                };
                let mode = self.mode_of(partition);
                let rows = rows_of(&object, &self.deps.topics, mode, false)?;
                Ok::<_, StoreError>(Some((object, rows)))
            };
            match next.await {
                Ok(Some((object, rows))) => {
                    let first = group.to == from.next;
                    if first && from.hash.is_some_and(|hash| hash != object.header.prev) {
                        return Ok(None);
                    }
                    group.rows.extend(rows);
                    traced.extend(traces::of_commit(&object));
                    group.to = object.header.offset + 1;
                    last = Some(object);
                }
                Ok(None) => break,
                // What precedes the damage is written first.
                Err(error) if CorruptPartitions::is_damage(&error) && group.to > from.next => break,
                Err(error) => return Err(error),
            }
        }
        group.after = last.map_or(ObjectHash::NONE, |object| object.hash());
        Ok(Some((group, traced)))
    }
}
