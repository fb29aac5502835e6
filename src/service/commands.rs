//! Writes. Each first checks whether it repeats a command whose outcome is recorded, then gathers
//! what the decision needs from other aggregates, then goes to its own aggregate.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde_json::value::RawValue;

use super::Service;
use super::change::Change;
use super::class_context::ClassContext;
use super::context::{ExpectedVersion, RequestContext};
use super::error::{RETRY_AFTER, ServiceError};
use super::view::{Resource, Written};
use crate::actors::aggregate::entity::{Execute, Executed, recorded};
use crate::domain::aggregate::Aggregate;
use crate::domain::class::{Class, ClassCommand, ClassDefinition, EffectiveClass, LinkTarget};
use crate::domain::database::DatabaseCommand;
use crate::domain::document::Document;
use crate::domain::event::NewEvent;
use crate::domain::ids::{
    ClassId, CommandId, DatabaseName, InstanceId, RESERVED_STREAM_TYPES, StreamName,
};
use crate::domain::instance::{Instance, InstanceCommand};
use crate::domain::refusal::{Refusal, Violation};

/// Link targets looked up concurrently.
const LINKS_AT_ONCE: usize = 16;

#[derive(Debug, Clone)]
pub struct NewInstance {
    /// Its id; derived from the command id if the caller gives none.
    pub id: Option<InstanceId>,
    pub data: Document,
    /// The caller's metadata, recorded with the event: the text of a JSON object.
    pub metadata: Option<Box<RawValue>>,
}

/// Metadata of every command.
pub(super) struct CommandMetadata<'a> {
    pub ctx: &'a RequestContext,
    pub command_id: CommandId,
    pub expected: ExpectedVersion,
    pub metadata: Option<Box<RawValue>>,
    /// Whether it waits for memory until its deadline instead of being refused, because it is part
    /// of an admitted request.
    pub patient: bool,
}

impl<'a> CommandMetadata<'a> {
    pub fn of(ctx: &'a RequestContext, expected: ExpectedVersion) -> Self {
        Self {
            ctx,
            command_id: ctx.command_id(),
            expected,
            metadata: None,
            patient: false,
        }
    }

    /// The metadata of the item at `place` of a batch: a command of its own under the batch's key.
    pub fn of_item(ctx: &'a RequestContext, place: usize) -> Self {
        Self {
            ctx,
            command_id: ctx.item_command_id(place),
            expected: ExpectedVersion::Any,
            metadata: None,
            patient: true,
        }
    }

    fn execute<A: Aggregate>(&self, command: A::Command) -> Execute<A> {
        Execute {
            command: Arc::new(command),
            expected: match self.expected {
                ExpectedVersion::Any => None,
                ExpectedVersion::Exactly(version) => Some(version.into()),
                ExpectedVersion::OneOf(versions) => Some(versions),
            },
            command_id: self.command_id,
            correlation_id: self.ctx.correlation_id.clone(),
            actor: self.ctx.principal.clone(),
            idempotency: self.ctx.idempotency.clone(),
            metadata: self.metadata.clone(),
            deadline: self.ctx.deadline,
        }
    }
}

impl Service {
    pub async fn create_database(
        &self,
        ctx: &RequestContext,
        name: DatabaseName,
        description: Option<String>,
    ) -> Result<Written, ServiceError> {
        let _permit = self.begin(ctx).await?;
        let circumstances = CommandMetadata::of(ctx, ExpectedVersion::Any);
        let stream = StreamName::database(&name);
        let command = DatabaseCommand::Create { description };
        let done = self
            .parts
            .databases
            .execute(&stream, circumstances.execute(command))
            .await?;
        let resource = done
            .state
            .live()
            .map(|live| Resource::database(&name, live, done.version));
        let resource = shown(&circumstances, resource)?;
        Ok(written(name.as_str(), &circumstances, done, resource, true))
    }

