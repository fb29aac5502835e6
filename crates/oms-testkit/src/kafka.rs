//! A broker with the real protocol on loopback, whose faults can be ordered: librdkafka's mock
//! cluster, on a thread of its own because it may not move.

use std::collections::HashSet;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use oms_store::adapters::kafka::KafkaSettings;
use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::held_port::HeldPort;

type Cluster = MockCluster<'static, DefaultProducerContext>;
type Order = Box<dyn FnOnce(&Cluster) + Send>;

/// A running broker; it ends with this value.
pub struct Broker {
    /// Where it listens.
    pub bootstrap: String,
    orders: Sender<Order>,
    /// Its port while it is down. The mock ends the process if it cannot have it back.
    held: Mutex<Option<HeldPort>>,
}

/// A message as a consumer sees it.
#[derive(Debug, Clone)]
pub struct Consumed {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// The headers.
    pub headers: Vec<(String, String)>,
}

impl Consumed {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|h| h.0 == name);
        found.map(|h| h.1.as_str())
    }
}

impl Broker {
    /// Starts it, with its topics.
    pub fn start() -> Self {
        let broker = Self::start_without_topics();
        for topic in KafkaSettings::default().topics().all() {
            broker.order(move |cluster| cluster.create_topic(&topic, 3, 1).expect("topic"));
        }
        broker
    }

    /// Starts it empty.
    pub fn start_without_topics() -> Self {
        let (orders, received) = channel::<Order>();
        let (ready, started) = channel();
        std::thread::spawn(move || {
            let cluster = MockCluster::new(1).expect("a mock cluster");
            ready.send(cluster.bootstrap_servers()).expect("started");
            while let Ok(order) = received.recv() {
                order(&cluster);
            }
        });
        let bootstrap = started.recv().expect("started");
        Self {
            bootstrap,
            orders,
            held: Mutex::default(),
        }
    }

    /// Does something to the broker, and waits until it is done.
    pub fn order(&self, order: impl FnOnce(&Cluster) + Send + 'static) {
        let (done, wait) = channel();
        let order = move |cluster: &Cluster| {
            order(cluster);
            done.send(()).expect("waiting");
        };
        self.orders.send(Box::new(order)).expect("a broker");
        wait.recv().expect("done");
    }

    /// Closes its connections and refuses others.
    pub fn go_down(&self) {
        self.order(|cluster| cluster.broker_down(-1).expect("down"));
        let port = self.bootstrap.rsplit(':').next().map(str::parse);
        let port = port.expect("an address").expect("a port");
        *self.held.lock() = Some(HeldPort::hold(port).expect("the port that it had"));
    }

    /// Takes connections again, on the same port.
    pub fn come_up(&self) {
        self.order(|cluster| cluster.broker_up(-1).expect("up"));
        *self.held.lock() = None;
    }

    /// Production's settings, for this broker.
    pub fn settings(&self) -> KafkaSettings {
        KafkaSettings {
            bootstrap: self.bootstrap.clone(),
            ..KafkaSettings::default()
        }
    }

    /// Everything in a topic by now; of one partition in order.
    pub async fn read(&self, topic: &str) -> Vec<Consumed> {
        read_all(&self.bootstrap, topic).await
    }
}

/// Everything in a topic of any broker by now; of one partition in order.
pub async fn read_all(bootstrap: &str, topic: &str) -> Vec<Consumed> {
    let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
    tokio::task::spawn_blocking(move || read(&bootstrap, &topic))
        .await
        .expect("read")
}

fn read(bootstrap: &str, topic: &str) -> Vec<Consumed> {
    let patience = Duration::from_secs(20);
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "reader")
        .set("enable.auto.commit", "false")
        .set("reconnect.backoff.max.ms", "200")
        // Offsets tell no number of messages: a transaction's end takes one.
        .set("enable.partition.eof", "true")
        .create()
        .expect("a consumer");
    let metadata = consumer
        .fetch_metadata(Some(topic), patience)
        .expect("metadata");
    let mut list = TopicPartitionList::new();
    let partitions = metadata.topics()[0].partitions();
    for partition in partitions {
        list.add_partition_offset(topic, partition.id(), Offset::Beginning)
            .expect("partition");
    }
    consumer.assign(&list).expect("assigned");
    let mut messages = Vec::new();
    let deadline = std::time::Instant::now() + patience;
    let mut ended = HashSet::new();
    while ended.len() < partitions.len() {
        assert!(std::time::Instant::now() < deadline, "cannot read {topic}");
        let message = match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => message,
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ended.insert(partition);
                continue;
            }
            _ => continue,
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let headers = message.headers().map(|headers| {
            headers
                .iter()
                .map(|h| (h.key.to_owned(), h.value.map(text).unwrap_or_default()))
                .collect()
        });
        messages.push(Consumed {
            key: message.key().map(text).unwrap_or_default(),
            value: message
                .payload()
                .map(<[u8]>::to_vec)
                .expect("a value, never a tombstone"),
            headers: headers.unwrap_or_default(),
        });
    }
    messages
}
