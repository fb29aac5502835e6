use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::domain::testing::{Stream, golden, meta};

fn class(json: Value) -> Arc<EffectiveClass> {
    let definition = serde_json::from_value(json).unwrap();
    Arc::new(EffectiveClass::resolve(&[&definition]).unwrap())
}

fn film() -> Arc<EffectiveClass> {
    class(json!({
        "id": "Film", "label": "Film",
        "properties": [
            {"name": "title", "type": "string", "required": true},
            {"name": "year", "type": "integer"},
            {"name": "rating", "type": "number"},
            {"name": "language", "type": "string", "default": "en"},
            {"name": "extra", "type": "object"},
        ],
        "relationships": [{"predicate": "cast", "target": "Person", "cardinality": "n:m"}],
    }))
}

fn data(json: Value) -> Data {
    as_data(json)
}

fn create(class_incarnation: u64, json: Value) -> InstanceCommand {
    InstanceCommand::Create {
        class: film(),
        class_incarnation: Version(class_incarnation),
        data: data(json),
    }
}

fn update(class_incarnation: u64, json: Value) -> InstanceCommand {
    InstanceCommand::Update {
        class: film(),
        class_incarnation: Version(class_incarnation),
        patch: data(json),
    }
}

fn delete(class_incarnation: u64) -> InstanceCommand {
    InstanceCommand::Delete {
        class_incarnation: Version(class_incarnation),
    }
}

#[test]
fn an_instance_is_created_patched_and_deleted() {
    let mut instance = Stream::<Instance>::new();
    let created = instance.when(&create(1, json!({"title": "M", "year": 1931})));
    assert_eq!(
        created.unwrap(),
        [InstanceEvent::Created(InstanceCreated {
            data: data(json!({"title": "M", "year": 1931, "language": "en"})),
            class_incarnation: Version(1),
        })]
    );
    let patch =
        json!({"year": null, "language": "de", "cast": ["lorre"], "rating": 8, "title": "M"});
    assert_eq!(
        instance.when(&update(1, patch)).unwrap(),
        [InstanceEvent::Updated(InstanceUpdated {
            data: data(json!({"title": "M", "language": "de", "cast": ["lorre"], "rating": 8})),
            changed: ["cast", "language", "rating", "year"]
                .map(str::to_owned)
                .to_vec(),
        })]
    );
    let live = instance.state.live(Version(1)).unwrap();
    assert_eq!(live.incarnation, Version(1));
    assert_eq!(live.created_at, meta(1).time);
    assert_eq!(live.updated_at, meta(2).time);

    assert_eq!(instance.when(&delete(1)).unwrap(), [InstanceEvent::Deleted]);
    assert!(instance.state.live(Version(1)).is_none());
    instance.when(&create(1, json!({"title": "M"}))).unwrap();
    let live = instance.state.live(Version(1)).unwrap();
    assert_eq!(
        (live.incarnation, live.created_at),
        (Version(4), meta(4).time)
    );
    instance.folds_alike();
}

#[test]
fn what_is_there_is_not_created_and_what_is_not_is_not_changed() {
    let mut instance = Stream::<Instance>::new();
    assert_eq!(
        instance.refuses(&update(1, json!({}))),
        "instance_not_found"
    );
    assert_eq!(instance.refuses(&delete(1)), "instance_not_found");
    instance.when(&create(1, json!({"title": "M"}))).unwrap();
    let again = create(1, json!({"title": "M"}));
    assert_eq!(instance.refuses(&again), "instance_exists");
    instance.when(&delete(1)).unwrap();
    assert_eq!(instance.refuses(&delete(1)), "instance_not_found");
}

#[test]
fn a_patch_that_changes_nothing_is_no_event() {
    let mut instance =
        Stream::<Instance>::given([create(1, json!({"title": "M", "extra": {"a": 1}}))]);
    for nothing in [
        json!({}),
        json!({"title": "M"}),
        json!({"year": null}),
        json!({"extra": {}}),
        json!({"extra": {"a": 1, "b": null}}),
    ] {
        assert_eq!(
            instance.when(&update(1, nothing.clone())).unwrap(),
            [],
            "{nothing}"
        );
    }
}

#[test]
fn the_result_of_a_patch_is_checked_as_a_whole() {
    let mut instance = Stream::<Instance>::given([create(1, json!({"title": "M", "year": 1931}))]);
    for bad in [
        json!({"title": null}),
        json!({"title": 1}),
        json!({"year": "1931"}),
        json!({"colour": "none"}),
    ] {
        assert_eq!(
            instance.refuses(&update(1, bad.clone())),
            "validation_failed",
            "{bad}"
        );
    }
    assert_eq!(instance.refuses(&create(2, json!({}))), "validation_failed");
}

#[test]
fn abstract_classes_have_no_new_instances() {
    let abstract_class = class(json!({"id": "Work", "label": "Work", "abstract": true}));
    let mut instance = Stream::<Instance>::new();
    let command = InstanceCommand::Create {
        class: abstract_class,
        class_incarnation: Version(1),
        data: data(json!({})),
    };
    assert_eq!(instance.refuses(&command), "class_is_abstract");
}

#[test]
fn an_instance_of_an_older_class_is_as_if_it_were_not() {
    let mut instance = Stream::<Instance>::given([create(1, json!({"title": "M"}))]);
    assert!(instance.state.live(Version(3)).is_none());
    assert_eq!(
        instance.refuses(&update(3, json!({}))),
        "instance_not_found"
    );
    assert_eq!(instance.refuses(&delete(3)), "instance_not_found");
    instance.when(&create(3, json!({"title": "N"}))).unwrap();
    let live = instance.state.live(Version(3)).unwrap();
    assert_eq!(
        (
            live.incarnation,
            live.data.parse().unwrap()["title"].clone()
        ),
        (Version(2), json!("N"))
    );
}

