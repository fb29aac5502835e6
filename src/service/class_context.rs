//! What a write to an instance needs of the entities above it: the incarnation of database and
//! class, and the rules of the class with its ancestors.
//!
//! Kept in memory together with the versions of the streams it was made of. It is used only while
//! those are still the streams' versions, which the stream index tells in less than a
//! microsecond, so a change of a class is seen by the very next write in this process. Where other
//! processes write too, what they have done to the class and to what is above it is read before a write
//! ([`Service::catch_up_on_class`]), and in any case before one is refused. Of another process's first
//! writes in an hour a write that is not refused may know only after `log.tail_interval`.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use super::error::ServiceError;
use super::{Service, within_bound};
use crate::domain::class::{Class, ClassDefinition, EffectiveClass, LiveClass, lineage};
use crate::domain::database::{self, LiveDatabase};
use crate::domain::ids::{ClassId, DatabaseName, StreamName, Version};
use crate::metrics;

/// Typical size of a context; sizes the table only.
const USUAL_BYTES: u64 = 16 * 1024;

/// What a context takes beside its content: names of its streams, its place in the cache.
const OVERHEAD_BYTES: usize = 1024;

#[derive(Debug)]
pub struct ClassContext {
    /// Version of the class's stream.
    pub version: Version,
    /// The current state of the class.
    pub live: LiveClass,
    pub incarnation: Version,
    /// The rules for instances; an error if an ancestor is missing, which concerns writes only:
    /// stored instances can be read.
    effective: Result<Arc<EffectiveClass>, ServiceError>,
    /// The streams that this was built from, with their versions.
    made_of: Vec<(StreamName, Version)>,
    last_used: Mutex<Instant>,
}

impl ClassContext {
    /// Bytes of memory it takes, approximately.
    fn memory_bytes(&self) -> usize {
        let definition = self.live.definition.memory_bytes();
        let effective = self
            .effective
            .as_ref()
            .map_or(0, |class| class.memory_bytes());
        OVERHEAD_BYTES + definition + effective
    }

    /// The rules for instances, for a write.
    pub fn effective(&self) -> Result<&Arc<EffectiveClass>, ServiceError> {
        self.effective.as_ref().map_err(Clone::clone)
    }
}

type Key = (DatabaseName, ClassId);

#[derive(Clone)]
struct ByBytes;

impl Weighter<Key, Arc<ClassContext>> for ByBytes {
    fn weight(&self, _: &Key, context: &Arc<ClassContext>) -> u64 {
        context.memory_bytes() as u64
    }
}

/// Cached contexts, bounded by the memory they take. One that is missing is rebuilt from its
/// streams, once, however many ask for it: each would compile the whole chain and hold it.
pub struct ClassContexts {
    kept: Cache<Key, Arc<ClassContext>, ByBytes>,
    /// Those that are being rebuilt.
    rebuilt: Mutex<HashMap<Key, Weak<Turn>>>,
}

/// Whoever holds it rebuilds a context; the others find it in the cache afterwards.
type Turn = tokio::sync::Mutex<()>;

impl ClassContexts {
    /// Caches at most so many bytes.
    pub fn new(bytes: u64) -> Self {
        // One shard: with several, each could use only its own share of the bytes, and the largest
        // context is half of all.
        let options = OptionsBuilder::new()
            .estimated_items_capacity(usize::try_from(bytes / USUAL_BYTES).unwrap_or(64).max(64))
            .weight_capacity(bytes)
            .shards(1)
            .build();
        let kept = match options {
            Ok(options) => Cache::with_options(
                options,
                ByBytes,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            ),
            // Not reachable: both capacities are given.
            Err(_) => Cache::with_weighter(64, bytes, ByBytes),
        };
        Self {
            kept,
            rebuilt: Mutex::default(),
        }
    }

    /// The turn of all who ask for this context now.
    fn turn(&self, key: &Key) -> Arc<Turn> {
        let mut rebuilt = self.rebuilt.lock();
        if let Some(turn) = rebuilt.get(key).and_then(Weak::upgrade) {
            return turn;
        }
        rebuilt.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        rebuilt.insert(key.clone(), Arc::downgrade(&turn));
        turn
    }

