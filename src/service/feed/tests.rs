//! What bounds a page of the feed, and whose cursors it takes.

use std::ops::Range;

use actix::System;
use async_trait::async_trait;
use oms_testkit::log::{Log, order};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::*;
use crate::actors::aggregate::fold::SnapshotEvery;
use crate::actors::arbiters::Arbiters;
use crate::actors::event_store::EventStoreSettings;
use crate::actors::supervision::supervisor::Supervisor;
use crate::actors::supervision::tree::Tree;
use crate::actors::write_side::{self, WriteSide, WriteSideDeps};
use crate::clock::SystemClock;
use crate::log::identity::LogId;
use crate::store::adapters::memory::MemoryObjectStore;
use crate::store::halts::Halts;
use crate::store::log::log_heads::LogHeads;
use crate::store::log::log_reader::LogReader;
use crate::store::ports::object_store::{Created, ObjectInfo, ObjectStore};
use crate::store::ports::transport::TopicNames;

const PARTITIONS: u16 = 2;

/// Events of the log whose events are large.
const EVENTS: usize = 40;

/// Bytes of the data of a large event.
const LARGE: usize = 256 << 10;

/// Room for reads that nothing here fills.
const AMPLE: usize = 1 << 30;

/// A bucket that takes its time for every read.
struct Slow {
    objects: Arc<MemoryObjectStore>,
    time: Duration,
}

#[async_trait]
impl ObjectStore for Slow {
    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<Created, StoreError> {
        self.objects.put_if_absent(key, body).await
    }
    async fn put(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        self.objects.put(key, body).await
    }
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        sleep(self.time).await;
        self.objects.get(key).await
    }
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, StoreError> {
        self.objects.get_range(key, range).await
    }
    async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectInfo>, StoreError> {
        self.objects.list(prefix, start_after, limit).await
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.objects.delete(key).await
    }
}

/// A log of so many events with so many bytes of data, each in a commit of its own.
async fn log_of(events: usize, bytes: usize) -> Log {
    let log = Log::new(PARTITIONS).await;
    let data = "x".repeat(bytes);
    for i in 0..events {
        log.append(&[order(i)], &data).await;
    }
    log
}

/// Reads that log from a bucket that takes so long for each read, with room for so many bytes.
fn reader(log: &Log, time: Duration, room: usize) -> LogWriter {
    let objects = log.objects.clone();
    let slow = Arc::new(Slow { objects, time });
    let settings = EventStoreSettings {
        read_bytes: room,
        ..EventStoreSettings::default()
    };
    let reader = LogReader::new(slow, "bucket".into(), PARTITIONS, 0);
    LogWriter::reader(Arc::new(reader), log.heads.clone(), &settings)
}

fn beginning() -> FeedCursor {
    FeedCursor::beginning(PARTITIONS, None)
}

fn next(page: &FeedPage) -> FeedCursor {
    let text = page.page.next_cursor.as_deref();
    FeedCursor::parse(text, PARTITIONS, None).unwrap()
}

fn only(event_type: &str) -> Vec<String> {
    vec![event_type.to_owned()]
}

/// Every page up to the end, each from where the one before has ended, and none read for longer.
async fn pages(
    store: &LogWriter,
    bounds: FeedBounds,
    types: &[String],
    longest: Duration,
) -> Vec<FeedPage> {
    let (mut cursor, mut pages) = (beginning(), Vec::new());
    loop {
        let begun = Instant::now();
        let page = read_page(store, cursor.clone(), bounds, types).await;
        let page = page.unwrap();
        assert!(begun.elapsed() <= longest, "{:?}", begun.elapsed());
        if next(&page) == cursor {
            assert!(page.page.items.is_empty() && !page.cut_short);
            return pages;
        }
        cursor = next(&page);
        pages.push(page);
    }
}

fn scanned(pages: &[FeedPage]) -> usize {
    pages.iter().map(|page| page.scanned).sum()
}

/// Whether the pages have every event of the log once.
async fn are_whole(pages: &[FeedPage], log: &Log) -> bool {
    let items = pages.iter().flat_map(|page| &page.page.items);
    let mut read: Vec<Bytes> = items.map(|event| event.envelope.clone()).collect();
    let written = log.written().await.into_iter();
    let mut written: Vec<Bytes> = written.map(|(_, _, bytes)| bytes).collect();
    read.sort();
    written.sort();
    read == written
}

