//! Kafka through librdkafka.
//!
//! Order per key under every failure rests on three things. The producer is idempotent, so that a
//! batch cannot overtake an earlier one of its partition once the broker knows the producer; until
//! then messages to a partition are sent one by one ([`wave`]). It treats a gap as fatal, so that
//! nothing is sent after a message that failed. And a wave of messages is settled as a whole before
//! the next one is sent: what is not settled in time is purged *before* librdkafka times out single
//! messages, which could leave gaps. A producer that failed to deliver anything is dropped, and a
//! fresh one sends the undelivered messages again, in order.
//!
//! What keeps out a process that has lost its lease is time, or, with `kafka.transactions`, the
//! broker ([`sender`]).

mod connection;
pub mod inspect;
pub mod options;
mod partitions;
mod producer;
mod sender;
mod senders;
mod settings;
mod topics;
mod wave;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::sync::Mutex;
use tokio::time::Instant;

pub use self::settings::KafkaSettings;

use self::producer::Producer;
use self::senders::Senders;
use crate::error::{StoreError, StoreErrorKind};
use crate::health::Health;
use crate::io_runtime::IoRuntime;
use crate::metered::measured;
use crate::ports::transport::{Message, Outcome, Transport};
use oms_core::domain::ids::PartitionId;

pub(super) const STORE: &str = "kafka";

/// How often to check whether topics have got more partitions.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// How long reports of purged messages may take: they come from this process.
const PURGE_GRACE: Duration = Duration::from_secs(5);

/// How long ending a producer may take: its threads wait for sockets.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Transport to Kafka.
pub struct KafkaTransport {
    inner: Arc<Inner>,
    io: IoRuntime,
    health: Arc<Health>,
}

struct Inner {
    settings: KafkaSettings,
    state: Mutex<State>,
    /// Size of the largest message that producer and topics accept, in bytes, as far as known.
    message_max: Arc<AtomicUsize>,
}

#[derive(Default)]
struct State {
    senders: Senders,
    /// Partitions of each topic, and when they were read.
    topics: Option<(HashMap<String, i32>, Instant)>,
}

impl KafkaTransport {
    /// Connects on first use. Fails only if the settings are invalid.
    pub fn new(
        settings: KafkaSettings,
        io: IoRuntime,
        health: Arc<Health>,
    ) -> Result<Self, StoreError> {
        settings.check()?;
        Ok(Self {
            inner: Arc::new(Inner {
                message_max: Arc::new(AtomicUsize::new(settings.message_max())),
                settings,
                state: Mutex::default(),
            }),
            io,
            health,
        })
    }

