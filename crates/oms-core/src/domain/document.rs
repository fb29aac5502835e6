//! A JSON object kept as its text.
//!
//! A parsed value takes up to fifty times its text (an array of zeros: 80 bytes for each two), so
//! everything kept for longer than one decision is kept as text and parsed where it is used.

use std::sync::Arc;

use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::refusal::Refusal;

/// A JSON object as text. Cheap to clone; equal if the texts are.
#[derive(Debug, Clone)]
pub struct Document(Arc<RawValue>);

impl Document {
    /// Serialises an object.
    pub fn of(object: &Map<String, Value>) -> Result<Self, Refusal> {
        let text = to_raw_value(object).map_err(|e| not_json(&e))?;
        Ok(Self(text.into()))
    }

    /// Parses the object.
    pub fn parse(&self) -> Result<Map<String, Value>, Refusal> {
        serde_json::from_str(self.text()).map_err(|e| not_json(&e))
    }

    /// The JSON text.
    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// The text as raw JSON, to be embedded in other JSON.
    pub fn raw(&self) -> &RawValue {
        &self.0
    }

    /// Length of the text in bytes.
    pub fn bytes(&self) -> usize {
        self.text().len()
    }
}

/// Cannot happen to text that was parsed and checked for depth when the request came in; refused
/// all the same, because nothing else can be done with it.
fn not_json(error: &serde_json::Error) -> Refusal {
    Refusal::invalid(
        "data_unreadable",
        format!("the data cannot be read: {error}"),
    )
}

impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Document {}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let given = match raw.get().as_bytes().first() {
            Some(b'{') => return Ok(Self(raw.into())),
            Some(b'[') => Unexpected::Seq,
            Some(b'"') => Unexpected::Other("string"),
            Some(b't' | b'f') => Unexpected::Other("boolean"),
            Some(b'n') => Unexpected::Other("null"),
            _ => Unexpected::Other("number"),
        };
        Err(D::Error::invalid_type(given, &"an object"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_its_text_and_reads_back() {
        let zeros = format!("{{\"zeros\":[{}0]}}", "0,".repeat(60_000));
        let document: Document = serde_json::from_str(&zeros).unwrap();
        assert_eq!(document.bytes(), zeros.len());
        assert_eq!(document.text(), zeros);
        assert_eq!(Document::of(&document.parse().unwrap()).unwrap(), document);
    }

    #[test]
    fn only_objects_are_documents() {
        for bad in ["[]", "1", "\"{\"", "null", "true"] {
            let error = serde_json::from_str::<Document>(bad).unwrap_err();
            assert!(error.to_string().starts_with("invalid type: "), "{error}");
        }
        let spaced: Document = serde_json::from_str(" { \"n\" : 1.50 } ").unwrap();
        assert_eq!(spaced.text(), "{ \"n\" : 1.50 }");
        assert_eq!(spaced.parse().unwrap()["n"].to_string(), "1.50");
    }
}
