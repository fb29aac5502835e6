//! Values that the class does not restrict: any JSON that the log and the read model can store.

use serde_json::{Map, Value};

use super::check::{Path, Report, Shown};
use super::number::parse_in_range;
use super::text::check_storable;

/// Nesting of data at most, counted from `data` itself. A quarter of what the JSON parser accepts,
/// so that accepted data can be wrapped in events and answers and still be parsed.
pub const MAX_DEPTH: usize = 32;

/// Keys with this prefix have a special meaning to the JSON library: an object with such a key
/// would be parsed as something else than was written, or not at all.
const RESERVED_KEY_PREFIX: &str = "$serde_json::private::";

/// Checks any JSON.
pub(crate) fn check_free(value: &Value, at: &Path<'_>, report: &mut Report) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Number(number) => {
            parse_in_range(number.as_str(), at, report);
        }
        Value::String(text) => check_storable(text, at, report),
        Value::Array(_) | Value::Object(_) if at.depth() >= MAX_DEPTH => {
            report.add(at, "depth", format_args!("may nest {MAX_DEPTH} deep"));
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                check_free(item, &at.index(index), report);
            }
        }
        Value::Object(members) => check_free_object(members, at, report),
    }
}

/// Checks any JSON object.
pub(crate) fn check_free_object(members: &Map<String, Value>, at: &Path<'_>, report: &mut Report) {
    for (key, member) in members {
        let at = at.key(key);
        check_key(key, &at, report);
        check_free(member, &at, report);
    }
}

/// Checks a key that no class defines.
pub(super) fn check_key(key: &str, at: &Path<'_>, report: &mut Report) {
    if key.starts_with(RESERVED_KEY_PREFIX) {
        let message = format_args!("`{}` is a reserved key", Shown(key));
        report.add(at, "reserved_key", message);
    }
    check_storable(key, at, report);
}
