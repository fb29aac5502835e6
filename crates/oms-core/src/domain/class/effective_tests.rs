use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::domain::property::KINDS;

fn definition(json: Value) -> ClassDefinition {
    serde_json::from_value(json).unwrap()
}

fn data(json: Value) -> Arc<Map<String, Value>> {
    Arc::new(serde_json::from_value(json).unwrap())
}

/// `code field` of each violation.
fn faults(class: &EffectiveClass, value: Value) -> Vec<String> {
    let violations = class
        .validate(&data(value))
        .err()
        .map(|r| r.violations)
        .unwrap_or_default();
    violations
        .iter()
        .map(|v| format!("{} {}", v.code, v.field))
        .collect()
}

fn work_and_film() -> (ClassDefinition, ClassDefinition) {
    let work = definition(json!({
        "id": "Work", "label": "Work", "abstract": true,
        "properties": [
            {"name": "title", "type": "string", "required": true},
            {"name": "year", "type": "integer", "constraints": {"min": 0}},
            {"name": "language", "type": "string", "default": "en"},
        ],
        "relationships": [
            {"predicate": "creator", "target": "Person", "cardinality": "n:1"},
            {"predicate": "sequel", "target": "Work", "cardinality": "1:1"},
        ],
    }));
    let film = definition(json!({
        "id": "Film", "label": "Film", "parent_class": "Work",
        "properties": [
            {"name": "year", "type": "integer", "required": true, "constraints": {"min": 1888}},
            {"name": "creator", "type": "string"},
        ],
        "relationships": [{"predicate": "cast", "target": "Person", "cardinality": "n:m"}],
    }));
    (work, film)
}

#[test]
fn a_child_inherits_and_overrides_by_name() {
    let (work, film) = work_and_film();
    let class = EffectiveClass::resolve(&[&film, &work]).unwrap();
    assert!(!class.is_abstract());
    let names: Vec<&str> = class.field_names().collect();
    assert_eq!(
        names,
        ["year", "creator", "cast", "title", "language", "sequel"]
    );
    assert_eq!(
        faults(&class, json!({})),
        ["required data.year", "required data.title"]
    );
    assert_eq!(
        faults(&class, json!({"title": "A", "year": 1887})),
        ["min data.year"]
    );
    // The child's property hides the parent's relationship, which would be an instance's id.
    assert!(
        faults(
            &class,
            json!({"title": "A", "year": 1900, "creator": "a/b"})
        )
        .is_empty()
    );

    let class = EffectiveClass::resolve(&[&work]).unwrap();
    assert!(class.is_abstract());
    assert!(faults(&class, json!({"title": "A", "year": 1})).is_empty());
}

#[test]
fn unknown_properties_are_refused() {
    let (work, _) = work_and_film();
    let class = EffectiveClass::resolve(&[&work]).unwrap();
    let found = faults(&class, json!({"title": "A", "titel": "B", "": 1}));
    assert_eq!(
        found,
        ["unknown_property data.titel", "unknown_property data."]
    );
}

#[test]
fn defaults_are_filled_in_where_something_is_missing() {
    let class = EffectiveClass::resolve(&[&definition(json!({
        "id": "C", "label": "C", "properties": [
            {"name": "a", "type": "integer", "default": 1, "required": true},
            {"name": "b", "type": "integer", "default": 2},
        ],
    }))])
    .unwrap();
    let given = data(json!({"b": 5}));
    assert_eq!(
        class.complete(&given, Defaults::All),
        data(json!({"b": 5, "a": 1}))
    );
    let given = data(json!({}));
    assert_eq!(
        class.complete(&given, Defaults::All),
        data(json!({"a": 1, "b": 2}))
    );
    assert_eq!(
        class.complete(&given, Defaults::Required),
        data(json!({"a": 1}))
    );
    let whole = data(json!({"a": 0, "b": 0}));
    assert!(Arc::ptr_eq(&class.complete(&whole, Defaults::All), &whole));
}

