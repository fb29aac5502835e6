//! The commit protocol of one partition, as decisions. The shell (`actors::event_store`) does the
//! I/O between them:
//!
//! 1. [`PartitionLog::form`] checks queued appends against the stream heads and puts those that
//!    may commit into one object for offset *n*.
//! 2. The shell puts that object with `If-None-Match: *` until it knows who owns offset *n*.
//! 3. [`PartitionLog::settle`] applies the owner: ours → committed; another writer's → its events
//!    are applied, and our appends are checked again for *n*+1.
//!
//! An append whose outcome stays unknown is dropped: offset *n* is still the next one, so whatever
//! lands there, however late, is read before anything else is written.

use std::collections::VecDeque;

use hashbrown::{HashMap, HashSet};

use super::batch::{
    Append, AppendOutcome, Batch, BatchLimits, Checked, Owner, Settled, Stamp, Unsettled,
};
use super::fence::{Fenced, may_append_in_s3};
use super::index::StreamIndex;
use super::lead::{Lead, Leadership};
use super::object::{
    CommitHeader, CommitKind, CommitObject, ControlRecord, CorruptObject, FORMAT, ObjectHash,
};
use super::recent_commands::RecentCommands;
use super::summary::CommitSummary;
use crate::domain::event::{EncodedEvents, PrincipalTag};
use crate::domain::ids::{CommandId, Epoch, Offset, PartitionId, StreamKey, Version};

/// A partition up to where it was read: its end, its leadership, its index.
#[derive(Debug)]
pub struct PartitionLog {
    id: PartitionId,
    prev: ObjectHash,
    controls: Vec<(Offset, Leadership)>,
    index: StreamIndex,
    unsaved: Vec<CommitSummary>,
    /// Set while the state is being changed; if it is found set, a change was interrupted and the
    /// state is discarded.
    torn: bool,
}

impl PartitionLog {
    /// A partition of which nothing was read yet.
    pub fn new(id: PartitionId) -> Self {
        Self {
            id,
            prev: ObjectHash::NONE,
            controls: Vec::new(),
            index: StreamIndex::default(),
            unsaved: Vec::new(),
            torn: false,
        }
    }

    /// Its number.
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// The offset after the last commit read.
    pub fn next_offset(&self) -> Offset {
        self.index.next_offset()
    }

    /// Hash of the last commit read.
    pub fn prev(&self) -> ObjectHash {
        self.prev
    }

    /// The last control record read; `None` before the first.
    pub fn leadership(&self) -> Option<Leadership> {
        self.controls.last().map(|(_, leadership)| *leadership)
    }

    /// Every control record read so far, with its offset.
    pub fn controls(&self) -> &[(Offset, Leadership)] {
        &self.controls
    }

    /// The last control record before an offset.
    pub fn leadership_at(&self, offset: Offset) -> Option<Leadership> {
        let before = self.controls.iter().rev().find(|(at, _)| *at < offset);
        before.map(|(_, leadership)| *leadership)
    }

    /// Checks whether a batch for the next offset may be put under this authority. For PostgreSQL
    /// its row decides, in the transaction that appends.
    pub fn may_append(&self, authority: Leadership) -> Result<(), Fenced> {
        match authority.lead {
            Lead::S3 => may_append_in_s3(self.leadership(), authority.epoch),
            Lead::Postgres => Ok(()),
        }
    }

    /// The stream index.
    pub fn index(&self) -> &StreamIndex {
        &self.index
    }

    /// The outcomes of recent commands.
    pub fn commands(&self) -> &RecentCommands {
        self.index.commands()
    }

    /// The outcomes of recent commands, to set their limits and tell them the time.
    pub fn commands_mut(&mut self) -> &mut RecentCommands {
        self.index.commands_mut()
    }

    /// Whether a panic interrupted a change, so that the state cannot be trusted.
    pub fn is_torn(&self) -> bool {
        self.torn
    }

    /// Number of commits not covered by a checkpoint.
    pub fn unsaved(&self) -> usize {
        self.unsaved.len()
    }

    /// The summaries of the commits not covered by a checkpoint.
    pub fn unsaved_commits(&self) -> &[CommitSummary] {
        &self.unsaved
    }

