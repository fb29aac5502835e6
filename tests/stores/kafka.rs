//! The transport's promises, against the real protocol.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oms::domain::ids::PartitionId;
use oms::store::adapters::kafka::inspect::inspect;
use oms::store::adapters::kafka::{KafkaSettings, KafkaTransport};
use oms::store::error::StoreErrorKind;
use oms::store::health::{DependencyState, Health};
use oms::store::ports::transport::{Message, Outcome, Transport};
use oms_testkit::kafka::Broker;
use oms_testkit::kafka_proxy::{Fault, KafkaProxy};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tokio::time::Instant;

const TOPIC: &str = "oms.stream";
const FOREVER: Duration = Duration::from_secs(3600);

pub(super) fn transport(settings: KafkaSettings) -> (KafkaTransport, Arc<Health>) {
    let health = Arc::new(Health::new(oms_testkit::now));
    let transport = KafkaTransport::new(settings, oms_testkit::io(), health.clone());
    (transport.expect("settings"), health)
}

/// The real broker that was asked for.
fn real_broker() -> Option<String> {
    let bootstrap = std::env::var("OMS_TEST_KAFKA").ok();
    if bootstrap.is_none() {
        eprintln!("not run: OMS_TEST_KAFKA names no broker");
    }
    bootstrap
}

/// Of topics that nobody else uses.
fn fresh_prefix() -> String {
    format!("t{}", oms::clock::new_uuid().simple())
}

/// With all the time there is, as the one that publishes this partition.
pub(super) async fn publish(kafka: &KafkaTransport, messages: Vec<Message>) -> Vec<Outcome> {
    if let Err(e) = kafka.fence(&[PartitionId(0)]).await {
        return vec![Outcome::Failed(e); messages.len()];
    }
    publish_without_fence(kafka, messages).await
}

async fn publish_without_fence(kafka: &KafkaTransport, messages: Vec<Message>) -> Vec<Outcome> {
    kafka.publish(messages, Instant::now() + FOREVER).await
}

