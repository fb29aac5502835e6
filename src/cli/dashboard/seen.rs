//! What is known of the service: the last answers of its API, and figures over time.

use std::collections::BTreeMap;

use serde_json::Value;

/// Samples kept of each figure: ten minutes.
const KEPT: usize = 120;

/// One look at the service: what was asked for.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// `/health`.
    pub health: Value,
    /// The answers of the administration, where they were asked for and given.
    pub answers: BTreeMap<Part, Value>,
    /// Why some of it was not told.
    pub untold: Option<String>,
}

/// A part of what the administration tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    About,
    Migration,
    History,
    Metrics,
    Outbox,
    Projections,
    Actors,
    Verification,
}

impl Part {
    /// Where it is asked for; `after` is the time of the newest sample that is known.
    pub fn path(self, after: Option<&str>) -> String {
        let path = match self {
            Part::About => "service",
            Part::Migration => "migration",
            Part::History => "migration/history?limit=20",
            Part::Metrics => "metrics",
            Part::Outbox => "outbox",
            Part::Projections => "projections",
            Part::Actors => "actors",
            Part::Verification => "migration/verify",
        };
        let after = after.filter(|_| self == Part::Metrics);
        let after = after
            .map(|after| format!("?after={after}"))
            .unwrap_or_default();
        format!("/api/v1/admin/{path}{after}")
    }
}

/// All that is known.
#[derive(Debug, Default)]
pub struct Seen {
    pub health: Value,
    answers: BTreeMap<Part, Value>,
    pub untold: Option<String>,
    /// When each sample of the figures was taken.
    times: Vec<String>,
    figures: BTreeMap<String, Vec<Option<f64>>>,
}

impl Seen {
    /// The last answer of a part; null if there was none.
    pub fn part(&self, part: Part) -> &Value {
        self.answers.get(&part).unwrap_or(&Value::Null)
    }

    /// Adds a look. What was not asked for again stays.
    pub fn add(&mut self, look: Look) {
        self.health = look.health;
        self.untold = look.untold;
        for (part, answer) in look.answers {
            match part {
                Part::Metrics => self.sample(&answer),
                part => {
                    self.answers.insert(part, answer);
                }
            }
        }
    }

    fn sample(&mut self, answer: &Value) {
        let times = answer["times"].as_array().into_iter().flatten();
        let times: Vec<String> = times.filter_map(Value::as_str).map(str::to_owned).collect();
        // A process that began anew, or whose clock was set back, tells all that it has.
        let anew = times.first().zip(self.times.last());
        if anew.is_some_and(|(first, last)| first <= last) {
            self.times.clear();
            self.figures.clear();
        }
        for figure in answer["figures"].as_array().into_iter().flatten() {
            let name = figure["name"].as_str().unwrap_or_default();
            let values = figure["values"].as_array().into_iter().flatten();
            let known = self.figures.entry(name.to_owned()).or_default();
            known.extend(values.map(Value::as_f64));
            let surplus = known.len().saturating_sub(KEPT);
            known.drain(..surplus);
        }
        self.times.extend(times);
        let surplus = self.times.len().saturating_sub(KEPT);
        self.times.drain(..surplus);
    }

    /// The time of the newest sample.
    pub fn sampled(&self) -> Option<&str> {
        self.times.last().map(String::as_str)
    }

    /// A figure over time, the oldest first.
    pub fn figure(&self, name: &str) -> &[Option<f64>] {
        self.figures.get(name).map_or(&[], Vec::as_slice)
    }

    /// The newest value of a figure, if it is known.
    pub fn latest(&self, name: &str) -> Option<f64> {
        self.figure(name).last().copied().flatten()
    }

    /// The switches that were ordered, the newest first.
    pub fn history(&self) -> impl Iterator<Item = &Value> {
        self.part(Part::History)["items"]
            .as_array()
            .into_iter()
            .flatten()
    }

    /// The partitions on the road between the stores.
    pub fn partitions(&self) -> impl Iterator<Item = &Value> {
        let partitions = self.part(Part::Migration)["partitions"].as_array();
        partitions.into_iter().flatten()
    }

    /// Whether actors may be killed through the API.
    pub fn has_chaos(&self) -> bool {
        self.part(Part::About)["chaos"] == true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn metrics(times: &[&str], values: Value) -> Look {
        let metrics =
            json!({ "times": times, "figures": [{ "name": "writes", "values": values }] });
        Look {
            answers: [(Part::Metrics, metrics)].into(),
            ..Look::default()
        }
    }

    #[test]
    fn figures_are_continued_and_begin_anew_with_the_process() {
        let mut seen = Seen::default();
        seen.add(metrics(&["10:00", "10:05"], json!([1.0, null])));
        seen.add(metrics(&["10:10"], json!([3.0])));
        assert_eq!(seen.figure("writes"), [Some(1.0), None, Some(3.0)]);
        assert_eq!(
            (seen.sampled(), seen.latest("writes")),
            (Some("10:10"), Some(3.0))
        );
        assert_eq!(seen.latest("reads"), None);
        seen.add(metrics(&["10:07"], json!([9.0])));
        assert_eq!(seen.figure("writes"), [Some(9.0)]);
        for minute in 0..200 {
            seen.add(metrics(&[&format!("11:{minute:03}")], json!([1.0])));
        }
        assert_eq!(seen.figure("writes").len(), KEPT, "law 13: it is bounded");
    }

    #[test]
    fn what_was_not_asked_for_again_stays() {
        let mut seen = Seen::default();
        seen.add(Look {
            answers: [(Part::Migration, json!({ "mode": "legacy" }))].into(),
            ..Look::default()
        });
        seen.add(Look::default());
        assert_eq!(seen.part(Part::Migration)["mode"], "legacy");
        assert_eq!(
            Part::Metrics.path(Some("t")),
            "/api/v1/admin/metrics?after=t"
        );
        assert_eq!(Part::Actors.path(Some("t")), "/api/v1/admin/actors");
    }
}
