use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::validate::{MAX_PROPERTIES, MAX_RELATIONSHIPS};
use super::*;
use crate::domain::aggregate::DomainEvent;
use crate::domain::ids::{ClassId, Version};
use crate::domain::refusal::Refusal;
use crate::domain::testing::{Stream, golden, meta};

fn definition(json: Value) -> Arc<ClassDefinition> {
    Arc::new(serde_json::from_value(json).unwrap())
}

fn person(label: &str) -> Arc<ClassDefinition> {
    definition(json!({
        "id": "Person", "label": label,
        "properties": [{"name": "name", "type": "string", "required": true}],
    }))
}

fn create(database: u64, label: &str) -> ClassCommand {
    ClassCommand::Create {
        database_incarnation: Version(database),
        definition: person(label),
    }
}

fn update(database: u64, label: &str) -> ClassCommand {
    ClassCommand::Update {
        database_incarnation: Version(database),
        definition: person(label),
    }
}

fn delete(database: u64) -> ClassCommand {
    ClassCommand::Delete {
        database_incarnation: Version(database),
    }
}

#[test]
fn a_class_is_created_updated_and_deleted() {
    let mut class = Stream::<Class>::new();
    let created = class.when(&create(1, "Person")).unwrap();
    assert_eq!(created[0].event_type(), "ClassCreated");
    let updated = class.when(&update(1, "Human")).unwrap();
    assert_eq!(updated[0].event_type(), "ClassUpdated");

    let live = class.state.live(Version(1)).unwrap();
    assert_eq!(live.incarnation, Version(1));
    assert_eq!(live.definition, person("Human"));
    assert_eq!(live.created_at, meta(1).time);
    assert_eq!(live.updated_at, meta(2).time);

    let deleted = class.when(&delete(1)).unwrap();
    assert_eq!(deleted[0].event_type(), "ClassDeleted");
    assert!(class.state.live(Version(1)).is_none());
    class.when(&create(1, "Person")).unwrap();
    let live = class.state.live(Version(1)).unwrap();
    assert_eq!(live.incarnation, Version(4));
    class.folds_alike();
}

#[test]
fn what_is_there_is_not_created_and_what_is_not_is_not_changed() {
    let mut class = Stream::<Class>::new();
    assert_eq!(class.refuses(&update(1, "Person")), "class_not_found");
    assert_eq!(class.refuses(&delete(1)), "class_not_found");
    class.when(&create(1, "Person")).unwrap();
    assert_eq!(class.refuses(&create(1, "Person")), "class_exists");
    class.when(&delete(1)).unwrap();
    assert_eq!(class.refuses(&delete(1)), "class_not_found");
}

#[test]
fn an_update_that_changes_nothing_is_no_event() {
    let mut class = Stream::<Class>::given([create(1, "Person")]);
    assert_eq!(class.when(&update(1, "Person")).unwrap(), vec![]);
    assert_eq!(class.when(&update(1, "Human")).unwrap().len(), 1);
}

#[test]
fn a_class_of_an_older_database_is_as_if_it_were_not() {
    let mut class = Stream::<Class>::given([create(1, "Person")]);
    assert!(class.state.live(Version(3)).is_none());
    assert_eq!(class.refuses(&update(3, "Human")), "class_not_found");
    assert_eq!(class.refuses(&delete(3)), "class_not_found");
    class.when(&create(3, "Human")).unwrap();
    let live = class.state.live(Version(3)).unwrap();
    assert_eq!(
        (live.incarnation, live.created_at),
        (Version(2), meta(2).time)
    );
}

#[test]
fn a_command_for_an_older_database_does_nothing_to_a_newer_class() {
    let mut class = Stream::<Class>::given([create(3, "Person")]);
    for late in [create(1, "Human"), update(1, "Human"), delete(1)] {
        assert_eq!(class.refuses(&late), "database_changed");
    }
}

#[test]
fn a_class_keeps_its_id() {
    let mut class = Stream::<Class>::given([create(1, "Person")]);
    let renamed = ClassCommand::Update {
        database_incarnation: Version(1),
        definition: definition(json!({"id": "Human", "label": "Person"})),
    };
    assert_eq!(class.refuses(&renamed), "validation_failed");
}