fn message(key: &str, value: String) -> Message {
    Message {
        partition: PartitionId(0),
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
    let outcomes = publish(&kafka, messages).await;
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
    assert!(publish(&kafka, vec![message("k", "v".into())]).await[0].is_delivered());
}

#[tokio::test(flavor = "multi_thread")]
async fn law_4_nobody_there_is_a_failure_not_a_refusal() {
    let settings = KafkaSettings {
        bootstrap: "127.0.0.1:1".into(),
        declare_timeout: Duration::from_millis(300),
        ..KafkaSettings::default()
    };
    let (kafka, health) = transport(settings);
    let outcomes = publish(&kafka, vec![message("k", "v".into()); 3]).await;
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
    let outcomes = publish(
        &kafka,
        vec![
            message("a", "fine".into()),
            message("b", "x".repeat(20_000)),
            message("b", "behind it".into()),
            message("c", "fine".into()),
        ],
    )
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

/// A produce request fails, in each way there is, with others of its key behind it; the first of a
/// new producer, of which the broker knows nothing yet, or a later one.
async fn fail_one_of_many(bootstrap: &str, prefix: &str, proxy: KafkaProxy, transactions: bool) {
    let mut settings = KafkaSettings {
        bootstrap: proxy.address().to_string(),
        topic_prefix: prefix.to_owned(),
        transactions,
        ..KafkaSettings::default()
    };
    // A request for each message, so that there are many that could overtake.
    settings
        .extra
        .insert("batch.num.messages".into(), "1".into());
    let topic = settings.topics().of("order");
    let (kafka, _) = transport(settings);
    // Topics that were just made are not ready on every broker at once.
    oms_testkit::eventually("the topics are ready", || async {
        let first = Message {
            topic: topic.clone(),
            ..message("k", "000000".into())
        };
        publish(&kafka, vec![first]).await[0]
            .is_delivered()
            .then_some(())
    })
    .await;
    let faults = [
        Fault::Refuse(10), // MESSAGE_TOO_LARGE
        Fault::Refuse(19), // NOT_ENOUGH_REPLICAS
        Fault::LoseRequest,
        Fault::Refuse(45), // OUT_OF_ORDER_SEQUENCE_NUMBER
        Fault::LoseAnswer,
        Fault::Refuse(21), // INVALID_REQUIRED_ACKS
        Fault::Refuse(7),  // REQUEST_TIMED_OUT
        Fault::Refuse(87), // INVALID_RECORD
    ];
    let mut next = 1;
    for round in 0..2 * faults.len() {
        let passing = [0, 3][round % 2];
        let fault = faults[round / 2];
        proxy.fail(passing, &[fault]);
        let wave = (next..next + 12).map(|i| Message {
            topic: topic.clone(),
            ..message("k", format!("{i:06}"))
        });
        let begun = Instant::now();
        let outcomes = publish(&kafka, wave.collect()).await;
        let published = begun.elapsed();
        let bound = KafkaSettings::default().delivery_timeout;
        assert!(
            published < bound,
            "{fault:?} after {passing} held up the wave"
        );
        assert!(
            proxy.has_failed(),
            "{fault:?} after {passing} did not happen"
        );
        let delivered = outcomes.iter().take_while(|o| o.is_delivered()).count();
        let after = outcomes.iter().skip(delivered);
        let after = after.filter(|o| o.is_delivered()).count();
        assert_eq!(
            after, 0,
            "{fault:?}: delivered past a failure: {outcomes:?}"
        );
        next += delivered;
        // What is promised is in the broker, and nothing overtook it.
        let mut first_seen: Vec<String> = Vec::new();
        for read in oms_testkit::kafka::read_all(bootstrap, &topic).await {
            let value = String::from_utf8(read.value).expect("a text");
            if !first_seen.contains(&value) {
                first_seen.push(value);
            }
        }
        let expected = (0..first_seen.len()).map(|i| format!("{i:06}"));
        let in_order = expected.eq(first_seen.iter().cloned());
        assert!(
            in_order,
            "{fault:?} after {passing}: the broker has {first_seen:?}"
        );
        let stored = first_seen.len();
        let all = begun.elapsed();
        eprintln!(
            "{fault:?} after {passing}: {delivered} delivered in {published:?}, read by {all:?}"
        );
        assert!(
            stored >= next,
            "{fault:?} after {passing}: {next} delivered, {stored} stored"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_9_nothing_overtakes_a_message_that_failed() {
    let broker = Broker::start();
    let address = broker.bootstrap.parse().expect("an address");
    let proxy = KafkaProxy::start_checking(address).await;
    fail_one_of_many(&broker.bootstrap, "oms", proxy, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_9_nothing_overtakes_a_message_that_failed_in_a_transaction() {
    let broker = Broker::start();
    let address = broker.bootstrap.parse().expect("an address");
    let proxy = KafkaProxy::start_checking(address).await;
    fail_one_of_many(&broker.bootstrap, "oms", proxy, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_9_nothing_overtakes_a_message_that_failed_on_a_real_broker() {
    let Some(bootstrap) = real_broker() else {
        return;
    };
    let proxy = KafkaProxy::start(bootstrap.parse().expect("an address")).await;
    fail_one_of_many(&bootstrap, &fresh_prefix(), proxy, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_9_nothing_overtakes_a_message_that_failed_in_a_real_transaction() {
    let Some(bootstrap) = real_broker() else {
        return;
    };
    let proxy = KafkaProxy::start(bootstrap.parse().expect("an address")).await;
    fail_one_of_many(&bootstrap, &fresh_prefix(), proxy, true).await;
}

/// What a process sent and the network kept reaches the broker after another one took over and
/// published. Returns the values that the broker has then, in order.
async fn late(bootstrap: &str, transactions: bool) -> Vec<String> {
    let prefix = fresh_prefix();
    let proxy = KafkaProxy::start(bootstrap.parse().expect("an address")).await;
    let first = KafkaSettings {
        bootstrap: proxy.address().to_string(),
        topic_prefix: prefix,
        transactions,
        // Short, since the test waits for it to pass.
        delivery_timeout: Duration::from_secs(3),
        ..KafkaSettings::default()
    };
    let second = KafkaSettings {
        bootstrap: bootstrap.to_owned(),
        ..first.clone()
    };
    let topic = first.topics().of("order");
    let of_topic = |value: &str| Message {
        topic: topic.clone(),
        ..message("k", value.to_owned())
    };
    let ((first, _), (second, _)) = (transport(first), transport(second));
    oms_testkit::eventually("the topics are ready", || async {
        let begun = publish(&first, vec![of_topic("1")]).await;
        begun[0].is_delivered().then_some(())
    })
    .await;
    proxy.fail(0, &[Fault::Late; 100]);
    let sent = publish(&first, vec![of_topic("2")]);
    let taken_over = async {
        oms_testkit::eventually("the network keeps it", || async {
            (proxy.kept() > 0).then_some(())
        })
        .await;
        for value in ["2", "3"] {
            let outcomes = publish(&second, vec![of_topic(value)]).await;
            assert!(outcomes[0].is_delivered(), "{outcomes:?}");
        }
    };
    let (outcomes, ()) = tokio::join!(sent, taken_over);
    assert!(!outcomes[0].is_delivered(), "{outcomes:?}");
    proxy.deliver_late().await;
    let read = oms_testkit::kafka::read_all(bootstrap, &topic).await;
    let values = read.into_iter().map(|m| String::from_utf8(m.value));
    values.collect::<Result<_, _>>().expect("texts")
}

/// Law 9: time alone does not keep such a message out, the broker does.
///
/// librdkafka's in-process broker fences nobody off.
#[tokio::test(flavor = "multi_thread")]
async fn law_9_what_comes_late_is_refused_by_a_real_broker() {
    let Some(bootstrap) = real_broker() else {
        return;
    };
    let with_time_alone = late(&bootstrap, false).await;
    assert_eq!(with_time_alone[..3], ["1", "2", "3"]);
    assert!(
        with_time_alone[3..].contains(&"2".to_owned()),
        "the trial shows what it is for: {with_time_alone:?}"
    );
    assert_eq!(late(&bootstrap, true).await, ["1", "2", "3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_checks_an_installation_learns_whether_there_are_fences() {
    let broker = Broker::start();
    let there = KafkaSettings {
        transactions: true,
        ..broker.settings()
    };
    let found = inspect(&there).await.expect("described");
    assert_eq!(found.unfenced, None);
    // A broker that knows the request and refuses the account.
    broker.order(|cluster| {
        let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
        cluster.request_errors(RDKafkaApiKey::InitProducerId, &[refused; 20]);
    });
    let found = inspect(&there).await.expect("described");
    let why = found.unfenced.expect("no fence");
    assert!(why.to_lowercase().contains("authorization"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_9_a_real_broker_takes_of_each_partition_what_the_last_one_sends_who_fenced_it() {
    let Some(bootstrap) = real_broker() else {
        return;
    };
    let settings = KafkaSettings {
        bootstrap,
        topic_prefix: fresh_prefix(),
        transactions: true,
        ..KafkaSettings::default()
    };
    let topic = settings.topics().of("order");
    let ((one, _), (two, _)) = (transport(settings.clone()), transport(settings));
    let [p0, p1] = [PartitionId(0), PartitionId(1)];
    let of = |partition: PartitionId, value: &str| Message {
        partition,
        topic: topic.clone(),
        ..message(&format!("k{partition}"), value.to_owned())
    };
    // Nothing is sent for a partition that is not fenced.
    let outcomes = publish_without_fence(&one, vec![of(p0, "never")]).await;
    assert!(matches!(&outcomes[0], Outcome::Failed(e) if e.kind == StoreErrorKind::Conflict));
    assert_eq!(one.fence(&[p0, p1]).await.expect("fenced"), 2);
    assert_eq!(one.fence(&[p0, p1]).await.expect("fenced"), 2, "still");
    let both = || vec![of(p0, "1"), of(p1, "1")];
    let outcomes = publish_without_fence(&one, both()).await;
    assert!(outcomes.iter().all(Outcome::is_delivered), "{outcomes:?}");
    // Another one takes one of the two; the other one goes on.
    assert_eq!(two.fence(&[p1]).await.expect("fenced"), 1);
    let outcomes = publish_without_fence(&one, both()).await;
    assert!(outcomes[0].is_delivered(), "{outcomes:?}");
    assert!(!outcomes[1].is_delivered(), "{outcomes:?}");
    assert_eq!(one.fence(&[p0, p1]).await.expect("fenced"), 3, "p1 anew");
    // What it gives up is not sent either.
    assert_eq!(one.fence(&[p1]).await.expect("fenced"), 3);
    let outcomes = publish_without_fence(&one, both()).await;
    assert!(!outcomes[0].is_delivered() && outcomes[1].is_delivered());
}

#[tokio::test(flavor = "multi_thread")]
async fn law_9_a_wave_that_its_lease_would_not_outlast_is_not_begun() {
    let broker = Broker::start();
    let (kafka, _) = transport(broker.settings());
    let short = kafka.wave_bound() - Duration::from_millis(1);
    let outcomes = kafka
        .publish(vec![message("k", "late".into())], Instant::now() + short)
        .await;
    assert!(matches!(&outcomes[0], Outcome::Failed(e) if !e.is_indeterminate()));
    assert!(publish(&kafka, vec![message("k", "in time".into())]).await[0].is_delivered());
    let read = broker.read(TOPIC).await;
    assert_eq!(read.len(), 1, "{read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wave_that_is_not_settled_in_time_is_given_back_whole() {
    let broker = Broker::start();
    // Short, since the test waits for it to pass.
    let (kafka, _) = transport(KafkaSettings {
        delivery_timeout: Duration::from_secs(5),
        ..broker.settings()
    });
    assert!(publish(&kafka, vec![message("k", "0".into())]).await[0].is_delivered());
    broker.go_down();
    let outcomes = publish(
        &kafka,
        (1..100).map(|i| message("k", i.to_string())).collect(),
    )
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
    broker.come_up();
    let again = oms_testkit::eventually("the broker is back", || async {
        let outcomes = publish(&kafka, vec![message("k", "1".into())]).await;
        outcomes[0].is_delivered().then_some(())
    });
    again.await;
}
