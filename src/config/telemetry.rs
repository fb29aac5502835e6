//! Logs and traces.

use serde::{Deserialize, Serialize};
use url::Url;

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
    /// Where traces are sent: a collector that takes OTLP over HTTP, such as `http://127.0.0.1:4318`;
    /// `/v1/traces` is added. Without it there are none.
    pub otlp_endpoint: Option<String>,
    /// Of the requests that come without a `traceparent`, the share that is traced, from 0 to 1; whoever
    /// sends one has decided it.
    pub traces_ratio: f64,
    /// What this service is called in traces (`service.name`).
    pub service_name: String,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            log_level: "info".into(),
            log_format: None,
            otlp_endpoint: None,
            // Of a service that is tried out one wants to see every request; one under load has its
            // ratio chosen.
            traces_ratio: 1.0,
            service_name: "oms".into(),
        }
    }
}

impl TelemetryConfig {
    pub(super) fn check(&self, problems: &mut Problems) {
        if let Err(e) = tracing_subscriber::EnvFilter::try_new(&self.log_level) {
            problems.add("telemetry.log_level", e.to_string());
        }
        if let Some(Err(why)) = self.traces_url() {
            problems.add("telemetry.otlp_endpoint", why);
        }
        problems.require(
            (0.0..=1.0).contains(&self.traces_ratio),
            "telemetry.traces_ratio",
            "must be from 0 to 1",
        );
        problems.require(
            !self.service_name.trim().is_empty(),
            "telemetry.service_name",
            "must not be empty",
        );
    }

    /// The address that traces are posted to, where one is configured.
    pub fn traces_url(&self) -> Option<Result<Url, String>> {
        let endpoint = self.otlp_endpoint.as_deref()?;
        Some(traces_url(endpoint))
    }
}

/// Path of traces below an OTLP endpoint.
const TRACES: &str = "/v1/traces";

fn traces_url(endpoint: &str) -> Result<Url, String> {
    let mut url = Url::parse(endpoint).map_err(|e| e.to_string())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("must be an http:// or https:// address".into());
    }
    // It is shown by `config print` as it is.
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a password".into());
    }
    let path = url.path().trim_end_matches('/');
    if !path.ends_with(TRACES) {
        let path = format!("{path}{TRACES}");
        url.set_path(&path);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_go_below_the_endpoint() {
        let url = |text: &str| traces_url(text).map(String::from);
        let at = "http://127.0.0.1:4318/v1/traces";
        for same in ["http://127.0.0.1:4318", "http://127.0.0.1:4318/", at] {
            assert_eq!(url(same).unwrap(), at);
        }
        let below = url("https://otel.example/oms/").unwrap();
        assert_eq!(below, "https://otel.example/oms/v1/traces");
        for bad in [
            "127.0.0.1:4318",
            "grpc://a:4317",
            "http://me:pass@a:4318",
            "",
        ] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }
}
