//! Kafka: where events are published.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::problems::Problems;
use super::secret::{REDACTED, Secret};

/// Four consumers of a group can share a topic from the start; streams keep their order in any
/// number.
const PARTITIONS: i32 = 4;

/// The broker's own default: a fixed number would be wrong for one broker or for three.
const BROKERS_DEFAULT: i32 = -1;

/// Options of librdkafka by name. `Debug` and `Serialize` redact those that carry secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KafkaOptions(pub BTreeMap<String, String>);

impl KafkaOptions {
    fn is_secret(name: &str) -> bool {
        [
            "password",
            "secret",
            "pem",
            "token",
            "jaas",
            "oauthbearer.config",
        ]
        .iter()
        .any(|part| name.contains(part))
    }

    fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| {
            let secret = Self::is_secret(name);
            (name.as_str(), if secret { REDACTED } else { value })
        })
    }
}

impl fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.shown()).finish()
    }
}

impl Serialize for KafkaOptions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.shown() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for KafkaOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OptionsVisitor)
    }
}

struct OptionsVisitor;

impl<'de> Visitor<'de> for OptionsVisitor {
    type Value = KafkaOptions;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of librdkafka options")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<KafkaOptions, A::Error> {
        let mut options = BTreeMap::new();
        // As secrets, so that numbers and booleans are taken too and no error shows a value.
        while let Some((name, value)) = map.next_entry::<String, Secret>()? {
            options.insert(name, value.expose().to_owned());
        }
        Ok(KafkaOptions(options))
    }
}

/// See the module. Without `bootstrap` the service runs a broker in its own process, which
/// forgets: the log still has everything.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaConfig {
    /// `host:port`, comma-separated.
    pub bootstrap: Option<String>,
    /// Topics are named `{topic_prefix}.database`, `.class`, `.instance`, `.stream`.
    pub topic_prefix: String,
    /// Partitions of a topic that has to be made.
    pub partitions: i32,
    /// Replicas of a topic that has to be made; -1 takes the broker's default.
    pub replication: i32,
    /// Further options of librdkafka, for example `security.protocol`.
    pub options: KafkaOptions,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            bootstrap: None,
            topic_prefix: "oms".into(),
            partitions: PARTITIONS,
            replication: BROKERS_DEFAULT,
            options: KafkaOptions::default(),
        }
    }
}

/// Options the service sets itself, since delivery depends on them.
const OWN_OPTIONS: [&str; 7] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "acks",
    "enable.idempotence",
    "enable.gapless.guarantee",
    "message.timeout.ms",
    "transactional.id",
];

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
        for name in OWN_OPTIONS {
            if self.options.0.contains_key(name) {
                let key = format!("kafka.options.{name}");
                problems.add(key, "is set by the service and cannot be given here");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_carry_secrets_are_redacted_and_others_are_not() {
        let options = KafkaOptions(BTreeMap::from([
            ("sasl.password".to_owned(), "hunter2".to_owned()),
            ("sasl.username".to_owned(), "me".to_owned()),
        ]));
        for shown in [
            format!("{options:?}"),
            serde_json::to_string(&options).unwrap(),
        ] {
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.contains("me"), "{shown}");
        }
    }
}
