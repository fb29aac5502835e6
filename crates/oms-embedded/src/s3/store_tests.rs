//! The store held against a map in memory, and against what disks and crashes do to files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;

use super::super::checkpoint::checkpoint_path;
use super::super::segment::segment_path;
use super::*;

const BUCKET: &str = "bucket";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
}

fn small() -> Options {
    Options {
        segment_bytes: 2_000,
        ..Options::default()
    }
}

fn upload(body: &[u8]) -> Upload {
    use s3s::crypto::{Checksum, Md5};
    Upload {
        body: vec![Bytes::copy_from_slice(body)],
        len: body.len() as u32,
        crc: crc32fast::hash(body),
        etag: Md5::checksum(body),
        attributes: Attributes {
            content_type: Some("text/plain".into()),
            ..Attributes::default()
        },
        modified_ms: 1,
    }
}

async fn put(store: &LogStore, key: &str, body: &[u8]) {
    let put = store.put(BUCKET, key, upload(body), Condition::None);
    put.await.unwrap();
}

fn get(store: &LogStore, key: &str) -> Option<Vec<u8>> {
    let stored = store.find(BUCKET, key).unwrap()?;
    let (attributes, body) = stored.whole().unwrap();
    assert_eq!(attributes.content_type.as_deref(), Some("text/plain"));
    Some(body.to_vec())
}

/// A closed store of objects `00` to `19`, and its folder.
fn twenty(options: Options) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(dir.path(), options).unwrap();
    runtime().block_on(async {
        store.create_bucket(BUCKET, 0).await.unwrap();
        for n in 0..20 {
            put(&store, &format!("{n:02}"), &[n; 300]).await;
        }
    });
    dir
}

fn assert_twenty(store: &LogStore) {
    for n in 0..20 {
        assert_eq!(get(store, &format!("{n:02}")), Some(vec![n; 300]), "{n}");
    }
    assert_eq!(store.objects(), 20);
}

/// As a crash leaves it: without the checkpoint of an orderly end.
fn crash(dir: &Path) {
    fs::remove_file(checkpoint_path(dir)).unwrap();
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "seg"))
        .collect();
    found.sort_unstable();
    found
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, Vec<u8>),
    PutAbsent(u8, Vec<u8>),
    Delete(u8),
    Compact,
    Checkpoint,
    Reopen,
    ReopenWithoutCheckpoint,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0_u8..12;
    let body = prop::collection::vec(any::<u8>(), 0..400);
    prop::collection::vec(
        prop_oneof![
            8 => (key.clone(), body.clone()).prop_map(|(k, b)| Step::Put(k, b)),
            3 => (key.clone(), body).prop_map(|(k, b)| Step::PutAbsent(k, b)),
            4 => key.prop_map(Step::Delete),
            2 => Just(Step::Compact),
            1 => Just(Step::Checkpoint),
            1 => Just(Step::Reopen),
            1 => Just(Step::ReopenWithoutCheckpoint),
        ],
        1..120,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever is put, deleted, compacted and reopened, with or without its checkpoint, the
    /// store holds what a map holds.
    #[test]
    fn law_2_the_store_is_a_durable_map(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = LogStore::open(dir.path(), small()).unwrap();
        let runtime = runtime();
        runtime.block_on(store.create_bucket(BUCKET, 0)).unwrap();
        let mut model: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Put(key, body) => {
                    let key = format!("{key:02}");
                    runtime.block_on(put(&store, &key, &body));
                    model.insert(key, body);
                }
                Step::PutAbsent(key, body) => {
                    let key = format!("{key:02}");
                    let put = store.put(BUCKET, &key, upload(&body), Condition::Absent);
                    let expected = match model.contains_key(&key) {
                        true => Err(ChangeError::PreconditionFailed),
                        false => Ok(()),
                    };
                    prop_assert_eq!(runtime.block_on(put), expected);
                    model.entry(key).or_insert(body);
                }
                Step::Delete(key) => {
                    let key = format!("{key:02}");
                    runtime.block_on(store.delete(BUCKET, &key, Condition::None)).unwrap();
                    model.remove(&key);
                }
                Step::Compact => {
                    for number in upkeep::mostly_dead(&store.shared) {
                        upkeep::compact(&store.shared, number).unwrap();
                        prop_assert!(!segment_path(dir.path(), number).exists());
                    }
                }
                Step::Checkpoint => upkeep::checkpoint(&store.shared).unwrap(),
                Step::Reopen | Step::ReopenWithoutCheckpoint => {
                    drop(store);
                    if matches!(step, Step::ReopenWithoutCheckpoint) {
                        // There is none when nothing was written since it was taken away.
                        fs::remove_file(checkpoint_path(dir.path())).ok();
                    }
                    store = LogStore::open(dir.path(), small()).unwrap();
                }
            }
        }
        let held: BTreeMap<String, Vec<u8>> = (0..12)
            .map(|k| format!("{k:02}"))
            .filter_map(|k| Some((k.clone(), get(&store, &k)?)))
            .collect();
        prop_assert_eq!(held, model);
        let live = |index: &crate::s3::index::Index| -> Vec<u64> { index.segments.values().map(|s| s.live).collect() };
        let counted = live(&store.shared.index.read());
        drop(store);
        let store = LogStore::open(dir.path(), small()).unwrap();
        prop_assert_eq!(live(&store.shared.index.read()), counted, "live bytes are counted right");
    }
}

