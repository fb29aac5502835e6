//! The real data that the demo loads; `data/README.md` names origin and licence.

use anyhow::Context;
use serde_json::{Map, Value};

const EARTHQUAKES: &str = include_str!("../../../data/earthquakes.jsonl");
const WILDLIFE_STRIKES: &str = include_str!("../../../data/wildlife-strikes.jsonl");

/// One record, from which an instance is created.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub id: String,
    /// Its fields without missing values.
    pub data: Map<String, Value>,
}

#[derive(Debug, Clone)]
pub struct DataSet {
    /// The class that is created for the records.
    pub class: &'static str,
    /// The name shown.
    pub label: &'static str,
    /// Origin and licence in one line.
    pub description: &'static str,
    pub records: Vec<Record>,
}

/// Both data sets, cut to `limit` records in total in proportion to their sizes.
pub fn load(limit: Option<usize>) -> anyhow::Result<Vec<DataSet>> {
    let mut sets = vec![
        DataSet {
            class: "Earthquake",
            label: "Earthquake",
            description: "Seismic events of one week, U.S. Geological Survey (public domain)",
            records: parse(EARTHQUAKES)?,
        },
        DataSet {
            class: "WildlifeStrike",
            label: "Wildlife strike",
            description: "Wildlife strikes on aircraft, U.S. FAA (public domain)",
            records: parse(WILDLIFE_STRIKES)?,
        },
    ];
    let total: usize = sets.iter().map(|s| s.records.len()).sum();
    if let Some(limit) = limit {
        for set in &mut sets {
            let share = set.records.len() * limit / total;
            set.records.truncate(share.max(1));
        }
    }
    Ok(sets)
}

/// Line 0 lists the field names, of which the first is the id; every further line is a record.
fn parse(text: &str) -> anyhow::Result<Vec<Record>> {
    let mut lines = text.lines();
    let fields: Vec<String> = serde_json::from_str(lines.next().context("no field names")?)?;
    lines
        .enumerate()
        .map(|(i, line)| {
            let values: Vec<Value> = serde_json::from_str(line)?;
            anyhow::ensure!(
                values.len() == fields.len(),
                "record {i} has {} values",
                values.len()
            );
            let mut named = fields.iter().cloned().zip(values);
            let (_, id) = named.next().context("a record without fields")?;
            let id = id.as_str().context("an id that is not a text")?.to_owned();
            let data = named.filter(|(_, value)| !value.is_null()).collect();
            Ok(Record { id, data })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_data_is_whole_and_its_ids_are_unique() {
        for set in load(None).unwrap() {
            let ids: HashSet<&str> = set.records.iter().map(|r| r.id.as_str()).collect();
            assert_eq!(ids.len(), set.records.len(), "{}", set.class);
            assert!(ids.len() > 1000, "{}", set.class);
            let fields = |r: &Record| r.data.len();
            let (least, most) = (
                set.records.iter().map(fields).min(),
                set.records.iter().map(fields).max(),
            );
            assert!(least < most, "no record of {} misses a value", set.class);
        }
    }

    #[test]
    fn a_limit_takes_a_share_of_each() {
        let sets = load(Some(100)).unwrap();
        let sizes: Vec<usize> = sets.iter().map(|s| s.records.len()).collect();
        assert!(
            sizes.iter().all(|n| *n > 0) && sizes.iter().sum::<usize>() <= 100,
            "{sizes:?}"
        );
    }
}
