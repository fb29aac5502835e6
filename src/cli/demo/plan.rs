//! The requests of the demo, and the state that they must lead to.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::data::{DataSet, Record};

/// Operations of one request: large enough to be quick, small enough that a kill hits many
/// requests.
pub const BATCH: usize = 100;

/// Earthquakes whose status is corrected after loading, at most.
const CORRECTIONS: usize = 50;
/// Wildlife strikes that are deleted after loading, at most.
const WITHDRAWALS: usize = 25;

/// State of instances by class and id.
pub type State = BTreeMap<(String, String), Map<String, Value>>;

/// One request for a batch of operations on a class.
#[derive(Debug, Clone)]
pub struct Batch {
    pub class: &'static str,
    /// Idempotency key, the same when the batch is repeated.
    pub key: String,
    pub operations: Vec<Value>,
}

/// All requests.
#[derive(Debug)]
pub struct Plan {
    /// Requests that create every instance.
    pub load: Vec<Batch>,
    /// Requests that then change some.
    pub change: Vec<Batch>,
    pub expected: State,
}

impl Plan {
    /// A plan for these data sets; `run` makes its keys unique to this run.
    pub fn new(sets: &[DataSet], run: &str) -> Self {
        let mut plan = Self {
            load: Vec::new(),
            change: Vec::new(),
            expected: State::new(),
        };
        for set in sets {
            let create = set
                .records
                .iter()
                .map(|r| json!({ "op": "create", "id": r.id, "data": r.data }));
            plan.load
                .extend(batches(set.class, run, "load", create.collect()));
            for Record { id, data } in &set.records {
                plan.expected
                    .insert((set.class.to_owned(), id.clone()), data.clone());
            }
        }
        plan.correct(sets, run);
        plan.withdraw(sets, run);
        plan
    }

    /// Number of operations in both parts.
    pub fn operations(&self) -> usize {
        let all = self.load.iter().chain(&self.change);
        all.map(|batch| batch.operations.len()).sum()
    }

    /// Changes that an analyst could make after review: some records are corrected, some deleted.
    fn correct(&mut self, sets: &[DataSet], run: &str) {
        for set in sets {
            let automatic = |r: &&Record| r.data.get("status") == Some(&json!("automatic"));
            let corrected = set.records.iter().filter(automatic).take(CORRECTIONS);
            let mut operations = Vec::new();
            for Record { id, .. } in corrected {
                let patch = json!({ "status": "reviewed" });
                operations
                    .push(json!({ "op": "update", "id": id, "data": patch, "if_version": 1 }));
                let key = (set.class.to_owned(), id.clone());
                if let Some(state) = self.expected.get_mut(&key) {
                    state.insert("status".to_owned(), json!("reviewed"));
                }
            }
            self.change
                .extend(batches(set.class, run, "correct", operations));
        }
    }

    fn withdraw(&mut self, sets: &[DataSet], run: &str) {
        for set in sets.iter().filter(|s| s.class == "WildlifeStrike") {
            let mut operations = Vec::new();
            // At most a tenth, so that a small demo keeps some.
            for Record { id, .. } in set
                .records
                .iter()
                .take(WITHDRAWALS.min(set.records.len() / 10))
            {
                operations.push(json!({ "op": "delete", "id": id, "if_version": 1 }));
                self.expected.remove(&(set.class.to_owned(), id.clone()));
            }
            self.change
                .extend(batches(set.class, run, "withdraw", operations));
        }
    }
}

fn batches(class: &'static str, run: &str, what: &str, operations: Vec<Value>) -> Vec<Batch> {
    let chunks = operations.chunks(BATCH).enumerate();
    chunks
        .map(|(i, operations)| Batch {
            class,
            key: format!("{run}-{class}-{what}-{i}"),
            operations: operations.to_vec(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::data;
    use std::collections::BTreeSet;

    #[test]
    fn the_plan_says_what_every_operation_leads_to() {
        let sets = data::load(None).unwrap();
        let plan = Plan::new(&sets, "r");
        let records: usize = sets.iter().map(|s| s.records.len()).sum();
        assert_eq!(plan.operations(), records + CORRECTIONS + WITHDRAWALS);
        assert_eq!(plan.expected.len(), records - WITHDRAWALS);
        let all = || plan.load.iter().chain(&plan.change);
        let keys: BTreeSet<&str> = all().map(|b| b.key.as_str()).collect();
        assert_eq!(keys.len(), all().count());
        assert!(all().all(|b| (1..=BATCH).contains(&b.operations.len())));
    }
}
