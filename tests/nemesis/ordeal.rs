//! Faults that are ordered, not drawn: each makes one kind of flaw show.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use oms_testkit::proxy::Link;
use oms_testkit::service::PATIENCE;
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::clients::{Client, Shared};
use crate::cluster::{Cluster, Dependency};
use crate::history::Outcome;

const FAIL_POINTS: &str = "/api/v1/admin/actors/failpoints";
const MODE: &str = "/api/v1/admin/migration/mode";

/// How long the fail points of [`Ordeal::LostAnswers`] stay armed: longer than a put is tried.
const LOST_ANSWERS: Duration = Duration::from_millis(1_200);

/// Clients that ask once while answers are lost.
const ONCE: usize = 6;

/// Clients that contend: more than one, so that one must lose.
const CONTENDERS: usize = 3;

/// Commands of a burst: three times what one entity takes in.
const BURST: usize = 96;

/// How late the first put of a burst is, in milliseconds: until then all of it has arrived.
const BURST_HELD: u64 = 1_000;

/// How long PostgreSQL is away: long enough for writes that do not need it, however slow the machine.
const AWAY: Duration = Duration::from_secs(3);

/// How much later the second node hears from PostgreSQL of a hand-off.
const LATE: Duration = Duration::from_millis(700);

/// The number of the next client of a crowd: none of the load has one so high.
static CROWD: AtomicUsize = AtomicUsize::new(1_000);

/// What a campaign goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ordeal {
    /// Nothing: the load alone is enough.
    Load,
    /// Calls that fail at a fail point, so many times, before anything was sent.
    Refused(&'static str, u32),
    /// Puts that happen and whose answers are all lost for a while.
    LostAnswers,
    /// The first node is killed and started again.
    Kill,
    /// Clients that take a stream for new, of which only one can be right.
    Contention,
    /// More commands on one entity at once than it may take in.
    Burst,
    /// A switch is ordered for which nothing speaks.
    Unproven,
    /// No node reaches PostgreSQL for a while, with S3 leading.
    WithoutPostgres,
    /// The lead moves from S3 to PostgreSQL, of which the last node hears late.
    HandOff,
}

impl Ordeal {
    /// Goes through it.
    pub async fn run(self, cluster: &mut Cluster, shared: &Arc<Shared>) {
        match self {
            Self::Load => {}
            Self::Refused(point, times) => arm(cluster, point, "error", times).await,
            Self::LostAnswers => {
                // Nobody else's command must be the one whose answer is lost.
                shared.rest(true).await;
                let point = "s3.put_if_absent.after";
                arm(cluster, point, "error", u32::MAX).await;
                let clients = crowd(shared, ONCE, |mut client| async move {
                    client.append_once("unanswered").await
                });
                tokio::time::sleep(LOST_ANSWERS).await;
                arm(cluster, point, "error", 0).await;
                answers(clients).await;
                shared.rest(false).await;
            }
            Self::Contention => {
                let crowd = crowd(shared, CONTENDERS, |mut client| async move {
                    client.append_anew("0").await
                });
                answers(crowd).await;
            }
            Self::Burst => {
                shared.rest(true).await;
                arm(cluster, "s3.put_if_absent.before", "delay", 1).await;
                let answers = answers(crowd(shared, BURST, |mut client| async move {
                    client.append_once("burst").await
                }))
                .await;
                let away = |outcome: &&Outcome| matches!(outcome, Outcome::NotDone { .. });
                let away = answers.iter().filter(away).count();
                shared.history.lock().expect("lock").bursts.push(away);
                shared.rest(false).await;
            }
            Self::Unproven => {
                let body = json!({"mode": "s3_only", "reason": "an ordeal"});
                let node = &cluster.nodes[0];
                let answer = node
                    .send(&cluster.http, Method::POST, MODE, Some(&body))
                    .await;
                let (status, _) = answer.expect("an answer");
                shared.history.lock().expect("lock").unproven.push(status);
            }
            Self::Kill => {
                let http = cluster.http.clone();
                let node = &mut cluster.nodes[0];
                node.kill_9();
                node.spawn();
                node.until_ready(&http).await;
            }
            Self::WithoutPostgres => {
                let postgres = |link| {
                    for node in &cluster.nodes {
                        node.links.of(Dependency::Postgres).set(link);
                    }
                };
                let from = shared.now();
                postgres(Link::Cut);
                tokio::time::sleep(AWAY).await;
                let mut history = shared.history.lock().expect("lock");
                history.without_postgres.push((from, shared.now()));
                drop(history);
                postgres(Link::Pass);
            }
            Self::HandOff => hand_off(cluster).await,
        }
    }
}

/// So many clients that each do one thing.
fn crowd<T>(shared: &Arc<Shared>, size: usize, act: fn(Client) -> T) -> Vec<JoinHandle<Outcome>>
where
    T: Future<Output = Outcome> + Send + 'static,
{
    let first = CROWD.fetch_add(size, Ordering::SeqCst);
    (first..first + size)
        .map(|number| Client::new(shared.clone(), number, number as u64))
        .map(|client| tokio::spawn(act(client)))
        .collect()
}

async fn answers(crowd: Vec<JoinHandle<Outcome>>) -> Vec<Outcome> {
    let mut answers = Vec::with_capacity(crowd.len());
    for client in crowd {
        answers.push(client.await.expect("a client"));
    }
    answers
}

async fn arm(cluster: &Cluster, point: &str, action: &str, times: u32) {
    for node in &cluster.nodes {
        let body = json!({"name": point, "action": action, "times": times,
            "delay_ms": BURST_HELD});
        let answer = node
            .send(&cluster.http, Method::POST, FAIL_POINTS, Some(&body))
            .await;
        assert!(matches!(answer, Some((202, _))), "{point}: {answer:?}");
    }
}

async fn hand_off(cluster: &Cluster) {
    let (first, last) = (&cluster.nodes[0], cluster.nodes.last().expect("a node"));
    last.links.of(Dependency::Postgres).set(Link::Slow(LATE));
    let body = json!({"mode": "legacy", "reason": "an ordeal", "force": true});
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = first
            .send(&cluster.http, Method::POST, MODE, Some(&body))
            .await;
        if matches!(answer, Some((200, _))) {
            break;
        }
        assert!(Instant::now() < deadline, "no hand-off: {answer:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // What the late one still does meanwhile is the point.
    tokio::time::sleep(LATE).await;
    last.links.of(Dependency::Postgres).set(Link::Pass);
}
