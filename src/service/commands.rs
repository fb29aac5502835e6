//! Writes. Each first checks whether it repeats a command whose outcome is recorded, then gathers
//! what the decision needs from other aggregates, then goes to its own aggregate.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::Service;
use super::context::{ExpectedVersion, RequestContext};
use super::error::{RETRY_AFTER, ServiceError};
use super::view::{Resource, Written};
use crate::actors::aggregate::entity::{Execute, Executed, recorded};
use crate::domain::aggregate::Aggregate;
use crate::domain::class::{Class, ClassCommand, ClassDefinition, EffectiveClass};
use crate::domain::database::DatabaseCommand;
use crate::domain::event::NewEvent;
use crate::domain::ids::{ClassId, CommandId, DatabaseName, RESERVED_STREAM_TYPES, StreamName};
use crate::domain::refusal::Refusal;

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

    pub fn execute<A: Aggregate>(&self, command: A::Command) -> Execute<A> {
        Execute {
            command: Arc::new(command),
            expected: match self.expected {
                ExpectedVersion::Any => None,
                ExpectedVersion::Exactly(version) => Some(version.into()),
                ExpectedVersion::OneOf(versions) => Some(versions),
            },
            command_id: self.command_id,
            correlation_id: self.ctx.correlation_id.clone(),
            trace: self.ctx.trace,
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
        let meta = CommandMetadata::of(ctx, ExpectedVersion::Any);
        let stream = StreamName::database(&name);
        let command = DatabaseCommand::Create { description };
        let done = self
            .parts
            .databases
            .execute(&stream, meta.execute(command))
            .await?;
        let resource = done
            .state
            .live()
            .map(|live| Resource::database(&name, live, done.version));
        let resource = shown(&meta, resource)?;
        Ok(written(name.as_str(), &meta, done, resource, true))
    }

    /// Deletes a database and, with it, everything in it.
    pub async fn delete_database(
        &self,
        ctx: &RequestContext,
        name: DatabaseName,
        expected: ExpectedVersion,
    ) -> Result<Written, ServiceError> {
        let _permit = self.begin(ctx).await?;
        let meta = CommandMetadata::of(ctx, expected);
        let stream = StreamName::database(&name);
        let command = DatabaseCommand::Delete;
        let done = self
            .parts
            .databases
            .execute(&stream, meta.execute(command))
            .await?;
        Ok(written(name.as_str(), &meta, done, None, false))
    }

    pub async fn create_class(
        &self,
        ctx: &RequestContext,
        db: DatabaseName,
        definition: ClassDefinition,
    ) -> Result<Written, ServiceError> {
        let _permit = self.begin(ctx).await?;
        let meta = CommandMetadata::of(ctx, ExpectedVersion::Any);
        self.define_class(&meta, &db, definition, true).await
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
        let meta = CommandMetadata::of(ctx, expected);
        self.define_class(&meta, &db, definition, false).await
    }

    async fn define_class(
        &self,
        meta: &CommandMetadata<'_>,
        db: &DatabaseName,
        definition: ClassDefinition,
        create: bool,
    ) -> Result<Written, ServiceError> {
        let id = definition.id.clone();
        let definition = Arc::new(definition);
        let stream = StreamName::class(db, &id);
        let done = match self.recall::<Class>(meta, &stream).await? {
            Some(done) => done,
            None => {
                // Held until the command is committed: see `lineage`.
                let _lineage = self.lineages.extend(db).await;
                let mut current = self.catch_up_on_database(db).await?;
                loop {
                    let outcome = self
                        .define(meta, db, &stream, definition.clone(), create)
                        .await;
                    match outcome {
                        Ok(done) => break done,
                        // It may rest on what another process has changed.
                        Err(ServiceError::Refused(_)) if !current => {
                            self.catch_up_with(&[StreamName::database(db)]).await?;
                            current = true;
                        }
                        Err(e) => break self.or_recalled(meta, &stream, e).await?,
                    }
                }
            }
        };
        let resource = done
            .state
            .latest()
            .map(|live| Resource::class(&id, live, done.version));
        let resource = shown(meta, resource)?;
        Ok(written(id.as_str(), meta, done, resource, create))
    }

    async fn define(
        &self,
        meta: &CommandMetadata<'_>,
        db: &DatabaseName,
        stream: &StreamName,
        definition: Arc<ClassDefinition>,
        create: bool,
    ) -> Result<Executed<Class>, ServiceError> {
        let command = self.definition_command(db, definition, create).await?;
        let execute = meta.execute(command);
        Ok(self.parts.classes.execute(stream, execute).await?)
    }

    async fn definition_command(
        &self,
        db: &DatabaseName,
        definition: Arc<ClassDefinition>,
        create: bool,
    ) -> Result<ClassCommand, ServiceError> {
        let (database, _) = self.live_database(db).await?;
        let database_incarnation = database.incarnation;
        definition.validate()?;
        let ancestors = self
            .ancestors(db, database_incarnation, &definition, &mut Vec::new())
            .await?;
        let mut chain = vec![&*definition];
        chain.extend(ancestors.iter().map(|a| &**a));
        EffectiveClass::resolve(&chain)?;
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
        let meta = CommandMetadata::of(ctx, expected);
        let stream = StreamName::class(&db, &class);
        let done = match self.recall::<Class>(&meta, &stream).await? {
            Some(done) => done,
            None => {
                let _lineage = self.lineages.cut(&db).await;
                match self.deletion_command(ctx, &db, &class).await {
                    Ok(command) => {
                        let execute = meta.execute(command);
                        self.parts.classes.execute(&stream, execute).await?
                    }
                    Err(e) => self.or_recalled(&meta, &stream, e).await?,
                }
            }
        };
        Ok(written(class.as_str(), &meta, done, None, false))
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
        let meta = CommandMetadata::of(ctx, expected);
        let metadata = |e: &NewEvent| e.metadata.as_ref().map_or(0, |m| m.get().len());
        let bytes = events
            .iter()
            .map(|e| e.data.get().len() + metadata(e))
            .sum();
        let _held = self.hold(&meta, bytes).await?;
        let execute = meta.execute(events);
        let done = self.parts.streams.execute(&stream, execute).await?;
        Ok(written(stream.as_str(), &meta, done, None, true))
    }

    /// The recorded outcome of a command that was committed before, so that a repeated request gets
    /// its answer even if other aggregates have changed since.
    pub(super) async fn recall<A: Aggregate>(
        &self,
        meta: &CommandMetadata<'_>,
        stream: &StreamName,
    ) -> Result<Option<Executed<A>>, ServiceError> {
        let Some(idempotency) = &meta.ctx.idempotency else {
            return Ok(None);
        };
        let deps = &self.parts.entities;
        let Some((_, outcome)) = deps.writer.command(meta.command_id) else {
            return Ok(None);
        };
        let stage = deps.writer.stage(stream).await?;
        let done = recorded(deps, stream, Some(idempotency), outcome, stage, None).await?;
        Ok(Some(done))
    }

    /// The recorded outcome of a command that was refused because of other aggregates: another
    /// process may have committed it before those changed.
    pub(super) async fn or_recalled<A: Aggregate>(
        &self,
        meta: &CommandMetadata<'_>,
        stream: &StreamName,
        error: ServiceError,
    ) -> Result<Executed<A>, ServiceError> {
        let refused = matches!(error, ServiceError::Refused(_));
        if !refused || meta.ctx.idempotency.is_none() {
            return Err(error);
        }
        self.catch_up_with(std::slice::from_ref(stream)).await?;
        self.recall(meta, stream).await?.ok_or(error)
    }
}

/// The resource after a command. The command is committed: an error from here on must not say that
/// nothing happened.
pub(super) fn shown(
    meta: &CommandMetadata<'_>,
    resource: Option<Result<Resource, ServiceError>>,
) -> Result<Option<Resource>, ServiceError> {
    resource
        .transpose()
        .map_err(|error| ServiceError::OutcomeUnknown {
            command_id: meta.command_id,
            message: format!("its result cannot be shown: {error}"),
            retry_after: RETRY_AFTER,
        })
}

pub(super) fn written<A>(
    id: &str,
    meta: &CommandMetadata<'_>,
    done: Executed<A>,
    resource: Option<Resource>,
    created: bool,
) -> Written {
    Written {
        id: id.to_owned(),
        command_id: meta.command_id,
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
            trace: None,
            idempotency: None,
            deadline: Instant::now(),
        };
        let meta = CommandMetadata::of(&ctx, ExpectedVersion::Any);
        let failed = Some(Err(ServiceError::Internal("not JSON".into())));
        let error = shown(&meta, failed).unwrap_err();
        let ServiceError::OutcomeUnknown { command_id, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(command_id, meta.command_id);
        assert!(shown(&meta, None).unwrap().is_none());
    }
}
