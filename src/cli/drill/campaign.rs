//! Kills, round by round, each kind in turn.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::output::Output;
use super::super::remote::{Api, ApiError};
use super::answer::{Killed, Life, Target, answered};
use super::pace::{Pace, min_interval};
use super::patience::{Waited, persist};
use super::report::{NotBack, Strike};
use super::stream::{Stream, Streams};
use crate::actors::supervision::policy::ActorKind;
use crate::clock::SystemClock;
use crate::domain::time::Clock;

/// Stream names tried at most per partition until every partition has a stream; each name falls
/// into one of them by its hash.
const TRIES_PER_PARTITION: usize = 64;

/// The actors to kill, and the streams through which their work is checked.
pub struct Plan {
    kinds: Vec<(ActorKind, Vec<String>)>,
    /// One stream in each partition.
    partitions: Vec<Arc<Stream>>,
    /// Failures of actors before the drill, which count towards their limits.
    failed: Vec<Failed>,
}

struct Failed {
    kind: ActorKind,
    path: String,
    restarts: u64,
    last: Instant,
}

impl Plan {
    /// Selects the wanted actors among those that the service has.
    pub async fn make(
        api: &Api,
        streams: &Streams,
        limit: Duration,
        wanted: impl Fn(ActorKind) -> bool,
    ) -> anyhow::Result<Self> {
        let tree = api.get("/api/v1/admin/actors").await?;
        let mut found = Vec::new();
        nodes(tree.get("root").unwrap_or(&tree), &mut found);
        let of = |kind: ActorKind| -> Vec<String> {
            let of_kind = found.iter().filter(|node| node["kind"] == kind.as_str());
            let paths = of_kind.filter_map(|node| node["path"].as_str());
            paths.map(str::to_owned).collect()
        };
        let stores = of(ActorKind::EventStore);
        anyhow::ensure!(
            !stores.is_empty(),
            "the service does not write events: it has no actor of kind {}",
            ActorKind::EventStore.as_str()
        );
        let kinds = ActorKind::ALL.into_iter().filter(|kind| wanted(*kind));
        let kinds = kinds.filter_map(|kind| match kind {
            // Each kill has an entity of its own, which the drill activates.
            ActorKind::Aggregate => Some((kind, Vec::new())),
            kind => Some((kind, of(kind))).filter(|(_, paths)| !paths.is_empty()),
        });
        Ok(Self {
            kinds: kinds.collect(),
            partitions: one_each(api, streams, stores.len(), limit).await?,
            failed: found.iter().filter_map(|node| failed(node)).collect(),
        })
    }

    pub fn has(&self, name: &str) -> bool {
        self.names().contains(&name)
    }

    pub fn names(&self) -> Vec<&'static str> {
        self.kinds.iter().map(|(kind, _)| kind.as_str()).collect()
    }
}

fn nodes<'a>(node: &'a Value, found: &mut Vec<&'a Value>) {
    for child in node["children"].as_array().into_iter().flatten() {
        found.push(child);
        nodes(child, found);
    }
}

/// How often and when an actor failed, if it did. Assumes that the service's clock agrees with
/// ours.
fn failed(node: &Value) -> Option<Failed> {
    let name = node["kind"].as_str()?;
    let kind = ActorKind::ALL.into_iter().find(|k| k.as_str() == name)?;
    let at: Timestamp = node["last_failure"]["at"].as_str()?.parse().ok()?;
    let ago = SystemClock.now().duration_since(at);
    let ago = Duration::try_from(ago).unwrap_or_default();
    Some(Failed {
        kind,
        path: node["path"].as_str()?.to_owned(),
        restarts: node["restarts"].as_u64()?,
        last: Instant::now().checked_sub(ago)?,
    })
}

/// A stream in every partition; the answer to its first event tells which partition it is in.
async fn one_each(
    api: &Api,
    streams: &Streams,
    partitions: usize,
    limit: Duration,
) -> anyhow::Result<Vec<Arc<Stream>>> {
    let mut found = vec![None; partitions];
    for _ in 0..partitions * TRIES_PER_PARTITION {
        let stream = streams.open();
        let receipt = stream.write(api, limit).await?.answer;
        if let Some(place) = found.get_mut(usize::from(receipt.position.partition.0)) {
            *place = Some(stream);
        }
        if found.iter().all(Option::is_some) {
            return Ok(found.into_iter().flatten().collect());
        }
    }
    anyhow::bail!("no stream was found for some of the {partitions} partitions")
}

