//! Conversion of domain events' data to and from stored JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};

use super::aggregate::DecodeError;

/// Data of an event without any: `{}`.
#[derive(Serialize)]
pub(crate) struct Nothing {}

/// Serialises data as they are stored.
pub(crate) fn write<T: Serialize>(data: &T) -> Result<Box<RawValue>, serde_json::Error> {
    to_raw_value(data)
}

/// A stored event that is being parsed.
#[derive(Clone, Copy)]
pub(crate) struct Stored<'a> {
    pub event_type: &'a str,
    pub schema_version: u32,
    pub data: &'a RawValue,
}

impl Stored<'_> {
    /// Parses data of schema version 1, the only one so far. Unknown members are ignored: a later
    /// version of the program may have added them.
    pub fn read<T: DeserializeOwned>(self) -> Result<T, DecodeError> {
        self.known_version()?;
        serde_json::from_str(self.data.get()).map_err(|error| self.error(error.to_string()))
    }

    /// Accepts an event without data.
    pub fn nothing(self) -> Result<(), DecodeError> {
        self.known_version()
    }

    /// An event of a type that its stream does not have.
    pub fn unknown_type(self) -> DecodeError {
        self.error("no stream of this kind has such events".to_owned())
    }

    fn known_version(self) -> Result<(), DecodeError> {
        if self.schema_version == 1 {
            Ok(())
        } else {
            Err(self.error("this schema version is not known".to_owned()))
        }
    }

    fn error(self, reason: String) -> DecodeError {
        DecodeError {
            event_type: self.event_type.to_owned(),
            schema_version: self.schema_version,
            reason,
        }
    }
}
