//! What one node was told holds at the other at once, though neither has read the log since: a
//! command that comes to both is done once, and what one has acknowledged the other knows.

use oms::flaws::VARIABLE;
use reqwest::Method;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Node};

/// Keys that come to both nodes at the same moment.
const TWINS: usize = 60;

/// Commands that are asked for at the other node as soon as they are acknowledged.
const HANDED_OVER: usize = 40;

/// Times that a class is made anew, or changed, at one node while the other writes to it.
const MADE_ANEW: usize = 12;

/// A node that is not asked reads the log so seldom that nothing here can hang on it.
const SETTINGS: [(&str, &str); 1] = [("OMS__LOG__TAIL_INTERVAL", "20s")];

const CLASS: &str = "/api/v1/databases/shop/classes/Thing";

async fn cluster() -> Cluster {
    let mut settings = crate::SETTINGS.to_vec();
    settings.extend(SETTINGS);
    // To see these tests fail: in a build with the feature `flaws`, `answer_stale` or `forget_keys`.
    let flaw = std::env::var(VARIABLE);
    settings.extend(flaw.iter().map(|flaw| (VARIABLE, flaw.as_str())));
    Cluster::start(2, &settings).await
}

async fn command(cluster: &Cluster, node: &Node, path: &str, key: &str, body: &Value) -> Value {
    let request = cluster.http.post(format!("{}{path}", node.url));
    let request = request.header("Idempotency-Key", key).json(body);
    let answer = request.send().await.expect("an answer");
    let (status, text) = (answer.status(), answer.text().await.expect("a body"));
    assert_eq!(status, 201, "{key} at node {}: {text}", node.index);
    serde_json::from_str(&text).expect("JSON")
}

async fn read(cluster: &Cluster, node: &Node, path: &str) -> Value {
    let answer = node.send(&cluster.http, Method::GET, path, None).await;
    let (status, body) = answer.expect("an answer");
    assert_eq!(status, 200, "{path} at node {}: {body}", node.index);
    body
}

async fn prepare(cluster: &Cluster) {
    for (path, body) in [
        ("/api/v1/databases", json!({"name": "shop"})),
        (
            "/api/v1/databases/shop/classes",
            json!({"id": "Thing", "label": "Thing", "properties": [
                {"name": "n", "type": "number"}]}),
        ),
    ] {
        let answer = cluster.nodes[0]
            .send(&cluster.http, Method::POST, path, Some(&body))
            .await;
        assert!(matches!(answer, Some((201, _))), "{path}: {answer:?}");
    }
}

