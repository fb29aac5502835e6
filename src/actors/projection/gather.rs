//! Reads and folds the next span of the log, for one transaction.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;

use crate::actors::corrupt_partitions::CorruptPartitions;
use crate::domain::ids::{Offset, PartitionId, Position};
use crate::flaws::{Flaw, strikes};
use crate::log::object::ObjectHash;
use crate::projection::changes::{Changes, ParkedEvent};
use crate::store::error::StoreError;
use crate::store::log::log_reader::LogReader;
use crate::store::ports::read_model::Move;

/// Limits of one transaction, approximate: a commit object is applied whole.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// Events.
    pub events: usize,
    /// Bytes of commit objects.
    pub bytes: usize,
}

/// A span of one partition to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    pub partition: PartitionId,
    pub from: Offset,
    pub to: Offset,
    /// Hash of the commit before `from`, if known.
    pub prev: Option<ObjectHash>,
}

#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub moves: Vec<Move>,
    pub changes: Changes,
    pub parked: Vec<ParkedEvent>,
    /// Every event that could be read, to search for the one that makes the store refuse the batch.
    pub events: Vec<(Position, Bytes)>,
    /// All events, also those without effect.
    pub count: usize,
    pub bytes: usize,
    /// Partitions that cannot be read on, because the log is damaged there.
    pub damaged: Vec<(PartitionId, StoreError)>,
    /// Partitions in which the next commit does not follow the last one applied.
    pub diverged: Vec<PartitionId>,
}

impl Gathered {
    fn is_over(&self, limits: BatchLimits) -> bool {
        self.count >= limits.events || self.bytes >= limits.bytes
    }
}

/// Reads and folds the spans until the limits are reached. Yields after every commit object.
pub(super) async fn gather(
    log: Arc<LogReader>,
    stretches: Vec<Stretch>,
    limits: BatchLimits,
) -> Result<Gathered, StoreError> {
    let mut gathered = Gathered::default();
    for stretch in stretches {
        if gathered.is_over(limits) {
            break;
        }
        let mut commits = pin!(log.commits(stretch.partition, stretch.from, stretch.to));
        let mut to = stretch.from;
        let mut last = None;
        loop {
            let object = match commits.try_next().await {
                Ok(Some(object)) => object,
                Ok(None) => break,
                // What precedes the damage is applied first.
                Err(error) if CorruptPartitions::is_damage(&error) => {
                    if to == stretch.from {
                        gathered.damaged.push((stretch.partition, error));
                    }
                    break;
                }
                Err(error) => return Err(error),
            };
            let first = to == stretch.from;
            if first && stretch.prev.is_some_and(|prev| prev != object.header.prev) {
                gathered.diverged.push(stretch.partition);
                break;
            }
            for i in 0..object.event_count() {
                if strikes(Flaw::SkipProjection, 5) {
                    continue;
                }
                let (position, line) = (object.position(i), object.line(i));
                match take(&mut gathered.changes, &line) {
                    Ok(()) => gathered.events.push((position, line)),
                    Err(reason) => {
                        let parked = ParkedEvent::new(position, &line, reason);
                        gathered.parked.push(parked);
                    }
                }
            }
            gathered.count += object.event_count();
            gathered.bytes += object.bytes.len();
            to = object.header.offset + 1;
            last = Some(object);
            if gathered.is_over(limits) {
                break;
            }
            tokio::task::yield_now().await;
        }
        if let Some(last) = last {
            gathered.moves.push(Move {
                partition: stretch.partition,
                from: stretch.from,
                to,
                before: stretch.prev,
                after: last.hash(),
            });
        }
    }
    Ok(gathered)
}

/// Catches a panic while folding, so that an event that triggers a bug is parked and does not stop
/// all others.
fn take(changes: &mut Changes, event: &[u8]) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| changes.take(event)))
        .unwrap_or_else(|_| Err("the program panicked over it".into()))
}
