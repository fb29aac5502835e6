//! The aggregates against plain models: what each command leads to is said again here, in a few
//! lines, without events. And wherever a stream is cut, a snapshot and the events after it give
//! the state that all its events give.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::aggregate::Aggregate;
use super::class::{Class, ClassCommand, ClassDefinition, EffectiveClass};
use super::database::{Database, DatabaseCommand};
use super::document::Document;
use super::ids::Version;
use super::instance::{Instance, InstanceCommand};
use super::testing::{Stream, meta};

/// What is there, since which event, and in which incarnation of what it belongs to.
#[derive(Debug, Clone, PartialEq)]
struct Live<T> {
    since: u64,
    parent: u64,
    content: T,
}

/// A stream: what is there, and how many events led to it.
#[derive(Debug)]
struct Model<T> {
    live: Option<Live<T>>,
    events: u64,
}

/// The words in which something refuses.
struct Words {
    exists: &'static str,
    missing: &'static str,
    /// It belongs to a newer incarnation of its parent than the command was made for.
    overtaken: &'static str,
}

/// A command, whatever it is for.
#[derive(Debug, Clone)]
enum Ask<T, U> {
    Create(T),
    Update(U),
    Delete,
}

impl<T: Clone + PartialEq> Model<T> {
    fn new() -> Self {
        Self {
            live: None,
            events: 0,
        }
    }

    /// How many events a command leads to, or in which words it is refused.
    fn ask<U>(
        &mut self,
        ask: &Ask<T, U>,
        parent: u64,
        words: &Words,
        change: impl Fn(&T, &U) -> T,
    ) -> Result<usize, &'static str> {
        if self.live.as_ref().is_some_and(|live| live.parent > parent) {
            return Err(words.overtaken);
        }
        // What belongs to an older incarnation is as if it were not.
        let there = self.live.clone().filter(|live| live.parent == parent);
        self.live = match (ask, there) {
            (Ask::Create(_), Some(_)) => return Err(words.exists),
            (Ask::Update(_) | Ask::Delete, None) => return Err(words.missing),
            (Ask::Create(content), None) => Some(Live {
                since: self.events + 1,
                parent,
                content: content.clone(),
            }),
            (Ask::Update(by), Some(live)) => {
                let content = change(&live.content, by);
                if content == live.content {
                    return Ok(0);
                }
                Some(Live { content, ..live })
            }
            (Ask::Delete, Some(_)) => None,
        };
        self.events += 1;
        Ok(1)
    }
}

