//! A class that has children cannot be deleted: 409 `class_has_children`.
//!
//! Only the read model can list children, so that a deletion first waits until that has applied
//! everything committed before, and is refused (503, nothing was done) if it does not in time. In
//! this process no class gets a parent meanwhile ([`Lineages`]). Another process may give one to a
//! class in between: then the parent is deleted, the child and its instances are read as before,
//! and writes that need the parent are refused with 422 `parent_class_not_found` until there is one
//! again.

use std::hash::BuildHasher;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::Instant;

use super::Service;
use super::context::RequestContext;
use super::error::{RETRY_AFTER, ServiceError};
use crate::domain::class::ClassCommand;
use crate::domain::ids::{ClassId, DatabaseName, Position};
use crate::domain::refusal::Refusal;
use crate::store::ports::read_model::ListQuery;

/// Databases share a lock by chance, which does not matter because class definitions are rare.
const STRIPES: usize = 64;

/// Longest wait for the read model.
const PATIENCE: Duration = Duration::from_secs(5);

/// Children listed in a refusal.
const NAMED: usize = 5;

/// Serialises definitions that may name a parent with deletions, within this process.
pub(super) struct Lineages {
    stripes: Vec<RwLock<()>>,
    hasher: std::hash::RandomState,
}

impl Default for Lineages {
    fn default() -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| RwLock::new(())).collect(),
            hasher: Default::default(),
        }
    }
}

impl Lineages {
    fn stripe(&self, db: &DatabaseName) -> &RwLock<()> {
        let hash = self.hasher.hash_one(db.as_str());
        &self.stripes[hash as usize % STRIPES]
    }

    /// Held while a class is defined, until that is committed.
    pub async fn extend(&self, db: &DatabaseName) -> RwLockReadGuard<'_, ()> {
        self.stripe(db).read().await
    }

    /// Held while a class is deleted, from the check for children on.
    pub async fn cut(&self, db: &DatabaseName) -> RwLockWriteGuard<'_, ()> {
        self.stripe(db).write().await
    }
}

#[derive(Deserialize)]
struct Parent {
    parent_class: Option<ClassId>,
}

impl Service {
    pub(super) async fn deletion_command(
        &self,
        ctx: &RequestContext,
        db: &DatabaseName,
        class: &ClassId,
    ) -> Result<ClassCommand, ServiceError> {
        let (database, _) = self.live_database(db).await?;
        // If the class does not exist the aggregate itself refuses.
        if self
            .live_class(db, class, database.incarnation)
            .await?
            .is_some()
        {
            self.read_model_up_to_now(ctx.deadline).await?;
            self.refuse_with_children(db, class).await?;
        }
        Ok(ClassCommand::Delete {
            database_incarnation: database.incarnation,
        })
    }

    /// Waits until the read model has applied everything committed before this call.
    async fn read_model_up_to_now(&self, deadline: Instant) -> Result<(), ServiceError> {
        let deadline = deadline.min(Instant::now() + PATIENCE);
        let store = &self.parts.entities.writer;
        super::within_bound(store.catch_up_all()).await?;
        for partition in store.log().partition_ids() {
            let Some(offset) = store.heads().next_offset(partition).checked_sub(1) else {
                continue;
            };
            let position = Position {
                partition,
                offset,
                index: 0,
            };
            if !self.parts.projected.wait_for(position, deadline).await {
                return Err(ServiceError::Unavailable {
                    dependency: "read_model",
                    message: "whether the class has children is not known yet; nothing was done"
                        .into(),
                    retry_after: RETRY_AFTER,
                });
            }
        }
        Ok(())
    }

    async fn refuse_with_children(
        &self,
        db: &DatabaseName,
        class: &ClassId,
    ) -> Result<(), ServiceError> {
        let mut children = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let page = ListQuery::classes(db, None, cursor.as_deref())?;
            let page = self.parts.read_model.classes(db, &page).await?;
            for record in &page.items {
                let definition: Parent = serde_json::from_str(record.data.get())
                    .map_err(|e| ServiceError::Internal(format!("class {}: {e}", record.id)))?;
                if definition.parent_class.as_ref() == Some(class) && record.id != class.as_str() {
                    children.push(record.id.clone());
                }
            }
            cursor = page.next_cursor;
            if cursor.is_none() || children.len() > NAMED {
                break;
            }
        }
        if children.is_empty() {
            return Ok(());
        }
        let more = if children.len() > NAMED { ", …" } else { "" };
        children.truncate(NAMED);
        let message = format!(
            "`{class}` is the parent of {}{more}; delete them first, or give them another parent",
            children.join(", ")
        );
        Err(Refusal::conflict("class_has_children", message).into())
    }
}
