//! Law 13 in bytes: hostile sizes against a store with small limits. Every request
//! succeeds or is refused with field, limit and size, other entities are served meanwhile, and no
//! refusal counts as a failure of the store.

mod rebuilding;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use actix::System;
use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::entity::Execute;
use super::fold::SnapshotEvery;
use super::registry::{Registry, RegistrySettings};
use super::{Read, Seen};
use crate::actors::arbiters::Arbiters;
use crate::actors::error::CallError;
use crate::actors::event_store::{AppendError, AppendRequest, EventStoreSettings};
use crate::actors::supervision::supervisor::Supervisor;
use crate::actors::supervision::tree::Tree;
use crate::actors::write_side::{self, WriteSide, WriteSideDeps};
use crate::clock::{SystemClock, new_uuid};
use crate::domain::aggregate::Aggregate;
use crate::domain::class::EffectiveClass;
use crate::domain::document::Document;
use crate::domain::event::{EncodedEvents, NewEvent, Recorded};
use crate::domain::ids::{CommandId, EventType, StreamName, StreamType, Version};
use crate::domain::instance::{Instance, InstanceCommand};
use crate::domain::plain::PlainStream;
use crate::domain::refusal::Refusal;
use crate::log::batch::AppendOutcome;
use crate::migration::guardrail::Judgement;
use crate::store::adapters::memory::MemoryObjectStore;
use crate::store::halts::Halts;
use crate::store::io_runtime::IoRuntime;
use crate::store::log::log_reader::LogReader;
use crate::store::ports::object_store::ObjectStore;
use crate::store::ports::transport::TopicNames;

const EVENT: usize = 4_096;
const APPEND: usize = 16_384;
const LIVE: usize = 32_768;

/// Far beyond what a command takes on a store in memory, far below what a queue that does not move
/// would cost.
const SOON: Duration = Duration::from_secs(5);

struct World {
    instances: Registry<Instance>,
    streams: Registry<PlainStream>,
    side: WriteSide,
    supervisor: Supervisor,
    class: Arc<EffectiveClass>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.supervisor.arbiters().stop();
    }
}

fn io() -> IoRuntime {
    // Lives as long as the test process: its threads only wait.
    static RUNTIME: std::sync::OnceLock<tokio::runtime::Runtime> = std::sync::OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime")
    });
    IoRuntime::new(runtime.handle().clone())
}

fn world(store: Arc<dyn ObjectStore>, event: usize, append: usize) -> World {
    let supervisor = Supervisor::start(
        Arc::new(Arbiters::start(1)),
        Arc::new(Tree::default()),
        Arc::new(|node| panic!("{} failed beyond its limit", node.path)),
    );
    let side = write_side::start(
        &supervisor,
        WriteSideDeps {
            log: Arc::new(LogReader::new(store, "test".into(), 1, 1 << 20)),
            event_store: EventStoreSettings {
                max_event_bytes: event,
                batch_bytes: append,
                linger: Duration::ZERO,
                ..EventStoreSettings::default()
            },
            snapshot_every: SnapshotEvery(10),
            topics: TopicNames::new("oms".to_owned()),
            migration: None,
            halts: Halts::new(crate::clock::now),
            clock: Arc::new(SystemClock),
            io: io(),
        },
    );
    let settings = RegistrySettings {
        max_live_bytes: LIVE,
        idle_after: Duration::from_millis(1),
        ..RegistrySettings::default()
    };
    let definition = json!({
        "id": "Note", "label": "Note",
        "properties": [{"name": "extra", "type": "object"}],
    });
    let definition = serde_json::from_value(definition).expect("a class");
    World {
        instances: Registry::new(
            "instance",
            settings,
            side.entities.clone(),
            supervisor.clone(),
        ),
        streams: Registry::new(
            "stream",
            settings,
            side.entities.clone(),
            supervisor.clone(),
        ),
        side,
        supervisor,
        class: Arc::new(EffectiveClass::resolve(&[&definition]).expect("sound")),
    }
}

