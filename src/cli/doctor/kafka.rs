//! Kafka: reach, topics, replicas, sizes, what the topics keep.

use std::time::Duration;

use super::check::{Area, Check, Finding};
use super::targets::Target;
use crate::store::adapters::kafka::KafkaSettings;
use crate::store::adapters::kafka::inspect::{Inspection, Topic, inspect};
use crate::store::error::{StoreError, StoreErrorKind};

const AREA: Area = Area::Kafka;

/// Two requests of at most 5 s, and a fence of at most 10 s.
const DEADLINE: Duration = Duration::from_secs(25);

/// What is not checked when no broker is reached.
const AFTER_REACH: [&str; 5] = ["topics", "replicas", "message size", "clean-up", "rights"];

/// References to events that are too large need some kilobytes.
const SMALLEST: usize = 64 << 10;

pub async fn checks(target: &Target<KafkaSettings>) -> Vec<Check> {
    let settings = match target {
        Target::Own(settings) | Target::Embedded(settings) => settings,
        Target::Absent(why) => {
            let names = [&["reach"][..], &AFTER_REACH].concat();
            return AREA.skip(&names, why);
        }
    };
    let mut found = None;
    let reach = AREA.within("reach", DEADLINE, async {
        match inspect(settings).await {
            Ok(inspection) => {
                let seen = format!(
                    "{} at {}; described in {} ms",
                    counted(inspection.brokers),
                    settings.bootstrap,
                    inspection.answered_in.as_millis()
                );
                found = Some(inspection);
                Finding::ok(seen)
            }
            Err(error) => unreached(&settings.bootstrap, &error),
        }
    });
    let mut checks = vec![reach.await];
    match found {
        Some(found) => checks.extend(judge(&found, settings)),
        None => checks.extend(AREA.skip(&AFTER_REACH, "no broker is reached")),
    }
    checks
}

fn unreached(bootstrap: &str, error: &StoreError) -> Finding {
    let seen = format!("{bootstrap}: {}", error.message);
    if error.kind == StoreErrorKind::Denied {
        return Finding::failed(
            seen,
            "no other try will change this: kafka.options has to name the authority that vouches \
             for the brokers (\"ssl.ca.location\"), a mechanism that they offer (\"sasl.mechanism\"), \
             and the account's name and password, or its certificate and key. Events wait in the \
             outbox meanwhile; nothing is lost",
        );
    }
    Finding::failed(
        seen,
        "is kafka.bootstrap right, do the brokers run, do they give addresses that this machine \
         reaches (advertised.listeners), and do kafka.options ask for TLS and SASL as they do? \
         Events wait in the outbox meanwhile; nothing is lost",
    )
}

fn judge(found: &Inspection, settings: &KafkaSettings) -> Vec<Check> {
    let findings = [
        ("topics", topics(found, settings)),
        ("replicas", replicas(found)),
        ("message size", message_size(found)),
        ("clean-up", clean_up(found)),
        ("rights", rights(found, settings)),
    ];
    findings
        .into_iter()
        .map(|(name, finding)| AREA.check(name, finding))
        .collect()
}

fn counted(brokers: usize) -> String {
    match brokers {
        1 => "1 broker".to_owned(),
        n => format!("{n} brokers"),
    }
}

fn names<'a>(topics: impl Iterator<Item = &'a Topic>) -> String {
    let names: Vec<&str> = topics.map(|topic| topic.name.as_str()).collect();
    names.join(", ")
}

