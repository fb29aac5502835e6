//! The cursor of the feed: how far a reader has read each partition, of which log. It is text that
//! callers keep and do not read.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::domain::ids::{Offset, PartitionId, Position};
use crate::domain::refusal::Refusal;
use crate::log::identity::LogId;
use crate::service::error::ServiceError;
use crate::store::log::log_heads::LogHeads;

/// First byte of the encoding.
const FORM: u8 = 2;

/// First byte of the encoding without the id of the log, as builds before gave it. It is read as that
/// of this log, and given where the id is not known.
const FORM_WITHOUT_LOG: u8 = 1;

/// A place in a partition: the next commit, and the next event in it.
type Place = (Offset, u32);

/// A reader's place in the feed: for each partition the next event to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedCursor {
    /// The log it is a place in, if known.
    log: Option<LogId>,
    next: Vec<Place>,
}

impl FeedCursor {
    /// The beginning of the log.
    pub fn beginning(partitions: u16, log: Option<LogId>) -> Self {
        let next = vec![(0, 0); usize::from(partitions)];
        Self { log, next }
    }

    /// So many commits before the known end of each partition.
    pub fn before_end(heads: &LogHeads, partitions: u16, commits: u64, log: Option<LogId>) -> Self {
        let next = (0..partitions).map(|p| {
            let end = heads.next_offset(PartitionId(p));
            (end.saturating_sub(commits), 0)
        });
        Self {
            log,
            next: next.collect(),
        }
    }

    /// Parses a caller's cursor. One of another log than `log` is refused.
    pub fn parse(text: Option<&str>, partitions: u16, log: Option<LogId>) -> Result<Self, Refusal> {
        let Some(text) = text else {
            return Ok(Self::beginning(partitions, log));
        };
        let foreign = || {
            Refusal::invalid(
                "invalid_cursor",
                "the cursor is not one this feed has given",
            )
        };
        let cursor = Self::decode(text).ok_or_else(foreign)?;
        if let (Some(theirs), Some(ours)) = (cursor.log, log)
            && theirs != ours
        {
            return Err(of_another_log(format!(
                "the cursor was given by the feed of the log {theirs}, and this is the log {ours}"
            )));
        }
        if cursor.next.len() != usize::from(partitions) {
            return Err(foreign());
        }
        Ok(Self {
            log: log.or(cursor.log),
            ..cursor
        })
    }

    fn decode(text: &str) -> Option<Self> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let (form, rest) = bytes.split_first()?;
        match *form {
            FORM => {
                let (log, next) = whole::<([u8; 16], Vec<Place>)>(rest)?;
                let log = Some(LogId(Uuid::from_bytes(log)));
                Some(Self { log, next })
            }
            FORM_WITHOUT_LOG => {
                let next = whole::<Vec<Place>>(rest)?;
                Some(Self { log: None, next })
            }
            _ => None,
        }
    }

    /// The cursor as text for callers.
    pub fn text(&self) -> Result<String, ServiceError> {
        let encoded = match self.log {
            Some(log) => postcard::to_allocvec(&(FORM, log.0.into_bytes(), &self.next)),
            None => postcard::to_allocvec(&(FORM_WITHOUT_LOG, &self.next)),
        };
        encoded
            .map(|bytes| BASE64_URL_SAFE_NO_PAD.encode(bytes))
            .map_err(|e| ServiceError::Internal(e.to_string()))
    }

    /// Moves to right after an event.
    pub fn pass(&mut self, event: Position) {
        if let Some(next) = self.next.get_mut(usize::from(event.partition.0)) {
            *next = (event.offset, event.index + 1);
        }
    }

    /// Moves to right after a commit.
    pub(super) fn pass_commit(&mut self, partition: PartitionId, offset: Offset) {
        if let Some(next) = self.next.get_mut(usize::from(partition.0)) {
            *next = (offset + 1, 0);
        }
    }

    /// The next commit of each partition, and the next event in it.
    pub(super) fn places(&self) -> impl Iterator<Item = (PartitionId, Place)> {
        let numbered = self.next.iter().zip(0..);
        numbered.map(|(place, p)| (PartitionId(p), *place))
    }

    /// Number of the next event in the next commit of a partition.
    pub(super) fn index_in(&self, partition: PartitionId) -> usize {
        let place = self.next.get(usize::from(partition.0));
        place.map_or(0, |(_, index)| *index as usize)
    }

    /// Whether the log is known to reach beyond this cursor.
    pub fn is_behind(&self, heads: &LogHeads) -> bool {
        self.places()
            .any(|(partition, (offset, _))| offset < heads.next_offset(partition))
    }

    /// The partitions that are not known to reach as far as this cursor.
    pub(super) fn beyond(&self, heads: &LogHeads) -> Vec<PartitionId> {
        self.places()
            .filter(|(partition, place)| *place > (heads.next_offset(*partition), 0))
            .map(|(partition, _)| partition)
            .collect()
    }

    /// The refusal of a cursor that is beyond the end of a partition, if it is.
    pub(super) fn refusal_beyond(&self, heads: &LogHeads) -> Option<Refusal> {
        let partition = *self.beyond(heads).first()?;
        let end = heads.next_offset(partition);
        Some(of_another_log(format!(
            "the cursor is beyond the end of partition {partition} of this log, which ends before \
             offset {end}: another log has given it, or this one has lost its end"
        )))
    }
}

