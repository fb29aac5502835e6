//! What a query means, said once more, in the plainest way: the oracle that the SQL is held to.

use std::cmp::Ordering;

use oms::store::ports::read_model::field::{Comparison, Field, Test};
use oms::store::ports::read_model::query::{ClassQuery, Filter, SORT_CHARS};
use oms::store::ports::read_model::sort::SortKey;
use serde_json::{Value, json};

/// An instance.
#[derive(Debug, Clone)]
pub struct Row {
    pub id: String,
    pub version: u64,
    pub created_at: jiff::Timestamp,
    pub updated_at: jiff::Timestamp,
    pub data: Value,
}

/// Ids of the rows that match, in order.
pub fn run(rows: &[Row], query: &ClassQuery) -> Vec<String> {
    let mut found: Vec<&Row> = rows
        .iter()
        .filter(|row| query.filters.iter().all(|filter| matches(filter, row)))
        .collect();
    found.sort_by(|a, b| {
        query
            .sort
            .iter()
            .map(|key| compare(key, a, b))
            .find(|order| order.is_ne())
            .unwrap_or_else(|| a.id.cmp(&b.id))
    });
    found.iter().map(|row| row.id.clone()).collect()
}

/// The field as JSON; times as their microseconds, so that they compare as times.
fn value(field: &Field, row: &Row) -> Option<Value> {
    match field {
        Field::Id => Some(json!(row.id)),
        Field::Version => Some(json!(row.version)),
        Field::CreatedAt => Some(json!(row.created_at.as_microsecond())),
        Field::UpdatedAt => Some(json!(row.updated_at.as_microsecond())),
        Field::Path(path) => path
            .iter()
            .try_fold(&row.data, |value, part| match value {
                Value::Object(members) => members.get(part),
                Value::Array(items) => items.get(part.parse::<usize>().ok()?),
                _ => None,
            })
            .cloned(),
    }
}

fn operand(field: &Field, value: &Value) -> Value {
    match (field, value) {
        (Field::CreatedAt | Field::UpdatedAt, Value::String(text)) => {
            json!(
                text.parse::<jiff::Timestamp>()
                    .expect("a time")
                    .as_microsecond()
            )
        }
        _ => value.clone(),
    }
}

fn matches(filter: &Filter, row: &Row) -> bool {
    let found = value(&filter.field, row);
    let is = |other: &Value| {
        found
            .as_ref()
            .is_some_and(|f| equal(f, &operand(&filter.field, other)))
    };
    match &filter.test {
        Test::Eq(other) => is(other),
        Test::Ne(other) => !is(other),
        Test::In(others) => others.iter().any(is),
        Test::Exists(there) => found.is_some() == *there,
        Test::Order(order, other) => {
            let other = operand(&filter.field, other);
            let ordering = match (&found, &other) {
                (Some(Value::Number(_)), Value::Number(_)) => {
                    found.as_ref().map(|f| decimal(f).cmp(&decimal(&other)))
                }
                (Some(Value::String(a)), Value::String(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
                _ => None,
            };
            ordering.is_some_and(|o| match order {
                Comparison::Gt => o.is_gt(),
                Comparison::Gte => o.is_ge(),
                Comparison::Lt => o.is_lt(),
                Comparison::Lte => o.is_le(),
            })
        }
        Test::Contains(part) => match (&found, part) {
            (Some(Value::String(text)), Value::String(part)) => text.contains(part.as_str()),
            (Some(Value::Array(items)), part) => items.iter().any(|item| equal(item, part)),
            _ => false,
        },
        Test::StartsWith(prefix) => {
            matches!(&found, Some(Value::String(text)) if text.starts_with(prefix.as_str()))
        }
    }
}

/// A number exactly, in units of 10^-10: all that the tests use fits.
fn decimal(value: &Value) -> i128 {
    let text = value.to_string().to_lowercase();
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().expect("a number");
    let power = 10 + exponent.parse::<i32>().expect("an exponent") - fraction.len() as i32;
    digits * 10_i128.pow(power.try_into().expect("a number of at most ten places"))
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(_), Value::Number(_)) => decimal(a) == decimal(b),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| equal(v, w)))
        }
        _ => a == b,
    }
}

fn compare(key: &SortKey, a: &Row, b: &Row) -> Ordering {
    let (a, b) = (value(&key.field, a), value(&key.field, b));
    let (Some(a), Some(b)) = (&a, &b) else {
        // Missing last, either way.
        return a.is_none().cmp(&b.is_none());
    };
    let prefix = |text: &str| text.chars().take(SORT_CHARS).collect::<String>();
    let order = rank(a).cmp(&rank(b)).then_with(|| match (a, b) {
        (Value::Number(_), Value::Number(_)) => decimal(a).cmp(&decimal(b)),
        (Value::String(a), Value::String(b)) if key.field == Field::Id => a.cmp(b),
        (Value::String(a), Value::String(b)) => prefix(a).cmp(&prefix(b)),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        _ => Ordering::Equal,
    });
    if key.descending {
        order.reverse()
    } else {
        order
    }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Number(_) => 1,
        Value::String(_) => 2,
        Value::Bool(_) => 3,
        Value::Null => 4,
        Value::Array(_) => 5,
        Value::Object(_) => 6,
    }
}
