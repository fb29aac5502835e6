//! `oms mode`.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::exit::Exit;
use super::output::{Output, field, table};
use super::remote::{Api, ApiError, Remote, component, failure};
use crate::domain::ids::PartitionId;
use crate::log::lead::Lead;
use crate::migration;
use crate::migration::switch_order::SwitchOrder;

/// How often to ask for the progress of a switch.
const LOOK: Duration = Duration::from_millis(300);

/// Switch the mode of a running service, or see what stands in the way
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Modes lie in a line: legacy, dual_write (lead postgres), dual_write (lead s3), s3_only. One that is
further off is walked to edge by edge; writes wait while the lead moves, they do not fail.
Interrupted, the switch goes on in the service: `oms mode` shows it.

Ends with 3 when gates do not hold or the switch was undone.

Examples:
  oms mode                                        how the migration stands
  oms mode dual_write --reason 'OPS-7' --dry-run  what the gates say
  oms mode dual_write --lead s3 --reason 'OPS-7'
  oms mode legacy --reason 'S3 is slow' --force")]
pub struct Mode {
    #[command(flatten)]
    remote: Remote,
    /// legacy, dual_write or s3_only; without it, show how the migration stands
    #[arg(value_parser = read_one::<migration::stage::Mode>(["legacy", "dual_write", "s3_only"]))]
    target: Option<migration::stage::Mode>,
    /// Of dual_write, which store is to lead [default: the one that leads now]
    #[arg(long, value_parser = read_one::<Lead>(["postgres", "s3"]))]
    lead: Option<Lead>,
    /// Why; kept in the history
    #[arg(long)]
    reason: Option<String>,
    /// Only these partitions
    #[arg(
        long,
        value_delimiter = ',',
        conflicts_with = "percent",
        value_name = "N,…"
    )]
    partitions: Vec<u16>,
    /// Only so many of the partitions
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=100), value_name = "PERCENT")]
    percent: Option<u8>,
    /// Skip gates of confidence, never those of data; kept in the history
    #[arg(long)]
    force: bool,
    /// Only show what the gates say
    #[arg(long)]
    dry_run: bool,
    /// Show the switches that were ordered
    #[arg(long, conflicts_with = "target")]
    history: bool,
    /// End a switch that waits at a gate
    #[arg(long, value_name = "ID", conflicts_with_all = ["target", "history"])]
    cancel: Option<String>,
}

impl Mode {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Exit> {
        let api = self.remote.connect()?;
        if self.history {
            let page = api.get("/api/v1/admin/migration/history").await?;
            output.result(&page, || history(&page))?;
            return Ok(Exit::Done);
        }
        if let Some(id) = &self.cancel {
            let path = format!("/api/v1/admin/migration/switches/{}", component(id));
            let switch = api.send(api.request(Method::DELETE, &path)).await?.body;
            output.result(&switch, || "it ends at its next gate".to_owned())?;
            return Ok(Exit::Done);
        }
        let Some(mode) = self.target else {
            let report = api.get("/api/v1/admin/migration").await?;
            output.result(&report, || standing(&report))?;
            return Ok(Exit::Done);
        };
        let reason = match (&self.reason, self.dry_run) {
            (Some(reason), _) => reason.clone(),
            (None, true) => "a look at the gates".to_owned(),
            (None, false) => anyhow::bail!("--reason is needed: it is kept in the history"),
        };
        let only: Vec<_> = self.partitions.iter().copied().map(PartitionId).collect();
        let order = SwitchOrder {
            mode,
            lead: self.lead,
            partitions: (!only.is_empty()).then_some(only),
            percent: self.percent,
            reason,
            force: self.force,
            dry_run: self.dry_run,
        };
        let request = api
            .request(Method::POST, "/api/v1/admin/migration/mode")
            .json(&order);
        let answer = api.exchange(request).await?;
        let text: Value = serde_json::from_str(&answer.text).map_err(|_| ApiError::Odd {
            url: format!("{}/api/v1/admin/migration/mode", api.base()),
            message: format!("{}, and its body is not JSON", answer.status),
        })?;
        match answer.status {
            StatusCode::OK => {
                output.result(&text, || answered(&text))?;
                Ok(match text["may_begin"].as_bool() {
                    Some(false) if self.dry_run => Exit::Refused,
                    _ => Exit::Done,
                })
            }
            StatusCode::ACCEPTED => {
                let id = field(&text["switch"], "id");
                let switch = follow(&api, &id, output).await?;
                output.result(&switch, || switch_text(&switch))?;
                Ok(if switch["state"] == "done" {
                    Exit::Done
                } else {
                    Exit::Refused
                })
            }
            StatusCode::CONFLICT => {
                output.result(&text, || problem(&text))?;
                Ok(Exit::Refused)
            }
            status => Err(failure(status, answer.retry_after, &text).into()),
        }
    }
}

/// A parser of one of these words, each of which is `T` as JSON.
fn read_one<T>(words: impl Into<PossibleValuesParser>) -> impl TypedValueParser<Value = T>
where
    T: DeserializeOwned + Clone + Send + Sync + 'static,
{
    let parser: PossibleValuesParser = words.into();
    parser.try_map(|word| serde_json::from_value(Value::String(word)))
}

