//! The write side on a store that fails on purpose, with actors being killed: laws 2, 4, 7, 12.

mod snapshots;

use std::sync::Arc;
use std::time::Duration;

use actix::System;
use futures_util::future::join_all;
use oms_testkit::faulty::{FaultRates, FaultyObjectStore};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::Instant;
use uuid::Uuid;

use super::entity::{Execute, Executed};
use super::fold::SnapshotEvery;
use super::registry::{Registry, RegistrySettings};
use super::{Read, Seen};
use crate::actors::arbiters::Arbiters;
use crate::actors::error::CallError;
use crate::actors::event_store::EventStoreSettings;
use crate::actors::supervision::supervisor::Supervisor;
use crate::actors::supervision::tree::{ActorState, KillHow, Tree};
use crate::actors::write_side::{self, WriteSide, WriteSideDeps};
use crate::clock::SystemClock;
use crate::domain::aggregate::{Aggregate, DecodeError, DomainEvent, EventMeta};
use crate::domain::event::{Envelope, Idempotency};
use crate::domain::ids::{CommandId, StreamName, StreamType, Version};
use crate::domain::refusal::{Refusal, RefusalKind};
use crate::store::adapters::memory::MemoryObjectStore;
use crate::store::halts::Halts;
use crate::store::health::Health;
use crate::store::io_runtime::IoRuntime;
use crate::store::log::log_reader::LogReader;
use crate::store::metered::MeteredObjectStore;
use crate::store::ports::object_store::ObjectStore;
use crate::store::ports::transport::TopicNames;

/// A purse: pays out only what is in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Purse {
    coins: i64,
    changes: u64,
}

#[derive(Debug)]
struct Change(i64);

impl DomainEvent for Change {
    fn event_type(&self) -> &str {
        "Changed"
    }
    fn data(&self) -> Result<Box<RawValue>, serde_json::Error> {
        to_raw_value(&self.0)
    }
    fn decode(_: &str, _: u32, data: &RawValue) -> Result<Self, DecodeError> {
        Ok(Change(data.get().parse().expect("a number")))
    }
}

impl Aggregate for Purse {
    type Command = i64;
    type Event = Change;
    fn decide(&self, change: &i64) -> Result<Vec<Change>, Refusal> {
        match *change {
            666 => panic!("told to panic"),
            0 => Ok(vec![]),
            change if self.coins + change < 0 => Err(Refusal::conflict("empty", "not enough")),
            change => Ok(vec![Change(change)]),
        }
    }
    fn apply(&mut self, event: Change, meta: EventMeta) {
        self.coins += event.0;
        self.changes += 1;
        assert_eq!(self.changes, meta.version.0, "versions are contiguous");
    }
}

mod refused_tests;

/// One process: its own write side on a shared bucket.
struct Process {
    purses: Registry<Purse>,
    tree: Arc<Tree>,
    side: WriteSide,
    supervisor: Supervisor,
    halts: Halts,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.supervisor.arbiters().stop();
    }
}

fn io() -> IoRuntime {
    // Lives as long as the test process: its threads only wait.
    static RUNTIME: std::sync::OnceLock<tokio::runtime::Runtime> = std::sync::OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime")
    });
    IoRuntime::new(runtime.handle().clone())
}

fn process(store: Arc<dyn ObjectStore>, settings: RegistrySettings) -> Process {
    let health = Arc::new(Health::new(|| {
        crate::domain::time::Clock::now(&SystemClock)
    }));
    let store = Arc::new(MeteredObjectStore::new(store, io(), health));
    let log = Arc::new(LogReader::new(store, "test".into(), 2, 1 << 20));
    let arbiters = Arc::new(Arbiters::start(2));
    let tree = Arc::new(Tree::default());
    let supervisor = Supervisor::start(
        arbiters,
        tree.clone(),
        Arc::new(|node| panic!("{} failed beyond its limit", node.path)),
    );
    let halts = Halts::new(crate::clock::now);
    let side = write_side::start(
        &supervisor,
        WriteSideDeps {
            log,
            event_store: EventStoreSettings {
                checkpoint_commits: 8,
                tail_interval: Duration::from_millis(20),
                ..EventStoreSettings::default()
            },
            snapshot_every: SnapshotEvery(10),
            topics: TopicNames::new("oms".to_owned()),
            migration: None,
            clock: Arc::new(SystemClock),
            io: io(),
            halts: halts.clone(),
        },
    );
    let purses = Registry::new(
        "stream",
        settings,
        side.entities.clone(),
        supervisor.clone(),
    );
    Process {
        purses,
        tree,
        side,
        supervisor,
        halts,
    }
}

