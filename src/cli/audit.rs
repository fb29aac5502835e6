//! `oms audit`.

use serde_json::Value;

use super::exit::Exit;
use super::output::{Output, field, table};
use super::remote::Remote;

/// Show what administrators ordered and who was turned away, the newest first
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  oms audit --kind refusal\n  oms audit --principal ops --limit 20\n  \
                  oms --json audit | jq -c '.items[] | [.time, .principal, .action, .body]'"
)]
pub struct Audit {
    #[command(flatten)]
    remote: Remote,
    /// Show at most this many
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: usize,
    /// Only what this principal did
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
    /// Only orders, or only refusals (401 and 403)
    #[arg(long, value_parser = ["command", "refusal"])]
    kind: Option<String>,
    /// Go on from this `next_cursor` of an earlier page
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

impl Audit {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Exit> {
        let api = self.remote.connect()?;
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("limit", &self.limit.to_string());
        let given = [
            ("principal", &self.principal),
            ("kind", &self.kind),
            ("cursor", &self.cursor),
        ];
        for (name, value) in given {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        let page = api
            .get(&format!("/api/v1/admin/audit?{}", query.finish()))
            .await?;
        output.result(&page, || {
            let items = page.get("items").and_then(Value::as_array);
            let columns = [
                "time",
                "principal",
                "address",
                "action",
                "status",
                "code",
                "times",
                "body",
            ];
            let rows = items.into_iter().flatten();
            match items.map_or(0, Vec::len) {
                0 => "nothing is recorded".to_owned(),
                _ => table(columns, rows.map(|item| columns.map(|c| field(item, c)))),
            }
        })?;
        Ok(Exit::Done)
    }
}