/// What these bytes encode, if nothing follows: then they are not what the feed has given.
fn whole<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}

fn of_another_log(why: String) -> Refusal {
    let message = format!(
        "{why}. Going on from it would pass over events; begin without a cursor to read this log \
         from its start"
    );
    Refusal::invalid("cursor_of_another_log", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Option<LogId> = Some(LogId(Uuid::from_u128(1)));
    const THEIRS: Option<LogId> = Some(LogId(Uuid::from_u128(2)));

    fn code(parsed: Result<FeedCursor, Refusal>) -> &'static str {
        parsed.expect_err("refused").code
    }

    #[test]
    fn cursors_read_back_and_others_are_refused() {
        let mut cursor = FeedCursor::beginning(3, OURS);
        cursor.pass("1/7/4".parse().unwrap());
        let text = cursor.text().unwrap();
        assert_eq!(FeedCursor::parse(Some(&text), 3, OURS).unwrap(), cursor);
        let longer = format!("{text}AAAA");
        for (text, partitions) in [(&*text, 4), ("rubbish", 3), ("", 3), (&*longer, 3)] {
            let parsed = FeedCursor::parse(Some(text), partitions, OURS);
            assert_eq!(code(parsed), "invalid_cursor", "{text}");
        }
        assert_eq!(
            FeedCursor::parse(None, 3, OURS).unwrap(),
            FeedCursor::beginning(3, OURS)
        );
    }

    #[test]
    fn law_9_a_cursor_of_another_log_is_refused() {
        let text = FeedCursor::beginning(3, THEIRS).text().unwrap();
        let parsed = FeedCursor::parse(Some(&text), 3, OURS);
        assert_eq!(code(parsed), "cursor_of_another_log");
        // It is said also where the other log has another number of partitions.
        let parsed = FeedCursor::parse(Some(&text), 4, OURS);
        assert_eq!(code(parsed), "cursor_of_another_log");
        // Not known whose it is: it stays what it is, to be told later.
        let kept = FeedCursor::parse(Some(&text), 3, None).unwrap();
        assert_eq!(kept.text().unwrap(), text);
    }

    #[test]
    fn a_cursor_of_a_build_before_is_taken_and_goes_on_as_one_of_this_log() {
        // Three partitions, the second one read up to the fourth event of its commit 7.
        let old = "AQMAAAcEAAA";
        let mut expected = FeedCursor::beginning(3, OURS);
        expected.pass("1/7/3".parse().unwrap());
        let taken = FeedCursor::parse(Some(old), 3, OURS).unwrap();
        assert_eq!(taken, expected);
        let text = taken.text().unwrap();
        assert_eq!(
            code(FeedCursor::parse(Some(&text), 3, THEIRS)),
            "cursor_of_another_log"
        );
        // What a log without a known id gives is what that build gave.
        let taken = FeedCursor::parse(Some(old), 3, None).unwrap();
        assert_eq!(taken.text().unwrap(), old);
    }

    #[test]
    fn a_cursor_knows_whether_there_is_more() {
        let heads = LogHeads::new(2);
        let mut cursor = FeedCursor::beginning(2, OURS);
        assert!(!cursor.is_behind(&heads));
        heads.advance(PartitionId(1), 1);
        assert!(cursor.is_behind(&heads));
        cursor.pass_commit(PartitionId(1), 0);
        assert!(!cursor.is_behind(&heads));
    }

    #[test]
    fn law_9_a_cursor_beyond_the_end_is_refused() {
        let heads = LogHeads::new(2);
        heads.advance(PartitionId(1), 7);
        let end = FeedCursor::before_end(&heads, 2, 0, OURS);
        assert!(end.refusal_beyond(&heads).is_none());
        let mut inside = end.clone();
        inside.pass("1/6/9".parse().unwrap());
        assert!(inside.refusal_beyond(&heads).is_none());
        for beyond in ["1/7/0", "0/0/0", "1/8/0"] {
            let mut cursor = end.clone();
            cursor.pass(beyond.parse().unwrap());
            let refusal = cursor.refusal_beyond(&heads).expect(beyond);
            assert_eq!(refusal.code, "cursor_of_another_log");
        }
    }

    #[test]
    fn a_cursor_may_begin_at_the_end_or_a_little_before() {
        let heads = LogHeads::new(2);
        heads.advance(PartitionId(1), 7);
        let end = FeedCursor::before_end(&heads, 2, 0, OURS);
        assert_eq!(end.next, [(0, 0), (7, 0)]);
        assert!(!end.is_behind(&heads));
        let before = FeedCursor::before_end(&heads, 2, 3, OURS);
        assert_eq!(before.next, [(0, 0), (4, 0)]);
    }
}
