//! What the outbox promises to whoever uses it, against a real PostgreSQL.

use std::collections::BTreeMap;
use std::time::Duration;

use oms::clock::new_uuid;
use oms::domain::ids::{Epoch, EventId, PartitionId, Position, StreamName, Version};
use oms::log::identity::{LogId, Mark};
use oms::log::object::ObjectHash;
use oms::migration::stage::Mode;
use oms::store::adapters::postgres::outbox::PostgresOutbox;
use oms::store::ports::delivery::{CommitGroup, DeliveryStore, OutboxRow, Refused};
use oms_testkit::{eventually, postgres};

fn outbox() -> PostgresOutbox {
    PostgresOutbox::new(postgres::connect(&postgres::fresh()))
}

fn row(partition: u16, offset: u64, index: u32) -> OutboxRow {
    OutboxRow {
        position: Position {
            partition: PartitionId(partition),
            offset,
            index,
        },
        event_id: EventId(new_uuid()),
        stream: StreamName::from_stored("instance", "db/Car/a%20b"),
        version: Version(offset + 1),
        topic: "oms.instance".into(),
        epoch: Epoch(2),
        mode: Mode::DualWrite,
        start: 17,
        len: u32::MAX,
        body: (index == 1).then(|| bytes::Bytes::from_static(b"{}")),
        attempts: 0,
        next_attempt: None,
    }
}

fn group(partition: u16, from: u64, to: u64) -> CommitGroup {
    let rows = (from..to).flat_map(|offset| [row(partition, offset, 0), row(partition, offset, 1)]);
    CommitGroup {
        partition: PartitionId(partition),
        from,
        to,
        before: mark(from).hash(),
        after: hash(to),
        rows: rows.collect(),
    }
}

/// The hash of the commit before an offset.
fn hash(offset: u64) -> ObjectHash {
    match offset {
        0 => ObjectHash::NONE,
        offset => ObjectHash::of(&offset.to_be_bytes()),
    }
}

fn mark(next: u64) -> Mark {
    Mark::on(None, next, hash(next))
}

async fn all(outbox: &PostgresOutbox, partition: u16) -> Vec<OutboxRow> {
    outbox
        .pending(vec![(PartitionId(partition), None)], 1_000)
        .await
        .expect("pending")
}

const P0: PartitionId = PartitionId(0);
const P1: PartitionId = PartitionId(1);

#[tokio::test(flavor = "multi_thread")]
async fn law_9_rows_and_watermark_move_together_or_not_at_all() {
    let outbox = outbox();
    assert_eq!(outbox.watermarks().await.expect("none"), BTreeMap::new());
    let early = outbox.record(vec![group(0, 0, 1)]).await.expect("recorded");
    assert!(
        early.is_empty(),
        "a partition without a watermark does not move"
    );
    outbox
        .begin(vec![(P0, mark(0)), (P1, mark(5))])
        .await
        .expect("begun");
    outbox
        .begin(vec![(P0, mark(99))])
        .await
        .expect("begun again");
    let first = vec![group(0, 0, 3), group(1, 5, 6)];
    let moved = outbox.record(first.clone()).await.expect("recorded");
    assert_eq!(moved.len(), 2);
    // Another process offers what was taken in, and something new with it.
    let late = outbox
        .record(vec![group(0, 0, 3), group(1, 6, 7)])
        .await
        .expect("recorded");
    assert_eq!(late, [P1]);
    let watermarks = outbox.watermarks().await.expect("watermarks");
    assert_eq!(watermarks, BTreeMap::from([(P0, mark(3)), (P1, mark(7))]));
    assert_eq!(
        all(&outbox, 0).await,
        first[0].rows,
        "as written, in position order"
    );
    assert_eq!(all(&outbox, 1).await.len(), 4);
}

