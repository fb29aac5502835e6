//! The feed of all events: the partitions merged by the time at which their commits were formed.
//! The cursor holds how far each partition was read.

use std::pin::Pin;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::stream::{Peekable, Stream, StreamExt};
use serde::{Deserialize, Serialize};

use super::error::ServiceError;
use super::view::{EventView, Page};
use crate::actors::event_store::LogWriter;
use crate::domain::event::Envelope;
use crate::domain::ids::{Offset, PartitionId, Position};
use crate::domain::refusal::Refusal;
use crate::log::object::{CommitKind, CommitObject};
use crate::store::error::StoreError;
use crate::store::log::log_heads::LogHeads;

/// Limits of one page.
#[derive(Debug, Clone, Copy)]
pub struct FeedBounds {
    /// Events on it at most.
    pub events: usize,
    /// Events read for it at most, so that a filter that matches little cannot make one request
    /// read the whole log: the page is then short, and its cursor continues from there.
    pub scanned: usize,
    /// Bytes of its events at most; a larger event is returned alone. Bounds the memory that one
    /// reader takes.
    pub bytes: usize,
}

impl FeedBounds {
    /// The limits for a page of so many events.
    pub fn page(events: usize) -> Self {
        Self {
            events,
            scanned: 20_000,
            bytes: 8 << 20,
        }
    }
}

/// A page, and why it ended.
#[derive(Debug)]
pub struct FeedPage {
    pub page: Page<EventView>,
    /// Events read for it.
    pub scanned: usize,
    /// Whether it ended at [`FeedBounds::scanned`]: then there may be more to read.
    pub cut_short: bool,
}

/// Yields to other tasks after so many events, because each has to be parsed.
const YIELD_AFTER: usize = 500;

/// Commits of a partition fetched ahead: few, because a page often ends early.
const AHEAD: usize = 2;

/// Version of the cursor's encoding; cursors of other versions are refused.
const FORM: u8 = 1;

/// A reader's place in the feed: for each partition the next event to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedCursor {
    form: u8,
    /// Next commit, and next event in it, by partition.
    next: Vec<(Offset, u32)>,
}

impl FeedCursor {
    /// The beginning of the log.
    pub fn beginning(partitions: u16) -> Self {
        Self {
            form: FORM,
            next: vec![(0, 0); usize::from(partitions)],
        }
    }

    /// So many commits before the known end of each partition.
    pub fn before_end(heads: &LogHeads, partitions: u16, commits: u64) -> Self {
        let next = (0..partitions).map(|p| {
            let end = heads.next_offset(PartitionId(p));
            (end.saturating_sub(commits), 0)
        });
        Self {
            form: FORM,
            next: next.collect(),
        }
    }

    /// Parses a caller's cursor.
    pub fn parse(text: Option<&str>, partitions: u16) -> Result<Self, Refusal> {
        let Some(text) = text else {
            return Ok(Self::beginning(partitions));
        };
        BASE64_URL_SAFE_NO_PAD
            .decode(text)
            .ok()
            .and_then(|bytes| match postcard::take_from_bytes::<Self>(&bytes) {
                // With trailing bytes it is not one that the feed has issued.
                Ok((cursor, [])) => Some(cursor),
                _ => None,
            })
            .filter(|c| c.form == FORM && c.next.len() == usize::from(partitions))
            .ok_or_else(|| {
                Refusal::invalid(
                    "invalid_cursor",
                    "the cursor is not one this feed has given",
                )
            })
    }

    /// The cursor as text for callers.
    pub fn text(&self) -> Result<String, ServiceError> {
        postcard::to_allocvec(self)
            .map(|bytes| BASE64_URL_SAFE_NO_PAD.encode(bytes))
            .map_err(|e| ServiceError::Internal(e.to_string()))
    }

    /// Moves to right after an event.
    pub fn pass(&mut self, event: Position) {
        if let Some(next) = self.next.get_mut(usize::from(event.partition.0)) {
            *next = (event.offset, event.index + 1);
        }
    }

    fn pass_commit(&mut self, partition: usize, offset: Offset) {
        self.next[partition] = (offset + 1, 0);
    }

    /// Whether the log is known to reach beyond this cursor.
    pub fn is_behind(&self, heads: &LogHeads) -> bool {
        self.next
            .iter()
            .zip(0..)
            .any(|((offset, _), p)| *offset < heads.next_offset(PartitionId(p)))
    }
}

type Commits<'a> = Peekable<
    Pin<Box<dyn Stream<Item = Result<std::sync::Arc<CommitObject>, StoreError>> + Send + 'a>>,
>;

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

