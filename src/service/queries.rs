//! Reads.

use std::time::Duration;

use jiff::Timestamp;

use super::Service;
use super::error::ServiceError;
use super::view::{EventView, Page, Resource};
use crate::domain::ids::{
    ClassId, CommandId, DatabaseName, InstanceId, Position, StreamName, Version,
};
use crate::store::read_model::InstanceQuery;

/// Where a read of current state is answered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// The aggregate itself: sees every acknowledged write of any process.
    Strong,
    /// The read model: may lag behind by [`Answer::lag_commits`].
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

/// An instant in the life of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointInTime {
    /// Right after this version.
    Version(Version),
    /// As it was known at this time.
    Time(Timestamp),
}

/// A result with where it came from.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    /// The result.
    pub value: T,
    /// `aggregate`, `read_model` or `log`; sent as `X-Read-Source`.
    pub source: &'static str,
    /// Commits the read model has not taken in yet; sent as `X-Read-Lag` where it applies.
    pub lag_commits: Option<u64>,
}

/// What became of a command.
#[derive(Debug, Clone)]
pub struct CommandStatus {
    /// The command.
    pub command_id: CommandId,
    /// Version of the stream after it.
    pub version: Version,
    /// Where its first event lies.
    pub position: Position,
    /// When it was recorded.
    pub at: Timestamp,
    /// Number of its events.
    pub events: u32,
}

impl Service {
    /// One database.
    pub async fn database(&self, name: &DatabaseName) -> Result<Answer<Resource>, ServiceError> {
        todo!()
    }

    /// Databases by name.
    pub async fn databases(
        &self,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Answer<Page<Resource>>, ServiceError> {
        todo!()
    }

    /// One class.
    pub async fn class(
        &self,
        db: &DatabaseName,
        class: &ClassId,
    ) -> Result<Answer<Resource>, ServiceError> {
        todo!()
    }

    /// Classes of a database by id.
    pub async fn classes(
        &self,
        db: &DatabaseName,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Answer<Page<Resource>>, ServiceError> {
        todo!()
    }

    /// One instance as it stands.
    pub async fn instance(
        &self,
        db: &DatabaseName,
        class: &ClassId,
        id: &InstanceId,
        consistency: Consistency,
    ) -> Result<Answer<Resource>, ServiceError> {
        todo!()
    }

    /// One instance as it was.
    pub async fn instance_at(
        &self,
        db: &DatabaseName,
        class: &ClassId,
        id: &InstanceId,
        when: PointInTime,
    ) -> Result<Answer<Resource>, ServiceError> {
        todo!()
    }

    /// Instances of a class that match a query (an empty one lists them all).
    pub async fn instances(
        &self,
        db: &DatabaseName,
        class: &ClassId,
        query: &InstanceQuery,
    ) -> Result<Answer<Page<Resource>>, ServiceError> {
        todo!()
    }

    /// How many instances of a class match a query.
    pub async fn count_instances(
        &self,
        db: &DatabaseName,
        class: &ClassId,
        query: &InstanceQuery,
    ) -> Result<Answer<u64>, ServiceError> {
        todo!()
    }

    /// A stream's events from a version on, whichever kind of stream it is. A stream without
    /// events is refused with 404 `stream_not_found`.
    pub async fn stream(
        &self,
        stream: &StreamName,
        from: Option<Version>,
        limit: usize,
        direction: Direction,
    ) -> Result<Answer<Page<EventView>>, ServiceError> {
        todo!()
    }

    /// The feed of everything: events after a cursor (from the beginning without one), of the
    /// given event types (of all when empty). `next_cursor` is always there: asking with it later
    /// gives what was committed since.
    pub async fn feed(
        &self,
        after: Option<&str>,
        limit: usize,
        types: &[String],
    ) -> Result<Page<EventView>, ServiceError> {
        todo!()
    }

    /// The cursor that stands right after this event, for the `id:` of a server-sent event; given
    /// the cursor that was asked with.
    pub fn cursor_after(
        &self,
        before: Option<&str>,
        event: Position,
    ) -> Result<String, ServiceError> {
        todo!()
    }

    /// Returns when something was committed after this feed cursor, or after `wait`.
    pub async fn wait_for_feed(
        &self,
        after: Option<&str>,
        wait: Duration,
    ) -> Result<(), ServiceError> {
        todo!()
    }

    /// What became of a command; 404 `command_not_found` when it is not known.
    pub async fn command(&self, id: CommandId) -> Result<CommandStatus, ServiceError> {
        todo!()
    }

    /// Waits (bounded) until the read model has taken in this position; `Overloaded`-like 503
    /// `Unavailable` when it has not within the bound.
    pub async fn wait_for_position(
        &self,
        position: Position,
        wait: Duration,
    ) -> Result<(), ServiceError> {
        todo!()
    }
}
