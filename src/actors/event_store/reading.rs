//! Reads through a partition's index: they take its lock for a moment and never queue behind the
//! writers.

use super::{LogWriter, not_open};
use crate::domain::ids::{CommandId, PartitionId, StreamName, Version};
use crate::log::index::{CommandOutcome, Location};
use crate::log::partition::PartitionLog;
use crate::store::error::StoreError;
use crate::store::log::log_reader::StoredEvent;

impl LogWriter {
    /// Version of a stream as this process knows it; `None` while its partition is not open.
    pub fn head(&self, stream: &StreamName) -> Option<Version> {
        let log = self.slot_of(stream).shared.log.read();
        log.as_ref().map(|log| log.index().head(stream.key()))
    }

    /// The outcome of a recent command, in whichever partition it is.
    pub fn command(&self, id: CommandId) -> Option<(PartitionId, CommandOutcome)> {
        self.slots.iter().find_map(|slot| {
            let log = slot.shared.log.read();
            let outcome = log.as_ref()?.index().command(id).copied()?;
            Some((slot.shared.id, outcome))
        })
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
        let locations = {
            let log = self.slot_of(stream).shared.log.read();
            log.as_ref()
                .map(|log| log.index().locate(stream.key(), from, to))
                .ok_or_else(not_open)?
        };
        self.shadow(stream, &locations);
        self.log.read_events(stream, &locations).await
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

    /// Events `from..=to` of a stream, cut after `max_bytes` (the first event is always included);
    /// from the end if `backward`.
    pub async fn read_within(
        &self,
        stream: &StreamName,
        (from, to): (Version, Version),
        backward: bool,
        max_bytes: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
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
        self.shadow(stream, &locations);
        self.log.read_events(stream, &locations).await
    }
}
