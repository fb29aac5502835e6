//! A log that is written the way the service writes it, in a bucket in memory.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::new_uuid;
use bytes::Bytes;
use oms_core::domain::event::{NewEvent, Provenance, encode};
use oms_core::domain::ids::{
    CommandId, Epoch, EventId, EventType, PartitionId, StreamName, StreamType, Version, WriterId,
};
use oms_core::log::batch::{Append, BatchLimits, Owner, Stamp};
use oms_core::log::lead::Lead;
use oms_core::log::object::ControlRecord;
use oms_core::log::partition::PartitionLog;
use oms_store::adapters::memory::MemoryObjectStore;
use oms_store::log::log_heads::LogHeads;
use oms_store::log::log_reader::LogReader;
use oms_store::ports::commit_store::CommitStore as _;

const LIMITS: BatchLimits = BatchLimits {
    events: 1_000,
    bytes: 64 << 20,
};

/// The log and whoever writes it.
pub struct Log {
    /// The bucket.
    pub objects: Arc<MemoryObjectStore>,
    /// The log.
    pub log: Arc<LogReader>,
    /// How far it is known to reach.
    pub heads: Arc<LogHeads>,
    writers: tokio::sync::Mutex<Writers>,
}

struct Writers {
    partitions: Vec<PartitionLog>,
    versions: HashMap<StreamName, u64>,
    writer: WriterId,
    batch: u64,
    written: Vec<(StreamName, Version, Bytes)>,
}

/// The plain stream `order/{n}`.
pub fn order(n: usize) -> StreamName {
    StreamName::new(&StreamType::new("order").expect("type"), &[&n.to_string()]).expect("name")
}

impl Log {
    /// A new log; each partition begins with a control record.
    pub async fn new(partitions: u16) -> Self {
        let objects = Arc::new(MemoryObjectStore::default());
        let log = LogReader::new(objects.clone(), "bucket".into(), partitions, 64 << 20);
        let log = Self {
            objects,
            log: Arc::new(log),
            heads: Arc::new(LogHeads::new(partitions)),
            writers: tokio::sync::Mutex::new(Writers {
                partitions: (0..partitions)
                    .map(|p| PartitionLog::new(PartitionId(p)))
                    .collect(),
                versions: HashMap::new(),
                writer: WriterId(new_uuid()),
                batch: 0,
                written: Vec::new(),
            }),
        };
        let mut writers = log.writers.lock().await;
        for p in 0..usize::from(partitions) {
            let record = ControlRecord {
                lead: Lead::S3,
                epoch: Epoch(1),
            };
            let stamp = writers.stamp();
            let object = writers.partitions[p].control(stamp, record);
            log.log.s3().put(&object).await.expect("put");
            writers.partitions[p].apply(&object).expect("applied");
        }
        drop(writers);
        log
    }

    /// The same bucket, opened by a process that remembers nothing of it: after objects of it were
    /// lost, say.
    pub async fn reopened(&self) -> Self {
        let count = self.log.partitions();
        let log = LogReader::new(self.objects.clone(), "bucket".into(), count, 64 << 20);
        let heads = LogHeads::new(count);
        let mut partitions = Vec::new();
        for p in log.partition_ids() {
            let partition = log.open(p, jiff::Timestamp::MAX).await.expect("opened");
            heads.advance(p, partition.next_offset());
            partitions.push(partition);
        }
        let writers = self.writers.lock().await;
        let head = |stream: &StreamName| {
            let partition = &partitions[usize::from(log.partition_of(stream).0)];
            partition.index().head(stream.key()).0
        };
        let versions: HashMap<StreamName, u64> =
            (writers.versions.keys().map(|s| (s.clone(), head(s)))).collect();
        let mut written = writers.written.clone();
        written.retain(|(stream, version, _)| version.0 <= versions[stream]);
        let writers = Writers {
            partitions,
            versions,
            writer: WriterId(new_uuid()),
            batch: 0,
            written,
        };
        Self {
            objects: self.objects.clone(),
            log: Arc::new(log),
            heads: Arc::new(heads),
            writers: tokio::sync::Mutex::new(writers),
        }
    }

    /// Commits one event of `data` to each stream, in as few objects as possible.
    pub async fn append(&self, streams: &[StreamName], data: &str) {
        self.append_quietly(streams, data).await;
        let writers = self.writers.lock().await;
        for partition in &writers.partitions {
            self.heads.advance(partition.id(), partition.next_offset());
        }
    }

    /// The same, as another process would: nobody here is told.
    pub async fn append_quietly(&self, streams: &[StreamName], data: &str) {
        let mut writers = self.writers.lock().await;
        let mut queues: HashMap<PartitionId, VecDeque<Append<()>>> = HashMap::new();
        for stream in streams {
            let append = writers.event(stream, data);
            queues
                .entry(self.log.partition_of(stream))
                .or_default()
                .push_back(append);
        }
        for (partition, mut queue) in queues {
            let p = usize::from(partition.0);
            while !queue.is_empty() {
                let stamp = writers.stamp();
                let (refused, batch) =
                    writers.partitions[p].form(&mut queue, LIMITS, stamp, Epoch(1));
                assert!(refused.is_empty(), "{refused:?}");
                let batch = batch.expect("a batch");
                self.log.s3().put(&batch.object).await.expect("put");
                writers.partitions[p]
                    .settle(batch, &Owner::Us)
                    .expect("settled");
            }
        }
    }

    /// Every event committed, in order of committing.
    pub async fn written(&self) -> Vec<(StreamName, Version, Bytes)> {
        self.writers.lock().await.written.clone()
    }
}

impl Writers {
    fn stamp(&mut self) -> Stamp {
        self.batch += 1;
        Stamp {
            writer: self.writer,
            batch: self.batch,
            at: crate::now(),
        }
    }

    fn event(&mut self, stream: &StreamName, data: &str) -> Append<()> {
        let version = self.versions.entry(stream.clone()).or_default();
        let expected = Version(*version);
        *version += 1;
        let event = NewEvent {
            event_type: EventType::new("Happened").expect("type"),
            schema_version: 1,
            data: serde_json::value::to_raw_value(data).expect("JSON"),
            metadata: None,
        };
        let command = CommandId(new_uuid());
        let provenance = Provenance {
            command_id: command,
            correlation_id: "test".into(),
            actor: "test".into(),
            trace: None,
            idempotency: None,
            time: crate::now(),
        };
        let events = encode(stream, expected, &[event], &provenance, || {
            EventId(new_uuid())
        });
        self.written
            .push((stream.clone(), expected.plus(1), events.event(0)));
        Append {
            stream: stream.key(),
            expected,
            command,
            request_hash: None,
            events,
            reply: (),
        }
    }
}
