//! `oms dead`.

use serde_json::{Value, json};

use super::exit::Exit;
use super::output::{Output, field, table};
use super::remote::Remote;

/// List, requeue or discard dead letters: messages the broker will never take
#[derive(Debug, clap::Subcommand)]
pub enum Dead {
    /// List dead letters, oldest first
    List(List),
    /// Put dead letters back into the outbox
    Requeue(Act),
    /// Remove dead letters for good; their events stay in the log
    Discard(Act),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  oms --json dead list | jq -r '.items[].id'")]
pub struct List {
    #[command(flatten)]
    remote: Remote,
    /// Show at most this many
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  oms dead requeue 17 18")]
pub struct Act {
    #[command(flatten)]
    remote: Remote,
    /// Ids, as `oms dead list` shows them
    #[arg(required = true, value_name = "ID")]
    ids: Vec<i64>,
}

impl Dead {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Exit> {
        match self {
            Self::List(list) => list.run(output).await,
            Self::Requeue(act) => act.run("requeue", output).await,
            Self::Discard(act) => act.run("discard", output).await,
        }
    }
}

impl List {
    async fn run(self, output: Output) -> anyhow::Result<Exit> {
        let api = self.remote.connect()?;
        let path = format!("/api/v1/admin/outbox/dead?limit={}", self.limit);
        let page = api.get(&path).await?;
        output.result(&page, || {
            let items = page.get("items").and_then(Value::as_array);
            let columns = ["id", "position", "topic", "attempts", "last_error"];
            let rows = items.into_iter().flatten();
            match items.map_or(0, Vec::len) {
                0 => "no dead letters".to_owned(),
                _ => table(columns, rows.map(|item| columns.map(|c| field(item, c)))),
            }
        })?;
        Ok(Exit::Done)
    }
}

impl Act {
    async fn run(self, what: &str, output: Output) -> anyhow::Result<Exit> {
        let api = self.remote.connect()?;
        for id in self.ids {
            let path = format!("/api/v1/admin/outbox/dead/{id}/{what}");
            api.post(&path, &json!({})).await?;
            output.result(&json!({ "id": id, "done": what }), || {
                format!("{what} {id}: done")
            })?;
        }
        Ok(Exit::Done)
    }
}
