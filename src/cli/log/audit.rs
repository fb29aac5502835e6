//! `oms log audit`.

use std::cell::RefCell;

use anyhow::Context;
use futures_util::future::join_all;
use serde::Serialize;

use super::bucket::{Bucket, Stopped};
use crate::cli::exit::Exit;
use crate::cli::flags::ConfigFlags;
use crate::cli::output::{Output, table};
use crate::cli::progress::Progress;
use crate::domain::ids::{Offset, PartitionId};
use crate::log::audit::PartitionAudit;

/// Walk the hash chain of every partition and check what the log must be
///
/// Checks that no object is missing, that each carries the hash of the one before it, that epochs
/// never fall, that every event lies in its stream's partition and that the versions of every
/// stream are 1, 2, 3 without gaps. Names the first broken link of each partition and ends with 5.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  oms log audit\n  oms --json log audit | jq .sound")]
pub struct Audit {
    #[command(flatten)]
    config: ConfigFlags,
}

#[derive(Debug, Serialize)]
pub struct AuditReport {
    /// Whether no partition has a broken link.
    pub sound: bool,
    pub partitions: Vec<PartitionReport>,
}

/// The result for one partition, up to the first broken link.
#[derive(Debug, Serialize)]
pub struct PartitionReport {
    pub partition: PartitionId,
    pub objects: Offset,
    pub events: u64,
    pub streams: usize,
    pub bytes: u64,
    /// SHA-256 of the last good object, in hex.
    pub head: String,
    /// The first broken link, if there is one.
    pub broken: Option<Broken>,
}

/// A broken link.
#[derive(Debug, Serialize)]
pub struct Broken {
    /// Offset of the object.
    pub offset: Offset,
    pub key: String,
    pub what: String,
}

impl Audit {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Exit> {
        let bucket = Bucket::open(&self.config.load(Vec::new())?).await?;
        let report = audit(&bucket, output).await?;
        output.result(&report, || describe(&report))?;
        Ok(if report.sound {
            Exit::Done
        } else {
            Exit::NotProven
        })
    }
}

/// Audits every partition of a bucket.
pub async fn audit(bucket: &Bucket, output: Output) -> anyhow::Result<AuditReport> {
    let listed = bucket
        .log
        .partition_ids()
        .map(|partition| async move { Ok((partition, bucket.offsets(partition).await?)) });
    let listed: Vec<(PartitionId, Vec<Offset>)> = join_all(listed)
        .await
        .into_iter()
        .collect::<anyhow::Result<_>>()
        .context("listing the log")?;
    let total = listed.iter().map(|(_, offsets)| offsets.len() as u64).sum();
    let progress = RefCell::new(Progress::new(output, "auditing commit objects", total));
    let audits = listed
        .iter()
        .map(|(partition, offsets)| audit_partition(bucket, *partition, offsets, &progress));
    let partitions: Vec<PartitionReport> = join_all(audits)
        .await
        .into_iter()
        .collect::<anyhow::Result<_>>()?;
    progress.into_inner().finish();
    Ok(AuditReport {
        sound: partitions.iter().all(|p| p.broken.is_none()),
        partitions,
    })
}

async fn audit_partition(
    bucket: &Bucket,
    partition: PartitionId,
    offsets: &[Offset],
    progress: &RefCell<Progress>,
) -> anyhow::Result<PartitionReport> {
    let mut audit = PartitionAudit::new(partition, bucket.log.partitions());
    let to = offsets.last().map_or(0, |last| last + 1);
    let walked = bucket
        .walk(partition, to, |object| {
            progress.borrow_mut().advance(1);
            audit.take(object)
        })
        .await;
    let broken = match walked {
        Ok(()) => None,
        Err(Stopped::Broken { offset, what }) => Some(Broken {
            offset,
            key: crate::log::keys::commit(partition, offset),
            what,
        }),
        Err(Stopped::Store(error)) => return Err(error.into()),
    };
    Ok(PartitionReport {
        partition,
        objects: audit.next_offset(),
        events: audit.events(),
        streams: audit.streams(),
        bytes: audit.bytes(),
        head: audit.head().to_string(),
        broken,
    })
}

