//! Two real places with the same log in them, and the jobs on top.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use oms::clock::{SystemClock, new_uuid};
use oms::config::endpoints::s3_settings;
use oms::domain::event::{EncodedEvents, NewEvent, Provenance, encode};
use oms::domain::ids::{
    CommandId, Epoch, EventId, EventType, PartitionId, StreamName, StreamType, Version, WriterId,
};
use oms::embedded::S3Endpoint;
use oms::embedded::s3::server::{S3Server, Settings};
use oms::jobs::assembly::{JobAssembly, assemble};
use oms::jobs::manager::{JobSettings, Jobs};
use oms::jobs::recorded_states::{RecordedState, RecordedStates};
use oms::jobs::repair::report::RepairReport;
use oms::jobs::runner::Runner;
use oms::log::keys;
use oms::log::lead::Lead;
use oms::log::object::{CommitHeader, CommitKind, CommitObject, ControlRecord, FORMAT, ObjectHash};
use oms::migration::job::{Job, JobKind, JobState};
use oms::migration::stage::StageKind;
use oms::proof::report::VerifyReport;
use oms::store::adapters::postgres::commits::PostgresCommitStore;
use oms::store::adapters::postgres::jobs::PostgresJobs;
use oms::store::adapters::postgres::log_repair::PostgresLogRepair;
use oms::store::adapters::postgres::{Postgres, PostgresSettings};
use oms::store::adapters::s3::S3ObjectStore;
use oms::store::error::StoreError;
use oms::store::halts::Halts;
use oms::store::log::log_objects::{DerivedObjects, LogObjects, RepairObjects};
use oms::store::log::s3_commit_store::S3CommitStore;
use oms::store::ports::commit_store::CommitStore;
use oms::store::ports::object_store::IMMUTABLE;
use oms::store::ports::object_store::ObjectStore;
use parking_lot::Mutex;
use serde_json::Value;
use serde_json::value::RawValue;

use oms_testkit::{eventually, postgres};

pub const PARTITIONS: u16 = 2;
pub const P: PartitionId = PartitionId(0);

/// Where the migration stands is what the test says.
pub struct Told(pub Mutex<RecordedState>);

#[async_trait]
impl RecordedStates for Told {
    async fn states(&self) -> Result<BTreeMap<PartitionId, RecordedState>, StoreError> {
        let state = *self.0.lock();
        Ok((0..PARTITIONS).map(|p| (PartitionId(p), state)).collect())
    }
}

/// What every process stands on.
pub struct Parts {
    /// The bucket, for the service.
    pub bucket: Arc<S3ObjectStore>,
    /// The bucket, for repair, and for whoever plants damage.
    pub objects: Arc<S3ObjectStore>,
    pub postgres: Postgres,
    pub commits: Arc<PostgresCommitStore>,
    pub table: Arc<PostgresJobs>,
    pub told: Arc<Told>,
}

impl Parts {
    pub fn node(&self, name: &str, more: Vec<Arc<dyn Runner>>) -> Jobs {
        assemble(JobAssembly {
            s3: Arc::new(S3CommitStore::new(LogObjects::of(self.bucket.clone()))),
            postgres: self.commits.clone(),
            bucket: Arc::new(DerivedObjects::of(self.bucket.clone())),
            repair_objects: RepairObjects::of(self.objects.clone()),
            tables: Arc::new(PostgresLogRepair::new(self.postgres.clone())),
            retired: Arc::new(PostgresLogRepair::new(self.postgres.clone())),
            table: self.table.clone(),
            states: self.told.clone(),
            partitions: PARTITIONS,
            archive_after: Duration::from_secs(3600),
            node: name.into(),
            io: oms_testkit::io(),
            clock: Arc::new(SystemClock),
            settings: quick(),
            halts: Halts::new(oms::clock::now),
            more,
        })
    }
}

pub struct World {
    _dir: tempfile::TempDir,
    _server: S3Server,
    parts: Parts,
    pub jobs: Jobs,
    pub log: Vec<Vec<CommitObject>>,
}