/// The command leads to what the model says it leads to.
fn same<A>(stream: &mut Stream<A>, command: &A::Command, expected: Result<usize, &'static str>)
where
    A: Aggregate + PartialEq + Debug,
    A::Event: Clone + PartialEq + Debug,
{
    let before = stream.state.clone();
    let done = stream.when(command);
    let found = done
        .map(|events| events.len())
        .map_err(|refusal| refusal.code);
    assert_eq!(found, expected);
    if expected != Ok(1) {
        assert_eq!(stream.state, before, "law 6: no change without an event");
    }
}

/// Law 11: a snapshot of any moment is disposable, and so is everything before it.
fn cut<A>(stream: &Stream<A>, at: prop::sample::Index)
where
    A: Aggregate + PartialEq + Debug,
    A::Event: Clone + PartialEq + Debug,
{
    stream.folds_alike();
    let at = at.index(stream.events.len() + 1);
    let mut state = A::default();
    for (number, event) in (1..).zip(&stream.events) {
        state.apply(event.clone(), meta(number));
        if number == at as u64 {
            let snapshot = serde_json::to_vec(&state).unwrap();
            state = serde_json::from_slice(&snapshot).unwrap();
        }
    }
    assert_eq!(state, stream.state);
}

fn ask<T: Debug + Clone, U: Debug + Clone>(
    content: impl Strategy<Value = T>,
    change: impl Strategy<Value = U>,
) -> impl Strategy<Value = Ask<T, U>> {
    prop_oneof![
        3 => content.prop_map(Ask::Create),
        3 => change.prop_map(Ask::Update),
        2 => Just(Ask::Delete),
    ]
}

fn class(label: &str) -> Arc<ClassDefinition> {
    let definition = json!({ "id": "Note", "label": label, "properties": [
        { "name": "a", "type": "string" }, { "name": "b", "type": "string" }] });
    Arc::new(serde_json::from_value(definition).unwrap())
}

type Data = BTreeMap<&'static str, String>;
type Patch = BTreeMap<&'static str, Option<String>>;

const NAMES: [&str; 2] = ["a", "b"];

fn map<T: Into<Value>>(members: impl IntoIterator<Item = (&'static str, T)>) -> Document {
    let members = members.into_iter();
    let members = members.map(|(name, value)| (name.to_owned(), value.into()));
    Document::of(&members.collect::<Map<String, Value>>()).unwrap()
}

fn data() -> impl Strategy<Value = Data> {
    prop::collection::btree_map(prop::sample::select(&NAMES[..]), "[xy]", 0..3)
}

fn patch() -> impl Strategy<Value = Patch> {
    let value = prop::option::of("[xy]");
    prop::collection::btree_map(prop::sample::select(&NAMES[..]), value, 0..3)
}

fn patched(data: &Data, patch: &Patch) -> Data {
    let mut data = data.clone();
    for (name, value) in patch {
        match value {
            Some(value) => data.insert(name, value.clone()),
            None => data.remove(name),
        };
    }
    data
}

proptest! {
    #[test]
    fn laws_6_11_a_database_is_what_its_commands_made_of_it(
        asks in prop::collection::vec(
            prop_oneof![prop::option::of("[a-c]").prop_map(Ask::<_, ()>::Create), Just(Ask::Delete)],
            0..30,
        ),
        at: prop::sample::Index,
    ) {
        let words = Words {
            exists: "database_exists",
            missing: "database_not_found",
            overtaken: "a database belongs to nothing",
        };
        let (mut stream, mut model) = (Stream::<Database>::new(), Model::new());
        for ask in asks {
            let expected = model.ask(&ask, 0, &words, |content, ()| Clone::clone(content));
            let command = match ask {
                Ask::Create(description) => DatabaseCommand::Create { description },
                Ask::Update(()) | Ask::Delete => DatabaseCommand::Delete,
            };
            same(&mut stream, &command, expected);
            let found = stream.state.live().map(|live| Live {
                since: live.incarnation.0,
                parent: 0,
                content: live.description.clone(),
            });
            prop_assert_eq!(&found, &model.live);
        }
        cut(&stream, at);
    }

    #[test]
    fn laws_6_11_a_class_is_what_its_commands_made_of_it(
        asks in prop::collection::vec((ask("[A-C]", "[A-C]"), 1_u64..4), 0..30),
        at: prop::sample::Index,
    ) {
        let words = Words {
            exists: "class_exists",
            missing: "class_not_found",
            overtaken: "database_changed",
        };
        let (mut stream, mut model) = (Stream::<Class>::new(), Model::new());
        for (ask, database) in asks {
            let expected = model.ask(&ask, database, &words, |_, label| Clone::clone(label));
            let database_incarnation = Version(database);
            let command = match &ask {
                Ask::Create(label) => ClassCommand::Create {
                    database_incarnation,
                    definition: class(label),
                },
                Ask::Update(label) => ClassCommand::Update {
                    database_incarnation,
                    definition: class(label),
                },
                Ask::Delete => ClassCommand::Delete { database_incarnation },
            };
            same(&mut stream, &command, expected);
            let found = stream.state.latest().map(|live| Live {
                since: live.incarnation.0,
                parent: live.database_incarnation.0,
                content: live.definition.label.to_string(),
            });
            prop_assert_eq!(&found, &model.live);
        }
        cut(&stream, at);
    }

    #[test]
    fn laws_6_11_an_instance_is_what_its_commands_made_of_it(
        asks in prop::collection::vec((ask(data(), patch()), 1_u64..4), 0..30),
        at: prop::sample::Index,
    ) {
        let words = Words {
            exists: "instance_exists",
            missing: "instance_not_found",
            overtaken: "class_changed",
        };
        let note = Arc::new(EffectiveClass::resolve(&[&class("Note")]).unwrap());
        let (mut stream, mut model) = (Stream::<Instance>::new(), Model::new());
        for (ask, incarnation) in asks {
            let expected = model.ask(&ask, incarnation, &words, patched);
            let (class, class_incarnation) = (note.clone(), Version(incarnation));
            let command = match &ask {
                Ask::Create(data) => InstanceCommand::Create {
                    class,
                    class_incarnation,
                    data: map(data.clone()),
                },
                Ask::Update(patch) => InstanceCommand::Update {
                    class,
                    class_incarnation,
                    patch: map(patch.clone()),
                },
                Ask::Delete => InstanceCommand::Delete { class_incarnation },
            };
            same(&mut stream, &command, expected);
            let found = stream.state.latest();
            let place = found.map(|live| (live.incarnation.0, live.class_incarnation.0));
            let data = found.map(|live| live.data.parse().unwrap());
            prop_assert_eq!(place, model.live.as_ref().map(|live| (live.since, live.parent)));
            let expected = model.live.as_ref().map(|live| map(live.content.clone()));
            prop_assert_eq!(data, expected.map(|data| data.parse().unwrap()));
        }
        cut(&stream, at);
    }
}
