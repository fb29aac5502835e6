//! A transport that says it takes more than it does.

use std::sync::Arc;
use std::time::Duration;

use oms_core::domain::ids::PartitionId;
use oms_store::error::StoreError;
use oms_store::ports::transport::{Message, Outcome, Transport};
use tokio::time::Instant;

/// Says that it takes more than it does, as a broker does whose limit was lowered.
pub struct Boastful(pub Arc<dyn Transport>);

#[async_trait::async_trait]
impl Transport for Boastful {
    async fn publish(&self, messages: Vec<Message>, until: Instant) -> Vec<Outcome> {
        self.0.publish(messages, until).await
    }

    async fn fence(&self, partitions: &[PartitionId]) -> Result<u64, StoreError> {
        self.0.fence(partitions).await
    }

    async fn declare(&self) -> Result<(), StoreError> {
        self.0.declare().await
    }

    fn message_max(&self) -> usize {
        1 << 20
    }

    fn wave_bound(&self) -> Duration {
        self.0.wave_bound()
    }
}
