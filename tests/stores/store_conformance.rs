//! One behaviour suite for the port to S3, held against the oracle in memory, the embedded
//! endpoint and, where `OMS_TEST_S3` names one, a real server.
//!
//! `OMS_TEST_S3` is a JSON object of `endpoint`, `region`, `bucket`, `access_key`, `secret_key`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use oms::clock::new_uuid;
use oms::embedded::S3Endpoint;
use oms::embedded::s3::error as embedded;
use oms::embedded::s3::server::S3Server;
use oms::store::adapters::memory::MemoryObjectStore;
use oms::store::adapters::s3;
use oms::store::error::StoreErrorKind;
use oms::store::ports::object_store::{Created, ObjectStore, list_all};
use oms::store::probe::probe;

use crate::client;

/// Writers that race for one key, and rounds: a check-then-write race was seen in 27 to 467 of
/// 500 rounds of 50.
const RACERS: usize = 50;
const ROUNDS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_conforms() {
    conforms(Arc::new(MemoryObjectStore::default()), ANY_KEYS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_endpoint_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let server = S3Server::start(dir.path(), "conformance").unwrap();
    let store = client(server.endpoint());
    store.ensure_bucket().await.unwrap();
    conforms(Arc::new(store), ANY_KEYS).await;
    server.stop();
}

/// The endpoint and its client do not know each other: these are the words between them.
#[test]
fn law_4_the_client_knows_the_codes_of_the_embedded_endpoint() {
    assert_eq!(s3::NO_ROOM, embedded::NO_ROOM);
    assert_eq!(s3::NOTHING_WRITTEN, embedded::NOTHING_WRITTEN);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_named_in_the_environment_conforms() {
    let Ok(endpoint) = std::env::var("OMS_TEST_S3") else {
        println!("OMS_TEST_S3 is not set: no server but the embedded one was tried");
        return;
    };
    let endpoint: S3Endpoint = serde_json::from_str(&endpoint).unwrap();
    println!("trying {}", endpoint.endpoint);
    let store = client(&endpoint);
    store.ensure_bucket().await.unwrap();
    conforms(Arc::new(store), OUR_KEYS).await;
}

/// Whatever S3 allows as a key.
const ANY_KEYS: &[&str] = &[
    "a", "a/b", "a/b/", "a//b", "a b", "a+b", "a%20b", "a%2Fb", "a?b", "a&b=c", "a:b", "a#b",
    "a~b", "a'b", "a\"b", "a<b>", "a\tb", "é", "z", "Z", "日本", "😀", "a=b", "a@b", "a*b", "a!b",
    "a(b)", "a,b", "a;b", "a[b]", "a{b}", "a|b", "a^b", "a`b", "a\\b", "a$b", "-", "_", "0", "00",
    "~", "a.b", "a..b",
];

/// What the log's own layout makes of ids: encoded components. A server over a file system takes no
/// more than that, since there a key cannot be an object and a folder at once.
const OUR_KEYS: &[&str] = &[
    "a", "a%20b", "a%2Fb", "a:b", "a~b", "a@b", "z", "Z", "-", "_", "0", "00", "~", "a.b", "a..b",
    "%C3%A9", "b/c",
];

/// The suite. Everything lies under a prefix of its own and is removed in the end.
async fn conforms(store: Arc<dyn ObjectStore>, odd_keys: &[&str]) {
    probe(&*store, new_uuid()).await.unwrap();
    let root = format!("conformance/{}/", new_uuid());
    put_if_absent(&*store, &root).await;
    law_7_of_racing_writers_exactly_one_wins(&store, &root).await;
    overwrites_and_deletes(&*store, &root).await;
    ranges(&*store, &root).await;
    odd_keys_list_in_byte_order(&*store, &root, odd_keys).await;
    long_listings(&store, &root).await;
    bodies_of_every_size(&*store, &root).await;
    for object in list_all(&*store, &root, None).await.unwrap() {
        store.delete(&object.key).await.unwrap();
    }
    assert_eq!(store.list(&root, None, 10).await.unwrap(), vec![]);
}

async fn put_if_absent(store: &dyn ObjectStore, root: &str) {
    let key = format!("{root}absent");
    assert_eq!(store.get(&key).await.unwrap(), None);
    assert_eq!(store.get_range(&key, 0..1).await.unwrap(), None);
    let first = Bytes::from_static(b"first");
    let put = |body: &Bytes| store.put_if_absent(&key, body.clone());
    assert_eq!(put(&first).await.unwrap(), Created::Yes);
    let second = Bytes::from_static(b"second");
    assert_eq!(put(&second).await.unwrap(), Created::Exists);
    assert_eq!(put(&first).await.unwrap(), Created::Exists);
    assert_eq!(store.get(&key).await.unwrap(), Some(first));
    // Removed, the key is free again.
    store.delete(&key).await.unwrap();
    assert_eq!(put(&second).await.unwrap(), Created::Yes);
    assert_eq!(store.get(&key).await.unwrap(), Some(second));
}

async fn law_7_of_racing_writers_exactly_one_wins(store: &Arc<dyn ObjectStore>, root: &str) {
    for round in 0..ROUNDS {
        let key = format!("{root}race/{round:04}");
        let start = Arc::new(tokio::sync::Barrier::new(RACERS));
        let racers = (0..RACERS).map(|i| {
            let (store, key, start) = (store.clone(), key.clone(), start.clone());
            tokio::spawn(async move {
                start.wait().await;
                let body = Bytes::from(format!("{i:04}").repeat(256));
                store.put_if_absent(&key, body).await.unwrap()
            })
        });
        let outcomes = join_all(racers).await;
        let winners: Vec<usize> = (outcomes.into_iter().enumerate())
            .filter(|(_, outcome)| *outcome.as_ref().unwrap() == Created::Yes)
            .map(|(i, _)| i)
            .collect();
        let [winner] = winners[..] else {
            panic!("round {round}: {winners:?} won");
        };
        let stored = store.get(&key).await.unwrap().unwrap();
        assert_eq!(stored, format!("{winner:04}").repeat(256), "round {round}");
    }
}

async fn overwrites_and_deletes(store: &dyn ObjectStore, root: &str) {
    let key = format!("{root}derived");
    store.delete(&key).await.unwrap();
    for n in 0..5 {
        let body = Bytes::from(format!("version {n}"));
        store.put(&key, body.clone()).await.unwrap();
        assert_eq!(store.get(&key).await.unwrap(), Some(body));
    }
    store.delete(&key).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), None);
    store.delete(&key).await.unwrap();
    store.put(&key, Bytes::new()).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), Some(Bytes::new()));
}

