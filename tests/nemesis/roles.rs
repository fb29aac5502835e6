//! Parts of the service in processes of their own: one takes writes, one delivers, one keeps the read
//! model. Each does its part wherever the events were written, and no other.

use std::collections::BTreeSet;
use std::time::Instant;

use oms_testkit::service::PATIENCE;
use reqwest::Method;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Node, until};

const INSTANCES: &str = "/api/v1/databases/shop/classes/Thing/instances";

/// Of one wave.
const WRITES: usize = 12;

async fn post(cluster: &Cluster, node: &Node, path: &str, body: &Value) -> Value {
    let answer = node.send(&cluster.http, Method::POST, path, Some(body));
    let (status, told) = answer.await.expect("an answer");
    assert!((200..300).contains(&status), "{path}: {status} {told}");
    told
}

async fn write(cluster: &Cluster, from: usize) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for i in from..from + WRITES {
        let body = json!({"id": format!("t{i}"), "data": {"n": i}});
        post(cluster, &cluster.nodes[0], INSTANCES, &body).await;
        ids.insert(format!("t{i}"));
    }
    ids
}

/// Ids of the instances of which Kafka has a message: its key is the name of the stream.
fn delivered(cluster: &Cluster) -> BTreeSet<String> {
    let messages = cluster.followed.since(0);
    let ids = messages
        .iter()
        .filter_map(|message| message.key.rsplit('/').next());
    ids.map(str::to_owned).collect()
}

async fn seen_by_queries(cluster: &Cluster, ids: &BTreeSet<String>) {
    let query = format!("{INSTANCES}/query");
    let begun = Instant::now();
    loop {
        let all = json!({"limit": 100});
        let found = post(cluster, &cluster.nodes[0], &query, &all).await;
        let items = found["items"].as_array().cloned().unwrap_or_default();
        let seen: BTreeSet<String> = items
            .iter()
            .filter_map(|item| item["id"].as_str().map(str::to_owned))
            .collect();
        if ids.is_subset(&seen) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{found}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_9_whoever_has_the_role_delivers_what_others_wrote() {
    let role = |name| {
        let mut settings = crate::SETTINGS.to_vec();
        settings.push(("OMS__ROLES", name));
        settings
    };
    let mut cluster = Cluster::start_each(&[role("api"), role("relay"), role("projection")]).await;
    let node = &cluster.nodes[0];
    let class = json!({"id": "Thing", "label": "Thing", "properties": [
        {"name": "n", "type": "number"}]});
    post(
        &cluster,
        node,
        "/api/v1/databases",
        &json!({"name": "shop"}),
    )
    .await;
    post(&cluster, node, "/api/v1/databases/shop/classes", &class).await;

    for (node, runs) in cluster
        .nodes
        .iter()
        .zip([[false, false], [true, false], [false, true]])
    {
        let path = "/api/v1/admin/actors";
        let tree = node.send(&cluster.http, Method::GET, path, None).await;
        let tree = tree.expect("an answer").1.to_string();
        let found = ["relay", "projection"].map(|kind| tree.contains(&format!("\"{kind}")));
        assert_eq!(
            found, runs,
            "relay and projection of node {}: {tree}",
            node.index
        );
    }

    let first = write(&cluster, 0).await;
    until("the first wave in Kafka", || {
        first.is_subset(&delivered(&cluster)).then_some(())
    })
    .await;
    seen_by_queries(&cluster, &first).await;

    // Queries go on while the relay is down, and what was written then is delivered afterwards.
    cluster.nodes[1].kill_9();
    let second = write(&cluster, WRITES).await;
    seen_by_queries(&cluster, &second).await;
    cluster.nodes[1].spawn();
    until("the second wave in Kafka", || {
        second.is_subset(&delivered(&cluster)).then_some(())
    })
    .await;
}
