//! Where Kafka is and how it is spoken to.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::STORE;
use crate::store::error::{StoreError, StoreErrorKind};
use crate::store::transport::TopicNames;

/// What the guarantees rest on; `extra` cannot change these.
const FIXED: [&str; 6] = [
    "bootstrap.servers",
    "acks",
    "enable.idempotence",
    "enable.gapless.guarantee",
    "message.timeout.ms",
    "transactional.id",
];

/// Credentials for Kafka.
#[derive(Clone)]
pub struct KafkaSecurity {
    /// `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`. TLS and SCRAM need the feature
    /// `kafka-tls`.
    pub protocol: String,
    /// SASL mechanism, for example `PLAIN` or `SCRAM-SHA-512`.
    pub mechanism: Option<String>,
    /// SASL user.
    pub username: Option<String>,
    /// SASL password.
    pub password: Option<String>,
    /// PEM file of the certificates to trust.
    pub ca_file: Option<String>,
}

impl std::fmt::Debug for KafkaSecurity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSecurity")
            .field("protocol", &self.protocol)
            .field("mechanism", &self.mechanism)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// Where Kafka is and how it is spoken to.
#[derive(Debug, Clone)]
pub struct KafkaSettings {
    /// `host:port,host:port`.
    pub bootstrap: String,
    /// First part of the topics' names.
    pub topic_prefix: String,
    /// Partitions of a topic that has to be made.
    pub partitions: i32,
    /// Replicas of a topic that has to be made; -1 leaves it to the broker.
    pub replication: i32,
    /// How long a wave of messages may take before it counts as failed and is sent again.
    pub delivery_timeout: Duration,
    /// How long one request for the topics may take.
    pub declare_timeout: Duration,
    /// Further options of librdkafka.
    pub extra: BTreeMap<String, String>,
    /// Credentials.
    pub security: Option<KafkaSecurity>,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            bootstrap: "127.0.0.1:9092".into(),
            topic_prefix: "oms".into(),
            partitions: 6,
            replication: -1,
            delivery_timeout: Duration::from_secs(20),
            declare_timeout: Duration::from_secs(5),
            extra: BTreeMap::new(),
            security: None,
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
        if let Some(fixed) = FIXED.iter().find(|f| self.extra.contains_key(**f)) {
            return Err(invalid(format!(
                "{fixed} cannot be changed: what is promised rests on it"
            )));
        }
        self.client().create_native_config().map_err(|e| {
            // The error quotes the option's value, which may be a password.
            let option = match e {
                rdkafka::error::KafkaError::ClientConfig(_, _, option, _) => option,
                _ => "an option".to_owned(),
            };
            invalid(format!("librdkafka does not take {option}"))
        })?;
        Ok(())
    }

    /// Options of every client.
    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("client.id", "oms")
            // Reconnect soon after an outage: the outbox waits for it.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            // A connection on which nothing comes back any more is given up after this, not after a
            // minute: half of the time that a wave has, so that it gets another one.
            .set("socket.timeout.ms", "10000")
            .set("socket.keepalive.enable", "true");
        if let Some(security) = &self.security {
            config.set("security.protocol", &security.protocol);
            for (option, value) in [
                ("sasl.mechanism", &security.mechanism),
                ("sasl.username", &security.username),
                ("sasl.password", &security.password),
                ("ssl.ca.location", &security.ca_file),
            ] {
                if let Some(value) = value {
                    config.set(option, value);
                }
            }
        }
        for (option, value) in &self.extra {
            config.set(option, value);
        }
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set_log_level(RDKafkaLogLevel::Info);
        config
    }

    /// Options of the producer.
    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.client();
        for (option, value) in [
            // A wave is in the queue at once, so batches fill without waiting.
            ("linger.ms", "0"),
            ("compression.codec", "lz4"),
            // As Java's producers and streams do it, so that keys meet in the same partition.
            ("partitioner", "murmur2_random"),
            ("retry.backoff.ms", "50"),
        ] {
            if !self.extra.contains_key(option) {
                config.set(option, value);
            }
        }
        // Waves are purged at the delivery timeout; librdkafka's own must never be reached.
        let message_timeout = self.delivery_timeout.mul_f64(1.5);
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
        for fixed in FIXED {
            assert!(with(fixed, "0").check().is_err(), "{fixed}");
        }
        assert!(with("queue.buffering.max.messages", "5000").check().is_ok());
        let wrong = with("sasl.mechanism.typo", "geheim").check().unwrap_err();
        assert!(!wrong.message.contains("geheim"), "{wrong}");
        let linger = with("linger.ms", "5").producer();
        assert_eq!(linger.get("linger.ms"), Some("5"));
        assert_eq!(linger.get("acks"), Some("all"));
    }
}
