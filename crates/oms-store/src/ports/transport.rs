//! The port to Kafka.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use crate::error::StoreError;
use crate::metrics::aggregate_label;
use oms_core::domain::ids::PartitionId;

/// The topics' names: `{prefix}.database`, `.class`, `.instance`, and `.stream` for every other
/// type of stream.
#[derive(Debug, Clone)]
pub struct TopicNames {
    prefix: String,
}

impl TopicNames {
    /// Topic names with this prefix.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
        }
    }

    /// The topic of a stream type.
    pub fn of(&self, stream_type: &str) -> String {
        format!("{}.{}", self.prefix, aggregate_label(stream_type))
    }

    /// Every topic.
    pub fn all(&self) -> [String; 4] {
        ["database", "class", "instance", "stream"].map(|t| format!("{}.{t}", self.prefix))
    }
}

/// A message to be published.
#[derive(Debug, Clone)]
pub struct Message {
    /// The log's partition that its event is in.
    pub partition: PartitionId,
    /// Its topic.
    pub topic: String,
    /// Its key: messages of one key keep their order.
    pub key: String,
    /// Names and values of its headers.
    pub headers: Vec<(&'static str, String)>,
    /// Its value: the event, or a reference to it.
    pub payload: Bytes,
}

impl Message {
    /// Bytes that a batch with one message adds to key, headers and value, rounded up.
    const FRAME: usize = 256;
    /// Bytes that a header adds to its name and value.
    const HEADER_FRAME: usize = 10;

    /// Upper bound of its size on the wire, in bytes.
    pub fn wire_size(&self) -> usize {
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| name.len() + value.len() + Self::HEADER_FRAME);
        Self::FRAME + self.key.len() + headers.sum::<usize>() + self.payload.len()
    }
}

/// The outcome of a message.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The broker has stored it, on as many replicas as configured.
    Delivered,
    /// The broker has refused it, or a message in the same batch; the text says why. If it was sent
    /// alone, it is the cause itself.
    Rejected(String),
    /// It was not delivered, or not sent because an earlier message of its key was not delivered.
    /// If the error is indeterminate, the broker may have it.
    Failed(StoreError),
}

impl Outcome {
    /// Whether the broker certainly has it.
    pub fn is_delivered(&self) -> bool {
        matches!(self, Self::Delivered)
    }
}

/// A message broker.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Publishes messages; returns one outcome for each when all are settled.
    ///
    /// Messages of one topic and key are stored in the order given, and one that follows a message
    /// that was not delivered is not delivered either. Calls do not overlap: a second one waits.
    ///
    /// Nothing is sent after `until`, when another process may begin: a wave that could take
    /// longer, by [`wave_bound`](Self::wave_bound), is not begun. Where there are fences, messages
    /// of a partition that is not [fenced](Self::fence) fail.
    async fn publish(&self, messages: Vec<Message>, until: Instant) -> Vec<Outcome>;

    /// Makes this process the one whose messages of these log partitions the broker takes, and
    /// gives up all others: what another process sends for them from now on is refused, whenever
    /// it was sent off. Returns how many fences this transport has set so far. Where that is
    /// another number than at the time of the last look at the leases, a process may have been
    /// fenced off that holds them by now: the caller has to ask for them once more before it
    /// publishes.
    ///
    /// Without fences at the broker there is nothing to do, and the answer is 0.
    async fn fence(&self, partitions: &[PartitionId]) -> Result<u64, StoreError>;

    /// Creates missing topics.
    async fn declare(&self) -> Result<(), StoreError>;

    /// Size of the largest message that is accepted, with key and headers, in bytes, as far as
    /// known.
    fn message_max(&self) -> usize;

    /// The longest time that [`publish`](Self::publish) takes when it is not waiting for another
    /// call; nothing of the wave is sent after that.
    fn wave_bound(&self) -> Duration;
}
