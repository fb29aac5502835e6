//! The senders of a process: one for everything, or one for each log partition that it has fenced.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::conflict;
use super::producer::Producer;
use super::sender::Sender;
use super::wave::TopicPartition;
use crate::ports::transport::{Message, Outcome};
use oms_core::domain::ids::PartitionId;

/// The log partition whose messages the broker takes of one process only; `None` without fences.
type Fence = Option<PartitionId>;

/// A message with its partition of its topic.
type Placed = (Message, TopicPartition);

/// The messages of one sender, with their indices in the wave.
type Share = (Vec<usize>, Vec<Placed>);

#[derive(Default)]
pub(super) struct Senders {
    by_fence: BTreeMap<Fence, Sender>,
    fences_set: u64,
}

impl Senders {
    pub fn is_empty(&self) -> bool {
        self.by_fence.is_empty()
    }

    /// Whether there is a sender for each of these log partitions, and no other.
    pub fn are_for(&self, partitions: &[PartitionId]) -> bool {
        let has = |partition: &PartitionId| self.by_fence.contains_key(&Some(*partition));
        partitions.iter().all(has) && partitions.len() == self.by_fence.len()
    }

    /// How many senders with a fence were added so far.
    pub fn fences_set(&self) -> u64 {
        self.fences_set
    }

    /// Adds a sender with this producer, transactional where there is a fence.
    pub fn add(&mut self, fence: Fence, producer: Producer) {
        self.fences_set += u64::from(fence.is_some());
        let sender = Sender::new(producer, fence.is_some());
        self.by_fence.insert(fence, sender);
    }

    /// Ends the senders of other log partitions. Returns those of these that have none.
    pub async fn keep(&mut self, partitions: &[PartitionId]) -> Vec<PartitionId> {
        let released = |fence: &Fence, _: &mut Sender| {
            !fence.is_some_and(|partition| partitions.contains(&partition))
        };
        let released: Vec<_> = self.by_fence.extract_if(.., released).collect();
        join_all(released.into_iter().map(|(_, sender)| sender.discard())).await;
        let lacks = |partition: &&PartitionId| !self.by_fence.contains_key(&Some(**partition));
        partitions.iter().filter(lacks).copied().collect()
    }

    /// Ends all.
    pub async fn discard(self) {
        join_all(self.by_fence.into_values().map(Sender::discard)).await;
    }

    /// Sends each message by the sender of its log partition, all at the same time, and keeps the
    /// senders that can go on.
    pub async fn send(
        &mut self,
        messages: Vec<Placed>,
        until: Instant,
        fenced: bool,
    ) -> Vec<Outcome> {
        let mut outcomes = vec![None; messages.len()];
        let mut shares: BTreeMap<Fence, Share> = BTreeMap::new();
        for (i, placed) in messages.into_iter().enumerate() {
            let fence = fenced.then_some(placed.0.partition);
            let (indices, messages) = shares.entry(fence).or_default();
            indices.push(i);
            messages.push(placed);
        }
        let waves = shares.into_iter().map(|(fence, (indices, messages))| {
            let sender = self.by_fence.remove(&fence);
            async move {
                let (outcomes, sender) = match sender {
                    Some(sender) => sender.send(&messages, until).await,
                    None => {
                        let e = conflict("this process has not fenced off the others");
                        (vec![Outcome::Failed(e); messages.len()], None)
                    }
                };
                (fence, indices, outcomes, sender)
            }
        });
        let waves: Vec<_> = waves.collect();
        for (fence, indices, settled, sender) in join_all(waves).await {
            if let Some(sender) = sender {
                self.by_fence.insert(fence, sender);
            }
            for (i, outcome) in indices.into_iter().zip(settled) {
                outcomes[i] = Some(outcome);
            }
        }
        let unsent = || Outcome::Failed(conflict("the message was not sent"));
        let outcomes = outcomes.into_iter();
        outcomes.map(|o| o.unwrap_or_else(unsent)).collect()
    }
}
