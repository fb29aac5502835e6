//! What the service itself says when it compares the two places of the log.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::cluster::Cluster;

const VERIFY: &str = "/api/v1/admin/migration/verify";

/// Between two looks at the job.
const LOOK: Duration = Duration::from_millis(50);

/// Has the service verify everything from offset 0: what diverges. A verification that cannot be
/// made by `deadline` proves nothing, and that is told like a divergence.
pub async fn verify(cluster: &Cluster, deadline: Instant) -> Vec<String> {
    match finished(cluster, deadline).await {
        Ok(job) => divergences(&job),
        Err(last) => vec![format!("the verification did not end: {last:?}")],
    }
}

/// The job when it is over; else the last answer.
async fn finished(cluster: &Cluster, deadline: Instant) -> Result<Value, Option<(u16, Value)>> {
    let mut started: Option<String> = None;
    loop {
        let node = &cluster.nodes[0];
        let answer = match &started {
            None => {
                node.send(&cluster.http, Method::POST, VERIFY, Some(&json!({})))
                    .await
            }
            Some(id) => {
                let path = format!("{VERIFY}/{id}");
                node.send(&cluster.http, Method::GET, &path, None).await
            }
        };
        match &answer {
            Some((202, job)) => started = job["id"].as_str().map(ToOwned::to_owned),
            Some((200, job)) if !job["ended"].is_null() => return Ok(job.clone()),
            _ => {}
        }
        if Instant::now() > deadline {
            return Err(answer);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn divergences(job: &Value) -> Vec<String> {
    let report = &job["report"];
    if job["state"] != "done" || report["full"] != true {
        return vec![format!("the verification failed: {job}")];
    }
    let listed = report["divergences"].as_array().into_iter().flatten();
    let mut found: Vec<String> = listed.map(ToString::to_string).collect();
    if report["clean"] != true && found.is_empty() {
        found.push(format!("not clean: {report}"));
    }
    found
}
