//! Infers a class from records: types, required properties and constraints that no record
//! contradicts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::data::{DataSet, Record};

/// A text property with at most this many different values becomes an enumeration…
const MAX_ENUM_VALUES: usize = 12;
/// …if each value occurs this often on average, so that names that repeat by chance do not.
const MIN_ENUM_REPEATS: usize = 20;

/// The definition of a class that all records of `set` fit.
pub fn class(set: &DataSet) -> anyhow::Result<Value> {
    let mut columns: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for (name, value) in set.records.iter().flat_map(|r| &r.data) {
        columns.entry(name).or_default().push(value);
    }
    let properties: Vec<Value> = order(&set.records)
        .into_iter()
        .filter_map(|name| Some(property(name, columns.get(name)?, set.records.len())))
        .collect::<anyhow::Result<_>>()?;
    Ok(json!({
        "id": set.class,
        "label": set.label,
        "description": set.description,
        "properties": properties,
    }))
}

/// Property names in the order in which the records have them.
fn order(records: &[Record]) -> Vec<&str> {
    let mut seen = BTreeSet::new();
    let names = records.iter().flat_map(|r| r.data.keys());
    names
        .map(String::as_str)
        .filter(|n| seen.insert(*n))
        .collect()
}

fn property(name: &str, values: &[&Value], records: usize) -> anyhow::Result<Value> {
    let mut constraints = Map::new();
    let kind = if let Some(texts) = all(values, Value::as_str) {
        text(&texts, &mut constraints)
    } else if values.iter().all(|v| v.is_boolean()) {
        "boolean"
    } else if let Some(numbers) = all(values, Value::as_f64) {
        if numbers.iter().all(|n| *n >= 0.0) {
            constraints.insert("min".to_owned(), json!(0));
        }
        if values.iter().all(|v| v.is_i64() || v.is_u64()) {
            "integer"
        } else {
            "number"
        }
    } else {
        anyhow::bail!("`{name}` holds values of several kinds, or lists or tables");
    };
    let mut property = json!({ "name": name, "type": kind });
    if values.len() == records {
        property["required"] = json!(true);
    }
    if !constraints.is_empty() {
        property["constraints"] = Value::Object(constraints);
    }
    Ok(property)
}

fn text(texts: &[&str], constraints: &mut Map<String, Value>) -> &'static str {
    if all(texts, |t| t.parse::<jiff::civil::Date>().ok()).is_some()
        && texts.iter().all(|t| t.len() == "2000-01-01".len())
    {
        return "date";
    }
    if all(texts, |t| t.parse::<jiff::Timestamp>().ok()).is_some() {
        return "datetime";
    }
    let distinct: BTreeSet<&str> = texts.iter().copied().collect();
    if distinct.len() <= MAX_ENUM_VALUES && texts.len() >= distinct.len() * MIN_ENUM_REPEATS {
        constraints.insert("values".to_owned(), json!(distinct));
        return "enum";
    }
    let longest = texts.iter().map(|t| t.chars().count()).max().unwrap_or(0);
    // Twice the longest, because a later record may be a little longer.
    let bound = (longest * 2).next_power_of_two();
    constraints.insert("max_length".to_owned(), json!(bound));
    "string"
}

/// Every value seen as a `T`; `None` if one cannot be.
fn all<'a, S, T>(values: &'a [&'a S], see: impl Fn(&'a S) -> Option<T>) -> Option<Vec<T>>
where
    S: ?Sized,
{
    values.iter().map(|value| see(value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inferred(records: &[Value]) -> anyhow::Result<BTreeMap<String, Value>> {
        let records = records.iter().enumerate().map(|(i, data)| Record {
            id: i.to_string(),
            data: data.as_object().unwrap().clone(),
        });
        let set = DataSet {
            class: "Thing",
            label: "Thing",
            description: "",
            records: records.collect(),
        };
        let class = class(&set)?;
        let properties = class["properties"].as_array().unwrap();
        let named = properties
            .iter()
            .map(|p| (p["name"].as_str().unwrap().to_owned(), p.clone()));
        Ok(named.collect())
    }

    #[test]
    fn types_required_and_constraints_come_from_the_values() {
        let records: Vec<Value> = (0..40)
            .map(|i| {
                json!({ "n": i, "x": -0.5, "mixed": if i == 7 { json!(1.5) } else { json!(2) },
                    "name": format!("thing {i}"), "kind": (if i % 2 == 0 { "a" } else { "b" }), "ok": true,
                    "day": "2001-02-03", "at": "2001-02-03T04:05:06Z" })
            })
            .chain([json!({ "n": 3, "kind": "a" })])
            .collect();
        let found = inferred(&records).unwrap();
        let kind = |name: &str| found[name]["type"].as_str().unwrap().to_owned();
        let kinds = ["n", "x", "mixed", "name", "kind", "ok", "day", "at"].map(kind);
        let expected = [
            "integer", "number", "number", "string", "enum", "boolean", "date", "datetime",
        ];
        assert_eq!(kinds, expected);
        assert_eq!(found["n"]["required"], true);
        assert_eq!(found["x"]["required"], Value::Null);
        assert_eq!(found["n"]["constraints"]["min"], 0);
        assert_eq!(found["x"]["constraints"], Value::Null);
        assert_eq!(found["kind"]["constraints"]["values"], json!(["a", "b"]));
    }

    #[test]
    fn values_of_several_kinds_are_not_forced_into_one() {
        let mixed = inferred(&[json!({ "a": 1 }), json!({ "a": "x" })]);
        assert!(mixed.is_err(), "{mixed:?}");
    }
}
