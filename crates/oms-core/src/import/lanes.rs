//! Keeps each stream in order while many streams are appended to concurrently, and tracks up to
//! where every row that was read is settled.
//!
//! ```text
//!   rows in the order of the source ─▶ a slot each ─▶ a lane per stream ─▶ runs, one a lane at a time
//!                                      └ settled slots at the front ─▶ the checkpoint
//! ```

use std::collections::VecDeque;

use hashbrown::{HashMap, HashSet};

use super::mapping::{ImportedEvent, ParkReason, Rejected, RowRef};
use super::row::Cursor;
use crate::domain::ids::{StreamName, Version};

/// Limits of rows in flight. Everything between reading and settling is in memory.
#[derive(Debug, Clone, Copy)]
pub struct LaneLimits {
    /// Events of one append at most.
    pub run_events: usize,
    /// Bytes of one append at most; a larger event is appended alone.
    pub run_bytes: usize,
    /// Rows at most that were read and are not settled.
    pub rows: usize,
    /// Bytes of their events at most.
    pub bytes: usize,
}

impl Default for LaneLimits {
    fn default() -> Self {
        Self {
            // So that a long stream shares a commit object with others.
            run_events: 500,
            run_bytes: 1 << 20,
            // About what is read in a second at full speed: enough to fill commit objects of every
            // partition while the previous ones are being put.
            rows: 60_000,
            bytes: 96 << 20,
        }
    }
}

/// Advice in the message for rows that are not in the order of their stream.
const OUT_OF_ORDER: &str = ". If its versions are not in the order of the positions (numbers drawn in blocks): leave \
     the source's `order` out, the table is read stream by stream then, and restart";

/// A row's number in the order of reading.
pub type Slot = u64;

/// An event that waits to be appended.
#[derive(Debug, Clone)]
pub struct Queued {
    /// Its row's slot.
    pub slot: Slot,
    /// The event.
    pub event: ImportedEvent,
}

/// Consecutive events of one stream, to be appended together.
#[derive(Debug, Clone)]
pub struct Run {
    /// The stream.
    pub stream: StreamName,
    /// At least one.
    pub events: Vec<Queued>,
}

/// A row to be recorded as parked.
#[derive(Debug, Clone)]
pub struct ParkedRow {
    /// Its slot.
    pub slot: Slot,
    /// Its place in the source.
    pub row: RowRef,
    /// Its stream in this log, if known.
    pub stream: Option<StreamName>,
    /// Why.
    pub reason: ParkReason,
    /// What is wrong, for a person.
    pub detail: String,
}

#[derive(Debug, Default)]
struct Lane {
    queue: VecDeque<Queued>,
    /// Whether a run of it is being appended.
    busy: bool,
    /// The newest version queued or being appended.
    newest: Version,
}

#[derive(Debug)]
struct RowState {
    cursor: Cursor,
    bytes: usize,
    settled: bool,
}

/// The queues of all streams. Pure: the caller appends.
#[derive(Debug)]
pub struct Lanes {
    limits: LaneLimits,
    lanes: HashMap<StreamName, Lane>,
    /// Streams with a parked row, of which nothing more is imported.
    stopped: HashSet<StreamName>,
    ready: VecDeque<StreamName>,
    slots: VecDeque<RowState>,
    /// Slot of the first element of `slots`.
    first: Slot,
    bytes: usize,
    to_park: Vec<ParkedRow>,
    reached: Option<Cursor>,
}

impl Lanes {
    /// `stopped` are the streams with rows parked in earlier runs.
    pub fn new(limits: LaneLimits, stopped: impl IntoIterator<Item = StreamName>) -> Self {
        Self {
            limits,
            lanes: HashMap::new(),
            stopped: stopped.into_iter().collect(),
            ready: VecDeque::new(),
            slots: VecDeque::new(),
            first: 0,
            bytes: 0,
            to_park: Vec::new(),
            reached: None,
        }
    }

    /// Whether more rows may be read.
    pub fn has_room(&self) -> bool {
        self.slots.len() < self.limits.rows && self.bytes < self.limits.bytes
    }

    /// Rows that were read and are not settled.
    pub fn unsettled(&self) -> usize {
        self.slots.len()
    }

    /// Number of streams of which nothing more is imported.
    pub fn stopped(&self) -> usize {
        self.stopped.len()
    }

    /// Adds the next row of the source.
    pub fn offer(&mut self, cursor: Cursor, mapped: Result<ImportedEvent, Box<Rejected>>) {
        let slot = self.first + self.slots.len() as u64;
        let bytes = mapped.as_ref().map_or(0, ImportedEvent::size);
        self.bytes += bytes;
        self.slots.push_back(RowState {
            cursor,
            bytes,
            settled: false,
        });
        match mapped {
            Ok(event) => self.enqueue(Queued { slot, event }),
            Err(rejected) => {
                let Rejected {
                    stream,
                    reason,
                    detail,
                    row,
                } = *rejected;
                if let Some(stream) = &stream {
                    self.stopped.insert(stream.clone());
                }
                self.to_park.push(ParkedRow {
                    slot,
                    row,
                    stream,
                    reason,
                    detail,
                });
            }
        }
    }

