//! The feed of all events: the partitions merged by the time at which their commits were formed.
//!
//! * [`cursor`]: how far each partition was read

mod cursor;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use futures_util::stream::{BoxStream, Peekable, StreamExt};
use tokio::time::{Instant, timeout_at};

pub use self::cursor::FeedCursor;
use super::error::ServiceError;
use super::view::{EventView, Page};
use super::within_bound;
use crate::actors::event_store::{LogWriter, ReadPlace};
use crate::domain::event::Envelope;
use crate::log::object::{CommitKind, CommitObject};
use crate::store::error::StoreError;

/// Longest time that a page is read: what a person may wait for an answer, far below the deadline of
/// a request.
const MAX_TIME: Duration = Duration::from_secs(10);

/// Limits of one page. Those of what is read for it keep a filter that matches little from having one
/// request read the whole log: the page is then short, and its cursor continues from there.
#[derive(Debug, Clone, Copy)]
pub struct FeedBounds {
    /// Events on it at most.
    pub events: usize,
    /// Bytes of its events at most; a larger event is returned alone. Bounds the memory that one
    /// reader takes.
    pub bytes: usize,
    /// Events read for it; the commit at which it is reached is read to its end.
    pub scanned: usize,
    /// Bytes of these events, likewise: a thousand events may be a gigabyte.
    pub scanned_bytes: usize,
    /// How long it is read, once there is something to return.
    pub time: Duration,
}

impl FeedBounds {
    /// The limits for a page of so many events, for a caller who waits so long. The page is returned
    /// well before, since without its cursor the caller would read the same again.
    pub fn page(events: usize, patience: Duration) -> Self {
        Self {
            events,
            bytes: 8 << 20,
            scanned: 20_000,
            // A few times what may be on it, read from S3 within a second.
            scanned_bytes: 32 << 20,
            time: MAX_TIME.min(patience / 2),
        }
    }
}

/// A page, and why it ended.
#[derive(Debug)]
pub struct FeedPage {
    pub page: Page<EventView>,
    /// Events read for it.
    pub scanned: usize,
    /// Whether it ended before it was full, at a limit of what is read for it or of the room for
    /// reads: then there may be more to read.
    pub cut_short: bool,
}

/// Yields to other tasks after so many events, because each has to be parsed.
const YIELD_AFTER: usize = 500;

/// Yields likewise after so many bytes of events: as long as parsing [`YIELD_AFTER`] usual ones.
const YIELD_AFTER_BYTES: usize = 512 << 10;

/// Commits of a partition fetched ahead: few, because a page often ends early.
const AHEAD: usize = 2;

type Commits<'a> = Peekable<BoxStream<'a, Result<Arc<CommitObject>, StoreError>>>;

/// Most bytes that commits which are fetched ahead are taken for, before they are seen.
const MAX_AHEAD_BYTES: u64 = 32 << 20;

/// What the commits fetched for a page take before any is on it, going by their size so far.
fn bytes_ahead(store: &LogWriter) -> usize {
    let usual = store.sizes().into_iter().map(|size| {
        let commits = store.heads().next_offset(size.partition).max(1);
        size.stored_bytes / commits * (AHEAD as u64 + 1)
    });
    usual.sum::<u64>().min(MAX_AHEAD_BYTES) as usize
}

/// The cursor of a caller; without one the beginning of the log. One that is beyond the known end is
/// refused unless another process has written that far, which is read first.
pub async fn callers_cursor(
    store: &LogWriter,
    text: Option<&str>,
) -> Result<FeedCursor, ServiceError> {
    let (log, heads) = (store.log(), store.heads());
    let cursor = FeedCursor::parse(text, log.partitions(), log.id())?;
    let beyond = cursor.beyond(heads);
    if !beyond.is_empty() {
        let reads = beyond.into_iter().map(|p| store.catch_up_partition(p));
        within_bound(try_join_all(reads)).await?;
    }
    match cursor.refusal_beyond(heads) {
        Some(refusal) => Err(refusal.into()),
        None => Ok(cursor),
    }
}

