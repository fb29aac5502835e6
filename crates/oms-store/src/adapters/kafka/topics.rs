//! Finds the topics, creates missing ones, and reads them again. Some brokers create topics only
//! when asked for them by name, some answer a creation with a timeout and create them all the same,
//! so that only the last read decides.

use std::collections::HashMap;
use std::sync::Arc;

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResourceResult, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{FutureProducer, Producer as _};
use rdkafka::util::Timeout;

use super::connection::{self, Connection};
use super::settings::KafkaSettings;
use super::{STORE, unavailable};
use crate::error::{Determinacy, StoreError, StoreErrorKind};

const OPERATION: &str = "declare_topics";

/// The topic's option for the largest batch, and so the largest message, that it accepts.
pub(super) const MAX_BYTES: &str = "max.message.bytes";

/// Asks the brokers, and has them make topics.
pub(super) struct Clients {
    admin: AdminClient<Connection>,
    /// Reads metadata: what happens to an administrator's connections nobody is told.
    reader: FutureProducer<Connection>,
    connection: Connection,
}

pub(super) type Admin = Arc<Clients>;

/// Number of partitions by topic.
type Partitions = HashMap<String, i32>;

/// Creates missing topics. Returns the number of partitions of each topic, and the client for
/// further requests.
pub(super) async fn declare(settings: &KafkaSettings) -> Result<(Admin, Partitions), StoreError> {
    let admin = client(settings)?;
    match make_missing(&admin, settings).await {
        Ok(partitions) => Ok((admin, partitions)),
        Err(e) => {
            end(admin);
            Err(e)
        }
    }
}

/// The number of partitions of a topic that is not created by us; `None` if it does not exist.
pub(super) async fn partitions_of(
    settings: &KafkaSettings,
    topic: &str,
) -> Result<i32, StoreError> {
    let admin = client(settings)?;
    let found = existing(&admin, settings, Some(topic.to_owned())).await;
    end(admin);
    Ok(found?.get(topic).copied().unwrap_or_default())
}

pub(super) fn client(settings: &KafkaSettings) -> Result<Admin, StoreError> {
    let config = settings.client();
    let connection = Connection::default();
    let failed = |e: rdkafka::error::KafkaError| unavailable(OPERATION, e.to_string());
    let clients = Clients {
        admin: config
            .create_with_context(connection.clone())
            .map_err(failed)?,
        reader: config
            .create_with_context(connection.clone())
            .map_err(failed)?,
        connection,
    };
    Ok(Arc::new(clients))
}

/// Dropped on a blocking thread: its destructor waits for threads.
pub(super) fn end(admin: Admin) {
    drop(tokio::task::spawn_blocking(move || drop(admin)));
}

async fn make_missing(admin: &Admin, settings: &KafkaSettings) -> Result<Partitions, StoreError> {
    let names = settings.topics().all();
    let mut there = existing(admin, settings, None).await?;
    there.retain(|topic, _| names.contains(topic));
    let missing: Vec<&String> = names.iter().filter(|n| !there.contains_key(*n)).collect();
    if missing.is_empty() {
        return Ok(there);
    }
    let wanted: Vec<NewTopic<'_>> = missing
        .iter()
        .map(|name| {
            let replication = TopicReplication::Fixed(settings.replication);
            NewTopic::new(name, settings.partitions, replication)
        })
        .collect();
    let limit = Some(Timeout::After(settings.declare_timeout));
    let options = AdminOptions::new()
        .request_timeout(limit)
        .operation_timeout(limit);
    let mut refusals: HashMap<String, RDKafkaErrorCode> = HashMap::new();
    match admin.admin.create_topics(&wanted, &options).await {
        Ok(results) => {
            for result in results {
                match result {
                    Ok(topic) => tracing::info!(topic, "made the topic"),
                    Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                    Err((topic, error)) => {
                        tracing::warn!(topic, %error, "the broker did not make the topic");
                        refusals.insert(topic, error);
                    }
                }
            }
        }
        Err(error) => tracing::info!(%error, "the broker does not say whether it made the topics"),
    }
    for name in missing {
        let mut found = existing(admin, settings, Some(name.clone())).await?;
        let Some(partitions) = found.remove(name) else {
            return Err(not_made(name, refusals.get(name).copied()));
        };
        there.insert(name.clone(), partitions);
    }
    Ok(there)
}

/// A topic that is not there, and why the broker did not make it, if it said so.
fn not_made(name: &str, why: Option<RDKafkaErrorCode>) -> StoreError {
    let (kind, message) = match why {
        Some(why) => (
            connection::kind_of(Some(why)),
            format!("topic {name} is not there and was not made: {why}"),
        ),
        None => (
            StoreErrorKind::Unavailable,
            format!("topic {name} is not there and could not be made"),
        ),
    };
    StoreError::determinate(kind, STORE, OPERATION, message)
}

/// Size of the largest message that all of the topics accept, in bytes. `None` if the broker or its
/// permissions do not allow the request.
pub(super) async fn largest_message(admin: Admin, settings: &KafkaSettings) -> Option<usize> {
    let described = configurations(&admin, settings).await;
    end(admin);
    let described = match described {
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

/// The configuration of every topic of the service, as far as the broker tells it.
pub(super) async fn configurations(
    admin: &Admin,
    settings: &KafkaSettings,
) -> KafkaResult<Vec<ConfigResourceResult>> {
    let names = settings.topics().all();
    let topics: Vec<ResourceSpecifier<'_>> =
        names.iter().map(|n| ResourceSpecifier::Topic(n)).collect();
    let limit = Some(Timeout::After(settings.declare_timeout));
    let options = AdminOptions::new().request_timeout(limit);
    admin.admin.describe_configs(&topics, &options).await
}

/// The existing topics: all, or one by name.
async fn existing(
    admin: &Admin,
    settings: &KafkaSettings,
    name: Option<String>,
) -> Result<Partitions, StoreError> {
    look(admin, settings, OPERATION, name, |metadata| {
        let topics = metadata.topics().iter();
        let there = topics.filter(|t| t.error().is_none() && !t.partitions().is_empty());
        there
            .map(|t| (t.name().to_owned(), t.partitions().len() as i32))
            .collect()
    })
    .await
}

/// What brokers and topics are like, all or one by name. A failure says what keeps the brokers away.
pub(super) async fn look<T: Send + 'static>(
    admin: &Admin,
    settings: &KafkaSettings,
    operation: &'static str,
    name: Option<String>,
    read: impl FnOnce(&Metadata) -> T + Send + 'static,
) -> Result<T, StoreError> {
    let (admin, timeout) = (admin.clone(), settings.declare_timeout);
    // The metadata are not `Send`.
    let fetch = move || {
        let metadata = admin
            .reader
            .client()
            .fetch_metadata(name.as_deref(), timeout);
        let connection = &admin.connection;
        match metadata {
            Ok(metadata) => {
                connection.answered();
                Ok(read(&metadata))
            }
            Err(e) => Err(connection.failure(Determinacy::Determinate, operation, &e)),
        }
    };
    tokio::task::spawn_blocking(fetch)
        .await
        .map_err(|e| unavailable(operation, e.to_string()))?
}
