//! A Kafka broker for tests: the one that was asked for by `OMS_TEST_KAFKA`, else librdkafka's
//! in-process broker, which here lives in the test process and so outlives every kill of the
//! service.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use oms_store::ports::transport::TopicNames;
use parking_lot::Mutex;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

/// How long to wait for a message at a time.
const POLL: Duration = Duration::from_millis(200);

/// How long one request for the topics may take.
const METADATA_PATIENCE: Duration = Duration::from_secs(2);

/// How long topics may take to be there: who starts a broker starts its service, too.
const TOPICS_PATIENCE: Duration = Duration::from_secs(180);

/// A broker.
pub enum Broker {
    /// In this process.
    Mock(MockCluster<'static, DefaultProducerContext>),
    /// A real one.
    Real(String),
}

/// A message as consumed.
#[derive(Debug, Clone)]
pub struct Consumed {
    /// Topic.
    pub topic: String,
    /// Key.
    pub key: String,
    /// Headers.
    pub headers: HashMap<String, String>,
    /// Value.
    pub value: Vec<u8>,
}

impl Broker {
    /// Starts one, or finds the one that was asked for.
    pub fn start() -> Self {
        Self::start_for("oms")
    }

    /// The same for topics whose names begin with `prefix`: a real broker is shared with others, so
    /// that whoever says that nothing else is there needs topics of his own.
    pub fn start_for(prefix: &str) -> Self {
        match std::env::var("OMS_TEST_KAFKA") {
            Ok(bootstrap) => Self::Real(bootstrap),
            Err(_) => {
                let cluster = MockCluster::new(1).expect("a broker");
                // It keeps 5 MiB a partition: so many that none of a test's events is dropped.
                for topic in TopicNames::new(prefix).all() {
                    cluster.create_topic(&topic, 24, 1).expect("a topic");
                }
                Self::Mock(cluster)
            }
        }
    }

    /// Where it is.
    pub fn bootstrap(&self) -> String {
        match self {
            Self::Mock(cluster) => cluster.bootstrap_servers(),
            Self::Real(bootstrap) => bootstrap.clone(),
        }
    }

    /// Everything in `topics`, from the beginning, until `enough` says so of what came so far.
    pub fn consume(
        &self,
        topics: &[&str],
        patience: Duration,
        mut enough: impl FnMut(&[Consumed]) -> bool,
    ) -> Vec<Consumed> {
        let consumer = assigned(&self.bootstrap(), topics, || true).expect("topics");
        let deadline = Instant::now() + patience;
        let mut consumed = Vec::new();
        while !enough(&consumed) {
            assert!(
                Instant::now() < deadline,
                "only {} messages came",
                consumed.len()
            );
            if let Some(message) = consumer.poll(POLL) {
                consumed.push(Consumed::of(&message.expect("a message")));
            }
        }
        consumed
    }

    /// Consumes `topics` from their beginning, beside whatever else is done: the in-process broker keeps
    /// 5 MiB a partition, so that who asks only in the end of a long run finds the beginning gone.
    pub fn follow(&self, topics: impl IntoIterator<Item = String>) -> Follower {
        let shared = Arc::new(Followed::default());
        let (bootstrap, topics) = (self.bootstrap(), topics.into_iter().collect::<Vec<_>>());
        let followed = shared.clone();
        let thread = std::thread::spawn(move || {
            let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
            let goes_on = || !followed.over.load(Ordering::Relaxed);
            let Some(consumer) = assigned(&bootstrap, &topics, goes_on) else {
                return;
            };
            while goes_on() {
                match consumer.poll(POLL) {
                    Some(Ok(message)) => followed.consumed.lock().push(Consumed::of(&message)),
                    // It connects again by itself; what does not come is missed in the end.
                    Some(Err(error)) => eprintln!("following the topics: {error}"),
                    None => {}
                }
            }
        });
        Follower {
            shared,
            thread: Some(thread),
        }
    }
}

/// What came, and whether no more is wanted.
#[derive(Default)]
struct Followed {
    consumed: Mutex<Vec<Consumed>>,
    over: AtomicBool,
}

/// A consumer that runs beside a test; it ends with this value.
pub struct Follower {
    shared: Arc<Followed>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Everything that came by now, from the message number `from` on.
    pub fn since(&self, from: usize) -> Vec<Consumed> {
        let ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        assert!(!ended, "nobody follows the topics any more");
        let consumed = self.shared.consumed.lock();
        consumed.get(from..).unwrap_or_default().to_vec()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// A consumer of every partition of `topics` from the beginning. Waits for topics that are not there
/// yet, as long as `goes_on` says so.
fn assigned(bootstrap: &str, topics: &[&str], goes_on: impl Fn() -> bool) -> Option<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", crate::new_uuid().to_string())
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    let begun = Instant::now();
    while goes_on() {
        let metadata = consumer.fetch_metadata(None, METADATA_PATIENCE);
        let metadata = match metadata {
            Ok(metadata) => metadata,
            Err(error) => {
                assert!(begun.elapsed() < TOPICS_PATIENCE, "no metadata: {error}");
                continue;
            }
        };
        let mut assignment = rdkafka::TopicPartitionList::new();
        let known = |topic: &&&str| metadata.topics().iter().find(|t| t.name() == **topic);
        let found: Vec<_> = topics.iter().filter_map(|topic| known(&topic)).collect();
        for topic in &found {
            for partition in topic.partitions() {
                assignment
                    .add_partition_offset(topic.name(), partition.id(), rdkafka::Offset::Beginning)
                    .expect("an assignment");
            }
        }
        if found.len() == topics.len() && found.iter().all(|t| !t.partitions().is_empty()) {
            consumer.assign(&assignment).expect("assigned");
            return Some(consumer);
        }
        assert!(
            begun.elapsed() < TOPICS_PATIENCE,
            "not all of {topics:?} are there"
        );
        // Nothing is assigned yet: this only waits.
        let _nothing = consumer.poll(POLL);
    }
    None
}

impl Consumed {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map(|headers| {
            headers
                .iter()
                .map(|h| {
                    let value = h.value.map(String::from_utf8_lossy).unwrap_or_default();
                    (h.key.to_owned(), value.into_owned())
                })
                .collect()
        });
        Self {
            topic: message.topic().to_owned(),
            key: String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned(),
            headers: headers.unwrap_or_default(),
            value: message.payload().unwrap_or_default().to_vec(),
        }
    }
}
