//! What brokers and topics are like, for whoever checks an installation. Reads only (all topics,
//! because a broker may create one that is asked for by name), but for a transactional name of its
//! own where there are to be fences.

use std::time::{Duration, Instant};

use rdkafka::metadata::Metadata;

use super::KafkaSettings;
use super::producer::Producer;
use super::topics::{self, Admin, MAX_BYTES};
use crate::error::StoreError;

const OPERATION: &str = "look at the topics";

/// What was found.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// How long the brokers took to describe themselves.
    pub answered_in: Duration,
    /// Number of brokers.
    pub brokers: usize,
    /// The topics of the service, in the order of their names.
    pub topics: Vec<Topic>,
    /// Why the configuration of topics is not known, where it is not.
    pub unread: Option<String>,
    /// The largest message that the producer sends, in bytes.
    pub producer_takes: usize,
    /// Why the broker holds no fence for this account, where it is to hold one.
    pub unfenced: Option<String>,
}

/// A topic.
#[derive(Debug, Clone, Default)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Whether it exists and may be seen.
    pub exists: bool,
    /// What the broker says against it, such as missing rights.
    pub error: Option<String>,
    /// Its partitions.
    pub partitions: Vec<Partition>,
    /// `max.message.bytes`.
    pub max_message_bytes: Option<usize>,
    /// `min.insync.replicas`.
    pub min_in_sync: Option<usize>,
    /// `cleanup.policy`.
    pub cleanup_policy: Option<String>,
}

/// A partition of a topic.
#[derive(Debug, Clone, Copy)]
pub struct Partition {
    /// Whether it has a leader.
    pub has_leader: bool,
    /// Number of its replicas.
    pub replicas: usize,
    /// Number of those that have everything.
    pub in_sync: usize,
}

/// Looks at brokers and topics.
pub async fn inspect(settings: &KafkaSettings) -> Result<Inspection, StoreError> {
    settings.check()?;
    let admin = topics::client(settings)?;
    let looked = look(&admin, settings).await;
    topics::end(admin);
    let mut found = looked?;
    if settings.transactions {
        found.unfenced = try_fence(settings).await.err().map(|e| e.message);
    }
    Ok(found)
}

/// Announces itself under a name that no relay has: the rights are those for all names of the kind.
async fn try_fence(settings: &KafkaSettings) -> Result<(), StoreError> {
    let name = format!("{}doctor", settings.transactional_ids());
    Producer::fenced(settings, &name).await?.discard().await;
    Ok(())
}

async fn look(admin: &Admin, settings: &KafkaSettings) -> Result<Inspection, StoreError> {
    let begun = Instant::now();
    let names = settings.topics().all();
    let read = move |metadata: &Metadata| (metadata.brokers().len(), of(metadata, names));
    let (brokers, topics) = topics::look(admin, settings, OPERATION, None, read).await?;
    let mut found = Inspection {
        answered_in: begun.elapsed(),
        brokers,
        topics,
        unread: None,
        producer_takes: settings.message_max(),
        unfenced: None,
    };
    if !found.topics.iter().all(|topic| topic.exists) {
        found.unread = Some("not every topic is there".to_owned());
        return Ok(found);
    }
    match topics::configurations(admin, settings).await {
        Err(error) => found.unread = Some(error.to_string()),
        Ok(described) => {
            for (topic, described) in found.topics.iter_mut().zip(described) {
                let value = |name: &str| {
                    let described = described.as_ref().ok()?;
                    described.get(name)?.value.clone()
                };
                let number = |name: &str| value(name)?.parse().ok();
                topic.max_message_bytes = number(MAX_BYTES);
                topic.min_in_sync = number("min.insync.replicas");
                topic.cleanup_policy = value("cleanup.policy");
                if let Err(error) = &described {
                    found.unread = Some(error.to_string());
                }
            }
        }
    }
    Ok(found)
}

fn of(metadata: &Metadata, names: [String; 4]) -> Vec<Topic> {
    let topic = |name: String| {
        let Some(found) = metadata.topics().iter().find(|t| t.name() == name) else {
            return Topic {
                name,
                ..Topic::default()
            };
        };
        let error = found.error();
        let partitions = found.partitions().iter().map(|p| Partition {
            has_leader: p.leader() >= 0,
            replicas: p.replicas().len(),
            in_sync: p.isr().len(),
        });
        Topic {
            name,
            exists: error.is_none() && !found.partitions().is_empty(),
            error: error.map(|e| rdkafka::error::RDKafkaErrorCode::from(e).to_string()),
            partitions: partitions.collect(),
            ..Topic::default()
        }
    };
    names.into_iter().map(topic).collect()
}