impl std::ops::Deref for World {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

fn event(stream: &StreamName, version: u64) -> EncodedEvents {
    let new = NewEvent {
        event_type: EventType::new("OrderPlaced").expect("type"),
        schema_version: 1,
        data: RawValue::from_string(format!(
            r#"{{"amount":{version}.50,"note":"{}"}}"#,
            "x".repeat(200)
        ))
        .expect("json"),
        metadata: None,
    };
    let provenance = Provenance {
        command_id: CommandId(new_uuid()),
        correlation_id: "c".into(),
        actor: "alice".into(),
        trace: None,
        idempotency: None,
        time: "2026-01-02T03:04:05.123456Z".parse().expect("time"),
    };
    let id = || EventId(new_uuid());
    encode(stream, Version(version - 1), &[new], &provenance, id)
}

pub fn header(partition: u16, offset: u64, prev: ObjectHash, count: u32) -> CommitHeader {
    CommitHeader {
        format: FORMAT,
        partition: PartitionId(partition),
        offset,
        epoch: Epoch(1),
        writer: WriterId(new_uuid()),
        batch: offset,
        prev,
        at: "2026-01-02T03:04:05Z".parse().expect("time"),
        count,
        kind: if offset == 0 {
            CommitKind::Control
        } else {
            CommitKind::Events
        },
    }
}

/// The object that comes after `before`: an event of each stream.
pub fn next(partition: u16, before: Option<&CommitObject>, streams: u64) -> CommitObject {
    let offset = before.map_or(0, |b| b.header.offset + 1);
    let prev = before.map_or(ObjectHash::NONE, CommitObject::hash);
    if offset == 0 {
        let record = ControlRecord {
            lead: Lead::Postgres,
            epoch: Epoch(1),
        };
        return CommitObject::control(header(partition, 0, prev, 1), record);
    }
    let kind = StreamType::new("order").expect("type");
    let events: Vec<_> = (0..streams)
        .map(|s| StreamName::new(&kind, &[&format!("{partition}-{s}")]).expect("name"))
        .map(|stream| event(&stream, offset))
        .collect();
    let parts: Vec<_> = events.iter().collect();
    CommitObject::build(header(partition, offset, prev, streams as u32), &parts)
}

pub fn chain(partition: u16, n: u64, streams: u64) -> Vec<CommitObject> {
    let mut objects: Vec<CommitObject> = Vec::new();
    for _ in 0..n {
        objects.push(next(partition, objects.last(), streams));
    }
    objects
}

/// As well formed as the original, with the same predecessor, and not it.
pub fn forged(object: &CommitObject) -> CommitObject {
    let text = String::from_utf8(object.bytes.to_vec()).expect("text");
    let other = text.replacen("\"actor\":\"alice\"", "\"actor\":\"mallory\"", 1);
    assert_ne!(other, text);
    CommitObject::parse(other.into()).expect("well formed")
}

impl World {
    /// Both places hold `n` objects of each partition, with an event of each of `streams` streams.
    pub async fn new(n: u64, streams: u64, stage: StageKind) -> Self {
        Self::with(n, streams, stage, vec![]).await
    }

    pub async fn with(n: u64, streams: u64, stage: StageKind, more: Vec<Arc<dyn Runner>>) -> Self {
        Self::on(&postgres::fresh(), n, streams, stage, more).await
    }

