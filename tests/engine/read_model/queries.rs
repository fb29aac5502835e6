//! Queries against the oracle, and their pages.

use std::collections::BTreeSet;
use std::sync::Arc;

use oms::domain::ids::{PartitionId, Version};
use oms::log::object::ObjectHash;
use oms::projection::changes::{Changes, State};
use oms::store::adapters::postgres::read_model::PostgresReadModel;
use oms::store::ports::read_model::query::{FilterSpec, QuerySpec};
use oms::store::ports::read_model::sort::{SortKeySpec, SortSpec};
use oms::store::ports::read_model::{Applied, Batch, ClassQuery, InstanceQuery, Move, ReadModel};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::oracle::{self, Row};
use super::world::{PARTITIONS, class, db, model};
use oms_testkit::postgres;

/// One of everything that JSON has, and what is easily mixed up.
fn values() -> Vec<Value> {
    let mut values: Vec<Value> = [
        "0",
        "1",
        "1.0",
        "1.50",
        "-2",
        "1e2",
        "100",
        "12345678901234567890.5",
        "12345678901234567890.4",
        "0.1",
    ]
    .iter()
    .map(|number| serde_json::from_str(number).expect("a number"))
    .collect();
    values.extend([
        json!("1"),
        json!(""),
        json!("a"),
        json!("A"),
        json!("ab%_\\"),
        json!("Ä"),
        json!("2026-01-02T03:04:05Z"),
        json!("x".repeat(300)),
        json!(format!("{}y", "x".repeat(300))),
        json!(true),
        json!(false),
        json!(null),
        json!([]),
        json!([1]),
        json!([1, "a", [1], {"k": 1}, null]),
        json!(["ab%_\\", "1", true]),
        json!({}),
        json!({"k": 1.0}),
        json!({"k": 1, "a": "a"}),
        json!({"k": {"k": "a"}, "0": 1}),
    ]);
    values
}

/// Rows whose property `a` has every value, some without it, and some with a second property.
fn rows() -> Vec<Row> {
    let time = |second: i64| jiff::Timestamp::from_microsecond(second * 1_000_001).expect("a time");
    let row = |i: usize, data: Value| Row {
        id: format!("{}{i}", ["x", "X", "é", "%", "_"][i % 5]),
        version: 1 + (i % 7) as u64,
        created_at: time(1_700_000_000 + (i % 4) as i64),
        updated_at: time(1_700_000_010 + (i % 3) as i64),
        data,
    };
    let mut rows: Vec<Row> = values()
        .into_iter()
        .enumerate()
        .map(|(i, value)| row(i, json!({"a": value, "n": i % 3})))
        .collect();
    for (i, value) in values().into_iter().enumerate() {
        let data = match i % 3 {
            0 => json!({"n": i}),
            1 => json!({"n": value, "k": "v"}),
            _ => json!({"b": {"c": value}, "a": i % 2 == 0}),
        };
        rows.push(row(100 + i, data));
    }
    rows
}

/// A model that holds the rows as the instances of `films/Film`, and others that must not be seen.
async fn filled(rows: &[Row]) -> Arc<PostgresReadModel> {
    let model = model(&postgres::fresh());
    let generations = model.generations(PARTITIONS).await.expect("made");
    let mut changes = Changes::default();
    let state = |row: &Row, parent: u64| State {
        version: Version(row.version),
        incarnation: Some(Version(1)),
        parent: Some(Version(parent)),
        data: Some(row.data.to_string()),
        created_at: Some(row.created_at),
        updated_at: row.updated_at,
    };
    let mut thing = rows[0].clone();
    thing.data = json!({});
    changes.databases.insert("films".into(), state(&thing, 0));
    for class in ["Film", "Other"] {
        let key = ("films".to_owned(), class.to_owned());
        changes.classes.insert(key, state(&thing, 1));
    }
    let key = |class: &str, id: &str| ("films".to_owned(), class.to_owned(), id.to_owned());
    for row in rows {
        changes
            .instances
            .insert(key("Film", &row.id), state(row, 1));
        changes
            .instances
            .insert(key("Other", &row.id), state(row, 1));
        let stale = format!("stale-{}", row.id);
        changes.instances.insert(key("Film", &stale), state(row, 2));
    }
    let batch = Batch {
        generation: generations.live.generation,
        moves: vec![Move {
            partition: PartitionId(0),
            from: 0,
            to: 1,
            before: Some(ObjectHash::NONE),
            after: ObjectHash::NONE,
        }],
        changes,
        parked: vec![],
    };
    assert_eq!(model.apply(batch).await.expect("applied"), Applied::Yes);
    model
}

fn bound(spec: QuerySpec) -> ClassQuery {
    InstanceQuery::parse(spec)
        .expect("a query")
        .bind(&db("films"), &class("Film"))
        .expect("bound")
}

async fn ids(model: &PostgresReadModel, query: &ClassQuery) -> Vec<String> {
    let page = model.instances(query).await.expect("read");
    page.items.into_iter().map(|r| r.id).collect()
}

