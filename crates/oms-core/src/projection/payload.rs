//! The data of the ontology's events, as stored. Unknown members are ignored.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::ids::Version;

/// Schema version of event data that this program reads.
pub const SCHEMA_VERSION: u32 = 1;

/// The content of an event of the ontology.
#[derive(Debug)]
pub enum Fact<'a> {
    /// A database, class or instance was created; `parent` is the incarnation of what contains it.
    Created {
        /// Its content.
        data: &'a RawValue,
        /// Version of the event that last created what contains it; `None` for a database.
        parent: Option<Version>,
    },
    /// It was changed; `data` is its whole content afterwards.
    Updated {
        /// Its content.
        data: &'a RawValue,
    },
    /// It was deleted.
    Deleted,
}

#[derive(Deserialize)]
struct ClassCreated<'a> {
    #[serde(borrow)]
    definition: &'a RawValue,
    database_incarnation: Version,
}

#[derive(Deserialize)]
struct ClassUpdated<'a> {
    #[serde(borrow)]
    definition: &'a RawValue,
}

#[derive(Deserialize)]
struct InstanceCreated<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
    class_incarnation: Version,
}

#[derive(Deserialize)]
struct InstanceUpdated<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Parses an event of the ontology; the error says why that fails.
pub fn read<'a>(
    event_type: &str,
    schema_version: u32,
    data: &'a RawValue,
) -> Result<Fact<'a>, String> {
    if schema_version != SCHEMA_VERSION {
        return Err(format!("schema version {schema_version} is not known"));
    }
    match event_type {
        "DatabaseCreated" => Ok(Fact::Created {
            data: object(data)?,
            parent: None,
        }),
        "ClassCreated" => {
            let event: ClassCreated<'a> = decode(data)?;
            Ok(Fact::Created {
                data: object(event.definition)?,
                parent: Some(event.database_incarnation),
            })
        }
        "InstanceCreated" => {
            let event: InstanceCreated<'a> = decode(data)?;
            Ok(Fact::Created {
                data: object(event.data)?,
                parent: Some(event.class_incarnation),
            })
        }
        "ClassUpdated" => {
            let event: ClassUpdated<'a> = decode(data)?;
            Ok(Fact::Updated {
                data: object(event.definition)?,
            })
        }
        "InstanceUpdated" => {
            let event: InstanceUpdated<'a> = decode(data)?;
            Ok(Fact::Updated {
                data: object(event.data)?,
            })
        }
        "DatabaseDeleted" | "ClassDeleted" | "InstanceDeleted" => Ok(Fact::Deleted),
        other => Err(format!("event type {other} is not known")),
    }
}

fn decode<'a, T: Deserialize<'a>>(data: &'a RawValue) -> Result<T, String> {
    serde_json::from_str(data.get()).map_err(|e| format!("data: {e}"))
}

fn object(value: &RawValue) -> Result<&RawValue, String> {
    if value.get().starts_with('{') {
        return Ok(value);
    }
    Err("its content is no JSON object".into())
}