fn execute<A: Aggregate>(command: A::Command) -> Execute<A> {
    Execute {
        command: Arc::new(command),
        expected: None,
        command_id: CommandId(new_uuid()),
        trace: None,
        correlation_id: "test".into(),
        actor: "test".into(),
        idempotency: None,
        metadata: None,
        deadline: Instant::now() + SOON,
    }
}

fn named(kind: &str, id: &str) -> StreamName {
    StreamName::new(&StreamType::new(kind).expect("valid"), &[id]).expect("valid")
}

fn document(json: Value) -> Document {
    serde_json::from_str(&json.to_string()).expect("an object")
}

impl World {
    async fn change(&self, id: &str, command: InstanceCommand) -> Result<Version, CallError> {
        let done = self
            .instances
            .execute(&named("note", id), execute(command))
            .await?;
        Ok(done.version)
    }

    async fn create(&self, id: &str, data: Value) -> Result<Version, CallError> {
        let command = InstanceCommand::Create {
            class: self.class.clone(),
            class_incarnation: Version(1),
            data: document(data),
        };
        self.change(id, command).await
    }

    async fn patch(&self, id: &str, patch: Value) -> Result<Version, CallError> {
        let command = InstanceCommand::Update {
            class: self.class.clone(),
            class_incarnation: Version(1),
            patch: document(patch),
        };
        self.change(id, command).await
    }

    async fn delete(&self, id: &str) -> Result<Version, CallError> {
        let class_incarnation = Version(1);
        self.change(id, InstanceCommand::Delete { class_incarnation })
            .await
    }

    async fn append(&self, sizes: &[usize]) -> Result<Version, CallError> {
        let event = |size: &usize| NewEvent {
            event_type: EventType::new("Noted").expect("valid"),
            schema_version: 1,
            data: RawValue::from_string(format!("\"{}\"", "x".repeat(size.saturating_sub(2))))
                .expect("JSON"),
            metadata: None,
        };
        let events = sizes.iter().map(event).collect();
        let stream = named("log", &new_uuid().to_string());
        let done = self.streams.execute(&stream, execute(events)).await?;
        Ok(done.version)
    }

    async fn read(&self, id: &str) -> Seen<Instance> {
        let wanted = Read {
            deadline: Instant::now() + SOON,
            catch_up: true,
        };
        let stream = named("note", id);
        self.instances.read(&stream, wanted).await.expect("a state")
    }

