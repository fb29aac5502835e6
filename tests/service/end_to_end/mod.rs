//! The service as its users meet it: started by its command, spoken to over HTTP, its events read
//! back with ordinary S3 and Kafka clients.

mod audit;
mod clock;
mod connections;
mod copies;
mod dashboard;
mod doctor;
mod doors;
mod drill;
mod early;
mod full_disk;
mod health;
mod kills;
mod large;
mod load;
mod local;
mod manners;
mod migration;
mod oidc;
mod operations;
mod steps;
mod stopped;
mod traces;

use std::time::Duration;

use futures_util::StreamExt;
use oms_testkit::broker::{Broker, Consumed};
use oms_testkit::service::{PATIENCE, Service, real_s3};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::OMS;

use load::{CLASS, DB, Load, check_feed, check_kafka};

const TOPICS: [&str; 4] = ["oms.database", "oms.class", "oms.instance", "oms.stream"];

fn bucket(service: &Service) -> Box<s3::Bucket> {
    let s3 = &service.s3();
    let text = |name: &str| s3[name].as_str().expect("a value").to_owned();
    let region = s3::Region::Custom {
        region: text("region"),
        endpoint: text("endpoint"),
    };
    let credentials = s3::creds::Credentials::new(
        Some(&text("access_key")),
        Some(&text("secret_key")),
        None,
        None,
        None,
    );
    s3::Bucket::new(&text("bucket"), region, credentials.expect("credentials"))
        .expect("a bucket")
        .with_path_style()
}

/// Reads the whole log with nothing but an S3 client: laws 5 and 8 as a stranger would check them.
async fn read_log(bucket: &s3::Bucket) -> Vec<Value> {
    let pages = bucket
        .list("events/".into(), None)
        .await
        .expect("a listing");
    let keys: Vec<String> = pages
        .into_iter()
        .flat_map(|page| page.contents)
        .map(|object| object.key)
        .collect();
    let mut events = Vec::new();
    let mut chain: std::collections::HashMap<String, (u64, String)> = Default::default();
    for key in keys {
        let body = bucket
            .get_object(&key)
            .await
            .expect("an object")
            .into_bytes();
        let mut lines = std::str::from_utf8(&body).expect("text").lines();
        let header: Value = serde_json::from_str(lines.next().expect("a header")).expect("JSON");
        let partition = key.split('/').nth(1).expect("a partition").to_owned();
        let (next, prev) = chain.entry(partition).or_insert((0, "0".repeat(64)));
        assert_eq!(
            header["offset"], *next,
            "law 5: {key}: offsets are 0, 1, 2, …"
        );
        assert_eq!(
            header["prev"],
            prev.as_str(),
            "law 5: {key}: the hash chain holds"
        );
        *next += 1;
        *prev = hex::encode(Sha256::digest(&body));
        if header["kind"] == "events" {
            events.extend(lines.map(|line| serde_json::from_str::<Value>(line).expect("an event")));
        }
    }
    events
}