    /// Bytes of memory of the cached contexts.
    pub fn bytes(&self) -> u64 {
        self.kept.weight()
    }

    /// Lets go of those that nobody has used for so long.
    pub fn sweep(&self, idle_after: Duration) {
        self.kept
            .retain(|_, context| context.last_used.lock().elapsed() < idle_after);
        metrics::class_contexts(self.bytes());
    }
}

impl Service {
    /// The database, or 404.
    pub(super) async fn live_database(
        &self,
        name: &DatabaseName,
    ) -> Result<(LiveDatabase, Version), ServiceError> {
        let stream = StreamName::database(name);
        for catch_up in [false, true] {
            let seen = self.read(&self.parts.databases, &stream, catch_up).await?;
            if let Some(live) = seen.state.live() {
                return Ok((live.clone(), seen.version));
            }
        }
        Err(database::not_found().into())
    }

    /// The class with everything above it, or 404.
    pub(super) async fn class_context(
        &self,
        db: &DatabaseName,
        class: &ClassId,
    ) -> Result<Arc<ClassContext>, ServiceError> {
        let key = (db.clone(), class.clone());
        if let Some(kept) = self.current_context(&key) {
            return Ok(kept);
        }
        let turn = self.contexts.turn(&key);
        let _turn = turn.lock().await;
        if let Some(made_meanwhile) = self.current_context(&key) {
            return Ok(made_meanwhile);
        }
        let context = Arc::new(self.load_class_context(db, class).await?);
        // A store's failure is no property of the class and is not cached.
        if matches!(context.effective, Ok(_) | Err(ServiceError::Refused(_))) {
            self.contexts.kept.insert(key, context.clone());
            metrics::class_contexts(self.contexts.bytes());
        }
        Ok(context)
    }

    /// The cached context, if its streams are still as they were.
    fn current_context(&self, key: &Key) -> Option<Arc<ClassContext>> {
        let store = &self.parts.entities.writer;
        let kept = self.contexts.kept.get(key)?;
        let is_current = |(stream, version): &(_, _)| store.head(stream) == Some(*version);
        if !kept.made_of.iter().all(is_current) {
            return None;
        }
        *kept.last_used.lock() = Instant::now();
        Some(kept)
    }

    /// The same as [`Self::class_context`], after reading what other processes have done to the
    /// database, the class and its ancestors.
    pub(super) async fn class_context_now(
        &self,
        db: &DatabaseName,
        class: &ClassId,
    ) -> Result<Arc<ClassContext>, ServiceError> {
        let mut streams = vec![StreamName::database(db), StreamName::class(db, class)];
        let mut context = self.class_context(db, class).await;
        // Each round may show other ancestors; a class whose ancestors change all the time is as current
        // as any.
        for _ in 0..lineage::MAX_CHAIN {
            if let Ok(context) = &context {
                streams = context.made_of.iter().map(|(s, _)| s.clone()).collect();
            }
            self.catch_up_with(&streams).await?;
            context = self.class_context(db, class).await;
            match &context {
                Ok(now) if !now.made_of.iter().all(|(s, _)| streams.contains(s)) => {}
                _ => break,
            }
        }
        context
    }

