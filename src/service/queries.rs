//! Reads: current and past states, streams, and the feed.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, timeout};

use super::error::{RETRY_AFTER, ServiceError};
use super::feed::{FeedBounds, FeedCursor, FeedPage, callers_cursor, read_page};
use super::view::{EventView, Page, Resource};
use super::{Service, within_bound};
use crate::actors::aggregate::fold::fold;
use crate::actors::event_store::HeldEvents;
use crate::domain::ids::{
    ClassId, CommandId, DatabaseName, InstanceId, Offset, Position, StreamName, Version,
};
use crate::domain::instance::Instance;
use crate::domain::refusal::Refusal;
use crate::metrics;
use crate::store::log::log_reader::StoredEvent;
use crate::store::ports::read_model::{InstanceQuery, ListQuery};

/// Bytes of events on one page at most; a larger event is returned alone.
const MAX_PAGE_BYTES: usize = 8 << 20;

/// Where a read of current state is answered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// The aggregate, after reading what other processes have written: sees every write
    /// acknowledged anywhere before the read.
    Strong,
    /// The aggregate as this process knows it: sees every write acknowledged by this process, and
    /// those of others within `log.tail_interval`.
    Aggregate,
    /// The read model: lags behind by [`Answer::lag_commits`].
    ReadModel,
}

/// Which way to read a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the first event on.
    Forward,
    /// From the last event back.
    Backward,
}

/// A point in the history of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointInTime {
    /// Right after this version.
    Version(Version),
    /// As it was known at this time.
    Time(Timestamp),
}

/// A result and its source.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    pub value: T,
    /// `aggregate`, `read_model` or `log`; sent as `X-Read-Source`.
    pub source: &'static str,
    /// Commits that the read model lacks; sent as `X-Read-Lag` where it applies.
    pub lag_commits: Option<u64>,
}

/// The outcome of a command.
#[derive(Debug, Clone)]
pub struct CommandStatus {
    pub command_id: CommandId,
    /// Version of the stream after it.
    pub version: Version,
    /// Position of its first event.
    pub position: Position,
    /// When it was recorded.
    pub at: Timestamp,
    /// Number of its events.
    pub events: u32,
}

impl Service {
    pub async fn database(&self, name: &DatabaseName) -> Result<Answer<Resource>, ServiceError> {
        self.catch_up_with(&[StreamName::database(name)]).await?;
        let (database, version) = self.live_database(name).await?;
        Ok(from_aggregate(Resource::database(
            name, &database, version,
        )?))
    }

    pub async fn databases(
        &self,
        page: &ListQuery,
    ) -> Result<Answer<Page<Resource>>, ServiceError> {
        metrics::read("database", "list");
        let page = self.parts.read_model.databases(page).await?;
        Ok(self.answer_of_read_model(page.into()))
    }

    pub async fn class(
        &self,
        db: &DatabaseName,
        class: &ClassId,
    ) -> Result<Answer<Resource>, ServiceError> {
        let context = self.class_context_now(db, class).await?;
        Ok(from_aggregate(Resource::class(
            class,
            &context.live,
            context.version,
        )?))
    }

    /// Classes of a database by id.
    pub async fn classes(
        &self,
        db: &DatabaseName,
        page: &ListQuery,
    ) -> Result<Answer<Page<Resource>>, ServiceError> {
        self.live_database(db).await?;
        metrics::read("class", "list");
        let page = self.parts.read_model.classes(db, page).await?;
        Ok(self.answer_of_read_model(page.into()))
    }

    /// The current state of an instance.
    pub async fn instance(
        &self,
        db: &DatabaseName,
        class: &ClassId,
        id: &InstanceId,
        consistency: Consistency,
    ) -> Result<Answer<Resource>, ServiceError> {
        let strong = consistency == Consistency::Strong;
        let context = if strong {
            self.class_context_now(db, class).await?
        } else {
            self.class_context(db, class).await?
        };
        if consistency == Consistency::ReadModel {
            metrics::read("instance", "get");
            let found = self.parts.read_model.instance(db, class, id).await?;
            return found
                .map(|record| self.answer_of_read_model(record.into()))
                .ok_or_else(|| no_instance(id).into());
        }
        let stream = StreamName::instance(db, class, id);
        let seen = self.read(&self.parts.instances, &stream, strong).await?;
        let live = seen
            .state
            .live(context.incarnation)
            .ok_or_else(|| no_instance(id))?;
        Ok(from_aggregate(Resource::instance(id, live, seen.version)?))
    }

