//! The tailer: takes the log into the outbox.
//!
//! It holds nothing but a cursor per partition. Rows and watermark are written by one transaction,
//! so a crash between S3 and PostgreSQL needs no repair: the next tailer goes on where the
//! watermark stands. Any number of processes may tail; the watermark decides who was first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::stream::TryStreamExt;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::domain::event::Envelope;
use crate::domain::ids::{Offset, PartitionId};
use crate::log::object::{CommitKind, CommitObject};
use crate::metrics::{self, OUTBOX_WATERMARK_LAG};
use crate::migration::stage::Mode;
use crate::store::backoff::Backoff;
use crate::store::delivered;
use crate::store::delivery::{CommitGroup, DeliveryStore, OutboxRow};
use crate::store::error::StoreError;
use crate::store::event_log::EventLog;
use crate::store::log_heads::LogHeads;
use crate::store::object_store::ObjectStore;
use crate::store::transport::TopicNames;

/// Rows of one transaction: PostgreSQL takes in about as many a second however they are grouped
/// beyond this, and a smaller transaction wakes the relay sooner. A commit is never split.
const TRANSACTION_ROWS: usize = 2_000;

/// Commits of one partition in one transaction: control records and small commits have few rows,
/// and each commit is an object to be read.
const TRANSACTION_COMMITS: u64 = 256;

/// Shortest time from one transaction to the next. What is committed meanwhile travels together:
/// a transaction costs about the same for one row and for a hundred, and delivery is still far
/// quicker than anyone waits for it.
const PACE: Duration = Duration::from_millis(15);

/// Pauses while S3 or PostgreSQL does not answer.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// What the tailer works with.
#[derive(Clone)]
pub struct OutboxDeps {
    /// The log.
    pub log: Arc<EventLog>,
    /// How far it is known to reach.
    pub heads: Arc<LogHeads>,
    /// The outbox.
    pub store: Arc<dyn DeliveryStore>,
    /// The bucket, for the delivered watermarks an empty outbox begins with.
    pub objects: Arc<dyn ObjectStore>,
    /// The topics' names.
    pub topics: TopicNames,
    /// The mode events are committed in.
    pub mode: Mode,
    /// Wakes the relay.
    pub recorded: Arc<Notify>,
    /// How often to look for commits of other processes.
    pub look_every: Duration,
}

/// See the module.
pub struct Tailer {
    deps: OutboxDeps,
    cursors: BTreeMap<PartitionId, Offset>,
    looked: Option<Instant>,
}

impl Tailer {
    /// A tailer that knows nothing yet.
    pub fn new(deps: OutboxDeps) -> Self {
        Self {
            deps,
            cursors: BTreeMap::new(),
            looked: None,
        }
    }

