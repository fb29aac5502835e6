//! Which thread an actor lives on. Entities are spread by hash over a few arbiters, so one entity
//! always runs on one thread; the log's actors share an arbiter of their own, so that a busy
//! entity delays no commit; what runs in the background shares a third. A thread that has ended is
//! replaced; who lived there is started again by the [`supervisor`](super::supervision::supervisor),
//! which has a thread to itself.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use actix::Arbiter;
use actix_rt::ArbiterHandle;
use parking_lot::Mutex;

use crate::domain::ids::StreamKey;

/// A thread, by what runs on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ArbiterSlot {
    /// One of the entities' threads, by its index.
    Entities(usize),
    /// The writers of the partitions.
    Log,
    /// Tailers and singletons.
    Background,
}

impl fmt::Display for ArbiterSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entities(i) => write!(f, "entities/{i}"),
            Self::Log => f.write_str("log"),
            Self::Background => f.write_str("background"),
        }
    }
}

/// Names the current thread; Linux keeps 15 bytes. The metrics report processor time by this name.
fn name_thread(name: &str) {
    let named = std::ffi::CString::new(name).map(|name| nix::sys::prctl::set_name(&name));
    if !matches!(named, Ok(Ok(()))) {
        tracing::debug!(name, ?named, "a thread has no name");
    }
}

pub struct Arbiters {
    entities: Vec<Thread>,
    log: Thread,
    background: Thread,
    supervisor: Thread,
    is_stopping: AtomicBool,
}

/// An arbiter that can be replaced. The `Arbiter` is taken out to wait for its end.
struct Thread(Mutex<(ArbiterHandle, Option<Arbiter>)>);

impl Thread {
    fn new(name: impl fmt::Display) -> Self {
        Self(Mutex::new(Self::start(name)))
    }

    fn start(name: impl fmt::Display) -> (ArbiterHandle, Option<Arbiter>) {
        let arbiter = Arbiter::new();
        let name = format!("oms-{name}");
        // It may have ended already, and then needs no name.
        let _alive = arbiter.spawn_fn(move || name_thread(&name));
        (arbiter.handle(), Some(arbiter))
    }

    fn handle(&self) -> ArbiterHandle {
        self.0.lock().0.clone()
    }
}

impl Arbiters {
    /// Starts the arbiters, at least one for entities. An actix `System` must be running.
    pub fn start(entities: usize) -> Self {
        Self {
            entities: (0..entities.max(1))
                .map(|i| Thread::new(ArbiterSlot::Entities(i)))
                .collect(),
            log: Thread::new(ArbiterSlot::Log),
            background: Thread::new(ArbiterSlot::Background),
            supervisor: Thread::new("supervisor"),
            is_stopping: AtomicBool::new(false),
        }
    }

    fn of(&self, slot: ArbiterSlot) -> &Thread {
        match slot {
            ArbiterSlot::Entities(i) => &self.entities[i % self.entities.len()],
            ArbiterSlot::Log => &self.log,
            ArbiterSlot::Background => &self.background,
        }
    }

    pub fn entity(&self, stream: StreamKey) -> ArbiterSlot {
        // The high half picks the partition, so the low half picks the arbiter.
        ArbiterSlot::Entities((stream.0 as u64 % self.entities.len() as u64) as usize)
    }

    /// The arbiter of a slot. It may just have ended.
    pub fn handle(&self, slot: ArbiterSlot) -> ArbiterHandle {
        self.of(slot).handle()
    }

    pub fn supervisor(&self) -> ArbiterHandle {
        self.supervisor.handle()
    }

    pub fn slots(&self) -> Vec<ArbiterSlot> {
        let entities = (0..self.entities.len()).map(ArbiterSlot::Entities);
        entities
            .chain([ArbiterSlot::Log, ArbiterSlot::Background])
            .collect()
    }

    /// Restarts the arbiter of a slot if it has ended, and says whether it did. To be called on a
    /// thread of the actix `System` only.
    pub fn replace_ended(&self, slot: ArbiterSlot) -> bool {
        let mut thread = self.of(slot).0.lock();
        let is_needed = !thread.0.alive() && !self.is_stopping();
        if is_needed {
            *thread = Thread::start(slot);
        }
        is_needed
    }

    /// Whether the threads are being stopped for good.
    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Stops every arbiter and with it every actor that still runs; only at shutdown. Waits for the
    /// threads to end, in vain for one that its actor blocks.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        let others = self.entities.iter().chain([&self.log, &self.background]);
        // The supervisor first, so that it restarts nothing.
        let threads: Vec<_> = [&self.supervisor].into_iter().chain(others).collect();
        for thread in &threads {
            thread.handle().stop();
        }
        for thread in threads {
            let arbiter = thread.0.lock().1.take();
            if arbiter.is_some_and(|arbiter| arbiter.join().is_err()) {
                tracing::error!("an arbiter's thread ended with a panic");
            }
        }
    }
}
