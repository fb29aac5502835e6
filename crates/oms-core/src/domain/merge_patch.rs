//! JSON Merge Patch (RFC 7396), written here to keep the order of members: existing ones keep their
//! places and new ones come last. Takes time linear in document and patch.

use serde_json::map::Entry;
use serde_json::{Map, Value};

/// Patches an object: members of `patch` replace those of the same name, objects are merged
/// recursively, and `null` removes a member.
pub fn merge_object(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    if patch.values().any(Value::is_null) {
        // One pass: removing members one at a time would either reorder or be quadratic.
        target.retain(|name, _| !patch.get(name).is_some_and(Value::is_null));
    }
    for (name, change) in patch {
        if change.is_null() {
            continue;
        }
        match target.entry(name) {
            Entry::Occupied(mut member) => merge_value(member.get_mut(), change),
            Entry::Vacant(place) => {
                let mut value = Value::Null;
                merge_value(&mut value, change);
                place.insert(value);
            }
        }
    }
}

/// Patches any value, as [`merge_object`] does a member.
pub fn merge_value(target: &mut Value, patch: &Value) {
    match (patch, &mut *target) {
        (Value::Object(patch), Value::Object(target)) => merge_object(target, patch),
        (Value::Object(patch), _) => {
            let mut merged = Map::new();
            merge_object(&mut merged, patch);
            *target = Value::Object(merged);
        }
        _ => *target = patch.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 7396, appendix A: original, patch, result.
    const APPENDIX: [[&str; 3]; 15] = [
        [r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#],
        [r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#],
        [r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{}"#],
        [r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#],
        [r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#],
        [r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#],
        [
            r#"{"a":{"b":"c"}}"#,
            r#"{"a":{"b":"d","c":null}}"#,
            r#"{"a":{"b":"d"}}"#,
        ],
        [r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#],
        [r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#],
        [r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#],
        [r#"{"a":"foo"}"#, r#"null"#, r#"null"#],
        [r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#],
        [r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#],
        [r#"[1,2]"#, r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#],
        [
            r#"{}"#,
            r#"{"a":{"bb":{"ccc":null}}}"#,
            r#"{"a":{"bb":{}}}"#,
        ],
    ];

    fn merged(original: &str, patch: &str) -> String {
        let mut value: Value = serde_json::from_str(original).unwrap();
        merge_value(&mut value, &serde_json::from_str(patch).unwrap());
        value.to_string()
    }

    #[test]
    fn the_appendix_of_the_rfc_holds() {
        for [original, patch, result] in APPENDIX {
            assert_eq!(merged(original, patch), result, "{original} + {patch}");
        }
    }

    #[test]
    fn members_keep_their_order_and_numbers_their_text() {
        let original = r#"{"z":1.50,"b":{"y":1,"x":2,"w":3},"a":1e2}"#;
        let patch = r#"{"n":0.10,"b":{"y":null,"v":4},"a":100}"#;
        let result = r#"{"z":1.50,"b":{"x":2,"w":3,"v":4},"a":100,"n":0.10}"#;
        assert_eq!(merged(original, patch), result);
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-c]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-d]", inner, 0..4)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn merging_twice_is_merging_once(mut target in json(), patch in json()) {
            merge_value(&mut target, &patch);
            let once = target.clone();
            merge_value(&mut target, &patch);
            prop_assert_eq!(target, once);
        }
    }
}
