//! Each preset against the schema and the rows that its tool really made.

use oms::store::ports::import::ImportJournal as _;
use serde_json::{Value, json};

use super::world::{World, import, start};

fn fixture(name: &str) -> String {
    let path = format!(
        "{}/tests/fixtures/sources/{name}",
        env!("CARGO_MANIFEST_DIR")
    );
    std::fs::read_to_string(path).expect("fixture")
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn message_db() {
    let world = World::new(&fixture("message-db.sql")).await;
    let importer = world.importer("preset = \"message-db\"");
    let status = import(&importer, start()).await;
    assert_eq!(
        (status.written, status.parked, status.done_total),
        (6, 0, 6)
    );
    assert_eq!(status.checkpoint.as_deref(), Some("6"));
    let account = world.events("account/123").await;
    let types: Vec<&str> = account.iter().map(|e| e.event_type.as_str()).collect();
    assert_eq!(types, ["Opened", "Deposited", "Withdrawn"]);
    assert_eq!(account[0].id, "a0000000-0000-4000-8000-000000000001");
    assert!(account[1].data.contains("10.10"), "{}", account[1].data);
    assert!(account[1].data.contains("12345678901234567890.123456789"));
    assert_eq!(
        account[2].metadata,
        json!({
            "import": {"source": "shop", "position": 5, "version": 2},
            "metadata": {"causationMessageStreamName": "account:command-123"},
        })
    );
    let command = &world.events("account_command/123").await[0];
    assert_eq!(command.metadata["import"]["stream_type"], "account:command");
    assert_eq!(world.events("account/456%2B789").await.len(), 1);
    assert_eq!(world.events("settings/~").await[0].data, "{}");
}

#[tokio::test(flavor = "multi_thread")]
async fn emmett() {
    let world = World::new(&fixture("emmett.sql")).await;
    let importer = world.importer("preset = \"emmett\"");
    let status = import(&importer, start()).await;
    assert_eq!((status.written, status.parked), (5, 0));
    let cart = world.events("shopping_cart/shopping_cart-1").await;
    let types: Vec<&str> = cart.iter().map(|e| e.event_type.as_str()).collect();
    assert_eq!(
        types,
        [
            "ProductItemAdded",
            "ProductItemAdded",
            "ShoppingCartConfirmed"
        ]
    );
    assert_eq!(json(&cart[0].data)["productId"], "shoes-1");
    assert_eq!(cart[0].metadata["metadata"]["clientId"], "ann");
    let loose = world.events("stream/loose").await;
    assert_eq!(loose[0].event_type, "SomethingHappened");
}

#[tokio::test(flavor = "multi_thread")]
async fn eventsourcing() {
    let world = World::new(&fixture("eventsourcing.sql")).await;
    let toml = "preset = \"eventsourcing\"\ntable = \"public.dogs_events\"";
    let importer = world.importer(toml);
    let status = import(&importer, start()).await;
    assert_eq!((status.written, status.parked), (4, 0));
    let everything = world.everything().await;
    let fido = everything
        .values()
        .find(|events| events.len() == 3)
        .expect("Fido");
    assert!(fido[0].stream.starts_with("dogs/"));
    assert_eq!(fido[0].event_type, "eventsourcing_app:Dog.Registered");
    assert_eq!(json(&fido[0].data)["name"], "Fido");
    let told = json(&fido[1].data)["timestamp"]["_data_"].clone();
    let told: jiff::Timestamp = told.as_str().expect("text").parse().expect("a time");
    assert_eq!(fido[1].time, told.to_string(), "the time in the data");
    let again = world.importer(toml);
    let mut anew = start();
    anew.restart = true;
    let status = import(&again, anew).await;
    assert_eq!((status.written, status.existing), (0, 4), "ids are derived");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_3_compressed_data_are_parked_and_listed() {
    let world = World::new(&fixture("eventsourcing-compressed.sql")).await;
    let importer = world.importer("preset = \"eventsourcing\"\ntable = \"public.dogs_events\"");
    let status = import(&importer, start()).await;
    assert_eq!((status.written, status.parked), (0, 4));
    let parked = world
        .journal()
        .parked("shop", 0, 100)
        .await
        .expect("listed");
    assert_eq!(parked.len(), 4);
    assert!(parked[0].detail.contains("zlib"), "{}", parked[0].detail);
    let reasons: Vec<&str> = parked.iter().map(|p| p.reason.as_str()).collect();
    assert!(reasons.iter().all(|r| *r == "opaque_data"), "{reasons:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_es() {
    let world = World::new(&fixture("postgres-es.sql")).await;
    let importer = world.importer("preset = \"postgres-es\"");
    let status = import(&importer, start()).await;
    assert_eq!((status.written, status.parked), (6, 0));
    let account = world.events("account/acct-1").await;
    assert_eq!(account.len(), 3);
    assert_eq!(
        account[2].data,
        r#"{"Deposited": {"amount": 1.25, "balance": 11.75}}"#
    );
    assert_eq!(account[0].schema_version, 1);
    assert_eq!(
        account[0].metadata,
        json!({
            "import": {"source": "shop", "time": null},
            "metadata": {"time": "2026-01-02T03:04:05Z"},
        })
    );
    let slashed = world.events("account/~acct~2F2").await;
    assert_eq!(slashed[0].metadata["import"]["stream_id"], "acct/2");
    // Without a global order a later import passes over the whole table, and finds what is new.
    let row = "INSERT INTO events VALUES ('account', 'acct-1', 4, 'CustomerDepositedMoney', '1.0', '{}', '{}')";
    world.foreign.batch_execute(row).await.expect("a row");
    let status = import(&importer, start()).await;
    assert_eq!((status.written, status.existing), (1, 0), "and only that");
}

#[tokio::test(flavor = "multi_thread")]
async fn marten() {
    let world = World::new(&fixture("marten.sql")).await;
    let importer = world.importer("preset = \"marten\"\nlag = \"100ms\"");
    let status = import(&importer, start()).await;
    assert_eq!((status.written, status.parked), (4, 0));
    let quest = world
        .events("quest/b0000000-0000-4000-8000-000000000001")
        .await;
    assert_eq!(quest.len(), 3);
    assert_eq!(quest[0].time, "2026-01-02T03:04:05.678901Z");
    assert_eq!(
        quest[0].metadata["metadata"],
        json!({
            "headers": {"user": "ann"},
            "correlation_id": "c-1",
            "dotnet_type": "Quests.QuestStarted, Quests",
        })
    );
    let untyped = world
        .events("stream/b0000000-0000-4000-8000-000000000002")
        .await;
    assert_eq!(untyped[0].event_type, "noted");
}

#[tokio::test(flavor = "multi_thread")]
async fn marten_without_its_optional_columns() {
    let world = World::new(&fixture("marten.sql")).await;
    let fewer = "ALTER TABLE mt_events DROP headers, DROP correlation_id, DROP causation_id, DROP is_archived";
    world.foreign.batch_execute(fewer).await.expect("fewer");
    let importer = world.importer("preset = \"marten\"\nlag = \"10ms\"");
    let status = import(&importer, start()).await;
    assert_eq!((status.written, status.parked), (4, 0));
}

/// Archived streams may have a partition of their own, and be begun anew.
#[tokio::test(flavor = "multi_thread")]
async fn marten_with_a_stream_that_is_archived_and_live() {
    let world = World::new(&fixture("marten.sql")).await;
    let twins = "ALTER TABLE mt_events DROP CONSTRAINT fkey_mt_events_stream_id;
        ALTER TABLE mt_streams DROP CONSTRAINT pkey_mt_streams_id;
        ALTER TABLE mt_streams ADD PRIMARY KEY (id, is_archived);
        DROP INDEX pk_mt_events_stream_and_version;
        CREATE UNIQUE INDEX ON mt_events (stream_id, version, is_archived);
        INSERT INTO mt_streams (id, type, version, is_archived) VALUES
            ('b0000000-0000-4000-8000-000000000001', 'quest', 1, true),
            ('b0000000-0000-4000-8000-000000000009', 'quest', 1, true);
        INSERT INTO mt_events (seq_id, id, stream_id, version, data, type, is_archived) VALUES
            (nextval('mt_events_sequence'), gen_random_uuid(),
             'b0000000-0000-4000-8000-000000000001', 1, '{\"Old\": true}', 'quest_started', true),
            (nextval('mt_events_sequence'), gen_random_uuid(),
             'b0000000-0000-4000-8000-000000000009', 1, '{\"Lone\": true}', 'quest_started', true)";
    world.foreign.batch_execute(twins).await.expect("twins");
    let importer = world.importer("preset = \"marten\"\nlag = \"10ms\"");
    let status = import(&importer, start()).await;
    assert_eq!((status.written, status.parked), (6, 0));
    let live = world
        .events("quest/b0000000-0000-4000-8000-000000000001")
        .await;
    assert_eq!(live.len(), 3);
    let archived = world
        .events("quest/~archived~2Fb0000000-0000-4000-8000-000000000001")
        .await;
    assert_eq!(archived[0].data, "{\"Old\": true}");
    assert_eq!(archived[0].metadata["metadata"]["archived"], true);
    // Archived alone it is what it always was.
    let lone = world
        .events("quest/b0000000-0000-4000-8000-000000000009")
        .await;
    assert_eq!(lone.len(), 1);
}
