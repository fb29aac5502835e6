//! Derives valid names from foreign ones. A repeated import derives the same names, and two foreign
//! names never become one: a name of which little is left gets a hash of the foreign name appended,
//! and so do all but the first of those that would come out the same.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use sha2::{Digest, Sha256};

use crate::domain::ids::{EventType, MAX_COMPONENT_BYTES, StreamType};

/// Longest stream type and longest event type, in bytes.
const MAX_STREAM_TYPE: usize = 50;
const MAX_EVENT_TYPE: usize = 100;

/// Hex digits of the hash in a name: of one that is only too long, and of one that is marked.
const SHORT_DIGITS: usize = 8;
const MARK_DIGITS: usize = 12;

/// Escape character of stream ids: before an id that was rewritten, and before the two hex digits
/// of each escaped byte; alone it stands for "no id".
const ESCAPE: char = '~';

/// The names that a foreign name may get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derived<T> {
    /// Without a hash; another foreign name may give the same. `None` if too little of the name
    /// would be left.
    pub plain: Option<T>,
    /// With a hash of the foreign name, so that no other one gives the same.
    pub marked: T,
}

/// A foreign stream type: `BankAccount`, `account:command` or `My.Account` as `bank_account`,
/// `account_command`, `my_account`.
pub fn stream_type(prefix: &str, foreign: &str) -> Option<Derived<StreamType>> {
    if foreign.is_empty() {
        return None;
    }
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
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        name.insert_str(0, "s_");
    }
    let marked = StreamType::new(&marked(&name, foreign, MAX_STREAM_TYPE)).ok()?;
    let plain = may_be_plain(foreign, &name).then(|| shortened(name, foreign, MAX_STREAM_TYPE));
    Some(Derived {
        plain: plain.and_then(|name| StreamType::new(&name).ok()),
        marked,
    })
}

/// A foreign event type; characters that ours may not contain become `_`.
pub fn event_type(foreign: &str) -> Option<Derived<EventType>> {
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
    let marked = EventType::new(&marked(&name, foreign, MAX_EVENT_TYPE)).ok()?;
    let plain = may_be_plain(foreign, &name).then(|| shortened(name, foreign, MAX_EVENT_TYPE));
    Some(Derived {
        plain: plain.and_then(|name| EventType::new(&name).ok()),
        marked,
    })
}

/// Whether enough of a foreign name is left in `name`, and `name` cannot be the marked name of
/// another one.
fn may_be_plain(foreign: &str, name: &str) -> bool {
    let is_marked = name.rsplit_once('_').is_some_and(|(_, end)| {
        end.len() == MARK_DIGITS && end.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    });
    foreign.is_ascii() && !is_marked
}

/// Shortened to `max` bytes with a hash at its end, if it is longer.
fn shortened(name: String, foreign: &str, max: usize) -> String {
    if name.len() <= max {
        return name;
    }
    with_hash(&name, foreign, max, SHORT_DIGITS)
}

fn marked(name: &str, foreign: &str, max: usize) -> String {
    with_hash(name, foreign, max, MARK_DIGITS)
}

fn with_hash(name: &str, foreign: &str, max: usize, digits: usize) -> String {
    let hash = hex::encode(Sha256::digest(foreign.as_bytes()));
    // Only ASCII is left in it here.
    let kept = &name[..name.len().min(max - digits - 1)];
    format!("{kept}_{}", &hash[..digits])
}

/// What a name is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A stream type.
    Stream,
    /// An event type.
    Event,
}

/// The foreign name behind each name of ours. The first one in the order of the source gets the
/// plain name permanently, because names are saved with the checkpoint. Later ones with the same
/// plain name are marked.
#[derive(Debug, Default)]
pub struct GivenNames {
    given: BTreeMap<String, String>,
    /// Names assigned since the last [`GivenNames::take_new`].
    new: BTreeMap<String, String>,
}

/// Plain names at most; a store has dozens. Beyond it every name is marked.
const MAX_PLAIN: usize = 10_000;

impl GivenNames {
    /// Continues with saved names.
    pub fn new(given: BTreeMap<String, String>) -> Self {
        Self {
            given,
            new: BTreeMap::new(),
        }
    }

    /// Reserves a name for the foreign name for which it was configured.
    pub fn reserve(&mut self, kind: Kind, own: &str, foreign: &str) {
        self.given.insert(key(kind, own), foreign.to_owned());
    }

    /// The name for a foreign one, which is remembered.
    pub fn give<T: fmt::Display>(&mut self, kind: Kind, derived: Derived<T>, foreign: &str) -> T {
        if let Some(plain) = derived.plain {
            let key = key(kind, &plain.to_string());
            match self.given.get(&key) {
                Some(holder) if holder == foreign => return plain,
                None if self.given.len() < MAX_PLAIN => {
                    self.given.insert(key.clone(), foreign.to_owned());
                    self.new.insert(key, foreign.to_owned());
                    return plain;
                }
                _ => {}
            }
        }
        derived.marked
    }

