//! Inspection and repair of the log in the bucket.

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::StoreError;
use crate::log::log_objects::RepairObjects;
use crate::ports::log_repair::{LogRepair, MAX_SURVEYED, Mended, Rivals, Stray, Survey};
use crate::ports::object_store::{Created, ObjectInfo};
use oms_core::domain::ids::{Offset, PartitionId};
use oms_core::log::keys;
use oms_core::log::lead::Lead;
use oms_core::log::object::{CommitObject, ObjectHash};
use oms_core::proof::divergence::StrayName;

/// Keys of one page of a listing: S3's maximum.
const PAGE: usize = 1_000;

/// Sorts after every key of a partition.
const LAST: char = '\u{10FFFF}';

/// The bucket as a store to be verified and repaired.
pub struct S3LogRepair {
    store: RepairObjects,
    partitions: u16,
}

impl S3LogRepair {
    /// The log of `partitions` partitions in `store`.
    pub fn new(store: RepairObjects, partitions: u16) -> Self {
        Self { store, partitions }
    }
}

/// The offset of a key that is exactly a commit object's.
fn offset_of(partition: PartitionId, key: &str) -> Option<Offset> {
    keys::parse_commit(key).filter(|offset| keys::commit(partition, *offset) == key)
}

fn stray(info: ObjectInfo, offset: Offset, why: &str) -> Stray {
    Stray {
        name: StrayName::Key(info.key),
        why: why.to_owned(),
        offset,
        event: None,
        digest: None,
        within_object: false,
    }
}

/// Whether a key under `events/` belongs to none of `partitions` partitions.
fn is_foreign(key: &str, partitions: u16) -> bool {
    partition_of(key, partitions).is_none()
}

fn partition_of(key: &str, partitions: u16) -> Option<PartitionId> {
    let number = key.strip_prefix(keys::EVENTS)?.split('/').next()?;
    let partition = PartitionId(number.parse().ok()?);
    (partition.0 < partitions && key.starts_with(&keys::commits(partition))).then_some(partition)
}

#[async_trait]
impl LogRepair for S3LogRepair {
    fn place(&self) -> Lead {
        Lead::S3
    }

    async fn survey(&self, partition: PartitionId, from: Offset) -> Result<Survey, StoreError> {
        let prefix = keys::commits(partition);
        let mut survey = Survey {
            reach: from,
            ..Survey::default()
        };
        let mut after = from.checked_sub(1).map(|o| keys::commit(partition, o));
        loop {
            let page = self.store.list(&prefix, after.as_deref(), PAGE).await?;
            let last = page.len() < PAGE;
            after = page.last().map(|info| info.key.clone()).or(after);
            for info in page {
                match offset_of(partition, &info.key) {
                    Some(offset) => {
                        if offset > survey.reach {
                            survey.gap(survey.reach..offset);
                        }
                        survey.reach = offset + 1;
                    }
                    None => {
                        let at = survey.reach;
                        survey.stray(stray(info, at, "its key is not a commit object's"));
                    }
                }
            }
            if last {
                return Ok(survey);
            }
        }
    }

    async fn foreign(&self, partitions: u16) -> Result<Vec<Stray>, StoreError> {
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        while found.len() < MAX_SURVEYED {
            let page = self
                .store
                .list(keys::EVENTS, after.as_deref(), PAGE)
                .await?;
            let Some(first) = page.first() else {
                break;
            };
            // A partition's own keys are covered by its survey: skip them.
            if let Some(partition) = partition_of(&first.key, partitions) {
                after = Some(format!("{}{LAST}", keys::commits(partition)));
                continue;
            }
            let foreign: Vec<ObjectInfo> = page
                .into_iter()
                .take_while(|info| is_foreign(&info.key, partitions))
                .collect();
            after = foreign.last().map(|info| info.key.clone());
            found.extend(
                foreign
                    .into_iter()
                    .map(|info| stray(info, 0, "it lies in no partition of this store")),
            );
        }
        found.truncate(MAX_SURVEYED);
        Ok(found)
    }