#[test]
fn law_4_what_is_kept_free_is_kept_and_whose_key_is_taken_learns_that() {
    let dir = tempfile::tempdir().unwrap();
    let open = |min_free_bytes| {
        let options = Options {
            min_free_bytes,
            ..small()
        };
        LogStore::open(dir.path(), options).unwrap()
    };
    runtime().block_on(async {
        let store = open(0);
        store.create_bucket(BUCKET, 0).await.unwrap();
        put(&store, "there", b"1").await;
        drop(store);
        // No disk has so much.
        let store = open(u64::MAX);
        let put = |key: &'static str| store.put(BUCKET, key, upload(b"2"), Condition::Absent);
        let refused = put("new").await.unwrap_err();
        assert!(matches!(refused, ChangeError::Full(_)), "{refused}");
        assert_eq!(
            put("there").await.unwrap_err(),
            ChangeError::PreconditionFailed
        );
        assert_eq!(get(&store, "new"), None);
        store
            .delete(BUCKET, "there", Condition::None)
            .await
            .unwrap();
        drop(store);
        let store = open(0);
        assert_eq!(get(&store, "there"), None);
        assert_eq!(store.poisoned(), None);
    });
}

#[test]
fn law_4_a_segment_that_cannot_be_made_fails_what_waits_for_it_and_poisons_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(dir.path(), small()).unwrap();
    runtime().block_on(async {
        store.create_bucket(BUCKET, 0).await.unwrap();
        put(&store, "large", &[b'x'; 2_000]).await;
        // As where no descriptor is left: the next file cannot be made.
        let in_the_way = segment_path(dir.path(), 2);
        fs::create_dir_all(in_the_way.join("full")).unwrap();
        for _ in 0..2 {
            let put = store.put(BUCKET, "later", upload(b"1"), Condition::Absent);
            let refused = put.await.unwrap_err();
            assert!(matches!(refused, ChangeError::NotBegun(_)), "{refused}");
            assert_eq!(store.poisoned(), None);
        }
        assert_eq!(get(&store, "later"), None);
        fs::remove_dir_all(in_the_way).unwrap();
        put(&store, "later", b"2").await;
        drop(store);
        let store = LogStore::open(dir.path(), small()).unwrap();
        assert_eq!(get(&store, "later").unwrap(), b"2");
        assert_eq!(get(&store, "large").unwrap().len(), 2_000);
    });
}

