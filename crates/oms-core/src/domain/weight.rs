//! Limits of size. They apply to the result, the state that an event leaves behind, rather than to
//! the request, so that an aggregate cannot exceed its limit in small steps.

use std::mem::size_of;

use serde_json::{Map, Value};

use super::refusal::{Refusal, RefusalKind, Violation};

/// Bytes of stored JSON of one instance, class, database or plain event at most: a thousand times a
/// usual one, and a quarter of a commit.
pub const MAX_EVENT_BYTES: usize = 1 << 20;

/// Bytes of one append at most: what a commit object holds.
pub const MAX_APPEND_BYTES: usize = 4 << 20;

/// Most bytes of events that all who read large pages or rebuild states hold at once, where nothing else
/// is configured: eight of the largest pages, each as it is stored and as it is answered.
pub const MAX_READ_BYTES: usize = 128 << 20;

/// The limits, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one instance, class, database or plain event.
    pub event: usize,
    /// Bytes of all events of one append, as stored.
    pub append: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            event: MAX_EVENT_BYTES,
            append: MAX_APPEND_BYTES,
        }
    }
}

/// How a refusal names an aggregate that is too large.
#[derive(Debug, Clone, Copy)]
pub struct Weighed {
    /// The refusal's code.
    pub code: &'static str,
    /// What is too large, with its article.
    pub what: &'static str,
    /// The field at fault.
    pub field: &'static str,
    /// Whether `field` is a list with one item for each event.
    pub each: bool,
}

impl Weighed {
    /// For plain events.
    pub const EVENTS: Self = Self {
        code: "event_too_large",
        what: "an event",
        field: "events",
        each: true,
    };
}

/// Sizes of an event that is about to be stored.
#[derive(Debug, Clone, Copy)]
pub struct EventSize {
    /// Bytes of the aggregate's state after it, or of the event itself if there is no state.
    pub state: usize,
    /// Bytes of its metadata.
    pub metadata: usize,
}

impl Limits {
    /// Refuses events that would leave a state that is too large. One that is too large already may
    /// still shrink: `before` is called only then.
    pub fn check(
        &self,
        weighed: &Weighed,
        events: &[EventSize],
        before: impl Fn() -> usize,
    ) -> Result<(), Refusal> {
        for (i, event) in events.iter().enumerate() {
            if weighed.each {
                let size = event.state + event.metadata;
                if size > self.event {
                    let field = format!("{}[{i}]", weighed.field);
                    return Err(too_large(
                        weighed.code,
                        field,
                        weighed.what,
                        size,
                        self.event,
                    ));
                }
                continue;
            }
            if event.state > self.event && event.state >= before() {
                let field = weighed.field.to_owned();
                return Err(too_large(
                    weighed.code,
                    field,
                    weighed.what,
                    event.state,
                    self.event,
                ));
            }
            if event.metadata > self.event {
                let (code, field) = ("metadata_too_large", "metadata".to_owned());
                return Err(too_large(
                    code,
                    field,
                    "metadata",
                    event.metadata,
                    self.event,
                ));
            }
        }
        Ok(())
    }

    /// Refuses an append that is too large for a commit; `size` is that of its encoded events.
    pub fn check_append(&self, weighed: &Weighed, size: usize) -> Result<(), Refusal> {
        if size <= self.append {
            return Ok(());
        }
        Err(append_too_large(weighed, size, self.append))
    }
}

/// 422: the events of one command are too large together.
pub fn append_too_large(weighed: &Weighed, size: usize, limit: usize) -> Refusal {
    let what = "what one request stores, with its envelopes,";
    too_large(
        "append_too_large",
        weighed.field.to_owned(),
        what,
        size,
        limit,
    )
}

/// 422: `what` is larger than allowed.
pub fn too_large(
    code: &'static str,
    field: String,
    what: &str,
    size: usize,
    limit: usize,
) -> Refusal {
    let message = format!("{what} may have {limit} bytes (it would have {size})");
    Refusal {
        kind: RefusalKind::Invalid,
        code,
        message: message.clone(),
        violations: vec![Violation {
            field,
            code,
            message,
        }],
    }
}

/// Approximate bytes of heap memory that a parsed value takes.
pub fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 0,
        // Kept as text; the allocator's smallest block has eight bytes.
        Value::Number(number) => number.as_str().len().max(8),
        Value::String(text) => text.len(),
        Value::Array(items) => items
            .iter()
            .map(|item| size_of::<Value>() + value_bytes(item))
            .sum(),
        Value::Object(members) => map_bytes(members),
    }
}

/// Approximate bytes of heap memory that an object takes.
pub fn map_bytes(members: &Map<String, Value>) -> usize {
    // A member takes a key, its hash and its place in the table besides the value.
    let place = size_of::<Value>() + size_of::<String>() + 3 * size_of::<usize>();
    members
        .iter()
        .map(|(key, value)| place + key.len() + value_bytes(value))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        event: 100,
        append: 1_000,
    };
    const DATA: Weighed = Weighed {
        code: "instance_too_large",
        what: "an instance",
        field: "data",
        each: false,
    };

    fn size(state: usize, metadata: usize) -> EventSize {
        EventSize { state, metadata }
    }

    #[test]
    fn law_13_what_results_is_weighed_and_the_refusal_names_field_limit_and_size() {
        let check = |state, before| LIMITS.check(&DATA, &[size(state, 0)], || before);
        assert!(check(100, 0).is_ok());
        let refused = check(101, 0).unwrap_err();
        assert_eq!(refused.code, "instance_too_large");
        assert_eq!(refused.violations[0].field, "data");
        for part in ["100", "101"] {
            assert!(refused.message.contains(part), "{refused}");
        }
        // What is too large already may become smaller, not larger.
        assert!(check(150, 151).is_ok());
        assert!(check(151, 151).is_err());
        let remarks = LIMITS.check(&DATA, &[size(1, 101)], || 0).unwrap_err();
        assert_eq!(remarks.code, "metadata_too_large");
    }

    #[test]
    fn law_13_each_plain_event_is_weighed_and_all_of_them_together() {
        let events = [size(50, 50), size(50, 51)];
        let refused = LIMITS.check(&Weighed::EVENTS, &events, || 0).unwrap_err();
        assert_eq!(refused.code, "event_too_large");
        assert_eq!(refused.violations[0].field, "events[1]");
        assert!(LIMITS.check_append(&Weighed::EVENTS, 1_000).is_ok());
        let refused = LIMITS.check_append(&Weighed::EVENTS, 1_001).unwrap_err();
        assert_eq!(refused.code, "append_too_large");
        assert_eq!(refused.violations[0].field, "events");
    }

    #[test]
    fn law_13_a_parsed_value_is_weighed_by_its_memory_and_not_by_its_text() {
        let text = format!("[{}0]", "0,".repeat(999));
        let zeros: Value = serde_json::from_str(&text).unwrap();
        assert!(value_bytes(&zeros) > 30 * text.len());
    }
}