#[test]
fn an_unsound_definition_is_refused() {
    let mut class = Stream::<Class>::given([create(1, "Person")]);
    for database_incarnation in [Version(1), Version(2)] {
        let definition = definition(json!({"id": "Person", "label": ""}));
        let unsound = match database_incarnation {
            Version(1) => ClassCommand::Update {
                database_incarnation,
                definition,
            },
            _ => ClassCommand::Create {
                database_incarnation,
                definition,
            },
        };
        assert_eq!(class.refuses(&unsound), "validation_failed");
    }
}

#[test]
fn law_8_golden_bytes_of_class_events() {
    let full = definition(json!({
        "id": "Film", "label": "Film", "description": "Moving pictures", "parent_class": "Work",
        "abstract": true,
        "properties": [{
            "name": "year", "type": "integer", "label": "Year", "required": true, "default": 1.50,
            "constraints": {"min": 1888},
        }],
        "relationships": [{
            "predicate": "director", "target": "Person", "label": "Director",
            "cardinality": "n:m", "inverse": "directed",
        }],
        "metadata": {"z": 1, "a": 2},
    }));
    let text = concat!(
        r#"{"id":"Film","label":"Film","description":"Moving pictures","parent_class":"Work","#,
        r#""abstract":true,"properties":[{"name":"year","type":"integer","label":"Year","#,
        r#""required":true,"default":1.5,"constraints":{"min":1888}}],"#,
        r#""relationships":[{"predicate":"director","target":"Person","label":"Director","#,
        r#""cardinality":"n:m","inverse":"directed"}],"metadata":{"z":1,"a":2}}"#
    );
    golden(
        ClassEvent::Created(aggregate::ClassCreated {
            definition: Arc::clone(&full),
            database_incarnation: Version(3),
        }),
        "ClassCreated",
        &format!(r#"{{"definition":{text},"database_incarnation":3}}"#),
    );
    golden(
        ClassEvent::Updated(aggregate::ClassUpdated {
            definition: definition(json!({"id": "Film", "label": "Film"})),
        }),
        "ClassUpdated",
        r#"{"definition":{"id":"Film","label":"Film","properties":[],"relationships":[]}}"#,
    );
    golden(ClassEvent::Deleted, "ClassDeleted", "{}");
}

/// `code field` of each violation.
fn faults(result: Result<(), Refusal>) -> Vec<String> {
    let violations = result.err().map(|r| r.violations).unwrap_or_default();
    let one = |v: &crate::domain::refusal::Violation| format!("{} {}", v.code, v.field);
    violations.iter().map(one).collect()
}

#[test]
fn definitions_are_checked_as_a_whole() {
    let property = |name: &str| json!({"name": name, "type": "string"});
    let relationship = |name: &str| json!({"predicate": name, "target": "T", "cardinality": "n:1"});
    let table = [
        (json!({"label": "x".repeat(201)}), "max_length label"),
        (json!({"label": "a\0"}), "characters label"),
        (json!({"label": " "}), "required label"),
        (
            json!({"description": "x".repeat(10_001)}),
            "max_length description",
        ),
        (
            json!({"parent_class": "C"}),
            "parent_class_cycle parent_class",
        ),
        (
            json!({"properties": [property("1a")]}),
            "name properties[0].name",
        ),
        (
            json!({"properties": [property("a-b")]}),
            "name properties[0].name",
        ),
        (
            json!({"properties": [property("")]}),
            "name properties[0].name",
        ),
        (
            json!({"properties": [property(&"a".repeat(101))]}),
            "name properties[0].name",
        ),
        (
            json!({"properties": [property("a"), property("b"), property("a")]}),
            "duplicate properties[2].name",
        ),
        (
            json!({"properties": [property("a")], "relationships": [relationship("a")]}),
            "duplicate relationships[0].predicate",
        ),
        (
            json!({"relationships": [relationship("a b")]}),
            "name relationships[0].predicate",
        ),
        (
            json!({"properties": vec![property("a"); MAX_PROPERTIES + 1]}),
            "max_items properties",
        ),
        (
            json!({"relationships": vec![relationship("a"); MAX_RELATIONSHIPS + 1]}),
            "max_items relationships",
        ),
        (
            json!({"metadata": {"m": "x".repeat(300_000)}}),
            "class_too_large class",
        ),
        (
            json!({"metadata": {"$serde_json::private::Number": "1"}}),
            { "reserved_key metadata.$serde_json::private::Number" },
        ),
        (
            json!({"properties": [{"name": "a", "type": "string", "label": "x".repeat(201)}]}),
            "max_length properties[0].label",
        ),
        (
            json!({"properties": [{"name": "a", "type": "integer", "default": "x"}]}),
            "type properties[0].default",
        ),
        (
            json!({"properties": [{"name": "a", "type": "string", "constraints": {"whitelist": ["\0"]}}]}),
            "characters properties[0].constraints.whitelist[0]",
        ),
        (
            json!({"properties": [{"name": "a", "type": "link", "constraints": {"target": "T"}, "default": "x"}]}),
            "default properties[0].default",
        ),
    ];
    for (part, expected) in table {
        let mut whole = json!({"id": "C", "label": "C"});
        crate::domain::merge_patch::merge_value(&mut whole, &part);
        let found = faults(definition(whole).validate());
        assert_eq!(found, [expected], "{part:.80}");
    }
    let most: Vec<Value> = (0..MAX_PROPERTIES)
        .map(|i| property(&format!("p{i}")))
        .collect();
    let whole = json!({"id": "C", "label": "C", "properties": most, "metadata": {"a": null}});
    assert_eq!(definition(whole).validate(), Ok(()));
}

#[test]
fn types_and_patterns_of_a_class_are_bounded() {
    let nested = (0..12).fold(
        json!({"type": "string"}),
        |inner, _| json!({"type": "array", "constraints": {"items": inner}}),
    );
    let deep = json!({
        "id": "C", "label": "C",
        "properties": [{"name": "a", "type": "array", "constraints": nested["constraints"]}],
    });
    let found = faults(definition(deep).validate());
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("depth properties[0].constraints.items"));

    let pattern = json!({"type": "string", "constraints": {"pattern": "a"}});
    let most = crate::domain::property::compile::MAX_PATTERN_COST;
    let schema: serde_json::Map<String, Value> = (0..=most)
        .map(|i| (format!("p{i}"), pattern.clone()))
        .collect();
    let many = json!({
        "id": "C", "label": "C",
        "properties": [{"name": "a", "type": "object", "constraints": {"schema": schema}}],
    });
    let found = faults(definition(many).validate());
    let last = format!("max_items properties[0].constraints.schema.p{most}.constraints.pattern");
    assert_eq!(found, [last]);
}

