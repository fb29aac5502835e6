//! Streams whose beginning is gone, rows without a number, and rows out of their stream's order.

use super::world::{PLAIN, PLAIN_TOML, World, import, parked, refused, start};

fn anywhere() -> String {
    PLAIN_TOML.to_owned() + "first_version = \"any\"\n"
}

fn numbered_here() -> String {
    PLAIN_TOML.replace("version = \"version\"\n", "")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_beginning_was_deleted_begins_with_what_is_there() {
    let world = World::new(PLAIN).await;
    let rows = "INSERT INTO events (stream, version) VALUES
        ('cut', 4), ('whole', 1), ('cut', 5), ('whole', 2)";
    world.foreign.batch_execute(rows).await.expect("rows");
    let strict = world.importer(PLAIN_TOML);
    let status = import(&strict, start()).await;
    assert_eq!((status.written, status.parked), (2, 2));
    let told = parked(&strict).await;
    assert_eq!((told[0].0.as_str(), told[0].1.as_str()), ("1", "gap"));
    assert!(told[0].2.contains("first_version = \"any\""), "{told:?}");
    let importer = world.importer(&anywhere());
    let mut anew = start();
    anew.restart = true;
    let status = import(&importer, anew.clone()).await;
    assert_eq!((status.written, status.existing, status.parked), (2, 2, 0));
    let cut = world.events("order/cut").await;
    assert_eq!(cut.len(), 2);
    assert_eq!(cut[0].metadata["import"]["version"], 4);
    assert_eq!(
        (cut[1].version, &cut[1].metadata["import"]["version"]),
        (2, &5.into())
    );
    // It goes on with the same difference, whatever is there by then, in whichever process.
    let later = "DELETE FROM events WHERE stream = 'cut' AND version = 4;
        INSERT INTO events (stream, version) VALUES ('cut', 6), ('cut', 8)";
    world.foreign.batch_execute(later).await.expect("rows");
    let status = import(&world.importer(&anywhere()), start()).await;
    assert_eq!((status.written, status.parked), (1, 1));
    let before = world.everything().await;
    assert_eq!(before["order/cut"][2].metadata["import"]["version"], 6);
    let status = import(&world.importer(&anywhere()), anew).await;
    assert_eq!((status.written, status.parked), (0, 1), "{status:?}");
    assert_eq!(parked(&world.importer(&anywhere())).await[0].1, "gap");
    assert!(
        world.everything().await == before,
        "nothing is added by repeating"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn events_without_a_number_are_numbered_by_their_positions() {
    let world = World::new(PLAIN).await;
    let rows = "ALTER TABLE events ALTER version DROP NOT NULL;
        INSERT INTO events (stream, version, data)
        SELECT 's' || (i % 3), NULL, i::text FROM generate_series(0, 8) i";
    world.foreign.batch_execute(rows).await.expect("rows");
    let strict = world.importer(PLAIN_TOML);
    let status = import(&strict, start()).await;
    assert_eq!((status.written, status.parked), (0, 9));
    let told = parked(&strict).await;
    assert!(
        told[0].1 == "bad_version" && told[0].2.contains("leave"),
        "{told:?}"
    );
    let mut anew = start();
    anew.restart = true;
    let status = import(&world.importer(&numbered_here()), anew.clone()).await;
    assert_eq!((status.written, status.parked), (9, 0));
    let data = |events: &[super::world::Event]| -> Vec<String> {
        events.iter().map(|e| e.data.clone()).collect()
    };
    assert_eq!(data(&world.events("order/s1").await), ["1", "4", "7"]);
    // More of the same streams, and everything once more.
    let more = "INSERT INTO events (stream, version, data)
        SELECT 's' || (i % 3), NULL, i::text FROM generate_series(9, 11) i";
    world.foreign.batch_execute(more).await.expect("rows");
    let status = import(&world.importer(&numbered_here()), start()).await;
    assert_eq!((status.written, status.existing), (3, 0));
    let before = world.everything().await;
    let status = import(&world.importer(&numbered_here()), anew.clone()).await;
    assert_eq!((status.written, status.existing, status.parked), (0, 12, 0));
    // Where the first rows are gone the rest is still where it was.
    let gone = "DELETE FROM events WHERE pos IN (2, 5)";
    world.foreign.batch_execute(gone).await.expect("gone");
    let status = import(&world.importer(&numbered_here()), anew).await;
    assert_eq!((status.written, status.existing, status.parked), (0, 10, 0));
    assert!(world.everything().await == before);
    assert_eq!(data(&before["order/s1"]), ["1", "4", "7", "10"]);
}

/// The checkpoint was lost after some of it, or never kept.
#[tokio::test(flavor = "multi_thread")]
async fn law_2_numbers_given_here_are_given_again_after_a_crash() {
    use oms::store::ports::import::ImportJournal as _;
    let world = World::new(PLAIN).await;
    for n in 0..5 {
        let rows = format!(
            "INSERT INTO events (stream, version) SELECT 's' || (i % 7), {n} FROM generate_series(1, 50) i"
        );
        world.foreign.batch_execute(&rows).await.expect("rows");
        world.journal().forget("shop").await.expect("lost");
        let status = import(&world.importer(&numbered_here()), start()).await;
        assert_eq!((status.written, status.parked), (50, 0));
        assert_eq!(status.existing, 50 * n);
    }
    let everything = world.everything().await;
    assert_eq!(everything.values().map(Vec::len).sum::<usize>(), 250);
}

/// Numbers drawn in blocks, as pooled sequences do.
#[tokio::test(flavor = "multi_thread")]
async fn rows_out_of_their_streams_order_say_what_to_do_and_it_works() {
    let world = World::new(PLAIN).await;
    let rows = "INSERT INTO events (pos, stream, version) VALUES
        (1, 'a', 1), (51, 'a', 2), (2, 'a', 3), (3, 'b', 2), (52, 'b', 1)";
    world.foreign.batch_execute(rows).await.expect("rows");
    let importer = world.importer(PLAIN_TOML);
    let status = import(&importer, start()).await;
    assert_eq!((status.written, status.parked), (1, 4));
    let told = parked(&importer).await;
    let gap = told.iter().find(|p| p.0 == "2").expect("parked");
    assert!(
        gap.1 == "gap" && gap.2.contains("leave the source's `order` out"),
        "{gap:?}"
    );
    let mut anew = start();
    anew.restart = true;
    let by_stream = PLAIN_TOML.replace("order = \"pos\"\n", "");
    let status = import(&world.importer(&by_stream), anew).await;
    assert_eq!((status.written, status.existing, status.parked), (4, 1, 0));
    let blocks = "ALTER SEQUENCE events_pos_seq INCREMENT BY 50";
    world.foreign.batch_execute(blocks).await.expect("altered");
    let told = refused(&world, PLAIN_TOML).await;
    assert!(told.contains("leave `order` out"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_3_a_version_that_is_there_twice_is_parked_and_its_neighbours_are_not() {
    let by_stream = PLAIN_TOML.replace("order = \"pos\"\n", "");
    let world = World::new(PLAIN).await;
    let rows = "INSERT INTO events (stream, version)
        SELECT 's' || (i % 50), i / 50 + 1 FROM generate_series(0, 4999) i;
        INSERT INTO events (stream, version) VALUES ('s7', 3), ('s7', 3), ('s8', 100)";
    world.foreign.batch_execute(rows).await.expect("rows");
    let importer = world.importer(&by_stream);
    let mut slow = start();
    slow.rate = Some(50_000);
    let status = import(&importer, slow).await;
    assert_eq!(status.written, 5_000 - 97);
    let told = parked(&importer).await;
    assert!(
        told.iter().any(|p| p.0 == "s7/3" && p.1 == "duplicate"),
        "{told:?}"
    );
    assert!(told.iter().any(|p| p.0 == "s8/100" && p.1 == "duplicate"));
}

#[tokio::test(flavor = "multi_thread")]
async fn law_2_window_functions_are_refused_and_sub_selects_are_taken() {
    let world = World::new(PLAIN).await;
    let rows = "INSERT INTO events (stream, version) SELECT 'a', 0 FROM generate_series(1, 10)";
    world.foreign.batch_execute(rows).await.expect("rows");
    let number = "row_number() OVER (PARTITION BY e.stream ORDER BY e.pos)";
    let version =
        |sql: &str| PLAIN_TOML.replace("version = \"version\"", &format!("version = \"{sql}\""));
    for (key, toml) in [
        ("shop.version", version(number)),
        (
            "shop.event_id",
            PLAIN_TOML.to_owned() + &format!("event_id = \"{number}\""),
        ),
        (
            "shop.order",
            PLAIN_TOML.replace("\"pos\"", &format!("\"{number}\"")),
        ),
    ] {
        let told = refused(&world, &toml).await;
        assert!(
            told.contains(key) && told.contains("window function"),
            "{told}"
        );
    }
    let told = refused(&world, &version("generate_series(1, 2)")).await;
    assert!(told.contains("shop.version"), "{told}");
    let whole = format!(
        "(SELECT n FROM (SELECT pos, {} AS n FROM events) x WHERE x.pos = e.pos)",
        number.replace("e.", "")
    );
    let status = import(&world.importer(&version(&whole)), start()).await;
    assert_eq!((status.written, status.parked), (10, 0));
}
