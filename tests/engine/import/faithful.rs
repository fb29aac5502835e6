//! What is stored is what it was: otherwise the source is refused when it is described, or the row
//! is parked and its neighbours go on.

use oms_testkit::postgres::{self, session};
use serde_json::json;

use super::world::{PLAIN, PLAIN_TOML, World, import, parked, refused, start};

/// PLAIN with a column more, described by `line` in place of what is described so already.
fn with(key: &str, value: &str) -> String {
    let line = format!("{key} = \"{value}\"");
    let others: Vec<&str> = PLAIN_TOML
        .lines()
        .filter(|l| !l.starts_with(&format!("{key} =")))
        .collect();
    format!("{}\n{line}\n", others.join("\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn law_2_numbers_of_large_objects_are_not_their_content() {
    let world = World::new(PLAIN).await;
    let rows = r#"ALTER TABLE events ADD payload oid, ADD told text;
        INSERT INTO events (stream, version, payload)
        SELECT 'a', i, lo_from_bytea(0, convert_to('{"seats":' || i || '}', 'UTF8'))
        FROM generate_series(1, 3) i;
        UPDATE events SET told = payload::text;
        CREATE DOMAIN content AS oid; ALTER TABLE events ADD wrapped content"#;
    world.foreign.batch_execute(rows).await.expect("rows");
    for (key, column, hint) in [
        ("data", "payload", "lo_get(e.\\\"payload\\\")"),
        ("metadata", "payload", "lo_get(e.\\\"payload\\\")"),
        ("data", "wrapped", "lo_get(e.\\\"wrapped\\\")"),
        ("data", "e.payload::regclass", "content"),
        ("data", "told", "lo_get((e.\\\"told\\\")::oid)"),
        ("data", "told::int8", "lo_get("),
    ] {
        let told = refused(&world, &with(key, column)).await;
        let hint = hint.replace('\\', "");
        assert!(
            told.contains(&format!("shop.{key}")) && told.contains(&hint),
            "{told}"
        );
    }
    // What is advised works; an object that is gone costs its own row and what follows it.
    let gone = "SELECT lo_unlink(payload) FROM events WHERE version = 2;
        INSERT INTO events (stream, version, payload)
        SELECT 'b', i, lo_from_bytea(0, '{\"seats\":9}') FROM generate_series(1, 200) i";
    world.foreign.batch_execute(gone).await.expect("rows");
    let importer = world.importer(&with("data", "lo_get(e.payload)"));
    let status = import(&importer, start()).await;
    assert_eq!((status.written, status.parked), (201, 2));
    assert_eq!(world.events("order/a").await[0].data, r#"{"seats":1}"#);
    let told = parked(&importer).await;
    assert_eq!(
        (told[0].0.as_str(), told[0].1.as_str()),
        ("2", "unreadable")
    );
    assert!(told[0].2.contains("large object"), "{told:?}");
    assert_eq!(told[1].1, "after_parked");
    assert_eq!(status.parked_in.as_deref(), Some("oms.import_parked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn law_2_a_time_that_is_no_time_is_not_the_time_of_the_import() {
    let world = World::new(PLAIN).await;
    let rows = "ALTER TABLE events ADD ms bigint, ADD day date, ADD local timestamp, ADD told text;
        INSERT INTO events (stream, version, ms, day, local, told) VALUES
        ('a', 1, 1740822000123, '2026-01-02', '2026-01-02 03:04:05.678901', '2026-01-02T03:04:05+02:00'),
        ('b', 1, 1740822000123, '2026-01-02', 'infinity', '2026-01-02 03:04:05'),
        ('c', 1, NULL, NULL, NULL, NULL)";
    world.foreign.batch_execute(rows).await.expect("rows");
    for (column, hint) in [
        ("ms", "to_timestamp(e.\"ms\" / 1000.0)"),
        ("day", "::timestamp"),
        ("e.local::time", "timestamptz"),
    ] {
        let told = refused(&world, &with("time", column)).await;
        assert!(told.contains("shop.time") && told.contains(hint), "{told}");
    }
    // Whatever is described otherwise is the same event: only its time is told apart here.
    for (column, time) in [
        ("to_timestamp(e.ms / 1000.0)", "2025-03-01T09:40:00.123Z"),
        ("(e.day)::timestamp", "2026-01-02T00:00:00Z"),
        ("local", "2026-01-02T03:04:05.678901Z"),
        ("told", "2026-01-02T01:04:05Z"),
    ] {
        let world = World::new(PLAIN).await;
        world.foreign.batch_execute(rows).await.expect("rows");
        // The database's own zone is no matter.
        let zone = format!(
            "ALTER DATABASE {} SET timezone = 'Asia/Tokyo'",
            world.database()
        );
        world.foreign.batch_execute(&zone).await.expect("zone");
        let importer = world.importer(&with("time", column));
        let status = import(&importer, start()).await;
        assert_eq!(world.events("order/a").await[0].time, time, "{column}");
        let odd = u64::from(matches!(column, "local" | "told"));
        assert_eq!((status.written, status.parked), (3 - odd, odd), "{column}");
        if odd > 0 {
            let told = parked(&importer).await;
            assert_eq!((told[0].0.as_str(), told[0].1.as_str()), ("2", "bad_time"));
        }
        let untimed = &world.events("order/c").await[0];
        assert_eq!(untimed.metadata["import"]["time"], json!(null));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_3_a_row_that_an_expression_cannot_take_stops_no_other() {
    let world = World::new(PLAIN).await;
    let rows = "INSERT INTO events (stream, version, data)
        SELECT 's' || (i % 10), i / 10 + 1, i::text FROM generate_series(0, 999) i;
        UPDATE events SET data = '0' WHERE pos IN (500, 501, 777)";
    world.foreign.batch_execute(rows).await.expect("rows");
    for toml in [
        with("data", "to_json(1000 / e.data::int)"),
        with("data", "to_json(1000 / e.data::int)").replace("order = \"pos\"\n", ""),
    ] {
        let world = World::new(PLAIN).await;
        world.foreign.batch_execute(rows).await.expect("rows");
        // The first row of all is 0 too.
        let importer = world.importer(&toml);
        let status = import(&importer, start()).await;
        assert_eq!(status.written + status.parked, 1_000);
        let told = parked(&importer).await;
        let unreadable: Vec<_> = told.iter().filter(|p| p.1 == "unreadable").collect();
        assert_eq!(unreadable.len(), 4, "{unreadable:?}");
        assert!(unreadable.iter().all(|p| p.2.contains("division by zero")));
        let rest = told.iter().filter(|p| p.1 == "after_parked").count();
        assert_eq!(rest + 4, told.len(), "nothing else is parked");
        // A page later it reads at full width again: a stream without such a row is whole.
        assert_eq!(world.events("order/s3").await.len(), 100);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_what_is_too_large_is_parked_before_it_is_in_memory_and_pages_have_a_weight() {
    let world = World::new(PLAIN).await;
    let rows = r#"ALTER TABLE events ALTER data SET STORAGE EXTERNAL;
        INSERT INTO events (stream, version, data) VALUES
            ('small', 1, '{}'),
            ('large', 1, '"' || repeat('x', 1048576) || '"'),
            ('huge', 1, '"' || repeat('x', 30000000) || '"'),
            ('small', 2, '{}');
        INSERT INTO events (stream, version, data)
        SELECT 'many', i, '"' || repeat('y', 900000) || '"' FROM generate_series(1, 100) i"#;
    world.foreign.batch_execute(rows).await.expect("rows");
    for toml in [
        PLAIN_TOML.to_owned(),
        PLAIN_TOML.replace("order = \"pos\"\n", ""),
    ] {
        let world_of = &world;
        let importer = world_of.importer(&toml);
        let mut anew = start();
        anew.restart = true;
        let status = import(&importer, anew).await;
        assert_eq!((status.written + status.existing, status.parked), (102, 2));
        let told = parked(&importer).await;
        assert!(told.iter().all(|p| p.1 == "too_large"), "{told:?}");
        assert!(
            told.iter()
                .all(|p| p.2.contains("migration.max_event_bytes")),
            "{told:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_9_an_id_that_is_used_twice_is_imported_twice() {
    let world = World::new(PLAIN).await;
    let rows = "ALTER TABLE events ADD id uuid;
        INSERT INTO events (stream, version, id) VALUES
        ('cart-1', 1, 'a0000000-0000-4000-8000-000000000001'),
        ('cart-2', 1, 'a0000000-0000-4000-8000-000000000001'),
        ('cart-3', 1, NULL)";
    world.foreign.batch_execute(rows).await.expect("rows");
    let toml = PLAIN_TOML.to_owned() + "event_id = \"id\"";
    let status = import(&world.importer(&toml), start()).await;
    assert_eq!((status.written, status.parked), (3, 0));
    for stream in ["order/cart-1", "order/cart-2"] {
        let id = &world.events(stream).await[0].id;
        assert_eq!(id, "a0000000-0000-4000-8000-000000000001");
    }
    let mut anew = start();
    anew.restart = true;
    let status = import(&world.importer(&toml), anew).await;
    assert_eq!((status.written, status.existing, status.parked), (0, 3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn law_2_types_of_other_scripts_stay_apart_over_restarts() {
    let world = World::new(PLAIN).await;
    let rows = "ALTER TABLE events ADD kind text;
        INSERT INTO events (kind, stream, version, type) VALUES
        ('заказ', '1', 1, '订单已创建'), ('заказ', '1', 2, '订单已取消'), ('товар', '1', 1, '订单已创建'),
        ('Order', '1', 1, 'a b')";
    world.foreign.batch_execute(rows).await.expect("rows");
    let toml = with("stream_type", "kind");
    let status = import(&world.importer(&toml), start()).await;
    assert_eq!((status.written, status.parked), (4, 0));
    let later = "INSERT INTO events (kind, stream, version, type) VALUES ('order', '1', 1, 'a_b')";
    world.foreign.batch_execute(later).await.expect("rows");
    let status = import(&world.importer(&toml), start()).await;
    assert_eq!((status.written, status.parked), (1, 0), "another process");
    let before = world.everything().await;
    assert_eq!(before.len(), 4, "{:?}", before.keys());
    let types: std::collections::BTreeSet<_> = before
        .values()
        .flatten()
        .map(|event| event.event_type.as_str())
        .collect();
    assert_eq!(types.len(), 4, "{types:?}");
    assert_eq!(before["order/1"][0].event_type, "a_b");
    let mut anew = start();
    anew.restart = true;
    let status = import(&world.importer(&toml), anew).await;
    assert_eq!((status.existing, status.parked), (5, 0));
    assert!(world.everything().await == before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_compressed_is_unpacked_where_that_is_asked_for() {
    // gzip of `{"text":"` and 40,000 times `x` and `"}`, made by gzip itself.
    let json = format!(r#"{{"text":"{}"}}"#, "x".repeat(40_000));
    let mut gzip = Vec::new();
    let mut encoder =
        flate2::bufread::GzEncoder::new(json.as_bytes(), flate2::Compression::default());
    std::io::Read::read_to_end(&mut encoder, &mut gzip).expect("gzip");
    let world = World::new(PLAIN).await;
    let table = "ALTER TABLE events ADD body bytea;
        INSERT INTO events (stream, version, body) VALUES ('a', 1, '{\"n\":1}'), ('a', 2, NULL), ('a', 3, '{}')";
    world.foreign.batch_execute(table).await.expect("rows");
    world
        .foreign
        .execute("UPDATE events SET body = $1 WHERE version = 2", &[&gzip])
        .await
        .expect("gzip");
    let toml = with("data", "body");
    let importer = world.importer(&toml);
    let status = import(&importer, start()).await;
    assert_eq!((status.written, status.parked), (1, 2));
    let told = parked(&importer).await;
    assert!(told[0].2.contains("decompress = true"), "{told:?}");
    let mut anew = start();
    anew.restart = true;
    let importer = world.importer(&(toml + "decompress = true\n"));
    let status = import(&importer, anew).await;
    assert_eq!((status.written, status.parked), (2, 0));
    let a = world.events("order/a").await;
    assert_eq!(a[1].data, json);
    assert_eq!(a[1].metadata["import"]["compressed"], "gzip");
}

/// Bytes that are no text where the database does not say what its texts are.
#[tokio::test(flavor = "multi_thread")]
async fn law_3_a_text_that_is_none_stops_no_other() {
    let world = World::new(PLAIN).await;
    let name = format!("{}_ascii", world.database());
    postgres::shared()
        .administer(&format!(
            "CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        ))
        .await;
    let url = postgres::shared().url(&name);
    let foreign = session(&url).await;
    foreign.batch_execute(PLAIN).await.expect("a table");
    let rows = r"INSERT INTO events (stream, version, data) VALUES
        ('a', 1, '{}'), ('b', 1, E'\x22\xfc\x22'), ('b', 2, '{}'), ('a', 2, '{}')";
    let rows = rows.replace(r"\x22", "\"");
    foreign.batch_execute(&rows).await.expect("rows");
    let importer = world.importer_of(world.source_at(PLAIN_TOML, &url));
    let status = import(&importer, start()).await;
    assert_eq!((status.written, status.parked), (2, 2));
    let told = parked(&importer).await;
    assert_eq!(
        (told[0].0.as_str(), told[0].1.as_str()),
        ("2", "unreadable")
    );
}

/// A long name is no reason to stand still: what is recorded of it fits.
#[tokio::test(flavor = "multi_thread")]
async fn law_13_a_parked_row_is_recorded_however_long_its_names_are() {
    let world = World::new(PLAIN).await;
    let rows = "INSERT INTO events (stream, version, type) VALUES
        (repeat('s', 20000), 1, repeat('t', 50000)), ('a', 1, 'Happened')";
    world.foreign.batch_execute(rows).await.expect("rows");
    let by_stream = PLAIN_TOML.replace("order = \"pos\"\n", "");
    let importer = world.importer(&by_stream);
    let status = import(&importer, start()).await;
    assert_eq!((status.written, status.parked), (1, 1));
    assert_eq!(parked(&importer).await[0].1, "bad_stream");
}

/// A server that calls itself PostgreSQL 12.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_too_old_is_told_at_once_with_both_numbers() {
    let world = World::new(PLAIN).await;
    let old = format!(
        "CREATE SCHEMA old; CREATE FUNCTION old.current_setting(text) RETURNS text LANGUAGE sql AS
         $$ SELECT CASE $1 WHEN 'server_version_num' THEN '120022' ELSE '12.22' END $$;
         ALTER DATABASE {} SET search_path = old, pg_catalog, public",
        world.database()
    );
    world.foreign.batch_execute(&old).await.expect("an old one");
    let told = refused(&world, PLAIN_TOML).await;
    assert!(told.contains("12.22") && told.contains(" 13 "), "{told}");
}

/// Changed while it is read: what is described is not there any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_changed_while_it_is_read_ends_the_import_and_parks_nothing() {
    let world = World::new(PLAIN).await;
    let importer = world.importer(PLAIN_TOML);
    let mut follow = start();
    follow.follow = true;
    importer.start(follow).expect("started");
    super::world::until(&importer, "it follows", |s| {
        s.state == oms::import::progress::ImportState::Following
    })
    .await;
    let change = "ALTER TABLE events RENAME data TO body;
        INSERT INTO events (stream, version) VALUES ('a', 1)";
    world.foreign.batch_execute(change).await.expect("changed");
    let status = super::world::until(&importer, "it ends", |s| s.state.is_over()).await;
    assert!(status.error.expect("why").contains("data"));
    assert_eq!(status.parked, 0);
    let again = import(&world.importer(&with("data", "body")), start()).await;
    assert_eq!((again.written, again.parked), (1, 0));
}
