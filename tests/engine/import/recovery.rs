//! Imports that are repeated, killed, and given rows that cannot be taken in.

use std::sync::Arc;

use oms::actors::import::given::{Control, ImportControl, ImportRun, RunDeps};
use oms::clock::SystemClock;
use oms::import::progress::ImportStatus;
use oms::store::ports::import::ImportJournal as _;
use tokio::sync::watch;

use super::world::{PLAIN, PLAIN_TOML, World, import, start};

/// 50 streams of 100 events, interleaved.
const MANY: &str = "INSERT INTO events (stream, version) \
                    SELECT 's' || (i % 50), i / 50 + 1 FROM generate_series(0, 4999) i";

#[tokio::test(flavor = "multi_thread")]
async fn running_twice_adds_nothing() {
    let world = World::new(PLAIN).await;
    world.foreign.batch_execute(MANY).await.expect("rows");
    let importer = world.importer(PLAIN_TOML);
    let first = import(&importer, start()).await;
    assert_eq!(
        (first.written, first.existing, first.total),
        (5_000, 0, 5_000)
    );
    let before = world.everything().await;
    let second = import(&importer, start()).await;
    assert_eq!(
        (second.done, second.done_total),
        (0, 5_000),
        "nothing is read"
    );
    let mut anew = start();
    anew.restart = true;
    let third = import(&importer, anew).await;
    assert_eq!(
        (third.written, third.existing),
        (0, 5_000),
        "all is recognised"
    );
    assert_eq!(third.parked, 0);
    assert!(world.everything().await == before);
    assert!(before.values().all(|events| events.len() == 100));
}

/// Kills imports at many points, each with the checkpoint it had then, until one gets through.
#[tokio::test(flavor = "multi_thread")]
async fn law_2_a_killed_import_goes_on_and_loses_and_doubles_nothing() {
    let world = World::new(PLAIN).await;
    world.foreign.batch_execute(MANY).await.expect("rows");
    for kill_at in [1, 700, 1_900, 3_300] {
        let deps = RunDeps {
            source: world.source(PLAIN_TOML),
            journal: world.journal(),
            appender: Arc::new(world.side.writer.clone()),
            clock: Arc::new(SystemClock),
        };
        let (progress, _seen) = watch::channel(ImportStatus::idle("shop"));
        let control = Control {
            order: ImportControl::Run,
            rate: Some(20_000),
        };
        let (_control, controlled) = watch::channel(control);
        let kill = async {
            let store = &world.side.writer;
            loop {
                let written: u64 = (0..50)
                    .filter_map(|n| {
                        let id = format!("s{n}");
                        let stream = oms::domain::ids::StreamName::from_stored("order", &id);
                        store.head(&stream)
                    })
                    .map(|head| head.0)
                    .sum();
                if written >= kill_at {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = ImportRun::new(deps, false, progress, controlled).run() => {}
            () = kill => {}
        }
    }
    let last = import(&world.importer(PLAIN_TOML), start()).await;
    assert_eq!((last.parked, last.done_total), (0, 5_000));
    let everything = world.everything().await;
    assert_eq!(everything.len(), 50);
    for events in everything.values() {
        assert_eq!(events.len(), 100);
        let positions: Vec<i64> = events
            .iter()
            .map(|e| {
                e.metadata["import"]["position"]
                    .as_i64()
                    .expect("a position")
            })
            .collect();
        assert!(positions.is_sorted(), "in the order of the source");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_3_bad_rows_are_parked_their_streams_stop_and_others_go_on() {
    let world = World::new(PLAIN).await;
    let rows = "INSERT INTO events (stream, version, type, data) VALUES
        ('a', 1, 'Happened', '{}'), ('b', 1, 'Happened', '{'), ('b', 2, 'Happened', '{}'),
        ('a', 2, 'Happened', '[1.10]'), ('c', 2, 'Happened', '{}'), ('d', 1, '', '{}'),
        ('', 1, 'Happened', '{}'), ('e', 0, 'Happened', '{}'), ('a', 2, 'Happened', '{}'),
        ('a', 3, 'Happened', '{}')";
    world.foreign.batch_execute(rows).await.expect("rows");
    let importer = world.importer(PLAIN_TOML);
    let status = import(&importer, start()).await;
    assert_eq!((status.written, status.parked), (2, 8));
    assert_eq!(status.checkpoint.as_deref(), Some("10"));
    let parked = importer.parked("shop", 0, 100).await.expect("listed");
    let mut told: Vec<(i64, &str)> = parked
        .iter()
        .map(|p| (p.key.parse().expect("a position"), p.reason.as_str()))
        .collect();
    told.sort_unstable();
    let expected = [
        (2, "bad_data"),
        (3, "after_parked"),
        (5, "gap"),
        (6, "bad_type"),
        (7, "bad_stream"),
        (8, "bad_version"),
        (9, "duplicate"),
        (10, "after_parked"),
    ];
    assert_eq!(told, expected);
    // What comes later of a stopped stream is parked as well, by a later run too.
    let later = "INSERT INTO events (stream, version) VALUES ('b', 3), ('f', 1)";
    world.foreign.batch_execute(later).await.expect("rows");
    let status = import(&importer, start()).await;
    assert_eq!((status.written, status.parked), (1, 9));
    // Once the rows are mended, a restart takes everything in.
    let mend = "UPDATE events SET data = '{}' WHERE pos = 2;
        UPDATE events SET version = 1 WHERE pos IN (5, 8);
        UPDATE events SET type = 'Mended' WHERE pos = 6;
        DELETE FROM events WHERE pos IN (7, 9)";
    world.foreign.batch_execute(mend).await.expect("mended");
    let mut anew = start();
    anew.restart = true;
    let status = import(&importer, anew).await;
    assert_eq!((status.existing, status.parked), (3, 0));
    assert_eq!(status.written, 7);
    assert_eq!(world.everything().await["order/b"].len(), 3);
    assert_eq!(
        world.journal().count_parked("shop").await.expect("count"),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_differs_from_the_log_is_told_and_left() {
    let world = World::new(PLAIN).await;
    let rows = "INSERT INTO events (stream, version) VALUES ('a', 1), ('a', 2), ('b', 1)";
    world.foreign.batch_execute(rows).await.expect("rows");
    import(&world.importer(PLAIN_TOML), start()).await;
    // Another table, another story of the same streams.
    let other = PLAIN_TOML.to_owned()
        + "event_id = \"'00000000-0000-4000-8000-' || lpad(pos::text, 12, '0')\"";
    let importer = world.importer(&other);
    let mut anew = start();
    anew.restart = true;
    let before = world.everything().await;
    let status = import(&importer, anew).await;
    assert_eq!((status.written, status.existing), (0, 0));
    assert_eq!((status.parked, status.diverged), (3, 2));
    assert!(world.everything().await == before);
}
