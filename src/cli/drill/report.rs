//! The result of a drill.

use std::time::Duration;

use serde::Serialize;

use super::super::bench::percentile;
use super::super::exit::Exit;
use super::super::output::table;
use super::check::Check;
use super::load::Seen;
use crate::actors::supervision::policy::ActorKind;

/// A kill and the recovery.
#[derive(Debug, Clone)]
pub struct Strike {
    pub kind: ActorKind,
    /// The answer that showed the recovery.
    pub answer: &'static str,
    /// From the request to the answer.
    pub took: Duration,
    /// The pause that the policy asks for before the restart, before jitter.
    pub pause: Duration,
}

/// An actor that did not come back.
#[derive(Debug, Clone, Serialize)]
pub struct NotBack {
    pub kind: &'static str,
    pub path: String,
    /// The last error.
    pub error: String,
}

#[derive(Debug)]
pub struct Report {
    run: String,
    how: String,
    rounds: u32,
    pub seconds: f64,
    /// Whether Ctrl-C ended it.
    pub interrupted: bool,
    pub strikes: Vec<Strike>,
    /// The actor that did not come back, if any.
    pub not_back: Option<NotBack>,
    /// What the clients observed.
    pub load: Seen,
    /// The result of reading back; `None` if that was not possible, or interrupted.
    pub check: Option<Check>,
}

#[derive(Debug, Serialize)]
struct Row {
    kind: &'static str,
    kills: usize,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    /// The pause before the restart that the policy asks for, before jitter: median and maximum of
    /// these kills.
    pause_p50_ms: f64,
    pause_max_ms: f64,
    answer: &'static str,
}

/// The report as JSON.
#[derive(Debug, Serialize)]
pub struct Summary<'a> {
    run: &'a str,
    how: &'a str,
    rounds: u32,
    seconds: f64,
    interrupted: bool,
    kinds: Vec<Row>,
    not_back: Option<&'a NotBack>,
    load: &'a Seen,
    check: Option<&'a Check>,
}

impl Report {
    pub fn new(run: &str, how: &str, rounds: u32) -> Self {
        Self {
            run: run.to_owned(),
            how: how.to_owned(),
            rounds,
            seconds: 0.0,
            interrupted: false,
            strikes: Vec::new(),
            not_back: None,
            load: Seen::default(),
            check: None,
        }
    }

    fn rows(&self) -> Vec<Row> {
        let rows = ActorKind::ALL.into_iter().filter_map(|kind| {
            let strikes = || self.strikes.iter().filter(|s| s.kind == kind);
            let mut took: Vec<Duration> = strikes().map(|s| s.took).collect();
            let mut pauses: Vec<Duration> = strikes().map(|s| s.pause).collect();
            took.sort_unstable();
            pauses.sort_unstable();
            Some(Row {
                kind: kind.as_str(),
                kills: took.len(),
                p50_ms: percentile(&took, 0.50),
                p99_ms: percentile(&took, 0.99),
                max_ms: percentile(&took, 1.0),
                pause_p50_ms: percentile(&pauses, 0.50),
                pause_max_ms: percentile(&pauses, 1.0),
                answer: strikes().next_back()?.answer,
            })
        });
        rows.collect()
    }

    pub fn summary(&self) -> Summary<'_> {
        Summary {
            run: &self.run,
            how: &self.how,
            rounds: self.rounds,
            seconds: self.seconds,
            interrupted: self.interrupted,
            kinds: self.rows(),
            not_back: self.not_back.as_ref(),
            load: &self.load,
            check: self.check.as_ref(),
        }
    }

    /// The report as text.
    pub fn text(&self) -> String {
        let ms = |value: f64| format!("{value:.1}");
        let mut text = table(
            [
                "kind", "kills", "p50 ms", "p99 ms", "max ms", "pause", "until",
            ],
            self.rows().into_iter().map(|row| {
                let pause = format!("{:.0} to {:.0}", row.pause_p50_ms, row.pause_max_ms);
                [
                    row.kind.to_owned(),
                    row.kills.to_string(),
                    ms(row.p50_ms),
                    ms(row.p99_ms),
                    ms(row.max_ms),
                    pause,
                    row.answer.to_owned(),
                ]
            }),
        );
        let load = &self.load;
        text.push_str(&format!(
            "\n{} clients wrote {} events meanwhile; {} requests sent again, longest write {:.1} ms\n",
            load.clients, load.writes, load.sent_again, load.longest_ms
        ));
        if let Some(lost) = &self.not_back {
            text.push_str(&format!(
                "{} did not come back: {}\n",
                lost.path, lost.error
            ));
        }
        match &self.check {
            Some(check) => text.push_str(&format!(
                "{} acknowledged writes in {} streams: {} lost, {} doubled, {} misplaced\n",
                check.acknowledged, check.streams, check.lost, check.doubled, check.misplaced
            )),
            None => text.push_str("what was written was not read back\n"),
        }
        text
    }

    /// The exit code, also for a drill that was interrupted.
    pub fn exit(&self) -> Exit {
        match &self.check {
            Some(check) if !check.is_sound() => Exit::NotProven,
            Some(_) if self.not_back.is_none() && self.load.given_up == 0 => Exit::Done,
            _ => Exit::Unavailable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_counts_for_more_than_who_did_not_come_back() {
        let mut report = Report::new("r", "panic", 1);
        assert_eq!(report.exit(), Exit::Unavailable, "nothing was read back");
        report.check = Some(Check::default());
        assert_eq!(report.exit(), Exit::Done);
        report.not_back = Some(NotBack {
            kind: "relay",
            path: "relay".into(),
            error: "silence".into(),
        });
        assert_eq!(report.exit(), Exit::Unavailable);
        report.check = Some(Check {
            lost: 1,
            ..Check::default()
        });
        assert_eq!(report.exit(), Exit::NotProven);
        let text = report.text();
        assert!(
            text.contains("1 lost") && text.contains("relay did not come back"),
            "{text}"
        );
    }

    #[test]
    fn a_kind_is_summed_up_when_it_was_killed() {
        let mut report = Report::new("r", "panic", 3);
        report.strikes = (1..=3)
            .map(|n| Strike {
                kind: ActorKind::Relay,
                answer: "event in the broker",
                took: Duration::from_millis(10 * n),
                pause: Duration::from_millis(n),
            })
            .collect();
        let rows = report.rows();
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].kills, rows[0].p50_ms), (3, 20.0));
        assert_eq!((rows[0].max_ms, rows[0].pause_max_ms), (30.0, 3.0));
    }
}
