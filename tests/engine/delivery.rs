//! From the log to Kafka: a real PostgreSQL, the real Kafka protocol, every failure on the way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use oms::actors::arbiters::Arbiters;
use oms::actors::outbox::Tailer;
use oms::actors::relay::{Publisher, QueueLimits};
use oms::actors::supervision::supervisor::Supervisor;
use oms::actors::supervision::tree::{ActorState, KillHow, Tree};
use oms::domain::ids::{Offset, PartitionId};
use oms::log::identity::Mark;
use oms::log::keys;
use oms::store::health::DependencyState;
use oms::store::log::delivery_watermarks;
use oms::store::log::log_reader::LogReader;
use oms::store::ports::delivery::DeliveryStore;
use oms::store::ports::object_store::ObjectStore;
use oms_testkit::boastful::Boastful;
use oms_testkit::kafka::Consumed;
use oms_testkit::kafka_proxy::{Fault, KafkaProxy};
use oms_testkit::log::order;
use oms_testkit::undeleting::Undeleting;
use oms_testkit::{eventually, postgres};
use sha2::{Digest, Sha256};

use crate::world::{PARTITIONS, TOPIC, Task, World, orders};

#[tokio::test(flavor = "multi_thread")]
async fn law_9_every_event_reaches_kafka_in_stream_order() {
    let world = World::new(&postgres::fresh()).await;
    let _running = world.run().await;
    for i in 0..20 {
        world.log.append(&orders(10), &format!("round {i}")).await;
    }
    world.delivered().await;
    let times = world.check(&[]).await;
    assert!(
        times.values().all(|n| *n == 1),
        "nothing went wrong, so nothing was sent twice"
    );
    let message: Consumed = world.broker.read(TOPIC).await.remove(0);
    let key = message.header("s3_key").expect("s3_key");
    let number = |name: &str| -> u64 { message.header(name).expect(name).parse().expect(name) };
    let range = number("s3_offset")..number("s3_offset") + number("s3_length");
    let bytes = world
        .log
        .objects
        .get_range(key, range)
        .await
        .expect("read")
        .expect("there");
    assert_eq!(bytes, message.value, "the headers say where the event lies");
    let saved = eventually("delivered watermarks in the bucket", || async {
        let saved = delivery_watermarks::load(&*world.log.objects).await.ok()?;
        (0..PARTITIONS)
            .all(|p| {
                saved.get(&PartitionId(p)).map(|m| m.next)
                    == Some(world.log.heads.next_offset(PartitionId(p)))
            })
            .then_some(saved)
    })
    .await;
    assert_eq!(saved.len(), usize::from(PARTITIONS));
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_other_processes_are_found() {
    let world = World::new(&postgres::fresh()).await;
    let _running = world.run().await;
    for _ in 0..30 {
        world.log.append_quietly(&orders(5), "x").await;
    }
    eventually("found", || async {
        let seen = world.broker.read(TOPIC).await.len();
        (seen >= 150).then_some(())
    })
    .await;
    world.check(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_9_two_tailers_make_one_row_of_each_event() {
    let world = World::new(&postgres::fresh()).await;
    let tailers: Vec<Task> = (0..3).map(|_| world.tail(world.outbox.clone())).collect();
    for i in 0..60 {
        world.log.append(&orders(7), &format!("{i}")).await;
    }
    eventually("all taken in", || async {
        let status = world
            .outbox
            .status()
            .await
            .ok()?
            .with_heads(&world.log.heads);
        let done = status.partitions.iter().all(|p| p.lag.unwrap_or(0) == 0);
        (done && status.partitions.len() == usize::from(PARTITIONS)).then_some(())
    })
    .await;
    drop(tailers);
    let after = (0..PARTITIONS).map(|p| (PartitionId(p), None)).collect();
    let rows = world.outbox.pending(after, 10_000).await.expect("rows");
    assert_eq!(rows.len(), 60 * 7);
    assert!(rows.is_sorted_by_key(|r| r.position));
    let ids: std::collections::HashSet<_> = rows.iter().map(|r| r.event_id).collect();
    assert_eq!(ids.len(), rows.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn law_9_a_crash_between_acknowledgement_and_deletion_doubles_and_never_loses() {
    let world = World::new(&postgres::fresh()).await;
    let store = Arc::new(Undeleting {
        inner: world.outbox.clone(),
        broken: AtomicBool::new(true),
    });
    let _tailer = world.tail(world.outbox.clone());
    let first = world.publish(store.clone(), world.broker.settings());
    for i in 0..10 {
        world.log.append(&orders(6), &format!("{i}")).await;
    }
    eventually("a wave in Kafka", || async {
        (!world.broker.read(TOPIC).await.is_empty()).then_some(())
    })
    .await;
    drop(first);
    store.broken.store(false, Ordering::SeqCst);
    let _second = world.publish(store.clone(), world.broker.settings());
    world.delivered().await;
    let times = world.check(&[]).await;
    assert!(
        times.values().any(|n| *n > 1),
        "the crash did not happen where it should"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn law_3_a_broker_outage_costs_no_attempt() {
    let world = World::new(&postgres::fresh()).await;
    let _running = world.run().await;
    world.log.append(&orders(10), "before").await;
    world.delivered().await;
    world.broker.go_down();
    for i in 0..5 {
        world
            .log
            .append(&orders(10), &format!("while down {i}"))
            .await;
    }
    eventually("a wave fails", || async {
        (world.kafka.status().state == DependencyState::Down).then_some(())
    })
    .await;
    let during = world.outbox.status().await.expect("status");
    assert_eq!((during.depth, during.dead_letters), (50, 0));
    world.broker.come_up();
    let after = world.delivered().await;
    assert_eq!(after.dead_letters, 0);
    world.check(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_9_order_survives_every_produce_error() {
    let world = World::new(&postgres::fresh()).await;
    let broker = world.broker.bootstrap.parse().expect("an address");
    let proxy = KafkaProxy::start_checking(broker).await;
    let _tailer = world.tail(world.outbox.clone());
    let mut settings = world.broker.settings();
    settings.bootstrap = proxy.address().to_string();
    let _publisher = world.publish(world.outbox.clone(), settings);
    world.log.append(&orders(12), "first").await;
    world.delivered().await;
    use Fault::{LoseAnswer, LoseRequest, Refuse};
    let bursts: [&[Fault]; 6] = [
        // NOT_ENOUGH_REPLICAS, REQUEST_TIMED_OUT
        &[Refuse(19), Refuse(7)],
        &[LoseRequest, LoseAnswer],
        // OUT_OF_ORDER_SEQUENCE_NUMBER
        &[Refuse(45)],
        // MESSAGE_TOO_LARGE: refused batches of innocent messages. Nothing may die of that.
        &[Refuse(10), Refuse(10)],
        // NOT_LEADER_FOR_PARTITION, CORRUPT_MESSAGE
        &[Refuse(6), Refuse(2)],
        // TOPIC_AUTHORIZATION_FAILED, UNKNOWN_PRODUCER_ID
        &[Refuse(29), Refuse(59)],
    ];
    for (i, burst) in bursts.into_iter().cycle().take(12).enumerate() {
        proxy.fail(i % 2, burst);
        for j in 0..4 {
            world
                .log
                .append(&orders(12), &format!("burst {i} {j}"))
                .await;
        }
        if i % 3 == 2 {
            world.delivered().await;
        }
    }
    let status = world.delivered().await;
    assert_eq!(status.dead_letters, 0);
    world.check(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_3_a_poison_message_is_parked_and_its_stream_goes_on() {
    let world = World::new(&postgres::fresh()).await;
    let _tailer = world.tail(world.outbox.clone());
    let mut small = world.broker.settings();
    small
        .extra
        .insert("message.max.bytes".into(), "20000".into());
    let mut deps = world.relay_deps(world.outbox.clone(), small.clone());
    deps.transport = Arc::new(Boastful(deps.transport));
    let publisher = Task::run(move || Publisher::new(deps).run());
    world.log.append(&orders(3), "fine").await;
    world.log.append(&[order(1)], &"x".repeat(30_000)).await;
    world.log.append(&orders(3), "behind").await;
    let dead = eventually("parked", || async {
        let dead = world.outbox.dead_letters(10, None).await.ok()?;
        dead.into_iter().next()
    })
    .await;
    assert_eq!(dead.stream, "order/1");
    assert_eq!(dead.version.0, 2);
    assert_eq!(dead.topic, TOPIC);
    assert_eq!(dead.attempts, QueueLimits::default().max_attempts);
    assert!(!dead.last_error.is_empty());
    let status = world.delivered().await;
    assert_eq!(status.dead_letters, 1);
    world.check(&[3]).await;
    let held = world.log.log.partition_of(&order(1));
    let watermarks = world
        .outbox
        .delivered_watermarks()
        .await
        .expect("watermarks");
    assert_eq!(
        watermarks[&held], dead.position.offset,
        "a dead letter is not delivered"
    );

    // Put back, it comes through by reference, if what the broker takes is known.
    drop(publisher);
    let _honest = world.publish(world.outbox.clone(), small);
    assert!(world.outbox.requeue(dead.id).await.expect("requeued"));
    assert!(!world.outbox.requeue(dead.id).await.expect("gone"));
    eventually("delivered after all", || async {
        (world.broker.read(TOPIC).await.len() == 7).then_some(())
    })
    .await;
    assert_eq!(world.delivered().await.dead_letters, 0);
    let read = world.broker.read(TOPIC).await;
    let referring = |m: &&Consumed| m.header("claim_check") == Some("true");
    assert_eq!(read.iter().filter(referring).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_large_bodies_travel_by_reference() {
    let world = World::new(&postgres::fresh()).await;
    let _running = world.run().await;
    world.log.append(&[order(1)], &"y".repeat(990_000)).await;
    world.log.append(&[order(1)], &"y".repeat(1_000_000)).await;
    world.delivered().await;
    let mut read = world.broker.read(TOPIC).await;
    assert_eq!(read.remove(0).header("claim_check"), None, "it just fits");
    let message = read.remove(0);
    let reference: serde_json::Value = serde_json::from_slice(&message.value).expect("JSON");
    assert!(
        reference["href"]
            .as_str()
            .expect("a path")
            .contains("/order/1/")
    );
    assert_eq!(message.header("claim_check"), Some("true"));
    let (_, _, bytes) = world.log.written().await.remove(1);
    let hash = hex::encode(Sha256::digest(&bytes));
    assert_eq!(message.header("s3_sha256"), Some(hash.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn law_10_postgres_may_stop_in_the_middle() {
    let cluster = postgres::Cluster::start();
    let world = World::new(&cluster.fresh()).await;
    let _running = world.run().await;
    for round in 0..3 {
        for i in 0..10 {
            world
                .log
                .append(&orders(8), &format!("up {round} {i}"))
                .await;
        }
        cluster.stop();
        for i in 0..5 {
            world
                .log
                .append(&orders(8), &format!("down {round} {i}"))
                .await;
        }
        assert!(world.outbox.status().await.is_err(), "it is down");
        cluster.resume();
    }
    world.delivered().await;
    world.check(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_10_everything_starts_with_postgres_down() {
    let cluster = postgres::Cluster::start();
    cluster.stop();
    let world = World::new(&cluster.fresh()).await;
    let _running = world.run().await;
    world.log.append(&orders(8), "down").await;
    assert!(world.outbox.status().await.is_err_and(|e| e.is_transient()));
    cluster.resume();
    world.delivered().await;
    world.check(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_11_a_dropped_database_republishes_no_history() {
    let settings = postgres::fresh();
    let world = World::new(&settings).await;
    let _running = world.run().await;
    for i in 0..20 {
        world.log.append(&orders(5), &format!("history {i}")).await;
    }
    world.delivered().await;
    eventually("delivered watermarks in the bucket", || async {
        let saved = delivery_watermarks::load(&*world.log.objects).await.ok()?;
        let whole = |p| {
            saved.get(&PartitionId(p)).map(|m| m.next)
                == Some(world.log.heads.next_offset(PartitionId(p)))
        };
        (0..PARTITIONS).all(whole).then_some(())
    })
    .await;
    let name = settings.url.rsplit('/').next().expect("name");
    postgres::shared()
        .administer(&format!("DROP DATABASE {name} WITH (FORCE)"))
        .await;
    for i in 0..20 {
        world
            .log
            .append(&orders(5), &format!("afterwards {i}"))
            .await;
    }
    world.delivered().await;
    let times = world.check(&[]).await;
    let history = world.log.written().await;
    for (_, _, bytes) in &history[..100] {
        assert_eq!(times[bytes.as_ref()], 1, "history was published again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_11_a_new_outbox_does_not_write_over_what_it_will_begin_with() {
    let world = World::new(&postgres::fresh()).await;
    let known: BTreeMap<PartitionId, Mark> = (0..PARTITIONS)
        .map(|p| (PartitionId(p), Mark::unmarked(1)))
        .collect();
    delivery_watermarks::save(&*world.log.objects, known.clone(), oms_testkit::now())
        .await
        .expect("saved");
    let mut deps = world.relay_deps(world.outbox.clone(), world.broker.settings());
    deps.settings.report = Duration::ZERO;
    let mut publisher = Publisher::new(deps);
    for _ in 0..3 {
        publisher.step().await.expect("nothing to do");
    }
    let saved = delivery_watermarks::load(&*world.log.objects)
        .await
        .expect("read");
    assert_eq!(saved, known);
    let mut tailer = Tailer::new(world.outbox_deps(world.outbox.clone()));
    while tailer.round().await.expect("tailed") {}
    let watermarks = world.outbox.watermarks().await.expect("watermarks");
    assert!(
        watermarks
            .values()
            .all(|m| m.next == 1 && m.hash().is_some())
    );
    assert_eq!(watermarks.len(), known.len());
}

#[test]
fn law_12_the_actors_may_be_killed_at_any_point() {
    let io = tokio::runtime::Runtime::new().expect("a runtime");
    let world = io.block_on(World::new(&postgres::fresh()));
    let _system = actix::System::new();
    let supervisor = Supervisor::start(
        Arc::new(Arbiters::start(1)),
        Arc::new(Tree::default()),
        Arc::new(|node| panic!("{} failed beyond its limit", node.path)),
    );
    let deps = world.outbox_deps(world.outbox.clone());
    let outbox = oms::actors::outbox::start(&supervisor, deps);
    let deps = {
        let _inside = io.enter();
        world.relay_deps(world.outbox.clone(), world.broker.settings())
    };
    let relay = oms::actors::relay::start(&supervisor, deps);
    io.block_on(async {
        let kills = [
            KillHow::Panic,
            KillHow::Stop,
            KillHow::Panic,
            KillHow::Abort,
            KillHow::Arbiter,
        ];
        for (i, how) in kills.into_iter().enumerate() {
            for j in 0..10 {
                world.log.append(&orders(8), &format!("{i} {j}")).await;
            }
            // They share a thread.
            let both = [outbox.node(), relay.node()];
            let targets = if how == KillHow::Arbiter {
                &both[..1]
            } else {
                &both
            };
            for node in targets {
                // One that is just being started again cannot be killed.
                let running = || both.iter().all(|n| n.state() == ActorState::Running);
                eventually("both run", || async { running().then_some(()) }).await;
                let before = node.restarts();
                eventually("killed", || async { node.kill(how).then_some(()) }).await;
                eventually("restarted", || async {
                    (node.restarts() > before).then_some(())
                })
                .await;
            }
        }
        world.delivered().await;
        world.check(&[]).await;
    });
    assert_eq!((outbox.node().restarts(), relay.node().restarts()), (5, 5));
    // Lost twice; with the outbox the relay is renewed too, unless it was just lost itself.
    assert_eq!(outbox.node().rebuilds(), 2);
    assert!(relay.node().rebuilds() >= 2);
    supervisor.arbiters().stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn law_12_a_damaged_object_holds_up_its_own_partition_and_no_other() {
    let world = World::new(&postgres::fresh()).await;
    for i in 0..4 {
        world.log.append(&orders(12), &format!("{i}")).await;
    }
    let heads: BTreeMap<PartitionId, Offset> = (0..PARTITIONS)
        .map(PartitionId)
        .map(|p| (p, world.log.heads.next_offset(p)))
        .collect();
    let (damaged, at) = (PartitionId(1), 3);
    assert!(heads[&damaged] > at + 1, "there is more behind it");
    let key = keys::commit(damaged, at);
    let objects = &world.log.objects;
    let sound = objects.get(&key).await.expect("read").expect("there");
    let torn = sound.slice(..sound.len() / 2);
    objects.put(&key, torn).await.expect("put");
    // One that has not read it before.
    let mut deps = world.outbox_deps(world.outbox.clone());
    deps.log = Arc::new(LogReader::new(
        objects.clone(),
        "bucket".into(),
        PARTITIONS,
        64 << 20,
    ));
    let halts = deps.halts.clone();
    let _tailer = Task::run(move || Tailer::new(deps).run());
    let mut expected = heads.clone();
    expected.insert(damaged, at);
    eventually("it is told where delivery is halted", || async {
        let told = halts.list();
        let halt = told.first()?;
        ((halt.what, halt.partition) == ("outbox", Some(damaged))).then_some(())
    })
    .await;
    eventually("everything whole is taken in", || async {
        let known = world.outbox.watermarks().await.ok()?;
        let known: BTreeMap<_, _> = known.into_iter().map(|(p, m)| (p, m.next)).collect();
        (known == expected).then_some(())
    })
    .await;
    world.log.append(&orders(12), "later").await;
    expected = (0..PARTITIONS)
        .map(|p| (PartitionId(p), world.log.heads.next_offset(PartitionId(p))))
        .collect();
    let whole = expected.insert(damaged, at);
    eventually("the others go on", || async {
        let known = world.outbox.watermarks().await.ok()?;
        let known: BTreeMap<_, _> = known.into_iter().map(|(p, m)| (p, m.next)).collect();
        (known == expected).then_some(())
    })
    .await;
    objects.put(&key, sound).await.expect("put");
    expected.insert(damaged, whole.expect("a head"));
    eventually("what is put right is read on", || async {
        let known = world.outbox.watermarks().await.ok()?;
        let known: BTreeMap<_, _> = known.into_iter().map(|(p, m)| (p, m.next)).collect();
        (known == expected && halts.list().is_empty()).then_some(())
    })
    .await;
}