    /// Records that a checkpoint covers everything before `offset`.
    pub fn saved_up_to(&mut self, offset: Offset) {
        self.unsaved.retain(|c| c.offset >= offset);
    }

    /// Applies commits from a checkpoint instead of reading them.
    pub fn restore(
        &mut self,
        commits: &[CommitSummary],
        prev: ObjectHash,
        controls: Vec<(Offset, Leadership)>,
    ) {
        for commit in commits {
            self.index.apply(commit);
        }
        self.prev = prev;
        self.controls = controls;
    }

    /// Applies the next object of the log, after checking that it is the next one: its offset, its
    /// `prev`, and that its events follow the stream heads.
    pub fn apply(&mut self, object: &CommitObject) -> Result<(), CorruptObject> {
        let checked = self.prepare(object)?;
        self.take(checked)
    }

    /// The expensive part of [`PartitionLog::apply`], which changes nothing: parsing, checking,
    /// hashing.
    pub fn prepare(&self, object: &CommitObject) -> Result<Checked, CorruptObject> {
        Ok(Checked {
            summary: self.check(object)?,
            prev: object.header.prev,
            hash: object.hash(),
            control: object.control_record()?,
        })
    }

    /// Applies a prepared object, unless the log has moved on since.
    pub fn take(&mut self, checked: Checked) -> Result<(), CorruptObject> {
        if checked.summary.offset != self.next_offset() || checked.prev != self.prev {
            return Err(CorruptObject(format!(
                "partition {} has moved on to offset {} while offset {} was read",
                self.id,
                self.next_offset(),
                checked.summary.offset
            )));
        }
        self.accept(checked);
        Ok(())
    }

    fn check(&self, object: &CommitObject) -> Result<CommitSummary, CorruptObject> {
        let header = &object.header;
        if header.partition != self.id || header.offset != self.next_offset() {
            return Err(CorruptObject(format!(
                "expected partition {} offset {}, the header says partition {} offset {}",
                self.id,
                self.next_offset(),
                header.partition,
                header.offset
            )));
        }
        if header.prev != self.prev {
            return Err(CorruptObject(format!(
                "hash chain broken at partition {} offset {}: expected prev {}, found {}",
                self.id, header.offset, self.prev, header.prev
            )));
        }
        CommitSummary::of(object, |stream| self.index.head(stream))
    }

    fn accept(&mut self, checked: Checked) {
        let offset = checked.summary.offset;
        self.torn = true;
        self.index.apply(&checked.summary);
        self.unsaved.push(checked.summary);
        self.prev = checked.hash;
        if let Some(record) = checked.control {
            self.controls.push((offset, record.into()));
        }
        self.torn = false;
    }

    /// A control object for the next offset.
    pub fn control(&self, stamp: Stamp, record: ControlRecord) -> CommitObject {
        CommitObject::control(
            self.header(stamp, record.epoch, 1, CommitKind::Control),
            record,
        )
    }

    fn header(&self, stamp: Stamp, epoch: Epoch, count: u32, kind: CommitKind) -> CommitHeader {
        CommitHeader {
            format: FORMAT,
            partition: self.id,
            offset: self.next_offset(),
            epoch,
            writer: stamp.writer,
            batch: stamp.batch,
            prev: self.prev,
            at: stamp.at,
            count,
            kind,
        }
    }

