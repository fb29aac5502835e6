//! How callers get at an entity: a lease on its actor, started on demand, kept while anyone holds
//! a lease, let go when idle or when there are too many.
//!
//! A lease is taken and given back under the same lock that passivation looks under, so no call
//! ever meets an actor on its way out. Should one be gone all the same (it failed beyond its
//! limit), the call is repeated once on a fresh actor: safe, since commands carry their ids.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use actix::Addr;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::entity::{Entity, EntityDeps, Execute, Executed};
use super::{AggregateActor, ExecuteMessage, Read, ReadMessage, Seen};
use crate::actors::claim::Claim;
use crate::actors::error::CallError;
use crate::actors::supervision::guard::{GuardSettings, OnGone, start_guarded};
use crate::actors::supervision::policy::ActorKind;
use crate::actors::supervision::supervisor::Supervisor;
use crate::actors::supervision::tree::{CallInFlight, Node};
use crate::domain::aggregate::Aggregate;
use crate::domain::ids::{StreamKey, StreamName};
use crate::flaws::{Flaw, flawed};
use crate::metrics;

#[derive(Debug, Clone, Copy)]
pub struct RegistrySettings {
    /// Entities of one type in memory at most; about 1 kB each, plus their state.
    pub max_live: usize,
    /// Bytes of their states at most; the least recently used are released first.
    pub max_live_bytes: usize,
    /// Commands queued on one entity at a time; more are refused with 429.
    pub per_entity: u32,
    /// An entity that nobody has called for this long is released.
    pub idle_after: Duration,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            max_live: 100_000,
            max_live_bytes: 128 << 20,
            // Commands on one entity run one by one: 32 puts of 15 ms are half a second of waiting.
            per_entity: 32,
            idle_after: Duration::from_secs(60),
        }
    }
}

struct Slot<A: Aggregate + Unpin> {
    actor: Addr<AggregateActor<A>>,
    node: Arc<Node>,
    leases: u32,
    /// How many of the leases are for commands.
    commands: u32,
    last_used: Instant,
    generation: u64,
    /// Bytes of the state, kept up to date by the entity.
    weight: Arc<AtomicUsize>,
    /// How much of it is included in [`Slots::bytes`].
    counted: usize,
}

/// The live entities and the bytes of their states.
struct Slots<A: Aggregate + Unpin> {
    by_key: HashMap<StreamKey, Slot<A>>,
    bytes: usize,
}

impl<A: Aggregate + Unpin> Slots<A> {
    /// Removes an entity; its state is freed when the last lease is dropped.
    fn remove(&mut self, key: StreamKey, supervisor: &Supervisor) {
        if let Some(slot) = self.by_key.remove(&key) {
            self.bytes -= slot.counted;
            supervisor.tree().remove(&slot.node);
        }
    }
}

struct Inner<A: Aggregate + Unpin> {
    label: &'static str,
    slots: Mutex<Slots<A>>,
    generations: AtomicU64,
    settings: RegistrySettings,
    deps: Arc<EntityDeps>,
    supervisor: Supervisor,
}

/// The live entities of one type. Cheap to clone.
pub struct Registry<A: Aggregate + Unpin> {
    inner: Arc<Inner<A>>,
}

impl<A: Aggregate + Unpin> Clone for Registry<A> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

struct Lease<A: Aggregate + Unpin> {
    inner: Arc<Inner<A>>,
    key: StreamKey,
    generation: u64,
    actor: Addr<AggregateActor<A>>,
    purpose: Purpose,
    // Held for its `Drop`: the supervisor knows that the actor owes an answer while this lives.
    _call: CallInFlight,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Command,
    Read,
}

impl<A: Aggregate + Unpin> Drop for Lease<A> {
    fn drop(&mut self) {
        let mut slots = self.inner.slots.lock();
        let Slots { by_key, bytes } = &mut *slots;
        if let Some(slot) = by_key.get_mut(&self.key)
            && slot.generation == self.generation
        {
            slot.leases -= 1;
            slot.commands -= u32::from(self.purpose == Purpose::Command);
            slot.last_used = Instant::now();
            let weight = slot.weight.load(Ordering::Relaxed);
            *bytes = *bytes - slot.counted + weight;
            slot.counted = weight;
            if *bytes > self.inner.settings.max_live_bytes {
                self.inner.make_light(&mut slots);
            }
        }
    }
}

