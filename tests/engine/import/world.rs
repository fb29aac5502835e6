//! A foreign database, our log with its real writers, and our database for checkpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use oms::actors::aggregate::fold::SnapshotEvery;
use oms::actors::arbiters::Arbiters;
use oms::actors::event_store::EventStoreSettings;
use oms::actors::import::{Importer, Source, StartImport};
use oms::actors::supervision::supervisor::Supervisor;
use oms::actors::supervision::tree::Tree;
use oms::actors::write_side::{self, WriteSide, WriteSideDeps};
use oms::clock::{SystemClock, new_uuid};
use oms::config::sources::SourceConfig;
use oms::domain::event::Envelope;
use oms::domain::ids::{Epoch, StreamName, Version, WriterId};
use oms::import::progress::{ImportState, ImportStatus};
use oms::log::batch::Stamp;
use oms::log::lead::Lead;
use oms::log::object::ControlRecord;
use oms::log::partition::PartitionLog;
use oms::store::adapters::memory::MemoryObjectStore;
use oms::store::adapters::postgres::import_journal::PostgresImportJournal;
use oms::store::adapters::postgres::source::PostgresSource;
use oms::store::adapters::postgres::{Postgres, PostgresSettings};
use oms::store::halts::Halts;
use oms::store::health::Health;
use oms::store::log::log_reader::LogReader;
use oms::store::metered::MeteredObjectStore;
use oms::store::ports::commit_store::CommitStore as _;
use oms::store::ports::transport::TopicNames;
use serde_json::Value;
use tokio::sync::oneshot;

use oms_testkit::postgres::{self, session};
use oms_testkit::{DEADLINE, io, now};

pub const PARTITIONS: u16 = 4;

/// Everything an import needs.
pub struct World {
    pub foreign: tokio_postgres::Client,
    foreign_url: String,
    pub own: Postgres,
    pub side: WriteSide,
    _stop: oneshot::Sender<()>,
}

impl World {
    /// The foreign database begins with `sql`.
    pub async fn new(sql: &str) -> Self {
        let settings = postgres::fresh();
        let name = settings.url.rsplit('/').next().expect("name").to_owned();
        postgres::shared()
            .administer(&format!("CREATE DATABASE {name}"))
            .await;
        let loader = session(&settings.url).await;
        loader.batch_execute(sql).await.expect("fixture");
        let foreign = session(&settings.url).await;
        let health = Arc::new(Health::new(now));
        let bucket = Arc::new(MemoryObjectStore::default());
        let objects = Arc::new(MeteredObjectStore::new(bucket, io(), health));
        let log = LogReader::new(objects, "bucket".into(), PARTITIONS, 64 << 20);
        for partition in log.partition_ids() {
            let stamp = Stamp {
                writer: WriterId(new_uuid()),
                batch: 0,
                at: now(),
            };
            let record = ControlRecord {
                lead: Lead::S3,
                epoch: Epoch(1),
            };
            let first = PartitionLog::new(partition).control(stamp, record);
            log.s3().put(&first).await.expect("the first object");
        }
        let deps = WriteSideDeps {
            log: Arc::new(log),
            event_store: EventStoreSettings::default(),
            snapshot_every: SnapshotEvery(100),
            topics: TopicNames::new("oms"),
            migration: None,
            clock: Arc::new(SystemClock),
            io: io(),
            halts: Halts::new(oms::clock::now),
        };
        let (started, side) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        // Actors need a system, which is a runtime of its own.
        std::thread::spawn(move || {
            actix::System::new().block_on(async {
                let supervisor = Supervisor::start(
                    Arc::new(Arbiters::start(1)),
                    Arc::new(Tree::default()),
                    Arc::new(|node| panic!("{} failed beyond its limit", node.path)),
                );
                let side = write_side::start(&supervisor, deps);
                assert!(started.send(side).is_ok(), "the test waits");
                let _: Result<(), _> = stopped.await;
                supervisor.arbiters().stop();
            });
        });
        let side = side.await.expect("a write side");
        Self {
            foreign,
            foreign_url: settings.url,
            own: postgres::connect(&postgres::fresh()),
            side,
            _stop: stop,
        }
    }

    /// Another connection to the foreign database.
    pub async fn another(&self) -> tokio_postgres::Client {
        session(&self.foreign_url).await
    }

    /// Name of the foreign database.
    pub fn database(&self) -> &str {
        self.foreign_url.rsplit('/').next().expect("name")
    }

    /// The source `shop` as `toml` describes it.
    pub fn source(&self, toml: &str) -> Source {
        self.source_at(toml, &self.foreign_url)
    }

    /// The same, reached by another way.
    pub fn source_at(&self, toml: &str, url: &str) -> Source {
        let config: SourceConfig = toml::from_str(toml).expect("a source");
        let spec = config.spec("shop");
        let settings = PostgresSettings {
            url: url.to_owned(),
            ..PostgresSettings::default()
        };
        let health = Arc::new(Health::new(now));
        let events = PostgresSource::new(spec.clone(), &settings, io(), health).expect("settings");
        Source {
            spec,
            events: Arc::new(events),
        }
    }