fn topics(found: &Inspection, settings: &KafkaSettings) -> Finding {
    let missing = names(
        found
            .topics
            .iter()
            .filter(|t| !t.exists && t.error.is_none()),
    );
    if !missing.is_empty() {
        return Finding::warning(
            format!("{missing} are not there, or may not be seen"),
            format!(
                "the service makes them with {} partitions if its account may; otherwise make \
                 them, with as many replicas as there are brokers, up to 3",
                settings.partitions
            ),
        );
    }
    let partitions: Vec<String> = (found.topics.iter())
        .map(|t| format!("{} {}", t.name, t.partitions.len()))
        .collect();
    let leaderless = |t: &&Topic| t.partitions.iter().any(|p| !p.has_leader);
    let leaderless = names(found.topics.iter().filter(leaderless));
    match leaderless.is_empty() {
        true => Finding::ok(format!("partitions: {}", partitions.join(", "))),
        false => Finding::failed(
            format!("partitions of {leaderless} have no leader"),
            "look at the brokers: nothing can be published there until one of their replicas is \
             back",
        ),
    }
}

fn replicas(found: &Inspection) -> Finding {
    let mut fewest: Option<(usize, usize)> = None;
    for topic in &found.topics {
        let least = topic.min_in_sync.unwrap_or(1);
        for partition in &topic.partitions {
            if partition.in_sync < least {
                return Finding::failed(
                    format!(
                        "{} needs {least} replicas in sync (min.insync.replicas), and a partition \
                         has {}",
                        topic.name, partition.in_sync
                    ),
                    "bring the missing brokers back: until then every publish is refused, and \
                     events wait in the outbox",
                );
            }
            let seen = (partition.replicas, partition.in_sync);
            fewest = Some(fewest.map_or(seen, |fewest| fewest.min(seen)));
        }
    }
    let Some((replicas, in_sync)) = fewest else {
        return Finding::skipped("there are no partitions yet");
    };
    let least = found.topics.iter().filter_map(|t| t.min_in_sync).min();
    let least = least.map_or_else(|| "not known".to_owned(), |least| least.to_string());
    let seen = format!("{replicas} at least, {in_sync} in sync; min.insync.replicas {least}");
    if in_sync < replicas {
        return Finding::warning(seen, "a broker is behind or away: look at the brokers");
    }
    if replicas == 1 && found.brokers > 1 {
        return Finding::warning(
            seen,
            "with one replica a broker that is lost takes messages with it: raise the replication \
             of the topics to 3, min.insync.replicas to 2",
        );
    }
    Finding::ok(seen)
}

fn message_size(found: &Inspection) -> Finding {
    let limit = found
        .topics
        .iter()
        .filter_map(|t| t.max_message_bytes)
        .min();
    let producer = found.producer_takes;
    match limit {
        None => Finding::skipped(format!(
            "the brokers do not say what the topics take; the service sends up to {producer} bytes"
        )),
        Some(limit) if limit < SMALLEST => Finding::warning(
            format!("the topics take {limit} bytes at most"),
            "raise max.message.bytes: below 64 KiB even references to events may be refused, and \
             become dead letters",
        ),
        Some(limit) => Finding::ok(format!(
            "the topics take {limit} bytes, the service sends up to {}; what is larger travels by \
             reference",
            limit.min(producer)
        )),
    }
}

fn clean_up(found: &Inspection) -> Finding {
    let policies = || {
        found
            .topics
            .iter()
            .filter_map(|t| t.cleanup_policy.as_deref())
    };
    if policies().next().is_none() {
        return Finding::skipped("the brokers do not say");
    }
    let compacts = |t: &&Topic| {
        t.cleanup_policy
            .as_ref()
            .is_some_and(|p| p.contains("compact"))
    };
    let compacted = names(found.topics.iter().filter(compacts));
    match compacted.is_empty() {
        true => Finding::ok("old messages go by age or size"),
        false => Finding::warning(
            format!("{compacted} are compacted"),
            "set cleanup.policy=delete: the key is the stream, so that compaction keeps the last \
             event of each and consumers miss the others",
        ),
    }
}

