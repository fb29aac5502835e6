//! What is to happen to an instance.

use super::class_context::ClassContext;
use crate::domain::document::Document;
use crate::domain::instance::InstanceCommand;

/// See the module.
pub(super) enum Change {
    Create(Document),
    Update(Document),
    Delete,
}

impl Change {
    /// Bytes of what was given.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Create(data) | Self::Update(data) => data.bytes(),
            Self::Delete => 0,
        }
    }

    /// As a command for the class as it stands.
    pub fn command(self, context: &ClassContext) -> InstanceCommand {
        let class_incarnation = context.incarnation;
        let class = context.effective.clone();
        match self {
            Self::Create(data) => InstanceCommand::Create {
                class,
                class_incarnation,
                data,
            },
            Self::Update(patch) => InstanceCommand::Update {
                class,
                class_incarnation,
                patch,
            },
            Self::Delete => InstanceCommand::Delete { class_incarnation },
        }
    }
}
