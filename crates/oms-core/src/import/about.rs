//! The metadata of an imported event: its origin, and its own metadata in the source.

use std::fmt::Write as _;

use serde_json::value::RawValue;

/// Builds the metadata of an imported event.
pub struct About {
    text: String,
}

impl About {
    /// For an event of this source.
    pub fn new(source: &str) -> Self {
        let mut text = String::with_capacity(160);
        text.push_str(r#"{"import":{"source":"#);
        push_json(&mut text, source);
        Self { text }
    }

    fn key(&mut self, key: &str) {
        self.text.push_str(",\"");
        self.text.push_str(key);
        self.text.push_str("\":");
    }

    /// Adds a text.
    pub fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        push_json(&mut self.text, value);
    }

    /// Adds a number.
    pub fn number(&mut self, key: &str, value: i64) {
        self.key(key);
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{value}");
    }

    /// Adds a null, for what is not known.
    pub fn null(&mut self, key: &str) {
        self.key(key);
        self.text.push_str("null");
    }

    /// The complete metadata, with the event's own.
    pub fn finish(mut self, metadata: Option<&RawValue>) -> Box<RawValue> {
        self.text.push('}');
        if let Some(metadata) = metadata {
            self.text.push_str(",\"metadata\":");
            self.text.push_str(metadata.get());
        }
        self.text.push('}');
        // Cannot fail: it is put together from JSON.
        RawValue::from_string(self.text).unwrap_or_else(|_| RawValue::NULL.to_owned())
    }
}

fn push_json(out: &mut String, text: &str) {
    // Cannot fail: a text can always be serialised.
    if let Ok(json) = serde_json::to_string(text) {
        out.push_str(&json);
    }
}

/// How many more bytes a metadata text takes within the envelope, where it is escaped as a JSON
/// string.
pub fn escaped(metadata: Option<&RawValue>) -> usize {
    let longer = |b: &u8| matches!(b, b'"' | b'\\' | 0..=0x1f);
    metadata.map_or(0, |m| m.get().bytes().filter(longer).count())
}
