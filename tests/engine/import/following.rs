//! A source that is still written to: nothing that commits late is lost.

use oms::domain::ids::StreamName;
use oms::import::progress::ImportState;

use super::world::{PLAIN, PLAIN_TOML, World, import, start, until};
use oms_testkit::eventually;

fn insert(stream: &str, version: i64) -> String {
    format!("INSERT INTO events (stream, version) VALUES ('{stream}', {version})")
}

#[tokio::test(flavor = "multi_thread")]
async fn law_9_a_row_that_commits_late_is_waited_for() {
    let world = World::new(PLAIN).await;
    let late = world.another().await;
    // Position 1 is drawn first and committed last.
    late.batch_execute(&format!("BEGIN; {}", insert("late", 1)))
        .await
        .expect("open");
    world
        .foreign
        .batch_execute(&insert("early", 1))
        .await
        .expect("committed");
    let importer = world.importer(PLAIN_TOML);
    let mut follow = start();
    follow.follow = true;
    importer.start(follow).expect("started");
    let status = until(&importer, "it waits", |s| s.waiting_for_writers == 1).await;
    assert_eq!((status.written, status.checkpoint), (0, None));
    // A writer that begins later is not waited for.
    let later = world.another().await;
    later
        .batch_execute(&format!("BEGIN; {}", insert("later", 1)))
        .await
        .expect("open");
    late.batch_execute("COMMIT").await.expect("committed");
    let status = until(&importer, "both are there", |s| s.written == 2).await;
    assert_eq!(status.parked, 0);
    later.batch_execute("COMMIT").await.expect("committed");
    until(&importer, "all are there", |s| {
        s.written == 3 && s.state == ImportState::Following
    })
    .await;
    importer.stop("shop").expect("stops");
    let status = until(&importer, "it ends", |s| s.state.is_over()).await;
    assert_eq!(status.state, ImportState::Stopped);
    assert_eq!(status.checkpoint.as_deref(), Some("3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_drawn_before_the_row_is_inserted_is_waited_for() {
    let world = World::new(PLAIN).await;
    let late = world.another().await;
    late.batch_execute("BEGIN; SELECT nextval('events_pos_seq')")
        .await
        .expect("drawn");
    world
        .foreign
        .batch_execute(&insert("early", 1))
        .await
        .expect("committed");
    let importer = world.importer(PLAIN_TOML);
    importer.start(start()).expect("started");
    until(&importer, "it waits", |s| s.waiting_for_writers == 1).await;
    late.batch_execute("INSERT INTO events (pos, stream, version) VALUES (1, 'late', 1); COMMIT")
        .await
        .expect("committed");
    let status = until(&importer, "the end", |s| s.state.is_over()).await;
    assert_eq!((status.state, status.written), (ImportState::Done, 2));
}

/// Many writers, each committing after a moment, while the import follows.
#[tokio::test(flavor = "multi_thread")]
async fn law_9_nothing_is_lost_while_many_write() {
    const WRITERS: usize = 8;
    const EACH: i64 = 60;
    for (table, toml) in [
        (PLAIN, PLAIN_TOML.to_owned()),
        // The same without a global order.
        (PLAIN, PLAIN_TOML.replace("order = \"pos\"\n", "")),
    ] {
        let world = World::new(table).await;
        let importer = world.importer(&toml);
        let mut follow = start();
        follow.follow = true;
        importer.start(follow).expect("started");
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let client = world.another().await;
            writers.push(tokio::spawn(async move {
                for version in 1..=EACH {
                    let wait = (writer as i64 * 7 + version * 3) % 11;
                    let stream = format!("s{writer}");
                    let sql = format!(
                        "BEGIN; {}; SELECT pg_sleep({wait} / 1000.0); COMMIT",
                        insert(&stream, version)
                    );
                    client.batch_execute(&sql).await.expect("written");
                }
            }));
        }
        for writer in writers {
            writer.await.expect("writer");
        }
        let all = WRITERS as u64 * EACH as u64;
        let status = until(&importer, "all are there", |s| s.written == all).await;
        assert_eq!(status.parked, 0, "{status:?}");
        importer.stop("shop").expect("stops");
        until(&importer, "it ends", |s| s.state.is_over()).await;
        let everything = world.everything().await;
        assert_eq!(everything.len(), WRITERS);
        assert!(
            everything
                .values()
                .all(|events| events.len() == EACH as usize)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_paused_and_slowed_while_it_runs() {
    let world = World::new(PLAIN).await;
    let rows = "INSERT INTO events (stream, version) \
                SELECT 's' || i, 1 FROM generate_series(1, 400) i";
    world.foreign.batch_execute(rows).await.expect("rows");
    let importer = world.importer(PLAIN_TOML);
    let mut slow = start();
    slow.rate = Some(40);
    importer.start(slow.clone()).expect("started");
    assert!(importer.start(slow).is_err(), "it is under way");
    until(&importer, "it has begun", |s| s.written > 0).await;
    importer.pause("shop").expect("pauses");
    let paused = until(&importer, "it rests", |s| {
        s.state == ImportState::Paused && s.under_way == 0
    })
    .await;
    assert!(paused.done < 400, "{paused:?}");
    assert!(importer.set_rate("shop", Some(0)).is_err());
    importer.set_rate("shop", None).expect("no limit");
    let still = importer.status("shop").expect("status");
    assert_eq!(still.state, ImportState::Paused);
    importer.resume("shop").expect("resumes");
    let status = until(&importer, "the end", |s| s.state.is_over()).await;
    assert_eq!((status.written, status.total), (400, 400));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_description_is_told_with_its_key() {
    let world = World::new(PLAIN).await;
    let wrong = [
        (PLAIN_TOML.replace("\"at\"", "\"when\""), "shop.time"),
        (PLAIN_TOML.replace("\"pos\"", "\"stream\""), "shop.order"),
        (
            PLAIN_TOML.replace("public.events", "public.event"),
            "shop.table",
        ),
        (
            PLAIN_TOML.to_owned() + "filter = \"nonsense\"",
            "shop.filter",
        ),
        (PLAIN_TOML.to_owned() + "join = \"JOIN x\"", "shop.join"),
    ];
    for (toml, key) in wrong {
        let importer = world.importer(&toml);
        importer.start(start()).expect("started");
        let status = until(&importer, "it fails", |s| s.state.is_over()).await;
        assert_eq!(status.state, ImportState::Failed);
        let error = status.error.expect("an error");
        assert!(error.contains(key), "{error}");
    }
    let ahead = "ALTER SEQUENCE events_pos_seq CACHE 10";
    world.foreign.batch_execute(ahead).await.expect("altered");
    let importer = world.importer(PLAIN_TOML);
    importer.start(start()).expect("started");
    let status = until(&importer, "it fails", |s| s.state.is_over()).await;
    assert!(status.error.expect("an error").contains("shop.lag"));
    let lag = PLAIN_TOML.to_owned() + "lag = \"50ms\"";
    import(&world.importer(&lag), start()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_down_is_waited_for() {
    let world = World::new(PLAIN).await;
    let importer = world.importer(PLAIN_TOML);
    let mut follow = start();
    follow.follow = true;
    importer.start(follow).expect("started");
    until(&importer, "it follows", |s| {
        s.state == ImportState::Following
    })
    .await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE application_name = 'oms import' AND datname = current_database()";
    world.foreign.batch_execute(cut).await.expect("cut");
    world
        .foreign
        .batch_execute(&insert("after", 1))
        .await
        .expect("a row");
    until(&importer, "it goes on", |s| s.written == 1).await;
    let stream = StreamName::from_stored("order", "after");
    eventually("it is in the log", || async {
        (world.side.writer.head(&stream)?.0 == 1).then_some(())
    })
    .await;
}
