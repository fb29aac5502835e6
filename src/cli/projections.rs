//! `oms projections`.

use serde_json::{Value, json};

use super::exit::Exit;
use super::output::{Output, field, table};
use super::remote::{Remote, component};

/// Show the projections, or rebuild one
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:\n  oms projections\n  oms projections rebuild ontology")]
pub struct Projections {
    #[command(flatten)]
    list: List,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Build a projection anew beside the live one, then swap
    Rebuild {
        #[command(flatten)]
        remote: Remote,
        /// Its name
        name: String,
    },
}

impl Projections {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Exit> {
        if let Some(Action::Rebuild { remote, name }) = self.action {
            let path = format!("/api/v1/admin/projections/{}/rebuild", component(&name));
            let answer = remote.connect()?.post(&path, &json!({})).await?;
            output.result(&answer, || format!("{name}: the rebuild has begun"))?;
            return Ok(Exit::Done);
        }
        let api = self.list.remote.connect()?;
        let answer = api.get("/api/v1/admin/projections").await?;
        output.result(&answer, || {
            let items = answer.get("items").unwrap_or(&answer).as_array();
            let columns = [
                "name",
                "state",
                "generation",
                "lag_commits",
                "parked_events",
            ];
            let rows = items.into_iter().flatten();
            table(
                columns,
                rows.map(|item: &Value| columns.map(|c| field(item, c))),
            )
        })?;
        Ok(Exit::Done)
    }
}