#[test]
fn a_command_for_an_older_class_does_nothing_to_a_newer_instance() {
    let mut instance = Stream::<Instance>::given([create(3, json!({"title": "M"}))]);
    for late in [
        create(1, json!({"title": "N"})),
        update(1, json!({})),
        delete(1),
    ] {
        assert_eq!(instance.refuses(&late), "class_changed");
    }
}

#[test]
fn an_update_adds_the_defaults_of_properties_required_since() {
    let mut instance = Stream::<Instance>::given([create(1, json!({"title": "M"}))]);
    let stricter = class(json!({
        "id": "Film", "label": "Film",
        "properties": [
            {"name": "title", "type": "string"},
            {"name": "language", "type": "string"},
            {"name": "colour", "type": "boolean", "required": true, "default": true},
            {"name": "sound", "type": "boolean", "default": true},
        ],
    }));
    let patch = |json| InstanceCommand::Update {
        class: Arc::clone(&stricter),
        class_incarnation: Version(1),
        patch: data(json),
    };
    assert_eq!(instance.when(&patch(json!({}))).unwrap(), []);
    let events = instance.when(&patch(json!({"title": "N"}))).unwrap();
    let InstanceEvent::Updated(updated) = &events[0] else {
        panic!("{events:?}");
    };
    assert_eq!(updated.changed, ["colour", "title"]);
    assert_eq!(
        updated.data,
        data(json!({"title": "N", "language": "en", "colour": true}))
    );
    // To remove it is to reset it, which here changes nothing.
    assert_eq!(instance.when(&patch(json!({"colour": null}))).unwrap(), []);
}

#[test]
fn data_is_kept_as_given() {
    let text = r#"{"title":"M","rating":8.50,"year":1931,"extra":{"z":1e+2,"a":0.10}}"#;
    let mut instance = Stream::<Instance>::new();
    let command = InstanceCommand::Create {
        class: film(),
        class_incarnation: Version(1),
        data: serde_json::from_str(text).unwrap(),
    };
    let events = instance.when(&command).unwrap();
    let expected = format!(
        r#"{{"data":{},"language":"en"}},"class_incarnation":1}}"#,
        text.strip_suffix('}').unwrap()
    );
    assert_eq!(events[0].data().unwrap().get(), expected);
    instance.folds_alike();
}

#[test]
fn law_8_golden_bytes_of_instance_events() {
    let content: Data = serde_json::from_str(r#"{"b":1.50,"a":["x"]}"#).unwrap();
    golden(
        InstanceEvent::Created(InstanceCreated {
            data: content.clone(),
            class_incarnation: Version(7),
        }),
        "InstanceCreated",
        r#"{"data":{"b":1.50,"a":["x"]},"class_incarnation":7}"#,
    );
    golden(
        InstanceEvent::Updated(InstanceUpdated {
            data: content,
            changed: vec!["a".to_owned()],
        }),
        "InstanceUpdated",
        r#"{"data":{"b":1.50,"a":["x"]},"changed":["a"]}"#,
    );
    golden(InstanceEvent::Deleted, "InstanceDeleted", "{}");
}

fn any_data() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        (-1e9..1e9).prop_map(Value::from),
        "[a-c/\\x00]{0,2}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        4 => "[a-c]",
        1 => Just("$serde_json::private::Number".to_owned()),
        1 => Just("$serde_json::private::RawValue".to_owned()),
    ];
    let value = leaf.prop_recursive(3, 16, 3, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..3)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    });
    let name = prop::sample::select(vec!["title", "year", "rating", "language", "extra", "cast"]);
    (
        prop::option::weighted(0.8, "[a-c]{1,3}"),
        prop::collection::btree_map(name, value, 0..4),
    )
        .prop_map(|(title, members)| {
            let mut data: Map<String, Value> = members
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v))
                .collect();
            data.extend(title.map(|t| ("title".to_owned(), Value::from(t))));
            Value::Object(data)
        })
}

fn as_data(value: Value) -> Data {
    match value {
        Value::Object(map) => Data::of(&map).unwrap(),
        other => panic!("{other} is no object"),
    }
}

proptest! {
    #[test]
    fn law_6_any_history_of_an_instance_folds_alike(
        commands in prop::collection::vec((0..5, 1..3_u64, any_data()), 0..20),
    ) {
        let class = film();
        let mut instance = Stream::<Instance>::new();
        for (kind, incarnation, json) in commands {
            let class_incarnation = Version(incarnation);
            let class = Arc::clone(&class);
            let data = as_data(json);
            let command = match kind {
                0 | 1 => InstanceCommand::Create { class, class_incarnation, data },
                2 | 3 => InstanceCommand::Update { class, class_incarnation, patch: data },
                _ => InstanceCommand::Delete { class_incarnation },
            };
            let before = instance.state.clone();
            match instance.when(&command) {
                Ok(events) => {
                    prop_assert_eq!(events.is_empty(), before == instance.state);
                    for event in &events {
                        let InstanceEvent::Updated(updated) = event else { continue };
                        prop_assert!(!updated.changed.is_empty());
                        prop_assert!(updated.changed.is_sorted());
                    }
                    if let Some(live) = &instance.state.live {
                        prop_assert!(film().validate(&live.data.parse().unwrap()).is_ok());
                    }
                }
                Err(_) => prop_assert_eq!(&before, &instance.state),
            }
        }
        instance.folds_alike();
    }
}
