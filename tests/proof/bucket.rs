//! The bucket as a place of the log, as small as it can be.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use oms::domain::ids::{Offset, PartitionId};
use oms::log::index::Location;
use oms::log::keys;
use oms::log::object::CommitObject;
use oms::migration::lead::Lead;
use oms::store::commit_store::CommitStore;
use oms::store::error::StoreError;
use oms::store::object_store::{Created, ObjectStore};

pub struct Bucket(pub Arc<dyn ObjectStore>);

#[async_trait]
impl CommitStore for Bucket {
    fn place(&self) -> Lead {
        Lead::S3
    }

    async fn put(&self, object: &CommitObject) -> Result<Created, StoreError> {
        let key = keys::commit(object.header.partition, object.header.offset);
        self.0.put_if_absent(&key, object.bytes.clone()).await
    }

    async fn copy(&self, objects: &[Arc<CommitObject>]) -> Result<Offset, StoreError> {
        let mut next = 0;
        for object in objects {
            self.put(object).await?;
            next = object.header.offset + 1;
        }
        Ok(next)
    }

    async fn get(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<CommitObject>, StoreError> {
        let corrupt = |what: String| StoreError::corrupt("s3", "get", what);
        let Some(bytes) = self.0.get(&keys::commit(partition, offset)).await? else {
            return Ok(None);
        };
        let object = CommitObject::parse(bytes).map_err(|e| corrupt(e.to_string()))?;
        match (object.header.partition, object.header.offset) == (partition, offset) {
            true => Ok(Some(object)),
            false => Err(corrupt("it says it is another".into())),
        }
    }

    async fn span(
        &self,
        partition: PartitionId,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<CommitObject>, StoreError> {
        stream::iter(from..to)
            .map(|offset| self.get(partition, offset))
            .buffered(32)
            .try_take_while(|found| std::future::ready(Ok(found.is_some())))
            .try_filter_map(|found| std::future::ready(Ok(found)))
            .try_collect()
            .await
    }

    async fn end(&self, partition: PartitionId, from: Offset) -> Result<Offset, StoreError> {
        let mut next = from;
        while self.get(partition, next).await?.is_some() {
            next += 1;
        }
        Ok(next)
    }

    async fn events(
        &self,
        partition: PartitionId,
        places: &[Location],
    ) -> Result<Vec<Bytes>, StoreError> {
        let mut events = Vec::new();
        for place in places {
            let key = keys::commit(partition, place.offset);
            let range = u64::from(place.start)..u64::from(place.start + place.len);
            let event = self.0.get_range(&key, range).await?;
            events.push(event.ok_or_else(|| StoreError::corrupt("s3", "events", "missing"))?);
        }
        Ok(events)
    }
}