    /// A past state of an instance.
    pub async fn instance_at(
        &self,
        db: &DatabaseName,
        class: &ClassId,
        id: &InstanceId,
        when: PointInTime,
    ) -> Result<Answer<Resource>, ServiceError> {
        let context = self.class_context_now(db, class).await?;
        let stream = StreamName::instance(db, class, id);
        // Versions known here never change; beyond them other processes may have written.
        let known = match when {
            PointInTime::Version(version) => version,
            PointInTime::Time(_) => Version(u64::MAX),
        };
        let head = self.head_beyond(&stream, known).await?;
        let version = match when {
            PointInTime::Version(version) if version <= head => version,
            PointInTime::Version(version) => {
                let message = format!("{id} has no version {version}; its last is {head}");
                return Err(Refusal::not_found("version_not_found", message).into());
            }
            PointInTime::Time(time) => self.version_at(&stream, head, time).await?,
        };
        let every = self.parts.entities.snapshot_every;
        let store = &self.parts.entities.writer;
        let folded = fold::<Instance>(store, &stream, version, every).await?;
        metrics::read("instance", "point_in_time");
        let live = folded
            .state
            .live(context.incarnation)
            .ok_or_else(|| no_instance(id))?;
        Ok(Answer {
            value: Resource::instance(id, live, folded.version)?,
            source: "log",
            lag_commits: None,
        })
    }

    /// The last version recorded at or before `time`, by binary search: times do not decrease along
    /// a stream as long as the writers' clocks agree.
    async fn version_at(
        &self,
        stream: &StreamName,
        head: Version,
        time: Timestamp,
    ) -> Result<Version, ServiceError> {
        let (mut before, mut after) = (0, head.0 + 1);
        while after - before > 1 {
            let middle = Version(before + (after - before) / 2);
            let events = self
                .parts
                .entities
                .writer
                .read(stream, middle, middle)
                .await?;
            let recorded = events.first().map(StoredEvent::recorded_at).transpose()?;
            if recorded.is_some_and(|at| at <= time) {
                before = middle.0;
            } else {
                after = middle.0;
            }
        }
        Ok(Version(before))
    }

    /// Instances of a class that match a query (an empty one matches all).
    pub async fn instances(
        &self,
        db: &DatabaseName,
        class: &ClassId,
        query: &InstanceQuery,
    ) -> Result<Answer<Page<Resource>>, ServiceError> {
        self.class_context(db, class).await?;
        metrics::read("instance", "query");
        let query = query.bind(db, class)?;
        let page = self.parts.read_model.instances(&query).await?;
        Ok(self.answer_of_read_model(page.into()))
    }

    /// Events of any stream from a version on. 404 `stream_not_found` if the stream has none.
    pub async fn stream(
        &self,
        stream: &StreamName,
        from: Option<Version>,
        limit: usize,
        direction: Direction,
    ) -> Result<Answer<Page<EventView>>, ServiceError> {
        let count = limit.max(1) as u64;
        let last = match direction {
            Direction::Forward => from.unwrap_or(Version(1)).0.max(1).saturating_add(count),
            Direction::Backward => u64::MAX,
        };
        let head = self.head_beyond(stream, Version(last)).await?;
        if head == Version::NONE {
            let message = format!("{stream} has no events");
            return Err(Refusal::not_found("stream_not_found", message).into());
        }
        let (first, last) = match direction {
            Direction::Forward => {
                let first = from.unwrap_or(Version(1)).0.max(1);
                (first, head.0.min(first.saturating_add(count - 1)))
            }
            Direction::Backward => {
                let last = from.unwrap_or(head).0.min(head.0);
                (last.saturating_sub(count - 1).max(1), last)
            }
        };
        let begun = Instant::now();
        let store = &self.parts.entities.writer;
        let backward = direction == Direction::Backward;
        let range = (Version(first), Version(last));
        let HeldEvents { events, place } = store
            .read_within(stream, range, backward, MAX_PAGE_BYTES)
            .await?;
        metrics::read_took(stream.stream_type(), "stream", begun.elapsed());
        let next = if backward {
            let first = events.first().map(|e| e.version.0);
            first.filter(|v| *v > 1).map(|v| v - 1)
        } else {
            let last = events.last().map(|e| e.version.0);
            last.filter(|v| *v < head.0).map(|v| v + 1)
        };
        let mut items: Vec<EventView> = events.into_iter().map(EventView::from).collect();
        if backward {
            items.reverse();
        }
        Ok(Answer {
            value: Page {
                items,
                total: Some(head.0),
                next_cursor: next.map(|v| v.to_string()),
                place,
            },
            source: "log",
            lag_commits: None,
        })
    }

    /// A stream's version, read anew unless the known one is at least `wanted`.
    async fn head_beyond(
        &self,
        stream: &StreamName,
        wanted: Version,
    ) -> Result<Version, ServiceError> {
        let store = &self.parts.entities.writer;
        match store.head(stream) {
            Some(head) if head >= wanted => Ok(head),
            _ => {
                within_bound(store.catch_up(stream)).await?;
                Ok(store.head(stream).unwrap_or(Version::NONE))
            }
        }
    }

    /// The feed: events after a cursor (from the beginning without one), of the given event types
    /// (all if empty). `next_cursor` is always set: using it later returns what was committed
    /// since. The result says whether there is more to read.
    pub async fn feed(
        &self,
        after: Option<&str>,
        bounds: FeedBounds,
        types: &[String],
    ) -> Result<FeedPage, ServiceError> {
        let store = &self.parts.entities.writer;
        let cursor = callers_cursor(store, after).await?;
        let begun = Instant::now();
        let page = read_page(store, cursor, bounds, types).await?;
        metrics::read_took("all", "feed", begun.elapsed());
        Ok(page)
    }

