//! The topics: looked for, made where they are missing, looked for again. Some brokers make topics
//! only when asked for them by name, some answer a creation with a timeout and make them all the
//! same, so only the last look decides.

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::util::Timeout;

use super::producer::Log;
use super::settings::KafkaSettings;
use super::unavailable;
use crate::store::error::StoreError;

const OPERATION: &str = "declare_topics";

/// The topic's option that says how large a batch, and so a message, it takes.
const MAX_BYTES: &str = "max.message.bytes";

/// Makes sure of the topics. Answers the size of the largest message that all of them take, where
/// the broker says it.
pub(super) async fn declare(settings: &KafkaSettings) -> Result<Option<usize>, StoreError> {
    let admin: AdminClient<Log> = settings
        .client()
        .create_with_context(Log)
        .map_err(|e| unavailable(OPERATION, e.to_string()))?;
    let admin = std::sync::Arc::new(admin);
    let outcome = match make_missing(&admin, settings).await {
        Ok(()) => Ok(largest_message(&admin, settings).await),
        Err(e) => Err(e),
    };
    // Its destructor waits for threads.
    drop(tokio::task::spawn_blocking(move || drop(admin)));
    outcome
}

async fn make_missing(
    admin: &std::sync::Arc<AdminClient<Log>>,
    settings: &KafkaSettings,
) -> Result<(), StoreError> {
    let names = settings.topics().all();
    let missing = look(admin, settings, None).await?;
    if missing.is_empty() {
        return Ok(());
    }
    let wanted: Vec<NewTopic<'_>> = names
        .iter()
        .filter(|name| missing.contains(name))
        .map(|name| {
            let replication = TopicReplication::Fixed(settings.replication);
            NewTopic::new(name, settings.partitions, replication)
        })
        .collect();
    let limit = Some(Timeout::After(settings.declare_timeout));
    let options = AdminOptions::new()
        .request_timeout(limit)
        .operation_timeout(limit);
    match admin.create_topics(&wanted, &options).await {
        Ok(results) => {
            for result in results {
                match result {
                    Ok(topic) => tracing::info!(topic, "made the topic"),
                    Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                    Err((topic, error)) => {
                        tracing::warn!(topic, %error, "the broker did not make the topic");
                    }
                }
            }
        }
        Err(error) => tracing::info!(%error, "the broker does not say whether it made the topics"),
    }
    for name in &missing {
        let still = look(admin, settings, Some(name.clone())).await?;
        if !still.is_empty() {
            let message = format!("topic {name} is not there and could not be made");
            return Err(unavailable(OPERATION, message));
        }
    }
    Ok(())
}

/// Not every broker answers this, nor everybody: then the producer's own limit, which is a little
/// below what brokers take by default, is all that is known.
async fn largest_message(
    admin: &std::sync::Arc<AdminClient<Log>>,
    settings: &KafkaSettings,
) -> Option<usize> {
    let names = settings.topics().all();
    let topics: Vec<ResourceSpecifier<'_>> =
        names.iter().map(|n| ResourceSpecifier::Topic(n)).collect();
    let limit = Some(Timeout::After(settings.declare_timeout));
    let options = AdminOptions::new().request_timeout(limit);
    let described = match admin.describe_configs(&topics, &options).await {
        Ok(described) => described,
        Err(error) => {
            tracing::debug!(%error, "the broker does not say how large messages may be");
            return None;
        }
    };
    let limits = described.into_iter().filter_map(|topic| match topic {
        Ok(topic) => topic.get(MAX_BYTES)?.value.as_ref()?.parse().ok(),
        Err(error) => {
            tracing::debug!(%error, "the broker does not say how large a topic's messages may be");
            None
        }
    });
    limits.min()
}

/// Which of the topics are missing: of all, or, asked for by name, of one.
async fn look(
    admin: &std::sync::Arc<AdminClient<Log>>,
    settings: &KafkaSettings,
    name: Option<String>,
) -> Result<Vec<String>, StoreError> {
    let (admin, timeout) = (admin.clone(), settings.declare_timeout);
    let wanted = match &name {
        Some(name) => vec![name.clone()],
        None => settings.topics().all().to_vec(),
    };
    let look = move || {
        let metadata = admin.inner().fetch_metadata(name.as_deref(), timeout)?;
        let there: Vec<String> = metadata
            .topics()
            .iter()
            .filter(|t| t.error().is_none() && !t.partitions().is_empty())
            .map(|t| t.name().to_owned())
            .collect();
        Ok::<_, rdkafka::error::KafkaError>(there)
    };
    let there = tokio::task::spawn_blocking(look)
        .await
        .map_err(|e| unavailable(OPERATION, e.to_string()))?
        .map_err(|e| unavailable(OPERATION, e.to_string()))?;
    Ok(wanted.into_iter().filter(|w| !there.contains(w)).collect())
}
