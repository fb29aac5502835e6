//! Many changes to the instances of a class in one request, each one a command of its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::stream::{self, StreamExt};

use super::Service;
use super::change::Change;
use super::commands::CommandMetadata;
use super::context::{ExpectedVersion, RequestContext};
use super::error::ServiceError;
use super::instance_commands::{NewInstance, made_id};
use super::view::{BatchItem, Written};
use crate::domain::document::Document;
use crate::domain::ids::{ClassId, DatabaseName, InstanceId};
use crate::domain::refusal::Refusal;

/// Operations of one batch at most.
pub const MAX_BATCH: usize = 1_000;

/// Entities of one batch that are worked on concurrently: enough to fill a commit object, and few
/// enough to leave the entity arbiters to others in between.
const AT_ONCE: usize = 256;

/// Bytes that the answer to a batch spends on refused operations; after that each is described by
/// its first fault only, shortened.
const MAX_FAULT_BYTES: usize = 1 << 20;

/// Length of a shortened message, in characters.
const SHORT_CHARS: usize = 200;

/// One operation of a batch on the instances of a class.
#[derive(Debug, Clone)]
pub enum BatchOperation {
    Create(NewInstance),
    /// Merge-patch (RFC 7396).
    Update {
        id: InstanceId,
        patch: Document,
        /// The versions it may be applied to.
        expected: ExpectedVersion,
    },
    Delete {
        id: InstanceId,
        /// The versions it may be applied to.
        expected: ExpectedVersion,
    },
}

/// An operation with its index in the batch and its command.
struct Item<'a> {
    place: usize,
    id: InstanceId,
    meta: CommandMetadata<'a>,
    change: Change,
}

impl Service {
    /// Runs up to 1,000 operations on a class's instances, each independent of the others: one
    /// result for each, in order. Operations on the same instance run in their order.
    ///
    /// Under an idempotency key every item has a command id derived from its index, so that a
    /// repeated batch repeats exactly its items; a key that stands for another request is refused
    /// as a whole, before anything is done ([`super::idempotency`] says within which limits).
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
        let current = self.catch_up_on_class(&db, &class).await?;
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
        let faults = FaultBudget::default();
        let done: Vec<Vec<(usize, BatchItem)>> = stream::iter(queues)
            .map(|queue| self.run_in_order((&db, &class, current), queue, &faults))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut items: Vec<(usize, BatchItem)> = done.into_iter().flatten().collect();
        items.sort_unstable_by_key(|(place, _)| *place);
        Ok(items.into_iter().map(|(_, item)| item).collect())
    }

    async fn run_in_order(
        &self,
        class: (&DatabaseName, &ClassId, bool),
        queue: Vec<Item<'_>>,
        faults: &FaultBudget,
    ) -> Vec<(usize, BatchItem)> {
        let mut done = Vec::with_capacity(queue.len());
        for item in queue {
            let id = Some(item.id.to_string());
            let place = item.place;
            // The answer leaves out the state of the instance: a thousand states could be a
            // thousand times the largest.
            let outcome = match self.run_item(class, item).await {
                Ok(written) => Ok(Written {
                    data: None,
                    ..written
                }),
                Err(error) => Err(faults.shorten(error)),
            };
            done.push((place, BatchItem { id, outcome }));
        }
        done
    }

    async fn run_item(
        &self,
        (db, class, current): (&DatabaseName, &ClassId, bool),
        item: Item<'_>,
    ) -> Result<Written, ServiceError> {
        self.refuse_without_room(item.meta.command_id)?;
        let _permit = self.permits.wait(item.meta.ctx.deadline).await?;
        self.change_instance(&item.meta, db, class, item.id, item.change, Some(current))
            .await
    }
}

/// How many bytes may still be spent on describing refused operations.
#[derive(Default)]
struct FaultBudget(AtomicUsize);

impl FaultBudget {
    fn shorten(&self, error: ServiceError) -> ServiceError {
        let ServiceError::Refused(mut refusal) = error else {
            return error;
        };
        let violations = refusal.violations.iter();
        let bytes: usize = violations.map(|v| v.field.len() + v.message.len()).sum();
        let bytes = bytes + refusal.message.len();
        if self.0.fetch_add(bytes, Ordering::Relaxed) + bytes > MAX_FAULT_BYTES {
            refusal.violations.truncate(1);
            refusal.message = refusal.message.chars().take(SHORT_CHARS).collect();
        }
        refusal.into()
    }
}

fn item<'a>(
    place: usize,
    operation: BatchOperation,
    ctx: &'a RequestContext,
) -> Result<Item<'a>, ServiceError> {
    let mut meta = CommandMetadata::of_item(ctx, place);
    let (id, change) = match operation {
        BatchOperation::Create(new) => {
            meta.metadata = new.metadata;
            let id = new.id.map_or_else(|| made_id(meta.command_id), Ok)?;
            (id, Change::Create(new.data))
        }
        BatchOperation::Update {
            id,
            patch,
            expected,
        } => {
            meta.expected = expected;
            (id, Change::Update(patch))
        }
        BatchOperation::Delete { id, expected } => {
            meta.expected = expected;
            (id, Change::Delete)
        }
    };
    Ok(Item {
        place,
        id,
        meta,
        change,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::refusal::Violation;

    #[test]
    fn law_13_what_a_batch_says_of_its_faults_is_bounded() {
        let faults = FaultBudget::default();
        let violation = Violation {
            field: "x".repeat(2_000),
            code: "type",
            message: "y".repeat(200),
        };
        let mut bytes = 0;
        for i in 0..MAX_BATCH {
            let refusal = Refusal::violations(vec![violation.clone(); 100]);
            let ServiceError::Refused(said) = faults.shorten(refusal.into()) else {
                panic!("a refusal stays one");
            };
            assert_eq!(said.code, "validation_failed");
            assert_eq!(said.violations.len(), if i < 4 { 100 } else { 1 });
            let violations = said.violations.iter();
            bytes += violations
                .map(|v| v.field.len() + v.message.len())
                .sum::<usize>();
            bytes += said.message.len();
        }
        assert!(bytes < 4 << 20, "{bytes}");
    }
}