#[test]
fn compaction_gives_back_space() {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(dir.path(), small()).unwrap();
    let runtime = runtime();
    runtime.block_on(async {
        store.create_bucket(BUCKET, 0).await.unwrap();
        put(&store, "kept", b"first").await;
        for n in 0..200_u32 {
            put(&store, "derived", &n.to_le_bytes().repeat(50)).await;
        }
    });
    let before = segments(dir.path()).len();
    let dead = upkeep::mostly_dead(&store.shared);
    assert!(dead.len() > 10, "{} of {before}", dead.len());
    for number in dead {
        upkeep::compact(&store.shared, number).unwrap();
    }
    assert!(segments(dir.path()).len() < before / 4);
    drop(store);
    crash(dir.path());
    let store = LogStore::open(dir.path(), small()).unwrap();
    assert_eq!(get(&store, "kept"), Some(b"first".to_vec()));
    assert_eq!(
        get(&store, "derived"),
        Some(199_u32.to_le_bytes().repeat(50))
    );
}

#[test]
fn a_torn_write_is_cut_off_and_nothing_before_it() {
    for torn in [1, 10, 23, 24, 25, 200, 300] {
        let dir = twenty(Options::default());
        let path = segment_path(dir.path(), 1);
        let whole = fs::read(&path).unwrap();
        // What one more put would have written, all but its end.
        let store = LogStore::open(dir.path(), Options::default()).unwrap();
        runtime().block_on(put(&store, "20", &[20; 300]));
        drop(store);
        crash(dir.path());
        let longer = fs::read(&path).unwrap();
        fs::write(&path, &longer[..whole.len() + torn]).unwrap();
        let store = LogStore::open(dir.path(), Options::default()).unwrap();
        assert_twenty(&store);
        assert_eq!(fs::read(&path).unwrap(), whole, "{torn} bytes");
        runtime().block_on(put(&store, "20", &[21; 300]));
        drop(store);
        crash(dir.path());
        let store = LogStore::open(dir.path(), Options::default()).unwrap();
        assert_eq!(get(&store, "20"), Some(vec![21; 300]));
    }
}

#[test]
fn junk_or_zeros_at_the_end_are_cut_off() {
    for junk in [vec![0_u8; 5_000], b"OMSB".repeat(100), vec![0xff; 3]] {
        let dir = twenty(Options::default());
        crash(dir.path());
        let path = segment_path(dir.path(), 1);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..], &junk].concat()).unwrap();
        assert_twenty(&LogStore::open(dir.path(), Options::default()).unwrap());
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}

#[test]
fn a_flipped_byte_in_the_middle_is_reported_with_its_place() {
    let dir = twenty(Options::default());
    crash(dir.path());
    let path = segment_path(dir.path(), 1);
    let whole = fs::read(&path).unwrap();
    let last_batch = memchr::memmem::rfind(&whole, b"OMSB").unwrap();
    for at in (0..last_batch).step_by(97) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, &damaged).unwrap();
        match LogStore::open(dir.path(), Options::default()).map(|_| ()) {
            Err(LogStoreError::Damaged {
                path: named,
                offset,
                ..
            }) => {
                assert_eq!(named, path);
                // The batch that holds the byte.
                let batch = memchr::memmem::rfind(&whole[..=at], b"OMSB").unwrap_or(0);
                assert_eq!(offset as usize, batch, "byte {at}");
            }
            other => panic!("byte {at}: {other:?}"),
        }
        assert_eq!(
            fs::read(&path).unwrap(),
            damaged,
            "nothing is repaired away"
        );
    }
}

