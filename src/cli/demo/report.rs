//! The comparison of what was expected with what was found.

use std::path::PathBuf;

use serde::Serialize;

use super::road::Road;
use crate::cli::output::table;

/// One line of the comparison.
#[derive(Debug, Serialize)]
pub struct Check {
    pub what: &'static str,
    /// The value it had to have.
    pub expected: String,
    pub found: String,
    /// Whether the two agree.
    pub holds: bool,
}

#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub records: usize,
    /// Seconds from the first request to the last answer, including the kill.
    pub load_seconds: f64,
    /// Operations that were acknowledged when the process was killed.
    pub killed_after: usize,
    /// Milliseconds from the kill until the service was ready again.
    pub restart_ms: u128,
    /// Requests that had to be repeated.
    pub sent_again: usize,
    /// Of those, requests that had been executed the first time.
    pub replayed: usize,
    /// The migration, walked meanwhile.
    pub road: Road,
    pub checks: Vec<Check>,
    /// What cannot be checked here, and why.
    pub remarks: Vec<String>,
    /// The data directory, if it is kept.
    pub data_dir: Option<PathBuf>,
}

impl Report {
    /// Adds a check that two values are equal.
    pub fn equal<T: PartialEq + ToString>(&mut self, what: &'static str, expected: T, found: T) {
        self.checks.push(Check {
            what,
            holds: expected == found,
            expected: expected.to_string(),
            found: found.to_string(),
        });
    }

    /// Whether every check holds.
    pub fn holds(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.holds)
    }

    /// The report as text.
    pub fn describe(&self) -> String {
        let rows = self.checks.iter().map(|check| {
            [
                check.what.to_owned(),
                check.expected.clone(),
                check.found.clone(),
                if check.holds { "yes" } else { "NO" }.to_owned(),
            ]
        });
        let mut text = table(["what", "expected", "found", "holds"], rows);
        for remark in &self.remarks {
            text.push_str(&format!("\n{remark}\n"));
        }
        let verdict = if self.holds() {
            "S3, Kafka and the read model hold the same facts."
        } else {
            "NOT PROVEN: see the lines above."
        };
        text.push_str(&format!("\n{verdict}\n"));
        if let Some(dir) = &self.data_dir {
            text.push_str(&format!(
                "The data is kept; look around with: oms serve --data-dir {}\n",
                dir.display()
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_checked_is_nothing_proven() {
        let mut report = Report::default();
        assert!(!report.holds());
        report.equal("a", 1, 1);
        assert!(report.holds());
        report.equal("b", 1, 2);
        assert!(!report.holds() && report.describe().contains("NOT PROVEN"));
    }
}
