//! The types of answers, serialised as they are.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use utoipa::ToSchema;

use super::error::ServiceError;
use crate::actors::event_store::ReadPlace;
use crate::domain::class::LiveClass;
use crate::domain::database::LiveDatabase;
use crate::domain::ids::{ClassId, CommandId, DatabaseName, InstanceId, Position, Version};
use crate::domain::instance::LiveInstance;
use crate::migration::stage::Stage;
use crate::store::log::log_reader::StoredEvent;
use crate::store::ports::read_model::{Record, RecordPage};

/// The current state of a resource.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Resource {
    /// Database name, class id or instance id.
    pub id: String,
    /// Version of its stream.
    pub version: Version,
    /// Its content: the database's description, the class's definition, the instance's properties.
    #[schema(value_type = Object)]
    pub data: Box<RawValue>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Resource {
    pub fn database(
        name: &DatabaseName,
        live: &LiveDatabase,
        version: Version,
    ) -> Result<Self, ServiceError> {
        #[derive(Serialize)]
        struct Data<'a> {
            description: Option<&'a str>,
        }
        let data = Data {
            description: live.description.as_deref(),
        };
        Ok(Self {
            id: name.to_string(),
            version,
            data: raw(&data)?,
            created_at: live.created_at,
            updated_at: live.updated_at,
        })
    }

    pub fn class(id: &ClassId, live: &LiveClass, version: Version) -> Result<Self, ServiceError> {
        Ok(Self {
            id: id.to_string(),
            version,
            data: raw(&live.definition)?,
            created_at: live.created_at,
            updated_at: live.updated_at,
        })
    }

    pub fn instance(
        id: &InstanceId,
        live: &LiveInstance,
        version: Version,
    ) -> Result<Self, ServiceError> {
        Ok(Self {
            id: id.to_string(),
            version,
            data: live.data.raw().to_owned(),
            created_at: live.created_at,
            updated_at: live.updated_at,
        })
    }
}

impl From<Record> for Resource {
    fn from(record: Record) -> Self {
        Self {
            id: record.id,
            version: record.version,
            data: record.data,
            created_at: record.created_at,
            updated_at: record.updated_at,
        }
    }
}

impl From<RecordPage> for Page<Resource> {
    fn from(page: RecordPage) -> Self {
        Self {
            items: page.items.into_iter().map(Resource::from).collect(),
            total: page.total,
            next_cursor: page.next_cursor,
            place: ReadPlace::default(),
        }
    }
}

fn raw(value: &impl Serialize) -> Result<Box<RawValue>, ServiceError> {
    to_raw_value(value).map_err(|e| ServiceError::Internal(e.to_string()))
}

#[derive(Debug, Clone)]
pub struct Written {
    /// Database name, class id, instance id or stream name.
    pub id: String,
    pub command_id: CommandId,
    /// Version of the stream after the command.
    pub version: Version,
    /// Position of its last event; `None` if the command changed nothing.
    pub position: Option<Position>,
    /// The stage it was committed in.
    pub stage: Stage,
    /// Whether the other store is known to hold it too.
    pub mirrored: bool,
    /// The resource after the command, as JSON; `None` for deletions and plain appends.
    pub data: Option<Box<RawValue>>,
    /// Whether the command created the resource (201) or changed it (200).
    pub created: bool,
    /// Whether this is the recorded answer to a repeated request.
    pub replayed: bool,
}

/// One item of a batch.
#[derive(Debug, Clone)]
pub struct BatchItem {
    /// The instance's id, if known.
    pub id: Option<String>,
    /// The outcome of the operation.
    pub outcome: Result<Written, ServiceError>,
}

/// A page of anything.
#[derive(Debug, Serialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Number of items on all pages, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// The cursor of the next page; `None` at the end.
    pub next_cursor: Option<String>,
    /// The room that the items take in memory.
    #[serde(skip)]
    pub place: ReadPlace,
}

/// A page of resources.
pub type ResourcePage = Page<Resource>;

/// A page of events.
pub type EventPage = Page<EventView>;

/// An event as callers see it: its envelope plus `position`.
#[derive(Debug, Clone)]
pub struct EventView {
    pub position: Position,
    /// Its envelope, as stored.
    pub envelope: bytes::Bytes,
}

impl From<StoredEvent> for EventView {
    fn from(event: StoredEvent) -> Self {
        Self {
            position: event.position,
            envelope: event.bytes,
        }
    }
}

impl Serialize for EventView {
    /// The envelope's bytes unchanged, with `position` appended as one more member.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error;
        let text = std::str::from_utf8(&self.envelope).map_err(S::Error::custom)?;
        let open = text
            .strip_suffix('}')
            .ok_or_else(|| S::Error::custom("an envelope is a JSON object"))?;
        let whole = format!(r#"{open},"position":"{}"}}"#, self.position);
        RawValue::from_string(whole)
            .map_err(S::Error::custom)?
            .serialize(serializer)
    }
}