const FIELDS: [&str; 11] = [
    "a",
    "n",
    "b.c",
    "a.k",
    "a.0",
    "a.k.k",
    "id",
    "version",
    "created_at",
    "updated_at",
    "nope",
];
const OPS: [&str; 10] = [
    "eq",
    "ne",
    "gt",
    "gte",
    "lt",
    "lte",
    "in",
    "contains",
    "starts_with",
    "exists",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_operator_means_what_the_oracle_says() {
    let rows = rows();
    let model = filled(&rows).await;
    let mut operands = values();
    operands.extend([json!("x1"), json!(3), json!("2023-11-14T22:41:42.700002Z")]);
    operands.extend([json!(rows[3].updated_at), json!(rows[3].created_at)]);
    let (mut asked, mut hits) = (0, BTreeSet::new());
    for field in FIELDS {
        for op in OPS {
            for operand in &operands {
                let value = match op {
                    "in" => json!([operand, "ab%_\\", 7]),
                    _ => operand.clone(),
                };
                let filter = FilterSpec {
                    field: field.into(),
                    op: op.into(),
                    value,
                };
                let spec = QuerySpec {
                    filters: vec![filter],
                    limit: Some(1000),
                    ..QuerySpec::default()
                };
                let Ok(query) = InstanceQuery::parse(spec.clone()) else {
                    continue;
                };
                let query = query.bind(&db("films"), &class("Film")).expect("bound");
                let expected = oracle::run(&rows, &query);
                let page = model.instances(&query).await.expect("read");
                let found: Vec<String> = page.items.into_iter().map(|r| r.id).collect();
                assert_eq!(found, expected, "{field} {op} {operand}");
                assert_eq!(page.total, Some(expected.len() as u64));
                assert_eq!(
                    model.count(&query).await.expect("count"),
                    expected.len() as u64
                );
                asked += 1;
                if !expected.is_empty() && expected.len() < rows.len() {
                    hits.insert((field, op));
                }
            }
        }
    }
    assert!(asked > 1500, "{asked}");
    // Every operator was seen to tell rows apart on a property.
    let telling = |op: &&str| hits.contains(&("a", *op)) || hits.contains(&("n", *op));
    assert!(OPS.iter().all(telling), "{hits:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_visit_each_row_once_in_order_under_any_query() {
    let rows = rows();
    let model = filled(&rows).await;
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    for round in 0..120 {
        let filters = (0..rng.random_range(0..3))
            .map(|_| FilterSpec {
                field: (*["a", "n", "b.c", "k"].choose(&mut rng).expect("one")).into(),
                op: (*["ne", "exists"].choose(&mut rng).expect("one")).into(),
                value: json!(rng.random_bool(0.5)),
            })
            .collect();
        let sort = (0..rng.random_range(0..4))
            .map(|_| {
                SortSpec::Full(SortKeySpec {
                    field: (*FIELDS.choose(&mut rng).expect("one")).into(),
                    descending: rng.random_bool(0.5),
                })
            })
            .collect();
        let mut spec = QuerySpec {
            filters,
            sort,
            limit: Some(rng.random_range(1..20)),
            ..QuerySpec::default()
        };
        let expected = oracle::run(&rows, &bound(spec.clone()));
        let mut visited = Vec::new();
        loop {
            let query = bound(spec.clone());
            let page = model.instances(&query).await.expect("read");
            assert_eq!(page.total, Some(expected.len() as u64));
            assert!(page.items.len() <= query.limit as usize);
            visited.extend(page.items.into_iter().map(|r| r.id));
            spec.cursor = page.next_cursor;
            if spec.cursor.is_none() {
                break;
            }
        }
        assert_eq!(visited, expected, "round {round} of seed {seed}: {spec:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_a_page_of_large_rows_ends_early_and_nothing_is_left_out() {
    let large: Vec<Row> = (0..25)
        .map(|i| Row {
            id: format!("{i:02}"),
            data: json!({"text": "y".repeat(1_000_000)}),
            ..rows()[0].clone()
        })
        .collect();
    let model = filled(&large).await;
    let mut spec = QuerySpec {
        limit: Some(1000),
        select: Some(vec!["nothing".into()]),
        ..QuerySpec::default()
    };
    let mut pages = Vec::new();
    let mut visited = Vec::new();
    loop {
        let page = model.instances(&bound(spec.clone())).await.expect("read");
        pages.push(page.items.len());
        visited.extend(
            page.items
                .into_iter()
                .map(|r| (r.id, r.data.get().to_owned())),
        );
        spec.cursor = page.next_cursor;
        if spec.cursor.is_none() {
            break;
        }
    }
    assert!(
        pages.len() > 2 && pages.iter().all(|n| *n <= 10),
        "{pages:?}"
    );
    let expected: Vec<_> = large
        .iter()
        .map(|r| (r.id.clone(), "{}".to_owned()))
        .collect();
    assert_eq!(visited, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_has_no_rows() {
    let model = filled(&rows()).await;
    let query = |name: &str, id: &str| {
        InstanceQuery::default()
            .bind(&db(name), &class(id))
            .expect("bound")
    };
    assert!(!ids(&model, &query("films", "Film")).await.is_empty());
    assert_eq!(ids(&model, &query("films", "Nope")).await, [""; 0]);
    assert_eq!(ids(&model, &query("nope", "Film")).await, [""; 0]);
}