async fn ranges(store: &dyn ObjectStore, root: &str) {
    let key = format!("{root}ranges");
    let body: Vec<u8> = (0..10_000_u32).flat_map(u32::to_le_bytes).collect();
    let body = Bytes::from(body);
    store.put(&key, body.clone()).await.unwrap();
    let len = body.len() as u64;
    for range in [0..1, 0..len, 1..2, 17..4_711, len - 1..len, 5..5] {
        let expected = body.slice(range.start as usize..range.end as usize);
        let read = store.get_range(&key, range.clone()).await.unwrap();
        assert_eq!(read, Some(expected), "{range:?}");
    }
    // The answer has exactly the length asked for, or it is an error.
    for range in [len - 1..len + 1, len..len + 1, len + 5..len + 9] {
        let refused = store.get_range(&key, range.clone()).await.unwrap_err();
        let kinds = [StoreErrorKind::Invalid, StoreErrorKind::Corrupt];
        assert!(kinds.contains(&refused.kind), "{range:?}: {refused}");
    }
}

async fn odd_keys_list_in_byte_order(store: &dyn ObjectStore, root: &str, odd: &[&str]) {
    let root = format!("{root}odd/");
    let mut keys: Vec<String> = odd.iter().map(|name| format!("{root}{name}")).collect();
    for key in &keys {
        let body = Bytes::from(key.clone());
        let created = store.put_if_absent(key, body).await.unwrap();
        assert_eq!(created, Created::Yes, "{key:?}");
    }
    keys.sort_unstable();
    let names = |listed: Vec<oms::store::ports::object_store::ObjectInfo>| -> Vec<String> {
        listed.into_iter().map(|o| o.key).collect()
    };
    assert_eq!(names(store.list(&root, None, 1000).await.unwrap()), keys);
    for (i, key) in keys.iter().enumerate() {
        let stored = store.get(key).await.unwrap();
        assert_eq!(stored.as_deref(), Some(key.as_bytes()), "{key:?}");
        let after = names(store.list(&root, Some(key), 3).await.unwrap());
        assert_eq!(
            after,
            keys[i + 1..].iter().take(3).cloned().collect::<Vec<_>>(),
            "{key:?}"
        );
    }
    // Between keys, before all, behind all, and outside the prefix.
    let under_a = format!("{root}a/");
    let expected: Vec<&String> = keys.iter().filter(|k| k.starts_with(&under_a)).collect();
    let listed = names(store.list(&under_a, None, 1000).await.unwrap());
    assert_eq!(listed.iter().collect::<Vec<_>>(), expected);
    let before = store.list(&root, Some("!"), 1000).await.unwrap();
    assert_eq!(names(before), keys);
    let behind = store.list(&root, Some("\u{10ffff}"), 1000).await.unwrap();
    assert_eq!(behind, vec![]);
}

