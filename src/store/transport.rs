//! The port to Kafka.

use async_trait::async_trait;
use bytes::Bytes;

use super::error::StoreError;
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
    /// The value; empty when the body travels by reference.
    pub payload: Bytes,
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
    async fn publish(&self, messages: Vec<Message>) -> Vec<Outcome>;

    /// Makes sure that the topics are there.
    async fn declare(&self) -> Result<(), StoreError>;
}