    /// Deletes a database and, with it, everything in it.
    pub async fn delete_database(
        &self,
        ctx: &RequestContext,
        name: DatabaseName,
        expected: ExpectedVersion,
    ) -> Result<Written, ServiceError> {
        let _permit = self.begin(ctx).await?;
        let circumstances = CommandMetadata::of(ctx, expected);
        let stream = StreamName::database(&name);
        let command = DatabaseCommand::Delete;
        let done = self
            .parts
            .databases
            .execute(&stream, circumstances.execute(command))
            .await?;
        Ok(written(name.as_str(), &circumstances, done, None, false))
    }

    pub async fn create_class(
        &self,
        ctx: &RequestContext,
        db: DatabaseName,
        definition: ClassDefinition,
    ) -> Result<Written, ServiceError> {
        let _permit = self.begin(ctx).await?;
        let circumstances = CommandMetadata::of(ctx, ExpectedVersion::Any);
        self.define_class(&circumstances, &db, definition, true)
            .await
    }

    /// Replaces a class's definition; `definition.id` names the class.
    pub async fn replace_class(
        &self,
        ctx: &RequestContext,
        db: DatabaseName,
        definition: ClassDefinition,
        expected: ExpectedVersion,
    ) -> Result<Written, ServiceError> {
        let _permit = self.begin(ctx).await?;
        let circumstances = CommandMetadata::of(ctx, expected);
        self.define_class(&circumstances, &db, definition, false)
            .await
    }

    async fn define_class(
        &self,
        circumstances: &CommandMetadata<'_>,
        db: &DatabaseName,
        definition: ClassDefinition,
        create: bool,
    ) -> Result<Written, ServiceError> {
        let id = definition.id.clone();
        let stream = StreamName::class(db, &id);
        let done = match self.recall::<Class>(circumstances, &stream).await? {
            Some(done) => done,
            None => {
                // Held until the command is committed: see `lineage`.
                let _lineage = self.lineages.extend(db).await;
                match self.definition_command(db, definition, create).await {
                    Ok(command) => {
                        let execute = circumstances.execute(command);
                        self.parts.classes.execute(&stream, execute).await?
                    }
                    Err(e) => self.or_recalled(circumstances, &stream, e).await?,
                }
            }
        };
        let resource = done
            .state
            .latest()
            .map(|live| Resource::class(&id, live, done.version));
        let resource = shown(circumstances, resource)?;
        Ok(written(id.as_str(), circumstances, done, resource, create))
    }

    async fn definition_command(
        &self,
        db: &DatabaseName,
        definition: ClassDefinition,
        create: bool,
    ) -> Result<ClassCommand, ServiceError> {
        let (database, _) = self.live_database(db).await?;
        let database_incarnation = database.incarnation;
        definition.validate()?;
        let ancestors = self
            .ancestors(db, database_incarnation, &definition, &mut Vec::new())
            .await?;
        let mut chain = vec![&definition];
        chain.extend(ancestors.iter().map(|a| &**a));
        EffectiveClass::resolve(&chain)?;
        let definition = Arc::new(definition);
        Ok(if create {
            ClassCommand::Create {
                database_incarnation,
                definition,
            }
        } else {
            ClassCommand::Update {
                database_incarnation,
                definition,
            }
        })
    }

    /// Deletes a class and, with it, its instances; 409 `class_has_children` while it is the parent of
    /// another one.
    pub async fn delete_class(
        &self,
        ctx: &RequestContext,
        db: DatabaseName,
        class: ClassId,
        expected: ExpectedVersion,
    ) -> Result<Written, ServiceError> {
        let _permit = self.begin(ctx).await?;
        let circumstances = CommandMetadata::of(ctx, expected);
        let stream = StreamName::class(&db, &class);
        let done = match self.recall::<Class>(&circumstances, &stream).await? {
            Some(done) => done,
            None => {
                let _lineage = self.lineages.cut(&db).await;
                match self.deletion_command(ctx, &db, &class).await {
                    Ok(command) => {
                        let execute = circumstances.execute(command);
                        self.parts.classes.execute(&stream, execute).await?
                    }
                    Err(e) => self.or_recalled(&circumstances, &stream, e).await?,
                }
            }
        };
        Ok(written(class.as_str(), &circumstances, done, None, false))
    }

