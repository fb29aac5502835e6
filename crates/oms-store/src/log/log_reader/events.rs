//! Reads single events from the locations in the index.

use bytes::Bytes;
use jiff::Timestamp;

use super::{LogReader, corrupt, missing, not_there};
use crate::error::StoreError;
use oms_core::domain::event::Envelope;
use oms_core::domain::ids::{Offset, PartitionId, Position, StreamName, Version};
use oms_core::log::index::Location;
use oms_core::log::lead::Lead;

/// An event as stored in the log.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    /// Its position.
    pub position: Position,
    /// Its version in its stream.
    pub version: Version,
    /// Its envelope's bytes.
    pub bytes: Bytes,
}

impl StoredEvent {
    /// When it was recorded.
    pub fn recorded_at(&self) -> Result<Timestamp, StoreError> {
        Envelope::parse(&self.bytes)
            .map(|event| event.time)
            .map_err(|e| corrupt("read event", e.to_string()))
    }
}

impl LogReader {
    /// Reads a stream's events from the locations in the index. Verifies that each is the expected
    /// event.
    pub async fn read_events(
        &self,
        stream: &StreamName,
        locations: &[Location],
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let partition = self.partition_of(stream);
        let mut bytes: Vec<Option<Bytes>> = locations
            .iter()
            .map(|at| {
                let object = self.cache.get(partition, at.offset)?;
                let end = (at.start + at.len) as usize;
                (object.bytes.len() >= end).then(|| object.bytes.slice(at.start as usize..end))
            })
            .collect();
        let wanted: Vec<Location> = locations
            .iter()
            .zip(&bytes)
            .filter(|(_, found)| found.is_none())
            .map(|(at, _)| *at)
            .collect();
        let mut read = self.events_at(partition, &wanted).await?.into_iter();
        for slot in &mut bytes {
            if slot.is_none() {
                *slot = read.next();
            }
        }
        locations
            .iter()
            .zip(bytes)
            .map(|(at, bytes)| {
                let bytes = bytes.ok_or_else(|| missing(partition, at.offset))?;
                verify(stream, at, &bytes)?;
                let position = Position {
                    partition,
                    offset: at.offset,
                    index: at.index,
                };
                Ok(StoredEvent {
                    position,
                    version: at.version,
                    bytes,
                })
            })
            .collect()
    }

    async fn events_at(
        &self,
        partition: PartitionId,
        places: &[Location],
    ) -> Result<Vec<Bytes>, StoreError> {
        let Some(last) = places.iter().map(|at| at.offset).max() else {
            return Ok(Vec::new());
        };
        self.read_known(partition, last, |place| {
            self.events_in(place, partition, places)
        })
        .await
    }

    async fn events_in(
        &self,
        place: Lead,
        partition: PartitionId,
        places: &[Location],
    ) -> Result<Vec<Bytes>, StoreError> {
        match self.place(place) {
            Some(store) => store.events(partition, places).await,
            None => Err(not_there(
                partition,
                places.first().map_or(0, |at| at.offset),
            )),
        }
    }

    /// Reads bytes of one commit object, for the owner of an event's address.
    pub async fn read_range(
        &self,
        partition: PartitionId,
        offset: Offset,
        start: u32,
        len: u32,
    ) -> Result<Bytes, StoreError> {
        let range = start as usize..(start + len) as usize;
        if let Some(object) = self.cache.get(partition, offset)
            && object.bytes.len() >= range.end
        {
            return Ok(object.bytes.slice(range));
        }
        self.read_known(partition, offset, |place| {
            let range = range.clone();
            async move {
                match self.place(place) {
                    Some(_) if place == Lead::S3 => {
                        let range = range.start as u64..range.end as u64;
                        self.s3.range(partition, offset, range).await
                    }
                    Some(store) => match store.get(partition, offset).await? {
                        Some(object) if object.bytes.len() >= range.end => {
                            Ok(object.bytes.slice(range))
                        }
                        _ => Err(not_there(partition, offset)),
                    },
                    None => Err(not_there(partition, offset)),
                }
            }
        })
        .await
    }
}

fn verify(stream: &StreamName, at: &Location, bytes: &[u8]) -> Result<(), StoreError> {
    let wrong = |what: String| {
        Err(corrupt(
            "read stream",
            format!("{stream} version {}: {what}", at.version),
        ))
    };
    match Envelope::parse(bytes) {
        Err(e) => wrong(e.to_string()),
        Ok(event)
            if event.version != at.version
                || event.stream_type != stream.stream_type()
                || event.stream_id != stream.id() =>
        {
            wrong(format!(
                "found {} version {}",
                event.stream(),
                event.version
            ))
        }
        Ok(_) => Ok(()),
    }
}