    /// The cursor right after this event, for the `id:` of a server-sent event; `cursor` is the one
    /// the page was read with.
    pub fn cursor_after(
        &self,
        before: Option<&str>,
        event: Position,
    ) -> Result<String, ServiceError> {
        let mut cursor = self.parse_feed_cursor(before)?;
        cursor.pass(event);
        cursor.text()
    }

    /// The cursor so many commits before the end of each partition, as far as this process knows
    /// it.
    pub fn feed_cursor_before_end(&self, commits: u64) -> Result<String, ServiceError> {
        let store = &self.parts.entities.writer;
        let log = store.log();
        FeedCursor::before_end(store.heads(), log.partitions(), commits, log.id()).text()
    }

    /// Checks that the feed of this log has issued this cursor; 400 `invalid_cursor` or
    /// `cursor_of_another_log`.
    pub async fn check_feed_cursor(&self, cursor: Option<&str>) -> Result<(), ServiceError> {
        callers_cursor(&self.parts.entities.writer, cursor).await?;
        Ok(())
    }

    fn parse_feed_cursor(&self, text: Option<&str>) -> Result<FeedCursor, ServiceError> {
        let log = self.parts.entities.writer.log();
        Ok(FeedCursor::parse(text, log.partitions(), log.id())?)
    }

    /// Returns when something was committed after this cursor, or after `wait`.
    pub async fn wait_for_feed(
        &self,
        after: Option<&str>,
        wait: Duration,
    ) -> Result<(), ServiceError> {
        let store = &self.parts.entities.writer;
        let cursor = self.parse_feed_cursor(after)?;
        let mut changes = store.heads().subscribe();
        let more = async {
            while !cursor.is_behind(store.heads()) {
                if changes.changed().await.is_err() {
                    break;
                }
            }
        };
        // A timeout only means that nothing was committed.
        let _ = timeout(wait, more).await;
        Ok(())
    }

    /// The outcome of a command; 404 `command_not_found` if it is not known.
    pub async fn command(&self, id: CommandId) -> Result<CommandStatus, ServiceError> {
        let store = &self.parts.entities.writer;
        let mut found = store.command(id);
        if found.is_none() {
            // Another process may have committed it.
            within_bound(store.catch_up_all()).await?;
            found = store.command(id);
        }
        let Some((partition, outcome)) = found else {
            let message = format!(
                "command {id} is not among the recent ones: it was refused, never arrived, or is old"
            );
            return Err(Refusal::not_found("command_not_found", message).into());
        };
        Ok(CommandStatus {
            command_id: id,
            version: outcome.version,
            position: Position {
                partition,
                offset: outcome.offset,
                index: outcome.index,
            },
            at: Timestamp::from_millisecond(outcome.at_ms)
                .map_err(|e| ServiceError::Internal(e.to_string()))?,
            events: outcome.events,
        })
    }

    /// The number of partitions, to check the positions that callers name.
    pub fn partitions(&self) -> u16 {
        self.parts.entities.writer.log().partitions()
    }

    /// The first of these positions that the log does not have, and the offset at which its partition
    /// ends. The partition is read to its end first: another process may have written the position.
    pub async fn first_beyond_log(
        &self,
        positions: &[Position],
    ) -> Result<Option<(Position, Offset)>, ServiceError> {
        let store = &self.parts.entities.writer;
        for position in positions {
            let end = || store.heads().next_offset(position.partition);
            if position.offset < end() {
                continue;
            }
            within_bound(store.catch_up_partition(position.partition)).await?;
            if position.offset >= end() {
                return Ok(Some((*position, end())));
            }
        }
        Ok(None)
    }

    /// Waits, within a bound, until the read model has applied these positions; 503 otherwise.
    pub async fn wait_for_positions(
        &self,
        positions: &[Position],
        wait: Duration,
    ) -> Result<(), ServiceError> {
        let deadline = Instant::now() + wait;
        for position in positions {
            if !self.parts.projected.wait_for(*position, deadline).await {
                return Err(ServiceError::Unavailable {
                    dependency: "read_model",
                    message: format!("the read model has not reached {position} yet"),
                    retry_after: RETRY_AFTER,
                });
            }
        }
        Ok(())
    }

    /// Commits that the read model lacks.
    pub(super) fn lag_commits(&self) -> u64 {
        let store = &self.parts.entities.writer;
        let partitions = store.log().partitions();
        self.parts.projected.lag_commits(store.heads(), partitions)
    }

    fn answer_of_read_model<T>(&self, value: T) -> Answer<T> {
        Answer {
            value,
            source: "read_model",
            lag_commits: Some(self.lag_commits()),
        }
    }
}

fn no_instance(id: &InstanceId) -> Refusal {
    Refusal::not_found("instance_not_found", format!("there is no instance `{id}`"))
}

fn from_aggregate<T>(value: T) -> Answer<T> {
    Answer {
        value,
        source: "aggregate",
        lag_commits: None,
    }
}