    pub async fn on(
        settings: &PostgresSettings,
        n: u64,
        streams: u64,
        stage: StageKind,
        more: Vec<Arc<dyn Runner>>,
    ) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let guarded = Settings {
            immutable: Some(IMMUTABLE.to_owned()),
            ..Settings::default()
        };
        let server = S3Server::start_with(dir.path(), "bucket", guarded).expect("S3");
        let client = |at: &S3Endpoint| {
            let settings = s3_settings(at, Duration::from_secs(30));
            Arc::new(S3ObjectStore::new(&settings).expect("client"))
        };
        let (bucket, objects) = (client(server.endpoint()), client(&server.mender()));
        let postgres = postgres::connect(settings);
        let commits = Arc::new(PostgresCommitStore::new(postgres.clone()));
        let mut log = Vec::new();
        for p in 0..PARTITIONS {
            let chain = chain(p, n, streams);
            let shared: Vec<_> = chain.iter().cloned().map(Arc::new).collect();
            let mut at = 0;
            while at < n {
                at = commits.copy(&shared[at as usize..]).await.expect("copied");
            }
            let bucket = S3CommitStore::new(LogObjects::of(bucket.clone()));
            for some in shared.chunks(200) {
                let puts = some.iter().map(|object| bucket.put(object));
                futures_util::future::try_join_all(puts).await.expect("put");
            }
            log.push(chain);
        }
        let told = Arc::new(Told(Mutex::new(RecordedState {
            stage,
            held: Some(std::time::Duration::MAX),
            epoch: Epoch(1),
            steady: true,
        })));
        let table = Arc::new(PostgresJobs::new(postgres.clone()));
        let parts = Parts {
            bucket,
            objects,
            postgres,
            commits,
            table,
            told,
        };
        Self {
            _dir: dir,
            _server: server,
            jobs: parts.node("first", more),
            parts,
            log,
        }
    }

    /// Another process on the same places.
    pub fn node(&self, name: &str, more: Vec<Arc<dyn Runner>>) -> Jobs {
        self.parts.node(name, more)
    }
    pub async fn sql(&self, sql: &str) -> u64 {
        let sql = sql.to_owned();
        self.postgres
            .run("test", move |client| {
                Box::pin(async move { client.execute(&sql, &[]).await })
            })
            .await
            .expect("executed")
    }

    pub async fn count(&self, sql: &str) -> i64 {
        let sql = sql.to_owned();
        self.postgres
            .run("test", move |client| {
                Box::pin(async move { client.query_one(&sql, &[]).await?.try_get(0) })
            })
            .await
            .expect("counted")
    }

    pub async fn overwrite(&self, object: &CommitObject) {
        let key = keys::commit(object.header.partition, object.header.offset);
        let put = self.objects.put(&key, object.bytes.clone()).await;
        put.expect("put");
    }

    /// Rewrites PostgreSQL's rows of an offset so that they are consistent in themselves.
    pub async fn rewrite(&self, object: &CommitObject) {
        let (p, o) = (object.header.partition.0, object.header.offset);
        let line = String::from_utf8(object.line(0).to_vec()).expect("text");
        self.sql(&format!(
            "UPDATE events SET envelope = $x${line}$x$ WHERE partition = {p} AND commit_offset = {o} AND idx = 0"
        ))
        .await;
        self.sql(&format!(
            "UPDATE commits SET sha256 = decode('{}', 'hex'), size = {} WHERE partition = {p} AND commit_offset = {o}",
            object.hash(),
            object.bytes.len(),
        ))
        .await;
    }

    pub async fn run(&self, kind: JobKind, parameters: Value) -> Job {
        let job = self.jobs.start(kind, parameters, "tester").await;
        over(&self.jobs, &job.expect("started")).await
    }

    pub async fn verify(&self) -> VerifyReport {
        let job = self.run(JobKind::Verify, serde_json::json!({})).await;
        assert_eq!(job.state, JobState::Done, "{job:?}");
        serde_json::from_value(job.report.expect("a report")).expect("its shape")
    }

    pub async fn repair(&self, parameters: Value) -> RepairReport {
        let job = self.run(JobKind::Repair, parameters).await;
        assert_eq!(job.state, JobState::Done, "{job:?}");
        serde_json::from_value(job.report.expect("a report")).expect("its shape")
    }
}

fn quick() -> JobSettings {
    JobSettings {
        beat_every: Duration::from_millis(50),
        // Forty beats: a busy machine may be late by many.
        patience: Duration::from_secs(2),
        look_every: Duration::from_millis(100),
    }
}

/// The job once it is over.
pub async fn over(jobs: &Jobs, job: &Job) -> Job {
    eventually("the job ends", async || {
        let now = jobs.job(job.id).await.ok().flatten()?;
        now.state.is_over().then_some(now)
    })
    .await
}
