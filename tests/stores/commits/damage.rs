//! What somebody did to the tables by hand is found, not passed on.

use oms::store::error::StoreErrorKind;
use oms::store::ports::commit_store::CommitStore;

use super::chain::{Chain, places};
use super::{P0, World};

/// What is done to object 2 of 4, of three events, and a word of what is said about it.
const DAMAGE: &[(&str, &str)] = &[
    (
        "UPDATE events SET envelope = replace(envelope::text, 'ann', 'bob')::json
         WHERE commit_offset = 2 AND idx = 1",
        "SHA-256",
    ),
    (
        "UPDATE events SET envelope = (envelope::text || ' ')::json
         WHERE commit_offset = 2 AND idx = 1",
        "bytes long",
    ),
    (
        "UPDATE events SET envelope = replace(envelope::text, '\"data\"', E'\\n\"data\"')::json
         WHERE commit_offset = 2 AND idx = 1",
        "lines",
    ),
    (
        "DELETE FROM events WHERE commit_offset = 2 AND idx = 1",
        "lines",
    ),
    ("DELETE FROM events WHERE commit_offset = 2", "lines"),
    (
        "UPDATE events SET idx = 7 WHERE commit_offset = 2 AND idx = 2",
        "numbered",
    ),
    (
        "UPDATE events SET idx = 3 - idx WHERE commit_offset = 2 AND idx > 0",
        "SHA-256",
    ),
    (
        "INSERT INTO events SELECT partition, commit_offset, 3, stream_type, stream_id, 99,
                                   gen_random_uuid(), event_type, command_id, recorded, envelope
         FROM events WHERE commit_offset = 2 AND idx = 2",
        "lines",
    ),
    (
        "UPDATE commits SET header = '{}' WHERE commit_offset = 2",
        "header",
    ),
    (
        "UPDATE commits SET header = replace(header::text, '\"offset\":2', '\"offset\":5')::json
         WHERE commit_offset = 2",
        "header says 0/5",
    ),
    (
        "UPDATE commits SET control = '{}' WHERE commit_offset = 2",
        "lines",
    ),
    (
        "UPDATE commits SET sha256 = decode(repeat('00', 32), 'hex') WHERE commit_offset = 2",
        "SHA-256",
    ),
    (
        "UPDATE commits SET size = size + 1 WHERE commit_offset = 2",
        "bytes long",
    ),
    ("DELETE FROM commits WHERE commit_offset = 2", "missing"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_rows_are_corrupt_and_named() {
    let world = World::new();
    let mut chain = Chain::new(P0);
    let mut objects = vec![chain.control()];
    objects.extend((0..3).map(|_| chain.events(&["1", "2", "3"])));
    let client = {
        world.commits.put(&objects[0]).await.unwrap();
        world.other().await
    };
    for (damage, word) in DAMAGE {
        client
            .batch_execute("TRUNCATE commits, events")
            .await
            .unwrap();
        world.commits.copy(&objects).await.unwrap();
        assert_eq!(world.commits.span(P0, 0, 4).await.unwrap().len(), 4);
        // Two events may change places.
        client
            .batch_execute(&format!(
                "BEGIN; ALTER TABLE events DROP CONSTRAINT events_pkey; {damage};
                 ALTER TABLE events ADD PRIMARY KEY (partition, commit_offset, idx); COMMIT"
            ))
            .await
            .unwrap();
        for result in [
            world.commits.span(P0, 0, 4).await.map(|_| ()),
            world.commits.span(P0, 2, 4).await.map(|_| ()),
        ] {
            let error = result.expect_err(damage);
            assert_eq!(error.kind, StoreErrorKind::Corrupt, "{damage}: {error}");
            let named = error.message.contains("0/2") && error.message.contains(word);
            assert!(named, "{damage}: {error}");
        }
        let healthy = world.commits.span(P0, 0, 2).await.unwrap();
        assert_eq!(healthy.len(), 2, "{damage}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_event_is_corrupt_and_its_neighbours_are_not() {
    let world = World::new();
    let mut chain = Chain::new(P0);
    let object = chain.events(&["1", "2", "3"]);
    world.commits.put(&object).await.unwrap();
    let client = world.other().await;
    let places = places(&object);
    for damage in [
        "UPDATE events SET envelope = (envelope::text || ' ')::json WHERE idx = 1",
        "UPDATE events SET version = 77 WHERE idx = 1",
        "DELETE FROM events WHERE idx = 1",
    ] {
        client.batch_execute(damage).await.unwrap();
        let error = world.commits.events(P0, &places).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Corrupt, "{damage}");
        assert!(error.message.contains("0/0/1"), "{error}");
        let rest = [places[0], places[2]];
        assert_eq!(world.commits.events(P0, &rest).await.unwrap().len(), 2);
    }
}