impl<A: Aggregate + Unpin> Registry<A> {
    /// An empty registry; `label` names the type in metrics.
    pub fn new(
        label: &'static str,
        settings: RegistrySettings,
        deps: Arc<EntityDeps>,
        supervisor: Supervisor,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                label,
                slots: Mutex::new(Slots {
                    by_key: HashMap::new(),
                    bytes: 0,
                }),
                generations: AtomicU64::new(0),
                settings,
                deps,
                supervisor,
            }),
        }
    }

    pub async fn execute(
        &self,
        stream: &StreamName,
        execute: Execute<A>,
    ) -> Result<Executed<A>, CallError> {
        let begun = Instant::now();
        let done = self.execute_unseen(stream, execute).await;
        let write_stats = &self.inner.deps.write_stats;
        write_stats.command(begun.elapsed(), done.as_ref().err());
        done
    }

    async fn execute_unseen(
        &self,
        stream: &StreamName,
        execute: Execute<A>,
    ) -> Result<Executed<A>, CallError> {
        let deadline = execute.deadline;
        let command_id = execute.command_id;
        // When an actor dies while it handles the command, its append may still be under way. From
        // then on only an answer that was read from the log may say that it did not happen.
        let mut may_have_happened = false;
        let settled = |error: CallError, may_have_happened: bool| match error {
            CallError::Refused(_) => error,
            _ if !may_have_happened => error,
            other => CallError::OutcomeUnknown {
                command_id,
                message: other.to_string(),
            },
        };
        for _ in 0..2 {
            let lease = self
                .lease(stream, Purpose::Command)
                .map_err(|e| settled(e, may_have_happened))?;
            let claim = Claim::default();
            let message = ExecuteMessage {
                execute: execute.clone(),
                sent: Instant::now(),
                claim: claim.clone(),
            };
            // The entity enforces the deadline itself and knows the outcome; this timeout is for an
            // entity that does not get to run at all.
            let answer = tokio::time::timeout_at(deadline + GRACE, lease.actor.send(message)).await;
            match answer {
                Ok(Ok(outcome)) => return outcome.map_err(|e| settled(e, may_have_happened)),
                Ok(Err(_)) => {
                    may_have_happened = true;
                    self.let_go(stream.key(), lease.generation);
                }
                // The command never started.
                Err(_) if claim.withdraw() => {
                    return Err(settled(CallError::DeadlineExceeded, may_have_happened));
                }
                Err(_) => break,
            }
        }
        Err(CallError::OutcomeUnknown {
            command_id,
            message: "the entity's actor does not answer".into(),
        })
    }

    pub async fn read(&self, stream: &StreamName, wanted: Read) -> Result<Seen<A>, CallError> {
        if wanted.catch_up {
            // Done here rather than in the entity: all waiting readers share one read of the log,
            // and no command waits behind it.
            let catch_up = self.inner.deps.writer.catch_up(stream);
            tokio::time::timeout_at(wanted.deadline, catch_up)
                .await
                .map_err(|_| CallError::DeadlineExceeded)??;
        }
        for _ in 0..2 {
            let lease = self.lease(stream, Purpose::Read)?;
            let message = ReadMessage {
                wanted,
                kind: std::marker::PhantomData,
            };
            let answer =
                tokio::time::timeout_at(wanted.deadline + GRACE, lease.actor.send(message)).await;
            match answer {
                Ok(Ok(outcome)) => return outcome,
                Ok(Err(_)) => self.let_go(stream.key(), lease.generation),
                Err(_) => break,
            }
        }
        Err(CallError::DeadlineExceeded)
    }

    fn lease(&self, stream: &StreamName, purpose: Purpose) -> Result<Lease<A>, CallError> {
        let key = stream.key();
        let inner = &self.inner;
        let mut slots = inner.slots.lock();
        if !slots.by_key.contains_key(&key) {
            if slots.by_key.len() >= inner.settings.max_live && !inner.make_room(&mut slots) {
                metrics::admission_rejected("live_aggregates");
                return Err(CallError::Overloaded {
                    limit: "live_aggregates",
                    entitys_own: false,
                });
            }
            let slot = self.activate(stream);
            slots.by_key.insert(key, slot);
        }
        let Some(slot) = slots.by_key.get_mut(&key) else {
            return Err(CallError::Internal("slot vanished under its lock".into()));
        };
        let full = slot.commands >= inner.settings.per_entity && !flawed(Flaw::AdmitAll);
        if purpose == Purpose::Command && full {
            metrics::admission_rejected("per_entity");
            return Err(CallError::Overloaded {
                limit: "per_entity",
                entitys_own: true,
            });
        }
        slot.leases += 1;
        slot.commands += u32::from(purpose == Purpose::Command);
        Ok(Lease {
            inner: inner.clone(),
            key,
            generation: slot.generation,
            actor: slot.actor.clone(),
            purpose,
            _call: slot.node.call(),
        })
    }

    fn activate(&self, stream: &StreamName) -> Slot<A> {
        let inner = &self.inner;
        let generation = inner.generations.fetch_add(1, Ordering::Relaxed);
        let node = inner
            .supervisor
            .tree()
            .add(format!("aggregate/{stream}"), ActorKind::Aggregate);
        let key = stream.key();
        let on_gone: OnGone = {
            let registry = Arc::downgrade(inner);
            let io = inner.deps.io.clone();
            // In a task of its own: this is also called synchronously, with the lock on the slots
            // held, when the thread for the actor has ended.
            Arc::new(move |_, _| {
                let registry = registry.clone();
                io.spawn(async move {
                    if let Some(inner) = registry.upgrade() {
                        Registry { inner }.let_go(key, generation);
                    }
                });
            })
        };
        let guard = GuardSettings {
            node: node.clone(),
            on_gone,
        };
        let weight = Arc::new(AtomicUsize::new(0));
        let make: Arc<dyn Fn() -> Entity<A> + Send + Sync> = {
            let (stream, deps, weight) = (stream.clone(), inner.deps.clone(), weight.clone());
            Arc::new(move || Entity::new(stream.clone(), deps.clone(), weight.clone()))
        };
        let arbiters = inner.supervisor.arbiters();
        let arbiter = arbiters.handle(arbiters.entity(key));
        let actor = start_guarded(&arbiter, guard, move || AggregateActor::new(make));
        Slot {
            actor,
            node,
            leases: 0,
            commands: 0,
            last_used: Instant::now(),
            generation,
            weight,
            counted: 0,
        }
    }

    /// Removes an actor that has stopped, unless another one has taken its slot.
    fn let_go(&self, key: StreamKey, generation: u64) {
        let mut slots = self.inner.slots.lock();
        let same = slots.by_key.get(&key);
        if same.is_some_and(|slot| slot.generation == generation) {
            slots.remove(key, &self.inner.supervisor);
        }
    }

    /// Releases every entity that has been idle for too long. Called at a coarse interval.
    pub fn sweep(&self) {
        let inner = &self.inner;
        let now = Instant::now();
        let mut slots = inner.slots.lock();
        let Slots { by_key, bytes } = &mut *slots;
        by_key.retain(|_, slot| {
            let keep = slot.leases > 0 || now - slot.last_used < inner.settings.idle_after;
            if !keep {
                *bytes -= slot.counted;
                inner.supervisor.tree().remove(&slot.node);
            }
            keep
        });
        // Entities that were in use when the limit was exceeded may be idle by now.
        if *bytes > inner.settings.max_live_bytes {
            inner.make_light(&mut slots);
        }
        metrics::live_aggregates(inner.label, slots.by_key.len(), slots.bytes);
    }

    /// Number of entities in memory.
    pub fn live(&self) -> usize {
        self.inner.slots.lock().by_key.len()
    }

    /// Bytes of their states.
    pub fn live_bytes(&self) -> usize {
        self.inner.slots.lock().bytes
    }
}

