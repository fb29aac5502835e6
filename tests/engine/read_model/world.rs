//! A log in memory with a writer, and a read model in a database of its own.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use oms::actors::projection::{
    BatchLimits, ProjectionDeps, ProjectionProgress, ProjectionSettings,
};
use oms::clock::new_uuid;
use oms::domain::event::{EncodedEvents, NewEvent, Provenance, encode};
use oms::domain::ids::{
    ClassId, CommandId, DatabaseName, Epoch, EventId, EventType, InstanceId, PartitionId, Position,
    StreamName, Version, WriterId,
};
use oms::log::lead::Lead;
use oms::log::object::{CommitHeader, CommitKind, CommitObject, ControlRecord, FORMAT, ObjectHash};
use oms::store::adapters::memory::MemoryObjectStore;
use oms::store::adapters::postgres::PostgresSettings;
use oms::store::adapters::postgres::read_model::PostgresReadModel;
use oms::store::halts::Halts;
use oms::store::log::log_heads::LogHeads;
use oms::store::log::log_reader::LogReader;
use oms::store::ports::commit_store::CommitStore as _;
use oms::store::ports::read_model::{InstanceQuery, ListQuery, ReadModel};
use serde_json::{Value, json};

pub const PARTITIONS: u16 = 3;

pub fn db(name: &str) -> DatabaseName {
    DatabaseName::new(name).expect("a database name")
}

pub fn class(id: &str) -> ClassId {
    ClassId::new(id).expect("a class id")
}

pub fn instance(id: &str) -> InstanceId {
    InstanceId::new(id).expect("an instance id")
}

/// Writes the log as the event store would.
pub struct Writer {
    pub objects: Arc<MemoryObjectStore>,
    pub log: Arc<LogReader>,
    pub heads: Arc<LogHeads>,
    prev: Vec<ObjectHash>,
    versions: HashMap<StreamName, Version>,
    pending: BTreeMap<PartitionId, Vec<EncodedEvents>>,
    second: i64,
}

impl Writer {
    /// An empty log; each partition begins with a control object.
    pub async fn new() -> Self {
        let store = Arc::new(MemoryObjectStore::default());
        let log = LogReader::new(store.clone(), "test".into(), PARTITIONS, 1 << 20);
        let mut writer = Self {
            objects: store,
            log: Arc::new(log),
            heads: Arc::new(LogHeads::new(PARTITIONS)),
            prev: vec![ObjectHash::NONE; usize::from(PARTITIONS)],
            versions: HashMap::new(),
            pending: BTreeMap::new(),
            second: 0,
        };
        for partition in (0..PARTITIONS).map(PartitionId) {
            let record = ControlRecord {
                lead: Lead::S3,
                epoch: Epoch(1),
            };
            let header = writer.header(partition, 1, CommitKind::Control);
            writer.put(CommitObject::control(header, record)).await;
        }
        writer
    }

    fn header(&self, partition: PartitionId, count: u32, kind: CommitKind) -> CommitHeader {
        CommitHeader {
            format: FORMAT,
            partition,
            offset: self.heads.next_offset(partition),
            epoch: Epoch(1),
            writer: WriterId(new_uuid()),
            batch: 0,
            prev: self.prev[usize::from(partition.0)],
            at: self.now(),
            count,
            kind,
        }
    }