    /// Newly assigned names, to be saved.
    pub fn take_new(&mut self) -> BTreeMap<String, String> {
        std::mem::take(&mut self.new)
    }
}

fn key(kind: Kind, own: &str) -> String {
    match kind {
        Kind::Stream => format!("stream {own}"),
        Kind::Event => format!("event {own}"),
    }
}

/// A foreign stream id as one component. Most ids stay unchanged; in others `/`, `~` and control
/// characters are written in hex, `a/1` as `~a~2F1`, so that two ids never become one. `None` if it
/// is empty or too long.
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

/// Splits a name such as `account-123` into type and id, at the first `-`. A name without one is a
/// type with a single stream, whose id is [`NO_ID`].
pub fn split(name: &str) -> (&str, Option<&str>) {
    match name.split_once('-') {
        Some((category, id)) => (category, Some(id)),
        None => (name, None),
    }
}

/// The id of a stream without one.
pub const NO_ID: &str = "~";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_types_of_every_style_become_ours() {
        let name = |foreign| {
            let plain = stream_type("", foreign).unwrap().plain.unwrap();
            plain.as_str().to_owned()
        };
        assert_eq!(name("account"), "account");
        assert_eq!(name("BankAccount"), "bank_account");
        assert_eq!(name("account:command"), "account_command");
        assert_eq!(name("My.Account2B"), "my_account2_b");
        assert_eq!(name("2fast"), "s_2fast");
        let long = "x".repeat(60);
        assert_eq!(name(&long).len(), MAX_STREAM_TYPE);
        assert_ne!(name(&long), name(&"x".repeat(61)));
        let old = stream_type("old_", "Class").unwrap();
        assert_eq!(old.plain.unwrap().as_str(), "old_class");
        assert!(old.marked.as_str().starts_with("old_class_"));
        assert!(stream_type("old_", "").is_none());
    }

    #[test]
    fn event_types_keep_what_they_can() {
        let name = |foreign| {
            let plain = event_type(foreign).unwrap().plain.unwrap();
            plain.as_str().to_owned()
        };
        assert_eq!(name("app:Dog.TrickAdded"), "app:Dog.TrickAdded");
        assert_eq!(name("App\\Events\\Done"), "App_Events_Done");
        assert_eq!(name("_private"), "E__private");
        assert_eq!(name(&"x".repeat(300)).len(), MAX_EVENT_TYPE);
        assert!(event_type("").is_none());
    }

    /// Names of other scripts, of other styles, and some that are chosen to look like ours.
    #[test]
    fn law_2_two_foreign_names_never_become_one() {
        let marked = stream_type("p_", "заказ").unwrap().marked;
        let (x60, x61) = ("x".repeat(60), "x".repeat(61));
        let foreign = [
            "заказ",
            "товар",
            "Заказ",
            "订单",
            &marked.as_str()[2..],
            "a.b",
            "a:b",
            "a b",
            "a_b",
            "a-b",
            "aB",
            "Ab",
            "AB",
            "A_b",
            "ab",
            "2a",
            "s_2a",
            "HTTPServer",
            "HttpServer",
            "http_server",
            &x60,
            &x61,
        ];
        let mut names = GivenNames::default();
        let give = |names: &mut GivenNames, f: &str| {
            names.give(Kind::Stream, stream_type("p_", f).unwrap(), f)
        };
        let given: Vec<_> = foreign.iter().map(|f| give(&mut names, f)).collect();
        let distinct: std::collections::HashSet<_> = given.iter().collect();
        assert_eq!(distinct.len(), foreign.len(), "{given:?}");
        // The same names again, also from saved ones and in another order of reading.
        let mut later = GivenNames::new(names.take_new());
        for (foreign, given) in foreign.iter().zip(&given).rev() {
            assert_eq!(give(&mut later, foreign), *given);
        }
        assert!(names.take_new().is_empty() && later.take_new().is_empty());
        let foreign = [
            "订单已创建",
            "订单已取消",
            "a b",
            "a/b",
            "a_b",
            "a.b",
            "A_b",
            "1a",
            "E_1a",
            "_",
            "E__",
            "Order Created",
            "Order_Created",
        ];
        let given: std::collections::HashSet<_> = foreign
            .iter()
            .map(|f| names.give(Kind::Event, event_type(f).unwrap(), f))
            .collect();
        assert_eq!(given.len(), foreign.len(), "{given:?}");
    }

    #[test]
    fn a_configured_name_is_nobody_elses() {
        let mut names = GivenNames::default();
        names.reserve(Kind::Stream, "course", "Klass");
        let derived = stream_type("", "course").unwrap();
        let marked = derived.marked.clone();
        assert_eq!(names.give(Kind::Stream, derived, "course"), marked);
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