    pub async fn create_instance(
        &self,
        ctx: &RequestContext,
        db: DatabaseName,
        class: ClassId,
        new: NewInstance,
    ) -> Result<Written, ServiceError> {
        let _permit = self.begin(ctx).await?;
        let circumstances = CommandMetadata {
            metadata: new.metadata,
            ..CommandMetadata::of(ctx, ExpectedVersion::Any)
        };
        let id = new
            .id
            .map_or_else(|| made_id(circumstances.command_id), Ok)?;
        let change = Change::Create(new.data);
        self.change_instance(&circumstances, &db, &class, id, change)
            .await
    }

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
        let circumstances = CommandMetadata::of(ctx, expected);
        let change = Change::Update(patch);
        self.change_instance(&circumstances, &db, &class, id, change)
            .await
    }

    pub async fn delete_instance(
        &self,
        ctx: &RequestContext,
        db: DatabaseName,
        class: ClassId,
        id: InstanceId,
        expected: ExpectedVersion,
    ) -> Result<Written, ServiceError> {
        let _permit = self.begin(ctx).await?;
        let circumstances = CommandMetadata::of(ctx, expected);
        self.change_instance(&circumstances, &db, &class, id, Change::Delete)
            .await
    }

    pub(super) async fn change_instance(
        &self,
        circumstances: &CommandMetadata<'_>,
        db: &DatabaseName,
        class: &ClassId,
        id: InstanceId,
        change: Change,
    ) -> Result<Written, ServiceError> {
        let stream = StreamName::instance(db, class, &id);
        let created = matches!(change, Change::Create(_));
        // The size of the current state, estimated by its last event, and that of the change.
        let store = &self.parts.entities.writer;
        let bytes = store.last_event_bytes(&stream) + change.bytes();
        let done = match self.recall::<Instance>(circumstances, &stream).await? {
            Some(done) => done,
            None => {
                let _held = self.hold(circumstances, bytes).await?;
                match self.instance_command(db, class, change).await {
                    Ok(command) => {
                        let execute = circumstances.execute(command);
                        self.parts.instances.execute(&stream, execute).await?
                    }
                    Err(e) => self.or_recalled(circumstances, &stream, e).await?,
                }
            }
        };
        let resource = done
            .state
            .latest()
            .map(|live| Resource::instance(&id, live, done.version));
        let resource = shown(circumstances, resource)?;
        Ok(written(id.as_str(), circumstances, done, resource, created))
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

    /// Every instance that `data` refers to must exist: 422 `target_not_found` otherwise. The
    /// target may be deleted right after; a link tells what was so when it was made.
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
        let context = match self.class_context(db, &target.class).await {
            Ok(context) => context,
            Err(ServiceError::Refused(_)) => return Ok(false),
            Err(e) => return Err(e),
        };
        let stream = StreamName::instance(db, &target.class, &target.id);
        for catch_up in [false, true] {
            let seen = self.read(&self.parts.instances, &stream, catch_up).await?;
            if seen.state.live(context.incarnation).is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Appends events to a plain stream, all or none.
    pub async fn append_events(
        &self,
        ctx: &RequestContext,
        stream: StreamName,
        events: Vec<NewEvent>,
        expected: ExpectedVersion,
    ) -> Result<Written, ServiceError> {
        if RESERVED_STREAM_TYPES.contains(&stream.stream_type()) {
            return Err(Refusal::invalid(
                "reserved_stream_type",
                format!(
                    "streams of type {} belong to the ontology",
                    stream.stream_type()
                ),
            )
            .into());
        }
        let _permit = self.begin(ctx).await?;
        let circumstances = CommandMetadata::of(ctx, expected);
        let metadata = |e: &NewEvent| e.metadata.as_ref().map_or(0, |m| m.get().len());
        let bytes = events
            .iter()
            .map(|e| e.data.get().len() + metadata(e))
            .sum();
        let _held = self.hold(&circumstances, bytes).await?;
        let execute = circumstances.execute(events);
        let done = self.parts.streams.execute(&stream, execute).await?;
        Ok(written(stream.as_str(), &circumstances, done, None, true))
    }

    /// The recorded outcome of a command that was committed before, so that a repeated request gets
    /// its answer even if other aggregates have changed since.
    async fn recall<A: Aggregate>(
        &self,
        circumstances: &CommandMetadata<'_>,
        stream: &StreamName,
    ) -> Result<Option<Executed<A>>, ServiceError> {
        let Some(idempotency) = &circumstances.ctx.idempotency else {
            return Ok(None);
        };
        let deps = &self.parts.entities;
        let Some((_, outcome)) = deps.writer.command(circumstances.command_id) else {
            return Ok(None);
        };
        let stage = deps.writer.stage(stream).await?;
        let done = recorded(deps, stream, Some(idempotency), outcome, stage, None).await?;
        Ok(Some(done))
    }
}

impl Service {
    /// The recorded outcome of a command that was refused because of other aggregates: another
    /// process may have committed it before those changed.
    async fn or_recalled<A: Aggregate>(
        &self,
        circumstances: &CommandMetadata<'_>,
        stream: &StreamName,
        error: ServiceError,
    ) -> Result<Executed<A>, ServiceError> {
        let refused = matches!(error, ServiceError::Refused(_));
        if !refused || circumstances.ctx.idempotency.is_none() {
            return Err(error);
        }
        self.catch_up_with(std::slice::from_ref(stream)).await?;
        self.recall(circumstances, stream).await?.ok_or(error)
    }
}

/// The id of an instance whose creator gave none, derived from the command so that a retry makes
/// the same one.
pub(super) fn made_id(command: CommandId) -> Result<InstanceId, ServiceError> {
    InstanceId::new(&command.to_string()).map_err(|e| ServiceError::Internal(e.to_string()))
}

/// The resource after a command. The command is committed: an error from here on must not say that
/// nothing happened.
fn shown(
    circumstances: &CommandMetadata<'_>,
    resource: Option<Result<Resource, ServiceError>>,
) -> Result<Option<Resource>, ServiceError> {
    resource
        .transpose()
        .map_err(|error| ServiceError::OutcomeUnknown {
            command_id: circumstances.command_id,
            message: format!("its result cannot be shown: {error}"),
            retry_after: RETRY_AFTER,
        })
}

fn written<A>(
    id: &str,
    circumstances: &CommandMetadata<'_>,
    done: Executed<A>,
    resource: Option<Resource>,
    created: bool,
) -> Written {
    Written {
        id: id.to_owned(),
        command_id: circumstances.command_id,
        version: done.version,
        position: done.position,
        stage: done.stage,
        mirrored: done.mirrored,
        data: resource.map(|r| r.data),
        created,
        replayed: done.replayed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[test]
    fn law_4_what_fails_after_the_commit_is_not_told_as_if_nothing_had_happened() {
        let ctx = RequestContext {
            principal: "ann".into(),
            correlation_id: "story".into(),
            idempotency: None,
            deadline: Instant::now(),
        };
        let circumstances = CommandMetadata::of(&ctx, ExpectedVersion::Any);
        let failed = Some(Err(ServiceError::Internal("not JSON".into())));
        let error = shown(&circumstances, failed).unwrap_err();
        let ServiceError::OutcomeUnknown { command_id, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(command_id, circumstances.command_id);
        assert!(shown(&circumstances, None).unwrap().is_none());
    }
}
