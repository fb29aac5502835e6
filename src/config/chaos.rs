//! Breaking things on purpose.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChaosConfig {
    /// Whether `POST /api/v1/admin/actors/kill` may kill actors. Off: an admin token alone must
    /// not be able to.
    pub enabled: bool,
}
