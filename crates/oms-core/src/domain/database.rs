//! The aggregate of a database, which contains classes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::aggregate::{Aggregate, DecodeError, DomainEvent, EventMeta};
use super::class::validate::{MAX_DESCRIPTION_CHARS, check_text};
use super::codec::{self, Nothing, Stored};
use super::ids::Version;
use super::property::check::{Path, Report};
use super::refusal::Refusal;
use super::weight::Weighed;

/// The state of a database's stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Database {
    live: Option<LiveDatabase>,
}

/// A database that exists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveDatabase {
    /// Version of the event that created it, which identifies this incarnation: classes belong to
    /// one.
    pub incarnation: Version,
    /// Its description, if one was given.
    pub description: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Database {
    /// The database, unless there is none.
    pub fn live(&self) -> Option<&LiveDatabase> {
        self.live.as_ref()
    }
}

/// The commands of a database.
#[derive(Debug, Clone)]
pub enum DatabaseCommand {
    /// Create it. 409 `database_exists`.
    Create {
        /// Its description, if one is given.
        description: Option<String>,
    },
    /// Delete it, and with it everything in it. 404 `database_not_found`.
    Delete,
}

/// The events of a database.
#[derive(Debug, Clone, PartialEq)]
pub enum DatabaseEvent {
    /// `DatabaseCreated`
    Created(DatabaseCreated),
    /// `DatabaseDeleted`
    Deleted,
}

/// Data of `DatabaseCreated`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatabaseCreated {
    /// Its description, if one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

const CREATED: &str = "DatabaseCreated";
const DELETED: &str = "DatabaseDeleted";

impl DomainEvent for DatabaseEvent {
    fn event_type(&self) -> &str {
        match self {
            Self::Created(_) => CREATED,
            Self::Deleted => DELETED,
        }
    }

    fn data(&self) -> Result<Box<RawValue>, serde_json::Error> {
        match self {
            Self::Created(data) => codec::write(data),
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
            DELETED => stored.nothing().map(|()| Self::Deleted),
            _ => Err(stored.unknown_type()),
        }
    }
}

impl Aggregate for Database {
    type Command = DatabaseCommand;
    type Event = DatabaseEvent;

    const WEIGHED: Weighed = Weighed {
        code: "database_too_large",
        what: "a database's description",
        field: "description",
        each: false,
    };

    fn memory_bytes(&self) -> usize {
        let description = self.live.as_ref().and_then(|l| l.description.as_ref());
        description.map_or(0, String::len)
    }

    fn decide(&self, command: &DatabaseCommand) -> Result<Vec<DatabaseEvent>, Refusal> {
        match (command, &self.live) {
            (DatabaseCommand::Create { .. }, Some(_)) => Err(Refusal::conflict(
                "database_exists",
                "the database exists already",
            )),
            (DatabaseCommand::Create { description }, None) => {
                if let Some(text) = description {
                    let mut report = Report::default();
                    let at = Path::root("description");
                    check_text(text, MAX_DESCRIPTION_CHARS, &at, &mut report);
                    report.into_result()?;
                }
                Ok(vec![DatabaseEvent::Created(DatabaseCreated {
                    description: description.clone(),
                })])
            }
            (DatabaseCommand::Delete, Some(_)) => Ok(vec![DatabaseEvent::Deleted]),
            (DatabaseCommand::Delete, None) => Err(not_found()),
        }
    }

    fn apply(&mut self, event: DatabaseEvent, meta: EventMeta) {
        self.live = match event {
            DatabaseEvent::Created(created) => Some(LiveDatabase {
                incarnation: meta.version,
                description: created.description,
                created_at: meta.time,
                updated_at: meta.time,
            }),
            DatabaseEvent::Deleted => None,
        };
    }
}

/// 404: the database does not exist.
pub fn not_found() -> Refusal {
    Refusal::not_found("database_not_found", "there is no such database")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::{Stream, golden, meta};
    use proptest::prelude::*;

    fn create(description: Option<&str>) -> DatabaseCommand {
        DatabaseCommand::Create {
            description: description.map(str::to_owned),
        }
    }

    #[test]
    fn a_database_is_created_deleted_and_created_anew() {
        let mut database = Stream::<Database>::given([create(Some("films"))]);
        let live = database.state.live().unwrap();
        assert_eq!(live.description.as_deref(), Some("films"));
        assert_eq!(
            (live.incarnation, live.created_at),
            (Version(1), meta(1).time)
        );
        assert_eq!(database.refuses(&create(None)), "database_exists");

        let deleted = database.when(&DatabaseCommand::Delete).unwrap();
        assert_eq!(deleted, [DatabaseEvent::Deleted]);
        assert!(database.state.live().is_none());
        assert_eq!(
            database.refuses(&DatabaseCommand::Delete),
            "database_not_found"
        );

        database.when(&create(None)).unwrap();
        let live = database.state.live().unwrap();
        assert_eq!(
            (live.incarnation, live.description.as_deref()),
            (Version(3), None)
        );
        database.folds_alike();
    }

    #[test]
    fn descriptions_are_bounded() {
        let mut database = Stream::<Database>::new();
        for bad in ["x".repeat(MAX_DESCRIPTION_CHARS + 1), "\0".to_owned()] {
            assert_eq!(database.refuses(&create(Some(&bad))), "validation_failed");
        }
        let most = "ü".repeat(MAX_DESCRIPTION_CHARS);
        assert_eq!(database.when(&create(Some(&most))).unwrap().len(), 1);
    }

    #[test]
    fn law_8_golden_bytes_of_database_events() {
        let created = |description: Option<&str>| {
            DatabaseEvent::Created(DatabaseCreated {
                description: description.map(str::to_owned),
            })
        };
        golden(
            created(Some("films")),
            "DatabaseCreated",
            r#"{"description":"films"}"#,
        );
        golden(created(None), "DatabaseCreated", "{}");
        golden(DatabaseEvent::Deleted, "DatabaseDeleted", "{}");
    }

    proptest! {
        #[test]
        fn law_6_any_history_of_a_database_folds_alike(
            commands in prop::collection::vec(prop::option::of(".{0,5}"), 0..20),
        ) {
            let mut database = Stream::<Database>::new();
            for description in commands {
                let command = match description {
                    Some(text) => create(Some(&text)),
                    None => DatabaseCommand::Delete,
                };
                let before = database.state.clone();
                let accepted = database.when(&command).is_ok();
                prop_assert_eq!(accepted, before != database.state);
            }
            database.folds_alike();
        }
    }
}
