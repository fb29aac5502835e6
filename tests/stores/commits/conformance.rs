//! One suite for every place of the log.

use std::sync::Arc;

use futures_util::future::join_all;
use oms::clock::new_uuid;
use oms::domain::ids::{EventId, PartitionId};
use oms::log::object::CommitObject;
use oms::store::adapters::memory::MemoryObjectStore;
use oms::store::error::StoreErrorKind;
use oms::store::log::log_objects::LogObjects;
use oms::store::log::s3_commit_store::S3CommitStore;
use oms::store::ports::commit_store::CommitStore;
use oms::store::ports::object_store::Created;

use super::chain::{Chain, ODD, places};
use super::{P0, World};

/// Writers that race for one offset, and rounds.
const RACERS: usize = 8;
const ROUNDS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_conforms() {
    conforms(Arc::new(World::new().commits)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_conforms() {
    let bucket = Arc::new(MemoryObjectStore::default());
    conforms(Arc::new(S3CommitStore::new(LogObjects::of(bucket)))).await;
}

async fn conforms(store: Arc<dyn CommitStore>) {
    nothing_is_there_at_first(&*store).await;
    law_5_an_offset_is_taken_once(&*store).await;
    law_8_objects_come_back_byte_for_byte(&*store).await;
    copies_may_be_repeated_and_overlap(&*store).await;
    events_are_found_by_their_places(&*store).await;
    law_2_an_id_that_is_used_twice_is_two_events(&*store).await;
    law_7_of_racing_writers_exactly_one_wins(store).await;
}

async fn nothing_is_there_at_first(store: &dyn CommitStore) {
    assert_eq!(store.end(P0, 0).await.unwrap(), 0);
    assert_eq!(store.end(P0, 7).await.unwrap(), 7);
    assert!(store.get(P0, 0).await.unwrap().is_none());
    assert!(store.span(P0, 0, 10).await.unwrap().is_empty());
    assert!(store.events(P0, &[]).await.unwrap().is_empty());
}

/// Other event stores have used one id in two streams, and such events are imported as they are.
async fn law_2_an_id_that_is_used_twice_is_two_events(store: &dyn CommitStore) {
    let partition = PartitionId(9);
    let mut chain = Chain::new(partition);
    chain.id = Some(EventId(new_uuid()));
    let objects = [
        chain.control(),
        chain.events(&["1", "2"]),
        chain.events(&["3"]),
    ];
    for object in &objects[..2] {
        assert_eq!(store.put(object).await.unwrap(), Created::Yes);
    }
    assert_eq!(copy(store, &objects).await, 3);
    let found = store.span(partition, 0, 3).await.unwrap();
    for (found, object) in found.iter().zip(&objects) {
        assert_same(found, object);
    }
}

async fn law_5_an_offset_is_taken_once(store: &dyn CommitStore) {
    let partition = PartitionId(1);
    let (mut one, mut two) = (Chain::new(partition), Chain::new(partition));
    let (first, rival) = (one.control(), two.control());
    assert_ne!(first.bytes, rival.bytes);
    assert_eq!(store.put(&first).await.unwrap(), Created::Yes);
    assert_eq!(store.put(&first).await.unwrap(), Created::Exists);
    assert_eq!(store.put(&rival).await.unwrap(), Created::Exists);
    let second = one.events(&["1"]);
    assert_eq!(store.put(&second).await.unwrap(), Created::Yes);
    let kept = store.get(partition, 0).await.unwrap().unwrap();
    assert_eq!(kept.bytes, first.bytes);
    assert_eq!(store.end(partition, 0).await.unwrap(), 2);
    assert!(store.get(P0, 0).await.unwrap().is_none(), "another log");
}

async fn law_8_objects_come_back_byte_for_byte(store: &dyn CommitStore) {
    let partition = PartitionId(2);
    let mut chain = Chain::new(partition);
    let mut objects = vec![chain.control(), chain.events(ODD)];
    objects.extend(ODD.iter().map(|data| chain.events(&[data])));
    objects.push(chain.control());
    let end = copy(store, &objects).await;
    assert_eq!(end, objects.len() as u64);
    for object in &objects {
        let offset = object.header.offset;
        let found = store.get(partition, offset).await.unwrap().unwrap();
        assert_same(&found, object);
        let from_here = store.span(partition, offset, end + 5).await.unwrap();
        assert_eq!(from_here.len() as u64, end - offset);
        assert_eq!(store.end(partition, offset).await.unwrap(), end);
    }
    let all = store.span(partition, 0, end).await.unwrap();
    for (found, object) in all.iter().zip(&objects) {
        assert_same(found, object);
    }
    let two = store.span(partition, 1, 3).await.unwrap();
    assert_eq!(two.len(), 2);
    assert!(store.span(partition, 3, 3).await.unwrap().is_empty());
    assert!(
        store
            .span(partition, end, end + 1)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn copies_may_be_repeated_and_overlap(store: &dyn CommitStore) {
    let partition = PartitionId(3);
    let mut chain = Chain::new(partition);
    let mut objects = vec![chain.control()];
    objects.extend((0..9).map(|_| chain.events(&["1", "2"])));
    let mut other = Chain::new(partition);
    let diverging = [other.control(), other.events(&["3"])];
    assert_eq!(copy(store, &objects[..4]).await, 4);
    assert_eq!(copy(store, &objects[..4]).await, 4);
    assert_eq!(copy(store, &objects[2..8]).await, 8);
    let error = store.copy(&diverging).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Corrupt, "{error}");
    assert_eq!(copy(store, &objects).await, 10);
    assert_eq!(store.end(partition, 0).await.unwrap(), 10);
    let kept = store.span(partition, 0, 10).await.unwrap();
    for (found, object) in kept.iter().zip(&objects) {
        assert_same(found, object);
    }
}

async fn events_are_found_by_their_places(store: &dyn CommitStore) {
    let partition = PartitionId(4);
    let mut chain = Chain::new(partition);
    let objects = [chain.control(), chain.events(ODD), chain.events(ODD)];
    copy(store, &objects).await;
    let mut wanted: Vec<_> = objects.iter().flat_map(|o| places(o)).collect();
    let check = async |wanted: &[_]| {
        let found = store.events(partition, wanted).await.unwrap();
        assert_eq!(found.len(), wanted.len());
        for (event, place) in found.iter().zip(wanted) {
            let object: &CommitObject = &objects[place.offset as usize];
            assert_eq!(*event, object.line(place.index as usize));
        }
    };
    check(&wanted).await;
    wanted.reverse();
    check(&wanted).await;
    let mut missing = wanted[0];
    missing.offset = 99;
    let error = store.events(partition, &[wanted[1], missing]).await;
    let error = error.unwrap_err();
    assert_eq!(
        error.kind,
        StoreErrorKind::NotFound,
        "the other may have it"
    );
}

async fn law_7_of_racing_writers_exactly_one_wins(store: Arc<dyn CommitStore>) {
    let partition = PartitionId(5);
    let mut log = Chain::new(partition);
    for _ in 0..ROUNDS {
        let rivals: Vec<_> = (0..RACERS).map(|_| log.clone().events(&["1"])).collect();
        let puts = rivals.iter().map(|object| {
            let (store, object) = (store.clone(), object.clone());
            tokio::spawn(async move { store.put(&object).await.unwrap() })
        });
        let outcomes = join_all(puts).await;
        let winners: Vec<_> = outcomes
            .into_iter()
            .zip(&rivals)
            .filter(|(outcome, _)| *outcome.as_ref().unwrap() == Created::Yes)
            .map(|(_, object)| object)
            .collect();
        assert_eq!(winners.len(), 1);
        let there = store.get(partition, log.next).await.unwrap().unwrap();
        assert_same(&there, winners[0]);
        log.follow(&there);
    }
}

/// Copies all of it, in as many calls as it takes.
async fn copy(store: &dyn CommitStore, objects: &[Arc<CommitObject>]) -> u64 {
    let (first, mut done) = (objects[0].header.offset, 0);
    loop {
        let end = store.copy(&objects[done..]).await.unwrap();
        let now = (end - first) as usize;
        assert!(now > done || done == objects.len(), "no progress");
        done = now;
        if done >= objects.len() {
            return end;
        }
    }
}

fn assert_same(found: &CommitObject, object: &CommitObject) {
    assert_eq!(found.bytes, object.bytes);
    assert_eq!(found.header, object.header);
    assert_eq!(found.lines, object.lines);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_5_postgres_goes_on_only_from_its_end() {
    let World { commits, .. } = World::new();
    let mut chain = Chain::new(P0);
    let objects: Vec<_> = (0..5).map(|_| chain.events(&["1"])).collect();
    assert_eq!(commits.copy(&objects[2..]).await.unwrap(), 0, "a gap");
    let error = commits.put(&objects[2]).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Invalid, "{error}");
    assert_eq!(commits.copy(&objects[..2]).await.unwrap(), 2);
    assert_eq!(commits.copy(&objects[3..]).await.unwrap(), 2, "a gap");
    // A log that went another way, at the very next offset.
    let mut other = Chain::new(P0);
    other.events(&["2"]);
    other.events(&["2"]);
    let stranger = other.events(&["2"]);
    for error in [
        commits.put(&stranger).await.map(|_| ()),
        commits
            .copy(std::slice::from_ref(&stranger))
            .await
            .map(|_| ()),
    ] {
        assert_eq!(error.unwrap_err().kind, StoreErrorKind::Corrupt);
    }
    assert_eq!(commits.end(P0, 0).await.unwrap(), 2);
    let skipping = [objects[2].clone(), objects[4].clone()];
    let error = commits.copy(&skipping).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Invalid, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_13_answers_and_copies_are_bounded_by_bytes() {
    let World { commits, .. } = World::new();
    let mut chain = Chain::new(P0);
    let big = |megabytes: usize| format!("\"{}\"", "x".repeat(megabytes << 20));
    let (three, nine) = (big(3), big(9));
    let objects: Vec<_> = [&three, &three, &three, &nine, &three]
        .map(|data| chain.events(&[data]))
        .into();
    let end = copy(&commits, &objects).await;
    assert_eq!(commits.copy(&objects).await.unwrap(), 2, "a part at a time");
    let lengths = |found: Vec<CommitObject>| found.len();
    let span = async |from| lengths(commits.span(P0, from, end).await.unwrap());
    assert_eq!(span(0).await, 2);
    assert_eq!(span(2).await, 1);
    assert_eq!(span(3).await, 1, "larger than the bound, it comes alone");
    assert_eq!(span(4).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_copy_the_same_log_end_with_one() {
    let world = World::new();
    let other = World::on(world.settings.clone());
    let mut chain = Chain::new(P0);
    let objects: Vec<_> = (0..200).map(|_| chain.events(&["1", "2", "3"])).collect();
    let mirror = |commits: oms::store::adapters::postgres::commits::PostgresCommitStore,
                  step: usize| {
        let objects = objects.clone();
        tokio::spawn(async move {
            let mut done = 0;
            while done < objects.len() {
                let to = (done + step).min(objects.len());
                let end = commits.copy(&objects[done..to]).await.unwrap() as usize;
                assert!(end >= done, "what was there is gone");
                done = end;
            }
        })
    };
    let both = [mirror(world.commits.clone(), 7), mirror(other.commits, 10)];
    for ended in join_all(both).await {
        ended.unwrap();
    }
    let found = world.commits.span(P0, 0, 1_000).await.unwrap();
    assert_eq!(found.len(), objects.len());
    for (found, object) in found.iter().zip(&objects) {
        assert_same(found, object);
    }
}
