//! A change to an instance, before it is a command.

use super::class_context::ClassContext;
use super::error::ServiceError;
use crate::domain::document::Document;
use crate::domain::instance::InstanceCommand;

/// Cheap to clone.
#[derive(Clone)]
pub(super) enum Change {
    Create(Document),
    Update(Document),
    Delete,
}

impl Change {
    pub fn bytes(&self) -> usize {
        match self {
            Self::Create(data) | Self::Update(data) => data.bytes(),
            Self::Delete => 0,
        }
    }

    /// The command for the class as it is now; fails if the class has lost its parent.
    pub fn command(self, context: &ClassContext) -> Result<InstanceCommand, ServiceError> {
        let class_incarnation = context.incarnation;
        let class = || context.effective().cloned();
        Ok(match self {
            Self::Create(data) => InstanceCommand::Create {
                class: class()?,
                class_incarnation,
                data,
            },
            Self::Update(patch) => InstanceCommand::Update {
                class: class()?,
                class_incarnation,
                patch,
            },
            Self::Delete => InstanceCommand::Delete { class_incarnation },
        })
    }
}
