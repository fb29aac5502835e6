//! A producer with what is known of it, which sends waves.
//!
//! Without fences one sender sends everything. With them each log partition has its own, known to
//! the broker by a name (`transactional.id`): whoever announces itself under that name last is
//! obeyed, and what another one sends is refused, whether it was stopped meanwhile, suspended with
//! its machine, or held up by the network. A wave is a transaction then, which consumers that read
//! `read_committed` see whole or not at all. The protocol is Kafka's (KIP-98).

use tokio::time::Instant;

use super::producer::Producer;
use super::wave::{self, Known, TopicPartition};
use super::{PURGE_GRACE, STORE};
use crate::error::{StoreError, StoreErrorKind};
use crate::ports::transport::{Message, Outcome};

/// A producer and the partitions that have acknowledged messages of it.
pub(super) struct Sender {
    producer: Producer,
    known: Known,
    transactional: bool,
}

impl Sender {
    /// A sender with a fresh producer.
    pub fn new(producer: Producer, transactional: bool) -> Self {
        Self {
            producer,
            known: Known::new(),
            transactional,
        }
    }

    /// Sends messages and waits until all are settled, as [`wave::send`] does. Returns also the
    /// sender, if it can send another wave.
    pub async fn send(
        mut self,
        messages: &[(Message, TopicPartition)],
        until: Instant,
    ) -> (Vec<Outcome>, Option<Self>) {
        let failed = |e: StoreError| vec![Outcome::Failed(e); messages.len()];
        let mut outcomes = match self.begin() {
            Ok(()) => {
                let (known, all_or_none) = (&mut self.known, self.transactional);
                wave::send(&self.producer, messages, known, until, all_or_none).await
            }
            Err(e) => failed(e),
        };
        if outcomes.iter().all(Outcome::is_delivered) {
            match self.commit().await {
                Ok(()) if !self.producer.is_dead() => return (outcomes, Some(self)),
                // What was acknowledged stands.
                Ok(()) => {}
                Err(e) => outcomes = failed(e),
            }
        } else if self.transactional {
            for outcome in outcomes.iter_mut().filter(|o| o.is_delivered()) {
                let why = "the transaction was given up, for another message of the wave";
                // Readers of what is not committed may have seen it.
                *outcome = Outcome::Failed(StoreError::indeterminate(
                    StoreErrorKind::Unavailable,
                    STORE,
                    "publish",
                    why,
                ));
            }
        }
        // Ended before a fresh one sends anything, so that none of its messages arrive later. The
        // broker aborts its transaction when its successor announces itself.
        self.producer.discard().await;
        (outcomes, None)
    }

    fn begin(&self) -> Result<(), StoreError> {
        if self.transactional {
            return self.producer.begin();
        }
        Ok(())
    }

    /// Nothing was purged when this is called, so the time for that is left.
    async fn commit(&self) -> Result<(), StoreError> {
        if self.transactional {
            return self.producer.commit(PURGE_GRACE).await;
        }
        Ok(())
    }

    /// Ends it.
    pub async fn discard(self) {
        self.producer.discard().await;
    }
}
