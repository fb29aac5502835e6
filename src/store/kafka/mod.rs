//! Kafka through librdkafka.
//!
//! Order per key under every failure rests on three things. The producer is idempotent, so a batch
//! cannot overtake an earlier one of its partition. It treats a gap as fatal, so nothing is sent
//! past a message that failed. And a wave of messages is settled as a whole before the next one is
//! sent: whatever is not settled in time is purged *before* librdkafka would time single messages
//! out, which it does without minding gaps. A producer that failed to deliver anything is thrown
//! away, and what it had not delivered is sent again, in order, by a fresh one.

mod producer;
mod settings;
mod topics;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::time::Instant;

pub use self::settings::{KafkaSecurity, KafkaSettings};

use self::producer::{Producer, SendFailed};
use super::error::{StoreError, StoreErrorKind};
use super::health::Health;
use super::io_runtime::IoRuntime;
use super::metered::measured;
use super::transport::{Message, Outcome, Transport};

pub(super) const STORE: &str = "kafka";

/// How long reports of purged messages may take: they are made by our own process.
const PURGE_GRACE: Duration = Duration::from_secs(5);

/// See the module.
pub struct KafkaTransport {
    inner: Arc<Inner>,
    io: IoRuntime,
    health: Arc<Health>,
}

struct Inner {
    settings: KafkaSettings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    producer: Option<Producer>,
    declared: bool,
}

impl KafkaTransport {
    /// Connects to nothing yet. Fails only if the settings are wrong.
    pub fn new(
        settings: KafkaSettings,
        io: IoRuntime,
        health: Arc<Health>,
    ) -> Result<Self, StoreError> {
        settings.check()?;
        Ok(Self {
            inner: Arc::new(Inner {
                settings,
                state: Mutex::default(),
            }),
            io,
            health,
        })
    }

    /// Lets the producer go; nothing is in flight when this returns.
    pub async fn close(&self) {
        let producer = self.inner.state.lock().await.producer.take();
        if let Some(producer) = producer {
            self.io.spawn(producer.discard());
        }
    }
}

#[async_trait]
impl Transport for KafkaTransport {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Outcome> {
        const OPERATION: &str = "publish";
        let count = messages.len();
        let inner = self.inner.clone();
        let mut outcomes = Vec::new();
        let call = async {
            let wave = async move { Ok(inner.publish(messages).await) };
            outcomes = self.io.run(STORE, OPERATION, wave).await?;
            // A refusal is about a message; a failure is about the broker.
            let failure = outcomes.iter().find_map(|o| match o {
                Outcome::Failed(e) => Some(e.clone()),
                _ => None,
            });
            let rejected = outcomes.iter().any(|o| matches!(o, Outcome::Rejected(_)));
            failure.filter(|_| !rejected).map_or(Ok(()), Err)
        };
        if let Err(e) = measured(STORE, OPERATION, &self.health, call).await {
            // Whatever the broker did say of a message stands; a wave of which it said only good
            // and that failed nevertheless failed on the way back.
            if outcomes.iter().all(|o| matches!(o, Outcome::Delivered)) {
                outcomes.clear();
            }
            outcomes.resize_with(count, || Outcome::Failed(e.clone()));
        }
        outcomes
    }

    async fn declare(&self) -> Result<(), StoreError> {
        const OPERATION: &str = "declare_topics";
        let inner = self.inner.clone();
        let call = async move { inner.state.lock().await.declare(&inner.settings).await };
        let call = self.io.run(STORE, OPERATION, call);
        measured(STORE, OPERATION, &self.health, call).await
    }
}

impl State {
    async fn declare(&mut self, settings: &KafkaSettings) -> Result<(), StoreError> {
        if !self.declared {
            topics::declare(settings).await?;
            self.declared = true;
        }
        Ok(())
    }

    async fn ready(&mut self, settings: &KafkaSettings) -> Result<Producer, StoreError> {
        self.declare(settings).await?;
        if let Some(producer) = &self.producer {
            return Ok(producer.clone());
        }
        let producer = Producer::new(settings)?;
        self.producer = Some(producer.clone());
        Ok(producer)
    }
}

impl Inner {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Outcome> {
        let mut state = self.state.lock().await;
        let producer = match state.ready(&self.settings).await {
            Ok(producer) => producer,
            Err(e) => return vec![Outcome::Failed(e); messages.len()],
        };
        let deadline = Instant::now() + self.settings.delivery_timeout;
        let mut reports = Vec::with_capacity(messages.len());
        let mut held: HashSet<(&str, &str)> = HashSet::new();
        for message in &messages {
            let stream = (message.topic.as_str(), message.key.as_str());
            let sent = if held.contains(&stream) {
                Err(SendFailed::Behind)
            } else {
                producer.send(message)
            };
            if sent.is_err() {
                held.insert(stream);
            }
            reports.push(sent);
        }
        let mut purged = false;
        let mut lost = false;
        let mut outcomes = Vec::with_capacity(reports.len());
        for report in reports {
            let outcome = match report {
                Err(failed) => failed.outcome(),
                Ok(mut report) => {
                    let until = if purged {
                        Instant::now() + PURGE_GRACE
                    } else {
                        deadline
                    };
                    let mut settled = tokio::time::timeout_at(until, &mut report).await.ok();
                    if settled.is_none() && !purged {
                        purged = true;
                        producer.purge().await;
                        settled = tokio::time::timeout(PURGE_GRACE, report).await.ok();
                    }
                    let outcome = producer::outcome_of(settled);
                    lost |= !outcome.is_delivered();
                    outcome
                }
            };
            outcomes.push(outcome);
        }
        if lost || producer.is_dead() {
            if producer::topic_is_missing(&outcomes) {
                state.declared = false;
            }
            state.producer = None;
            // Gone before a fresh one sends anything, so that nothing of it arrives later.
            producer.discard().await;
        }
        outcomes
    }
}

fn unavailable(operation: &'static str, message: impl Into<String>) -> StoreError {
    StoreError::determinate(StoreErrorKind::Unavailable, STORE, operation, message)
}