fn describe(report: &AuditReport) -> String {
    let rows = report.partitions.iter().map(|p| {
        [
            p.partition.to_string(),
            p.objects.to_string(),
            p.events.to_string(),
            p.streams.to_string(),
            p.bytes.to_string(),
            p.head.get(..16).unwrap_or_default().to_owned(),
        ]
    });
    let header = ["partition", "objects", "events", "streams", "bytes", "head"];
    let mut text = table(header, rows);
    for partition in &report.partitions {
        if let Some(broken) = &partition.broken {
            text.push_str(&format!("BROKEN at {}: {}\n", broken.key, broken.what));
        }
    }
    if report.sound {
        text.push_str("the log is sound\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{Epoch, WriterId};
    use crate::log::identity::LogId;
    use crate::log::keys;
    use crate::log::lead::Lead;
    use crate::log::object::{
        CommitHeader, CommitKind, CommitObject, ControlRecord, FORMAT, ObjectHash,
    };
    use crate::store::adapters::memory::MemoryObjectStore;
    use crate::store::log::log_reader::describe_store;
    use crate::store::ports::object_store::ObjectStore;
    use std::sync::Arc;

    async fn store_with_three_objects() -> Arc<MemoryObjectStore> {
        let store = Arc::new(MemoryObjectStore::default());
        let at = "2026-01-02T03:04:05Z".parse().unwrap();
        describe_store(&*store, 2, at, LogId(uuid::Uuid::nil()))
            .await
            .unwrap();
        let mut prev = ObjectHash::NONE;
        for offset in 0..3 {
            let header = CommitHeader {
                format: FORMAT,
                partition: PartitionId(1),
                offset,
                epoch: Epoch(offset + 1),
                writer: WriterId(uuid::Uuid::nil()),
                batch: offset,
                prev,
                at,
                count: 1,
                kind: CommitKind::Control,
            };
            let epoch = Epoch(offset + 1);
            let lead = Lead::S3;
            let object = CommitObject::control(header, ControlRecord { lead, epoch });
            prev = object.hash();
            let key = keys::commit(PartitionId(1), offset);
            store.put_if_absent(&key, object.bytes).await.unwrap();
        }
        store
    }

    async fn audited(store: Arc<MemoryObjectStore>) -> AuditReport {
        let bucket = Bucket::in_memory(store).await.unwrap();
        audit(&bucket, Output { json: true }).await.unwrap()
    }

    #[tokio::test]
    async fn law_5_the_first_broken_link_is_named_and_a_sound_log_passes() {
        let sound = audited(store_with_three_objects().await).await;
        assert!(sound.sound, "{sound:?}");
        assert_eq!(sound.partitions[1].objects, 3);

        let middle = keys::commit(PartitionId(1), 1);
        let broken = |report: &AuditReport| {
            assert!(!report.sound);
            let broken = report.partitions[1].broken.as_ref().unwrap();
            (broken.offset, broken.key.clone())
        };

        let store = store_with_three_objects().await;
        store.delete(&middle).await.unwrap();
        assert_eq!(broken(&audited(store).await), (1, middle.clone()));

        // A changed byte is found where the next object's `prev` no longer fits.
        let store = store_with_three_objects().await;
        let bytes = store.get(&middle).await.unwrap().unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let forged = text.replacen("03:04:05", "03:04:06", 1);
        assert_ne!(forged, text);
        store.put(&middle, forged.into()).await.unwrap();
        assert_eq!(broken(&audited(store).await).0, 2);

        let store = store_with_three_objects().await;
        store.put(&middle, "rubbish".into()).await.unwrap();
        assert_eq!(broken(&audited(store).await), (1, middle));
    }

    #[tokio::test]
    async fn a_bucket_without_a_log_is_left_as_it_was() {
        let store = Arc::new(MemoryObjectStore::default());
        assert!(Bucket::in_memory(store.clone()).await.is_err());
        assert!(store.list("", None, 10).await.unwrap().is_empty());
    }
}