fn purse(name: &str) -> StreamName {
    StreamName::new(&StreamType::new("purse").expect("valid"), &[name]).expect("valid")
}

fn change(by: i64, command: u128) -> Execute<Purse> {
    Execute {
        command: Arc::new(by),
        expected: None,
        command_id: CommandId(Uuid::from_u128(command)),
        trace: None,
        correlation_id: "test".into(),
        actor: "test".into(),
        idempotency: Some(Idempotency {
            key: command.to_string(),
            request_hash: by as u64,
        }),
        metadata: None,
        deadline: Instant::now() + Duration::from_secs(20),
    }
}

impl Process {
    async fn change(&self, name: &str, by: i64, id: u128) -> Result<Executed<Purse>, CallError> {
        self.purses.execute(&purse(name), change(by, id)).await
    }

    async fn read(&self, name: &str) -> Seen<Purse> {
        let wanted = Read {
            deadline: Instant::now() + Duration::from_secs(20),
            catch_up: true,
        };
        self.purses
            .read(&purse(name), wanted)
            .await
            .expect("a state")
    }
}

fn run(test: impl Future<Output = ()>) {
    System::new().block_on(test);
}

#[test]
fn a_write_is_decided_on_the_state_before_it() {
    run(async {
        let p = process(
            Arc::new(MemoryObjectStore::default()),
            RegistrySettings::default(),
        );
        assert_eq!(p.change("a", 5, 1).await.expect("ok").version, Version(1));
        let refused = p.change("a", -6, 2).await.expect_err("not enough");
        assert!(matches!(refused, CallError::Refused(r) if r.code == "empty"));
        let nothing = p.change("a", 0, 3).await.expect("nothing to do");
        assert_eq!((nothing.version, nothing.position), (Version(1), None));
        let mut stale = change(1, 4);
        stale.expected = Some(Version(7).into());
        let refused = p
            .purses
            .execute(&purse("a"), stale)
            .await
            .expect_err("stale");
        assert!(matches!(refused, CallError::Refused(r)
            if r.kind == RefusalKind::VersionMismatch { actual: Version(1) }));
    });
}

#[test]
fn law_4_a_repeated_command_gets_the_recorded_answer_and_nothing_happens_twice() {
    run(async {
        let store: Arc<dyn ObjectStore> = Arc::new(MemoryObjectStore::default());
        let p = process(store.clone(), RegistrySettings::default());
        for id in 1..=25 {
            p.change("a", 1, id).await.expect("ok");
        }
        let again = p.change("a", 1, 7).await.expect("the recorded answer");
        assert!(again.replayed);
        assert_eq!((again.version, again.state.coins), (Version(7), 7));
        let other = p.change("a", 2, 7).await.expect_err("another request");
        assert!(matches!(other, CallError::Refused(r) if r.code == "idempotency_key_reused"));
        let elsewhere = p.change("b", 1, 7).await.expect_err("another stream");
        assert!(matches!(elsewhere, CallError::Refused(r) if r.code == "idempotency_key_reused"));
        assert_eq!(p.read("a").await.version, Version(25));
        // Another process recognises it as well.
        let q = process(store, RegistrySettings::default());
        let again = q.change("a", 1, 25).await.expect("the recorded answer");
        assert!(again.replayed && again.version == Version(25));
    });
}

