//! The aggregate of a class. A class belongs to one incarnation of its database: when the database
//! is deleted and created again, its old classes count as missing.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::definition::ClassDefinition;
use crate::domain::aggregate::{Aggregate, DecodeError, DomainEvent, EventMeta};
use crate::domain::codec::{self, Nothing, Stored};
use crate::domain::ids::Version;
use crate::domain::refusal::{Refusal, Violation};
use crate::domain::weight::Weighed;

/// The state of a class's stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Class {
    live: Option<LiveClass>,
}

/// A class that exists, provided that its database is still in the incarnation in which it was
/// created.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveClass {
    /// Version of the event that created it, which identifies this incarnation: instances belong to
    /// one.
    pub incarnation: Version,
    /// The incarnation of the database that it belongs to.
    pub database_incarnation: Version,
    /// Its current definition.
    pub definition: Arc<ClassDefinition>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Class {
    /// The class, unless it does not exist in this incarnation of its database.
    pub fn live(&self, database_incarnation: Version) -> Option<&LiveClass> {
        self.live
            .as_ref()
            .filter(|live| live.database_incarnation == database_incarnation)
    }

    /// The class as its last event left it, in whichever incarnation of the database.
    pub fn latest(&self) -> Option<&LiveClass> {
        self.live.as_ref()
    }

    /// The class for a command that was made for this incarnation of the database.
    fn seen(&self, database_incarnation: Version) -> Result<Option<&LiveClass>, Refusal> {
        match &self.live {
            Some(live) if live.database_incarnation > database_incarnation => {
                Err(Refusal::conflict(
                    "database_changed",
                    "the database was created anew in the meantime",
                ))
            }
            _ => Ok(self.live(database_incarnation)),
        }
    }
}

/// The commands of a class. Every command names the incarnation of the database that it was made
/// for; one older than the class's own is refused with 409 `database_changed`.
#[derive(Debug, Clone)]
pub enum ClassCommand {
    /// Create it. 409 `class_exists`; 422 if the definition is not valid.
    Create {
        /// The database's incarnation.
        database_incarnation: Version,
        /// The definition to create it with.
        definition: Arc<ClassDefinition>,
    },
    /// Replace its definition. 404 `class_not_found`; 422 if the definition is not valid.
    Update {
        /// The database's incarnation.
        database_incarnation: Version,
        /// The new definition.
        definition: Arc<ClassDefinition>,
    },
    /// Delete it, and with it its instances. 404 `class_not_found`.
    Delete {
        /// The database's incarnation.
        database_incarnation: Version,
    },
}

/// The events of a class.
#[derive(Debug, Clone, PartialEq)]
pub enum ClassEvent {
    /// `ClassCreated`
    Created(ClassCreated),
    /// `ClassUpdated`
    Updated(ClassUpdated),
    /// `ClassDeleted`
    Deleted,
}

/// Data of `ClassCreated`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassCreated {
    /// The definition.
    pub definition: Arc<ClassDefinition>,
    /// The incarnation of the database that it belongs to.
    pub database_incarnation: Version,
}

/// Data of `ClassUpdated`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassUpdated {
    /// The definition after the change.
    pub definition: Arc<ClassDefinition>,
}

const CREATED: &str = "ClassCreated";
const UPDATED: &str = "ClassUpdated";
const DELETED: &str = "ClassDeleted";

impl DomainEvent for ClassEvent {
    fn event_type(&self) -> &str {
        match self {
            Self::Created(_) => CREATED,
            Self::Updated(_) => UPDATED,
            Self::Deleted => DELETED,
        }
    }

    fn data(&self) -> Result<Box<RawValue>, serde_json::Error> {
        match self {
            Self::Created(data) => codec::write(data),
            Self::Updated(data) => codec::write(data),
            Self::Deleted => codec::write(&Nothing {}),
        }
    }

    fn decode(event_type: &str, schema_version: u32, data: &RawValue) -> Result<Self, DecodeError> {
        let stored = Stored {
            event_type,
            schema_version,
            data,
        };
        match event_type {
            CREATED => stored.read().map(Self::Created),
            UPDATED => stored.read().map(Self::Updated),
            DELETED => stored.nothing().map(|()| Self::Deleted),
            _ => Err(stored.unknown_type()),
        }
    }
}

impl Aggregate for Class {
    type Command = ClassCommand;
    type Event = ClassEvent;

    const WEIGHED: Weighed = Weighed {
        code: "class_too_large",
        what: "a class",
        field: "class",
        each: false,
    };

    fn memory_bytes(&self) -> usize {
        let definition = self.live.as_ref().map(|live| &live.definition);
        definition.map_or(0, |definition| definition.memory_bytes())
    }

    fn stored_bytes(&self) -> usize {
        let definition = self.live.as_ref().map(|live| &live.definition);
        definition.map_or(0, |definition| definition.stored_bytes())
    }

    fn stored_bytes_after(event: &ClassEvent) -> Option<usize> {
        Some(match event {
            ClassEvent::Created(created) => created.definition.stored_bytes(),
            ClassEvent::Updated(updated) => updated.definition.stored_bytes(),
            ClassEvent::Deleted => 0,
        })
    }

    fn decide(&self, command: &ClassCommand) -> Result<Vec<ClassEvent>, Refusal> {
        match command {
            ClassCommand::Create {
                database_incarnation,
                definition,
            } => {
                if let Some(live) = self.seen(*database_incarnation)? {
                    let id = &live.definition.id;
                    return Err(Refusal::conflict(
                        "class_exists",
                        format!("the class `{id}` exists already"),
                    ));
                }
                definition.validate()?;
                Ok(vec![ClassEvent::Created(ClassCreated {
                    definition: Arc::clone(definition),
                    database_incarnation: *database_incarnation,
                })])
            }
            ClassCommand::Update {
                database_incarnation,
                definition,
            } => {
                let live = self.seen(*database_incarnation)?.ok_or_else(not_found)?;
                if live.definition == *definition {
                    return Ok(vec![]);
                }
                check_same_id(&live.definition, definition)?;
                definition.validate()?;
                Ok(vec![ClassEvent::Updated(ClassUpdated {
                    definition: Arc::clone(definition),
                })])
            }
            ClassCommand::Delete {
                database_incarnation,
            } => {
                self.seen(*database_incarnation)?.ok_or_else(not_found)?;
                Ok(vec![ClassEvent::Deleted])
            }
        }
    }

    fn apply(&mut self, event: ClassEvent, meta: EventMeta) {
        match event {
            ClassEvent::Created(created) => {
                self.live = Some(LiveClass {
                    incarnation: meta.version,
                    database_incarnation: created.database_incarnation,
                    definition: created.definition,
                    created_at: meta.time,
                    updated_at: meta.time,
                });
            }
            ClassEvent::Updated(updated) => {
                if let Some(live) = &mut self.live {
                    live.definition = updated.definition;
                    live.updated_at = meta.time;
                }
            }
            ClassEvent::Deleted => self.live = None,
        }
    }
}

fn check_same_id(before: &ClassDefinition, after: &ClassDefinition) -> Result<(), Refusal> {
    if before.id == after.id {
        return Ok(());
    }
    Err(Refusal::violations(vec![Violation {
        field: "id".to_owned(),
        code: "immutable",
        message: format!("the class is `{}` and stays so", before.id),
    }]))
}

fn not_found() -> Refusal {
    Refusal::not_found("class_not_found", "there is no such class")
}