    async fn raw(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<Bytes>, StoreError> {
        self.store.get(&keys::commit(partition, offset)).await
    }

    async fn replace(
        &self,
        object: &CommitObject,
        wrong: Option<ObjectHash>,
        // An object exists under its own key only.
        _: Rivals,
    ) -> Result<Mended, StoreError> {
        let key = keys::commit(object.header.partition, object.header.offset);
        let Some(wrong) = wrong else {
            return match self.store.create(&key, object.bytes.clone()).await? {
                Created::Yes => Ok(Mended::Yes),
                Created::Exists => self.is_now(&key, object).await,
            };
        };
        match self.store.get(&key).await? {
            Some(found) if found == object.bytes => Ok(Mended::Yes),
            Some(found) if ObjectHash::of(&found) == wrong => {
                self.store.replace(&key, object.bytes.clone()).await?;
                Ok(Mended::Yes)
            }
            Some(_) | None => Ok(Mended::Changed),
        }
    }

    async fn remove(
        &self,
        partition: PartitionId,
        offset: Offset,
        wrong: ObjectHash,
    ) -> Result<Mended, StoreError> {
        let key = keys::commit(partition, offset);
        match self.store.get(&key).await? {
            None => Ok(Mended::Yes),
            Some(found) if ObjectHash::of(&found) == wrong => {
                self.store.remove(&key).await?;
                Ok(Mended::Yes)
            }
            Some(_) => Ok(Mended::Changed),
        }
    }

    async fn stray_hash(&self, stray: &StrayName) -> Result<Option<ObjectHash>, StoreError> {
        let StrayName::Key(key) = stray else {
            return Ok(None);
        };
        let found = self.store.get(key).await?;
        Ok(found.map(|bytes| ObjectHash::of(&bytes)))
    }

    async fn quarantine(&self, stray: &StrayName, seen: ObjectHash) -> Result<Mended, StoreError> {
        let StrayName::Key(key) = stray else {
            return Ok(Mended::Changed);
        };
        // Never for an object of the log, whatever the caller believes it to be.
        let offset = keys::parse_commit(key);
        let partition = partition_of(key, self.partitions);
        let is_commit = partition
            .zip(offset)
            .is_some_and(|(p, o)| keys::commit(p, o) == *key);
        if is_commit || !key.starts_with(keys::EVENTS) {
            return Ok(Mended::Changed);
        }
        if let Some(bytes) = self.store.get(key).await? {
            if ObjectHash::of(&bytes) != seen {
                return Ok(Mended::Changed);
            }
            self.store.keep(&keys::quarantined_key(key), bytes).await?;
            self.store.remove(key).await?;
        }
        Ok(Mended::Yes)
    }
}

impl S3LogRepair {
    async fn is_now(&self, key: &str, object: &CommitObject) -> Result<Mended, StoreError> {
        let same = self
            .store
            .get(key)
            .await?
            .is_some_and(|b| b == object.bytes);
        Ok(if same { Mended::Yes } else { Mended::Changed })
    }
}

impl Survey {
    /// Records offsets without an object.
    pub fn gap(&mut self, gap: std::ops::Range<Offset>) {
        if self.gaps.len() < MAX_SURVEYED {
            self.gaps.push(gap);
        } else {
            self.truncated = true;
        }
    }

    /// Records a stray object.
    pub fn stray(&mut self, stray: Stray) {
        if self.strays.len() < MAX_SURVEYED {
            self.strays.push(stray);
        } else {
            self.truncated = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::adapters::memory::MemoryObjectStore;
    use crate::ports::object_store::ObjectStore;

    #[tokio::test]
    async fn a_survey_finds_the_reach_the_gaps_and_what_does_not_belong() {
        let store = Arc::new(MemoryObjectStore::default());
        let p = PartitionId(1);
        let odd = [
            "events/0001/readme.txt",
            "events/0001/7.ndjson",
            "events/0009/00000000000000000000.ndjson",
            "events/x",
        ];
        for offset in [0, 1, 4, 9] {
            store
                .put(&keys::commit(p, offset), "x".into())
                .await
                .unwrap();
        }
        for key in odd {
            store.put(key, "y".into()).await.unwrap();
        }
        let log_repair = S3LogRepair::new(RepairObjects::of(store.clone()), 2);
        let survey = log_repair.survey(p, 0).await.unwrap();
        assert_eq!((survey.reach, survey.gaps), (10, vec![2..4, 5..9]));
        assert_eq!(survey.strays.len(), 2);
        let later = log_repair.survey(p, 5).await.unwrap().gaps;
        assert_eq!((later.len(), later[0].clone()), (1, 5..9));
        let foreign = log_repair.foreign(2).await.unwrap();
        let names: Vec<_> = foreign.iter().map(|s| s.name.clone()).collect();
        assert_eq!(
            names,
            odd[2..]
                .iter()
                .map(|k| StrayName::Key((*k).into()))
                .collect::<Vec<_>>()
        );

        let hashed = async |name: &StrayName| log_repair.stray_hash(name).await.unwrap();
        let name = StrayName::Key(odd[0].into());
        let seen = hashed(&name).await.unwrap();
        // Not what was seen: it stays.
        let another = ObjectHash::of(b"another");
        let changed = log_repair.quarantine(&name, another).await.unwrap();
        assert_eq!(changed, Mended::Changed);
        log_repair.quarantine(&name, seen).await.unwrap();
        assert_eq!(hashed(&name).await, None);
        assert!(store.get(odd[0]).await.unwrap().is_none());
        let kept = keys::quarantined_key(odd[0]);
        assert_eq!(store.get(&kept).await.unwrap().unwrap(), "y");
        // A foreign key is no object of the log, whatever it looks like.
        let foreign = StrayName::Key(odd[2].into());
        let seen = hashed(&foreign).await.unwrap();
        let taken = log_repair.quarantine(&foreign, seen).await.unwrap();
        assert_eq!(taken, Mended::Yes);
        // An object of the log is not taken away as a stray.
        let object = StrayName::Key(keys::commit(p, 0));
        let seen = hashed(&object).await.unwrap_or(another);
        let kept = log_repair.quarantine(&object, seen).await.unwrap();
        assert_eq!(kept, Mended::Changed);
    }
}