/// Where the answer says that it was done: an answer that is given again names the same.
fn done(answer: &Value) -> [Value; 3] {
    ["command_id", "version", "position"].map(|field| answer[field].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_2_a_key_that_comes_to_two_nodes_at_once_is_executed_once() {
    let cluster = cluster().await;
    prepare(&cluster).await;
    let [one, other] = &cluster.nodes[..] else {
        panic!("two nodes");
    };
    let body = json!({"events": [{"type": "Placed", "data": {}}]});
    for i in 0..TWINS {
        let key = format!("twin-{i}");
        let path = format!("/api/v1/streams/order/{i}/events");
        let (first, second) = tokio::join!(
            command(&cluster, one, &path, &key, &body),
            command(&cluster, other, &path, &key, &body),
        );
        assert_eq!(done(&first), done(&second), "{key}");
        for node in &cluster.nodes {
            let events = read(&cluster, node, &path).await;
            assert_eq!(events["total"], 1, "{key} at node {}", node.index);
        }
    }
    // And where the service makes the id up, the key is all that holds the two together.
    let instances = format!("{CLASS}/instances");
    for i in 0..TWINS / 3 {
        let key = format!("unnamed-{i}");
        let body = json!({"data": {"n": i}});
        let (first, second) = tokio::join!(
            command(&cluster, one, &instances, &key, &body),
            command(&cluster, other, &instances, &key, &body),
        );
        assert_eq!(first["id"], second["id"], "{key}");
        assert_eq!(done(&first), done(&second), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_4_what_one_node_acknowledged_the_other_knows_at_once() {
    let cluster = cluster().await;
    prepare(&cluster).await;
    for i in 0..HANDED_OVER {
        let (here, there) = (&cluster.nodes[i % 2], &cluster.nodes[(i + 1) % 2]);
        let (key, id) = (format!("handed-{i}"), format!("t{i}"));
        let body = json!({"id": id, "data": {"n": i}});
        let path = format!("{CLASS}/instances");
        let told = command(&cluster, here, &path, &key, &body).await;

        let command_id = told["command_id"].as_str().expect("an id");
        let known = read(&cluster, there, &format!("/api/v1/commands/{command_id}")).await;
        assert_eq!(known["position"], told["position"], "{key}");
        let instance = format!("{path}/{id}");
        assert_eq!(read(&cluster, there, &instance).await["data"], body["data"]);
        let history = read(&cluster, there, &format!("{instance}/history")).await;
        assert_eq!(history["items"].as_array().map(Vec::len), Some(1), "{key}");
        let then = read(&cluster, there, &format!("{instance}?at_version=1")).await;
        assert_eq!(then["data"], body["data"]);
        let again = command(&cluster, there, &path, &key, &body).await;
        assert_eq!(done(&again), done(&told), "{key}");
    }
}

/// What belongs to a class that another node has replaced would be acknowledged and never seen; what
/// another node has just allowed would be refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_4_what_one_node_did_to_a_class_the_other_writes_by_at_once() {
    let cluster = cluster().await;
    prepare(&cluster).await;
    let class = |extra: Option<usize>| {
        let property = |name: String| json!({"name": name, "type": "number"});
        let all = [Some("n".to_owned()), extra.map(|i| format!("p{i}"))];
        let properties: Vec<Value> = all.into_iter().flatten().map(property).collect();
        json!({"id": "Thing", "label": "Thing", "properties": properties})
    };
    let send = async |node: &Node, method: Method, path: &str, body: Option<&Value>| {
        let answer = node.send(&cluster.http, method.clone(), path, body).await;
        let (status, body) = answer.expect("an answer");
        assert!(
            status < 300,
            "{method} {path} at node {}: {status} {body}",
            node.index
        );
        body
    };
    // Each node has heard that the other writes.
    for node in &cluster.nodes {
        let (classes, databases) = ("/api/v1/databases/shop/classes", "/api/v1/databases");
        let other = json!({"id": format!("Other{}", node.index), "label": "o", "properties": []});
        send(node, Method::POST, classes, Some(&other)).await;
        for node in &cluster.nodes {
            read(&cluster, node, &format!("{classes}/Other{}", 0)).await;
            read(&cluster, node, &format!("{databases}/shop")).await;
        }
    }
    let instances = format!("{CLASS}/instances");
    for i in 0..MADE_ANEW {
        let (here, there) = (&cluster.nodes[i % 2], &cluster.nodes[(i + 1) % 2]);
        let id = format!("m{i}");
        send(here, Method::DELETE, CLASS, None).await;
        let classes = "/api/v1/databases/shop/classes";
        send(here, Method::POST, classes, Some(&class(None))).await;
        let body = json!({"id": id, "data": {"n": i}});
        send(there, Method::POST, &instances, Some(&body)).await;
        for node in [here, there] {
            let instance = read(&cluster, node, &format!("{instances}/{id}")).await;
            assert_eq!(instance["data"], body["data"], "{i} at node {}", node.index);
            let then = read(&cluster, node, &format!("{instances}/{id}?at_version=1")).await;
            assert_eq!(then["data"], body["data"], "{i} at node {}", node.index);
        }
        send(here, Method::PUT, CLASS, Some(&class(Some(i)))).await;
        let patch = json!({format!("p{i}"): 1});
        send(
            there,
            Method::PATCH,
            &format!("{instances}/{id}"),
            Some(&patch),
        )
        .await;
    }
}
