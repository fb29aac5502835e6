//! Law 9 while PostgreSQL leads: a commit and its outbox rows are one transaction.

use std::collections::BTreeMap;

use oms::domain::event::Envelope;
use oms::domain::ids::Epoch;
use oms::log::identity::Mark;
use oms::log::object::CommitObject;
use oms::migration::stage::Mode;
use oms::store::adapters::postgres::outbox::PostgresOutbox;
use oms::store::ports::commit_store::{Appended, LeadingTable};
use oms::store::ports::delivery::{CommitGroup, DeliveryStore, OutboxRow};

use super::{P0, World};

fn rows(object: &CommitObject) -> Vec<OutboxRow> {
    let row = |i: usize| {
        let line = object.line(i);
        let event = Envelope::parse(&line).unwrap();
        OutboxRow {
            position: object.position(i),
            event_id: event.id,
            stream: event.stream(),
            version: event.version,
            topic: "oms.order".into(),
            epoch: object.header.epoch,
            mode: Mode::Legacy,
            start: object.lines[i].start,
            len: object.lines[i].len() as u32,
            body: Some(line.clone()),
            attempts: 0,
            next_attempt: None,
        }
    };
    (0..object.lines.len()).map(row).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_9_a_commit_and_its_outbox_rows_are_one_transaction() {
    let world = World::new();
    let outbox = PostgresOutbox::new(world.postgres.clone());
    let (mut chain, _) = world.led().await;
    let append = async |object: &CommitObject| {
        let rows = rows(object);
        world.commits.append(object, &rows, Epoch(1)).await.unwrap()
    };
    let waiting = async || outbox.pending(vec![(P0, None)], 100).await.unwrap();
    let watermark = async || outbox.watermarks().await.unwrap();
    let stands = |object: &CommitObject| {
        let next = object.header.offset + 1;
        BTreeMap::from([(P0, Mark::on(None, next, object.hash()))])
    };

    let first = chain.events(&["1", "2"]);
    assert_eq!(append(&first).await, Appended::Created);
    assert_eq!(watermark().await, BTreeMap::new(), "the tailer begins it");
    assert!(waiting().await.is_empty());

    // The tailer is behind, by the first object.
    let before = first.header.prev;
    outbox
        .begin(vec![(P0, Mark::on(None, 1, before))])
        .await
        .unwrap();
    let second = chain.events(&["3", "4"]);
    assert_eq!(append(&second).await, Appended::Created);
    let behind = BTreeMap::from([(P0, Mark::on(None, 1, before))]);
    assert_eq!(watermark().await, behind);
    assert!(waiting().await.is_empty());

    let both = [rows(&first), rows(&second)].concat();
    let group = CommitGroup {
        partition: P0,
        from: 1,
        to: 3,
        before: Some(before),
        after: second.hash(),
        rows: both.clone(),
    };
    assert_eq!(outbox.record(vec![group]).await.unwrap(), [P0]);
    let third = chain.events(&["5", "6"]);
    assert_eq!(append(&third).await, Appended::Created);
    assert_eq!(watermark().await, stands(&third));
    let expected = [both, rows(&third)].concat();
    assert_eq!(waiting().await, expected, "in the commit's transaction");

    // Whatever is refused moves nothing.
    assert_eq!(append(&third).await, Appended::Exists);
    let mut ahead = chain.clone();
    ahead.events(&["7"]);
    assert_eq!(append(&ahead.events(&["8"])).await, Appended::Unchained);
    let client = world.other().await;
    let drain = "UPDATE migration SET step = 'draining_to_s3', mode = 'dual_write'";
    client.execute(drain, &[]).await.unwrap();
    assert!(matches!(
        append(&chain.events(&["9"])).await,
        Appended::Fenced(Some(_))
    ));
    assert_eq!(watermark().await, stands(&third));
    assert_eq!(waiting().await, expected);
}