/// Waits until the read model holds what was acknowledged, and nothing else.
async fn projected(service: &Service, expected: &std::collections::HashMap<String, i64>) {
    let mut found = std::collections::HashMap::new();
    let deadline = std::time::Instant::now() + PATIENCE;
    while found != *expected {
        if std::time::Instant::now() > deadline {
            let differs = |id: &&String| found.get(*id) != expected.get(*id);
            let ids: Vec<&String> = expected.keys().filter(differs).take(5).collect();
            panic!(
                "{} instances of {}; of those that differ: {ids:?}",
                found.len(),
                expected.len()
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        if let Some(all) = read_model(service).await {
            found = all;
        }
    }
}

/// `n` of every instance, as the read model has it; nothing while it does not answer.
async fn read_model(service: &Service) -> Option<std::collections::HashMap<String, i64>> {
    let query = format!("/api/v1/databases/{DB}/classes/{CLASS}/instances");
    let mut found = std::collections::HashMap::new();
    let mut after = String::new();
    loop {
        let path = format!("{query}?limit=500{after}");
        let (status, page) = service.send("GET", &path, None).await;
        if status != 200 {
            return None;
        }
        for item in page["items"].as_array().expect("items") {
            let id = item["id"].as_str().expect("an id");
            found.insert(id.to_owned(), item["data"]["n"].as_i64().expect("a number"));
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => after = format!("&cursor={cursor}"),
            None => return Some(found),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_story_from_command_to_query() {
    one_story(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_story_on_the_s3_server_that_was_asked_for() {
    if let Some(s3) = real_s3() {
        one_story(Some(s3)).await;
    }
}

async fn one_story(s3: Option<Value>) {
    let broker = Broker::start();
    let bootstrap = broker.bootstrap();
    let env = [("KAFKA_BOOTSTRAP_SERVERS", bootstrap.as_str())];
    let service = Service::start_on(OMS, s3, &env, &[]).await;
    let (status, made) = service
        .send(
            "POST",
            "/api/v1/databases",
            Some(json!({"name": "films", "description": "all"})),
        )
        .await;
    assert_eq!((status, &made["version"]), (201, &json!(1)), "{made}");
    assert_eq!(
        (&made["mode"], &made["lead"]),
        (&json!("s3_only"), &json!("s3"))
    );
    assert_eq!(made["stored_in"], json!(["s3"]));
    let classes = "/api/v1/databases/films/classes";
    for class in [
        json!({"id": "Person", "label": "Person", "properties": [
            {"name": "name", "type": "string", "required": true}]}),
        json!({"id": "Work", "label": "Work", "abstract": true, "properties": [
            {"name": "title", "type": "string", "required": true, "constraints": {"min_length": 1}}]}),
        json!({"id": "Film", "label": "Film", "parent_class": "Work", "properties": [
            {"name": "year", "type": "integer"}, {"name": "site", "type": "url"}],
            "relationships": [{"predicate": "directed_by", "target": "Person", "cardinality": "n:1"}]}),
    ] {
        let (status, answer) = service.send("POST", classes, Some(class)).await;
        assert_eq!(status, 201, "{answer}");
    }
    let people = format!("{classes}/Person/instances");
    let films = format!("{classes}/Film/instances");
    let ann = json!({"id": "ann", "data": {"name": "Ann"}});
    assert_eq!(service.send("POST", &people, Some(ann)).await.0, 201);
    // Law 6: the aggregate decides, and says why not.
    for (data, code, field) in [
        (json!({"year": 1999}), "required", "data.title"),
        (json!({"title": "A", "year": "1999"}), "type", "data.year"),
        (
            json!({"title": "A", "colour": "red"}),
            "unknown_property",
            "data.colour",
        ),
        (
            json!({"title": "A", "directed_by": "bob"}),
            "target_not_found",
            "data.directed_by",
        ),
    ] {
        let (status, problem) = service
            .send("POST", &films, Some(json!({"data": data})))
            .await;
        assert_eq!(status, 422, "{problem}");
        assert_eq!(problem["violations"][0]["code"], code, "{problem}");
        assert_eq!(problem["violations"][0]["field"], field, "{problem}");
    }
    let film = json!({"id": "f1", "data": {"title": "One", "year": 1999, "directed_by": "ann"}});
    let (status, created) = service.send("POST", &films, Some(film)).await;
    assert_eq!(status, 201, "{created}");
    let (status, patched) = service
        .send(
            "PATCH",
            &format!("{films}/f1"),
            Some(json!({"year": 2000, "site": "https://a.example"})),
        )
        .await;
    assert_eq!((status, &patched["version"]), (200, &json!(2)), "{patched}");
    assert_eq!(patched["data"]["year"], 2000);
    // Read back from the aggregate, the read model, the log, and as it was.
    let now = service.get(&format!("{films}/f1")).await;
    assert_eq!(now["data"]["year"], 2000);
    let then = service.get(&format!("{films}/f1?at_version=1")).await;
    assert_eq!(then["data"]["year"], 1999);
    let position = patched["position"].as_str().expect("a position");
    let found = service
        .http
        .post(service.at(&format!("{films}/query")))
        .header("X-Min-Position", position)
        .json(&json!({"filters": [{"field": "year", "op": "gte", "value": 2000}]}))
        .send()
        .await
        .expect("an answer");
    assert_eq!(found.status(), 200, "{:?}", found.text().await);
    let found: Value = found.json().await.expect("JSON");
    assert_eq!(
        (&found["total"], &found["items"][0]["id"]),
        (&json!(1), &json!("f1"))
    );
    let history = service.get(&format!("{films}/f1/history")).await;
    let types: Vec<&Value> = history["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|e| &e["type"])
        .collect();
    assert_eq!(types, ["InstanceCreated", "InstanceUpdated"]);
    // The same facts in S3, in the feed and in Kafka; a message's S3 address fetches that event.
    let feed = service.whole_feed().await;
    let bucket = bucket(&service);
    let mut stored = read_log(&bucket).await;
    assert_eq!(stored.len(), feed.len());
    let ours = delivered(&broker, &feed);
    for message in &ours {
        let number = |name: &str| message.headers[name].parse::<u64>().expect("a number");
        let (start, length) = (number("s3_offset"), number("s3_length"));
        let ranged = bucket
            .get_object_range(&message.headers["s3_key"], start, Some(start + length - 1))
            .await
            .expect("a range");
        assert_eq!(
            ranged.bytes().as_ref(),
            message.value,
            "law 8: {:?}",
            message.headers
        );
        assert_eq!(
            hex::encode(Sha256::digest(&message.value)),
            message.headers["s3_sha256"]
        );
    }
    for event in &mut stored {
        let in_feed = feed.iter().any(|e| e["id"] == event["id"]);
        assert!(in_feed, "{event}");
    }
    // Deleting a class takes its instances with it; the history stays.
    assert_eq!(
        service
            .send("DELETE", &format!("{classes}/Film"), None)
            .await
            .0,
        200
    );
    assert_eq!(
        service.send("GET", &format!("{films}/f1"), None).await.0,
        404
    );
}

/// Law 9: waits until everything in the feed was consumed, and checks it.
fn delivered(broker: &Broker, feed: &[Value]) -> Vec<Consumed> {
    let wanted: std::collections::HashSet<String> = feed
        .iter()
        .map(|e| e["id"].as_str().expect("an id").to_owned())
        .collect();
    let mut missing = wanted.clone();
    let mut looked_at = 0;
    let consumed = broker.consume(&TOPICS, PATIENCE, |consumed| {
        for message in &consumed[looked_at..] {
            missing.remove(&message.headers["ce_id"]);
        }
        looked_at = consumed.len();
        missing.is_empty()
    });
    let ours: Vec<_> = consumed
        .into_iter()
        .filter(|m| wanted.contains(&m.headers["ce_id"]))
        .collect();
    eprintln!("{} events, {} deliveries", feed.len(), ours.len());
    check_kafka(&ours, feed);
    ours
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_10_postgres_away_delays_delivery_and_queries_and_fails_no_write() {
    let service = Service::start(OMS, &[], &[]).await;
    let load = Load::new(&service.url);
    load.prepare().await;
    let postmaster = postmaster(&service);
    let running = {
        let load = load.clone();
        tokio::spawn(async move { load.run(8, 100_000).await })
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    signal(postmaster, nix::sys::signal::Signal::SIGKILL);
    let before = load.count();
    let retries = load.retries.load(std::sync::atomic::Ordering::SeqCst);
    service
        .until("writes while PostgreSQL is away", async || {
            (load.count() > before + 200).then_some(())
        })
        .await;
    assert_eq!(
        load.retries.load(std::sync::atomic::Ordering::SeqCst),
        retries,
        "law 10: no write fails"
    );
    load.stop();
    running.await.expect("every client's checks hold");
    let acknowledged = std::mem::take(&mut *load.acknowledged.lock().expect("lock"));
    check_feed(&service.whole_feed().await, &acknowledged);
    projected(&service, &acknowledged.values).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_11_a_dropped_database_is_rebuilt_from_the_log() {
    let service = Service::start(OMS, &[], &[]).await;
    let load = Load::new(&service.url);
    load.prepare().await;
    load.run(4, 20).await;
    let acknowledged = std::mem::take(&mut *load.acknowledged.lock().expect("lock"));
    projected(&service, &acknowledged.values).await;
    let url = service.postgres_of_the_service();
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
        .await
        .expect("a connection");
    let connection = tokio::spawn(connection);
    client
        .batch_execute("DROP SCHEMA oms CASCADE")
        .await
        .expect("dropped");
    drop(client);
    connection.await.expect("ended").expect("in order");
    projected(&service, &acknowledged.values).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orderly_end_under_load_loses_nothing() {
    let mut service = Service::start(OMS, &[], &[]).await;
    let load = Load::new(&service.url);
    load.prepare().await;
    let running = {
        let load = load.clone();
        tokio::spawn(async move { load.run(8, 100_000).await })
    };
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(service.terminate().await, 0, "{}", service.log_tail());
        let log = service.log_tail();
        assert!(
            !log.contains("actor failed"),
            "nobody fails by an orderly end: {log}"
        );
        service.restart().await;
    }
    load.stop();
    running.await.expect("every client's checks hold");
    let acknowledged = std::mem::take(&mut *load.acknowledged.lock().expect("lock"));
    check_feed(&service.whole_feed().await, &acknowledged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_live_feed_goes_on_where_it_was_left() {
    let service = Service::start(OMS, &[], &[]).await;
    let append = async |i: u64| {
        let body = json!({"events": [{"type": "Ticked", "data": {"i": i}}]});
        let (status, answer) = service
            .send("POST", "/api/v1/streams/clock/1/events", Some(body))
            .await;
        assert!(status < 300, "{answer}");
    };
    append(1).await;
    let open = async |last: Option<String>| {
        let mut request = service
            .http
            .get(service.at("/api/v1/events?types=Ticked"))
            .header("Accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        request.send().await.expect("a stream").bytes_stream()
    };
    let mut live = open(None).await;
    let mut text = String::new();
    let mut read_until = async |text: &mut String, i: u64| {
        let mark = format!(r#""data":{{"i":{i}}}"#);
        while !text.contains(&mark) {
            let chunk = tokio::time::timeout(PATIENCE, live.next()).await;
            text.push_str(
                std::str::from_utf8(&chunk.expect("in time").expect("more").expect("bytes"))
                    .expect("text"),
            );
        }
    };
    read_until(&mut text, 1).await;
    append(2).await;
    read_until(&mut text, 2).await;
    let last = text
        .lines()
        .filter_map(|line| line.strip_prefix("id:"))
        .next_back()
        .expect("an id")
        .trim()
        .to_owned();
    append(3).await;
    let mut resumed = open(Some(last)).await;
    let mut text = String::new();
    while !text.contains(r#""data":{"i":3}"#) {
        let chunk = tokio::time::timeout(PATIENCE, resumed.next()).await;
        text.push_str(
            std::str::from_utf8(&chunk.expect("in time").expect("more").expect("bytes"))
                .expect("text"),
        );
    }
    assert!(!text.contains(r#""data":{"i":2}"#), "nothing comes twice");
}

fn postmaster(service: &Service) -> i32 {
    let mut folders = vec![service.data_dir()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            if entry.file_name() == "postmaster.pid" {
                let text = std::fs::read_to_string(entry.path()).expect("postmaster.pid");
                return text
                    .lines()
                    .next()
                    .expect("a pid")
                    .trim()
                    .parse()
                    .expect("a pid");
            }
            if entry.path().is_dir() {
                folders.push(entry.path());
            }
        }
    }
    panic!("no postmaster.pid under the data directory");
}

fn signal(pid: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).expect("signalled");
}
