//! A Kafka consumer of everything the service publishes, as any other program could be.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::domain::event::Envelope;
use crate::domain::ids::EventId;
use crate::log::object::ObjectHash;

/// How long one poll waits, and so how long stopping takes.
const POLL: Duration = Duration::from_millis(100);

/// What was received of one database.
#[derive(Debug, Default, Clone)]
pub struct Received {
    db: String,
    /// Hash of each event's bytes.
    pub events: HashMap<EventId, ObjectHash>,
    /// Messages, including repeats.
    pub messages: usize,
    /// Messages that could not be parsed as events.
    pub unreadable: usize,
    /// Events that came before an earlier one of their stream.
    pub out_of_order: usize,
    heads: BTreeMap<String, u64>,
}

impl Received {
    pub fn of(db: &str) -> Self {
        Self {
            db: db.to_owned(),
            ..Self::default()
        }
    }

    /// Records a message's value. A stream may begin anywhere and repeat events, but not skip any.
    pub fn take(&mut self, bytes: &[u8]) {
        let Ok(event) = Envelope::parse(bytes) else {
            self.unreadable += 1;
            return;
        };
        let stream = event.stream();
        if stream.components().next().as_deref() != Some(&self.db) {
            return;
        }
        self.messages += 1;
        self.events.insert(event.id, ObjectHash::of(bytes));
        let version = event.version.0;
        let stream = stream.to_string();
        let head = self.heads.entry(stream).or_insert(version);
        if version > *head + 1 {
            self.out_of_order += 1;
        }
        *head = version.max(*head);
    }
}

pub struct Listener {
    received: Arc<Mutex<Received>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Starts to consume events of `db` from every topic with `prefix`, from the beginning.
    pub fn start(bootstrap: &str, prefix: &str, group: &str, db: &str) -> anyhow::Result<Self> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", group)
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            // The service creates topics when it first publishes: look for them often.
            .set("topic.metadata.refresh.interval.ms", "500")
            .create()?;
        let topics = ["database", "class", "instance"].map(|t| format!("{prefix}.{t}"));
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics)?;
        let received = Arc::new(Mutex::new(Received::of(db)));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (received.clone(), stop.clone());
        // A thread of its own, because a consumer blocks when it is dropped.
        let thread = std::thread::Builder::new()
            .name("demo-kafka".to_owned())
            .spawn(move || {
                while !stopped.load(Ordering::Acquire) {
                    // The broker may be missing or gone during the demo; missing events are counted
                    // at the end.
                    if let Some(Ok(message)) = consumer.poll(POLL) {
                        shared.lock().take(message.payload().unwrap_or_default());
                    }
                }
            })
            .context("starting the consumer's thread")?;
        Ok(Self {
            received,
            stop,
            thread: Some(thread),
        })
    }

    pub fn received(&self) -> Received {
        self.received.lock().clone()
    }

    /// How many of these events were received so far.
    pub fn count(&self, ids: impl Iterator<Item = EventId>) -> usize {
        let received = self.received.lock();
        ids.filter(|id| received.events.contains_key(id)).count()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // If it panicked, what it had received is still there.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(stream: &str, version: u64, id: u128) -> Vec<u8> {
        let id = uuid::Uuid::from_u128(id);
        format!(
            r#"{{"id":"{id}","type":"T","time":"2026-01-01T00:00:00Z","streamtype":"instance",
            "streamid":"db/C/{stream}","streamversion":{version},"commandid":"{id}","correlationid":"c",
            "actor":"a","schemaversion":1,"data":{{}}}}"#
        )
        .into_bytes()
    }

    #[test]
    fn law_9_repeats_are_allowed_and_skips_are_not() {
        let mut received = Received::of("db");
        received.take(b"rubbish");
        assert_eq!(std::mem::take(&mut received.unreadable), 1);
        for (stream, version, id) in [
            ("a", 3, 1),
            ("a", 4, 2),
            ("b", 1, 3),
            ("a", 3, 1),
            ("a", 4, 2),
        ] {
            received.take(&event(stream, version, id));
        }
        assert_eq!(
            (
                received.messages,
                received.events.len(),
                received.out_of_order
            ),
            (5, 3, 0)
        );
        received.take(&event("a", 6, 4));
        assert_eq!(received.out_of_order, 1);
    }
}
