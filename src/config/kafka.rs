//! Kafka: where events are published.

use serde::{Deserialize, Serialize};

pub use super::kafka_options::KafkaOptions;
use super::problems::Problems;
use crate::store::adapters::kafka::{KafkaSettings, options};

/// Takes the broker's own default: a fixed number would be wrong for either one broker or three.
const BROKERS_DEFAULT: i32 = -1;

/// Without `bootstrap` the service runs a broker in its own process, which keeps nothing; the log
/// still has everything.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaConfig {
    /// `host:port`, comma-separated. Without it the service runs a broker in its own process, which
    /// forgets.
    pub bootstrap: Option<String>,
    /// Topics are named `{topic_prefix}.database`, `.class`, `.instance`, `.stream`.
    pub topic_prefix: String,
    /// Partitions of a topic that is created.
    pub partitions: i32,
    /// Replicas of a topic that is created; -1: the broker's default.
    pub replication: i32,
    /// Publishes in transactions, one producer for each of the log's partitions, so that the broker
    /// keeps out a process that was stopped while another one took over. Needs the rights to write
    /// and describe the transactional ids `{topic_prefix}.relay.…`; consumers then read with
    /// `isolation.level` `read_committed`. Without it time keeps such a process out.
    pub transactions: bool,
    /// Further options of librdkafka, by their full names or as tables, for example
    /// `security.protocol` or `sasl.password_file`; options on which delivery depends are refused.
    pub options: KafkaOptions,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        let settings = KafkaSettings::default();
        Self {
            bootstrap: None,
            topic_prefix: settings.topic_prefix,
            partitions: settings.partitions,
            replication: settings.replication,
            transactions: settings.transactions,
            options: KafkaOptions::default(),
        }
    }
}

impl KafkaConfig {
    /// Whether the service runs its own broker.
    pub fn is_embedded(&self) -> bool {
        self.bootstrap.is_none()
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        if let Some(bootstrap) = &self.bootstrap {
            let fit = bootstrap.split(',').all(|server| {
                let address = server.trim().rsplit("://").next().unwrap_or_default();
                address
                    .rsplit_once(':')
                    .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
            });
            problems.require(
                fit,
                "kafka.bootstrap",
                "must be host:port, several of them separated by commas",
            );
        }
        let fit = (1..=100).contains(&self.topic_prefix.len())
            && self
                .topic_prefix
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        problems.require(
            fit,
            "kafka.topic_prefix",
            "must have 1 to 100 letters, digits, `.`, `_` or `-`",
        );
        problems.require(
            (1..=10_000).contains(&self.partitions),
            "kafka.partitions",
            "must be between 1 and 10000",
        );
        problems.require(
            self.replication == BROKERS_DEFAULT || (1..=100).contains(&self.replication),
            "kafka.replication",
            "must be -1 (the broker's default) or between 1 and 100",
        );
        for name in self.options.0.keys().filter(|name| options::is_own(name)) {
            let key = format!("kafka.options.{name}");
            problems.add(key, "is set by the service and cannot be given here");
        }
        if let Err((one, other)) = options::unambiguous(&self.options.0) {
            let key = format!("kafka.options.{other}");
            problems.add(key, format!("is another name of {one}: give one of them"));
        }
    }
}
