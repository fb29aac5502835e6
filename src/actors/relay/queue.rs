//! Decides what the relay sends next and what follows from the outcomes; pure.
//!
//! Rows are read from the outbox into a bounded window per partition and leave it when the broker
//! has them *and* their deletion is known to have happened; a row that is read again meanwhile is
//! recognised. One *wave* of rows is in flight at a time. Of a stream's rows in the wave only the
//! first delivered ones without a gap count as delivered: rows after one that was not delivered are
//! sent again after it.
//!
//! A refused row blocks its stream and no other: its later rows are not kept in the window, so they
//! cannot fill it, and are read again when the row is settled. A refusal counts as an attempt only
//! if the row was alone in its wave, since brokers refuse whole batches; after the last attempt the
//! row becomes a dead letter and its stream goes on without it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::ids::{PartitionId, Position, StreamName};
use crate::store::ports::delivery::{OutboxRow, Refused};

#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Rows of one partition in memory at most.
    pub window: usize,
    /// Rows in a wave at most.
    pub wave_rows: usize,
    /// Bytes of events in a wave at most; a larger event is sent alone.
    pub wave_bytes: usize,
    /// Refusals after which a row becomes a dead letter.
    pub max_attempts: u32,
    /// Pause after the first refusal; doubles with each.
    pub retry_min: Duration,
    pub retry_max: Duration,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self {
            // Several waves: one in flight, the others prepared.
            window: 4_000,
            // Large enough that the broker limits the rate, not PostgreSQL (measured from 500 on).
            wave_rows: 500,
            wave_bytes: 16 << 20,
            // About two and a half minutes in total: long enough to raise a topic's limit by hand.
            // Outages do not count.
            max_attempts: 10,
            retry_min: Duration::from_secs(1),
            retry_max: Duration::from_secs(30),
        }
    }
}

/// The outcome of sending a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishOutcome {
    /// The broker has acknowledged it.
    Delivered,
    /// The broker refused it, or a batch that it was in.
    Rejected(String),
    /// It was not delivered, for a reason that is not its own.
    Failed,
}

/// What has to be recorded about a settled wave.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settlement {
    pub delivered: Vec<Position>,
    /// Rows that were refused, or became dead letters.
    pub refused: Vec<Refused>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    InFlight,
    /// Delivered; its deletion is not confirmed yet.
    Delivered,
}

#[derive(Debug)]
struct Entry {
    row: OutboxRow,
    state: State,
}

/// A stream blocked by a refused row.
#[derive(Debug, Clone, Copy)]
struct Hold {
    row: Position,
    until: Timestamp,
}

#[derive(Debug, Default)]
struct Lane {
    rows: BTreeMap<Position, Entry>,
    /// Every row up to here was read.
    cursor: Option<Position>,
    holds: HashMap<StreamName, Hold>,
}

#[derive(Debug)]
pub struct SendQueue {
    limits: QueueLimits,
    lanes: BTreeMap<PartitionId, Lane>,
    /// Delivered rows of partitions that were released, still to be deleted.
    orphans: BTreeSet<Position>,
    in_flight: Vec<Position>,
    /// The partition with which the next wave begins.
    turn: u16,
    last_was_single: bool,
}

impl SendQueue {
    pub fn new(limits: QueueLimits) -> Self {
        Self {
            limits,
            lanes: BTreeMap::new(),
            orphans: BTreeSet::new(),
            in_flight: Vec::new(),
            turn: 0,
            last_was_single: false,
        }
    }

    /// Sets the partitions to publish; rows of others are dropped.
    pub fn assign(&mut self, partitions: &[PartitionId]) {
        let ours: HashSet<PartitionId> = partitions.iter().copied().collect();
        for (partition, lane) in &self.lanes {
            if !ours.contains(partition) {
                let delivered = lane
                    .rows
                    .iter()
                    .filter(|(_, e)| e.state == State::Delivered);
                self.orphans
                    .extend(delivered.map(|(position, _)| *position));
            }
        }
        self.lanes.retain(|partition, _| ours.contains(partition));
        for partition in partitions {
            self.lanes.entry(*partition).or_default();
        }
    }

