//! Foreign names as names of ours. Every derivation is a pure function of the foreign name, so a
//! repeated import finds the same streams.

use std::borrow::Cow;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::domain::ids::{EventType, MAX_COMPONENT_BYTES, StreamType};

/// Longest stream type and event type.
const MAX_STREAM_TYPE: usize = 50;
const MAX_EVENT_TYPE: usize = 100;

/// Hex digits of the hash that tells shortened names apart.
const HASH_DIGITS: usize = 8;

/// What stands before an id that had to be written otherwise, and in it before the two hex digits
/// of a byte; alone it means "no id".
const ESCAPE: char = '~';

/// A foreign stream type: `BankAccount`, `account:command` or `My.Account` as `bank_account`,
/// `account_command`, `my_account`. Distinct types may come out the same; streams of theirs that
/// have the same id as well are found to be different and parked.
pub fn stream_type(prefix: &str, foreign: &str) -> Option<StreamType> {
    let mut name = String::with_capacity(prefix.len() + foreign.len() + 4);
    name.push_str(prefix);
    let mut before = ' ';
    for c in foreign.chars() {
        if c.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
            name.push('_');
        }
        before = c;
        name.push(match c {
            'a'..='z' | '0'..='9' | '_' | '-' => c,
            'A'..='Z' => c.to_ascii_lowercase(),
            _ => '_',
        });
    }
    if foreign.is_empty() {
        return None;
    }
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        name.insert_str(0, "s_");
    }
    shorten(&mut name, foreign, MAX_STREAM_TYPE);
    StreamType::new(&name).ok()
}

/// A foreign event type; whatever ours may not contain becomes `_`.
pub fn event_type(foreign: &str) -> Option<EventType> {
    if let Ok(same) = EventType::new(foreign) {
        return Some(same);
    }
    if foreign.is_empty() {
        return None;
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '-');
    let mut name: String = foreign
        .chars()
        .map(|c| if fits(c) { c } else { '_' })
        .collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name.insert_str(0, "E_");
    }
    shorten(&mut name, foreign, MAX_EVENT_TYPE);
    EventType::new(&name).ok()
}

fn shorten(name: &mut String, foreign: &str, max: usize) {
    if name.len() > max {
        let hash = hex::encode(Sha256::digest(foreign.as_bytes()));
        // Only ASCII is in it by now.
        name.truncate(max - HASH_DIGITS - 1);
        name.push('_');
        name.push_str(&hash[..HASH_DIGITS]);
    }
}

/// A foreign stream id as one component. What may stand as it is stands as it is; of anything else
/// `/`, `~` and control characters are written in hex, `a/1` as `~a~2F1`, so that two ids never
/// become one. `None` if it is empty or too long.
pub fn stream_id(foreign: &str) -> Option<Cow<'_, str>> {
    if foreign.is_empty() {
        return None;
    }
    let unfit = |c: char| c.is_control() || c == '/';
    let as_it_is = !foreign.starts_with(ESCAPE)
        && foreign != "."
        && foreign != ".."
        && !foreign.contains(unfit);
    let id = if as_it_is {
        Cow::Borrowed(foreign)
    } else {
        let mut escaped = String::with_capacity(foreign.len() + 8);
        escaped.push(ESCAPE);
        for c in foreign.chars() {
            if !unfit(c) && c != ESCAPE {
                escaped.push(c);
                continue;
            }
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                // Writing to a String cannot fail.
                let _ = write!(escaped, "{ESCAPE}{byte:02X}");
            }
        }
        Cow::Owned(escaped)
    };
    (id.len() <= MAX_COMPONENT_BYTES).then_some(id)
}

/// Type and id in a name such as `account-123`: the type ends at the first `-`. A name without
/// one is a type whose only stream has the id `~`.
pub fn split(name: &str) -> (&str, Option<&str>) {
    match name.split_once('-') {
        Some((category, id)) => (category, Some(id)),
        None => (name, None),
    }
}

/// The id of a stream that has none.
pub const NO_ID: &str = "~";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_types_of_every_style_become_ours() {
        let name = |foreign| stream_type("", foreign).unwrap().as_str().to_owned();
        assert_eq!(name("account"), "account");
        assert_eq!(name("BankAccount"), "bank_account");
        assert_eq!(name("account:command"), "account_command");
        assert_eq!(name("My.Account2B"), "my_account2_b");
        assert_eq!(name("2fast"), "s_2fast");
        assert_eq!(name("Ünïcode"), "s__n_code");
        let long = "x".repeat(60);
        assert_eq!(name(&long).len(), MAX_STREAM_TYPE);
        assert_ne!(name(&long), name(&"x".repeat(61)));
        assert_eq!(stream_type("old_", "Class").unwrap().as_str(), "old_class");
        assert!(stream_type("old_", "").is_none());
    }

    #[test]
    fn event_types_keep_what_they_can() {
        let name = |foreign| event_type(foreign).unwrap().as_str().to_owned();
        assert_eq!(name("app:Dog.TrickAdded"), "app:Dog.TrickAdded");
        assert_eq!(name("App\\Events\\Done"), "App_Events_Done");
        assert_eq!(name("_private"), "E__private");
        assert_eq!(name(&"x".repeat(300)).len(), MAX_EVENT_TYPE);
        assert!(event_type("").is_none());
    }

    #[test]
    fn two_ids_never_become_one() {
        let odd = [
            "a", "~a", "~", "~~", "a/b", "~a~2Fb", "a~2Fb", "~a/b", ".", "..", "~.", "a\nb", "ü",
            "u\u{85}x", "~7E",
        ];
        let ids: std::collections::HashSet<String> = odd
            .iter()
            .map(|id| stream_id(id).unwrap().into_owned())
            .collect();
        assert_eq!(ids.len(), odd.len());
        assert!(!ids.contains(NO_ID));
        let order = StreamType::new("order").unwrap();
        for id in &ids {
            let stream = crate::domain::ids::StreamName::new(&order, &[id]);
            assert!(stream.is_ok(), "{id:?}");
        }
        assert_eq!(stream_id("a b").unwrap(), "a b");
        assert!(stream_id("").is_none() && stream_id(&"x".repeat(201)).is_none());
    }

    #[test]
    fn names_are_split_at_the_first_dash() {
        assert_eq!(split("account-12-3"), ("account", Some("12-3")));
        assert_eq!(split("settings"), ("settings", None));
    }
}
