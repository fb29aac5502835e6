//! `oms serve`.

use std::process::ExitCode;

use super::flags::{ConfigFlags, ServeFlags};

/// Run the service
///
/// With no configuration it runs on the embedded stack: its own S3 endpoint, a private PostgreSQL
/// and an in-process Kafka broker, with their data in the data directory. Where they can be
/// reached is printed and written to `endpoints.json` there.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  oms serve
  oms serve --data-dir /var/lib/oms --port 8080 --config /etc/oms.toml
  MINIO_ENDPOINT_URL=http://minio:9000 POSTGRES_URL=postgres://… oms serve --roles api,relay")]
pub struct Serve {
    #[command(flatten)]
    config: ConfigFlags,
    #[command(flatten)]
    flags: ServeFlags,
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let flaw = crate::flaws::chosen().map_err(anyhow::Error::msg)?;
        let config = self.config.load(self.flags.settings())?;
        crate::telemetry::init(&config.telemetry)?;
        if let Some(flaw) = flaw {
            tracing::warn!(
                flaw = flaw.name(),
                law = flaw.law(),
                "breaks a law, as was asked for"
            );
        }
        crate::boot::serve(config)
    }
}