/// Reads the page after `cursor`, of the types in `types` (of all when empty). A page ends early where
/// there is no room for more of it.
pub async fn read_page(
    store: &LogWriter,
    mut cursor: FeedCursor,
    bounds: FeedBounds,
    types: &[String],
) -> Result<FeedPage, ServiceError> {
    let (log, heads) = (store.log(), store.heads());
    let limit = bounds.events;
    let mut held = bytes_ahead(store);
    let mut place = store.read_room().place(held).await;
    let mut partitions: Vec<Commits<'_>> = cursor
        .next
        .iter()
        .zip(0..)
        .map(|(&(from, _), p)| {
            let partition = PartitionId(p);
            let to = heads.next_offset(partition).max(from);
            let commits: Pin<Box<dyn Stream<Item = _> + Send>> =
                Box::pin(log.commits_ahead(partition, from, to, AHEAD));
            commits.peekable()
        })
        .collect();
    let mut items = Vec::with_capacity(limit.min(256));
    let (mut scanned, mut bytes) = (0, 0);
    let mut next_yield = YIELD_AFTER;
    'page: while items.len() < limit && scanned < bounds.scanned {
        if scanned >= next_yield {
            next_yield = scanned + YIELD_AFTER;
            tokio::task::yield_now().await;
        }
        let Some(p) = oldest(&mut partitions).await? else {
            break;
        };
        let Some(object) = partitions[p].next().await.transpose()? else {
            break;
        };
        if object.header.kind == CommitKind::Events {
            // As it is stored, and as it is answered.
            held += 2 * object.bytes.len();
            if !place.try_grow(held) {
                if !items.is_empty() {
                    break 'page;
                }
                place.wait_for(held).await;
            }
            let first = cursor.next[p].1 as usize;
            for i in first..object.lines.len() {
                let position = object.position(i);
                let envelope = object.line(i);
                let full = !items.is_empty() && bytes + envelope.len() > bounds.bytes;
                if items.len() == limit || full {
                    break 'page;
                }
                scanned += 1;
                if is_wanted(&envelope, types)? {
                    bytes += envelope.len();
                    // Copied if few events of a large object match, so that the page does not keep
                    // all of it in memory.
                    let envelope = if types.is_empty() {
                        envelope
                    } else {
                        Bytes::copy_from_slice(&envelope)
                    };
                    items.push(EventView { position, envelope });
                }
                cursor.pass(position);
            }
        }
        cursor.pass_commit(p, object.header.offset);
    }
    Ok(FeedPage {
        scanned,
        cut_short: scanned >= bounds.scanned && items.len() < limit,
        page: Page {
            items,
            total: None,
            next_cursor: Some(cursor.text()?),
            place,
        },
    })
}

/// The partition whose next commit was formed first.
async fn oldest(partitions: &mut [Commits<'_>]) -> Result<Option<usize>, ServiceError> {
    let mut oldest = None;
    for (p, commits) in partitions.iter_mut().enumerate() {
        match Pin::new(commits).peek().await {
            None => {}
            Some(Err(e)) => return Err(e.clone().into()),
            Some(Ok(object)) => {
                let at = object.header.at;
                if oldest.is_none_or(|(_, first)| at < first) {
                    oldest = Some((p, at));
                }
            }
        }
    }
    Ok(oldest.map(|(p, _)| p))
}

fn is_wanted(envelope: &[u8], types: &[String]) -> Result<bool, ServiceError> {
    if types.is_empty() {
        return Ok(true);
    }
    let event = Envelope::parse(envelope).map_err(|e| ServiceError::Internal(e.to_string()))?;
    Ok(types.iter().any(|t| *t == event.event_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_and_others_are_refused() {
        let mut cursor = FeedCursor::beginning(3);
        cursor.pass("1/7/4".parse().unwrap());
        let text = cursor.text().unwrap();
        assert_eq!(FeedCursor::parse(Some(&text), 3).unwrap(), cursor);
        assert!(FeedCursor::parse(Some(&text), 4).is_err());
        assert!(FeedCursor::parse(Some("rubbish"), 3).is_err());
        assert!(FeedCursor::parse(Some(&format!("{text}AAAA")), 3).is_err());
        assert_eq!(
            FeedCursor::parse(None, 3).unwrap(),
            FeedCursor::beginning(3)
        );
    }

    #[test]
    fn a_cursor_knows_whether_there_is_more() {
        let heads = LogHeads::new(2);
        let mut cursor = FeedCursor::beginning(2);
        assert!(!cursor.is_behind(&heads));
        heads.advance(PartitionId(1), 1);
        assert!(cursor.is_behind(&heads));
        cursor.pass_commit(1, 0);
        assert!(!cursor.is_behind(&heads));
    }

    #[test]
    fn a_cursor_may_begin_at_the_end_or_a_little_before() {
        let heads = LogHeads::new(2);
        heads.advance(PartitionId(1), 7);
        let end = FeedCursor::before_end(&heads, 2, 0);
        assert_eq!(end.next, [(0, 0), (7, 0)]);
        assert!(!end.is_behind(&heads));
        let before = FeedCursor::before_end(&heads, 2, 3);
        assert_eq!(before.next, [(0, 0), (4, 0)]);
    }
}