/// Watches a switch to its end.
async fn follow(api: &Api, id: &str, output: Output) -> Result<Value, ApiError> {
    let mut told = String::new();
    loop {
        let switch = api
            .get(&format!("/api/v1/admin/migration/switches/{id}"))
            .await?;
        let edges = switch["edges"].as_array();
        let now = edges.and_then(|e| e.last()).map(edge_line);
        if let Some(now) = now.filter(|now| *now != told) {
            output.note(&now);
            told = now;
        }
        if !switch["ended"].is_null() {
            return Ok(switch);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn edge_line(edge: &Value) -> String {
    let waits = failing(&edge["gates"]);
    let waits = if waits.is_empty() {
        String::new()
    } else {
        format!(" (waits for {})", waits.join(", "))
    };
    format!(
        "{} -> {}: {}{}",
        field(edge, "from"),
        field(edge, "to"),
        field(edge, "state"),
        waits
    )
}

fn failing(gates: &Value) -> Vec<String> {
    let gates = gates.as_array().into_iter().flatten();
    gates
        .filter(|gate| gate["state"] == "fail")
        .map(|gate| format!("{} {}", field(gate, "name"), field(gate, "figure")))
        .collect()
}

fn standing(report: &Value) -> String {
    let mut text = format!(
        "mode {}, {} leads, epoch {}{}\n\n",
        field(report, "mode"),
        field(report, "lead"),
        field(report, "epoch"),
        match report["share_ahead"].as_f64() {
            Some(share) if share > 0.0 =>
                format!("; {:.0} % of the partitions are further", share * 1e2),
            _ => String::new(),
        }
    );
    let rows = report["partitions"].as_array().into_iter().flatten();
    let rows = rows.map(|p| {
        [
            field(p, "partition"),
            field(p, "stage"),
            field(p, "epoch"),
            field(p, "step"),
            field(p, "next_offset"),
            field(p, "unmirrored"),
            field(p, "since"),
        ]
    });
    text.push_str(&table(
        [
            "partition",
            "stage",
            "epoch",
            "step",
            "commits",
            "unmirrored",
            "since",
        ],
        rows,
    ));
    if !report["switch"].is_null() {
        text.push_str("\nlast switch: ");
        text.push_str(&switch_text(&report["switch"]));
    }
    text
}

fn switch_text(switch: &Value) -> String {
    let mut text = format!(
        "to {}, {} (by {}: {})",
        field(switch, "goal"),
        field(switch, "state"),
        field(switch, "by"),
        field(switch, "reason")
    );
    if let Some(error) = switch["error"].as_str() {
        text.push_str(&format!("\n{error}"));
    }
    for edge in switch["edges"].as_array().into_iter().flatten() {
        text.push_str(&format!("\n  {}", edge_line(edge)));
        let pauses = edge["pause_ms"].as_object().into_iter().flatten();
        let pauses: Vec<f64> = pauses.filter_map(|(_, ms)| ms.as_f64()).collect();
        if let Some(longest) = pauses.iter().copied().reduce(f64::max) {
            text.push_str(&format!(", writes waited {longest:.0} ms at most"));
        }
    }
    text
}

fn gates(edges: &Value) -> String {
    let mut rows = Vec::new();
    for edge in edges.as_array().into_iter().flatten() {
        for gate in edge["gates"].as_array().into_iter().flatten() {
            let threshold = gate["threshold"].as_object();
            let threshold = threshold.and_then(|t| t.iter().next());
            let threshold = threshold.map_or(String::new(), |(how, what)| {
                format!("{} {what}", how.replace('_', " "))
            });
            rows.push([
                format!("{} -> {}", field(edge, "from"), field(edge, "to")),
                field(gate, "name"),
                field(gate, "state"),
                field(gate, "figure"),
                threshold,
                field(gate, "kind"),
            ]);
        }
    }
    table(["edge", "gate", "", "is", "must be", "kind"], rows)
}

fn answered(answer: &Value) -> String {
    match field(answer, "status").as_str() {
        "planned" => format!(
            "{}\n{}",
            gates(&answer["edges"]),
            if answer["may_begin"] == true {
                "the switch could begin now"
            } else {
                "the switch would be refused"
            }
        ),
        _ if answer["switch"].is_null() => {
            format!("it is so already\n{}", standing(&answer["migration"]))
        }
        _ => switch_text(&answer["switch"]),
    }
}

fn problem(problem: &Value) -> String {
    let mut text = format!("{}: {}", field(problem, "title"), field(problem, "detail"));
    if problem["edges"].is_array() {
        text.push_str(&format!("\n\n{}", gates(&problem["edges"])));
    } else if !problem["switch"].is_null() {
        text.push_str(&format!("\n{}", switch_text(&problem["switch"])));
    }
    text
}

fn history(page: &Value) -> String {
    let items = page["items"].as_array().into_iter().flatten();
    let rows = items.map(|switch| {
        let edges = switch["edges"].as_array().into_iter().flatten();
        let pauses = edges.flat_map(|e| e["pause_ms"].as_object().into_iter().flatten());
        let longest = pauses
            .filter_map(|(_, ms)| ms.as_f64())
            .reduce(f64::max)
            .map_or("-".to_owned(), |ms| format!("{ms:.0}"));
        [
            field(switch, "begun"),
            field(switch, "goal"),
            field(switch, "state"),
            field(switch, "by"),
            field(switch, "reason"),
            field(switch, "force"),
            longest,
        ]
    });
    table(
        [
            "begun", "goal", "state", "by", "reason", "forced", "pause ms",
        ],
        rows,
    )
}

#[cfg(test)]
#[path = "mode_tests.rs"]
mod tests;
