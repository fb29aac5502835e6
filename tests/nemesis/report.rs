//! The campaign in figures.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clients::Shared;
use crate::faults::Nemesis;
use crate::validator::Verdict;

/// See the module.
pub struct Report<'a> {
    pub seed: u64,
    pub started: Duration,
    pub recovered: Duration,
    pub total: Duration,
    pub waits: &'a [(&'static str, Duration)],
    pub shared: &'a Shared,
    pub nemesis: &'a Nemesis,
    pub verdict: &'a Verdict,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checked = &self.verdict.checked;
        let mut rows: Vec<(String, String)> = vec![("seed".into(), self.seed.to_string())];
        let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
        row("acknowledged commands", checked.acknowledged.to_string());
        row("refused commands", checked.refused.to_string());
        row("answered twice", checked.again.to_string());
        row("commands not done", checked.not_done.to_string());
        row(
            "commands of unknown outcome",
            format!("{}, {} happened", checked.unknown, checked.unknown_happened),
        );
        row(
            "tries repeated",
            self.shared.retries.load(Ordering::SeqCst).to_string(),
        );
        let answers = self.shared.answers.lock().expect("lock");
        let answers: Vec<String> = answers.iter().map(|(s, n)| format!("{s}: {n}")).collect();
        row("answers by status", answers.join(", "));
        row("reads checked", checked.reads.to_string());
        row("events in the log", checked.events.to_string());
        row("messages in Kafka", checked.messages.to_string());
        row("instances in the read model", checked.instances.to_string());
        let longest = Duration::from_micros(self.shared.longest.load(Ordering::SeqCst));
        row("longest wait for an outcome", format!("{longest:.1?}"));
        row("started in", format!("{:.1?}", self.started));
        row(
            "ten commands a client after healing",
            format!("{:.1?}", self.recovered),
        );
        for (what, took) in self.waits {
            row(&format!("  then {what}"), format!("{took:.1?}"));
        }
        row("the whole campaign", format!("{:.1?}", self.total));
        let faults: usize = self.nemesis.injected.values().sum();
        row("faults", faults.to_string());
        for (kind, count) in &self.nemesis.injected {
            row(&format!("  {kind}"), count.to_string());
        }
        let violations: usize = self.verdict.counts().values().sum();
        row("violations", violations.to_string());
        for (rule, count) in self.verdict.counts() {
            row(&format!("  {rule}"), count.to_string());
        }
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in rows {
            writeln!(f, "{name:width$}  {value}")?;
        }
        Ok(())
    }
}
