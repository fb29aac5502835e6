//! One incarnation of the producer, and the interpretation of its reports.

use std::sync::Arc;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::future_producer::{DeliveryFuture, OwnedDeliveryResult};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _, PurgeConfig};

use super::{END_TIMEOUT, STORE, unavailable};
use crate::adapters::kafka::settings::KafkaSettings;
use crate::error::{StoreError, StoreErrorKind};
use crate::ports::transport::{Message, Outcome};

const OPERATION: &str = "publish";

/// Forwards librdkafka's log to ours.
pub(super) struct Log;

impl ClientContext for Log {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        use RDKafkaLogLevel as L;
        // Logged at every start for a setting that is intentional.
        if facility == "CONFWARN" && message.contains("enable.gapless.guarantee") {
            tracing::debug!(target: "librdkafka", facility, "{message}");
            return;
        }
        match level {
            L::Emerg | L::Alert | L::Critical | L::Error => {
                tracing::error!(target: "librdkafka", facility, "{message}");
            }
            L::Warning => tracing::warn!(target: "librdkafka", facility, "{message}"),
            // librdkafka logs connections that come and go as notice and info.
            L::Notice | L::Info | L::Debug => {
                tracing::debug!(target: "librdkafka", facility, "{message}");
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(target: "librdkafka", %error, "{reason}");
    }
}

/// An idempotent producer. Clones share it.
#[derive(Clone)]
pub(super) struct Producer {
    inner: Arc<FutureProducer<Log>>,
}

/// Why a message was not sent.
pub(super) enum SendFailed {
    /// An earlier message of the same key was not sent.
    Behind,
    /// librdkafka refused it.
    Refused(KafkaError),
}

impl SendFailed {
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Behind => Outcome::Failed(unavailable(
                OPERATION,
                "an earlier message of its stream was not sent",
            )),
            Self::Refused(error) if is_rejection(&error) => Outcome::Rejected(error.to_string()),
            // The topic was recreated with fewer partitions.
            Self::Refused(error)
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownPartition) =>
            {
                let (kind, message) = (StoreErrorKind::NotFound, error.to_string());
                Outcome::Failed(StoreError::determinate(kind, STORE, OPERATION, message))
            }
            Self::Refused(error) => Outcome::Failed(unavailable(OPERATION, error.to_string())),
        }
    }
}

impl Producer {
    pub fn new(settings: &KafkaSettings) -> Result<Self, StoreError> {
        let producer = settings
            .producer()
            .create_with_context(Log)
            .map_err(|e| unavailable(OPERATION, e.to_string()))?;
        Ok(Self {
            inner: Arc::new(producer),
        })
    }

    /// Queues a message.
    pub fn send(&self, message: &Message, partition: i32) -> Result<DeliveryFuture, SendFailed> {
        let mut headers = OwnedHeaders::new_with_capacity(message.headers.len());
        for (key, value) in &message.headers {
            headers = headers.insert(Header {
                key,
                value: Some(value.as_bytes()),
            });
        }
        let record = FutureRecord::to(&message.topic)
            .partition(partition)
            .key(message.key.as_str())
            .payload(&message.payload[..])
            .headers(headers);
        self.inner
            .send_result(record)
            .map_err(|(e, _)| SendFailed::Refused(e))
    }

    /// Gives up everything that is not delivered; librdkafka reports each message at once.
    pub async fn purge(&self) {
        let producer = self.inner.clone();
        run_blocking(move || {
            producer.purge(PurgeConfig::default().queue().inflight());
            drop(producer);
        })
        .await;
    }

    /// Whether it has met an error after which it cannot continue.
    pub fn is_dead(&self) -> bool {
        self.inner.client().fatal_error().is_some()
    }

    /// Ends it, on a blocking thread: its destructor waits for threads.
    pub async fn discard(self) {
        run_blocking(move || drop(self)).await;
    }
}

async fn run_blocking(work: impl FnOnce() + Send + 'static) {
    let work = tokio::task::spawn_blocking(work);
    match tokio::time::timeout(END_TIMEOUT, work).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "a Kafka producer could not be ended"),
        Err(_) => tracing::warn!("a Kafka producer takes long to end"),
    }
}

/// The outcome according to a delivery report; `None` if there was none in time.
pub(super) fn outcome_of(
    report: Option<Result<OwnedDeliveryResult, impl std::error::Error>>,
) -> Outcome {
    let unknown = |kind, message: String| {
        Outcome::Failed(StoreError::indeterminate(kind, STORE, OPERATION, message))
    };
    match report {
        Some(Ok(Ok(_))) => Outcome::Delivered,
        Some(Ok(Err((error, _)))) if is_rejection(&error) => Outcome::Rejected(error.to_string()),
        Some(Ok(Err((error, _)))) => {
            let kind = match error.rdkafka_error_code() {
                Some(
                    RDKafkaErrorCode::MessageTimedOut
                    | RDKafkaErrorCode::PurgeQueue
                    | RDKafkaErrorCode::PurgeInflight,
                ) => StoreErrorKind::Timeout,
                Some(
                    RDKafkaErrorCode::TopicAuthorizationFailed
                    | RDKafkaErrorCode::ClusterAuthorizationFailed
                    | RDKafkaErrorCode::Authentication,
                ) => StoreErrorKind::Denied,
                Some(
                    RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition,
                ) => StoreErrorKind::NotFound,
                _ => StoreErrorKind::Unavailable,
            };
            unknown(kind, error.to_string())
        }
        Some(Err(_)) => unknown(StoreErrorKind::Closed, "the producer was ended".into()),
        None => unknown(StoreErrorKind::Timeout, "no report in time".into()),
    }
}

/// Whether the topics have to be read again: one is missing, or accepts smaller messages than
/// before.
pub(super) fn topics_have_changed(outcomes: &[Outcome]) -> bool {
    outcomes.iter().any(|outcome| match outcome {
        Outcome::Delivered => false,
        Outcome::Rejected(_) => true,
        Outcome::Failed(error) => error.kind == StoreErrorKind::NotFound,
    })
}

/// Whether the error concerns the message, or the batch it was in, rather than the state of broker
/// or network. A missing or forbidden topic is an outage, not a bad message.
fn is_rejection(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::MessageBatchTooLarge
                | RDKafkaErrorCode::InvalidMessageSize
                | RDKafkaErrorCode::InvalidTimestamp
                | RDKafkaErrorCode::InvalidRecord
                | RDKafkaErrorCode::PolicyViolation
        )
    )
}
