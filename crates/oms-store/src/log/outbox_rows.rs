//! Derives outbox rows from a commit object.

use crate::error::StoreError;
use crate::ports::delivery::OutboxRow;
use crate::ports::transport::TopicNames;
use oms_core::domain::event::Envelope;
use oms_core::log::object::{CommitKind, CommitObject};
use oms_core::migration::stage::Mode;

/// One row per event of `object`, committed in `mode`; none for a control object, which concerns
/// writers only. `with_bodies`: the rows contain the events, for commits that a bucket may never
/// hold.
pub fn rows_of(
    object: &CommitObject,
    topics: &TopicNames,
    mode: Mode,
    with_bodies: bool,
) -> Result<Vec<OutboxRow>, StoreError> {
    if object.header.kind != CommitKind::Events {
        return Ok(Vec::new());
    }
    let row = |(i, span): (usize, &std::ops::Range<u32>)| {
        let position = object.position(i);
        let line = object.line(i);
        let event = Envelope::parse(&line).map_err(|e| {
            StoreError::corrupt("log", "read event", format!("event {position}: {e}"))
        })?;
        Ok(OutboxRow {
            position,
            event_id: event.id,
            stream: event.stream(),
            version: event.version,
            topic: topics.of(&event.stream_type),
            epoch: object.header.epoch,
            mode,
            start: span.start,
            len: span.end - span.start,
            body: with_bodies.then(|| line.clone()),
            attempts: 0,
            next_attempt: None,
        })
    };
    object.lines.iter().enumerate().map(row).collect()
}
