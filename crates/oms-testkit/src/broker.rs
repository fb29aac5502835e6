//! A Kafka broker for tests: the one that was asked for by `OMS_TEST_KAFKA`, else librdkafka's
//! in-process broker, which here lives in the test process and so outlives every kill of the
//! service.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use oms_store::ports::transport::TopicNames;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

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
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap())
            .set("group.id", crate::new_uuid().to_string())
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .create()
            .expect("a consumer");
        let mut assignment = rdkafka::TopicPartitionList::new();
        for topic in topics {
            let metadata = consumer
                .fetch_metadata(Some(topic), Duration::from_secs(10))
                .expect("metadata");
            assert!(
                !metadata.topics()[0].partitions().is_empty(),
                "no topic {topic}"
            );
            for partition in metadata.topics()[0].partitions() {
                assignment
                    .add_partition_offset(topic, partition.id(), rdkafka::Offset::Beginning)
                    .expect("an assignment");
            }
        }
        consumer.assign(&assignment).expect("assigned");
        let deadline = Instant::now() + patience;
        let mut consumed = Vec::new();
        while !enough(&consumed) {
            assert!(
                Instant::now() < deadline,
                "only {} messages came",
                consumed.len()
            );
            let Some(message) = consumer.poll(Duration::from_millis(200)) else {
                continue;
            };
            let message = message.expect("a message");
            let headers = message.headers().map(|headers| {
                headers
                    .iter()
                    .map(|h| {
                        let value = h.value.map(String::from_utf8_lossy).unwrap_or_default();
                        (h.key.to_owned(), value.into_owned())
                    })
                    .collect()
            });
            consumed.push(Consumed {
                topic: message.topic().to_owned(),
                key: String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned(),
                headers: headers.unwrap_or_default(),
                value: message.payload().unwrap_or_default().to_vec(),
            });
        }
        consumed
    }
}
