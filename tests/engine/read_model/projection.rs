//! The projection: what it makes of a log, whatever happens to it meanwhile.

use std::sync::Arc;

use futures_util::StreamExt;
use oms::actors::projection::{ProjectionDeps, Projector};
use oms::domain::ids::{PartitionId, Position};
use oms::log::keys;
use oms::log::object::ObjectHash;
use oms::projection::changes::Changes;
use oms::store::log::log_heads::LogHeads;
use oms::store::log::log_reader::LogReader;
use oms::store::ports::object_store::ObjectStore;
use oms::store::ports::read_model::{Applied, Batch, Generations, InstanceQuery, Move, ReadModel};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::history::History;
use super::world::{PARTITIONS, Writer, class, db, everything, instance, instance_stream, model};
use oms_testkit::postgres::{self, Cluster, execute};
use oms_testkit::{DEADLINE, eventually};

fn project(deps: &ProjectionDeps) -> JoinHandle<()> {
    tokio::spawn(Projector::new(deps.clone(), Arc::default()).run())
}

async fn caught_up(deps: &ProjectionDeps, writer: &Writer) {
    for partition in (0..PARTITIONS).map(PartitionId) {
        let next = writer.heads.next_offset(partition);
        let last = Position {
            partition,
            offset: next - 1,
            index: 0,
        };
        let reached = deps
            .progress
            .wait_for(last, Instant::now() + DEADLINE)
            .await;
        assert!(reached, "partition {partition} did not reach {next}");
    }
}

async fn generations(model: &dyn ReadModel) -> Generations {
    model.generations(PARTITIONS).await.expect("generations")
}

