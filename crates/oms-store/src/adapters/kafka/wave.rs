//! A wave of messages through one producer, settled as a whole.
//!
//! A broker that does not know a producer accepts any sequence number in its first batch. If the
//! first batch failed and the second one arrived, the broker would accept the second, and
//! librdkafka would believe that the first was accepted too. Therefore the first message for a
//! partition that has not acknowledged anything of this producer, or not recently, is sent alone,
//! and the others after its acknowledgement.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use rdkafka::producer::future_producer::DeliveryFuture;
use tokio::time::Instant;

use super::PURGE_GRACE;
use super::producer::{Producer, SendFailed};
use crate::ports::transport::{Message, Outcome};

/// Far below the day after which brokers by default forget a producer that sends nothing.
const REMEMBERED: Duration = Duration::from_secs(600);

/// How often to check whether the producer has met a fatal error.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long messages in flight may take to be reported after that.
const LAST_REPORTS: Duration = Duration::from_millis(500);

/// A partition of a topic.
pub(super) type TopicPartition = (String, i32);

/// When each partition last acknowledged a message.
pub(super) type Known = HashMap<TopicPartition, Instant>;

/// Sends messages, each with its partition, and waits until all are settled: at `until`, and at the
/// latest [`PURGE_GRACE`] after that. With `all_or_none` nothing is waited for after a failure.
pub(super) async fn send(
    producer: &Producer,
    messages: &[(Message, TopicPartition)],
    known: &mut Known,
    until: Instant,
    all_or_none: bool,
) -> Vec<Outcome> {
    let mut wave = Wave {
        producer,
        until,
        all_or_none,
        purged: false,
        dead: false,
        held: HashSet::new(),
        outcomes: messages.iter().map(|_| None).collect(),
    };
    known.retain(|_, at| at.elapsed() < REMEMBERED);
    // The messages that are sent alone.
    let mut begun: HashSet<&TopicPartition> = HashSet::new();
    let mut reports = Vec::new();
    for (i, (message, place)) in messages.iter().enumerate() {
        if !known.contains_key(place) && !begun.contains(place) {
            let Some(report) = wave.begin(i, message, place) else {
                continue;
            };
            begun.insert(place);
            reports.push((i, report));
        }
    }
    let mut lost: HashSet<&TopicPartition> = HashSet::new();
    for i in wave.settle(reports).await {
        let place = &messages[i].1;
        if wave.is_delivered(i) {
            known.insert(place.clone(), Instant::now());
        } else {
            lost.insert(place);
        }
    }
    // The messages after them.
    let mut reports = Vec::new();
    for (i, (message, place)) in messages.iter().enumerate() {
        if wave.outcomes[i].is_some() {
            continue;
        }
        if lost.contains(place) || wave.is_lost() {
            wave.outcomes[i] = Some(SendFailed::Behind.outcome());
        } else if let Some(report) = wave.begin(i, message, place) {
            reports.push((i, report));
        }
    }
    let mut acknowledged: HashSet<&TopicPartition> = HashSet::new();
    for i in wave.settle(reports).await {
        if wave.is_delivered(i) {
            acknowledged.insert(&messages[i].1);
        }
    }
    for place in acknowledged {
        known.insert(place.clone(), Instant::now());
    }
    let behind = || SendFailed::Behind.outcome();
    let outcomes = wave.outcomes.into_iter();
    outcomes.map(|o| o.unwrap_or_else(behind)).collect()
}

struct Wave<'a> {
    producer: &'a Producer,
    until: Instant,
    all_or_none: bool,
    purged: bool,
    dead: bool,
    /// Streams with a message that could not be sent.
    held: HashSet<(&'a str, &'a str)>,
    outcomes: Vec<Option<Outcome>>,
}

impl<'a> Wave<'a> {
    /// Sends a message and records an immediate failure.
    fn begin(
        &mut self,
        i: usize,
        message: &'a Message,
        place: &TopicPartition,
    ) -> Option<DeliveryFuture> {
        let stream = (message.topic.as_str(), message.key.as_str());
        let sent = if self.held.contains(&stream) {
            Err(SendFailed::Behind)
        } else {
            self.producer.send(message, place.1)
        };
        match sent {
            Ok(report) => Some(report),
            Err(failed) => {
                self.held.insert(stream);
                self.record(i, failed.outcome());
                None
            }
        }
    }

    /// Waits for reports, records them, and returns the indices of their messages.
    async fn settle(&mut self, reports: Vec<(usize, DeliveryFuture)>) -> Vec<usize> {
        let indices: Vec<usize> = reports.iter().map(|(i, _)| *i).collect();
        let reports = reports.into_iter();
        let mut reports: FuturesUnordered<_> = reports
            .map(|(i, report)| report.map(move |r| (i, r)))
            .collect();
        loop {
            let next_look = self.until.min(Instant::now() + LOOK_EVERY);
            match tokio::time::timeout_at(next_look, reports.next()).await {
                Ok(None) => return indices,
                Ok(Some((i, report))) => self.record(i, self.producer.outcome_of(Some(report))),
                Err(_) if next_look < self.until => self.look_for_death(),
                Err(_) if self.purged => break,
                Err(_) => {
                    self.purged = true;
                    // Extended once for all messages, so that the wave has one bound.
                    self.until += PURGE_GRACE;
                    self.producer.purge().await;
                }
            }
        }
        for i in &indices {
            if self.outcomes[*i].is_none() {
                self.record(*i, self.producer.outcome_of(None));
            }
        }
        indices
    }

    /// A producer with a fatal error reports what is in flight and nothing else: then the time is
    /// shortened.
    fn look_for_death(&mut self) {
        if !self.dead && self.producer.is_dead() {
            self.dead = true;
            self.until = self.until.min(Instant::now() + LAST_REPORTS);
        }
    }

    fn record(&mut self, i: usize, outcome: Outcome) {
        // librdkafka sends nothing more in a transaction that has lost a message, and reports none
        // of the others.
        if self.all_or_none && !self.purged && !outcome.is_delivered() {
            self.until = self.until.min(Instant::now());
        }
        self.outcomes[i] = Some(outcome);
    }

    fn is_delivered(&self, i: usize) -> bool {
        self.outcomes[i].as_ref().is_some_and(Outcome::is_delivered)
    }

    /// Whether nothing of the wave is of use any more.
    fn is_lost(&self) -> bool {
        let lost = |outcome: &Outcome| !outcome.is_delivered();
        self.all_or_none && self.outcomes.iter().flatten().any(lost)
    }
}
