//! Which queries are refused, and which query a cursor belongs to.

use super::*;
use serde_json::json;

fn parse(spec: Value) -> Result<InstanceQuery, Refusal> {
    InstanceQuery::parse(serde_json::from_value(spec).unwrap())
}

fn fields(spec: Value) -> Vec<String> {
    let refusal = parse(spec).unwrap_err();
    refusal.violations.into_iter().map(|v| v.field).collect()
}

#[test]
fn law_13_queries_are_bounded_and_everything_wrong_is_named_at_once() {
    let spec = json!({
        "filters": [
            {"field": "a..b", "op": "eq", "value": 1},
            {"field": "a", "op": "like", "value": 1},
            {"field": "a", "op": "gt", "value": true},
            {"field": "version", "op": "eq", "value": "x"},
            {"field": "created_at", "op": "gt", "value": "yesterday"},
            {"field": "a", "op": "in", "value": 1},
            {"field": "a", "op": "eq", "value": "nul\u{0}"},
            {"field": "fine", "op": "eq", "value": null},
        ],
        "sort": ["", {"field": "x", "descending": true}],
        "select": ["ok", "."],
        "limit": 0
    });
    assert_eq!(
        fields(spec),
        [
            "filters[0].field",
            "filters[1].op",
            "filters[2].value",
            "filters[3].value",
            "filters[4].value",
            "filters[5].value",
            "filters[6].value",
            "sort[0]",
            "select[1]",
            "limit"
        ]
    );
    let many = |n: usize| vec![json!({"field": "a", "op": "exists"}); n];
    assert!(parse(json!({"filters": many(MAX_FILTERS)})).is_ok());
    assert_eq!(
        fields(json!({"filters": many(MAX_FILTERS + 1)})),
        ["filters"]
    );
    assert_eq!(fields(json!({"limit": MAX_LIMIT + 1})), ["limit"]);
    let values: Vec<usize> = (0..=crate::ports::read_model::field::MAX_IN).collect();
    let too_many = json!({"filters": [{"field": "a", "op": "in", "value": values}]});
    assert_eq!(fields(too_many), ["filters[0].value"]);
}

#[test]
fn a_cursor_serves_its_own_query_only() {
    let db = DatabaseName::new("films").unwrap();
    let (a, b) = (ClassId::new("A").unwrap(), ClassId::new("B").unwrap());
    let first = InstanceQuery::list(Some("-year,title"), None, None).unwrap();
    let cursor = |keys: &[&str]| {
        let keys = keys.iter().map(|k| (*k).to_owned()).collect();
        first.bind(&db, &a).unwrap().cursor(keys, "x".into(), 7)
    };
    let good = ["1", "1999", "", "2", "0", "Alien"];
    let next = |sort, cursor| InstanceQuery::list(sort, Some(5), Some(cursor)).unwrap();
    let bound = next(Some("-year, title"), cursor(&good))
        .bind(&db, &a)
        .unwrap();
    let after = bound.after.unwrap();
    assert_eq!((after.id.as_str(), after.total), ("x", Some(7)));
    assert_eq!(after.keys, good);
    let code = |r: Result<ClassQuery, Refusal>| r.unwrap_err().code;
    let refused = "invalid_cursor";
    assert_eq!(
        code(next(Some("-year,title"), cursor(&good)).bind(&db, &b)),
        refused
    );
    assert_eq!(
        code(next(Some("year,title"), cursor(&good)).bind(&db, &a)),
        refused
    );
    for bad in [
        &good[..5],
        &["1", "1e5", "", "2", "0", "x"],
        &["x", "1", "", "2", "0", "x"],
    ] {
        assert_eq!(
            code(next(Some("-year,title"), cursor(bad)).bind(&db, &a)),
            refused
        );
    }
    for bad in ["", "?", "bm90IGpzb24"] {
        let refusal = InstanceQuery::list(None, None, Some(bad.into())).unwrap_err();
        assert_eq!(refusal.code, refused);
    }
    let page = ListQuery::databases(Some(2), None).unwrap();
    let cursor = page.cursor("films".into());
    let next = ListQuery::databases(None, Some(&cursor)).unwrap();
    assert_eq!(next.after.as_deref(), Some("films"));
    assert!(ListQuery::classes(&db, None, Some(&cursor)).is_err());
}

#[test]
fn select_keeps_what_was_asked_for() {
    let spec = json!({"select": ["a.b", "a.c", "d", "id", "nope.x"]});
    let (db, class) = (
        DatabaseName::new("dbx").unwrap(),
        ClassId::new("C").unwrap(),
    );
    let query = parse(spec).unwrap().bind(&db, &class).unwrap();
    let data = json!({"a": {"b": 1, "c": null, "x": 2}, "d": [3], "nope": 4});
    assert_eq!(
        query.project(data),
        json!({"a": {"b": 1, "c": null}, "d": [3]})
    );
}
