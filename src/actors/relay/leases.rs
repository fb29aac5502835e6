//! Keeps what allows this process to publish: leases of log partitions in PostgreSQL and, where the
//! broker holds them, fences.
//!
//! A fence is set first and the lease asked for once more afterwards. So between the answer and
//! whatever another process does to take the partition over there is nothing of ours that the
//! broker would still take once the other one has set its own fence: which of the two was stopped,
//! and for how long, does not matter. Without fences a lease is only trusted while it outlasts a
//! wave.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::ids::PartitionId;
use crate::store::error::StoreError;
use crate::store::ports::delivery::{DeliveryStore, Leases};
use crate::store::ports::transport::Transport;

pub struct LeaseKeeper {
    store: Arc<dyn DeliveryStore>,
    transport: Arc<dyn Transport>,
    node: String,
    /// How many partitions the log has.
    partitions: u16,
    ttl: Duration,
    held: Option<Held>,
    /// How many fences there were when the leases were last asked for on their account. An actor
    /// that was killed may have left behind a fence that is being set, so that is not its knowledge
    /// but the transport's.
    confirmed: u64,
    /// What the last change that was told of left.
    told: Leases,
}

struct Held {
    leases: Leases,
    /// Counted from before the request, so that the lease ends here earlier than in PostgreSQL.
    until: Instant,
}

impl LeaseKeeper {
    pub fn new(
        store: Arc<dyn DeliveryStore>,
        transport: Arc<dyn Transport>,
        node: String,
        partitions: u16,
        ttl: Duration,
    ) -> Self {
        Self {
            store,
            transport,
            node,
            partitions,
            ttl,
            held: None,
            confirmed: 0,
            told: Leases::new(),
        }
    }

    /// The partitions that this process publishes.
    pub fn held(&self) -> Vec<PartitionId> {
        let leases = self.held.iter().flat_map(|held| held.leases.keys());
        leases.copied().collect()
    }

    /// Until when; `None` while it publishes nothing.
    pub fn until(&self) -> Option<Instant> {
        self.held.as_ref().map(|held| held.until)
    }

    /// Takes or renews leases when it is time, and sets fences. If something has changed, returns
    /// the partitions that this process has published without interruption: of all others, what was
    /// read may be old.
    ///
    /// While a lease outlasts a wave, a failed renewal stops nothing. After that all partitions are
    /// released ([`Self::until`] says so): when the lease has expired another process may publish
    /// them, and nothing may be in flight then.
    pub async fn keep(&mut self) -> Result<Option<Vec<PartitionId>>, StoreError> {
        self.renew_if_due().await?;
        loop {
            let fences = self.transport.fence(&self.held()).await?;
            if fences == self.confirmed {
                break;
            }
            self.renew().await?;
            self.confirmed = fences;
        }
        Ok(self.change())
    }

    async fn renew_if_due(&mut self) -> Result<(), StoreError> {
        let left = self.until().map(|until| until - Instant::now());
        let lasts = left.is_some_and(|left| left >= self.transport.wave_bound());
        if lasts && left.is_some_and(|left| left > self.ttl - self.ttl / 8) {
            return Ok(());
        }
        match self.renew().await {
            Err(_) if lasts => Ok(()),
            Err(e) => {
                self.held = None;
                self.told.clear();
                Err(e)
            }
            Ok(()) => Ok(()),
        }
    }

    async fn renew(&mut self) -> Result<(), StoreError> {
        let now = Instant::now();
        let leases = self
            .store
            .lease(&self.node, self.partitions, self.ttl)
            .await?;
        let until = now + self.ttl;
        self.held = Some(Held { leases, until });
        Ok(())
    }

    fn change(&mut self) -> Option<Vec<PartitionId>> {
        let leases = &self.held.as_ref()?.leases;
        if *leases == self.told {
            return None;
        }
        let kept = leases
            .iter()
            .filter(|(partition, term)| self.told.get(partition) == Some(term))
            .map(|(partition, _)| *partition)
            .collect();
        self.told = leases.clone();
        Some(kept)
    }
}