/// Reads the page after `cursor`, of the types in `types` (of all when empty). Without types it is
/// empty only at the end of the log.
pub async fn read_page(
    store: &LogWriter,
    cursor: FeedCursor,
    bounds: FeedBounds,
    types: &[String],
) -> Result<FeedPage, ServiceError> {
    let mut reading = Reading::new(cursor, bounds, types);
    let mut place = store.read_room().place(bytes_ahead(store)).await;
    let cut_short = loop {
        match reading.read(store, &mut place).await? {
            Ended::Done => break false,
            Ended::CutShort => break true,
            // Nothing that was read is held by now.
            Ended::NoRoom(bytes) => place.wait_for(bytes).await,
        }
    };
    place.shrink(reading.kept);
    Ok(FeedPage {
        scanned: reading.scanned,
        cut_short,
        page: Page {
            items: reading.items,
            total: None,
            next_cursor: Some(reading.cursor.text()?),
            place,
        },
    })
}

/// Why reading a page has ended.
enum Ended {
    /// The page is full, or the log has no more.
    Done,
    /// A limit of what is read for a page is reached, or there is no room for more.
    CutShort,
    /// There is no room for the first commit: so many bytes are needed.
    NoRoom(usize),
}

/// A page that is being read.
struct Reading<'t> {
    cursor: FeedCursor,
    bounds: FeedBounds,
    types: &'t [String],
    /// When [`FeedBounds::time`] is over.
    until: Instant,
    items: Vec<EventView>,
    /// Bytes of its events.
    bytes: usize,
    /// Bytes that its events keep in memory: as they are stored, and as they are answered.
    kept: usize,
    /// Events read.
    scanned: usize,
    /// Bytes of them.
    scanned_bytes: usize,
    /// Both when other tasks were last let run.
    yielded_at: (usize, usize),
    /// Whether the cursor has moved.
    moved: bool,
}

impl<'t> Reading<'t> {
    fn new(cursor: FeedCursor, bounds: FeedBounds, types: &'t [String]) -> Self {
        Self {
            cursor,
            bounds,
            types,
            until: Instant::now() + bounds.time,
            items: Vec::with_capacity(bounds.events.min(256)),
            bytes: 0,
            kept: 0,
            scanned: 0,
            scanned_bytes: 0,
            yielded_at: (0, 0),
            moved: false,
        }
    }

    /// Reads on from the cursor.
    async fn read(
        &mut self,
        store: &LogWriter,
        place: &mut ReadPlace,
    ) -> Result<Ended, ServiceError> {
        let ahead = bytes_ahead(store);
        let mut partitions = commits_from(&self.cursor, store);
        while self.items.len() < self.bounds.events {
            if self.is_at_limit() {
                return Ok(Ended::CutShort);
            }
            self.yield_if_due().await;
            let Some(found) = self.in_time(oldest(&mut partitions)).await else {
                return Ok(Ended::CutShort);
            };
            let Some(p) = found? else {
                break;
            };
            let Some(object) = partitions[p].next().await.transpose()? else {
                break;
            };
            if object.header.kind == CommitKind::Events {
                let needed = ahead + self.kept + 2 * object.bytes.len();
                if !place.try_grow(needed) {
                    return Ok(self.without_room(needed));
                }
                let whole = self.take(&object)?;
                // What did not match takes no room.
                place.shrink(ahead + self.kept);
                if !whole {
                    break;
                }
            }
            let header = &object.header;
            self.cursor.pass_commit(header.partition, header.offset);
            self.moved = true;
        }
        Ok(Ended::Done)
    }

    /// Whether the page may end although the log goes on: it brings the caller on, and he does not
    /// take it for the end. Who gets every event may take an empty page for that.
    fn may_end(&self) -> bool {
        !self.items.is_empty() || (self.moved && !self.types.is_empty())
    }

    fn is_at_limit(&self) -> bool {
        self.may_end()
            && (self.scanned >= self.bounds.scanned
                || self.scanned_bytes >= self.bounds.scanned_bytes
                || Instant::now() >= self.until)
    }

