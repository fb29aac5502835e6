//! `oms status`.

use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::exit::Exit;
use super::output::{Output, field, table};
use super::remote::{ApiError, Remote};

/// Show how a running service is
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Ends with 4 when the service is unavailable.

Examples:
  oms status
  oms --json status --url http://127.0.0.1:8000 | jq .migration_mode")]
pub struct Status {
    #[command(flatten)]
    remote: Remote,
}

impl Status {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Exit> {
        let api = self.remote.connect()?;
        // An unavailable service answers 503 with the same report.
        let request = api.request(Method::GET, "/health");
        let answer = api.exchange(request).await?;
        let status = answer.status;
        let report: Value = serde_json::from_str(&answer.text).map_err(|_| ApiError::Odd {
            url: format!("{}/health", api.base()),
            message: format!("{status}, and its body is not JSON"),
        })?;
        output.result(&report, || describe(api.base(), &report))?;
        Ok(match status {
            StatusCode::OK => Exit::Done,
            _ => Exit::Unavailable,
        })
    }
}

fn describe(url: &str, report: &Value) -> String {
    let mut text = format!(
        "{} is {} (version {})\nmode {}, {} leads, epoch {}\n\n",
        url,
        field(report, "status"),
        field(report, "version"),
        field(report, "migration_mode"),
        field(report, "lead"),
        field(report, "epoch"),
    );
    let dependencies = report.get("dependencies").and_then(Value::as_object);
    let rows = dependencies.into_iter().flatten().map(|(name, status)| {
        [
            name.clone(),
            field(status, "state"),
            status["latency_ms"]
                .as_f64()
                .map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2}")),
            field(status, "since"),
            field(status, "error"),
        ]
    });
    text.push_str(&table(
        ["dependency", "state", "latency ms", "since", "error"],
        rows,
    ));
    let halted = report["halted"].as_array().into_iter().flatten();
    for halt in halted {
        let place = match halt["partition"].as_u64() {
            Some(partition) => format!(" of partition {partition}"),
            None => String::new(),
        };
        text.push_str(&format!(
            "\n{}{place} halted since {}: {}\n",
            field(halt, "what"),
            field(halt, "since"),
            field(halt, "reason"),
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_each_store_and_whatever_is_halted_and_why() {
        let report = include_str!("../../tests/fixtures/answers/status.json");
        let report = serde_json::from_str(report).unwrap();
        insta::assert_snapshot!(describe("http://127.0.0.1:8000", &report));
    }
}