    /// What to read next: partitions whose window is at least half empty, and the position to read
    /// after.
    pub fn wants(&self) -> Vec<(PartitionId, Option<Position>)> {
        self.lanes
            .iter()
            .filter(|(_, lane)| lane.rows.len() <= self.limits.window / 2)
            .map(|(partition, lane)| (*partition, lane.cursor))
            .collect()
    }

    /// How many rows to read of each partition, to stay within the window.
    pub fn read_limit(&self) -> usize {
        self.limits.window - self.limits.window / 2
    }

    /// Adds rows that were read where [`SendQueue::wants`] said. Returns how many are new.
    pub fn loaded(&mut self, rows: Vec<OutboxRow>, now: Timestamp) -> usize {
        let mut new = 0;
        for row in rows {
            let position = row.position;
            let Some(lane) = self.lanes.get_mut(&position.partition) else {
                continue;
            };
            lane.cursor = lane.cursor.max(Some(position));
            let held = lane
                .holds
                .get(&row.stream)
                .is_some_and(|h| h.row < position);
            if held || lane.rows.contains_key(&position) || self.orphans.contains(&position) {
                continue;
            }
            if row.attempts > 0 {
                let until = row.next_attempt.unwrap_or(now);
                lane.hold(&row.stream, position, until);
            }
            let state = State::Waiting;
            lane.rows.insert(position, Entry { row, state });
            new += 1;
        }
        new
    }

    /// Reads every partition from the beginning again, to find rows behind the cursor.
    pub fn sweep(&mut self) {
        for lane in self.lanes.values_mut() {
            lane.cursor = None;
        }
    }

    /// The rows to send now, in flight until [`SendQueue::settle`]. Empty while others are in
    /// flight.
    pub fn next_wave(&mut self, now: Timestamp) -> Vec<OutboxRow> {
        if !self.in_flight.is_empty() {
            return Vec::new();
        }
        // Rows that have to be sent alone must not starve the others, nor be starved by them.
        let single = self.due(now);
        let mut wave = Vec::new();
        if self.last_was_single || single.is_none() {
            wave = self.in_company();
        }
        self.last_was_single = false;
        if wave.is_empty() {
            self.last_was_single = single.is_some();
            wave.extend(single);
        }
        self.in_flight.clone_from(&wave);
        wave.iter()
            .filter_map(|position| {
                let entry = self.entry(position)?;
                entry.state = State::InFlight;
                Some(entry.row.clone())
            })
            .collect()
    }

    /// The rows that will probably be sent after those in flight.
    pub fn preview(&self) -> Vec<&OutboxRow> {
        let entries = self.lanes.values().flat_map(|lane| lane.rows.values());
        let waiting = entries
            .filter(|e| e.state == State::Waiting)
            .map(|e| &e.row);
        let mut bytes = 0;
        waiting
            .take(self.limits.wave_rows)
            .take_while(|row| {
                bytes += row.len as usize;
                bytes <= self.limits.wave_bytes
            })
            .collect()
    }

    fn due(&self, now: Timestamp) -> Option<Position> {
        // A row that is due later than any pause allows was blocked by a clock, ours or another
        // node's, that has been set back since.
        let latest = now + self.limits.retry_max;
        self.lanes.values().find_map(|lane| {
            lane.holds.iter().find_map(|(stream, hold)| {
                let first = || {
                    let mut before = lane.rows.range(..hold.row);
                    !before.any(|(_, e)| e.row.stream == *stream && e.state == State::Waiting)
                };
                let waits = hold.until > now && hold.until <= latest;
                (!waits && lane.rows.contains_key(&hold.row) && first()).then_some(hold.row)
            })
        })
    }