    pub fn journal(&self) -> Arc<PostgresImportJournal> {
        Arc::new(PostgresImportJournal::new(self.own.clone()))
    }

    /// Imports the source `shop`.
    pub fn importer(&self, toml: &str) -> Importer {
        self.importer_of(self.source(toml))
    }

    /// Imports a source.
    pub fn importer_of(&self, source: Source) -> Importer {
        Importer::new(
            [source],
            self.journal(),
            Arc::new(self.side.writer.clone()),
            Arc::new(SystemClock),
        )
    }

    /// Every event of a stream.
    pub async fn events(&self, stream: &str) -> Vec<Event> {
        let (stream_type, id) = stream.split_once('/').expect("type/id");
        let stream = StreamName::from_stored(stream_type, id);
        let store = &self.side.writer;
        let head = store.head(&stream).expect("open");
        let events = store.read(&stream, Version(1), head).await.expect("read");
        events.iter().map(|event| Event::of(&event.bytes)).collect()
    }

    /// Every event of the log by stream; versions are checked to have no gaps.
    pub async fn everything(&self) -> BTreeMap<String, Vec<Event>> {
        let mut streams: BTreeMap<String, Vec<Event>> = BTreeMap::new();
        let log = self.side.writer.log();
        for partition in log.partition_ids() {
            for offset in 0.. {
                let Some(object) = log.commit(partition, offset).await.expect("commit") else {
                    break;
                };
                if object.header.kind != oms::log::object::CommitKind::Events {
                    continue;
                }
                for span in object.lines.iter() {
                    let bytes = &object.bytes[span.start as usize..span.end as usize];
                    let event = Event::of(bytes);
                    let stream = streams.entry(event.stream.clone()).or_default();
                    stream.push(event);
                    assert_eq!(stream.last().expect("one").version, stream.len() as u64);
                }
            }
        }
        streams
    }
}

/// An event as it is in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub stream: String,
    pub version: u64,
    pub id: String,
    pub event_type: String,
    pub time: String,
    pub data: String,
    pub schema_version: u32,
    pub metadata: Value,
}

impl Event {
    fn of(bytes: &[u8]) -> Self {
        let envelope = Envelope::parse(bytes).expect("an envelope");
        let metadata = envelope.metadata.as_deref().unwrap_or("null");
        Self {
            stream: envelope.stream().as_str().to_owned(),
            version: envelope.version.0,
            id: envelope.id.to_string(),
            event_type: envelope.event_type.to_string(),
            time: envelope.time.to_string(),
            data: envelope.data.get().to_owned(),
            schema_version: envelope.schema_version,
            metadata: serde_json::from_str(metadata).expect("JSON"),
        }
    }
}

pub fn start() -> StartImport {
    StartImport {
        source: "shop".into(),
        ..StartImport::default()
    }
}

/// Waits until the status is as wanted.
pub async fn until(
    importer: &Importer,
    what: &str,
    wanted: impl Fn(&ImportStatus) -> bool,
) -> ImportStatus {
    let mut status = importer.watch("shop").expect("started");
    let found = tokio::time::timeout(DEADLINE, status.wait_for(|s| wanted(s))).await;
    match found {
        Ok(found) => found.expect("a run").clone(),
        Err(_) => panic!("waited in vain: {what}; {:?}", importer.status("shop")),
    }
}

/// Imports to the end.
pub async fn import(importer: &Importer, start: StartImport) -> ImportStatus {
    importer.start(start).expect("started");
    let status = until(importer, "the end", |s| s.state.is_over()).await;
    assert_eq!(status.state, ImportState::Done, "{status:?}");
    status
}

/// A table of our own making.
pub const PLAIN: &str = "
CREATE TABLE events (
    pos     bigserial PRIMARY KEY,
    stream  text NOT NULL,
    version bigint NOT NULL,
    type    text NOT NULL DEFAULT 'Happened',
    data    text NOT NULL DEFAULT '{}',
    at      timestamptz NOT NULL DEFAULT now()
)";

/// Its description.
pub const PLAIN_TOML: &str = r#"
table = "public.events"
order = "pos"
stream_id = "stream"
version = "version"
event_type = "type"
data = "data"
time = "at"
default_stream_type = "order"
"#;

/// A description that is refused: what is said of it.
pub async fn refused(world: &World, toml: &str) -> String {
    let importer = world.importer(toml);
    importer.start(start()).expect("started");
    let status = until(&importer, "it fails", |s| s.state.is_over()).await;
    assert_eq!(status.state, ImportState::Failed, "{status:?}");
    status.error.expect("an error")
}

/// What is parked, in the order of the source.
pub async fn parked(importer: &Importer) -> Vec<(String, String, String)> {
    let entries = importer.parked("shop", 0, 1_000).await.expect("listed");
    let mut told: Vec<_> = entries
        .into_iter()
        .map(|p| (p.key, p.reason, p.detail))
        .collect();
    told.sort();
    told
}
