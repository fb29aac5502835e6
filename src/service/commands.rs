//! Writes.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Service;
use super::context::{ExpectedVersion, RequestContext};
use super::error::ServiceError;
use super::view::{BatchItem, Written};
use crate::domain::class::ClassDefinition;
use crate::domain::event::NewEvent;
use crate::domain::ids::{ClassId, DatabaseName, InstanceId, StreamName};

/// What to create as an instance.
#[derive(Debug, Clone)]
pub struct NewInstance {
    /// Its id; made from the command id when the caller gives none.
    pub id: Option<InstanceId>,
    /// Its properties.
    pub data: Map<String, Value>,
    /// A caller's remarks, recorded with the event: the text of a JSON object.
    pub metadata: Option<Box<RawValue>>,
}

/// One operation of a batch on the instances of a class.
#[derive(Debug, Clone)]
pub enum BatchOperation {
    /// Create.
    Create(NewInstance),
    /// Merge-patch (RFC 7396).
    Update {
        /// Which.
        id: InstanceId,
        /// The patch.
        patch: Map<String, Value>,
        /// On which version.
        expected: ExpectedVersion,
    },
    /// Delete.
    Delete {
        /// Which.
        id: InstanceId,
        /// On which version.
        expected: ExpectedVersion,
    },
}

impl Service {
    /// Creates a database.
    pub async fn create_database(
        &self,
        ctx: &RequestContext,
        name: DatabaseName,
        description: Option<String>,
    ) -> Result<Written, ServiceError> {
        todo!()
    }

    /// Deletes a database and, with it, everything in it.
    pub async fn delete_database(
        &self,
        ctx: &RequestContext,
        name: DatabaseName,
        expected: ExpectedVersion,
    ) -> Result<Written, ServiceError> {
        todo!()
    }

    /// Creates a class.
    pub async fn create_class(
        &self,
        ctx: &RequestContext,
        db: DatabaseName,
        definition: ClassDefinition,
    ) -> Result<Written, ServiceError> {
        todo!()
    }

    /// Replaces a class's definition; `definition.id` names the class.
    pub async fn replace_class(
        &self,
        ctx: &RequestContext,
        db: DatabaseName,
        definition: ClassDefinition,
        expected: ExpectedVersion,
    ) -> Result<Written, ServiceError> {
        todo!()
    }

    /// Deletes a class and, with it, its instances.
    pub async fn delete_class(
        &self,
        ctx: &RequestContext,
        db: DatabaseName,
        class: ClassId,
        expected: ExpectedVersion,
    ) -> Result<Written, ServiceError> {
        todo!()
    }

    /// Creates an instance.
    pub async fn create_instance(
        &self,
        ctx: &RequestContext,
        db: DatabaseName,
        class: ClassId,
        new: NewInstance,
    ) -> Result<Written, ServiceError> {
        todo!()
    }

    /// Merge-patches an instance (RFC 7396).
    pub async fn patch_instance(
        &self,
        ctx: &RequestContext,
        db: DatabaseName,
        class: ClassId,
        id: InstanceId,
        patch: Map<String, Value>,
        expected: ExpectedVersion,
    ) -> Result<Written, ServiceError> {
        todo!()
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
        todo!()
    }

    /// Runs up to 1,000 operations on a class's instances, each on its own: one result for each,
    /// in order.
    pub async fn batch(
        &self,
        ctx: &RequestContext,
        db: DatabaseName,
        class: ClassId,
        operations: Vec<BatchOperation>,
    ) -> Result<Vec<BatchItem>, ServiceError> {
        todo!()
    }

    /// Appends events to a plain stream, all or none.
    pub async fn append_events(
        &self,
        ctx: &RequestContext,
        stream: StreamName,
        events: Vec<NewEvent>,
        expected: ExpectedVersion,
    ) -> Result<Written, ServiceError> {
        todo!()
    }
}