    /// Ends the producers; nothing is in flight when this returns.
    pub async fn close(&self) {
        let senders = std::mem::take(&mut self.inner.state.lock().await.senders);
        self.io.spawn(senders.discard());
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
            // A refusal concerns a message; a failure concerns the broker.
            let failure = outcomes.iter().find_map(|o| match o {
                Outcome::Failed(e) => Some(e.clone()),
                _ => None,
            });
            let rejected = outcomes.iter().any(|o| matches!(o, Outcome::Rejected(_)));
            failure.filter(|_| !rejected).map_or(Ok(()), Err)
        };
        if let Err(e) = measured(STORE, OPERATION, &self.health, call).await {
            // Reports of the broker stand. If the call failed although none is negative, it failed
            // on the way back, and every message counts as failed.
            if outcomes.iter().all(|o| matches!(o, Outcome::Delivered)) {
                outcomes.clear();
            }
            outcomes.resize_with(count, || Outcome::Failed(e.clone()));
        }
        outcomes
    }

    async fn fence(&self, partitions: &[PartitionId]) -> Result<u64, StoreError> {
        if !self.inner.settings.transactions {
            return Ok(0);
        }
        const OPERATION: &str = "fence";
        {
            let state = self.inner.state.lock().await;
            if state.senders.are_for(partitions) {
                return Ok(state.senders.fences_set());
            }
        }
        let (inner, partitions) = (self.inner.clone(), partitions.to_vec());
        let call = async move { inner.fence(&partitions).await };
        let call = self.io.run(STORE, OPERATION, call);
        measured(STORE, OPERATION, &self.health, call).await
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
        let looked_at = state.topics.as_ref().map(|(_, at)| *at);
        if looked_at.is_some_and(|at| at.elapsed() < LOOK_AGAIN) {
            return Ok(());
        }
        let (admin, partitions) = topics::declare(&self.settings).await?;
        state.topics = Some((partitions, Instant::now()));
        // Not awaited: not every broker answers, and until then the producer's own limit, a little
        // below the brokers' default, is a good estimate.
        let (settings, largest) = (self.settings.clone(), self.message_max.clone());
        drop(tokio::spawn(async move {
            let topics_take = topics::largest_message(admin, &settings).await;
            let producer_takes = settings.message_max();
            let max = topics_take.map_or(producer_takes, |topics| topics.min(producer_takes));
            largest.store(max, Ordering::Relaxed);
        }));
        Ok(())
    }

    /// The partition of each message.
    async fn place(
        &self,
        state: &mut State,
        messages: Vec<Message>,
    ) -> Result<Vec<(Message, wave::TopicPartition)>, StoreError> {
        let mut placed = Vec::with_capacity(messages.len());
        for message in messages {
            let topics = state.topics.as_mut().map(|(topics, _)| topics);
            let known = topics.as_ref().and_then(|t| t.get(&message.topic).copied());
            let partitions = match known {
                Some(partitions) => partitions,
                // Recorded when the topics had other names.
                None => {
                    let partitions = topics::partitions_of(&self.settings, &message.topic).await?;
                    if let Some(topics) = topics {
                        topics.insert(message.topic.clone(), partitions);
                    }
                    partitions
                }
            };
            let partition = partitions::partition_of(&message.key, partitions);
            let place = (message.topic.clone(), partition);
            placed.push((message, place));
        }
        Ok(placed)
    }

    /// Announces this process to the broker as the one that publishes these log partitions, and no
    /// others. Returns how many fences were set so far.
    async fn fence(&self, partitions: &[PartitionId]) -> Result<u64, StoreError> {
        let mut state = self.state.lock().await;
        let missing = state.senders.keep(partitions).await;
        let producers = missing.iter().map(|partition| async {
            let id = self.settings.transactional_id(*partition);
            Producer::fenced(&self.settings, &id).await
        });
        let mut failure = None;
        for (partition, producer) in missing.iter().zip(join_all(producers).await) {
            match producer {
                Ok(producer) => state.senders.add(Some(*partition), producer),
                Err(e) => failure = Some(e),
            }
        }
        failure.map_or(Ok(state.senders.fences_set()), Err)
    }

    /// Reads the topics, and makes the one producer if there are no fences.
    async fn ready(&self, state: &mut State) -> Result<(), StoreError> {
        self.declare(state).await?;
        if !self.settings.transactions && state.senders.is_empty() {
            let producer = Producer::new(&self.settings)?;
            state.senders.add(None, producer);
        }
        Ok(())
    }

    async fn publish(&self, messages: Vec<Message>, leased_until: Instant) -> Vec<Outcome> {
        let mut state = self.state.lock().await;
        let count = messages.len();
        let failed = |e: StoreError| vec![Outcome::Failed(e); count];
        if Instant::now() + self.settings.wave_bound() > leased_until {
            // Not caused by the broker.
            return failed(conflict("the lease would not outlast the wave"));
        }
        let until = Instant::now() + self.settings.delivery_timeout;
        match tokio::time::timeout_at(until, self.ready(&mut state)).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return failed(e),
            Err(_) => {
                let why = "the broker does not say which topics it has";
                return failed(unavailable("publish", why));
            }
        }
        let placed = match self.place(&mut state, messages).await {
            Ok(placed) => placed,
            Err(e) => return failed(e),
        };
        let fenced = self.settings.transactions;
        let outcomes = state.senders.send(placed, until, fenced).await;
        if producer::topics_have_changed(&outcomes) {
            state.topics = None;
        }
        outcomes
    }
}

/// Not caused by the broker.
pub(super) fn conflict(why: &'static str) -> StoreError {
    StoreError::determinate(StoreErrorKind::Conflict, STORE, "publish", why)
}

fn unavailable(operation: &'static str, message: impl Into<String>) -> StoreError {
    StoreError::determinate(StoreErrorKind::Unavailable, STORE, operation, message)
}