/// How long after its deadline a call still waits for the entity to report the outcome.
const GRACE: Duration = Duration::from_millis(500);

impl<A: Aggregate + Unpin> Inner<A> {
    /// Releases the least recently used entities, a sixteenth of them at a time, so that a full
    /// registry is not searched at every activation. False when all are in use.
    fn make_room(&self, slots: &mut Slots<A>) -> bool {
        let mut idle = idle(slots);
        let some = (slots.by_key.len() / 16).max(1).min(idle.len());
        if some == 0 {
            return false;
        }
        idle.select_nth_unstable(some - 1);
        for (_, key) in &idle[..some] {
            slots.remove(*key, &self.supervisor);
        }
        true
    }

    /// Releases the least recently used entities until a sixteenth of the bytes is free, for the
    /// same reason. Those in use stay whatever their size, which the number of commands in flight
    /// bounds.
    fn make_light(&self, slots: &mut Slots<A>) {
        let enough = self.settings.max_live_bytes - self.settings.max_live_bytes / 16;
        let mut idle = idle(slots);
        idle.sort_unstable();
        for (_, key) in idle {
            if slots.bytes <= enough {
                return;
            }
            slots.remove(key, &self.supervisor);
        }
    }
}

/// Entities without a lease, with when they were last used.
fn idle<A: Aggregate + Unpin>(slots: &Slots<A>) -> Vec<(Instant, StreamKey)> {
    let idle = slots.by_key.iter().filter(|(_, slot)| slot.leases == 0);
    idle.map(|(key, slot)| (slot.last_used, *key)).collect()
}
