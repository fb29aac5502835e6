//! For each kind of actor, a request that only a working actor of that kind can answer.

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::super::remote::{Api, ApiError, failure};
use super::patience::{Waited, persist};
use super::stream::{Acknowledged, Stream};
use crate::actors::supervision::policy::ActorKind;
use crate::domain::ids::Position;

/// An actor and the stream through which its work is checked.
pub struct Target {
    pub kind: ActorKind,
    pub path: String,
    pub stream: Arc<Stream>,
}

/// An actor's state when it was killed.
pub struct Killed {
    /// From the supervision tree; `None` where that does not show it.
    pub before: Option<Life>,
}

/// The restarts and polls of an actor, from the supervision tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    running: bool,
    /// How often it was restarted.
    pub restarts: u64,
    polls: u64,
}

impl Life {
    fn of(node: &Value) -> Self {
        let number = |key: &str| node[key].as_u64().unwrap_or_default();
        Self {
            running: node["state"] == "running",
            restarts: number("restarts"),
            polls: number("polls"),
        }
    }

    /// Whether it runs again after the kill: it was restarted since `before`, or was polled since
    /// `first`, the first look after the kill (a hung actor is not), or it belongs to another
    /// process.
    fn goes_on(self, before: Option<Life>, first: Life) -> bool {
        let another = before.is_none_or(|b| b.restarts != self.restarts || self.polls < b.polls);
        self.running && (another || self.polls > first.polls)
    }
}

impl Target {
    /// The actor in the tree; `None` while it is not there.
    pub async fn inspect(&self, api: &Api) -> Result<Option<Life>, ApiError> {
        let tree = api.get("/api/v1/admin/actors").await?;
        Ok(find(&tree["root"], &self.path).map(Life::of))
    }
}

fn find<'a>(node: &'a Value, path: &str) -> Option<&'a Value> {
    let children = node["children"].as_array()?;
    children.iter().find_map(|child| {
        if child["path"] == path && child["kind"] != "supervisor" {
            return Some(child);
        }
        find(child, path)
    })
}

/// Waits until the actor has worked again, at most `limit` from `begun`; returns what the work was.
pub async fn answered(
    api: &Api,
    target: &Target,
    killed: &Killed,
    begun: Instant,
    limit: Duration,
) -> Result<&'static str, Waited> {
    let left = || limit.saturating_sub(begun.elapsed());
    let write = async || Ok::<_, Waited>(target.stream.write(api, left()).await?.answer);
    match target.kind {
        ActorKind::Aggregate | ActorKind::EventStore => {
            write().await?;
            Ok("write acknowledged")
        }
        ActorKind::Outbox | ActorKind::Relay => {
            let written = write().await?;
            persist(begun, limit, || delivered(api, written.position)).await?;
            Ok("event in the broker")
        }
        ActorKind::Projection => {
            let written = write().await?;
            persist(begun, limit, || projected(api, written)).await?;
            Ok("own write read")
        }
        ActorKind::Mirror => {
            let migration = persist(begun, limit, || migration(api)).await?;
            if migration.answer["mode"] != "dual_write" {
                return runs(api, target, killed, begun, limit).await;
            }
            let written = write().await?;
            persist(begun, limit, || mirrored(api, written.position)).await?;
            Ok("event in both stores")
        }
        ActorKind::MigrationMode => {
            let dry = persist(begun, limit, || dry_run(api)).await?;
            if dry.answer {
                return Ok("dry run answered");
            }
            runs(api, target, killed, begun, limit).await
        }
    }
}

/// For actors without work that can be requested: waits until it runs.
async fn runs(
    api: &Api,
    target: &Target,
    killed: &Killed,
    begun: Instant,
    limit: Duration,
) -> Result<&'static str, Waited> {
    let first = OnceCell::new();
    persist(begun, limit, || async {
        let Some(now) = target.inspect(api).await? else {
            return Ok(None);
        };
        let first = *first.get_or_init(|| now);
        Ok(now.goes_on(killed.before, first).then_some(()))
    })
    .await?;
    Ok("runs again")
}

