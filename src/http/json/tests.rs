use proptest::prelude::*;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only read through serde")]
struct Outer {
    name: String,
    #[serde(default)]
    items: Vec<Inner>,
    #[serde(default)]
    data: Option<Box<RawValue>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only read through serde")]
struct Inner {
    n: u64,
}

fn code_of(text: &str) -> &'static str {
    parse::<Value>(text.as_bytes()).unwrap_err().code()
}

fn violation(text: &str) -> (String, &'static str) {
    let body = parse::<Outer>(text.as_bytes()).unwrap_err().into_body();
    assert_eq!(body.status, 422, "{}", body.detail);
    let violation = &body.violations[0];
    (violation.field.clone(), violation.code)
}

#[test]
fn malformed_text_is_named_by_line_and_column() {
    for bad in [
        "",
        "{",
        "nul",
        "{\"a\":1,}",
        "{\"a\":1} x",
        "\"\\q\"",
        "[1 2]",
    ] {
        let problem = parse::<Value>(bad.as_bytes()).unwrap_err();
        assert_eq!(problem.code(), "malformed_json", "{bad}");
        assert_eq!(problem.body().status, 400);
        assert!(problem.body().detail.contains("line 1 column"), "{problem}");
    }
    let problem = parse::<Value>(b"{\n \"a\": \xff}").unwrap_err();
    assert!(
        problem.body().detail.contains("line 2 column 7"),
        "{problem}"
    );
}

#[test]
fn depth_bombs_are_refused_and_the_limit_itself_is_not() {
    let nested = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
    assert!(parse::<Value>(nested(MAX_DEPTH).as_bytes()).is_ok());
    assert_eq!(code_of(&nested(MAX_DEPTH + 1)), "json_too_deep");
    assert_eq!(code_of(&"{\"a\":".repeat(100_000)), "json_too_deep");
    assert_eq!(code_of(&"[".repeat(1_000_000)), "json_too_deep");
}

#[test]
fn counts_are_bounded() {
    let list = |n: usize| format!("[{}0]", "0,".repeat(n - 1));
    assert!(parse::<Value>(list(1_000).as_bytes()).is_ok());
    assert_eq!(code_of(&list(MAX_VALUES + 1)), "json_too_many_values");
    let object = |n: usize| {
        let members: Vec<String> = (0..n).map(|i| format!("\"k{i}\":0")).collect();
        format!("{{{}}}", members.join(","))
    };
    assert!(parse::<Value>(object(MAX_MEMBERS).as_bytes()).is_ok());
    assert_eq!(code_of(&object(MAX_MEMBERS + 1)), "json_too_many_values");
}

#[test]
fn duplicate_keys_are_refused_at_any_depth_and_in_disguise() {
    assert_eq!(code_of(r#"{"a":1,"a":2}"#), "duplicate_key");
    assert_eq!(code_of(r#"{"x":[{"a":1,"b":{},"a":2}]}"#), "duplicate_key");
    assert_eq!(code_of(r#"{"a":1,"\u0061":2}"#), "duplicate_key");
    for fine in [
        r#"{"a":{"a":1},"b":{"a":1}}"#,
        r#"[{"a":1},{"a":2}]"#,
        r#"{"a":"a","b":"a"}"#,
        r#"{"a":["a","a"]}"#,
    ] {
        assert!(parse::<Value>(fine.as_bytes()).is_ok(), "{fine}");
    }
}

#[test]
fn what_postgresql_could_not_store_is_refused_at_the_door() {
    assert_eq!(code_of(r#"{"a":"x\u0000"}"#), "unsupported_character");
    assert_eq!(code_of(r#"{"a":"\ud800"}"#), "unsupported_character");
    assert_eq!(code_of(r#"{"a":"\ud800\u0041"}"#), "unsupported_character");
    assert_eq!(code_of(r#"{"a":"\udc00"}"#), "unsupported_character");
    assert_eq!(code_of("1e10000"), "number_out_of_range");
    assert_eq!(code_of("[-1E-99999999999999]"), "number_out_of_range");
    assert_eq!(code_of(&"9".repeat(101)), "number_out_of_range");
    for fine in [
        r#""\ud83d\ude00""#,
        r#""\\u0000""#,
        "1e9999",
        "-0.5E+10",
        r#""1e99999""#,
    ] {
        assert!(parse::<Value>(fine.as_bytes()).is_ok(), "{fine}");
    }
}

#[test]
fn serdes_own_marks_cannot_be_smuggled_in() {
    let bad = r#"{"$serde_json::private::Number":"1"}"#;
    assert_eq!(code_of(bad), "unsupported_character");
    let disguised = r#"{"\u0024serde_json::private::RawValue":"{}"}"#;
    assert_eq!(code_of(disguised), "unsupported_character");
}

#[test]
fn the_field_at_fault_is_named() {
    let at = |field: &str, code: &'static str| (field.to_owned(), code);
    assert_eq!(violation(r#"{"name":1}"#), at("name", "type"));
    assert_eq!(violation(r#"{}"#), at("name", "required"));
    assert_eq!(
        violation(r#"{"name":"a","nam":1}"#),
        at("nam", "unknown_field")
    );
    assert_eq!(
        violation(r#"{"name":"a","items":[{"n":1},{"n":"x"}]}"#),
        at("items[1].n", "type")
    );
    assert_eq!(
        violation(r#"{"name":"a","items":[{"n":1},{}]}"#),
        at("items[1].n", "required")
    );
    assert_eq!(
        violation(r#"{"name":"a","items":[{"n":1,"m":2}]}"#),
        at("items[0].m", "unknown_field")
    );
    assert_eq!(
        violation(r#"{"name":"a","items":[{"n":-1}]}"#).0,
        "items[0].n"
    );
    for not_an_object in [r#"["a"]"#, "1", "null", "\"a\""] {
        let problem = parse_object::<Outer>(not_an_object.as_bytes()).unwrap_err();
        assert_eq!(problem.code(), "validation_failed", "{not_an_object}");
    }
    assert_eq!(
        parse_object::<Outer>(b"[1").unwrap_err().code(),
        "malformed_json"
    );
}

#[test]
fn raw_values_are_kept_as_given() {
    let text = r#"{"name":"a","data":{"n":1.50, "s":"\u00e9"}}"#;
    let outer: Outer = parse(text.as_bytes()).unwrap();
    assert_eq!(outer.data.unwrap().get(), r#"{"n":1.50, "s":"\u00e9"}"#);
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[^\u{0}]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[^\u{0}]{0,6}", inner, 0..6)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_honest_document_is_refused(value in json(), pretty in any::<bool>()) {
        let text = if pretty {
            serde_json::to_string_pretty(&value)
        } else {
            serde_json::to_string(&value)
        }.unwrap();
        prop_assert_eq!(parse::<Value>(text.as_bytes()).unwrap(), value);
    }

    #[test]
    fn no_text_makes_the_scan_panic(bytes in prop::collection::vec(
        prop_oneof![Just(b'"'), Just(b'\\'), Just(b'u'), Just(b'{'), Just(b'd'), Just(b'8'),
            Just(b','), Just(b':'), Just(b'['), Just(b'e'), any::<u8>()], 0..40)) {
        let _ = parse::<Value>(&bytes);
    }
}
