//! The migration's initial mode.

use serde::{Deserialize, Serialize};

use super::problems::Problems;
use crate::migration::stage::Mode;

/// See the module.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MigrationConfig {
    /// The mode of a store that has none recorded; a recorded mode wins. Without it `s3_only`.
    pub mode: Option<Mode>,
}

impl MigrationConfig {
    /// The mode to begin with.
    pub fn initial_mode(&self) -> Mode {
        self.mode.unwrap_or(Mode::S3Only)
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        let mode = self.initial_mode();
        if mode != Mode::S3Only {
            let message = format!(
                "`{}` is not built yet: this version serves only `s3_only`",
                mode.as_str()
            );
            problems.add("migration.mode", message);
        }
    }
}