/// Whether the broker has acknowledged everything up to this event.
async fn delivered(api: &Api, event: Position) -> Result<Option<()>, ApiError> {
    let outbox = api.get("/api/v1/admin/outbox").await?;
    Ok(passed(&outbox, event, "delivered"))
}

/// Whether the store that does not lead has this event.
async fn mirrored(api: &Api, event: Position) -> Result<Option<()>, ApiError> {
    let migration = api.get("/api/v1/admin/migration").await?;
    Ok(passed(&migration, event, "mirrored"))
}

/// Whether the watermark of this name in the event's partition is beyond its commit.
fn passed(report: &Value, event: Position, watermark: &str) -> Option<()> {
    let partitions = report["partitions"].as_array()?;
    let number = u64::from(event.partition.0);
    let own = partitions.iter().find(|p| p["partition"] == number)?;
    let reached = own[watermark].as_u64()?;
    (reached > event.offset).then_some(())
}

/// Whether a read that requires this event is answered.
async fn projected(api: &Api, written: Acknowledged) -> Result<Option<()>, ApiError> {
    let request = api
        .request(Method::GET, "/api/v1/databases?limit=1")
        .header("X-Min-Position", written.position.to_string());
    api.send(request).await.map(|_| Some(()))
}

async fn migration(api: &Api) -> Result<Option<Value>, ApiError> {
    api.get("/api/v1/admin/migration").await.map(Some)
}

/// Asks for a dry run of the current mode; false where there is only one mode.
async fn dry_run(api: &Api) -> Result<Option<bool>, ApiError> {
    const PATH: &str = "/api/v1/admin/migration/mode";
    let now = api.get("/api/v1/admin/migration").await?;
    let mut order = json!({ "mode": now["mode"], "reason": "a drill's look", "dry_run": true });
    if now["mode"] == "dual_write" {
        order["lead"] = now["lead"].clone();
    }
    let answer = api
        .exchange(api.request(Method::POST, PATH).json(&order))
        .await?;
    let body: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    match answer.status {
        status if status.is_success() => Ok(Some(true)),
        StatusCode::CONFLICT if body["code"] == "no_postgres" => Ok(Some(false)),
        // An answer that another switch is under way also comes from a working actor.
        StatusCode::CONFLICT => Ok(Some(true)),
        status => Err(failure(status, answer.retry_after, &body)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Life = Life {
        running: true,
        restarts: 2,
        polls: 50,
    };

    #[test]
    fn an_actor_that_was_not_killed_yet_is_not_taken_for_one_that_came_back() {
        assert!(!BEFORE.goes_on(Some(BEFORE), BEFORE));
        let pausing = Life {
            running: false,
            restarts: 3,
            ..BEFORE
        };
        assert!(!pausing.goes_on(Some(BEFORE), pausing));
        let restarted = Life {
            running: true,
            ..pausing
        };
        assert!(restarted.goes_on(Some(BEFORE), restarted));
        let after_a_hang = Life {
            polls: 51,
            ..BEFORE
        };
        assert!(after_a_hang.goes_on(Some(BEFORE), BEFORE));
        let another_process = Life {
            restarts: 0,
            polls: 1,
            ..BEFORE
        };
        assert!(another_process.goes_on(Some(BEFORE), another_process));
    }

    #[test]
    fn an_event_is_through_when_the_watermark_of_its_partition_is_beyond_its_commit() {
        let report = json!({ "partitions": [
            { "partition": 0, "delivered": 9 }, { "partition": 1, "delivered": 4 }] });
        let at = |text: &str| passed(&report, text.parse().unwrap(), "delivered").is_some();
        assert!(at("0/8/3") && at("1/3/0"));
        assert!(!at("0/9/0") && !at("1/4/0") && !at("2/0/0"));
    }

    #[test]
    fn an_actor_is_found_wherever_it_stands_and_a_branch_is_none() {
        let tree = json!({ "children": [
            { "path": "event_store", "kind": "supervisor", "children": [
                { "path": "event_store/0", "kind": "event_store", "restarts": 7, "children": [] }] }] });
        assert_eq!(find(&tree, "event_store/0").unwrap()["restarts"], 7);
        assert!(find(&tree, "event_store").is_none());
    }
}