    /// When the last event was recorded.
    pub fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_second(1_700_000_000 + self.second).expect("a time")
    }

    async fn put(&mut self, object: CommitObject) {
        let (partition, next) = (object.header.partition, object.header.offset + 1);
        self.prev[usize::from(partition.0)] = object.hash();
        self.log.s3().put(&object).await.expect("put");
        self.heads.advance(partition, next);
    }

    /// Adds an event to the commit that is being formed; gives its version.
    pub fn event(&mut self, stream: &StreamName, event_type: &str, data: &Value) -> u64 {
        self.raw_event(stream, event_type, &data.to_string())
    }

    /// The same with data as text.
    pub fn raw_event(&mut self, stream: &StreamName, event_type: &str, data: &str) -> u64 {
        self.second += 1;
        let event = NewEvent {
            event_type: EventType::new(event_type).expect("an event type"),
            schema_version: 1,
            data: serde_json::value::RawValue::from_string(data.to_owned()).expect("JSON"),
            metadata: None,
        };
        let provenance = Provenance {
            command_id: CommandId(new_uuid()),
            correlation_id: "test".into(),
            actor: "ann".into(),
            trace: None,
            idempotency: None,
            time: self.now(),
        };
        let version = self.versions.entry(stream.clone()).or_default();
        let encoded = encode(stream, *version, &[event], &provenance, || {
            EventId(new_uuid())
        });
        *version = version.plus(1);
        let version = version.0;
        let partition = self.log.partition_of(stream);
        self.pending.entry(partition).or_default().push(encoded);
        version
    }

    /// Commits what was added, one object for each partition; gives the position of the last event.
    pub async fn commit(&mut self) -> Option<Position> {
        let mut last = None;
        for (partition, parts) in std::mem::take(&mut self.pending) {
            let parts: Vec<&EncodedEvents> = parts.iter().collect();
            let header = self.header(partition, parts.len() as u32, CommitKind::Events);
            let object = CommitObject::build(header, &parts);
            last = Some(object.position(parts.len() - 1));
            self.put(object).await;
        }
        last
    }

    /// Has a partition's next commit be the one at an offset, on top of what is there: its end was
    /// lost.
    pub async fn cut(&mut self, partition: PartitionId, next: u64) {
        let heads = LogHeads::new(PARTITIONS);
        for p in (0..PARTITIONS).map(PartitionId) {
            let head = self.heads.next_offset(p);
            heads.advance(p, if p == partition { next } else { head });
        }
        self.heads = Arc::new(heads);
        // One that does not remember what is gone.
        let log = LogReader::new(self.objects.clone(), "test".into(), PARTITIONS, 1 << 20);
        self.log = Arc::new(log);
        let last = self.log.commit(partition, next - 1).await.expect("read");
        self.prev[usize::from(partition.0)] = last.expect("there").hash();
    }

    pub fn create_database(&mut self, name: &str) -> u64 {
        let data = json!({"description": format!("about {name}")});
        self.event(&StreamName::database(&db(name)), "DatabaseCreated", &data)
    }

    pub fn delete_database(&mut self, name: &str) {
        self.event(
            &StreamName::database(&db(name)),
            "DatabaseDeleted",
            &json!({}),
        );
    }

    pub fn create_class(&mut self, name: &str, id: &str, database_incarnation: u64) -> u64 {
        let stream = StreamName::class(&db(name), &class(id));
        let data = json!({"definition": {"id": id, "label": id},
                          "database_incarnation": database_incarnation});
        self.event(&stream, "ClassCreated", &data)
    }

    pub fn class_event(&mut self, name: &str, id: &str, event_type: &str, data: &Value) {
        let stream = StreamName::class(&db(name), &class(id));
        self.event(&stream, event_type, data);
    }

    pub fn create(&mut self, at: (&str, &str), id: &str, data: &Value, class_incarnation: u64) {
        let data = json!({"data": data, "class_incarnation": class_incarnation});
        self.instance_event(at, id, "InstanceCreated", &data);
    }

    pub fn update(&mut self, at: (&str, &str), id: &str, data: &Value) {
        let data = json!({"data": data, "changed": []});
        self.instance_event(at, id, "InstanceUpdated", &data);
    }

    pub fn delete(&mut self, at: (&str, &str), id: &str) {
        self.instance_event(at, id, "InstanceDeleted", &json!({}));
    }

    pub fn instance_event(&mut self, at: (&str, &str), id: &str, event_type: &str, data: &Value) {
        self.event(&instance_stream(at, id), event_type, data);
    }

    /// A database `films` with class `Film`: the incarnations are 1.
    pub async fn films(&mut self) {
        let database = self.create_database("films");
        assert_eq!(self.create_class("films", "Film", database), 1);
        self.commit().await;
    }

    /// What a projection of this log needs.
    pub fn deps(&self, model: Arc<dyn ReadModel>) -> ProjectionDeps {
        ProjectionDeps {
            log: self.log.clone(),
            heads: self.heads.clone(),
            model,
            progress: Arc::new(ProjectionProgress::default()),
            io: oms_testkit::io(),
            settings: ProjectionSettings {
                poll: std::time::Duration::from_millis(50),
                batch: BatchLimits {
                    events: 50,
                    bytes: 1 << 20,
                },
            },
            halts: Halts::new(oms::clock::now),
        }
    }
}

pub fn instance_stream(at: (&str, &str), id: &str) -> StreamName {
    StreamName::instance(&db(at.0), &class(at.1), &instance(id))
}

/// A read model in a database.
pub fn model(settings: &PostgresSettings) -> Arc<PostgresReadModel> {
    Arc::new(PostgresReadModel::new(oms_testkit::postgres::connect(
        settings,
    )))
}

/// Everything that queries can see, as JSON.
pub async fn everything(model: &dyn ReadModel) -> Value {
    let mut all = serde_json::Map::new();
    let mut put = |key: String, record: &oms::store::ports::read_model::Record| {
        let data: Value = serde_json::from_str(record.data.get()).expect("JSON");
        all.insert(
            key,
            json!([record.version, data, record.created_at, record.updated_at]),
        );
    };
    let databases = ListQuery::databases(Some(1000), None).expect("query");
    for database in model.databases(&databases).await.expect("read").items {
        put(database.id.clone(), &database);
        let db = db(&database.id);
        let classes = ListQuery::classes(&db, Some(1000), None).expect("query");
        for found in model.classes(&db, &classes).await.expect("read").items {
            put(format!("{db}/{}", found.id), &found);
            let class = class(&found.id);
            let mut cursor = None;
            loop {
                let query = InstanceQuery::list(None, Some(1000), cursor).expect("query");
                let query = query.bind(&db, &class).expect("bound");
                let page = model.instances(&query).await.expect("read");
                for record in &page.items {
                    put(format!("{db}/{class}/{}", record.id), record);
                }
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
        }
    }
    Value::Object(all)
}