    /// Tails for ever.
    pub async fn run(mut self) {
        let mut heads = self.deps.heads.subscribe();
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            heads.mark_unchanged();
            let begun = Instant::now();
            match self.round().await {
                Ok(true) => {
                    backoff.reset();
                    tokio::time::sleep_until(begun + PACE).await;
                }
                Ok(false) => {
                    backoff.reset();
                    let look = self.deps.look_every;
                    // The sender lives as long as our own reference to the heads.
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

    /// Takes in what is there, up to the size of a transaction. Answers whether there was anything.
    pub async fn round(&mut self) -> Result<bool, StoreError> {
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
        let groups: Vec<CommitGroup> = try_join_all(reads).await?;
        let ends: Vec<(PartitionId, Offset)> = groups.iter().map(|g| (g.partition, g.to)).collect();
        let moved = match self.deps.store.record(groups).await {
            Ok(moved) => moved,
            Err(e) => {
                // Whether it happened is read back with the watermarks.
                self.cursors.clear();
                return Err(e);
            }
        };
        self.deps.recorded.notify_one();
        for (partition, to) in ends {
            if moved.contains(&partition) {
                self.cursors.insert(partition, to);
                self.report_lag(partition, to);
            } else {
                tracing::debug!(%partition, "another process took these commits in");
                self.cursors.remove(&partition);
            }
        }
        Ok(true)
    }

    fn report_lag(&self, partition: PartitionId, cursor: Offset) {
        let head = self.deps.heads.next_offset(partition);
        let lag = head.saturating_sub(cursor);
        metrics::partition_gauge(OUTBOX_WATERMARK_LAG, partition, lag as f64);
    }

    /// Asks the outbox where it stands, where that is not known. An outbox that never took a
    /// partition in begins with what is known to be delivered.
    async fn load_cursors(&mut self) -> Result<(), StoreError> {
        let unknown: Vec<PartitionId> = self
            .deps
            .log
            .partition_ids()
            .filter(|p| !self.cursors.contains_key(p))
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
            let delivered = delivered::load(&*self.deps.objects).await?;
            let start = |p: &PartitionId| (*p, delivered.get(p).copied().unwrap_or(0));
            self.deps
                .store
                .begin(fresh.iter().map(start).collect())
                .await?;
            recorded = self.deps.store.watermarks().await?;
        }
        for partition in unknown {
            let cursor = recorded.get(&partition).copied().unwrap_or(0);
            self.check_cursor(partition, cursor).await?;
            self.cursors.insert(partition, cursor);
            self.report_lag(partition, cursor);
        }
        Ok(())
    }

    /// An outbox of another log must not be gone on with: it would skip what it believes it has.
    async fn check_cursor(&self, partition: PartitionId, cursor: Offset) -> Result<(), StoreError> {
        let Some(last) = cursor.checked_sub(1) else {
            return Ok(());
        };
        if self.deps.log.commit(partition, last).await?.is_some() {
            return Ok(());
        }
        let message = format!(
            "the outbox has taken in partition {partition} up to offset {last}, which is not in \
             the log: it belongs to another bucket"
        );
        Err(StoreError::corrupt("postgres", "tail", message))
    }

    /// What to read: of each partition that has more than was taken in.
    async fn spans(&mut self) -> Result<Vec<(PartitionId, Offset, Offset)>, StoreError> {
        let now = Instant::now();
        let look = self
            .looked
            .is_none_or(|at| now - at >= self.deps.look_every);
        let this = &*self;
        let spans = this.cursors.iter().map(|(partition, from)| async move {
            let mut head = this.deps.heads.next_offset(*partition);
            if head <= *from && look {
                head = this.look(*partition, *from).await?;
            }
            let to = head.min(from + TRANSACTION_COMMITS);
            Ok::<_, StoreError>((to > *from).then_some((*partition, *from, to)))
        });
        let spans: Vec<_> = try_join_all(spans).await?.into_iter().flatten().collect();
        if look {
            self.looked = Some(now);
        }
        Ok(spans)
    }

    /// Looks whether a process that is not this one has committed at `from`, and how far beyond:
    /// the log has no gaps, so strides that double find many commits with few requests.
    async fn look(&self, partition: PartitionId, from: Offset) -> Result<Offset, StoreError> {
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

    async fn read(
        &self,
        partition: PartitionId,
        from: Offset,
        to: Offset,
        max_rows: usize,
    ) -> Result<CommitGroup, StoreError> {
        let mut group = CommitGroup {
            partition,
            from,
            to: from,
            rows: Vec::new(),
        };
        let mut commits = std::pin::pin!(self.deps.log.commits(partition, from, to));
        while group.rows.len() < max_rows {
            let Some(object) = commits.try_next().await? else {
                break;
            };
            self.rows_of(&object, &mut group.rows)?;
            group.to = object.header.offset + 1;
        }
        Ok(group)
    }

    fn rows_of(&self, object: &CommitObject, rows: &mut Vec<OutboxRow>) -> Result<(), StoreError> {
        // A control record concerns whoever writes; the watermark passes over it.
        if object.header.kind != CommitKind::Events {
            return Ok(());
        }
        for (i, span) in object.lines.iter().enumerate() {
            let position = object.position(i);
            let line = &object.bytes[span.start as usize..span.end as usize];
            let event = Envelope::parse(line)
                .map_err(|e| StoreError::corrupt("s3", "tail", format!("event {position}: {e}")))?;
            rows.push(OutboxRow {
                position,
                event_id: event.id,
                stream: event.stream(),
                version: event.version,
                topic: self.deps.topics.of(&event.stream_type),
                epoch: object.header.epoch,
                mode: self.deps.mode,
                start: span.start,
                len: span.end - span.start,
                body: None,
                attempts: 0,
                next_attempt: None,
            });
        }
        Ok(())
    }
}
