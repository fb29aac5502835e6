//! Which thread an actor lives on. Entities are spread by hash over a few arbiters, so one entity
//! always runs on one thread; the log's actors share an arbiter of their own, so that a busy
//! entity delays no commit; what runs in the background shares a third.

use actix::Arbiter;
use actix_rt::ArbiterHandle;

use crate::domain::ids::StreamKey;

/// See the module.
pub struct Arbiters {
    entities: Vec<Arbiter>,
    log: Arbiter,
    background: Arbiter,
}

impl Arbiters {
    /// Starts the arbiters; a running actix `System` is needed. At least one entity arbiter is
    /// made.
    pub fn start(entities: usize) -> Self {
        Self {
            entities: (0..entities.max(1)).map(|_| Arbiter::new()).collect(),
            log: Arbiter::new(),
            background: Arbiter::new(),
        }
    }

    /// The arbiter of an entity.
    pub fn entity(&self, stream: StreamKey) -> ArbiterHandle {
        // The high half picks the partition, so the low half picks the arbiter.
        let at = (stream.0 as u64 % self.entities.len() as u64) as usize;
        self.entities[at].handle()
    }

    /// The arbiter of the partitions' writers.
    pub fn log(&self) -> ArbiterHandle {
        self.log.handle()
    }

    /// The arbiter of the tailers and singletons.
    pub fn background(&self) -> ArbiterHandle {
        self.background.handle()
    }

    /// Every arbiter by name, for whoever watches them.
    pub fn named(&self) -> Vec<(String, ArbiterHandle)> {
        let entities = self.entities.iter().zip(0..);
        let mut named: Vec<_> = entities
            .map(|(arbiter, i)| (format!("entities/{i}"), arbiter.handle()))
            .collect();
        named.push(("log".to_owned(), self.log()));
        named.push(("background".to_owned(), self.background()));
        named
    }

    /// Ends every arbiter, and with them every actor that still runs. Only at shutdown.
    pub fn stop(self) {
        for arbiter in self.entities.iter().chain([&self.log, &self.background]) {
            arbiter.stop();
        }
        for arbiter in self.entities.into_iter().chain([self.log, self.background]) {
            if arbiter.join().is_err() {
                tracing::error!("an arbiter's thread ended with a panic");
            }
        }
    }
}