    fn enqueue(&mut self, queued: Queued) {
        let (stream, version) = (queued.event.stream.clone(), queued.event.version);
        if self.stopped.contains(&stream) {
            return self.park_after(queued);
        }
        let lane = self.lanes.entry(stream.clone()).or_default();
        // For a lane with nothing in flight, only the log knows which version comes next.
        if lane.newest != Version::NONE && version != lane.newest.plus(1) {
            let newest = lane.newest;
            let reason = if version > newest {
                ParkReason::Gap
            } else {
                ParkReason::Duplicate
            };
            let mut detail = match reason {
                ParkReason::Gap => format!(
                    "version {version} comes right after version {newest}: what lies between them \
                     is not there, or comes later"
                ),
                _ => format!("version {version} comes after version {newest}"),
            };
            if queued.event.position.is_some() {
                detail.push_str(OUT_OF_ORDER);
            }
            self.stopped.insert(stream);
            return self.park(queued, reason, detail);
        }
        lane.newest = version;
        lane.queue.push_back(queued);
        if !lane.busy && lane.queue.len() == 1 {
            self.ready.push_back(stream);
        }
    }

    fn park(&mut self, queued: Queued, reason: ParkReason, detail: String) {
        self.to_park.push(ParkedRow {
            slot: queued.slot,
            row: queued.event.row,
            stream: Some(queued.event.stream),
            reason,
            detail,
        });
    }

    fn park_after(&mut self, queued: Queued) {
        let detail = "a row of its stream before it was parked".to_owned();
        self.park(queued, ParkReason::AfterParked, detail);
    }

    /// The next run to append; its lane gives no other one before [`Lanes::finish`].
    pub fn next_run(&mut self) -> Option<Run> {
        let stream = self.ready.pop_front()?;
        let lane = self.lanes.get_mut(&stream)?;
        let mut events = Vec::with_capacity(lane.queue.len().min(self.limits.run_events));
        let mut bytes = 0;
        while let Some(next) = lane.queue.front() {
            bytes += next.event.size();
            let full = events.len() >= self.limits.run_events || bytes > self.limits.run_bytes;
            if full && !events.is_empty() {
                break;
            }
            events.extend(lane.queue.pop_front());
        }
        lane.busy = true;
        Some(Run { stream, events })
    }

    /// Ends a run: its first `settled` events are in the log. If not all are, `failed` says what is
    /// wrong with the next one, and its stream is stopped there.
    pub fn finish(&mut self, run: Run, settled: usize, failed: Option<(ParkReason, String)>) {
        let Run { stream, events } = run;
        let mut events = events.into_iter();
        for queued in events.by_ref().take(settled) {
            self.settle(queued.slot);
        }
        if let Some((reason, detail)) = failed {
            self.stopped.insert(stream.clone());
            let mut rest = events;
            if let Some(queued) = rest.next() {
                self.park(queued, reason, detail);
            }
            let queue = self.lanes.remove(&stream).map(|lane| lane.queue);
            for queued in rest.chain(queue.into_iter().flatten()) {
                self.park_after(queued);
            }
            return;
        }
        let Some(lane) = self.lanes.get_mut(&stream) else {
            return;
        };
        lane.busy = false;
        if lane.queue.is_empty() {
            self.lanes.remove(&stream);
        } else {
            self.ready.push_back(stream);
        }
    }

    /// Rows to be recorded as parked, at most `max`; each is settled by [`Lanes::parked`].
    pub fn take_parked(&mut self, max: usize) -> Vec<ParkedRow> {
        let n = self.to_park.len().min(max);
        self.to_park.drain(..n).collect()
    }

    /// Settles rows that were recorded as parked.
    pub fn parked(&mut self, rows: &[ParkedRow]) {
        for row in rows {
            self.settle(row.slot);
        }
    }

    fn settle(&mut self, slot: Slot) {
        let at = slot.checked_sub(self.first).map(|at| at as usize);
        if let Some(state) = at.and_then(|at| self.slots.get_mut(at)) {
            state.settled = true;
        }
        while self.slots.front().is_some_and(|state| state.settled) {
            if let Some(state) = self.slots.pop_front() {
                self.first += 1;
                self.bytes -= state.bytes;
                self.reached = Some(state.cursor);
            }
        }
    }

    /// Every row up to this cursor is settled; `None` before the first one is. When all rows are
    /// settled the caller may know a cursor further on.
    pub fn reached(&self) -> Option<&Cursor> {
        self.reached.as_ref()
    }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
