//! What a check finds, and all of them together.

use std::time::Duration;

use serde::Serialize;

use crate::cli::exit::Exit;

/// Longest time for a check that says nothing else: three times what a request may take.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// What a check is about, in the order in which it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Area {
    Configuration,
    S3,
    Postgres,
    Kafka,
    Machine,
    Service,
    Prometheus,
}

/// How it is, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    /// Not checked.
    Skipped,
    /// It works, and something should be different.
    Warning,
    Failed,
}

/// What was found, without where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// What to do.
    pub advice: Option<String>,
}

/// A finding in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    pub area: Area,
    pub name: &'static str,
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// What to do; always there with a warning and a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// All checks.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The worst of the verdicts; `ok` if nothing is wrong.
    pub verdict: Verdict,
    pub ok: usize,
    pub skipped: usize,
    pub warnings: usize,
    pub failed: usize,
    pub checks: Vec<Check>,
}

impl Finding {
    pub fn ok(seen: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Ok,
            seen: seen.into(),
            advice: None,
        }
    }

    pub fn skipped(why: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Skipped,
            seen: why.into(),
            advice: None,
        }
    }

    pub fn warning(seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Warning,
            seen: seen.into(),
            advice: Some(advice.into()),
        }
    }

    pub fn failed(seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Failed,
            seen: seen.into(),
            advice: Some(advice.into()),
        }
    }
}

impl Area {
    /// A finding in its place.
    pub fn check(self, name: &'static str, finding: Finding) -> Check {
        Check {
            area: self,
            name,
            verdict: finding.verdict,
            seen: finding.seen,
            advice: finding.advice,
        }
    }

    /// Checks that were not made, all for one reason.
    pub fn skip(self, names: &[&'static str], why: &str) -> Vec<Check> {
        let skipped = |name: &&'static str| self.check(name, Finding::skipped(why));
        names.iter().map(skipped).collect()
    }

    /// A check that ends in time: what has not ended by then has failed.
    pub async fn within(
        self,
        name: &'static str,
        limit: Duration,
        work: impl Future<Output = Finding>,
    ) -> Check {
        let finding = match tokio::time::timeout(limit, work).await {
            Ok(finding) => finding,
            Err(_) => Finding::failed(
                format!("no answer within {} s", limit.as_secs()),
                "look at what lies between here and there: a firewall that drops, a proxy, a \
                 server that hangs",
            ),
        };
        self.check(name, finding)
    }
}

impl Report {
    pub fn of(mut checks: Vec<Check>) -> Self {
        checks.sort_by_key(|check| check.area);
        let count = |verdict| checks.iter().filter(|c| c.verdict == verdict).count();
        let (warnings, failed) = (count(Verdict::Warning), count(Verdict::Failed));
        Self {
            verdict: match (failed, warnings) {
                (0, 0) => Verdict::Ok,
                (0, _) => Verdict::Warning,
                _ => Verdict::Failed,
            },
            ok: count(Verdict::Ok),
            skipped: count(Verdict::Skipped),
            warnings,
            failed,
            checks,
        }
    }

    pub fn exit(&self) -> Exit {
        match self.verdict {
            Verdict::Failed => Exit::Failed,
            Verdict::Warning => Exit::Reservations,
            Verdict::Ok | Verdict::Skipped => Exit::Done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides_and_what_was_skipped_decides_nothing() {
        let report = |findings: &[Finding]| {
            let check = |f: &Finding| Area::Kafka.check("x", f.clone());
            Report::of(findings.iter().map(check).collect())
        };
        let (ok, skipped) = (Finding::ok(""), Finding::skipped(""));
        let (warning, failed) = (Finding::warning("", ""), Finding::failed("", ""));
        for (findings, exit) in [
            (vec![ok.clone(), skipped.clone()], Exit::Done),
            (vec![skipped], Exit::Done),
            (vec![ok.clone(), warning.clone()], Exit::Reservations),
            (vec![failed, warning, ok], Exit::Failed),
        ] {
            assert_eq!(report(&findings).exit(), exit, "{findings:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn law_13_a_check_that_does_not_end_has_failed() {
        let hangs = std::future::pending::<Finding>();
        let check = Area::S3.within("reach", DEADLINE, hangs).await;
        assert_eq!(check.verdict, Verdict::Failed);
        assert!(check.seen.contains("10 s") && check.advice.is_some());
    }
}