#[test]
fn law_7_two_processes_on_one_stream_never_both_win() {
    run(async {
        let store: Arc<dyn ObjectStore> = Arc::new(MemoryObjectStore::default());
        let p = process(store.clone(), RegistrySettings::default());
        let q = process(store, RegistrySettings::default());
        p.change("a", 10, 1).await.expect("ok");
        // Twenty want a coin each, half of them through either process: ten get one.
        let wishes = (0..20u128).map(|i| {
            let through = if i % 2 == 0 { &p } else { &q };
            async move {
                loop {
                    match through.change("a", -1, 100 + i).await {
                        Ok(_) => return true,
                        Err(CallError::Refused(r)) if r.code == "empty" => return false,
                        Err(CallError::Refused(r)) if r.code == "version_mismatch" => {}
                        Err(e) => panic!("{e}"),
                    }
                }
            }
        });
        let got = join_all(wishes).await.into_iter().filter(|g| *g).count();
        assert_eq!(got, 10);
        assert_eq!(p.read("a").await.state.coins, 0);
        assert_eq!(q.read("a").await.version, Version(11));
    });
}

#[test]
fn laws_2_4_12_nothing_is_lost_or_doubled_while_stores_fail_and_actors_die() {
    run(async {
        let seed = 42;
        let memory: Arc<dyn ObjectStore> = Arc::new(MemoryObjectStore::default());
        let faulty = Arc::new(FaultyObjectStore::new(memory.clone(), seed));
        let p = process(faulty.clone(), RegistrySettings::default());
        faulty.set(FaultRates {
            lost_request: 0.05,
            lost_reply: 0.1,
            refused: 0.05,
        });
        let writers = (0..8u128).map(|w| {
            let p = &p;
            async move {
                let name = format!("p{}", w % 4);
                for i in 0..40u128 {
                    let id = 1000 * (w + 1) + i;
                    while let Err(e) = p.change(&name, 1, id).await {
                        match e {
                            CallError::OutcomeUnknown { .. } | CallError::Store(_) => {}
                            other => panic!("{other}"),
                        }
                    }
                }
            }
        });
        let killer = async {
            // Below the limit of ten failures a minute, each.
            for round in 0..8 {
                tokio::time::sleep(Duration::from_millis(60)).await;
                let target = format!("event_store/{}", round % 2);
                let how = [KillHow::Panic, KillHow::Abort][round / 2 % 2];
                // Refused while it is being started again.
                p.tree.find(&target).expect("a writer").kill(how);
                if let Some(node) = p.tree.find("aggregate/purse/p1")
                    && round % 4 == 0
                {
                    node.kill([KillHow::Arbiter, KillHow::Panic][round / 4]);
                }
            }
        };
        tokio::join!(join_all(writers), killer);
        faulty.set(FaultRates::default());
        for name in ["p0", "p1", "p2", "p3"] {
            let seen = p.read(name).await;
            assert_eq!(
                (seen.state.coins, seen.version),
                (80, Version(80)),
                "seed {seed}"
            );
        }
        // A fresh process folds the same from the bucket alone, and each command is there once.
        let q = process(memory, RegistrySettings::default());
        let mut commands = std::collections::HashSet::new();
        for name in ["p0", "p1", "p2", "p3"] {
            assert_eq!(q.read(name).await.state.coins, 80);
            let (stream, store) = (purse(name), &q.side.writer);
            let events = store.read(&stream, Version(1), Version(80)).await;
            for event in events.expect("events") {
                let id = Envelope::parse(&event.bytes).expect("an event").command_id;
                assert!(commands.insert(id), "{id} twice");
            }
        }
        assert_eq!(commands.len(), 320);
    });
}

#[test]
fn law_12_a_panic_in_a_decision_costs_that_command_alone() {
    run(async {
        let p = process(
            Arc::new(MemoryObjectStore::default()),
            RegistrySettings::default(),
        );
        p.change("a", 1, 1).await.expect("ok");
        assert!(p.change("a", 666, 2).await.is_err());
        assert_eq!(p.change("a", 1, 3).await.expect("ok").version, Version(2));
    });
}

