//! The ordinary append path, as little of it as an import needs: whichever store leads, an import
//! goes the way that every command goes.

use async_trait::async_trait;
use tokio::time::Instant;

use crate::actors::event_store::{AppendError, AppendRequest};
use crate::actors::write_path::WritePath;
use crate::domain::event::{EncodedEvents, Envelope};
use crate::domain::ids::{CommandId, EventId, StreamName, Version};
use crate::log::partition::Verdict;
use crate::store::error::StoreError;

/// Events of one stream for the log.
#[derive(Debug, Clone)]
pub struct ImportAppend {
    /// The stream.
    pub stream: StreamName,
    /// The version they follow.
    pub expected: Version,
    /// The command that stands for them.
    pub command: CommandId,
    /// The events.
    pub events: EncodedEvents,
    /// When to stop waiting.
    pub deadline: Instant,
}

/// Where imported events go.
#[async_trait(?Send)]
pub trait Appender: Send + Sync {
    /// Appends where the stream's partition is led; the verdict is the writer's.
    async fn append(&self, append: ImportAppend) -> Result<Verdict, AppendError>;

    /// The version of a stream, as this process knows it; `None` if it does not know.
    fn head(&self, stream: &StreamName) -> Option<Version>;

    /// Ids of the events `from..=to` of a stream, all of which are in the log.
    async fn event_ids(
        &self,
        stream: &StreamName,
        from: Version,
        to: Version,
    ) -> Result<Vec<EventId>, StoreError>;
}

#[async_trait(?Send)]
impl Appender for WritePath {
    async fn append(&self, append: ImportAppend) -> Result<Verdict, AppendError> {
        let request = AppendRequest {
            stream: append.stream,
            expected: append.expected,
            command: append.command,
            request_hash: None,
            events: append.events,
            deadline: append.deadline,
        };
        let answer = WritePath::append(self, request).await?;
        Ok(answer.verdict)
    }

    fn head(&self, stream: &StreamName) -> Option<Version> {
        self.store().head(stream)
    }

    async fn event_ids(
        &self,
        stream: &StreamName,
        from: Version,
        to: Version,
    ) -> Result<Vec<EventId>, StoreError> {
        let events = self.store().read(stream, from, to).await?;
        let id = |bytes| Envelope::parse(bytes).map(|event| event.id);
        events
            .iter()
            .map(|event| id(&event.bytes))
            .collect::<Result<_, _>>()
            .map_err(|e| StoreError::corrupt("log", "read imported event", e.to_string()))
    }
}