/// Whether it is alive or dead, an event is known by where it lies: another one may have its id.
#[tokio::test(flavor = "multi_thread")]
async fn law_9_an_id_that_is_used_twice_is_delivered_twice() {
    let outbox = outbox();
    outbox
        .begin(vec![(P0, mark(0)), (P1, mark(0))])
        .await
        .expect("begun");
    let id = EventId(new_uuid());
    let mut groups = vec![group(0, 0, 2), group(1, 0, 1)];
    for row in groups.iter_mut().flat_map(|g| &mut g.rows) {
        row.event_id = id;
    }
    outbox.record(groups).await.expect("recorded");
    assert_eq!(all(&outbox, 0).await.len(), 4);
    assert_eq!(all(&outbox, 1).await.len(), 2);
    let refused = |row: OutboxRow| Refused {
        position: row.position,
        attempts: 10,
        reason: "never".into(),
        next_attempt: None,
    };
    let dying: Vec<Refused> = all(&outbox, 0).await.into_iter().map(refused).collect();
    outbox.refused(dying).await.expect("refused");
    let dead = outbox.dead_letters(100, None).await.expect("listed");
    assert_eq!(dead.len(), 4, "each is there");
    for letter in &dead {
        assert!(outbox.requeue(letter.id).await.expect("requeued"));
    }
    assert_eq!(all(&outbox, 0).await.len(), 4, "and comes back");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_9_a_watermark_moves_only_from_the_commit_it_stands_on_and_in_its_own_log() {
    let ours = Some(LogId(new_uuid()));
    let postgres = postgres::connect(&postgres::fresh());
    let outbox = PostgresOutbox::new(postgres.clone()).of_log(ours);
    let stand = |next| Mark::on(ours, next, hash(next));
    outbox.begin(vec![(P0, stand(0))]).await.expect("begun");
    let moved = outbox.record(vec![group(0, 0, 2)]).await.expect("answered");
    assert_eq!(moved, [P0]);
    // The log lost its end and was written on.
    let mut other_end = group(0, 2, 3);
    other_end.before = Some(hash(77));
    let moved = outbox.record(vec![other_end]).await.expect("answered");
    assert!(moved.is_empty(), "it does not stand on that commit");
    let other = PostgresOutbox::new(postgres).of_log(Some(LogId(new_uuid())));
    let moved = other.record(vec![group(0, 2, 3)]).await.expect("answered");
    assert!(moved.is_empty(), "it is another log's");
    assert!(all(&other, 0).await.is_empty(), "and so are its rows");
    let watermarks = outbox.watermarks().await.expect("watermarks");
    assert_eq!(watermarks, BTreeMap::from([(P0, stand(2))]));
    assert_eq!(all(&outbox, 0).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_offered_again_stays_one_row() {
    let outbox = outbox();
    outbox.begin(vec![(P0, mark(0))]).await.expect("begun");
    let mut commits = group(0, 0, 2);
    outbox
        .record(vec![commits.clone()])
        .await
        .expect("recorded");
    // The watermark was lost, the rows were not.
    (commits.from, commits.to) = (2, 4);
    (commits.before, commits.after) = (Some(hash(2)), hash(4));
    outbox.record(vec![commits]).await.expect("recorded");
    assert_eq!(all(&outbox, 0).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_read_on_from_a_position_and_leave_when_delivered() {
    let outbox = outbox();
    outbox
        .begin(vec![(P0, mark(0)), (P1, mark(0))])
        .await
        .expect("begun");
    outbox
        .record(vec![group(0, 0, 5), group(1, 0, 5)])
        .await
        .expect("recorded");
    let page = outbox
        .pending(vec![(P0, None), (P1, None)], 3)
        .await
        .expect("page");
    let positions: Vec<Position> = page.iter().map(|r| r.position).collect();
    assert_eq!(positions.len(), 6, "of each partition at most the limit");
    let on = outbox
        .pending(vec![(P0, Some(positions[2]))], 1_000)
        .await
        .expect("on");
    assert_eq!(on.len(), 7);
    assert!(on[0].position > positions[2]);
    outbox
        .delivered(positions.clone())
        .await
        .expect("delivered");
    outbox.delivered(positions).await.expect("again is nothing");
    assert_eq!(
        all(&outbox, 0).await.len() + all(&outbox, 1).await.len(),
        14
    );
    let delivered = outbox.delivered_watermarks().await.expect("watermarks");
    assert_eq!(delivered, BTreeMap::from([(P0, 1), (P1, 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn law_3_refused_rows_wait_then_die_visibly_and_can_be_put_back() {
    let outbox = outbox();
    outbox.begin(vec![(P0, mark(0))]).await.expect("begun");
    outbox.record(vec![group(0, 0, 2)]).await.expect("recorded");
    let rows = all(&outbox, 0).await;
    let refused = |row: &OutboxRow, attempts, next_attempt| Refused {
        position: row.position,
        reason: "too large".into(),
        attempts,
        next_attempt,
    };
    let later = "2030-01-02T03:04:05.678901Z".parse().expect("time");
    outbox
        .refused(vec![
            refused(&rows[0], 2, Some(later)),
            refused(&rows[1], 5, None),
        ])
        .await
        .expect("written");
    let left = all(&outbox, 0).await;
    assert_eq!(left.len(), 3);
    assert_eq!((left[0].attempts, left[0].next_attempt), (2, Some(later)));
    let dead = outbox.dead_letters(10, None).await.expect("dead");
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].event_id, dead[0].attempts), (rows[1].event_id, 5));
    assert_eq!(dead[0].stream, rows[1].stream.as_str());
    assert!(
        outbox
            .dead_letters(10, Some(dead[0].id))
            .await
            .expect("after")
            .is_empty()
    );
    let status = outbox.status().await.expect("status");
    assert_eq!((status.depth, status.dead_letters), (3, 1));
    assert!(status.oldest_seconds.is_some_and(|s| s >= 0.0));

    assert!(outbox.requeue(dead[0].id).await.expect("requeued"));
    assert!(!outbox.requeue(dead[0].id).await.expect("gone"));
    let back = all(&outbox, 0).await;
    assert_eq!((back.len(), back[1].attempts), (4, 0));
    assert_eq!(back[1].body, rows[1].body);
    outbox
        .refused(vec![refused(&rows[1], 5, None)])
        .await
        .expect("written");
    let id = outbox.dead_letters(10, None).await.expect("dead")[0].id;
    assert!(outbox.discard(id).await.expect("discarded"));
    assert!(!outbox.discard(id).await.expect("gone"));
    assert_eq!(outbox.status().await.expect("status").dead_letters, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_are_shared_fairly_and_taken_over() {
    let outbox = outbox();
    let long = Duration::from_secs(600);
    let held = |node: &'static str, ttl| {
        let outbox = outbox.clone();
        async move {
            let leases = outbox.lease(node, 8, ttl).await.expect("leased");
            leases.into_keys().collect::<Vec<_>>()
        }
    };
    assert_eq!(held("a", long).await.len(), 8, "alone, it has all");
    assert_eq!(
        held("b", long).await.len(),
        0,
        "nothing is taken from a living node"
    );
    assert_eq!(
        held("a", long).await.len(),
        4,
        "it gives up what is more than its share"
    );
    assert_eq!(held("b", long).await.len(), 4);
    held("c", long).await;
    held("a", long).await;
    held("b", long).await;
    let shares = [
        held("a", long).await,
        held("b", long).await,
        held("c", long).await,
    ];
    let mut sizes: Vec<usize> = shares.iter().map(Vec::len).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [2, 3, 3]);
    let mut partitions: Vec<PartitionId> = shares.concat();
    partitions.sort_unstable();
    assert_eq!(partitions, (0..8).map(PartitionId).collect::<Vec<_>>());
    let status = outbox.status().await.expect("status");
    assert!(status.partitions.is_empty(), "nothing was taken in yet");

    outbox.release("c").await.expect("released");
    outbox
        .lease("b", 8, Duration::from_millis(1))
        .await
        .expect("leased");
    eventually("a takes over from the dead", || async {
        (outbox.lease("a", 8, long).await.ok()?.len() == 8).then_some(())
    })
    .await;
}

/// Law 9: a relay that finds itself in possession again has to know whether somebody else published
/// meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn law_9_a_lease_tells_whether_another_node_had_it_in_between() {
    let outbox = outbox();
    let (short, long) = (Duration::from_millis(1), Duration::from_secs(600));
    let lease = |node: &'static str, ttl| {
        let outbox = outbox.clone();
        async move { outbox.lease(node, 4, ttl).await.expect("leased") }
    };
    let first = lease("a", short).await;
    assert_eq!(first.len(), 4);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(
        lease("a", short).await,
        first,
        "expired, but nobody took it: everything that was read still holds"
    );
    let theirs = eventually("b takes over", || async {
        let theirs = lease("b", short).await;
        (theirs.len() == 4).then_some(theirs)
    })
    .await;
    let again = eventually("a takes it back", || async {
        let again = lease("a", long).await;
        (again.len() == 4).then_some(again)
    })
    .await;
    for partition in first.keys() {
        let terms = [first[partition], theirs[partition], again[partition]];
        assert!(terms.is_sorted_by(|a, b| a < b), "{partition}: {terms:?}");
    }
    // Given back and taken again is a new term, too: another one may have come and gone.
    outbox.release("a").await.expect("released");
    let last = lease("a", long).await;
    assert!(
        last.iter()
            .all(|(partition, term)| again[partition] < *term)
    );
}