fn rights(found: &Inspection, settings: &KafkaSettings) -> Finding {
    let refused = found
        .topics
        .iter()
        .find_map(|t| Some((&t.name, t.error.as_ref()?)));
    if let Some((topic, error)) = refused {
        return Finding::failed(
            format!("{topic}: {error}"),
            "allow the account Describe and Write on the topics, and Create if it is to make them",
        );
    }
    if let Some(why) = &found.unfenced {
        return Finding::failed(
            format!("kafka.transactions is on, and the broker holds no fence: {why}"),
            format!(
                "allow the account Describe and Write on the transactional ids that begin with {}; \
                 the brokers' transaction.state.log.replication.factor must not be larger than \
                 their number. Events wait in the outbox meanwhile; nothing is lost",
                settings.transactional_ids()
            ),
        );
    }
    match &found.unread {
        None => Finding::ok("the topics and their settings may be read; writing is not tried here"),
        Some(why) => Finding::skipped(format!("the settings of the topics are not read: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict;
    use super::*;
    use crate::store::adapters::kafka::inspect::Partition;

    fn well() -> Inspection {
        let topic = |name: String| Topic {
            name,
            exists: true,
            error: None,
            partitions: vec![
                Partition {
                    has_leader: true,
                    replicas: 3,
                    in_sync: 3,
                };
                4
            ],
            max_message_bytes: Some(1_048_588),
            min_in_sync: Some(2),
            cleanup_policy: Some("delete".into()),
        };
        Inspection {
            answered_in: Duration::from_millis(2),
            brokers: 3,
            topics: KafkaSettings::default().topics().all().map(topic).into(),
            unread: None,
            producer_takes: 1_000_000,
            unfenced: None,
        }
    }

    fn amiss(found: &Inspection) -> Vec<(&'static str, Verdict, String)> {
        let checks = judge(found, &KafkaSettings::default()).into_iter();
        let amiss = checks.filter(|check| check.verdict != Verdict::Ok);
        amiss
            .map(|c| (c.name, c.verdict, c.advice.unwrap_or_default()))
            .collect()
    }

    #[test]
    fn each_fault_has_one_finding_with_its_advice() {
        assert_eq!(amiss(&well()), []);
        let (failed, warning) = (Verdict::Failed, Verdict::Warning);
        type Fault = fn(&mut Inspection);
        let faults: [(&str, Verdict, &str, Fault); 8] = [
            ("topics", failed, "look at the brokers", |f| {
                // No leader, and the replicas are not the matter.
                f.topics[0].partitions[0].has_leader = false;
            }),
            ("replicas", failed, "outbox", |f| {
                f.topics[1].partitions[2].in_sync = 1;
            }),
            ("replicas", warning, "behind", |f| {
                f.topics[1].partitions[2].in_sync = 2;
            }),
            ("replicas", warning, "replication", |f| {
                for topic in &mut f.topics {
                    topic.min_in_sync = Some(1);
                    for partition in &mut topic.partitions {
                        (partition.replicas, partition.in_sync) = (1, 1);
                    }
                }
            }),
            ("message size", warning, "dead letters", |f| {
                f.topics[3].max_message_bytes = Some(1000);
            }),
            ("clean-up", warning, "cleanup.policy=delete", |f| {
                f.topics[0].cleanup_policy = Some("compact,delete".into());
            }),
            ("rights", failed, "oms.relay.", |f| {
                f.unfenced = Some("not authorized".into());
            }),
            ("rights", failed, "Describe", |f| {
                f.topics[0].error = Some("topic authorization failed".into());
            }),
        ];
        for (name, verdict, word, fault) in faults {
            let mut found = well();
            fault(&mut found);
            let amiss = amiss(&found);
            let [(found_name, found_verdict, advice)] = &amiss[..] else {
                panic!("{name}: {amiss:?}");
            };
            assert_eq!((*found_name, *found_verdict), (name, verdict));
            assert!(advice.contains(word), "{name}: {advice}");
        }
    }

    #[test]
    fn topics_that_are_missing_are_made_by_the_service_and_not_a_failure() {
        let mut found = well();
        found.topics[2] = Topic {
            name: "oms.instance".into(),
            ..Topic::default()
        };
        let amiss = amiss(&found);
        assert_eq!((amiss[0].0, amiss[0].1), ("topics", Verdict::Warning));
    }
}
