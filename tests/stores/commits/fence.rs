//! Law 14 in PostgreSQL: who may append, and what waits for whom.

use std::sync::Arc;

use oms::domain::ids::Epoch;
use oms::log::object::CommitObject;
use oms::migration::record::{Change, MigrationRow};
use oms::migration::stage::StageKind;
use oms::store::error::StoreErrorKind;
use oms::store::ports::commit_store::{Appended, CommitStore, LeadingTable};
use oms::store::ports::migration_table::MigrationTable;

use super::chain::Chain;
use super::{P0, World};
use oms_testkit::eventually;

/// Offsets that two writers race for.
const OFFSETS: u64 = 150;

async fn change(world: &World, row: MigrationRow, change: Change) -> MigrationRow {
    let next = row.after(change).unwrap();
    assert!(world.table.compare_and_set(P0, &row, &next).await.unwrap());
    next
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_14_an_append_needs_a_row_at_rest_its_lead_and_its_epoch() {
    let world = World::new();
    let mut early = Chain::new(P0);
    let object = early.events(&["1"]);
    assert_eq!(world.append(&object).await, Appended::Fenced(None));

    let (mut chain, row) = world.led().await;
    let object = chain.events(&["1"]);
    assert_eq!(world.append(&object).await, Appended::Created);
    let row = change(&world, row, Change::MirrorInS3).await;
    let object = chain.events(&["2"]);
    assert_eq!(world.append(&object).await, Appended::Created);

    let end = chain.next;
    let mut ahead = chain.clone();
    ahead.epoch = Epoch(2);
    let later = ahead.events(&["3"]);
    assert_eq!(world.append(&later).await, Appended::Fenced(Some(row)));
    let object = chain.events(&["3"]);
    let mut at = row;
    for step in [
        Change::DrainToS3,
        Change::SealToS3,
        Change::LeadS3,
        Change::SealToPostgres,
    ] {
        at = change(&world, at, step).await;
        for object in [&object, &later] {
            let refused = world.append(object).await;
            assert_eq!(refused, Appended::Fenced(Some(at)), "{step:?}");
        }
    }
    assert_eq!(world.commits.end(P0, 0).await.unwrap(), end);
    // Another epoch, at last.
    let at = change(&world, at, Change::LeadPostgres).await;
    assert_eq!(world.append(&later).await, Appended::Fenced(Some(at)));
    ahead = chain.clone();
    ahead.next = end;
    ahead.prev = object.header.prev;
    ahead.epoch = at.epoch;
    assert_eq!(world.append(&ahead.events(&["3"])).await, Appended::Created);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_7_an_append_lies_on_its_predecessor_and_on_a_free_offset() {
    let world = World::new();
    let (mut chain, row) = world.led().await;
    let mut rival = chain.clone();
    let (first, second) = (chain.events(&["1"]), chain.events(&["2"]));
    assert_eq!(world.append(&second).await, Appended::Unchained);
    assert_eq!(world.append(&first).await, Appended::Created);
    assert_eq!(world.append(&first).await, Appended::Exists, "tried again");
    let (other, on_other) = (rival.events(&["3"]), rival.events(&["4"]));
    assert_eq!(world.append(&other).await, Appended::Exists);
    assert_eq!(world.append(&on_other).await, Appended::Unchained);
    assert_eq!(world.append(&second).await, Appended::Created);

    // Tried again, its answer lost, after the lead began to move: it is there all the same.
    let row = change(&world, row, Change::MirrorInS3).await;
    change(&world, row, Change::DrainToS3).await;
    assert_eq!(world.append(&second).await, Appended::Exists);
    let third = chain.events(&["5"]);
    assert!(matches!(
        world.append(&third).await,
        Appended::Fenced(Some(_))
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_that_contradicts_itself_or_the_log_is_refused_by_name() {
    let world = World::new();
    let (mut chain, _) = world.led().await;
    let object = chain.events(&["1"]);
    let wrong = world.commits.append(&object, &[], Epoch(2)).await;
    assert_eq!(wrong.unwrap_err().kind, StoreErrorKind::Invalid);
    assert_eq!(world.append(&object).await, Appended::Created);
    // The same versions of the same streams once more.
    let mut twice = Chain::new(P0);
    (twice.next, twice.prev) = (chain.next, chain.prev);
    let object = twice.events(&["1"]);
    let error = world.commits.append(&object, &[], Epoch(1)).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Corrupt);
    assert!(
        error.message.contains("0/2 violates events_stream_type"),
        "{error}"
    );
    assert_eq!(world.commits.end(P0, 0).await.unwrap(), chain.next);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_14_a_change_of_the_row_waits_for_whoever_holds_it() {
    let world = World::new();
    let (_, row) = world.led().await;
    let mut other = world.other().await;
    let holder = other.transaction().await.unwrap();
    let hold = "SELECT FROM migration WHERE partition = 0 FOR SHARE";
    holder.execute(hold, &[]).await.unwrap();
    let next = row.after(Change::MirrorInS3).unwrap();
    let table = world.table.clone();
    let change = tokio::spawn(async move { table.compare_and_set(P0, &row, &next).await });
    waits_for_a_lock(&world, "UPDATE migration").await;
    assert!(!change.is_finished());
    holder.commit().await.unwrap();
    assert!(change.await.unwrap().unwrap());
    assert!(!world.table.compare_and_set(P0, &row, &next).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_14_a_change_of_the_row_waits_for_an_append_in_flight() {
    let world = World::new();
    let (mut chain, row) = world.led().await;
    let row = change(&world, row, Change::MirrorInS3).await;
    // Somebody else is about to take the offset, and the append waits to see whether he does.
    let mut other = world.other().await;
    let rival = other.transaction().await.unwrap();
    let same = "INSERT INTO commits (partition, commit_offset, epoch, kind, header, count, size,
                                     sha256, committed)
                SELECT partition, 1, epoch, kind, header, count, size, sha256, committed
                FROM commits WHERE commit_offset = 0";
    rival.execute(same, &[]).await.unwrap();
    let object = chain.events(&["1"]);
    let (commits, appended) = (world.commits.clone(), object.clone());
    let append = tokio::spawn(async move { commits.append(&appended, &[], Epoch(1)).await });
    waits_for_a_lock(&world, "WITH fence").await;
    let (table, next) = (world.table.clone(), row.after(Change::DrainToS3).unwrap());
    let change = tokio::spawn(async move { table.compare_and_set(P0, &row, &next).await });
    waits_for_a_lock(&world, "UPDATE migration").await;
    assert!(!append.is_finished() && !change.is_finished());
    rival.rollback().await.unwrap();
    assert_eq!(append.await.unwrap().unwrap(), Appended::Created);
    assert!(change.await.unwrap().unwrap());
    let view = world.table.view(P0).await.unwrap().unwrap();
    assert_eq!((view.row, view.next), (next, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_14_an_append_that_waited_for_a_change_sees_the_row_it_made() {
    let world = World::new();
    let (mut chain, row) = world.led().await;
    let mut other = world.other().await;
    let changing = other.transaction().await.unwrap();
    let drain = "UPDATE migration SET mode = 'dual_write', step = 'draining_to_s3', epoch = 2,
                                      revision = 2";
    changing.execute(drain, &[]).await.unwrap();
    let (commits, object) = (world.commits.clone(), chain.events(&["1"]));
    let append = tokio::spawn(async move { commits.append(&object, &[], Epoch(1)).await });
    waits_for_a_lock(&world, "WITH fence").await;
    changing.commit().await.unwrap();
    let row = row.after(Change::MirrorInS3).unwrap();
    let row = row.after(Change::DrainToS3).unwrap();
    let refused = append.await.unwrap().unwrap();
    assert_eq!(refused, Appended::Fenced(Some(row)));
    assert_eq!(world.commits.end(P0, 0).await.unwrap(), 1);
}

/// Waits until a statement of the service waits for a lock.
async fn waits_for_a_lock(world: &World, statement: &str) {
    let observer = world.other().await;
    let pattern = format!("%{statement}%");
    eventually("the statement waits", || async {
        let waiting = "SELECT FROM pg_stat_activity
                       WHERE wait_event_type = 'Lock' AND query LIKE $1
                         AND datname = current_database()";
        let found = observer.query(waiting, &[&pattern]).await.unwrap();
        (!found.is_empty()).then_some(())
    })
    .await;
}

/// Appends until the log has so many objects, going on from whatever is there; answers how often it
/// was first.
async fn write(world: World, mut chain: Chain, until: u64) -> (u64, Option<MigrationRow>) {
    let mut won = 0;
    while chain.next < until {
        let mut tried = chain.clone();
        let object = tried.events(&["1", "2"]);
        match world.append(&object).await {
            Appended::Created => {
                won += 1;
                chain = tried;
            }
            Appended::Exists => {
                let there = world.commits.get(P0, chain.next).await.unwrap().unwrap();
                assert_ne!(there.bytes, object.bytes, "it was not told that it won");
                chain.follow(&there);
            }
            Appended::Fenced(row) => return (won, row),
            Appended::Unchained => panic!("formed on what was read"),
        }
    }
    (won, None)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_7_two_writers_that_race_win_each_offset_once() {
    let world = World::new();
    let (chain, _) = world.led().await;
    let until = chain.next + OFFSETS;
    let writers = [(); 2].map(|()| {
        let world = World::on(world.settings.clone());
        tokio::spawn(write(world, chain.clone(), until))
    });
    let mut won = 0;
    for writer in writers {
        won += writer.await.unwrap().0;
    }
    assert_eq!(won, OFFSETS);
    assert_chained(&world, until).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_14_a_hand_off_gets_through_while_many_write_and_none_gets_in_after_it() {
    let world = World::new();
    let (chain, row) = world.led().await;
    let row = change(&world, row, Change::MirrorInS3).await;
    let writers = [(); 4].map(|()| {
        let world = World::on(world.settings.clone());
        tokio::spawn(write(world, chain.clone(), u64::MAX))
    });
    eventually("they are at it", || async {
        (world.commits.end(P0, 0).await.unwrap() > 20).then_some(())
    })
    .await;
    let fenced = change(&world, row, Change::DrainToS3).await;
    let view = world.table.view(P0).await.unwrap().unwrap();
    assert_eq!(view.row, fenced);
    let mut won = 0;
    for writer in writers {
        let (wins, row) = writer.await.unwrap();
        assert_eq!(row, Some(fenced));
        won += wins;
    }
    assert_eq!(world.commits.end(P0, 0).await.unwrap(), view.next);
    assert_eq!(won + 1, view.next);
    assert_chained(&world, view.next).await;
}

async fn assert_chained(world: &World, end: u64) {
    let mut all: Vec<CommitObject> = Vec::new();
    while (all.len() as u64) < end {
        let more = world.commits.span(P0, all.len() as u64, end).await.unwrap();
        assert!(!more.is_empty(), "a gap at {}", all.len());
        all.extend(more);
    }
    let mut prev = oms::log::object::ObjectHash::NONE;
    for object in &all {
        assert_eq!(object.header.prev, prev);
        prev = object.hash();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_14_where_s3_leads_copies_come_in_and_appends_do_not() {
    let world = World::new();
    let row = MigrationRow::new(StageKind::DualWriteS3, Epoch(1));
    world.table.begin(P0, &row, None).await.unwrap();
    let mut chain = Chain::new(P0);
    let objects: Vec<Arc<CommitObject>> = vec![chain.control(), chain.events(&["1"])];
    assert_eq!(world.append(&objects[0]).await, Appended::Fenced(Some(row)));
    assert_eq!(world.commits.copy(&objects).await.unwrap(), 2);
    let next = chain.events(&["2"]);
    assert_eq!(world.append(&next).await, Appended::Fenced(Some(row)));
}