    /// Other entities are served, and the store does not count as failing.
    async fn goes_on(&self) {
        let begun = Instant::now();
        let version = self.append(&[10]).await.expect("a neighbour is served");
        assert_eq!(version, Version(1));
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        assert_eq!(self.side.writer.writes_fail(), None);
        assert_eq!(self.side.entities.write_stats.judge(), Judgement::Ok);
        assert!(self.instances.live_bytes() <= LIVE);
    }
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, CallError>) -> Refusal {
    match outcome {
        Err(CallError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn says(refusal: &Refusal, code: &str, field: &str, limit: usize, size: usize) {
    assert_eq!(refusal.code, code);
    assert_eq!(refusal.violations[0].field, field);
    let (limit, size) = (limit.to_string(), size.to_string());
    let message = &refusal.message;
    assert!(
        message.contains(&limit) && message.contains(&size),
        "{message}"
    );
}

fn run(test: impl Future<Output = ()>) {
    System::new().block_on(test);
}

/// What is asked; instances have members of certain sizes.
#[derive(Debug, Clone)]
enum Ask {
    Create(u8, usize),
    Put(u8, u8, usize),
    Drop(u8, u8),
    Delete(u8),
    Append(Vec<usize>),
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 2..200_usize,
        2 => EVENT - 120..EVENT + 20,
        1 => 1_000..10 * EVENT,
    ]
}

fn ask() -> impl Strategy<Value = Ask> {
    let id = 0..3_u8;
    prop_oneof![
        3 => (id.clone(), size()).prop_map(|(id, size)| Ask::Create(id, size)),
        6 => (id.clone(), 0..4_u8, size()).prop_map(|(id, m, size)| Ask::Put(id, m, size)),
        2 => (id.clone(), 0..4_u8).prop_map(|(id, m)| Ask::Drop(id, m)),
        1 => id.prop_map(Ask::Delete),
        3 => prop::collection::vec(size(), 1..30).prop_map(Ask::Append),
    ]
}

type Members = BTreeMap<u8, usize>;

fn data(members: &Members) -> Value {
    let member = |(name, size): (&u8, &usize)| (format!("m{name}"), json!("y".repeat(*size)));
    json!({"extra": members.iter().map(member).collect::<Map<String, Value>>()})
}

fn bytes(members: &Members) -> usize {
    data(members).to_string().len()
}

/// The answer to a change that would leave `after` behind; says whether it was made.
fn weighed(outcome: Result<Version, CallError>, after: &Members) -> bool {
    let size = bytes(after);
    if size > EVENT {
        says(&refused(outcome), "instance_too_large", "data", EVENT, size);
        return false;
    }
    outcome.expect("it is small enough");
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn law_13_hostile_sizes_are_refused_by_field_limit_and_size_and_hold_up_nobody(
        asks in prop::collection::vec(ask(), 1..40),
    ) {
        run(async {
            let world = world(Arc::new(MemoryObjectStore::default()), EVENT, APPEND);
            let mut model: BTreeMap<u8, Members> = BTreeMap::new();
            for ask in asks {
                match ask {
                    Ask::Create(id, size) => {
                        let after = Members::from([(0, size)]);
                        let outcome = world.create(&id.to_string(), data(&after)).await;
                        match model.entry(id) {
                            Entry::Occupied(_) => {
                                assert_eq!(refused(outcome).code, "instance_exists");
                            }
                            Entry::Vacant(free) if weighed(outcome, &after) => {
                                free.insert(after);
                            }
                            Entry::Vacant(_) => {}
                        }
                    }
                    Ask::Put(id, member, size) => {
                        let patch = data(&Members::from([(member, size)]));
                        let outcome = world.patch(&id.to_string(), patch).await;
                        match model.get_mut(&id) {
                            None => assert_eq!(refused(outcome).code, "instance_not_found"),
                            Some(members) => {
                                let mut after = members.clone();
                                after.insert(member, size);
                                if weighed(outcome, &after) {
                                    *members = after;
                                }
                            }
                        }
                    }
                    Ask::Drop(id, member) => {
                        let patch = json!({"extra": {format!("m{member}"): null}});
                        let outcome = world.patch(&id.to_string(), patch).await;
                        match model.get_mut(&id) {
                            None => assert_eq!(refused(outcome).code, "instance_not_found"),
                            Some(members) => {
                                outcome.expect("a smaller one is taken");
                                members.remove(&member);
                            }
                        }
                    }
                    Ask::Delete(id) => {
                        let outcome = world.delete(&id.to_string()).await;
                        match model.remove(&id) {
                            None => assert_eq!(refused(outcome).code, "instance_not_found"),
                            Some(_) => drop(outcome.expect("whatever its size")),
                        }
                    }
                    Ask::Append(sizes) => {
                        let outcome = world.append(&sizes).await;
                        let total: usize = sizes.iter().sum();
                        if let Some(i) = sizes.iter().position(|size| *size > EVENT) {
                            let field = format!("events[{i}]");
                            says(&refused(outcome), "event_too_large", &field, EVENT, sizes[i]);
                        } else if total > APPEND {
                            let refusal = refused(outcome);
                            assert_eq!(refusal.code, "append_too_large");
                            assert!(refusal.message.contains(&APPEND.to_string()));
                        } else if total + 640 * sizes.len() <= APPEND {
                            outcome.expect("it is small enough");
                        } else if outcome.is_err() {
                            assert_eq!(refused(outcome).code, "append_too_large");
                        }
                    }
                }
                world.goes_on().await;
            }
            for (id, members) in &model {
                let seen = world.read(&id.to_string()).await;
                let live = seen.state.live(Version(1)).expect("it is there");
                assert_eq!(live.data.bytes(), bytes(members));
            }
        });
    }
}

#[test]
fn law_13_what_is_too_large_already_is_read_made_smaller_and_deleted() {
    run(async {
        let store: Arc<dyn ObjectStore> = Arc::new(MemoryObjectStore::default());
        let old = Members::from([(0, 3_000), (1, 3_000), (2, 3_000)]);
        {
            let before = world(store.clone(), 1 << 20, 4 << 20);
            for id in ["a", "b"] {
                before.create(id, data(&old)).await.expect("taken");
            }
        }
        let world = world(store, EVENT, APPEND);
        let seen = world.read("a").await;
        let live = seen.state.live(Version(1)).expect("it is there");
        assert_eq!(live.data.bytes(), bytes(&old));
        let grown = world.patch("a", json!({"extra": {"m9": ""}})).await;
        assert_eq!(refused(grown).code, "instance_too_large");
        for smaller in [json!({"m0": null}), json!({"m1": null})] {
            let patched = world.patch("a", json!({"extra": smaller})).await;
            patched.expect("smaller, if still too large at first");
        }
        let grown = world.patch("a", json!({"extra": {"m9": "x".repeat(EVENT)}}));
        assert_eq!(refused(grown.await).code, "instance_too_large");
        world.delete("b").await.expect("deleted");
        world.goes_on().await;
    });
}

#[test]
fn law_13_an_append_that_no_commit_carries_is_refused_at_the_door_of_its_partition() {
    run(async {
        let world = world(Arc::new(MemoryObjectStore::default()), EVENT, APPEND);
        world.goes_on().await;
        let append = |size: usize| AppendRequest {
            trace: None,
            stream: named("import", &size.to_string()),
            expected: Version::NONE,
            command: CommandId(new_uuid()),
            request_hash: None,
            events: EncodedEvents {
                bytes: vec![b' '; size].into(),
                spans: std::iter::once(0..size as u32 - 1).collect(),
                recorded: Recorded::default(),
            },
            deadline: Instant::now() + SOON,
        };
        let path = &world.side.writer;
        let (large, small) = tokio::join!(path.append(append(APPEND + 1)), path.append(append(9)));
        let Err(AppendError::TooLarge { size, limit }) = large else {
            panic!("{large:?}");
        };
        assert_eq!((size, limit), (APPEND + 1, APPEND));
        let verdict = small.expect("a neighbour is served").verdict;
        assert!(
            matches!(verdict, AppendOutcome::Committed { .. }),
            "{verdict:?}"
        );
        world.goes_on().await;
    });
}

#[test]
fn law_13_live_aggregates_are_weighed_and_let_go_by_weight_and_when_idle() {
    run(async {
        let world = world(Arc::new(MemoryObjectStore::default()), EVENT, APPEND);
        let zeros = json!({"extra": {"zeros": vec![0; 1_000]}});
        let size = zeros.to_string().len();
        for id in 0..100 {
            let created = world.create(&id.to_string(), zeros.clone()).await;
            created.expect("taken");
            assert!(world.instances.live_bytes() <= LIVE);
        }
        // By its text: kept parsed, each of them alone would weigh more than all may.
        assert!(world.instances.live_bytes() > LIVE / 2);
        assert!(world.instances.live() > LIVE / 2 / size);
        let seen = world.read("0").await;
        assert!(seen.state.live(Version(1)).is_some(), "it comes back");
        tokio::time::sleep(Duration::from_millis(5)).await;
        world.instances.sweep();
        assert_eq!(world.instances.live_bytes(), 0);
    });
}
