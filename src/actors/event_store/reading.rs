//! Reads through a partition's index: they take its lock for a moment and never queue behind the
//! writers.

use super::read_room::ReadPlace;
use super::{LogWriter, Slot, not_open};
use crate::domain::ids::{CommandId, PartitionId, StreamName, Version};
use crate::log::index::Location;
use crate::log::partition::PartitionLog;
use crate::log::summary::CommandOutcome;
use crate::store::error::StoreError;
use crate::store::log::log_reader::StoredEvent;

impl LogWriter {
    /// Version of a stream as this process knows it; `None` while its partition is not open.
    pub fn head(&self, stream: &StreamName) -> Option<Version> {
        let log = self.slot_of(stream).shared.log.read();
        log.as_ref().map(|log| log.index().head(stream.key()))
    }

    /// What became of a recent command, whichever partition it is in: for a command of which only the id
    /// is known, and for an idempotency key, which may have been used for another stream.
    pub fn command(&self, id: CommandId) -> Option<(PartitionId, CommandOutcome)> {
        let found = |slot: &Slot| Some((slot.shared.id, outcome_in(slot, id)?));
        self.slots.iter().find_map(found)
    }

    /// What became of a recent command on this stream.
    pub fn command_on(&self, stream: &StreamName, id: CommandId) -> Option<CommandOutcome> {
        outcome_in(self.slot_of(stream), id)
    }

    /// Calls `f` with a partition's index; `None` while it is not open.
    pub fn with_log<T>(
        &self,
        partition: PartitionId,
        see: impl FnOnce(&PartitionLog) -> T,
    ) -> Option<T> {
        self.slot(partition).shared.log.read().as_ref().map(see)
    }

    /// Events `from..=to` of a stream, as far as this process knows the log.
    pub async fn read(
        &self,
        stream: &StreamName,
        from: Version,
        to: Version,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let locations = self.locate_within(stream, (from, to), false, usize::MAX)?;
        self.read_located(stream, &locations).await
    }

    /// Repeats one read in so many on both stores, beside the request, to compare them.
    fn shadow(&self, stream: &StreamName, locations: &[Location]) {
        let partition = self.log.partition_of(stream);
        if !self.log.is_in_both(partition, locations) || !self.log.shadow().is_due() {
            return;
        }
        let (log, locations) = (self.log.clone(), locations.to_vec());
        // Spawned on the runtime of the request, which may be an arbiter; nobody waits for it.
        tokio::spawn(async move {
            if let Err(error) = log.compare(partition, &locations).await {
                tracing::debug!(%error, "a shadow read could not be made");
            }
        });
    }

    /// Bytes of a stream's last event, an estimate of the size of its state; 0 if unknown.
    pub fn last_event_bytes(&self, stream: &StreamName) -> usize {
        let log = self.slot_of(stream).shared.log.read();
        let Some(index) = log.as_ref().map(PartitionLog::index) else {
            return 0;
        };
        let head = index.head(stream.key());
        let last = index.locate(stream.key(), head, head);
        last.first().map_or(0, |location| location.len as usize)
    }

    /// Events `from..=to` of a stream, cut where they would be more than `max_bytes` (the first one
    /// comes in any case); from the end when `backward`. Read once there is room for them, which they
    /// hold.
    pub async fn read_within(
        &self,
        stream: &StreamName,
        range: (Version, Version),
        backward: bool,
        max_bytes: usize,
    ) -> Result<HeldEvents, StoreError> {
        let locations = self.locate_within(stream, range, backward, max_bytes)?;
        let place = self.read_room.place(bytes_of(&locations)).await;
        let events = self.read_located(stream, &locations).await?;
        Ok(HeldEvents { events, place })
    }

    /// What [`Self::read_within`] reads forward, for who has the room for it.
    pub async fn read_with_room(
        &self,
        stream: &StreamName,
        range: (Version, Version),
        max_bytes: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let locations = self.locate_within(stream, range, false, max_bytes)?;
        self.read_located(stream, &locations).await
    }

    /// Bytes of the largest of these events, and of all of them.
    pub fn event_bytes(
        &self,
        stream: &StreamName,
        range: (Version, Version),
    ) -> Result<(usize, usize), StoreError> {
        let locations = self.locate_within(stream, range, false, usize::MAX)?;
        let sizes = locations.iter().map(|location| location.len as usize);
        Ok((sizes.max().unwrap_or(0), bytes_of(&locations)))
    }

    async fn read_located(
        &self,
        stream: &StreamName,
        locations: &[Location],
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.shadow(stream, locations);
        self.log.read_events(stream, locations).await
    }

    fn locate_within(
        &self,
        stream: &StreamName,
        (from, to): (Version, Version),
        backward: bool,
        max_bytes: usize,
    ) -> Result<Vec<Location>, StoreError> {
        let mut locations = {
            let log = self.slot_of(stream).shared.log.read();
            log.as_ref()
                .map(|log| log.index().locate(stream.key(), from, to))
                .ok_or_else(not_open)?
        };
        let mut bytes = 0;
        let mut fits = |len: u32| {
            let first = bytes == 0;
            bytes += len as usize;
            first || bytes <= max_bytes
        };
        if backward {
            let kept = locations.iter().rev().take_while(|l| fits(l.len)).count();
            locations.drain(..locations.len() - kept);
        } else {
            let kept = locations.iter().take_while(|l| fits(l.len)).count();
            locations.truncate(kept);
        }
        Ok(locations)
    }
}

fn bytes_of(locations: &[Location]) -> usize {
    locations.iter().map(|location| location.len as usize).sum()
}

/// Events, and the room they take.
#[derive(Debug)]
pub struct HeldEvents {
    /// The events.
    pub events: Vec<StoredEvent>,
    /// Their room in memory.
    pub place: ReadPlace,
}

fn outcome_in(slot: &Slot, id: CommandId) -> Option<CommandOutcome> {
    let log = slot.shared.log.read();
    log.as_ref()?.commands().get(id).copied()
}