    /// Takes appends from the front of `queue`: those that may commit go into the batch, for others
    /// the outcome is returned. Appends that depend on another one in this batch, or that do not
    /// fit, stay in the queue in their order. The batch is for the store that leads under `epoch`,
    /// which [`PartitionLog::may_append`] must have allowed.
    pub fn form<T>(
        &self,
        queue: &mut VecDeque<Append<T>>,
        limits: BatchLimits,
        stamp: Stamp,
        epoch: Epoch,
    ) -> (Vec<(T, AppendOutcome)>, Option<Batch<T>>) {
        let mut verdicts = Vec::new();
        let mut appends: Vec<Append<T>> = Vec::new();
        let mut heads: HashMap<StreamKey, Version> = HashMap::new();
        let mut commands: HashSet<CommandId> = HashSet::new();
        let mut waiting = VecDeque::new();
        let (mut events, mut bytes) = (0, 0);
        let (mut keys, mut keys_by) = (0, HashMap::<PrincipalTag, usize>::new());
        while let Some(append) = queue.pop_front() {
            if let Some(verdict) = self.refusal(&append) {
                verdicts.push((append.reply, verdict));
                continue;
            }
            // A conflict with an append of this batch is not certain before that is committed.
            let pending = heads.get(&append.stream).copied();
            if pending.is_some_and(|head| head != append.expected)
                || commands.contains(&append.command)
            {
                waiting.push_back(append);
                continue;
            }
            if pending.is_none() {
                let actual = self.index.head(append.stream);
                if actual != append.expected {
                    verdicts.push((append.reply, AppendOutcome::Conflict { actual }));
                    continue;
                }
            }
            let (n, size) = (append.events.spans.len(), append.events.bytes.len());
            if !appends.is_empty() && (events + n > limits.events || bytes + size > limits.bytes) {
                queue.push_front(append);
                break;
            }
            if append.request_hash.is_some() {
                let principal = append.events.recorded.principal;
                let own = keys_by.entry(principal).or_default();
                if let Err(full) = self.commands().room_for_key(principal, keys, *own) {
                    verdicts.push((append.reply, AppendOutcome::KeysFull(full)));
                    continue;
                }
                keys += 1;
                *own += 1;
            }
            events += n;
            bytes += size;
            heads.insert(append.stream, append.expected.plus(n));
            commands.insert(append.command);
            appends.push(append);
        }
        while let Some(append) = waiting.pop_back() {
            queue.push_front(append);
        }
        if appends.is_empty() {
            return (verdicts, None);
        }
        let header = self.header(stamp, epoch, events as u32, CommitKind::Events);
        let parts: Vec<&EncodedEvents> = appends.iter().map(|a| &a.events).collect();
        let object = CommitObject::build(header, &parts);
        let batch = Batch {
            object,
            appends,
            rival: None,
        };
        (verdicts, Some(batch))
    }

    /// An outcome that does not depend on the rest of the batch.
    fn refusal<T>(&self, append: &Append<T>) -> Option<AppendOutcome> {
        let outcome = self.commands().get(append.command)?;
        Some(if outcome.request_hash == append.request_hash {
            AppendOutcome::Repeated(*outcome)
        } else {
            AppendOutcome::KeyReused(*outcome)
        })
    }

    /// Does the expensive part of [`PartitionLog::settle`] ahead, which changes nothing of the log:
    /// hashes the batch's object, or checks another writer's. So that the log's lock is held as
    /// briefly as possible.
    pub fn prepare_to_settle<T>(&self, batch: &mut Batch<T>, owner: &Owner) {
        match owner {
            Owner::Found(found) if !batch.is(found) => batch.rival = self.prepare(found).ok(),
            _ => {
                batch.object.hash();
            }
        }
    }

    /// Settles the batch by the object that owns its offset.
    pub fn settle<T>(
        &mut self,
        mut batch: Batch<T>,
        owner: &Owner,
    ) -> Result<Settled<T>, Box<Unsettled<T>>> {
        let rival = match owner {
            Owner::Us => None,
            Owner::Found(found) => (!batch.is(found)).then_some(found),
        };
        if let Some(found) = rival {
            let applied = match batch.rival.take() {
                Some(checked) => self.take(checked),
                None => self.apply(found),
            };
            return match applied {
                Ok(()) => Ok(Settled {
                    verdicts: vec![],
                    again: batch.appends,
                    lost_race: true,
                }),
                Err(corrupt) => Err(Box::new(Unsettled { corrupt, batch })),
            };
        }
        self.accept(Checked {
            summary: batch.summary(),
            prev: batch.object.header.prev,
            hash: batch.object.hash(),
            control: None,
        });
        Ok(Settled {
            verdicts: batch.committed(),
            again: Vec::new(),
            lost_race: false,
        })
    }
}

#[cfg(test)]
#[path = "partition_tests.rs"]
mod tests;
