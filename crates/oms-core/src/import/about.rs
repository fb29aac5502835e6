//! The metadata of an imported event: where it came from, and its own remarks.

use std::fmt::Write as _;

use serde_json::value::RawValue;

/// The text of an imported event's metadata.
pub struct About {
    text: String,
}

impl About {
    /// Of an event of this source.
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

    /// Says a text of it.
    pub fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        push_json(&mut self.text, value);
    }

    /// Says a number of it.
    pub fn number(&mut self, key: &str, value: i64) {
        self.key(key);
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{value}");
    }

    /// Says that something of it is not known.
    pub fn null(&mut self, key: &str) {
        self.key(key);
        self.text.push_str("null");
    }

    /// All that was said, and the event's own remarks.
    pub fn finish(mut self, metadata: Option<&RawValue>) -> Box<RawValue> {
        self.text.push('}');
        if let Some(metadata) = metadata {
            self.text.push_str(",\"metadata\":");
            self.text.push_str(metadata.get());
        }
        self.text.push('}');
        // Put together from JSON, so it is JSON.
        RawValue::from_string(self.text).unwrap_or_else(|_| RawValue::NULL.to_owned())
    }
}

fn push_json(out: &mut String, text: &str) {
    // A text always serialises.
    if let Ok(json) = serde_json::to_string(text) {
        out.push_str(&json);
    }
}

/// How many bytes more a metadata's text has within the envelope, where it is a text in JSON.
pub fn escaped(metadata: Option<&RawValue>) -> usize {
    let longer = |b: &u8| matches!(b, b'"' | b'\\' | 0..=0x1f);
    metadata.map_or(0, |m| m.get().bytes().filter(longer).count())
}
