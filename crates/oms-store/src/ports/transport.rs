//! The port to Kafka.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use crate::error::StoreError;
use crate::metrics::aggregate_label;

/// The topics' names: `{prefix}.database`, `.class`, `.instance`, and `.stream` for every other
/// type of stream.
#[derive(Debug, Clone)]
pub struct TopicNames {
    prefix: String,
}

impl TopicNames {
    /// Names that begin with `prefix`.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
        }
    }

    /// The topic of a type of stream.
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
    /// Where to.
    pub topic: String,
    /// Messages of one key keep their order.
    pub key: String,
    /// Names and values.
    pub headers: Vec<(&'static str, String)>,
    /// The value: the event, or a reference to it.
    pub payload: Bytes,
}

impl Message {
    /// What a batch and its one message add to key, headers and value, rounded up.
    const FRAME: usize = 256;
    /// What a header adds to its name and value.
    const HEADER_FRAME: usize = 10;

    /// Bytes on the wire, at most.
    pub fn wire_size(&self) -> usize {
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| name.len() + value.len() + Self::HEADER_FRAME);
        Self::FRAME + self.key.len() + headers.sum::<usize>() + self.payload.len()
    }
}

/// What became of a message.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The broker has it, on as many replicas as it was told to wait for.
    Delivered,
    /// The broker has seen it and will not take it, or a message sent together with it; the text
    /// says why. Sent alone, it is this one's own fault.
    Rejected(String),
    /// It could not be delivered, or was not sent because an earlier one of its key was not. Where
    /// the error is indeterminate, the broker may have it.
    Failed(StoreError),
}

impl Outcome {
    /// Whether the broker has it for certain.
    pub fn is_delivered(&self) -> bool {
        matches!(self, Self::Delivered)
    }
}

/// A broker.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Publishes messages; answers one outcome for each, when all are settled.
    ///
    /// Messages of one topic and key are stored in the order given, and one that follows a message
    /// that was not delivered is not delivered either. Calls do not overlap: a second one waits.
    ///
    /// Nothing is sent after `until`, when somebody else may begin: a wave that could take longer,
    /// by [`wave_bound`](Self::wave_bound), is not begun.
    async fn publish(&self, messages: Vec<Message>, until: Instant) -> Vec<Outcome>;

    /// Makes sure that the topics are there.
    async fn declare(&self) -> Result<(), StoreError>;

    /// Bytes of the largest message that will be taken, as far as that is known: key, headers and
    /// value.
    fn message_max(&self) -> usize;

    /// The longest that [`publish`](Self::publish) takes once its turn has come; nothing of the wave
    /// is sent after that.
    fn wave_bound(&self) -> Duration;
}