#[test]
fn relationships_lead_to_one_instance_or_to_several() {
    let relationship = |cardinality: &str| {
        let name = format!("r{}", cardinality.replace(':', "_"));
        json!({"predicate": name, "target": "T", "cardinality": cardinality})
    };
    let class = EffectiveClass::resolve(&[&definition(json!({
        "id": "C", "label": "C",
        "relationships": (["1:1", "n:1", "1:n", "n:m"].map(relationship)),
    }))])
    .unwrap();
    for one in ["r1_1", "rn_1"] {
        assert!(faults(&class, json!({one: "x"})).is_empty());
        assert_eq!(
            faults(&class, json!({one: ["x"]})),
            [format!("cardinality data.{one}")]
        );
    }
    for many in ["r1_n", "rn_m"] {
        assert!(faults(&class, json!({many: "x"})).is_empty());
        assert!(faults(&class, json!({many: ["x", "y"]})).is_empty());
        assert!(faults(&class, json!({many: []})).is_empty());
        let twice = faults(&class, json!({many: ["x", "y", "x"]}));
        assert_eq!(twice, [format!("unique data.{many}[2]")]);
        let odd = faults(&class, json!({many: ["x", 1, "a/b"]}));
        assert_eq!(
            odd,
            [
                format!("type data.{many}[1]"),
                format!("type data.{many}[2]")
            ]
        );
    }
    assert_eq!(
        faults(&class, json!({"r1_1": 7, "r1_n": {}})),
        ["type data.r1_1", "type data.r1_n"]
    );
    let ids: Vec<String> = (0..=MAX_LINKS).map(|i| i.to_string()).collect();
    assert_eq!(faults(&class, json!({"r1_n": ids})), ["max_links data"]);
}

#[test]
fn link_targets_are_found_wherever_they_are() {
    let link = json!({"type": "link", "constraints": {"target": "Tag"}});
    let class = EffectiveClass::resolve(&[&definition(json!({
        "id": "C", "label": "C",
        "properties": [
            {"name": "home", "type": "link", "constraints": {"target": "Place"}},
            {"name": "loose", "type": "link"},
            {"name": "tags", "type": "array", "constraints": {"items": link}},
            {"name": "box", "type": "object", "constraints": {"schema": {"tag": link}}},
            {"name": "text", "type": "string"},
        ],
        "relationships": [
            {"predicate": "friends", "target": "Person", "cardinality": "n:m"},
            {"predicate": "boss", "target": "Person", "cardinality": "n:1"},
        ],
    }))])
    .unwrap();
    let targets = class.link_targets(&data(json!({
        "home": "berlin", "loose": "x", "tags": ["a", "b"], "box": {"tag": "c", "other": "d"},
        "text": "x", "friends": ["ann", "bob"], "boss": "eve", "unknown": "x",
    })));
    let found: Vec<String> = targets
        .iter()
        .map(|t| format!("{} {}/{}", t.field, t.class, t.id))
        .collect();
    assert_eq!(
        found,
        [
            "data.home Place/berlin",
            "data.tags[0] Tag/a",
            "data.tags[1] Tag/b",
            "data.box.tag Tag/c",
            "data.friends[0] Person/ann",
            "data.friends[1] Person/bob",
            "data.boss Person/eve",
        ]
    );
    // Of the wrong shape, or a patch that removes: nothing to look up.
    let odd = data(json!({
        "home": null, "tags": "a", "box": [1], "friends": [1, "a/b", null], "boss": ["eve", ""],
    }));
    assert_eq!(class.link_targets(&odd)[0].field, "data.boss[0]");
    assert_eq!(class.link_targets(&odd).len(), 1);
}

#[test]
fn a_stored_definition_that_is_unsound_refuses_instances() {
    for properties in [
        json!([{"name": "a", "type": "telepathy"}]),
        json!([{"name": "a", "type": "string"}, {"name": "a", "type": "string"}]),
    ] {
        let class = definition(json!({"id": "C", "label": "C", "properties": properties}));
        let refusal = EffectiveClass::resolve(&[&class]).unwrap_err();
        assert_eq!(refusal.code, "class_definition_invalid");
        assert_eq!(refusal.violations.len(), 1);
    }
    assert!(EffectiveClass::resolve(&[]).is_err());
}

#[test]
fn open_values_are_bounded_and_storable() {
    let class = EffectiveClass::resolve(&[&definition(json!({
        "id": "C", "label": "C", "properties": [
            {"name": "o", "type": "object"}, {"name": "a", "type": "array"},
        ],
    }))])
    .unwrap();
    let deep = |levels| (0..levels).fold(json!(1), |inner, _| json!({"k": inner}));
    assert!(faults(&class, json!({"o": deep(31)})).is_empty());
    assert!(faults(&class, json!({"o": deep(32)}))[0].starts_with("depth data.o.k.k"));
    let mut reserved = Map::new();
    reserved.insert("$serde_json::private::Number".to_owned(), json!("1"));
    // Not by way of text or `json!`: on either the key would already have had its effect.
    let items = Value::Array(vec![Value::Object(reserved)]);
    let refusal = class
        .validate(&Map::from_iter([("a".to_owned(), items)]))
        .unwrap_err();
    assert_eq!(refusal.violations[0].code, "reserved_key");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop_oneof![
            "[0-9]{1,3}(\\.[0-9]{1,3}){3}",
            "[0-9]{4}-[01][0-9]-[0-3][0-9](T[0-2][0-9]:[0-5][0-9]:[0-6][0-9](\\.[0-9]{0,10})?(Z|[+-][0-9]{2}:[0-9]{2}))?",
            "[a-z]{1,5}://[a-z@.:/\\[\\]]{0,20}",
            "-?[0-9.]{1,6}[ ,][A-Z0-9.]{1,4}",
            "[a-z\"@.<> \\[\\]]{0,12}@[a-z.\\[\\]]{0,8}",
        ]
        .prop_map(Value::from),
    ];
    let key = prop_oneof!["[a-z_]{1,8}", ".{0,4}"];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

