//! Many changes to the instances of a class in one request, each a command of its own.

use std::collections::HashMap;

use futures_util::stream::{self, StreamExt};
use serde_json::{Map, Value};

use super::Service;
use super::commands::{Change, Circumstances, NewInstance, made_id};
use super::context::{ExpectedVersion, RequestContext};
use super::error::ServiceError;
use super::view::{BatchItem, Written};
use crate::domain::ids::{ClassId, DatabaseName, InstanceId};
use crate::domain::refusal::Refusal;

/// Operations of one batch at most.
pub const MAX_BATCH: usize = 1_000;

/// Entities of one batch that are worked on at a time: fills a commit object, and leaves the
/// entity arbiters to others in between.
const AT_ONCE: usize = 256;

/// One operation of a batch on the instances of a class.
#[derive(Debug, Clone)]
pub enum BatchOperation {
    /// Create.
    Create(NewInstance),
    /// Merge-patch (RFC 7396).
    Update {
        /// Which.
        id: InstanceId,
        /// The patch.
        patch: Map<String, Value>,
        /// On which version.
        expected: ExpectedVersion,
    },
    /// Delete.
    Delete {
        /// Which.
        id: InstanceId,
        /// On which version.
        expected: ExpectedVersion,
    },
}

/// An operation with its place and its command.
struct Item<'a> {
    place: usize,
    id: InstanceId,
    circumstances: Circumstances<'a>,
    change: Change,
}

impl Service {
    /// Runs up to 1,000 operations on a class's instances, each on its own: one result for each,
    /// in order. Operations on the same instance run in their order.
    ///
    /// Under an idempotency key every item has the command id of its place, so that a repeated
    /// batch repeats exactly its items; a key that stands for another request is refused as a
    /// whole, before anything is done ([`super::keys`] says within which limits).
    pub async fn batch(
        &self,
        ctx: &RequestContext,
        db: DatabaseName,
        class: ClassId,
        operations: Vec<BatchOperation>,
    ) -> Result<Vec<BatchItem>, ServiceError> {
        if operations.is_empty() || operations.len() > MAX_BATCH {
            let message = format!("a batch has 1 to {MAX_BATCH} operations");
            return Err(Refusal::invalid("batch_size", message).into());
        }
        self.refuse_reused_batch_key(ctx).await?;
        let mut by_instance: HashMap<InstanceId, Vec<Item<'_>>> = HashMap::new();
        let mut order: Vec<InstanceId> = Vec::new();
        for (place, operation) in operations.into_iter().enumerate() {
            let item = item(place, operation, ctx)?;
            let queue = by_instance.entry(item.id.clone()).or_insert_with(|| {
                order.push(item.id.clone());
                Vec::new()
            });
            queue.push(item);
        }
        let queues: Vec<Vec<Item<'_>>> = order
            .iter()
            .filter_map(|id| by_instance.remove(id))
            .collect();
        let done: Vec<Vec<(usize, BatchItem)>> = stream::iter(queues)
            .map(|queue| self.run_in_order(&db, &class, queue))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut items: Vec<(usize, BatchItem)> = done.into_iter().flatten().collect();
        items.sort_unstable_by_key(|(place, _)| *place);
        Ok(items.into_iter().map(|(_, item)| item).collect())
    }

    async fn run_in_order(
        &self,
        db: &DatabaseName,
        class: &ClassId,
        queue: Vec<Item<'_>>,
    ) -> Vec<(usize, BatchItem)> {
        let mut done = Vec::with_capacity(queue.len());
        for item in queue {
            let id = Some(item.id.to_string());
            let place = item.place;
            let outcome = self.run_item(db, class, item).await;
            done.push((place, BatchItem { id, outcome }));
        }
        done
    }

    async fn run_item(
        &self,
        db: &DatabaseName,
        class: &ClassId,
        item: Item<'_>,
    ) -> Result<Written, ServiceError> {
        self.refuse_without_room(item.circumstances.command_id)?;
        let _permit = self.permits.wait(item.circumstances.ctx.deadline).await?;
        self.change_instance(&item.circumstances, db, class, item.id, item.change)
            .await
    }
}

fn item<'a>(
    place: usize,
    operation: BatchOperation,
    ctx: &'a RequestContext,
) -> Result<Item<'a>, ServiceError> {
    let mut circumstances = Circumstances::of_item(ctx, place);
    let (id, change) = match operation {
        BatchOperation::Create(new) => {
            circumstances.metadata = new.metadata;
            let id = new
                .id
                .map_or_else(|| made_id(circumstances.command_id), Ok)?;
            (id, Change::Create(new.data))
        }
        BatchOperation::Update {
            id,
            patch,
            expected,
        } => {
            circumstances.expected = expected;
            (id, Change::Update(patch))
        }
        BatchOperation::Delete { id, expected } => {
            circumstances.expected = expected;
            (id, Change::Delete)
        }
    };
    Ok(Item {
        place,
        id,
        circumstances,
        change,
    })
}
