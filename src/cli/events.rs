//! `oms events`.

use std::time::Duration;

use serde_json::Value;

use super::exit::Exit;
use super::output::{Output, field};
use super::remote::{ApiError, Remote, component};

/// Watch events
#[derive(Debug, clap::Subcommand)]
pub enum Events {
    Tail(Tail),
}

/// Print the feed of everything, oldest first
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The cursor to go on from is printed to standard error at the end.

Examples:
  oms events tail
  oms events tail --types InstanceCreated,InstanceUpdated --follow
  oms --json events tail --after CURSOR | jq .data")]
pub struct Tail {
    #[command(flatten)]
    remote: Remote,
    /// Begin after this cursor [default: at the beginning]
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// Only events of these types
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    types: Vec<String>,
    /// Wait for more at the end; end with ctrl-c
    #[arg(long, short)]
    follow: bool,
    /// Stop after this many events
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// Events per request.
const PAGE: usize = 500;

/// How often to poll at the end of the feed: soon enough for a person.
const POLL: Duration = Duration::from_millis(500);

impl Events {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Exit> {
        match self {
            Self::Tail(tail) => tail.run(output).await,
        }
    }
}

impl Tail {
    async fn run(self, output: Output) -> anyhow::Result<Exit> {
        let api = self.remote.connect()?;
        let types = self.types.iter().map(|t| component(t)).collect::<Vec<_>>();
        let mut cursor = self.after.clone();
        let mut left = self.limit.unwrap_or(usize::MAX);
        while left > 0 {
            let mut path = format!("/api/v1/events?limit={}", PAGE.min(left));
            if let Some(cursor) = &cursor {
                path.push_str(&format!("&after={}", component(cursor)));
            }
            if !types.is_empty() {
                path.push_str(&format!("&types={}", types.join(",")));
            }
            let page = match api.get(&path).await {
                // A service that is restarting is waited for; the cursor stays valid.
                Err(error @ (ApiError::Unreachable { .. } | ApiError::Unavailable { .. }))
                    if self.follow && cursor.is_some() =>
                {
                    output.note(&format!("{error}; trying again"));
                    tokio::time::sleep(POLL).await;
                    continue;
                }
                page => page?,
            };
            let empty = Vec::new();
            let items = page
                .get("items")
                .and_then(Value::as_array)
                .unwrap_or(&empty);
            for event in items {
                output.result(event, || line(event))?;
            }
            left = left.saturating_sub(items.len());
            let next = page.get("next_cursor").and_then(Value::as_str);
            // The feed skips events of other types: an empty page need not be the end.
            let moved = next.is_some() && next != cursor.as_deref();
            if let Some(next) = next {
                cursor = Some(next.to_owned());
            }
            if items.is_empty() && !moved {
                if !self.follow {
                    break;
                }
                tokio::time::sleep(POLL).await;
            }
        }
        if let Some(cursor) = cursor {
            output.note(&format!("next cursor: {cursor}"));
        }
        Ok(Exit::Done)
    }
}

fn line(event: &Value) -> String {
    format!(
        "{:12} {} {:16} {} v{} by {}",
        field(event, "position"),
        field(event, "time"),
        field(event, "type"),
        field(event, "subject"),
        field(event, "streamversion"),
        field(event, "actor"),
    )
}
