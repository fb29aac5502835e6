//! Writes to instances: what a class and its ancestors demand is gathered first.

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde_json::value::RawValue;

use super::Service;
use super::change::Change;
use super::class_context::ClassContext;
use super::commands::{CommandMetadata, shown, written};
use super::context::{ExpectedVersion, RequestContext};
use super::error::ServiceError;
use super::view::{Resource, Written};
use crate::actors::aggregate::entity::Executed;
use crate::domain::class::LinkTarget;
use crate::domain::document::Document;
use crate::domain::ids::{ClassId, CommandId, DatabaseName, InstanceId, StreamName};
use crate::domain::instance::{Instance, InstanceCommand};
use crate::domain::refusal::{Refusal, Violation};

/// Link targets looked up at a time.
const LINKS_AT_ONCE: usize = 16;

/// What to create as an instance.
#[derive(Debug, Clone)]
pub struct NewInstance {
    /// Its id; made from the command id when the caller gives none.
    pub id: Option<InstanceId>,
    /// Its properties.
    pub data: Document,
    /// A caller's remarks, recorded with the event: the text of a JSON object.
    pub metadata: Option<Box<RawValue>>,
}

impl Service {
    /// Creates an instance.
    pub async fn create_instance(
        &self,
        ctx: &RequestContext,
        db: DatabaseName,
        class: ClassId,
        new: NewInstance,
    ) -> Result<Written, ServiceError> {
        let _permit = self.begin(ctx).await?;
        let meta = CommandMetadata {
            metadata: new.metadata,
            ..CommandMetadata::of(ctx, ExpectedVersion::Any)
        };
        let id = new.id.map_or_else(|| made_id(meta.command_id), Ok)?;
        let change = Change::Create(new.data);
        self.change_instance(&meta, &db, &class, id, change, None)
            .await
    }

    /// Merge-patches an instance (RFC 7396).
    pub async fn patch_instance(
        &self,
        ctx: &RequestContext,
        db: DatabaseName,
        class: ClassId,
        id: InstanceId,
        patch: Document,
        expected: ExpectedVersion,
    ) -> Result<Written, ServiceError> {
        let _permit = self.begin(ctx).await?;
        let meta = CommandMetadata::of(ctx, expected);
        let change = Change::Update(patch);
        self.change_instance(&meta, &db, &class, id, change, None)
            .await
    }

    /// Deletes an instance.
    pub async fn delete_instance(
        &self,
        ctx: &RequestContext,
        db: DatabaseName,
        class: ClassId,
        id: InstanceId,
        expected: ExpectedVersion,
    ) -> Result<Written, ServiceError> {
        let _permit = self.begin(ctx).await?;
        let meta = CommandMetadata::of(ctx, expected);
        self.change_instance(&meta, &db, &class, id, Change::Delete, None)
            .await
    }

    /// Changes one instance. `current` is the answer of [`Service::catch_up_on_class`] where that was asked
    /// since the request began.
    pub(super) async fn change_instance(
        &self,
        meta: &CommandMetadata<'_>,
        db: &DatabaseName,
        class: &ClassId,
        id: InstanceId,
        change: Change,
        current: Option<bool>,
    ) -> Result<Written, ServiceError> {
        let stream = StreamName::instance(db, class, &id);
        let created = matches!(change, Change::Create(_));
        // As it is, which its last event says, and what is to become of it.
        let store = &self.parts.entities.writer;
        let bytes = store.last_event_bytes(&stream) + change.bytes();
        let done = match self.recall::<Instance>(meta, &stream).await? {
            Some(done) => done,
            None => {
                let _held = self.hold(meta, bytes).await?;
                let current = match current {
                    Some(current) => current,
                    None => self.catch_up_on_class(db, class).await?,
                };
                let attempt = |change| self.attempt(meta, db, class, &stream, change);
                let done = match attempt(change.clone()).await {
                    // It may rest on a class that another process has changed.
                    Err(ServiceError::Refused(refusal))
                        if !current && !refusal.is_version_mismatch() =>
                    {
                        self.class_context_now(db, class).await?;
                        attempt(change).await
                    }
                    done => done,
                };
                match done {
                    Ok(done) => done,
                    Err(e) => self.or_recalled(meta, &stream, e).await?,
                }
            }
        };
        let resource = done
            .state
            .latest()
            .map(|live| Resource::instance(&id, live, done.version));
        let resource = shown(meta, resource)?;
        Ok(written(id.as_str(), meta, done, resource, created))
    }

    async fn attempt(
        &self,
        meta: &CommandMetadata<'_>,
        db: &DatabaseName,
        class: &ClassId,
        stream: &StreamName,
        change: Change,
    ) -> Result<Executed<Instance>, ServiceError> {
        let command = self.instance_command(db, class, change).await?;
        let execute = meta.execute(command);
        Ok(self.parts.instances.execute(stream, execute).await?)
    }

    async fn instance_command(
        &self,
        db: &DatabaseName,
        class: &ClassId,
        change: Change,
    ) -> Result<InstanceCommand, ServiceError> {
        let context = self.class_context(db, class).await?;
        if let Change::Create(data) | Change::Update(data) = &change {
            self.check_links(db, &context, data).await?;
        }
        change.command(&context)
    }

    /// Every instance that `data` refers to must be there: 422 `target_not_found` otherwise. The
    /// target may be deleted right after; a link says what was so when it was made.
    async fn check_links(
        &self,
        db: &DatabaseName,
        context: &ClassContext,
        data: &Document,
    ) -> Result<(), ServiceError> {
        let effective = context.effective()?;
        if !effective.has_links() {
            return Ok(());
        }
        let targets = effective.link_targets(&data.parse()?);
        if targets.is_empty() {
            return Ok(());
        }
        let missing: Vec<Violation> = stream::iter(targets)
            .map(|target| async move {
                let found = self.target_exists(db, &target).await?;
                Ok::<_, ServiceError>((!found).then(|| Violation {
                    message: format!("there is no {} `{}`", target.class, target.id),
                    field: target.field,
                    code: "target_not_found",
                }))
            })
            .buffered(LINKS_AT_ONCE)
            .try_filter_map(|missing| async move { Ok(missing) })
            .try_collect()
            .await?;
        if missing.is_empty() {
            return Ok(());
        }
        Err(Refusal::violations(missing).into())
    }

    async fn target_exists(
        &self,
        db: &DatabaseName,
        target: &LinkTarget,
    ) -> Result<bool, ServiceError> {
        let stream = StreamName::instance(db, &target.class, &target.id);
        for catch_up in [false, true] {
            let context = if catch_up {
                self.class_context_now(db, &target.class).await
            } else {
                self.class_context(db, &target.class).await
            };
            let context = match context {
                Ok(context) => context,
                Err(ServiceError::Refused(_)) => continue,
                Err(e) => return Err(e),
            };
            let seen = self.read(&self.parts.instances, &stream, catch_up).await?;
            if seen.state.live(context.incarnation).is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The id of an instance whose creator named none: a retry makes the same one.
pub(super) fn made_id(command: CommandId) -> Result<InstanceId, ServiceError> {
    InstanceId::new(&command.to_string()).map_err(|e| ServiceError::Internal(e.to_string()))
}
