//! `oms doctor`: checks an installation with all that it needs, and says what to do.
//!
//! Every file probes and judges one area; judging is pure and separate, so that it is tested
//! without servers. Probes end in time, run beside one another, and change nothing of the log: what
//! they write is small, is under a name of their own, and is removed or rolled back.
//!
//! * [`check`]: what a check finds; [`render`]: the list for people
//! * [`targets`]: where the dependencies are
//! * [`configuration`], [`s3`], [`postgres`], [`kafka`], [`machine`], [`service`], [`prometheus`]:
//!   the areas; [`clocks`]: clocks that differ

mod check;
mod clocks;
mod configuration;
mod kafka;
mod machine;
mod postgres;
mod prometheus;
mod render;
mod s3;
mod service;
mod targets;

use futures_util::join;

use self::check::{Area, Check, Finding, Report};
use self::targets::Targets;
use super::exit::Exit;
use super::flags::{ConfigFlags, ServeFlags};
use super::output::Output;
use super::remote::Address;
use crate::config::Config;
use crate::config::endpoints::Endpoints;

/// Check an installation with all that it needs, and say what to do
///
/// Reads the configuration as `oms serve` does and looks at S3, PostgreSQL, Kafka, this machine, a
/// running service and, if it is named, Prometheus. It may be run at any time, beside a running
/// service and against production: it changes nothing of the log, and removes the few small things
/// that it writes (objects under probe/, of which a bucket with versions keeps the old ones; in
/// PostgreSQL a transaction that is rolled back).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each line has a mark: ✓ well, ! it works and something should be different, ✗ failed, - not checked.
What is not well has beneath it what to do.

Where the service brings S3, PostgreSQL or Kafka along, they are looked at while it runs, with the
keys that its endpoints.json hands out; these only read.

Ends with 0 when all is well, with 6 when something should be different, with 1 when something
failed.

Examples:
  oms doctor
  oms doctor --config /etc/oms.toml --url http://oms.internal:8000 --token-file /run/secrets/oms
  oms doctor --prometheus http://127.0.0.1:9090
  oms --json doctor | jq -r '.checks[] | select(.verdict == \"failed\") | .advice'")]
pub struct Doctor {
    #[command(flatten)]
    config: ConfigFlags,
    #[command(flatten)]
    serve: ServeFlags,
    #[command(flatten)]
    address: Address,
    /// Also check whether this Prometheus scrapes a service and has the alert rules
    #[arg(
        long,
        env = "OMS_PROMETHEUS",
        value_name = "URL",
        hide_env_values = true
    )]
    prometheus: Option<String>,
}

impl Doctor {
    pub(super) async fn run(self, output: Output) -> anyhow::Result<Exit> {
        let report = Report::of(self.checks().await);
        output.result(&report, || render::text(&report))?;
        Ok(report.exit())
    }

    async fn checks(&self) -> Vec<Check> {
        let read = self.config.load(self.serve.settings());
        let mut checks = configuration::checks(&read);
        let config = read.ok();
        let running = match &config {
            Some(config) => targets::running(config),
            None => Err("the configuration cannot be read".to_owned()),
        };
        let (sign_in, parts, service, prometheus) = join!(
            async {
                match &config {
                    Some(config) => configuration::sign_in(config).await,
                    None => None,
                }
            },
            parts(config.as_ref(), &running),
            self.service(config.as_ref(), &running),
            async {
                match &self.prometheus {
                    Some(url) => prometheus::checks(url).await,
                    None => Area::Prometheus
                        .skip(&["targets", "alert rules"], "--prometheus names none"),
                }
            }
        );
        if let Some(why) = config.as_ref().and_then(targets::unreadable) {
            let advice = "run this check as the account of the service";
            checks.push(Area::Service.check("addresses", Finding::warning(why, advice)));
        }
        checks.extend(sign_in);
        checks.extend(parts);
        checks.extend(service);
        checks.extend(prometheus);
        checks
    }

    async fn service(
        &self,
        config: Option<&Config>,
        running: &Result<Endpoints, String>,
    ) -> Vec<Check> {
        let default_dir = Config::default().data_dir;
        let data_dir = config.map_or(default_dir, |config| config.data_dir.clone());
        let expected = self.address.url.is_some() || running.is_ok();
        let mut address = self.address.clone();
        if address.url.is_none() {
            // What a service that has ended said of itself leads nowhere.
            address.url = match running {
                Ok(endpoints) => Some(endpoints.whole().to_owned()),
                // Nobody named this one: it gets no token.
                Err(_) => {
                    (address.token, address.token_file) = (None, None);
                    configured(config)
                }
            };
        }
        service::checks(address.connect(&data_dir), expected, config).await
    }
}

/// Where a service of this configuration listens, if that is this machine.
fn configured(config: Option<&Config>) -> Option<String> {
    let http = &config?.http;
    let scheme = match http.tls_cert {
        Some(_) => "https",
        None => "http",
    };
    let is_known = http.is_loopback() && http.port != 0;
    let host = match http.host.as_str() {
        host if host.contains(':') => format!("[{host}]"),
        host => host.to_owned(),
    };
    is_known.then(|| format!("{scheme}://{host}:{}", http.port))
}

/// The dependencies and the machine.
async fn parts(config: Option<&Config>, running: &Result<Endpoints, String>) -> Vec<Check> {
    let Some(config) = config else {
        let areas = [Area::S3, Area::Postgres, Area::Kafka, Area::Machine];
        let skip = |area: Area| area.skip(&["all"], "the configuration cannot be read");
        return areas.into_iter().flat_map(skip).collect();
    };
    let targets = Targets::of(config, running);
    let (s3, postgres, kafka) = join!(
        s3::checks(&targets.s3),
        postgres::checks(&targets.postgres),
        kafka::checks(&targets.kafka)
    );
    let mut machine = machine::checks(config, running);
    let clocks: Vec<(&'static str, f64)> = [("S3", s3.1), ("PostgreSQL", postgres.1)]
        .into_iter()
        .filter_map(|(name, ahead)| Some((name, ahead?)))
        .collect();
    machine.push(Area::Machine.check("clock", clocks::own(&clocks)));
    [s3.0, postgres.0, kafka, machine].concat()
}