#[tokio::test(start_paused = true)]
async fn law_13_a_page_ends_by_the_bytes_read_for_it_and_goes_on_without_a_gap() {
    let log = log_of(EVENTS, LARGE).await;
    let store = reader(&log, Duration::ZERO, AMPLE);
    let bounds = FeedBounds {
        scanned_bytes: 4 * LARGE,
        ..FeedBounds::page(1_000, Duration::MAX)
    };
    let nothing = pages(&store, bounds, &only("Nothing"), Duration::MAX).await;
    assert_eq!(nothing.len(), EVENTS / 4);
    assert!(
        nothing
            .iter()
            .all(|p| p.page.items.is_empty() && p.cut_short)
    );
    assert_eq!(scanned(&nothing), EVENTS);
    // The same where everything matches.
    let all = pages(&store, bounds, &only("Happened"), Duration::MAX).await;
    assert!(all.iter().all(|page| page.scanned <= 4));
    assert!(are_whole(&all, &log).await);
}

#[tokio::test(start_paused = true)]
async fn law_13_what_did_not_match_takes_no_room() {
    let log = log_of(EVENTS, LARGE).await;
    let store = reader(&log, Duration::from_millis(10), 4 << 20);
    let room = store.read_room();
    let bounds = FeedBounds::page(2, Duration::MAX);
    let types = only("Nothing");
    let mut read = std::pin::pin!(read_page(&store, beginning(), bounds, &types));
    let mut most = 0;
    let nothing = loop {
        tokio::select! {
            page = &mut read => break page.unwrap(),
            () = sleep(Duration::from_millis(1)) => most = most.max(room.taken()),
        }
    };
    assert_eq!((nothing.scanned, nothing.cut_short), (EVENTS, false));
    assert!(most <= 2 * LARGE, "{most} bytes of room for what is gone");
    assert_eq!(room.taken(), 0);
    let types = only("Happened");
    let page = read_page(&store, beginning(), bounds, &types)
        .await
        .unwrap();
    assert_eq!(page.page.items.len(), 2);
    let bytes = page.page.items.iter().map(|event| event.envelope.len());
    assert_eq!(room.taken(), 2 * bytes.sum::<usize>());
}