    /// Awaits a read; `None` when the page may end and its time is over first.
    async fn in_time<T>(&self, read: impl Future<Output = T>) -> Option<T> {
        if self.may_end() {
            timeout_at(self.until, read).await.ok()
        } else {
            Some(read.await)
        }
    }

    fn without_room(&self, needed: usize) -> Ended {
        if self.may_end() {
            Ended::CutShort
        } else {
            Ended::NoRoom(needed)
        }
    }

    async fn yield_if_due(&mut self) {
        let (events, bytes) = self.yielded_at;
        let is_due =
            self.scanned - events >= YIELD_AFTER || self.scanned_bytes - bytes >= YIELD_AFTER_BYTES;
        if is_due {
            self.yielded_at = (self.scanned, self.scanned_bytes);
            tokio::task::yield_now().await;
        }
    }

    /// Takes what is wanted of a commit's events; whether the page has room for all of it.
    fn take(&mut self, object: &CommitObject) -> Result<bool, ServiceError> {
        let before = self.bytes;
        let whole = self.take_events(object)?;
        let taken = self.bytes - before;
        self.kept += 2 * match taken {
            0 => 0,
            // Each of its events keeps all of it.
            _ if self.types.is_empty() => object.bytes.len(),
            _ => taken,
        };
        Ok(whole)
    }

    fn take_events(&mut self, object: &CommitObject) -> Result<bool, ServiceError> {
        let first = self.cursor.index_in(object.header.partition);
        for i in first..object.lines.len() {
            let position = object.position(i);
            let envelope = object.line(i);
            let length = envelope.len();
            let full = !self.items.is_empty() && self.bytes + length > self.bounds.bytes;
            if self.items.len() == self.bounds.events || full {
                return Ok(false);
            }
            self.scanned += 1;
            self.scanned_bytes += length;
            if is_wanted(&envelope, self.types)? {
                self.bytes += length;
                // Copied if few events of a large object match, so that the page does not keep all
                // of it in memory.
                let envelope = if self.types.is_empty() {
                    envelope
                } else {
                    Bytes::copy_from_slice(&envelope)
                };
                self.items.push(EventView { position, envelope });
            }
            self.cursor.pass(position);
            self.moved = true;
        }
        Ok(true)
    }
}

/// The commits of each partition from the cursor on, as far as the log is known to reach.
fn commits_from<'s>(cursor: &FeedCursor, store: &'s LogWriter) -> Vec<Commits<'s>> {
    let (log, heads) = (store.log(), store.heads());
    let commits = move |(partition, (from, _))| {
        let to = heads.next_offset(partition).max(from);
        log.commits_ahead(partition, from, to, AHEAD).peekable()
    };
    cursor.places().map(commits).collect()
}

/// The partition whose next commit was formed first. The next ones of all partitions are read at the
/// same time.
async fn oldest(partitions: &mut [Commits<'_>]) -> Result<Option<usize>, ServiceError> {
    poll_fn(|context| {
        let mut oldest = None;
        let mut pending = false;
        for (p, commits) in partitions.iter_mut().enumerate() {
            match Pin::new(commits).poll_peek(context) {
                Poll::Pending => pending = true,
                Poll::Ready(None) => {}
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(ServiceError::from(error.clone())));
                }
                Poll::Ready(Some(Ok(object))) => {
                    let at = object.header.at;
                    if oldest.is_none_or(|(_, first)| at < first) {
                        oldest = Some((p, at));
                    }
                }
            }
        }
        if pending {
            return Poll::Pending;
        }
        Poll::Ready(Ok(oldest.map(|(p, _)| p)))
    })
    .await
}

fn is_wanted(envelope: &[u8], types: &[String]) -> Result<bool, ServiceError> {
    if types.is_empty() {
        return Ok(true);
    }
    let event = Envelope::parse(envelope).map_err(|e| ServiceError::Internal(e.to_string()))?;
    Ok(types.iter().any(|t| *t == event.event_type))
}

#[cfg(test)]
mod tests;
