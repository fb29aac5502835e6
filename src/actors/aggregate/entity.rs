//! What an AggregateActor does, without actix: load the state, decide a command on it, append the
//! events to the leading store, apply them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::Rng;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, timeout_at};

use super::fold::{Folded, SnapshotEvery, apply_stored, fold, fold_on, save_snapshot};
use super::spans::append_ended;
use super::{Read, Seen};
use crate::actors::error::CallError;
use crate::actors::event_store::LogWriter;
use crate::actors::event_store::{AppendError, AppendRequest};
use crate::actors::write_stats::WriteStats;
use crate::clock::new_uuid;
use crate::domain::aggregate::{Aggregate, DomainEvent};
use crate::domain::event::{EncodedEvents, Idempotency, NewEvent, Provenance, encode};
use crate::domain::ids::{CommandId, EventId, EventType, Position, StreamName, Version};
use crate::domain::refusal::Refusal;
use crate::domain::time::Clock;
use crate::domain::trace::TraceContext;
use crate::domain::versions::VersionSet;
use crate::domain::weight::{EventSize, Limits, append_too_large};
use crate::flaws::{Flaw, flawed, strikes};
use crate::log::batch::AppendOutcome;
use crate::log::recent_commands::KeysFull;
use crate::log::summary::CommandOutcome;
use crate::metrics;
use crate::migration::stage::{Mode, Stage};
use crate::store::error::{StoreError, StoreErrorKind};
use crate::store::io_runtime::IoRuntime;
use crate::store::traces::{Kind, Span};

/// How often a command is decided again because its stream was written to in between: by another
/// process, or by a previous incarnation of this actor that still has commands in flight. A process
/// that loses more often shares a stream with a writer that the request should have been routed to.
const MAX_DECISIONS: usize = 16;

/// Pause before an append of unknown outcome is sent again.
const ASK_AGAIN: Duration = Duration::from_millis(20);

pub struct EntityDeps {
    pub write_stats: Arc<WriteStats>,
    pub writer: LogWriter,
    pub io: IoRuntime,
    pub clock: Arc<dyn Clock>,
    pub snapshot_every: SnapshotEvery,
    pub limits: Limits,
}

pub struct Execute<A: Aggregate> {
    pub command: Arc<A::Command>,
    /// The versions any of which the caller expects, if it named some.
    pub expected: Option<VersionSet>,
    pub command_id: CommandId,
    /// Groups the events of one business transaction across streams; copied into each event.
    pub correlation_id: String,
    /// The operation that the command is part of, in its trace.
    pub trace: Option<TraceContext>,
    pub actor: String,
    /// The client's idempotency key with the hash of the request, if it sent one.
    pub idempotency: Option<Idempotency>,
    /// The caller's metadata, stored with every event that has none of its own.
    pub metadata: Option<Box<RawValue>>,
    /// When the caller stops waiting.
    pub deadline: Instant,
}