#[tokio::test(start_paused = true)]
async fn law_13_a_page_without_room_ends_where_it_brings_the_caller_on_and_waits_where_not() {
    const SOON: Duration = Duration::from_secs(1);
    let log = log_of(EVENTS, LARGE).await;
    let store = reader(&log, Duration::ZERO, 4 << 20);
    let others = store.read_room().place((4 << 20) - LARGE).await;
    let bounds = FeedBounds::page(2, Duration::MAX);
    let types = only("Happened");
    // Past the control records with which the partitions begin.
    let begun = timeout(SOON, read_page(&store, beginning(), bounds, &types)).await;
    let begun = begun.expect("in time").unwrap();
    assert!(begun.cut_short && begun.page.items.is_empty());
    let on = timeout(SOON, read_page(&store, next(&begun), bounds, &types)).await;
    assert!(on.is_err(), "it would be where it was");
    // Who gets every event would take an empty page for the end.
    let all = timeout(SOON, read_page(&store, beginning(), bounds, &[])).await;
    assert!(all.is_err());
    let mut waits = std::pin::pin!(read_page(&store, next(&begun), bounds, &types));
    assert!(timeout(SOON, &mut waits).await.is_err());
    drop(others);
    let on = timeout(SOON, waits).await.expect("in time").unwrap();
    assert_eq!(on.page.items.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn law_13_a_page_of_a_slow_store_ends_in_time_with_its_cursor() {
    let log = log_of(30, 10).await;
    // As a caller who waits half a minute reads it.
    let bounds = FeedBounds::page(1_000, Duration::from_secs(30));
    for (each, longest) in [(3, 11), (25, 26)] {
        let store = reader(&log, Duration::from_secs(each), AMPLE);
        let longest = Duration::from_secs(longest);
        let nothing = pages(&store, bounds, &only("Nothing"), longest).await;
        assert!(nothing.len() > 1);
        assert_eq!(scanned(&nothing), 30);
        let all = pages(&store, bounds, &[], longest).await;
        assert!(all.len() > 1);
        // An empty page is the end for those who get every event.
        assert!(all.iter().all(|page| !page.page.items.is_empty()));
        assert!(are_whole(&all, &log).await);
    }
}

#[test]
fn a_page_is_read_no_longer_than_half_of_what_its_caller_waits() {
    let time = |seconds| FeedBounds::page(1, Duration::from_secs(seconds)).time;
    assert_eq!(time(4), Duration::from_secs(2));
    assert_eq!(time(30), MAX_TIME);
}

const OURS: Option<LogId> = Some(LogId(Uuid::from_u128(1)));
const THEIRS: Option<LogId> = Some(LogId(Uuid::from_u128(2)));

/// A process on the log. It does not look by itself whether others write.
fn process(log: &Log) -> (WriteSide, Supervisor) {
    let supervisor = Supervisor::start(
        Arc::new(Arbiters::start(1)),
        Arc::new(Tree::default()),
        Arc::new(|node| panic!("{} failed beyond its limit", node.path)),
    );
    let reader = LogReader::new(log.objects.clone(), "bucket".into(), PARTITIONS, 1 << 20);
    let side = write_side::start(
        &supervisor,
        WriteSideDeps {
            log: Arc::new(reader.with_id(LogId(Uuid::from_u128(1)))),
            event_store: EventStoreSettings {
                tail_interval: Duration::from_secs(3_600),
                ..EventStoreSettings::default()
            },
            snapshot_every: SnapshotEvery(100),
            topics: TopicNames::new("oms"),
            migration: None,
            clock: Arc::new(SystemClock),
            io: oms_testkit::io(),
            halts: Halts::new(crate::clock::now),
        },
    );
    (side, supervisor)
}

/// The cursor at the end of what these heads know.
fn end(heads: &LogHeads, log: Option<LogId>) -> String {
    let cursor = FeedCursor::before_end(heads, PARTITIONS, 0, log);
    cursor.text().unwrap()
}

async fn code(store: &LogWriter, cursor: &str) -> Option<&'static str> {
    match callers_cursor(store, Some(cursor)).await {
        Ok(_) => None,
        Err(ServiceError::Refused(refusal)) => Some(refusal.code),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn law_9_a_cursor_beyond_the_end_is_refused_once_the_end_was_read() {
    System::new().block_on(async {
        let log = log_of(10, 10).await;
        let (side, supervisor) = process(&log);
        let store = &side.writer;
        // With the id of the log, and as a build before gave it.
        for id in [OURS, None] {
            // Another process has written it and given the cursor.
            log.append(&[order(0), order(1), order(2), order(3)], "x")
                .await;
            let given = end(&log.heads, id);
            assert_eq!(code(store, &given).await, None);
            assert_eq!(end(store.heads(), id), given, "it was read");
            // Longer, though by a single commit.
            let longer = LogHeads::new(PARTITIONS);
            for partition in store.log().partition_ids() {
                let next = store.heads().next_offset(partition);
                longer.advance(partition, next + u64::from(partition.0 == 1));
            }
            let beyond = end(&longer, id);
            assert_eq!(code(store, &beyond).await, Some("cursor_of_another_log"));
        }
        let theirs = end(&LogHeads::new(PARTITIONS), THEIRS);
        assert_eq!(code(store, &theirs).await, Some("cursor_of_another_log"));
        assert_eq!(code(store, "rubbish").await, Some("invalid_cursor"));
        supervisor.arbiters().stop();
    });
}

#[test]
fn a_cursor_of_a_build_before_goes_on_as_one_that_names_its_log() {
    System::new().block_on(async {
        let log = log_of(10, 10).await;
        let (side, supervisor) = process(&log);
        let store = &side.writer;
        let old = end(&log.heads, None);
        let cursor = callers_cursor(store, Some(&old)).await.unwrap();
        log.append(&[order(0)], "x").await;
        assert_eq!(code(store, &end(&log.heads, None)).await, None);
        let bounds = FeedBounds::page(10, Duration::MAX);
        let page = read_page(store, cursor, bounds, &[]).await.unwrap();
        assert_eq!(page.page.items.len(), 1);
        let next = page.page.next_cursor.unwrap();
        assert_eq!(next, end(&log.heads, OURS));
        supervisor.arbiters().stop();
    });
}
