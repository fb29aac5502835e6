//! Kafka through librdkafka.
//!
//! Order per key under every failure rests on four things. The producer is idempotent, so a batch
//! sent again is not stored twice. One request is in flight at a time, so nothing is under way
//! behind a batch that fails: a broker does not know a fresh producer, and would take what comes
//! behind its first batch whatever became of that. It treats a gap as fatal, so nothing is sent past
//! a message that failed. And a wave of messages is settled as a whole before the next one is
//! sent: whatever is not settled in time is purged *before* librdkafka would time single messages
//! out, which it does without minding gaps. A producer that failed to deliver anything is thrown
//! away, and what it had not delivered is sent again, in order, by a fresh one.

pub mod options;
mod producer;
mod settings;
mod topics;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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
    /// Bytes of the largest message that producer and topics take, as far as that is known.
    message_max: AtomicUsize,
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
                message_max: AtomicUsize::new(settings.message_max()),
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
    async fn publish(&self, messages: Vec<Message>, until: Instant) -> Vec<Outcome> {
        const OPERATION: &str = "publish";
        let count = messages.len();
        let inner = self.inner.clone();
        let mut outcomes = Vec::new();
        let call = async {
            let wave = async move { Ok(inner.publish(messages, until).await) };
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
        let call = async move { inner.declare(&mut *inner.state.lock().await).await };
        let call = self.io.run(STORE, OPERATION, call);
        measured(STORE, OPERATION, &self.health, call).await
    }

    fn message_max(&self) -> usize {
        self.inner.message_max.load(Ordering::Relaxed)
    }

    fn wave_bound(&self) -> Duration {
        self.inner.settings.wave_bound()
    }
}

impl Inner {
    async fn declare(&self, state: &mut State) -> Result<(), StoreError> {
        if !state.declared {
            let topics_take = topics::declare(&self.settings).await?;
            let producer_takes = self.settings.message_max();
            let max = topics_take.map_or(producer_takes, |topics| topics.min(producer_takes));
            self.message_max.store(max, Ordering::Relaxed);
            state.declared = true;
        }
        Ok(())
    }

    async fn ready(&self, state: &mut State) -> Result<Producer, StoreError> {
        self.declare(state).await?;
        if let Some(producer) = &state.producer {
            return Ok(producer.clone());
        }
        let producer = Producer::new(&self.settings)?;
        state.producer = Some(producer.clone());
        Ok(producer)
    }

    async fn publish(&self, messages: Vec<Message>, leased_until: Instant) -> Vec<Outcome> {
        let mut state = self.state.lock().await;
        if Instant::now() + self.settings.wave_bound() > leased_until {
            let e = unavailable("publish", "the lease would not outlast the wave");
            return vec![Outcome::Failed(e); messages.len()];
        }
        let mut until = Instant::now() + self.settings.delivery_timeout;
        let producer = match tokio::time::timeout_at(until, self.ready(&mut state)).await {
            Ok(Ok(producer)) => producer,
            Ok(Err(e)) => return vec![Outcome::Failed(e); messages.len()],
            Err(_) => {
                let e = unavailable("publish", "the broker does not say which topics it has");
                return vec![Outcome::Failed(e); messages.len()];
            }
        };
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
                    let mut settled = tokio::time::timeout_at(until, &mut report).await.ok();
                    if settled.is_none() && !purged {
                        purged = true;
                        // One bound for all of them, so that the wave has one.
                        until += PURGE_GRACE;
                        producer.purge().await;
                        settled = tokio::time::timeout_at(until, report).await.ok();
                    }
                    let outcome = producer::outcome_of(settled);
                    lost |= !outcome.is_delivered();
                    outcome
                }
            };
            outcomes.push(outcome);
        }
        if lost || producer.is_dead() {
            if producer::topics_have_changed(&outcomes) {
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