fn sum(next: &[u64]) -> u64 {
    next.iter().sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn law_11_the_read_model_is_the_fold_of_the_log_and_can_be_dropped() {
    let settings = postgres::fresh();
    let (mut writer, mut history) = (Writer::new().await, History::new());
    history.go_on(&mut writer, 700).await;
    let model = model(&settings);
    let deps = writer.deps(model.clone());
    let running = project(&deps);
    caught_up(&deps, &writer).await;
    assert_eq!(everything(&*model).await, history.expected());

    // Written while it runs, and seen as soon as its position is.
    history.go_on(&mut writer, 100).await;
    caught_up(&deps, &writer).await;
    assert_eq!(everything(&*model).await, history.expected());

    // The whole database, a schema, one table: all of it comes back.
    let name = settings.url.rsplit('/').next().expect("a name").to_owned();
    postgres::shared()
        .administer(&format!("DROP DATABASE {name} WITH (FORCE)"))
        .await;
    let expected = history.expected();
    let healed = || async {
        let total = sum(&model.generations(PARTITIONS).await.ok()?.live.next);
        let heads = (0..PARTITIONS).map(|p| writer.heads.next_offset(PartitionId(p)));
        (total == heads.sum::<u64>()).then_some(())
    };
    eventually("the model is rebuilt", healed).await;
    assert_eq!(everything(&*model).await, expected);
    for damage in [
        "DROP SCHEMA oms CASCADE",
        "DO $$ BEGIN EXECUTE 'DROP TABLE rm_' ||
        (SELECT generation FROM read_model_generations) || '_classes'; END $$",
    ] {
        execute(&settings, damage).await;
        eventually("the model is rebuilt", healed).await;
        assert_eq!(everything(&*model).await, expected, "{damage}");
    }
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn replaying_changes_nothing() {
    let settings = postgres::fresh();
    let (mut writer, mut history) = (Writer::new().await, History::new());
    history.go_on(&mut writer, 500).await;
    let model = model(&settings);
    for from in ["0", "next_offset / 2", "0"] {
        let deps = writer.deps(model.clone());
        let running = project(&deps);
        caught_up(&deps, &writer).await;
        running.abort();
        let _ = running.await;
        assert_eq!(everything(&*model).await, history.expected(), "from {from}");
        let sql = format!("UPDATE read_model_positions SET next_offset = {from}");
        execute(&settings, sql.leak()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn older_events_and_batches_that_begin_elsewhere_change_nothing() {
    let model = model(&postgres::fresh());
    let (mut writer, mut history) = (Writer::new().await, History::new());
    history.go_on(&mut writer, 400).await;
    let deps = writer.deps(model.clone());
    let running = project(&deps);
    caught_up(&deps, &writer).await;
    running.abort();
    let _ = running.await;
    let mut older = Changes::default();
    for partition in writer.log.partition_ids() {
        let half = writer.heads.next_offset(partition) / 2;
        let commits: Vec<_> = writer.log.commits(partition, 0, half).collect().await;
        for commit in commits {
            let commit = commit.expect("read");
            for i in 0..commit.event_count() {
                older.take(&commit.line(i)).expect("an event");
            }
        }
    }
    assert!(older.instances.len() > 5);
    let live = generations(&*model).await.live;
    let batch = |moves| Batch {
        generation: live.generation,
        moves,
        changes: older.clone(),
        parked: vec![],
    };
    let applied = model.apply(batch(vec![])).await.expect("applied");
    assert_eq!(applied, Applied::Yes);
    assert_eq!(everything(&*model).await, history.expected());
    let (partition, at) = (PartitionId(0), live.next[0]);
    for from in [0, at - 1, at + 1] {
        let elsewhere = vec![Move {
            partition,
            from,
            to: at + 5,
            before: live.mark(partition).hash(),
            after: ObjectHash::NONE,
        }];
        let applied = model.apply(batch(elsewhere)).await.expect("answered");
        assert_eq!(applied, Applied::Moved, "{from}");
    }
    assert_eq!(generations(&*model).await.live.next, live.next);
    // A copy that is behind does not take over.
    let building = model.begin_rebuild().await.expect("begun");
    assert!(!model.swap(building, false).await.expect("answered"));
    assert!(!model.swap(live.generation, false).await.expect("answered"));
    assert_eq!(everything(&*model).await, history.expected());
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_in_any_order_give_the_same_and_show_nothing_that_is_not() {
    let (mut writer, mut history) = (Writer::new().await, History::new());
    history.go_on(&mut writer, 600).await;
    for first in 0..PARTITIONS {
        let model = model(&postgres::fresh());
        let heads = Arc::new(LogHeads::new(PARTITIONS));
        let mut deps = writer.deps(model.clone());
        deps.heads = heads.clone();
        // Only what is told: nothing is looked for in the log.
        deps.settings.poll = DEADLINE;
        let running = project(&deps);
        for i in 0..PARTITIONS {
            let partition = PartitionId((first + i) % PARTITIONS);
            let next = writer.heads.next_offset(partition);
            heads.advance(partition, next);
            let last = Position {
                partition,
                offset: next - 1,
                index: 0,
            };
            assert!(
                deps.progress
                    .wait_for(last, Instant::now() + DEADLINE)
                    .await
            );
            // Whatever is seen of a class is seen under a database that is seen.
            let seen = everything(&*model).await;
            for name in seen.as_object().expect("an object").keys() {
                if let Some((parent, _)) = name.rsplit_once('/') {
                    assert!(seen.get(parent).is_some(), "{name}");
                }
            }
        }
        running.abort();
        assert_eq!(everything(&*model).await, history.expected());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_incarnation_begins_empty() {
    let model = model(&postgres::fresh());
    let mut writer = Writer::new().await;
    let at = ("films", "Film");
    writer.films().await;
    writer.create(at, "old", &json!({"n": 1}), 1);
    writer.class_event("films", "Film", "ClassDeleted", &json!({}));
    assert_eq!(writer.create_class("films", "Film", 1), 3);
    writer.create(at, "new", &json!({"n": 2}), 3);
    writer.commit().await;
    let deps = writer.deps(model.clone());
    let running = project(&deps);
    caught_up(&deps, &writer).await;
    let (films, film) = (db("films"), class("Film"));
    let seen = |id: &'static str| {
        let (model, films, film) = (model.clone(), films.clone(), film.clone());
        async move {
            let found = model.instance(&films, &film, &instance(id)).await;
            found.expect("read").is_some()
        }
    };
    assert!(!seen("old").await && seen("new").await);
    writer.delete_database("films");
    writer.create_database("films");
    writer.commit().await;
    caught_up(&deps, &writer).await;
    assert!(!seen("new").await);
    assert!(model.class(&films, &film).await.expect("read").is_none());
    let database = model.database(&films).await.expect("read").expect("there");
    assert_eq!(database.version.0, 3);
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_goes_on_beside_writes_and_reads_and_then_takes_over() {
    let settings = postgres::fresh();
    let (mut writer, mut history) = (Writer::new().await, History::new());
    let mut deps = writer.deps(model(&settings));
    deps.settings.batch.events = 5;
    let running = project(&deps);
    history.go_on(&mut writer, 600).await;
    caught_up(&deps, &writer).await;
    let before = generations(&*deps.model).await;
    // What only the live copy says must be gone with it.
    execute(
        &settings,
        "DO $$ BEGIN EXECUTE format('UPDATE rm_%s_databases SET version = 1000000',
         (SELECT generation FROM read_model_generations)); END $$",
    )
    .await;
    let building = deps.model.begin_rebuild().await.expect("begun");
    assert_eq!(
        deps.model.begin_rebuild().await.expect("the same"),
        building
    );
    let mut seen_building = false;
    let query = InstanceQuery::default()
        .bind(&db("films"), &class("Film"))
        .expect("bound");
    let deadline = Instant::now() + DEADLINE;
    loop {
        // Every position that was reached stays reached, and reads never fail.
        history.go_on(&mut writer, 3).await;
        caught_up(&deps, &writer).await;
        deps.model.instances(&query).await.expect("read");
        let now = generations(&*deps.model).await;
        if let Some(state) = &now.building {
            seen_building |= sum(&state.next) > 0;
        } else if now.live.generation == building {
            break;
        }
        assert!(Instant::now() < deadline, "the rebuild does not end");
    }
    assert!(seen_building, "progress was visible");
    assert!(before.live.generation < building);
    caught_up(&deps, &writer).await;
    running.abort();
    assert_eq!(everything(&*deps.model).await, history.expected());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_survives_a_crash_in_its_middle() {
    let settings = postgres::fresh();
    let (mut writer, mut history) = (Writer::new().await, History::new());
    history.go_on(&mut writer, 600).await;
    let mut deps = writer.deps(model(&settings));
    let running = project(&deps);
    caught_up(&deps, &writer).await;
    running.abort();
    let _ = running.await;
    let building = deps.model.begin_rebuild().await.expect("begun");
    let total = sum(&generations(&*deps.model).await.live.next);
    deps.settings.batch.events = 1;
    let mut reached = 0;
    while reached < total / 2 {
        // It is cut off wherever it is, again and again, and never falls back.
        let running = project(&deps);
        let before = reached;
        reached = eventually("the rebuild goes on", || async {
            let state = generations(&*deps.model).await.building?;
            (sum(&state.next) > before).then(|| sum(&state.next))
        })
        .await;
        running.abort();
        let _ = running.await;
    }
    assert_eq!(
        generations(&*deps.model)
            .await
            .building
            .map(|b| b.generation),
        Some(building)
    );
    let running = project(&deps);
    eventually("the swap", || async {
        let now = generations(&*deps.model).await;
        (now.live.generation == building && now.building.is_none()).then_some(())
    })
    .await;
    running.abort();
    assert_eq!(everything(&*deps.model).await, history.expected());
}

#[tokio::test(flavor = "multi_thread")]
async fn law_3_a_poison_event_is_parked_and_the_rest_goes_on() {
    let metrics = oms::metrics::install().expect("metrics");
    let model = model(&postgres::fresh());
    let mut writer = Writer::new().await;
    let at = ("films", "Film");
    writer.films().await;
    let good = |n: i64| json!({"data": {"n": n}, "class_incarnation": 1});
    let bad = [
        (
            "nul",
            "InstanceCreated",
            r#"{"data":{"s":"\u0000"},"class_incarnation":1}"#,
        ),
        (
            "huge",
            "InstanceCreated",
            r#"{"data":{"n":1e400000},"class_incarnation":1}"#,
        ),
        ("type", "InstanceMoved", "{}"),
        (
            "shape",
            "InstanceCreated",
            r#"{"data":7,"class_incarnation":1}"#,
        ),
    ];
    for (id, event_type, data) in bad {
        writer.instance_event(at, &format!("before-{id}"), "InstanceCreated", &good(1));
        writer.raw_event(&instance_stream(at, id), event_type, data);
        writer.instance_event(at, &format!("after-{id}"), "InstanceCreated", &good(3));
    }
    writer.commit().await;
    let deps = writer.deps(model.clone());
    let running = project(&deps);
    caught_up(&deps, &writer).await;
    let there = |id: String| {
        let model = model.clone();
        async move {
            let (db, class) = (db("films"), class("Film"));
            let found = model.instance(&db, &class, &instance(&id)).await;
            found.expect("read").is_some()
        }
    };
    for (id, ..) in bad {
        assert!(there(format!("before-{id}")).await, "{id}");
        assert!(!there(id.to_owned()).await, "{id}");
        assert!(there(format!("after-{id}")).await, "{id}");
    }
    let parked = model.parked(100).await.expect("parked");
    let mut streams: Vec<&str> = parked.iter().map(|p| p.stream.as_str()).collect();
    streams.sort_unstable();
    assert_eq!(
        streams,
        ["huge", "nul", "shape", "type"].map(|id| format!("instance/films/Film/{id}"))
    );
    assert!(
        parked
            .iter()
            .all(|p| !p.reason.is_empty() && !p.event_type.is_empty())
    );
    assert_eq!(generations(&*model).await.live.parked, 4);
    assert!(metrics.render().contains("oms_projection_parked_events"));
    // What follows in the same streams is seen, where it is known what it belongs to.
    for (id, ..) in bad {
        writer.update(at, id, &json!({"n": 2}));
    }
    writer.commit().await;
    caught_up(&deps, &writer).await;
    for (id, expected) in [
        ("nul", true),
        ("huge", true),
        ("type", false),
        ("shape", false),
    ] {
        assert_eq!(there(id.to_owned()).await, expected, "{id}");
    }
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn law_10_postgres_may_be_down_at_the_start_and_in_between() {
    let cluster = Cluster::start();
    let settings = cluster.fresh();
    cluster.stop();
    let (mut writer, mut history) = (Writer::new().await, History::new());
    let model = model(&settings);
    let deps = writer.deps(model.clone());
    let running = project(&deps);
    history.go_on(&mut writer, 50).await;
    assert!(
        model
            .generations(PARTITIONS)
            .await
            .is_err_and(|e| e.is_transient())
    );
    cluster.resume();
    caught_up(&deps, &writer).await;
    cluster.stop();
    history.go_on(&mut writer, 50).await;
    cluster.resume();
    caught_up(&deps, &writer).await;
    assert_eq!(everything(&*model).await, history.expected());
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_processes_one_projects_and_another_takes_over() {
    let settings = postgres::fresh();
    let (mut writer, mut history) = (Writer::new().await, History::new());
    // Each with its own eyes: commits of others are found by looking.
    let process = |writer: &Writer| {
        let mut deps = writer.deps(model(&settings));
        deps.heads = Arc::new(LogHeads::new(PARTITIONS));
        deps
    };
    let (a, b) = (process(&writer), process(&writer));
    let (first, second) = (project(&a), project(&b));
    history.go_on(&mut writer, 300).await;
    for deps in [&a, &b] {
        caught_up(deps, &writer).await;
    }
    assert_eq!(everything(&*a.model).await, history.expected());
    first.abort();
    history.go_on(&mut writer, 100).await;
    caught_up(&b, &writer).await;
    let first = project(&a);
    caught_up(&a, &writer).await;
    second.abort();
    history.go_on(&mut writer, 100).await;
    caught_up(&a, &writer).await;
    assert_eq!(everything(&*a.model).await, history.expected());
    first.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn law_12_a_damaged_object_holds_up_its_own_partition_and_no_other() {
    let mut writer = Writer::new().await;
    for i in 0..40 {
        writer.create_database(&format!("zoo{i}"));
        writer.commit().await;
    }
    let heads: Vec<u64> = (0..PARTITIONS)
        .map(|p| writer.heads.next_offset(PartitionId(p)))
        .collect();
    let (damaged, at) = (PartitionId(1), 3);
    assert!(heads[1] > at + 1, "there is more behind it");
    let key = keys::commit(damaged, at);
    let sound = writer
        .objects
        .get(&key)
        .await
        .expect("read")
        .expect("there");
    let torn = sound.slice(..sound.len() / 2);
    writer.objects.put(&key, torn).await.expect("put");
    let model = model(&postgres::fresh());
    let mut deps = writer.deps(model.clone());
    // One that has not read it before.
    let log = LogReader::new(writer.objects.clone(), "test".into(), PARTITIONS, 1 << 20);
    deps.log = Arc::new(log);
    let running = project(&deps);
    let reached = async |expected: &[u64], what: &str| {
        eventually(what, || async {
            let live = model.generations(PARTITIONS).await.ok()?.live;
            (live.next == expected).then_some(())
        })
        .await;
    };
    let whole = [heads[0], at, heads[2]];
    reached(&whole, "everything whole is taken in").await;
    eventually("it is told where the projection is halted", || async {
        let told = deps.halts.list();
        let halt = told.first()?;
        ((halt.what, halt.partition) == ("projection", Some(damaged))).then_some(())
    })
    .await;
    writer.objects.put(&key, sound).await.expect("put");
    reached(&heads, "what is put right is read on").await;
    assert_eq!(deps.halts.list(), []);
    running.abort();
}
