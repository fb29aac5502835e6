//! Settings of the Kafka clients.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::{END_TIMEOUT, PURGE_GRACE, STORE, options};
use crate::error::{StoreError, StoreErrorKind};
use crate::ports::transport::TopicNames;
use oms_core::domain::ids::PartitionId;

/// Largest message with headers that librdkafka sends by default; the brokers' default limit is a
/// little higher.
const MESSAGE_MAX: usize = 1_000_000;

/// The option that changes it.
const MESSAGE_MAX_OPTION: &str = "message.max.bytes";

/// Address of Kafka and settings of its clients.
#[derive(Debug, Clone)]
pub struct KafkaSettings {
    /// `host:port,host:port`.
    pub bootstrap: String,
    /// Prefix of the topics' names.
    pub topic_prefix: String,
    /// Partitions of a topic that is created.
    pub partitions: i32,
    /// Replicas of a topic that is created; -1: the broker's default.
    pub replication: i32,
    /// How long a wave of messages may take before it counts as failed and is repeated.
    pub delivery_timeout: Duration,
    /// How long a request about topics may take.
    pub declare_timeout: Duration,
    /// Further options of librdkafka.
    pub extra: BTreeMap<String, String>,
    /// Whether the broker keeps out a process that has lost its lease: each log partition has a
    /// transactional producer, each wave is a transaction.
    pub transactions: bool,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            bootstrap: "127.0.0.1:9092".into(),
            topic_prefix: "oms".into(),
            // Four consumers of a group can share a topic from the start; any number keeps streams
            // in order.
            partitions: 4,
            // The broker's own default: a fixed number would be wrong for either one broker or
            // three.
            replication: -1,
            delivery_timeout: Duration::from_secs(20),
            declare_timeout: Duration::from_secs(5),
            extra: BTreeMap::new(),
            transactions: false,
        }
    }
}

impl KafkaSettings {
    /// The topics' names.
    pub fn topics(&self) -> TopicNames {
        TopicNames::new(self.topic_prefix.clone())
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        let invalid = |message: String| {
            StoreError::determinate(StoreErrorKind::Invalid, STORE, "settings", message)
        };
        if let Some(own) = self.extra.keys().find(|name| options::is_own(name)) {
            return Err(invalid(format!(
                "{own} cannot be changed: what is promised rests on it"
            )));
        }
        if let Err((one, other)) = options::unambiguous(&self.extra) {
            return Err(invalid(format!("{one} and {other} are the same option")));
        }
        self.client().create_native_config().map_err(|e| {
            // The error's text is left out: it quotes the option's value, which may be a password.
            let option = match e {
                rdkafka::error::KafkaError::ClientConfig(_, _, option, _) => option,
                _ => "an option".to_owned(),
            };
            invalid(format!("librdkafka does not take {option}"))
        })?;
        Ok(())
    }

    /// The longest time that a wave takes.
    pub(super) fn wave_bound(&self) -> Duration {
        self.delivery_timeout + PURGE_GRACE + END_TIMEOUT
    }

    /// The largest message with headers that the producer accepts, in bytes.
    pub(super) fn message_max(&self) -> usize {
        self.extra
            .get(MESSAGE_MAX_OPTION)
            .and_then(|value| value.trim().parse().ok())
            .unwrap_or(MESSAGE_MAX)
    }

    /// Options of all clients.
    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("client.id", "oms")
            // Reconnects soon after an outage, because the outbox waits for it.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            // Gives up a silent connection after half of the time that a wave has, so that the wave
            // can use another one; the default is a minute.
            .set("socket.timeout.ms", "10000")
            .set("socket.keepalive.enable", "true");
        // Each by its first name, so that none is set twice: librdkafka would use the last value.
        for (option, value) in &self.extra {
            config.set(options::canonical(option), value);
        }
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set_log_level(RDKafkaLogLevel::Info);
        config
    }

    /// What the names begin with under which the broker knows who publishes.
    pub fn transactional_ids(&self) -> String {
        format!("{}.relay.", self.topic_prefix)
    }

    /// The name under which the broker knows who publishes a log partition.
    pub(super) fn transactional_id(&self, partition: PartitionId) -> String {
        format!("{}{partition}", self.transactional_ids())
    }

    /// Options of the transactional producer of this name.
    pub(super) fn fenced_producer(&self, transactional_id: &str) -> ClientConfig {
        let mut config = self.producer();
        // The broker ends what a process leaves behind a little after its wave's bound. Until then
        // consumers that read only what is committed wait.
        let timeout = self.wave_bound() + END_TIMEOUT;
        config
            .set("transactional.id", transactional_id)
            .set("transaction.timeout.ms", timeout.as_millis().to_string());
        config
    }

    /// Options of the producer.
    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.client();
        for (option, value) in [
            // A wave is queued at once, so that batches fill without waiting.
            ("linger.ms", "0"),
            ("retry.backoff.ms", "50"),
        ] {
            if config.get(option).is_none() {
                config.set(option, value);
            }
        }
        // Waves are purged at the delivery timeout. librdkafka's own timeout is reached only by a
        // process that was paused in between, and even then before the wave's bound.
        let message_timeout = self.delivery_timeout + PURGE_GRACE;
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("enable.gapless.guarantee", "true")
            .set(
                "message.timeout.ms",
                message_timeout.as_millis().to_string(),
            );
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_9_what_the_guarantees_rest_on_cannot_be_configured_away() {
        let with = |option: &str, value: &str| KafkaSettings {
            extra: BTreeMap::from([(option.to_owned(), value.to_owned())]),
            ..KafkaSettings::default()
        };
        for own in [
            "bootstrap.servers",
            "metadata.broker.list",
            "acks",
            "request.required.acks",
            "enable.idempotence",
            "enable.gapless.guarantee",
            "message.timeout.ms",
            "delivery.timeout.ms",
            "transactional.id",
            "transaction.timeout.ms",
            "partitioner",
            "retries",
        ] {
            assert!(with(own, "0").check().is_err(), "{own}");
        }
        assert!(with("queue.buffering.max.messages", "5000").check().is_ok());
        let wrong = with("sasl.mechanism.typo", "geheim").check().unwrap_err();
        assert!(!wrong.message.contains("geheim"), "{wrong}");
        let linger = with("linger.ms", "5").producer();
        assert_eq!(linger.get("linger.ms"), Some("5"));
        assert_eq!(linger.get("acks"), Some("all"));
        let second_name = with("compression.type", "gzip").producer();
        assert_eq!(second_name.get("compression.codec"), Some("gzip"));
        assert_eq!(second_name.get("compression.type"), None);
    }
}