    fn in_company(&mut self) -> Vec<Position> {
        let mut wave = Vec::new();
        let mut bytes = 0;
        let turn = PartitionId(self.turn);
        let lanes = self.lanes.range(turn..).chain(self.lanes.range(..turn));
        'full: for (partition, lane) in lanes {
            self.turn = partition.0.wrapping_add(1);
            for (position, entry) in &lane.rows {
                let held = lane.holds.get(&entry.row.stream);
                if entry.state != State::Waiting || held.is_some_and(|h| h.row <= *position) {
                    continue;
                }
                bytes += entry.row.len as usize;
                let full = wave.len() >= self.limits.wave_rows || bytes > self.limits.wave_bytes;
                if full && !wave.is_empty() {
                    break 'full;
                }
                wave.push(*position);
            }
        }
        wave
    }

    fn entry(&mut self, position: &Position) -> Option<&mut Entry> {
        let lane = self.lanes.get_mut(&position.partition)?;
        lane.rows.get_mut(position)
    }

    /// Settles the wave in flight; one outcome for each of its rows, in its order.
    pub fn settle(&mut self, verdicts: Vec<PublishOutcome>, now: Timestamp) -> Settlement {
        let wave = std::mem::take(&mut self.in_flight);
        let alone = wave.len() == 1;
        let mut settlement = Settlement::default();
        let mut broken: HashSet<StreamName> = HashSet::new();
        let missing = std::iter::repeat(PublishOutcome::Failed);
        for (position, verdict) in wave.into_iter().zip(verdicts.into_iter().chain(missing)) {
            let Some(lane) = self.lanes.get_mut(&position.partition) else {
                if verdict == PublishOutcome::Delivered {
                    self.orphans.insert(position);
                    settlement.delivered.push(position);
                }
                continue;
            };
            let Some(entry) = lane.rows.get_mut(&position) else {
                continue;
            };
            let stream = entry.row.stream.clone();
            if verdict == PublishOutcome::Delivered && !broken.contains(&stream) {
                entry.state = State::Delivered;
                settlement.delivered.push(position);
                lane.release(&stream, position);
                continue;
            }
            entry.state = State::Waiting;
            let first = broken.insert(stream.clone());
            let PublishOutcome::Rejected(reason) = verdict else {
                continue;
            };
            if !alone {
                if first {
                    lane.hold(&stream, position, now);
                }
                continue;
            }
            entry.row.attempts += 1;
            let attempts = entry.row.attempts;
            let next_attempt =
                (attempts < self.limits.max_attempts).then(|| now + self.limits.pause(attempts));
            match next_attempt {
                Some(until) => lane.hold(&stream, position, until),
                None => {
                    lane.rows.remove(&position);
                    lane.release(&stream, position);
                }
            }
            settlement.refused.push(Refused {
                position,
                reason,
                attempts,
                next_attempt,
            });
        }
        settlement
    }

    /// Delivered rows that may still be in the outbox.
    pub fn undeleted(&self) -> Vec<Position> {
        let ours = self.lanes.values().flat_map(|lane| {
            let delivered = lane
                .rows
                .iter()
                .filter(|(_, e)| e.state == State::Delivered);
            delivered.map(|(position, _)| *position)
        });
        ours.chain(self.orphans.iter().copied()).collect()
    }

    /// Confirms that these rows are deleted.
    pub fn deleted(&mut self, positions: &[Position]) {
        for position in positions {
            self.orphans.remove(position);
            if let Some(lane) = self.lanes.get_mut(&position.partition) {
                lane.rows.remove(position);
            }
        }
    }

    /// When the next blocked row may be sent.
    pub fn next_due(&self) -> Option<Timestamp> {
        let holds = self.lanes.values().flat_map(|lane| lane.holds.values());
        holds.map(|hold| hold.until).min()
    }

    pub fn len(&self) -> usize {
        self.lanes.values().map(|lane| lane.rows.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Lane {
    /// Blocks the stream until `row` is settled; its later rows leave the window.
    fn hold(&mut self, stream: &StreamName, row: Position, until: Timestamp) {
        self.holds.insert(stream.clone(), Hold { row, until });
        self.rows.retain(|position, entry| {
            *position <= row || entry.row.stream != *stream || entry.state != State::Waiting
        });
    }

    /// `row` is settled: if it blocked its stream, the rows after it are read again.
    fn release(&mut self, stream: &StreamName, row: Position) {
        if self.holds.get(stream).is_some_and(|hold| hold.row == row) {
            self.holds.remove(stream);
            self.cursor = self.cursor.min(Some(row));
        }
    }
}

impl QueueLimits {
    fn pause(&self, attempts: u32) -> Duration {
        let doubled = self
            .retry_min
            .saturating_mul(1 << attempts.saturating_sub(1).min(16));
        doubled.min(self.retry_max)
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