/// Classes of a chain, each the child of the next, with the properties that `property` makes.
fn chain(classes: usize, each: usize, property: impl Fn(&str) -> Value) -> Vec<ClassDefinition> {
    let class = |c: usize| {
        let names = (0..each).map(|p| format!("p{c}_{p}"));
        definition(json!({
            "id": format!("C{c}"), "label": "C",
            "properties": names.map(|name| property(&name)).collect::<Vec<_>>(),
        }))
    };
    (0..classes).map(class).collect()
}

#[test]
fn law_13_a_chain_of_classes_has_one_budget() {
    let usual = |name: &str| {
        let pattern = format!("^[A-Za-z0-9]{{1,100}}{name}$");
        json!({"name": name, "type": "string", "constraints": {"pattern": pattern}})
    };
    let large = |name: &str| {
        let pattern = format!("^\\w{{3,50}}{name}$");
        json!({"name": name, "type": "string", "constraints": {"pattern": pattern}})
    };
    let zeros = |name: &str| json!({"name": name, "type": "array", "default": vec![0; 60_000]});
    for too_much in [
        chain(31, 64, usual),
        chain(31, 3, large),
        chain(20, 1, zeros),
    ] {
        assert!(too_much.iter().all(|class| class.validate().is_ok()));
        let all: Vec<&ClassDefinition> = too_much.iter().collect();
        let refusal = EffectiveClass::resolve(&all).unwrap_err();
        assert_eq!(refusal.code, "class_chain_too_large");
        assert_eq!(refusal.violations[0].field, "properties");
        let limit = MAX_CHAIN_BYTES.to_string();
        assert!(refusal.message.contains(&limit), "{refusal}");
    }
    // What is usual fits many times over, and is weighed.
    for enough in [chain(31, 10, usual), chain(2, 3, large), chain(3, 1, zeros)] {
        let all: Vec<&ClassDefinition> = enough.iter().collect();
        let class = EffectiveClass::resolve(&all).unwrap();
        assert!(class.memory_bytes() > 1 << 20, "{}", class.memory_bytes());
        assert!(class.memory_bytes() <= MAX_CHAIN_BYTES);
    }
}

fn any_constraints() -> impl Strategy<Value = Map<String, Value>> {
    let keys = prop::sample::select(vec![
        "min",
        "max",
        "min_length",
        "pattern",
        "format",
        "values",
        "items",
        "item_type",
        "schema",
        "required",
        "version",
        "allowed_domains",
        "allowed_ranges",
        "bounding_box",
        "precision",
        "max_size",
        "target",
        "multiple_of",
        "unique",
        "additional_properties",
        "decimal_places",
    ]);
    prop::collection::btree_map(keys, any_json(), 0..4)
        .prop_map(|m| m.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
}

proptest! {
    #[test]
    fn no_value_and_no_constraint_makes_a_validator_panic(
        kind in prop::sample::select(KINDS.to_vec()),
        constraints in prop::option::of(any_constraints()),
        values in prop::collection::vec(any_json(), 1..8),
    ) {
        let mut class = definition(json!({
            "id": "C", "label": "C", "properties": [{"name": "p", "type": kind}],
        }));
        class.properties[0].constraints = constraints;
        let sound = class.validate().is_ok();
        let resolved = EffectiveClass::resolve(&[&class]);
        prop_assert!(resolved.is_ok() || !sound);
        if let Ok(resolved) = resolved {
            for value in values {
                let instance = data(json!({"p": value}));
                let _ = resolved.link_targets(&instance);
                if resolved.validate(&instance).is_ok() {
                    let text = serde_json::to_string(&instance).unwrap();
                    prop_assert_eq!(&serde_json::from_str::<Value>(&text).unwrap()["p"], &value);
                }
            }
        }
    }
}
