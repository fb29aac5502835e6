//! Steps of more than one story.

use std::process::Command;

use oms_testkit::broker::Broker;
use oms_testkit::service::Service;

use super::load::{Load, check_feed};
use super::{bucket, delivered, projected, read_log};
use crate::OMS;

/// Law 5 as an operator checks it.
pub fn audited(service: &Service) {
    let audit = Command::new(OMS)
        .args(["log", "audit"])
        .env("OMS__DATA_DIR", service.data_dir())
        .output()
        .expect("oms runs");
    let said = String::from_utf8_lossy(&audit.stdout);
    assert!(
        audit.status.success() && said.contains("the log is sound"),
        "{said} {}",
        String::from_utf8_lossy(&audit.stderr)
    );
}

/// Every series of a metric.
pub async fn metric(service: &Service, name: &str) -> Vec<(String, f64)> {
    let answer = service.http.get(service.at("/metrics")).send();
    let text = answer.await.expect("an answer").text().await.expect("text");
    text.lines()
        .filter(|line| line.starts_with(name))
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(series, value)| (series.to_owned(), value.parse().expect("a number")))
        .collect()
}

/// What the load got acknowledged is in the log once, in the feed, in the read model and in Kafka.
pub async fn nothing_is_lost(service: &Service, load: &Load, broker: Option<&Broker>) {
    let feed = service.whole_feed().await;
    let acknowledged = std::mem::take(&mut *load.acknowledged.lock().expect("lock"));
    check_feed(&feed, &acknowledged);
    let stored = read_log(&bucket(service)).await;
    assert_eq!(stored.len(), feed.len(), "the log and the feed are one");
    projected(service, &acknowledged.values).await;
    if let Some(broker) = broker {
        delivered(broker, &feed);
    }
    audited(service);
}

/// Four clients, until the load is stopped.
pub fn start_load(load: &Load) -> tokio::task::JoinHandle<()> {
    let load = load.clone();
    tokio::spawn(async move { load.run(4, 100_000).await })
}

/// Waits until so many more commands were acknowledged.
pub async fn grown(service: &Service, load: &Load, by: usize) {
    let before = load.count();
    service
        .until("acknowledged commands", async || {
            (load.count() >= before + by).then_some(())
        })
        .await;
}
