//! What is there in the end: looked at through the service's own interfaces, Kafka's and S3's, once
//! all is quiet. What does not become quiet in time is handed to the validator as it is.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::clients::{CLASS, DB};
use crate::cluster::{Cluster, Node};
use crate::history::{Event, Found};
use crate::proof::verify;

/// How long what was committed may take to reach everyone once nothing is broken, after a run of minutes.
pub const SETTLE: Duration = Duration::from_secs(45);

/// A late write of a node that was frozen, or of a request nobody waits for, has landed or failed
/// within an append's deadline; this is looked at until nothing came for so long.
const QUIET: Duration = Duration::from_millis(1_500);

#[derive(Deserialize)]
struct Page {
    items: Vec<Box<RawValue>>,
    next_cursor: Option<String>,
}

async fn page(http: &reqwest::Client, url: String) -> Option<Page> {
    let answer = http.get(url).send().await.ok()?;
    if !answer.status().is_success() {
        return None;
    }
    serde_json::from_str(&answer.text().await.ok()?).ok()
}

/// An event from its envelope.
fn event(position: String, bytes: &str) -> Event {
    let envelope: Value = serde_json::from_str(bytes).unwrap_or_default();
    let text = |name: &str| envelope[name].as_str().unwrap_or_default().to_owned();
    Event {
        position,
        stream: format!("{}/{}", text("streamtype"), text("streamid")),
        version: envelope["streamversion"].as_u64().unwrap_or(0),
        id: text("id"),
        bytes: bytes.to_owned(),
    }
}

/// An event of the feed: its envelope with its position as one more member at its end.
fn of_feed(text: &str) -> Event {
    let cut = text.rfind(r#","position":""#);
    let (open, position) = text.split_at(cut.unwrap_or(text.len()));
    let position = position
        .trim_start_matches(r#","position":""#)
        .trim_end_matches(r#""}"#);
    event(position.to_owned(), &format!("{open}}}"))
}

async fn feed(http: &reqwest::Client, node: &Node) -> Option<Vec<Event>> {
    let mut events = Vec::new();
    let mut after = String::new();
    loop {
        let url = format!("{}/api/v1/events?limit=1000{after}", node.url);
        let page = page(http, url).await?;
        if page.items.is_empty() {
            return Some(events);
        }
        events.extend(page.items.iter().map(|item| of_feed(item.get())));
        after = format!("&after={}", page.next_cursor?);
    }
}

async fn read_model(http: &reqwest::Client, node: &Node) -> Option<BTreeMap<String, (u64, Value)>> {
    let mut found = BTreeMap::new();
    let mut after = String::new();
    loop {
        let url = format!(
            "{}/api/v1/databases/{DB}/classes/{CLASS}/instances?limit=500{after}",
            node.url
        );
        let page = page(http, url).await?;
        for item in page.items {
            let item: Value = serde_json::from_str(item.get()).ok()?;
            let stream = format!("instance/{DB}/{CLASS}/{}", item["id"].as_str()?);
            found.insert(stream, (item["version"].as_u64()?, item["data"].clone()));
        }
        match page.next_cursor {
            Some(cursor) => after = format!("&cursor={cursor}"),
            None => return Some(found),
        }
    }
}

/// Waits until nothing moves any more and tells what is there.
pub async fn collect(cluster: &Cluster) -> Found {
    collect_within(cluster, SETTLE).await
}

/// The same with another patience: for the logs `settle`, and for each of the copies as much again.
pub async fn collect_within(cluster: &Cluster, settle: Duration) -> Found {
    let http = &cluster.http;
    let mut lap = Instant::now();
    let deadline = lap + settle;
    let mut last: Vec<Option<usize>> = vec![];
    let mut since = Instant::now();
    let feeds = loop {
        let mut feeds = vec![];
        for node in &cluster.nodes {
            feeds.push(feed(http, node).await);
        }
        let lengths: Vec<_> = feeds.iter().map(|f| f.as_ref().map(Vec::len)).collect();
        let alike = lengths[0].is_some() && lengths.iter().all(|l| *l == lengths[0]);
        if lengths != last {
            since = Instant::now();
            last = lengths;
        }
        let late = Instant::now() > deadline;
        if (alike && since.elapsed() >= QUIET) || late {
            break feeds.into_iter().map(Option::unwrap_or_default).collect();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let mut found = Found {
        feeds,
        ..Found::default()
    };
    let mut took = |what| {
        let now = Instant::now();
        found
            .took
            .push((what, now - std::mem::replace(&mut lap, now)));
        now
    };
    let now = took("the feeds");
    found.kafka = kafka(cluster, &found.feeds[0], now + settle).await;
    let now = took("Kafka");
    found.read_model = settled_model(cluster, &found.feeds[0], now + settle).await;
    let now = took("the read model");
    found.verify = Some(verify(cluster, now + settle).await);
    took("verification");
    found.audit = Some(cluster.audit().await);
    took("audit");
    found
}

/// Everything of ours that Kafka had, once every event of the feed came or time is up.
async fn kafka(cluster: &Cluster, feed: &[Event], deadline: Instant) -> Vec<Event> {
    let mut missing: HashSet<&str> = feed.iter().map(|e| e.id.as_str()).collect();
    let mut consumed = vec![];
    loop {
        for message in cluster.followed.since(consumed.len()) {
            missing.remove(message.headers["ce_id"].as_str());
            consumed.push(event(
                String::new(),
                &String::from_utf8_lossy(&message.value),
            ));
        }
        if missing.is_empty() || Instant::now() > deadline {
            return consumed;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The read model, once it has as many instances and versions as the feed says or time is up.
async fn settled_model(
    cluster: &Cluster,
    feed: &[Event],
    deadline: Instant,
) -> BTreeMap<String, (u64, Value)> {
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    for event in feed.iter().filter(|e| e.stream.starts_with("instance/")) {
        if event.bytes.contains(r#""type":"InstanceDeleted""#) {
            expected.remove(event.stream.as_str());
        } else {
            expected.insert(&event.stream, event.version);
        }
    }
    loop {
        let found = read_model(&cluster.http, &cluster.nodes[0]).await;
        let late = Instant::now() > deadline;
        if let Some(found) = found {
            let there = found.iter().map(|(stream, (v, _))| (stream.as_str(), *v));
            if late || there.eq(expected.iter().map(|(stream, v)| (*stream, *v))) {
                return found;
            }
        } else if late {
            return BTreeMap::new();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