pub struct Campaign<'a> {
    pub api: &'a Api,
    pub streams: &'a Streams,
    pub plan: Plan,
    pub how: &'a str,
    pub rounds: u32,
    /// How long an actor may take to work again.
    pub limit: Duration,
    /// Shortest time between two kills of one actor, unless its policy asks for more.
    pub rest: Duration,
    pub output: Output,
}

impl Campaign<'_> {
    /// Kills until all rounds are done or an actor does not come back, which is returned. `strikes`
    /// holds the results at any moment, in case it is interrupted.
    pub async fn run(self, strikes: &mut Vec<Strike>) -> anyhow::Result<Option<NotBack>> {
        let mut pace = Pace::default();
        for actor in &self.plan.failed {
            let policy = actor.kind.policy();
            pace.failed(&actor.path, policy, actor.restarts, actor.last);
        }
        for round in 0..self.rounds as usize {
            for (kind, paths) in &self.plan.kinds {
                let target = self.target(*kind, paths, round).await?;
                let policy = kind.policy();
                let rest = self.rest.max(min_interval(policy));
                let before = self.inspect(&target).await?;
                if let Some(life) = before {
                    pace.seen(&target.path, policy, life.restarts, Instant::now());
                }
                if let Some(next) = pace.next(&target.path, policy, rest) {
                    tokio::time::sleep_until(next.into()).await;
                }
                let begun = Instant::now();
                self.kill(&target).await?;
                let killed = Killed { before };
                let pause = pace.killed(&target.path, policy, begun);
                match answered(self.api, &target, &killed, begun, self.limit).await {
                    Ok(answer) => {
                        let took = begun.elapsed();
                        self.output.note(&format!(
                            "{}/{} {}: {answer} after {:.1} ms",
                            round + 1,
                            self.rounds,
                            target.path,
                            took.as_secs_f64() * 1e3
                        ));
                        strikes.push(Strike {
                            kind: *kind,
                            answer,
                            took,
                            pause,
                        });
                    }
                    Err(Waited::Api(error)) => return Err(error.into()),
                    Err(error @ Waited::TooLong { .. }) => {
                        return Ok(Some(NotBack {
                            kind: kind.as_str(),
                            path: target.path,
                            error: error.to_string(),
                        }));
                    }
                }
            }
        }
        Ok(None)
    }

    /// The actor to kill in this round, and the stream through which its work is checked.
    async fn target(
        &self,
        kind: ActorKind,
        paths: &[String],
        round: usize,
    ) -> anyhow::Result<Target> {
        if kind == ActorKind::Aggregate {
            let stream = self.streams.open();
            stream.write(self.api, self.limit).await?;
            let path = format!(
                "{}/{}/{}",
                kind.as_str(),
                super::stream::STREAM_TYPE,
                stream.id
            );
            return Ok(Target { kind, path, stream });
        }
        let path = paths[round % paths.len()].clone();
        // For the actor of a partition a stream of that partition, for others any.
        let number = path.rsplit('/').next().and_then(|n| n.parse().ok());
        let partition: usize = number.unwrap_or(round % self.plan.partitions.len());
        let stream = self.plan.partitions.get(partition).cloned();
        let stream = stream.ok_or_else(|| anyhow::anyhow!("{path} is of no known partition"))?;
        Ok(Target { kind, path, stream })
    }

    /// The state of an actor. Of entities only the first hundred are in the tree, so they are
    /// checked by their answers alone.
    async fn inspect(&self, target: &Target) -> anyhow::Result<Option<Life>> {
        if target.kind == ActorKind::Aggregate {
            return Ok(None);
        }
        let life = persist(Instant::now(), self.limit, || target.inspect(self.api));
        Ok(Some(life.await?.answer))
    }

    /// Requests the kill. Without an answer it may have been carried out, perhaps on the whole
    /// process.
    async fn kill(&self, target: &Target) -> anyhow::Result<()> {
        let order = json!({ "path": target.path, "how": self.how });
        let ordered = persist(Instant::now(), self.limit, || async {
            match self.api.post("/api/v1/admin/actors/kill", &order).await {
                Ok(_) | Err(ApiError::Unreachable { .. }) => Ok(Some(())),
                // It is just being restarted.
                Err(ApiError::Refused { code, .. }) if code == "actor_not_running" => Ok(None),
                Err(error) => Err(error),
            }
        });
        ordered.await?;
        Ok(())
    }
}