#[test]
fn law_13_leases_bound_an_entity_and_passivation_loses_no_call() {
    run(async {
        let settings = RegistrySettings {
            max_live: 4,
            per_entity: 3,
            idle_after: Duration::from_millis(1),
            ..RegistrySettings::default()
        };
        let p = process(Arc::new(MemoryObjectStore::default()), settings);
        let burst = join_all((1..=10).map(|id| p.change("a", 1, id))).await;
        let refused = burst
            .iter()
            .filter(|r| {
                matches!(
                    r,
                    Err(CallError::Overloaded {
                        limit: "per_entity",
                        ..
                    })
                )
            })
            .count();
        assert_eq!(refused, 7, "3 at a time");
        let sweeper = {
            let purses = p.purses.clone();
            async move {
                for _ in 0..200 {
                    purses.sweep();
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        };
        let callers = join_all((0..4u128).map(|c| {
            let p = &p;
            async move {
                for i in 0..50u128 {
                    let name = format!("x{}", (c * 7 + i) % 9);
                    let id = 10_000 + c * 100 + i;
                    // Where all four meet at one entity the fourth is refused, and says so.
                    let mut answer = p.change(&name, 1, id).await;
                    while matches!(
                        answer,
                        Err(CallError::Overloaded {
                            limit: "per_entity",
                            ..
                        })
                    ) {
                        tokio::task::yield_now().await;
                        answer = p.change(&name, 1, id).await;
                    }
                    answer.expect("never lost");
                }
            }
        }));
        tokio::join!(sweeper, callers);
        assert!(p.purses.live() <= 4);
    });
}

#[test]
fn law_4_a_command_whose_deadline_passes_is_unknown_and_the_entity_goes_on() {
    run(async {
        let faulty = Arc::new(FaultyObjectStore::new(
            Arc::new(MemoryObjectStore::default()),
            7,
        ));
        let p = process(faulty.clone(), RegistrySettings::default());
        p.change("a", 1, 1).await.expect("ok");
        faulty.set(FaultRates {
            lost_request: 1.0,
            ..FaultRates::default()
        });
        let mut short = change(1, 2);
        short.deadline = Instant::now() + Duration::from_millis(300);
        let begun = Instant::now();
        let unknown = p.purses.execute(&purse("a"), short).await;
        assert!(
            matches!(unknown, Err(CallError::OutcomeUnknown { .. })),
            "{unknown:?}"
        );
        // It asked for a third of a second; the rest is what a busy machine may add.
        assert!(begun.elapsed() < Duration::from_secs(30));
        faulty.set(FaultRates::default());
        // Whatever became of it, the next command is decided on what is in the log.
        let next = p.change("a", 1, 3).await.expect("the entity goes on");
        let again = p.change("a", 1, 2).await.expect("the same command again");
        assert_eq!(p.read("a").await.state.coins, 3);
        assert_ne!(next.version, again.version);
    });
}

#[test]
fn law_12_whoever_owns_the_stages_is_restarted() {
    run(async {
        let p = process(
            Arc::new(MemoryObjectStore::default()),
            RegistrySettings::default(),
        );
        p.change("a", 1, 1).await.expect("ok");
        let node = p.tree.find("migration_mode").expect("an actor");
        node.kill(KillHow::Panic);
        let deadline = Instant::now() + Duration::from_secs(20);
        while node.restarts() == 0 || node.state() != ActorState::Running {
            assert!(Instant::now() < deadline, "{:?}", node.view());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        p.change("a", 1, 2).await.expect("writes go on");
    });
}

#[test]
fn law_2_nothing_is_refused_or_left_undone_on_a_state_that_another_process_has_changed() {
    run(async {
        let store: Arc<dyn ObjectStore> = Arc::new(MemoryObjectStore::default());
        let p = process(store.clone(), RegistrySettings::default());
        let q = process(store, RegistrySettings::default());
        for round in 0..30u128 {
            // `q` has seen the purse empty; `p` fills it, and `q` pays out at once.
            p.change("a", 1, 100 + round).await.expect("filled");
            q.change("a", -1, 200 + round).await.expect("paid out");
        }
        assert_eq!(p.read("a").await.state.coins, 0);
    });
}
