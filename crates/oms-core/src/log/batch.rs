//! Appends that share one commit object, and their outcomes: what [`super::partition`] forms and
//! settles.

use jiff::Timestamp;

use super::object::{CommitObject, ControlRecord, CorruptObject, ObjectHash};
use super::recent_commands::KeysFull;
use super::summary::{CommandOutcome, CommitSummary};
use crate::domain::event::EncodedEvents;
use crate::domain::ids::{CommandId, Position, StreamKey, Version, WriterId};

/// One command's events, to be appended.
#[derive(Debug)]
pub struct Append<T> {
    /// The stream.
    pub stream: StreamKey,
    /// The version that the events were decided on.
    pub expected: Version,
    /// The command.
    pub command: CommandId,
    /// Hash of the request, if it had an idempotency key.
    pub request_hash: Option<u64>,
    /// The events, encoded as versions `expected`+1, ….
    pub events: EncodedEvents,
    /// Where the caller waits for the outcome.
    pub reply: T,
}

/// The outcome of an append. Each variant is determinate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOutcome {
    /// Its events are in the log.
    Committed {
        /// Position of its first event.
        position: Position,
        /// Version of its last event.
        version: Version,
    },
    /// The stream has other events at this version; nothing was written.
    Conflict {
        /// The stream's current version.
        actual: Version,
    },
    /// The command was committed before; nothing was written again.
    Repeated(CommandOutcome),
    /// The idempotency key was used for another request.
    KeyReused(CommandOutcome),
    /// No space to remember its idempotency key for the promised time; nothing was written.
    KeysFull(KeysFull),
}

/// Limits of one commit object.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// Events at most.
    pub events: usize,
    /// Bytes of events at most. A larger append would be put alone; the service accepts none.
    pub bytes: usize,
}

/// Appends that share one commit object.
#[derive(Debug)]
pub struct Batch<T> {
    /// The object, ready to be put.
    pub object: CommitObject,
    pub(super) appends: Vec<Append<T>>,
    pub(super) rival: Option<Checked>,
}

impl<T> Batch<T> {
    /// Number of commands in it.
    pub fn commands(&self) -> usize {
        self.appends.len()
    }

    /// Where the callers of its commands wait.
    pub fn replies(&self) -> impl Iterator<Item = &T> {
        self.appends.iter().map(|append| &append.reply)
    }

    /// The summary of the batch, without parsing what was just encoded.
    pub(super) fn summary(&self) -> CommitSummary {
        let header = &self.object.header;
        let mut summary = CommitSummary {
            offset: header.offset,
            first_start: self.object.lines.first().map_or(0, |l| l.start),
            events: Vec::with_capacity(self.object.lines.len()),
            commands: Vec::with_capacity(self.appends.len()),
        };
        let mut index = 0;
        for append in &self.appends {
            let spans = &append.events.spans;
            let lengths = spans.iter().map(|span| span.end - span.start);
            summary
                .events
                .extend(lengths.map(|length| (append.stream.into(), length)));
            summary.commands.push((
                append.command,
                CommandOutcome {
                    stream: append.stream.into(),
                    version: append.expected.plus(spans.len()),
                    events: spans.len() as u32,
                    offset: header.offset,
                    index,
                    request_hash: append.request_hash,
                    at_ms: append.events.recorded.at_ms,
                    principal: append.events.recorded.principal,
                },
            ));
            index += spans.len() as u32;
        }
        summary
    }

    /// The outcomes of its appends once its object is in the log.
    pub(super) fn committed(self) -> Vec<(T, AppendOutcome)> {
        let mut index = 0;
        let object = &self.object;
        let outcome = |append: Append<T>| {
            let events = append.events.spans.len();
            let position = object.position(index);
            index += events;
            let version = append.expected.plus(events);
            (append.reply, AppendOutcome::Committed { position, version })
        };
        self.appends.into_iter().map(outcome).collect()
    }

    pub(super) fn is(&self, found: &CommitObject) -> bool {
        found.header.writer == self.object.header.writer
            && found.header.batch == self.object.header.batch
    }

    /// Gives the batch up: its callers must be told that the outcome is unknown.
    pub fn abandon(self) -> impl Iterator<Item = T> {
        self.appends.into_iter().map(|a| a.reply)
    }

    /// Splits the batch up: nothing of it was written, and its appends have to be formed again.
    pub fn take_back(self) -> Vec<Append<T>> {
        self.appends
    }
}

/// An object that was checked to be the log's next one.
#[derive(Debug)]
pub struct Checked {
    pub(super) summary: CommitSummary,
    pub(super) prev: ObjectHash,
    pub(super) hash: ObjectHash,
    pub(super) control: Option<ControlRecord>,
}

/// The result of [`super::partition::PartitionLog::settle`].
#[derive(Debug)]
pub struct Settled<T> {
    /// Final outcomes.
    pub verdicts: Vec<(T, AppendOutcome)>,
    /// Appends to be formed again, before anything queued later.
    pub again: Vec<Append<T>>,
    /// Whether another writer owned the offset.
    pub lost_race: bool,
}

/// The batch cannot be settled, because the object that owns the offset is damaged.
#[derive(Debug)]
pub struct Unsettled<T> {
    /// What is wrong.
    pub corrupt: CorruptObject,
    /// The batch, whose appends were not written.
    pub batch: Batch<T>,
}

/// Identifies an object as one batch of one writer.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// The writer.
    pub writer: WriterId,
    /// The writer's number for the batch; never used twice.
    pub batch: u64,
    /// When it was formed.
    pub at: Timestamp,
}

/// The owner of an offset.
#[derive(Debug)]
pub enum Owner {
    /// The put reported that it created the object.
    Us,
    /// This object was there.
    Found(CommitObject),
}
