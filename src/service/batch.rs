//! Many changes to the instances of a class in one request, each a command of its own.

use std::collections::HashMap;

use futures_util::stream::{self, StreamExt};
use serde_json::{Map, Value};

use super::Service;
use super::commands::{Change, Circumstances, NewInstance, made_id};
use super::context::{ExpectedVersion, RequestContext};
use super::error::ServiceError;
use super::view::{BatchItem, Written};
use crate::domain::event::Idempotency;
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
        let count = operations.len();
        let contexts: Vec<RequestContext> = (0..count).map(|i| item_context(ctx, i)).collect();
        self.refuse_reused_key(&contexts)?;
        let mut by_instance: HashMap<InstanceId, Vec<Item<'_>>> = HashMap::new();
        let mut order: Vec<InstanceId> = Vec::new();
        for (place, (operation, ctx)) in operations.into_iter().zip(&contexts).enumerate() {
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
            let outcome: Result<Written, ServiceError> = self
                .change_instance(&item.circumstances, db, class, item.id.clone(), item.change)
                .await;
            let id = Some(item.id.to_string());
            done.push((item.place, BatchItem { id, outcome }));
        }
        done
    }

    /// A key that stood for another batch is refused as a whole, before anything is done.
    fn refuse_reused_key(&self, contexts: &[RequestContext]) -> Result<(), ServiceError> {
        let store = self.parts.entities.path.store();
        for ctx in contexts {
            let Some(idempotency) = &ctx.idempotency else {
                return Ok(());
            };
            if let Some((_, outcome)) = store.command(ctx.command_id())
                && outcome.request_hash != Some(idempotency.request_hash)
            {
                return Err(Refusal::key_reused().into());
            }
        }
        Ok(())
    }
}

/// The context of one item: with a key of its own, made from the batch's and its place, so that a
/// repeated batch repeats exactly its items.
fn item_context(ctx: &RequestContext, place: usize) -> RequestContext {
    RequestContext {
        idempotency: ctx.idempotency.as_ref().map(|idempotency| Idempotency {
            key: format!("{}#{place}", idempotency.key),
            request_hash: idempotency.request_hash,
        }),
        ..ctx.clone()
    }
}

fn item<'a>(
    place: usize,
    operation: BatchOperation,
    ctx: &'a RequestContext,
) -> Result<Item<'a>, ServiceError> {
    let mut circumstances = Circumstances::of(ctx, ExpectedVersion::Any);
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