#[test]
fn a_byte_that_rots_behind_the_checkpoint_is_reported_by_the_read() {
    let dir = twenty(Options::default());
    let path = segment_path(dir.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    let body = memchr::memmem::find(&bytes, &[7; 300]).unwrap();
    bytes[body + 100] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let store = LogStore::open(dir.path(), Options::default()).unwrap();
    let read = |key: &str| store.find(BUCKET, key).unwrap().unwrap().whole();
    assert!(matches!(read("07"), Err(LogStoreError::Damaged { .. })));
    assert!(read("08").is_ok());
}

#[test]
fn lost_files_and_lost_ends_are_reported() {
    let dir = twenty(small());
    let all = segments(dir.path());
    assert!(all.len() > 3);
    for (with_checkpoint, lost) in [(true, 0), (true, all.len() - 1), (false, 1)] {
        let dir = twenty(small());
        if !with_checkpoint {
            crash(dir.path());
        }
        fs::remove_file(&segments(dir.path())[lost]).unwrap();
        let opened = LogStore::open(dir.path(), small()).map(|_| ());
        assert!(
            matches!(opened, Err(LogStoreError::Missing { .. })),
            "{opened:?}"
        );
    }
    // The end of the newest segment was durable: the checkpoint says so.
    let newest = all.last().unwrap();
    let len = fs::metadata(newest).unwrap().len();
    fs::OpenOptions::new()
        .write(true)
        .open(newest)
        .unwrap()
        .set_len(len - 1)
        .unwrap();
    let opened = LogStore::open(dir.path(), small()).map(|_| ());
    assert!(
        matches!(opened, Err(LogStoreError::Damaged { .. })),
        "{opened:?}"
    );
}

#[test]
fn a_damaged_checkpoint_is_ignored_and_an_old_one_is_caught_up() {
    let dir = twenty(small());
    let path = checkpoint_path(dir.path());
    let old = fs::read(&path).unwrap();
    for at in (0..old.len()).step_by(41) {
        let mut damaged = old.clone();
        damaged[at] ^= 4;
        fs::write(&path, damaged).unwrap();
        assert_twenty(&LogStore::open(dir.path(), small()).unwrap());
    }
    let store = LogStore::open(dir.path(), small()).unwrap();
    runtime().block_on(async {
        put(&store, "more", b"more").await;
        store.delete(BUCKET, "03", Condition::None).await.unwrap();
    });
    drop(store);
    fs::write(&path, &old).unwrap();
    let store = LogStore::open(dir.path(), small()).unwrap();
    assert_eq!(get(&store, "more"), Some(b"more".to_vec()));
    assert_eq!(get(&store, "03"), None);
    assert_eq!(store.objects(), 20);
}

#[test]
fn one_process_at_a_time() {
    let dir = twenty(small());
    let store = LogStore::open(dir.path(), small()).unwrap();
    let second = LogStore::open(dir.path(), small()).map(|_| ());
    assert!(
        matches!(second, Err(LogStoreError::Locked { .. })),
        "{second:?}"
    );
    assert_twenty(&store);
    drop(store);
    assert_twenty(&LogStore::open(dir.path(), small()).unwrap());
}

#[test]
fn conditions_see_what_is_before_them_in_the_same_batch() {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(dir.path(), small()).unwrap();
    runtime().block_on(async {
        store.create_bucket(BUCKET, 0).await.unwrap();
        let put = |key, body: &[u8], condition| store.put(BUCKET, key, upload(body), condition);
        let etag = upload(b"one").etag;
        let outcomes = futures_util::future::join_all([
            put("k", b"one", Condition::Absent),
            put("k", b"two", Condition::Absent),
            put("k", b"two", Condition::Matches(etag)),
            put("k", b"six", Condition::Matches(etag)),
            put("other", b"x", Condition::Present),
            put("other", b"x", Condition::Matches(etag)),
        ])
        .await;
        use ChangeError::{NoSuchKey, PreconditionFailed};
        assert_eq!(
            outcomes,
            [
                Ok(()),
                Err(PreconditionFailed),
                Ok(()),
                Err(PreconditionFailed),
                Err(NoSuchKey),
                Err(NoSuchKey),
            ]
        );
        assert_eq!(get(&store, "k"), Some(b"two".to_vec()));
        let nowhere = store
            .put("nowhere", "k", upload(b""), Condition::None)
            .await;
        assert_eq!(nowhere, Err(ChangeError::NoSuchBucket));
    });
}
