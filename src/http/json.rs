//! JSON from untrusted callers. One pass over the text refuses what would cost too much or could
//! not be stored faithfully, before anything is built from it; then serde reads it once, straight
//! into the wanted type. If a field is wrong, its path is found by a second reading, which only
//! faulty requests pay for.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use serde::de::DeserializeOwned;

use super::problem::{self, Problem};

/// Deepest nesting: far beyond any real document, far below the size of any stack.
pub const MAX_DEPTH: usize = 64;
/// Values in one body at most: a parsed value takes up to a hundred times its text, so that this
/// bounds the memory of a request of 1 MiB to about 10 MB. A full batch of 1,000 instances may have
/// a hundred values each.
pub const MAX_VALUES: usize = 100_000;
/// Members of one object at most: keys are compared pairwise to find duplicates.
pub const MAX_MEMBERS: usize = 2_000;
/// Longest number in bytes. Numbers are kept as given; PostgreSQL's `numeric` stores any number of
/// this length whose exponent is bounded as below.
pub const MAX_NUMBER_BYTES: usize = 100;
/// Largest exponent, either way: with [`MAX_NUMBER_BYTES`] digits before it the number stays
/// within PostgreSQL's 16,383 digits after the point.
pub const MAX_EXPONENT: u32 = 9_999;

/// Keys with which serde_json marks numbers and raw values in its own data model; a caller's would
/// be taken for those.
const PRIVATE_KEY_PREFIX: &str = "$serde_json::private::";

static KEY_HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        malformed(
            bytes,
            e.valid_up_to(),
            problem::MALFORMED_JSON,
            "it is not UTF-8",
        )
    })?;
    Scan::new(text).run()?;
    serde_json::from_str(text).map_err(|error| {
        if error.is_data() {
            field_problem::<T>(text, &error)
        } else {
            Problem::new(problem::MALFORMED_JSON, error.to_string())
        }
    })
}

/// Reads a body that must be an object. Serde alone would also accept the fields of a struct as an
/// array.
pub fn parse_object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    match bytes.iter().find(|b| !b.is_ascii_whitespace()) {
        Some(b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
            // Text that is not JSON is reported as such first.
            parse::<serde::de::IgnoredAny>(bytes)?;
            let message = "the body must be a JSON object";
            Err(Problem::new(problem::VALIDATION_FAILED, message).field("", "type", message))
        }
        _ => parse(bytes),
    }
}

fn malformed(bytes: &[u8], at: usize, code: problem::Code, what: &str) -> Problem {
    let before = &bytes[..at.min(bytes.len())];
    let line = memchr::memchr_iter(b'\n', before).count() + 1;
    let column = before.len() - memchr::memrchr(b'\n', before).map_or(0, |n| n + 1) + 1;
    Problem::new(code, format!("{what} at line {line} column {column}"))
}

/// The problem with the path of the wrong field.
fn field_problem<T: DeserializeOwned>(text: &str, error: &serde_json::Error) -> Problem {
    let deserializer = &mut serde_json::Deserializer::from_str(text);
    let path = match serde_path_to_error::deserialize::<_, T>(deserializer) {
        Err(located) => located.path().to_string(),
        Ok(_) => String::new(),
    };
    let message = error.to_string();
    let message = message
        .rsplit_once(" at line ")
        .map_or(message.as_str(), |(m, _)| m);
    let named = |prefix: &str| {
        let rest = message.strip_prefix(prefix)?;
        rest.strip_prefix('`')?.split('`').next()
    };
    let kinds = [
        ("unknown field ", "unknown_field"),
        ("missing field ", "required"),
        ("duplicate field ", "duplicate_field"),
        ("unknown variant ", "unknown_value"),
        ("invalid type: ", "type"),
        ("invalid value: ", "value"),
    ];
    let kind = kinds.iter().find(|(prefix, _)| message.starts_with(prefix));
    let code = kind.map_or("invalid", |(_, code)| code);
    // These errors concern the parent's list of names, so that the name is not part of the path
    // yet.
    let name = match code {
        "unknown_field" | "required" | "duplicate_field" => kind.and_then(|(p, _)| named(p)),
        _ => None,
    };
    let parent = path.trim_start_matches('.').trim_end_matches(".?");
    let parent = if parent == "?" { "" } else { parent };
    let field = match name {
        Some(name) if parent.is_empty() => name.to_owned(),
        Some(name) if parent == name || parent.ends_with(&format!(".{name}")) => parent.to_owned(),
        Some(name) => format!("{parent}.{name}"),
        None => parent.to_owned(),
    };
    let detail = if field.is_empty() {
        message.to_owned()
    } else {
        format!("{field}: {message}")
    };
    Problem::new(problem::VALIDATION_FAILED, detail).field(field, code, message)
}

/// An object or array that is open at the current point of the text.
struct Open {
    object: bool,
    /// Index in `Scan::keys` of its first key.
    keys: usize,
    expects_key: bool,
}

/// The pass over the text. It follows strings, brackets, commas and colons only: text that is not
/// JSON may pass, and serde refuses it.
struct Scan<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    open: Vec<Open>,
    keys: Vec<u64>,
    values: usize,
}

