//! Logs.

use serde::{Deserialize, Serialize};

use super::problems::Problems;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,oms_store=debug`.
    pub log_level: String,
    /// Without it text on a terminal and JSON otherwise.
    pub log_format: Option<LogFormat>,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            log_level: "info".into(),
            log_format: None,
        }
    }
}

impl TelemetryConfig {
    pub(super) fn check(&self, problems: &mut Problems) {
        if let Err(e) = tracing_subscriber::EnvFilter::try_new(&self.log_level) {
            problems.add("telemetry.log_level", e.to_string());
        }
    }
}
