//! The transport's promises, against the real protocol.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oms::store::error::StoreErrorKind;
use oms::store::health::{DependencyState, Health};
use oms::store::kafka::{KafkaSettings, KafkaTransport};
use oms::store::transport::{Message, Outcome, Transport};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use support::kafka::Broker;

const TOPIC: &str = "oms.stream";

fn transport(settings: KafkaSettings) -> (KafkaTransport, Arc<Health>) {
    let health = Arc::new(Health::new(support::now));
    let transport = KafkaTransport::new(settings, support::io(), health.clone());
    (transport.expect("settings"), health)
}

fn message(key: &str, value: String) -> Message {
    Message {
        topic: TOPIC.into(),
        key: key.into(),
        headers: vec![("ce_type", "T".into())],
        payload: Bytes::from(value),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_arrive_whole_and_in_order_of_their_key() {
    let broker = Broker::start();
    let (kafka, health) = transport(broker.settings());
    let messages: Vec<Message> = (0..500)
        .map(|i| message(&format!("k{}", i % 7), format!("{i:04}")))
        .collect();
    let outcomes = kafka.publish(messages).await;
    assert_eq!(outcomes.len(), 500);
    assert!(outcomes.iter().all(Outcome::is_delivered));
    assert_eq!(health.status().state, DependencyState::Up);
    let read = broker.read(TOPIC).await;
    assert_eq!(read.len(), 500);
    for key in 0..7 {
        let key = format!("k{key}");
        let of_key: Vec<&[u8]> = read
            .iter()
            .filter(|m| m.key == key)
            .map(|m| m.value.as_slice())
            .collect();
        assert!(of_key.is_sorted() && !of_key.is_empty());
    }
    assert_eq!(read[0].header("ce_type"), Some("T"));
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_topics_are_made_even_if_the_broker_does_not_say_so() {
    let broker = Broker::start_without_topics();
    let (kafka, _) = transport(broker.settings());
    kafka.declare().await.expect("declared");
    assert!(kafka.publish(vec![message("k", "v".into())]).await[0].is_delivered());
}

#[tokio::test(flavor = "multi_thread")]
async fn law_4_nobody_there_is_a_failure_not_a_refusal() {
    let settings = KafkaSettings {
        bootstrap: "127.0.0.1:1".into(),
        declare_timeout: Duration::from_millis(300),
        ..KafkaSettings::default()
    };
    let (kafka, health) = transport(settings);
    let outcomes = kafka.publish(vec![message("k", "v".into()); 3]).await;
    assert_eq!(outcomes.len(), 3);
    for outcome in outcomes {
        let Outcome::Failed(error) = outcome else {
            panic!("{outcome:?}")
        };
        assert!(error.is_transient(), "{error}");
    }
    assert_eq!(health.status().state, DependencyState::Down);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_message_is_told_from_its_neighbours_and_holds_its_key() {
    let broker = Broker::start();
    let mut settings = broker.settings();
    settings
        .extra
        .insert("message.max.bytes".into(), "10000".into());
    let (kafka, health) = transport(settings);
    let outcomes = kafka
        .publish(vec![
            message("a", "fine".into()),
            message("b", "x".repeat(20_000)),
            message("b", "behind it".into()),
            message("c", "fine".into()),
        ])
        .await;
    assert!(outcomes[0].is_delivered() && outcomes[3].is_delivered());
    assert!(matches!(outcomes[1], Outcome::Rejected(_)), "{outcomes:?}");
    assert!(matches!(outcomes[2], Outcome::Failed(_)), "{outcomes:?}");
    assert_ne!(
        health.status().state,
        DependencyState::Down,
        "the broker is well"
    );
    let read = broker.read(TOPIC).await;
    assert!(read.iter().all(|m| m.value == b"fine") && read.len() == 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn law_9_nothing_overtakes_a_message_that_failed() {
    let broker = Broker::start();
    let mut settings = broker.settings();
    // Many requests in flight, so that there is something that could overtake.
    settings
        .extra
        .insert("batch.num.messages".into(), "5".into());
    let (kafka, _) = transport(settings);
    let errors = [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
    ];
    let mut next = 0;
    for round in 0..20 {
        let error = errors[round % errors.len()];
        broker.order(move |cluster| cluster.request_errors(RDKafkaApiKey::Produce, &[error]));
        let messages = (next..next + 60)
            .map(|i| message("k", format!("{i:06}")))
            .collect();
        let outcomes = kafka.publish(messages).await;
        let delivered = outcomes.iter().take_while(|o| o.is_delivered()).count();
        let after = outcomes
            .iter()
            .skip(delivered)
            .filter(|o| o.is_delivered())
            .count();
        assert_eq!(after, 0, "delivered past a failure: {outcomes:?}");
        next += delivered;
    }
    broker.order(|cluster| cluster.clear_request_errors(RDKafkaApiKey::Produce));
    let last = kafka
        .publish(vec![message("k", format!("{next:06}"))])
        .await;
    assert!(last[0].is_delivered(), "{last:?}");
    let mut first_seen: Vec<Vec<u8>> = Vec::new();
    for read in broker.read(TOPIC).await {
        if !first_seen.contains(&read.value) {
            first_seen.push(read.value);
        }
    }
    assert_eq!(first_seen.len(), next + 1);
    assert!(first_seen.is_sorted());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wave_that_is_not_settled_in_time_is_given_back_whole() {
    let broker = Broker::start();
    let (kafka, _) = transport(broker.settings());
    assert!(kafka.publish(vec![message("k", "0".into())]).await[0].is_delivered());
    broker.order(|cluster| cluster.broker_down(-1).expect("down"));
    let outcomes = kafka
        .publish((1..100).map(|i| message("k", i.to_string())).collect())
        .await;
    for outcome in outcomes {
        let Outcome::Failed(error) = outcome else {
            panic!("{outcome:?}")
        };
        assert!(
            error.is_indeterminate() && error.kind == StoreErrorKind::Timeout,
            "{error}"
        );
    }
    broker.order(|cluster| cluster.broker_up(-1).expect("up"));
    let again = support::eventually("the broker is back", || async {
        let outcomes = kafka.publish(vec![message("k", "1".into())]).await;
        outcomes[0].is_delivered().then_some(())
    });
    again.await;
}