impl<'a> Scan<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            bytes: text.as_bytes(),
            at: 0,
            open: Vec::with_capacity(8),
            keys: Vec::with_capacity(32),
            values: 1,
        }
    }

    fn refuse(&self, code: problem::Code, what: &str) -> Problem {
        malformed(self.bytes, self.at, code, what)
    }

    fn run(mut self) -> Result<(), Problem> {
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => self.string()?,
                b'{' | b'[' => {
                    self.enter(byte == b'{')?;
                    self.at += 1;
                }
                b'}' | b']' => {
                    if let Some(open) = self.open.pop() {
                        self.keys.truncate(open.keys);
                    }
                    self.at += 1;
                }
                b',' => {
                    self.values += 1;
                    if self.values > MAX_VALUES {
                        let what = format!("more than {MAX_VALUES} values");
                        return Err(self.refuse(problem::TOO_MANY_VALUES, &what));
                    }
                    if let Some(open) = self.open.last_mut() {
                        open.expects_key = open.object;
                    }
                    self.at += 1;
                }
                b':' => {
                    if let Some(open) = self.open.last_mut() {
                        open.expects_key = false;
                    }
                    self.at += 1;
                }
                b'-' | b'0'..=b'9' => self.number()?,
                _ => self.at += 1,
            }
        }
        Ok(())
    }

    fn enter(&mut self, object: bool) -> Result<(), Problem> {
        if self.open.len() >= MAX_DEPTH {
            let what = format!("nested deeper than {MAX_DEPTH}");
            return Err(self.refuse(problem::TOO_DEEP, &what));
        }
        self.values += 1;
        self.open.push(Open {
            object,
            keys: self.keys.len(),
            expects_key: object,
        });
        Ok(())
    }

    fn string(&mut self) -> Result<(), Problem> {
        let start = self.at + 1;
        let mut end = start;
        let mut escaped = false;
        loop {
            let Some(found) = memchr::memchr2(b'"', b'\\', &self.bytes[end..]) else {
                // Unterminated: serde reports it.
                self.at = self.bytes.len();
                return Ok(());
            };
            end += found;
            if self.bytes[end] == b'"' {
                break;
            }
            escaped = true;
            end = self.escape(end)?;
        }
        let content = self.text.get(start..end).unwrap_or_default();
        if self.open.last().is_some_and(|open| open.expects_key) {
            self.key(content, escaped)?;
        }
        self.at = end + 1;
        Ok(())
    }

    /// Skips the escape at `at`. Refuses U+0000, which PostgreSQL cannot store, and unpaired
    /// surrogates, which are no text: both would otherwise fail later, when it is too late to refuse.
    fn escape(&mut self, at: usize) -> Result<usize, Problem> {
        if self.bytes.get(at + 1) != Some(&b'u') {
            return Ok((at + 2).min(self.bytes.len()));
        }
        let unit = |at: usize| {
            let digits = self.text.get(at + 2..at + 6)?;
            u16::from_str_radix(digits, 16).ok()
        };
        let next_is_escape = |at: usize| self.text.get(at..at + 2) == Some("\\u");
        let (width, fault) = match unit(at) {
            Some(0) => (6, Some("the character U+0000 cannot be stored")),
            Some(0xD800..=0xDBFF) => match next_is_escape(at + 6).then(|| unit(at + 6)).flatten() {
                Some(0xDC00..=0xDFFF) => (12, None),
                _ => (6, Some("half a surrogate pair is no character")),
            },
            Some(0xDC00..=0xDFFF) => (6, Some("half a surrogate pair is no character")),
            _ => (2, None),
        };
        if let Some(what) = fault {
            self.at = at;
            return Err(self.refuse(problem::UNSUPPORTED_CHARACTER, what));
        }
        Ok((at + width).min(self.bytes.len()))
    }

    fn key(&mut self, content: &str, escaped: bool) -> Result<(), Problem> {
        let decoded = escaped
            .then(|| serde_json::from_str::<String>(&format!("\"{content}\"")).ok())
            .flatten();
        let key = decoded.as_deref().unwrap_or(content);
        if key.starts_with(PRIVATE_KEY_PREFIX) {
            return Err(self.refuse(problem::UNSUPPORTED_CHARACTER, "a reserved key"));
        }
        let from = self.open.last().map_or(0, |open| open.keys);
        let hash = KEY_HASHER.hash_one(key);
        if self.keys[from..].contains(&hash) {
            let what = format!("the key {key:?} is there twice,");
            return Err(self.refuse(problem::DUPLICATE_KEY, &what));
        }
        if self.keys.len() - from >= MAX_MEMBERS {
            let what = format!("an object of more than {MAX_MEMBERS} members");
            return Err(self.refuse(problem::TOO_MANY_VALUES, &what));
        }
        self.keys.push(hash);
        Ok(())
    }

    fn number(&mut self) -> Result<(), Problem> {
        let rest = &self.bytes[self.at..];
        let length = rest
            .iter()
            .position(|b| !matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
            .unwrap_or(rest.len());
        let exponent = rest[..length]
            .iter()
            .position(|b| matches!(b, b'e' | b'E'))
            .and_then(|e| self.text.get(self.at + e + 1..self.at + length))
            .map(|digits| digits.trim_start_matches(['+', '-']).parse::<u32>());
        let too_large = match exponent {
            Some(Ok(exponent)) => exponent > MAX_EXPONENT,
            // Too many digits for a u32; no digits at all are refused by serde.
            Some(Err(e)) => *e.kind() == std::num::IntErrorKind::PosOverflow,
            None => false,
        };
        if too_large || length > MAX_NUMBER_BYTES {
            let what = format!(
                "a number of more than {MAX_NUMBER_BYTES} digits or an exponent beyond {MAX_EXPONENT}"
            );
            return Err(self.refuse(problem::NUMBER_OUT_OF_RANGE, &what));
        }
        self.at += length;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