async fn long_listings(store: &Arc<dyn ObjectStore>, root: &str) {
    const OBJECTS: usize = 2_300;
    let root = format!("{root}long/");
    let expected: BTreeMap<String, u64> = (0..OBJECTS)
        .map(|n| (format!("{root}{:020}.ndjson", n * 7), n as u64 % 10))
        .collect();
    let wanted: Vec<_> = expected.clone().into_iter().collect();
    for few in wanted.chunks(64) {
        let puts = few.iter().map(|(key, len)| {
            let (store, key, body) = (
                store.clone(),
                key.clone(),
                Bytes::from(vec![b'x'; *len as usize]),
            );
            tokio::spawn(async move { store.put(&key, body).await.unwrap() })
        });
        join_all(puts)
            .await
            .into_iter()
            .for_each(|put| put.unwrap());
    }
    let all = list_all(&**store, &root, None).await.unwrap();
    let listed: Vec<_> = all.into_iter().map(|o| (o.key, o.size)).collect();
    assert!(listed == wanted, "{} listed", listed.len());
    let (middle, _) = &wanted[OBJECTS / 2];
    let rest = list_all(&**store, &root, Some(middle)).await.unwrap();
    assert_eq!(rest.len(), OBJECTS - OBJECTS / 2 - 1);
    assert_eq!(rest[0].key, wanted[OBJECTS / 2 + 1].0);
    assert_eq!(
        store.list(&root, None, 1).await.unwrap()[0].key,
        wanted[0].0
    );
    assert_eq!(store.list(&root, None, 1000).await.unwrap().len(), 1000);
}

async fn bodies_of_every_size(store: &dyn ObjectStore, root: &str) {
    for len in [0, 1, 1023, 65_536, 300_000, 5 << 20] {
        let key = format!("{root}size/{len}");
        let body: Vec<u8> = (0..len).map(|i: usize| (i * 31 + i / 251) as u8).collect();
        let body = Bytes::from(body);
        let created = store.put_if_absent(&key, body.clone()).await.unwrap();
        assert_eq!(created, Created::Yes);
        assert!(store.get(&key).await.unwrap() == Some(body), "{len} bytes");
    }
}