impl<A: Aggregate> Clone for Execute<A> {
    fn clone(&self) -> Self {
        Self {
            command: self.command.clone(),
            expected: self.expected,
            command_id: self.command_id,
            correlation_id: self.correlation_id.clone(),
            trace: self.trace,
            actor: self.actor.clone(),
            idempotency: self.idempotency.clone(),
            metadata: self.metadata.clone(),
            deadline: self.deadline,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Executed<A> {
    pub state: Arc<A>,
    pub version: Version,
    /// Position of its last event; `None` when the command changed nothing.
    pub position: Option<Position>,
    pub stage: Stage,
    /// Whether the other store is known to hold it too.
    pub mirrored: bool,
    /// Whether this is the recorded outcome of an earlier attempt.
    pub replayed: bool,
}

/// Events with their encoded form.
type Prepared<A> = (Vec<<A as Aggregate>::Event>, EncodedEvents);

pub struct Entity<A: Aggregate> {
    stream: StreamName,
    deps: Arc<EntityDeps>,
    state: Arc<A>,
    version: Version,
    loaded: bool,
    weight: Arc<AtomicUsize>,
}

impl<A: Aggregate> Entity<A> {
    /// An entity that has loaded nothing yet; it keeps the size of its state, in bytes, in
    /// `weight`.
    pub fn new(stream: StreamName, deps: Arc<EntityDeps>, weight: Arc<AtomicUsize>) -> Self {
        weight.store(0, Ordering::Relaxed);
        Self {
            stream,
            deps,
            state: Arc::new(A::default()),
            version: Version::NONE,
            loaded: false,
            weight,
        }
    }

    fn weigh(&self) {
        self.weight
            .store(self.state.memory_bytes(), Ordering::Relaxed);
    }

    pub fn stream(&self) -> &StreamName {
        &self.stream
    }

    pub async fn read(&mut self, wanted: &Read) -> Result<Seen<A>, CallError> {
        timeout_at(wanted.deadline, self.load())
            .await
            .map_err(|_| CallError::DeadlineExceeded)??;
        Ok(Seen {
            state: self.state.clone(),
            version: self.version,
        })
    }

    /// Runs one command until its outcome is known or its deadline passes.
    pub async fn execute(&mut self, execute: Execute<A>) -> Result<Executed<A>, CallError> {
        let begun = Instant::now();
        if begun >= execute.deadline {
            return Err(CallError::DeadlineExceeded);
        }
        // Set once an append may have happened: from then on "the deadline passed" means unknown.
        let mut unknown: Option<String> = None;
        let mut decisions = 0;
        // Whether what other processes have written was read before an answer without a commit is
        // given.
        let mut caught_up = false;
        loop {
            if let Some(outcome) = self.outcome(&execute) {
                return self.recorded(&execute, outcome).await;
            }
            if Instant::now() >= execute.deadline {
                return Err(match unknown {
                    None => CallError::DeadlineExceeded,
                    Some(why) => outcome_unknown(&execute, why),
                });
            }
            let ready = timeout_at(execute.deadline, async {
                let stage = self.deps.writer.stage(&self.stream).await?;
                self.load().await?;
                Ok::<_, CallError>(stage)
            })
            .await;
            let stage = match (ready, &unknown) {
                (Ok(Ok(stage)), _) => stage,
                (Ok(Err(e)), None) => return Err(e),
                (Ok(Err(e)), Some(_)) => return Err(outcome_unknown(&execute, e.to_string())),
                (Err(_), None) => return Err(CallError::DeadlineExceeded),
                (Err(_), Some(why)) => return Err(outcome_unknown(&execute, why.clone())),
            };
            let (events, encoded) = match self.prepare(&execute) {
                Ok(Some(prepared)) => prepared,
                // A refusal, or "nothing to change", must not rest on a state that another process
                // may have changed since.
                Ok(None) | Err(CallError::Refused(_)) if !caught_up => {
                    let catch_up = self.deps.writer.catch_up(&self.stream);
                    match timeout_at(execute.deadline, catch_up).await {
                        Ok(Ok(())) => caught_up = true,
                        Ok(Err(e)) if unknown.is_none() => return Err(e.into()),
                        Ok(Err(e)) => return Err(outcome_unknown(&execute, e.to_string())),
                        // The head of the loop reports it.
                        Err(_) => {}
                    }
                    continue;
                }
                Ok(None) => return Ok(self.executed(None, stage, false)),
                Err(error) => return Err(error),
            };
            let span = Span::child(execute.trace, Kind::Internal, "append");
            let request = AppendRequest {
                trace: span.context(),
                stream: self.stream.clone(),
                expected: self.version,
                command: execute.command_id,
                request_hash: execute.idempotency.as_ref().map(|i| i.request_hash),
                events: encoded.clone(),
                deadline: execute.deadline,
            };
            let appended = self.deps.writer.append(request).await;
            append_ended(span, &appended);
            match appended.map(|a| (a.verdict, a)) {
                Ok((AppendOutcome::Committed { position, version }, answer)) => {
                    let is_new = self.version == Version::NONE;
                    self.apply(&events, &encoded, version)
                        .map_err(|e| outcome_unknown(&execute, e.to_string()))?;
                    metrics::command_committed(
                        self.stream.stream_type(),
                        is_new,
                        events.iter().map(DomainEvent::event_type),
                        begun.elapsed(),
                    );
                    let last = Position {
                        index: position.index + events.len() as u32 - 1,
                        ..position
                    };
                    return Ok(Executed {
                        mirrored: answer.mirrored,
                        ..self.executed(Some(last), answer.stage, false)
                    });
                }
                Ok((AppendOutcome::Repeated(outcome) | AppendOutcome::KeyReused(outcome), _)) => {
                    return self.recorded(&execute, outcome).await;
                }
                Ok((AppendOutcome::KeysFull(full), _)) => {
                    metrics::admission_rejected("idempotency_keys");
                    return Err(CallError::Overloaded {
                        limit: "idempotency_keys",
                        entitys_own: full == KeysFull::OfPrincipal,
                    });
                }
                Ok((AppendOutcome::Conflict { actual }, _)) => {
                    decisions += 1;
                    if decisions >= MAX_DECISIONS {
                        return Err(Refusal::version_mismatch(self.version, actual).into());
                    }
                }
                Err(AppendError::NotWritten(e)) => {
                    return match unknown {
                        None => Err(e.into()),
                        Some(_) => Err(outcome_unknown(&execute, e.to_string())),
                    };
                }
                Err(AppendError::TooLarge { size, limit }) => {
                    return Err(append_too_large(&A::WEIGHED, size, limit).into());
                }
                Err(AppendError::Unknown(why)) => {
                    unknown = Some(why);
                    let pause = ASK_AGAIN.mul_f64(rand::rng().random_range(0.5..1.5));
                    sleep(pause).await;
                }
            }
        }
    }

    /// Decides the command and encodes its events; `None` if there are none.
    fn prepare(&self, execute: &Execute<A>) -> Result<Option<Prepared<A>>, CallError> {
        let mut events = self.decide(execute)?;
        if events.is_empty() {
            return Ok(None);
        }
        if strikes(Flaw::AddEvents, 15) {
            events.extend(self.decide(execute).unwrap_or_default());
        }
        let encoded = self.encode(&events, execute)?;
        Ok(Some((events, encoded)))
    }

    fn decide(&self, execute: &Execute<A>) -> Result<Vec<A::Event>, Refusal> {
        match execute.expected {
            Some(expected) if !expected.contains(self.version) && !flawed(Flaw::IgnoreIfMatch) => {
                Err(Refusal::version_mismatch(expected, self.version))
            }
            _ => self.state.decide(&execute.command),
        }
    }

    fn executed(&self, position: Option<Position>, stage: Stage, replayed: bool) -> Executed<A> {
        Executed {
            state: self.state.clone(),
            version: self.version,
            position,
            stage,
            mirrored: false,
            replayed,
        }
    }

    /// Brings the state to the stream's head, as far as this process knows the log.
    async fn load(&mut self) -> Result<(), CallError> {
        let store = &self.deps.writer;
        let head = store.head(&self.stream).ok_or_else(|| {
            StoreError::determinate(
                StoreErrorKind::Unavailable,
                "s3",
                "load aggregate",
                "the log is not open yet",
            )
        })?;
        if self.loaded && self.version == head {
            return Ok(());
        }
        let folded = if self.loaded {
            let mut folded = Folded {
                state: (*self.state).clone(),
                version: self.version,
            };
            fold_on(store, &self.stream, &mut folded, head).await?;
            folded
        } else {
            fold(store, &self.stream, head, self.deps.snapshot_every).await?
        };
        self.state = Arc::new(folded.state);
        self.version = folded.version;
        self.loaded = true;
        self.weigh();
        Ok(())
    }

    fn encode(
        &self,
        events: &[A::Event],
        execute: &Execute<A>,
    ) -> Result<EncodedEvents, CallError> {
        let internal = |e: &dyn std::fmt::Display| CallError::Internal(e.to_string());
        let new: Vec<NewEvent> = events
            .iter()
            .map(|event| {
                Ok(NewEvent {
                    event_type: EventType::new(event.event_type()).map_err(|e| internal(&e))?,
                    schema_version: A::Event::SCHEMA_VERSION,
                    data: event.data().map_err(|e| internal(&e))?,
                    metadata: event
                        .metadata()
                        .map(ToOwned::to_owned)
                        .or_else(|| execute.metadata.clone()),
                })
            })
            .collect::<Result<_, CallError>>()?;
        let sizes: Vec<EventSize> = events
            .iter()
            .zip(&new)
            .map(|(event, new)| EventSize {
                state: A::stored_bytes_after(event).unwrap_or_else(|| new.data.get().len()),
                metadata: new.metadata.as_ref().map_or(0, |m| m.get().len()),
            })
            .collect();
        let limits = &self.deps.limits;
        limits.check(&A::WEIGHED, &sizes, || self.state.stored_bytes())?;
        let provenance = Provenance {
            command_id: execute.command_id,
            correlation_id: execute.correlation_id.clone(),
            actor: execute.actor.clone(),
            idempotency: execute.idempotency.clone(),
            trace: execute.trace,
            time: self.deps.clock.now(),
        };
        let encoded = encode(
            &self.stream,
            self.version.plus(strikes(Flaw::SkipVersion, 15).into()),
            &new,
            &provenance,
            || EventId(new_uuid()),
        );
        limits.check_append(&A::WEIGHED, encoded.bytes.len())?;
        Ok(encoded)
    }

    /// Applies what was just committed from its stored bytes, so that the live state and a rebuilt
    /// one come from the same code and the same bytes.
    fn apply(
        &mut self,
        events: &[A::Event],
        encoded: &EncodedEvents,
        version: Version,
    ) -> Result<(), CallError> {
        let before = self.version;
        // The state is trusted again only when all events are applied.
        self.loaded = false;
        let state = Arc::make_mut(&mut self.state);
        for i in 0..events.len() {
            apply_stored(state, &encoded.event(i))?;
        }
        self.version = version;
        self.loaded = true;
        self.weigh();
        let every = self.deps.snapshot_every;
        if every.is_due(before, version) {
            self.snapshot();
        }
        Ok(())
    }

    fn snapshot(&self) {
        let (deps, stream) = (self.deps.clone(), self.stream.clone());
        let (state, version) = (self.state.clone(), self.version);
        self.deps.io.spawn(async move {
            let store = &deps.writer;
            if let Err(error) =
                save_snapshot(store, &stream, &*state, version, deps.snapshot_every).await
            {
                // A snapshot is derived: without it the next activation reads more events.
                tracing::warn!(%stream, %version, %error, "no snapshot");
            }
        });
    }

    /// What became of this command, as far as this process knows. One with a key is looked for in every
    /// partition: the key may stand for another request, on another stream.
    fn outcome(&self, execute: &Execute<A>) -> Option<CommandOutcome> {
        let (writer, id) = (&self.deps.writer, execute.command_id);
        match execute.idempotency {
            Some(_) => writer.command(id).map(|(_, outcome)| outcome),
            None => writer.command_on(&self.stream, id),
        }
    }

    /// The answer to a command that is in the log. An error from here on must not say that it did
    /// not happen.
    async fn recorded(
        &self,
        execute: &Execute<A>,
        outcome: CommandOutcome,
    ) -> Result<Executed<A>, CallError> {
        let current = self.loaded.then(|| (self.state.clone(), self.version));
        let idempotency = execute.idempotency.as_ref();
        let answer = async {
            let stage = self.deps.writer.stage(&self.stream).await?;
            recorded(
                &self.deps,
                &self.stream,
                idempotency,
                outcome,
                stage,
                current,
            )
            .await
        };
        match timeout_at(execute.deadline, answer).await {
            Ok(Err(CallError::Refused(refusal))) => Err(refusal.into()),
            Ok(Err(e)) => Err(outcome_unknown(execute, e.to_string())),
            Err(_) => Err(outcome_unknown(execute, "the deadline passed".into())),
            Ok(done) => done,
        }
    }
}

/// The answer to a command that is already in the log: the state right after it. Uses `current` if
/// that is of this version, else folds the stream up to it.
pub async fn recorded<A: Aggregate>(
    deps: &EntityDeps,
    stream: &StreamName,
    idempotency: Option<&Idempotency>,
    outcome: CommandOutcome,
    stage: Stage,
    current: Option<(Arc<A>, Version)>,
) -> Result<Executed<A>, CallError> {
    let same = outcome.request_hash == idempotency.map(|i| i.request_hash)
        && outcome.stream == stream.key().into();
    if !same {
        return Err(Refusal::key_reused().into());
    }
    let store = &deps.writer;
    let (state, version) = match current {
        Some((state, version)) if version == outcome.version => (state, version),
        _ => {
            let folded = fold(store, stream, outcome.version, deps.snapshot_every).await?;
            (Arc::new(folded.state), folded.version)
        }
    };
    let partition = store.log().partition_of(stream);
    Ok(Executed {
        state,
        version,
        position: Some(Position {
            partition,
            offset: outcome.offset,
            index: outcome.index + outcome.events - 1,
        }),
        stage,
        mirrored: stage.mode == Mode::DualWrite
            && store.log().routes().mirrored(partition) > outcome.offset,
        replayed: true,
    })
}

fn outcome_unknown<A: Aggregate>(execute: &Execute<A>, message: String) -> CallError {
    CallError::OutcomeUnknown {
        command_id: execute.command_id,
        message,
    }
}
