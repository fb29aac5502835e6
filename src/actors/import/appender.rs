//! The part of the ordinary append path that an import needs: imported events are appended like
//! those of any command, whichever store leads.

use async_trait::async_trait;
use serde::Deserialize;
use tokio::time::Instant;

use crate::actors::event_store::LogWriter;
use crate::actors::event_store::{AppendError, AppendRequest};
use crate::domain::event::{EncodedEvents, Envelope};
use crate::domain::ids::{CommandId, EventId, StreamName, Version};
use crate::log::batch::AppendOutcome;
use crate::store::error::StoreError;

/// Events of one stream to append.
#[derive(Debug, Clone)]
pub struct ImportAppend {
    pub stream: StreamName,
    /// The version after which they follow.
    pub expected: Version,
    /// The id of the command they are appended as.
    pub command: CommandId,
    pub events: EncodedEvents,
    /// When the caller stops waiting.
    pub deadline: Instant,
}

/// Where an event in the log came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Origin {
    pub source: String,
    /// Its version in the source, if that differs from ours.
    pub version: Option<i64>,
    /// Its global position in the source.
    pub position: Option<i64>,
}

/// Appends imported events and looks them up.
#[async_trait(?Send)]
pub trait Appender: Send + Sync {
    /// Appends to the stream's partition, in whichever store leads it.
    async fn append(&self, append: ImportAppend) -> Result<AppendOutcome, AppendError>;

    /// The version of a stream as this process knows it; `None` if it does not.
    fn head(&self, stream: &StreamName) -> Option<Version>;

    /// Ids of the events `from..=to` of a stream; all of them must be in the log.
    async fn event_ids(
        &self,
        stream: &StreamName,
        from: Version,
        to: Version,
    ) -> Result<Vec<EventId>, StoreError>;

    /// The source of an event; `None` if it was not imported, or is not known to this process yet.
    async fn origin(
        &self,
        stream: &StreamName,
        version: Version,
    ) -> Result<Option<Origin>, StoreError>;
}

#[async_trait(?Send)]
impl Appender for LogWriter {
    async fn append(&self, append: ImportAppend) -> Result<AppendOutcome, AppendError> {
        let request = AppendRequest {
            stream: append.stream,
            expected: append.expected,
            command: append.command,
            request_hash: None,
            trace: None,
            events: append.events,
            deadline: append.deadline,
        };
        let answer = LogWriter::append(self, request).await?;
        Ok(answer.verdict)
    }

    fn head(&self, stream: &StreamName) -> Option<Version> {
        self.head(stream)
    }

    async fn event_ids(
        &self,
        stream: &StreamName,
        from: Version,
        to: Version,
    ) -> Result<Vec<EventId>, StoreError> {
        let events = self.read(stream, from, to).await?;
        let id = |bytes| Envelope::parse(bytes).map(|event| event.id);
        events
            .iter()
            .map(|event| id(&event.bytes))
            .collect::<Result<_, _>>()
            .map_err(|e| StoreError::corrupt("log", "read imported event", e.to_string()))
    }

    async fn origin(
        &self,
        stream: &StreamName,
        version: Version,
    ) -> Result<Option<Origin>, StoreError> {
        #[derive(Deserialize)]
        struct Metadata {
            import: Option<Origin>,
        }
        let unreadable = |e: String| StoreError::corrupt("log", "read imported event", e);
        let events = self.read(stream, version, version).await?;
        let Some(event) = events.first() else {
            return Ok(None);
        };
        let event = Envelope::parse(&event.bytes).map_err(|e| unreadable(e.to_string()))?;
        // Events that were not imported may have metadata of any form.
        let metadata = event.metadata.as_deref();
        Ok(metadata
            .and_then(|text| serde_json::from_str::<Metadata>(text).ok())
            .and_then(|metadata| metadata.import))
    }
}
