//! Kafka as companies run it: TLS by an authority of their own, accounts, rights.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use oms::domain::ids::PartitionId;
use oms::store::adapters::kafka::KafkaSettings;
use oms::store::adapters::kafka::inspect::inspect;
use oms::store::error::StoreErrorKind;
use oms::store::health::DependencyState;
use oms::store::ports::transport::{Message, Outcome, Transport as _};
use oms_testkit::secured_kafka::SecuredKafka;

use super::kafka::{publish, transport};

const PREFIX: &str = "company";

fn message(value: &str) -> Message {
    Message {
        partition: PartitionId(0),
        topic: format!("{PREFIX}.stream"),
        key: "one".into(),
        headers: vec![],
        payload: Bytes::from(value.to_owned()),
    }
}

/// Publishes a value with these settings, and does not wait longer for it than a test can.
async fn published(settings: KafkaSettings, value: &str) -> Outcome {
    let (kafka, health) = transport(settings);
    let mut outcomes = publish(&kafka, vec![message(value)]).await;
    let outcome = outcomes.pop().unwrap();
    let up = health.status().state == DependencyState::Up;
    assert_eq!(up, outcome.is_delivered(), "{outcome:?}");
    kafka.close().await;
    outcome
}

async fn read(broker: &SecuredKafka) -> Vec<String> {
    let topic = format!("{PREFIX}.stream");
    let read = oms_testkit::kafka::read_all(&broker.administrator(), &topic).await;
    let text = |value| String::from_utf8(value).unwrap();
    read.into_iter().map(|m| text(m.value)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn law_9_a_broker_with_tls_accounts_and_rights_gets_every_event() {
    let Some(mut broker) = SecuredKafka::start().await else {
        return;
    };
    // Exactly what docs/OPERATIONS.md says is needed.
    for operation in ["Create", "Describe", "DescribeConfigs", "Write"] {
        broker.allow(operation, "--topic", PREFIX).await;
    }
    for operation in ["Describe", "Write"] {
        broker.allow(operation, "--transactional-id", PREFIX).await;
    }
    let mut sent = Vec::new();
    for (name, options) in [
        ("a certificate", broker.certificate_options()),
        ("PLAIN", broker.password_options("PLAIN")),
        ("SCRAM", broker.password_options("SCRAM-SHA-512")),
    ] {
        for transactions in [false, true] {
            let settings = KafkaSettings {
                transactions,
                ..broker.settings(PREFIX, options.clone())
            };
            let value = format!("{name}, transactions: {transactions}");
            let outcome = published(settings.clone(), &value).await;
            assert!(outcome.is_delivered(), "{value}: {outcome:?}");
            sent.push(value);
            let seen = inspect(&settings).await.unwrap();
            assert_eq!((seen.unread, seen.unfenced), (None, None), "{name}");
            assert!(seen.topics.iter().all(|topic| topic.exists), "{name}");
        }
    }
    // The broker is replaced under a transport that goes on.
    let options = broker.password_options("SCRAM-SHA-512");
    let (kafka, health) = transport(broker.settings(PREFIX, options));
    for value in ["before the broker was restarted", "after it"] {
        let outcomes = publish(&kafka, vec![message(value)]).await;
        assert!(outcomes[0].is_delivered(), "{outcomes:?}");
        sent.push(value.to_owned());
        if value.starts_with("before") {
            broker.restart().await;
        }
    }
    assert_eq!(health.status().state, DependencyState::Up);
    assert_eq!(read(&broker).await, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn law_4_what_a_broker_will_never_accept_is_said_and_not_called_a_time_out() {
    let Some(broker) = SecuredKafka::start().await else {
        return;
    };
    let good = broker.password_options("SCRAM-SHA-512");
    let with = |name: &str, value: &str| {
        let mut options = good.clone();
        options.insert(name.to_owned(), value.to_owned());
        options
    };
    let without = |name: &str| {
        let mut options = good.clone();
        options.remove(name);
        options
    };
    let hasty = |options| KafkaSettings {
        declare_timeout: Duration::from_secs(2),
        ..broker.settings(PREFIX, options)
    };
    for (case, options, says) in [
        // The system's authorities, which do not know the company's.
        ("authority", without("ssl.ca.location"), "certificate"),
        (
            "password",
            with("sasl.password", "another"),
            "uthentication failed",
        ),
        (
            "account",
            with("sasl.username", "nobody"),
            "uthentication failed",
        ),
        (
            "mechanism",
            with("sasl.mechanism", "SCRAM-SHA-256"),
            "SCRAM-SHA-256",
        ),
    ] {
        let settings = hasty(options);
        let refused = inspect(&settings).await.unwrap_err();
        assert_eq!(refused.kind, StoreErrorKind::Denied, "{case}: {refused}");
        assert!(refused.message.contains(says), "{case}: {refused}");
        assert!(!refused.message.contains("another"), "{case}: {refused}");
        let Outcome::Failed(failed) = published(settings, "never").await else {
            panic!("{case}");
        };
        assert_eq!(failed.kind, StoreErrorKind::Denied, "{case}: {failed}");
    }
    // A certificate that nobody asked for proves nothing; none where one is asked for is refused.
    let mut anonymous = broker.certificate_options();
    let settings = hasty(anonymous.clone());
    anonymous
        .retain(|name, _| !name.starts_with("ssl.certificate") && !name.starts_with("ssl.key"));
    let settings = KafkaSettings {
        extra: anonymous,
        ..settings
    };
    let refused = inspect(&settings).await.unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::Denied, "{refused}");
    // Signed in, without a right: nothing is there, and nothing may be made.
    let no_rights = broker.settings(PREFIX, good);
    let seen = inspect(&no_rights).await.unwrap();
    assert!(seen.topics.iter().all(|topic| !topic.exists));
    let Outcome::Failed(failed) = published(no_rights.clone(), "never").await else {
        panic!("published without a right");
    };
    assert_eq!(failed.kind, StoreErrorKind::Denied, "{failed}");
    assert!(failed.message.contains("uthorization failed"), "{failed}");
    // Rights that come later are enough: nothing has to be restarted.
    let (kafka, _) = transport(no_rights);
    let outcomes = publish(&kafka, vec![message("too early")]).await;
    assert!(!outcomes[0].is_delivered());
    for operation in ["Create", "Describe", "Write"] {
        broker.allow(operation, "--topic", PREFIX).await;
    }
    let outcomes = publish(&kafka, vec![message("allowed")]).await;
    assert!(outcomes[0].is_delivered(), "{outcomes:?}");
    kafka.declare().await.unwrap();
    assert_eq!(read(&broker).await, ["allowed"]);
}

#[tokio::test]
async fn options_of_tls_and_accounts_are_known_in_this_build() {
    let options: BTreeMap<String, String> = [
        ("security.protocol", "sasl_ssl"),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("sasl.username", "oms"),
        ("sasl.password", "a secret"),
        ("ssl.endpoint.identification.algorithm", "https"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let settings = KafkaSettings {
        extra: options,
        ..KafkaSettings::default()
    };
    transport(settings);
}