    /// Where other processes write too, reads what they have done to the class and to what is above
    /// it; false where no other process has written for an hour, so that nothing was read.
    pub(super) async fn catch_up_on_class(
        &self,
        db: &DatabaseName,
        class: &ClassId,
    ) -> Result<bool, ServiceError> {
        if !self.parts.entities.writer.others_write() {
            return Ok(false);
        }
        match self.class_context_now(db, class).await {
            // What is refused, the command itself will be.
            Ok(_) | Err(ServiceError::Refused(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The same of a database alone.
    pub(super) async fn catch_up_on_database(
        &self,
        db: &DatabaseName,
    ) -> Result<bool, ServiceError> {
        if !self.parts.entities.writer.others_write() {
            return Ok(false);
        }
        self.catch_up_with(&[StreamName::database(db)]).await?;
        Ok(true)
    }

    /// Reads what other processes have committed to these streams.
    pub(super) async fn catch_up_with(&self, streams: &[StreamName]) -> Result<(), ServiceError> {
        let store = &self.parts.entities.writer;
        let mut partitions: Vec<_> = streams
            .iter()
            .map(|stream| store.log().partition_of(stream))
            .collect();
        partitions.sort_unstable();
        partitions.dedup();
        let all = partitions.into_iter().map(|p| store.catch_up_partition(p));
        within_bound(futures_util::future::try_join_all(all)).await?;
        Ok(())
    }

    async fn load_class_context(
        &self,
        db: &DatabaseName,
        class: &ClassId,
    ) -> Result<ClassContext, ServiceError> {
        let (database, database_version) = self.live_database(db).await?;
        let (live, version) = self
            .live_class(db, class, database.incarnation)
            .await?
            .ok_or_else(|| lineage::class_not_found(class))?;
        let mut made_of = vec![
            (StreamName::database(db), database_version),
            (StreamName::class(db, class), version),
        ];
        let ancestors = self
            .ancestors(db, database.incarnation, &live.definition, &mut made_of)
            .await;
        let effective = ancestors.and_then(|ancestors| {
            let mut chain: Vec<&ClassDefinition> = vec![&live.definition];
            chain.extend(ancestors.iter().map(|a| &**a));
            Ok(Arc::new(EffectiveClass::resolve(&chain)?))
        });
        Ok(ClassContext {
            version,
            incarnation: live.incarnation,
            live,
            effective,
            made_of,
            last_used: Mutex::new(Instant::now()),
        })
    }

    /// A class in this incarnation of its database.
    pub(super) async fn live_class(
        &self,
        db: &DatabaseName,
        class: &ClassId,
        database_incarnation: Version,
    ) -> Result<Option<(LiveClass, Version)>, ServiceError> {
        let stream = StreamName::class(db, class);
        for catch_up in [false, true] {
            let seen = self
                .read::<Class>(&self.parts.classes, &stream, catch_up)
                .await?;
            if let Some(live) = seen.state.live(database_incarnation) {
                return Ok(Some((live.clone(), seen.version)));
            }
        }
        Ok(None)
    }

    /// The definitions of a class's ancestors, parent first; each one's stream and version is added
    /// to `made_of`.
    pub(super) async fn ancestors(
        &self,
        db: &DatabaseName,
        database_incarnation: Version,
        definition: &ClassDefinition,
        made_of: &mut Vec<(StreamName, Version)>,
    ) -> Result<Vec<Arc<ClassDefinition>>, ServiceError> {
        let mut ancestors: Vec<Arc<ClassDefinition>> = Vec::new();
        loop {
            let child = ancestors.last().map_or(definition, |a| a);
            let Some(parent) = child.parent_class.clone() else {
                return Ok(ancestors);
            };
            let seen_before = parent == definition.id || ancestors.iter().any(|a| a.id == parent);
            if seen_before {
                let mut names = vec![&definition.id];
                names.extend(ancestors.iter().map(|a| &a.id));
                names.push(&parent);
                return Err(lineage::cycle(&names).into());
            }
            if ancestors.len() + 1 >= lineage::MAX_CHAIN {
                return Err(lineage::too_long(&definition.id).into());
            }
            let stream = StreamName::class(db, &parent);
            // Read before the ancestor: if that comes back meanwhile, the result is not cached as
            // current.
            let head = self.parts.entities.writer.head(&stream);
            let Some((live, version)) = self.live_class(db, &parent, database_incarnation).await?
            else {
                made_of.push((stream, head.unwrap_or(Version::NONE)));
                return Err(lineage::parent_not_found(&child.id, &parent).into());
            };
            made_of.push((stream, version));
            ancestors.push(live.definition);
        }
    }
}
