//! One incarnation of the producer, and the interpretation of its reports.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _, PurgeConfig};

use super::connection::Connection;
use super::{END_TIMEOUT, STORE, unavailable};
use crate::adapters::kafka::settings::KafkaSettings;
use crate::error::{Determinacy, StoreError, StoreErrorKind};
use crate::ports::transport::{Message, Outcome};

const OPERATION: &str = "publish";

/// An idempotent producer. Clones share it.
#[derive(Clone)]
pub(super) struct Producer {
    inner: Arc<FutureProducer<Connection>>,
    connection: Connection,
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
        Self::with(settings.producer()).map_err(|e| unavailable(OPERATION, e.to_string()))
    }

    fn with(config: ClientConfig) -> KafkaResult<Self> {
        let connection = Connection::default();
        let producer = config.create_with_context(connection.clone())?;
        Ok(Self {
            inner: Arc::new(producer),
            connection,
        })
    }

    /// The producer of this name: the broker refuses what any other one sends under the same name
    /// from now on, and aborts what it had not committed.
    pub async fn fenced(
        settings: &KafkaSettings,
        transactional_id: &str,
    ) -> Result<Self, StoreError> {
        let this = Self::with(settings.fenced_producer(transactional_id))
            .map_err(|e| unavailable("fence", e.to_string()))?;
        let producer = this.inner.clone();
        let timeout = settings.delivery_timeout / 2;
        let barred = blocking("fence", move || producer.init_transactions(timeout)).await;
        match barred {
            Ok(Ok(())) => Ok(this),
            Ok(Err(e)) => {
                let e = this.failure("fence", &e);
                this.discard().await;
                Err(e)
            }
            Err(e) => Err(e),
        }
    }

    /// Begins a transaction.
    pub fn begin(&self) -> Result<(), StoreError> {
        self.inner
            .begin_transaction()
            .map_err(|e| self.failure("begin", &e))
    }

    /// Commits the transaction. After a failure it may be committed or not, and the producer is of
    /// no more use.
    pub async fn commit(&self, timeout: Duration) -> Result<(), StoreError> {
        let producer = self.inner.clone();
        let committed = blocking("commit", move || producer.commit_transaction(timeout)).await?;
        committed.map_err(|e| self.failure("commit", &e))
    }

    /// A failure that does not concern a single message.
    fn failure(&self, operation: &'static str, error: &KafkaError) -> StoreError {
        self.connection
            .failure(Determinacy::Indeterminate, operation, error)
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

    /// The outcome according to a delivery report; `None` if there was none in time.
    pub fn outcome_of(&self, report: Option<<DeliveryFuture as Future>::Output>) -> Outcome {
        match report {
            Some(Ok(Ok(_))) => Outcome::Delivered,
            Some(Ok(Err((error, _)))) if is_rejection(&error) => {
                Outcome::Rejected(error.to_string())
            }
            Some(Ok(Err((error, _)))) => Outcome::Failed(self.failure(OPERATION, &error)),
            Some(Err(_)) => unknown(StoreErrorKind::Closed, "the producer was ended"),
            None => unknown(StoreErrorKind::Timeout, "no report in time"),
        }
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

async fn blocking<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| {
        StoreError::indeterminate(StoreErrorKind::Closed, STORE, operation, e.to_string())
    })
}

async fn run_blocking(work: impl FnOnce() + Send + 'static) {
    let work = tokio::task::spawn_blocking(work);
    match tokio::time::timeout(END_TIMEOUT, work).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "a Kafka producer could not be ended"),
        Err(_) => tracing::warn!("a Kafka producer takes long to end"),
    }
}

fn unknown(kind: StoreErrorKind, why: &str) -> Outcome {
    Outcome::Failed(StoreError::indeterminate(kind, STORE, OPERATION, why))
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