#[test]
fn unknown_fields_and_forms_are_refused() {
    for bad in [
        json!({"id": "C", "label": "C", "color": "red"}),
        json!({"id": "C", "label": "C", "properties": [{"name": "a", "type": "string", "x": 1}]}),
        json!({"id": "C", "label": "C", "relationships": [{"predicate": "a", "target": "T", "cardinality": "2:3"}]}),
        json!({"id": "1C", "label": "C"}),
        json!({"label": "C"}),
    ] {
        assert!(
            serde_json::from_value::<ClassDefinition>(bad.clone()).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn refusals_about_parents_name_the_classes() {
    let [a, b] = ["A", "B"].map(|id| ClassId::new(id).unwrap());
    let refusal = lineage::cycle(&[&a, &b, &a]);
    assert_eq!(refusal.code, "parent_class_cycle");
    assert!(
        refusal.message.ends_with("A → B → A"),
        "{}",
        refusal.message
    );
    assert_eq!(
        lineage::parent_not_found(&a, &b).code,
        "parent_class_not_found"
    );
    assert_eq!(lineage::too_long(&a).code, "inheritance_too_deep");
}

fn any_command() -> impl Strategy<Value = ClassCommand> {
    let database = 1..4_u64;
    let label = prop_oneof![Just(""), Just("Person"), Just("Human")];
    (0..3, database, label).prop_map(|(kind, database, label)| match kind {
        0 => create(database, label),
        1 => update(database, label),
        _ => delete(database),
    })
}

proptest! {
    #[test]
    fn law_6_any_history_of_a_class_folds_alike(
        commands in prop::collection::vec(any_command(), 0..20),
    ) {
        let mut class = Stream::<Class>::new();
        for command in commands {
            let before = class.state.clone();
            match class.when(&command) {
                Ok(events) => prop_assert_eq!(events.is_empty(), before == class.state),
                Err(_) => prop_assert_eq!(&before, &class.state),
            }
        }
        class.folds_alike();
    }
}
