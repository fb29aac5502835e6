//! The composition root: the only module that knows every part. Builds the service from its
//! configuration, runs it until it is told to stop, and shuts it down in order.
//!
//! * [`stores`]: addresses → adapters in their decorators
//! * [`assembly`]: adapters → actors → use cases
//! * [`http`]: the HTTP server's settings; [`descriptors`]: how many files may be open
//! * [`jobs`]: the jobs of the migration
//! * [`token_file`]: tokens that come and go while it runs; [`signing_keys`]: the keys of the provider
//!   whose tokens are taken
//! * [`card`]: what a terminal shows when the service is ready
//! * [`ending`]: when to stop; [`shutdown`]: in which order

mod assembly;
mod backfill;
mod card;
pub mod descriptors;
mod ending;
mod housekeeping;
mod http;
pub mod imports;
mod jobs;
mod known_leads;
mod node;
mod shutdown;
pub mod signing_keys;
pub mod stores;
mod token_file;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use actix_web::web;
use anyhow::Context;

use self::card::Places;
use self::ending::{Ending, Escalations};
use crate::config::Config;
use crate::config::endpoints::{self, Endpoints};
use crate::embedded::s3::server::Settings;
use crate::embedded::s3::shared::Options;
use crate::embedded::{EmbeddedStack, Endpoints as EmbeddedEndpoints, Names, Parts};
use crate::http::{HttpLimits, HttpState, Listening};
use crate::metrics::recent::Recent;
use crate::store::adapters::proxy;
use crate::store::io_runtime::IoRuntime;
use crate::store::ports::object_store::IMMUTABLE;
use crate::store::ports::transport::TopicNames;

/// Threads of the I/O runtime: they mostly wait; with two, one slow poll does not stall all others.
const IO_THREADS: usize = 2;

/// Runs the service until it is told to stop. The exit code is 0 when it was asked to,
/// [`crate::actors::supervision::policy::EXIT_ESCALATED`] when an actor failed beyond its limit.
pub fn serve(mut config: Config) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    // Before anything is opened, and before the embedded PostgreSQL inherits the limit.
    descriptors::provide(&mut config)?;
    let stack = start_embedded(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(IO_THREADS)
        .thread_name("oms-io")
        .enable_all()
        .build()
        .context("cannot start the I/O runtime")?;
    let io = IoRuntime::new(runtime.handle().clone());
    let ending = actix::System::new().block_on(run(&config, &stack, io, begun))?;
    // A call that does not return must not keep the process: its outcome is settled at the next
    // start.
    runtime.shutdown_timeout(shutdown::IO_PATIENCE);
    stack.stop();
    Ok(ending.exit_code())
}

fn start_embedded(config: &Config) -> anyhow::Result<EmbeddedStack> {
    let parts = Parts {
        s3: config.s3.is_embedded(),
        postgres: config.postgres.is_embedded(),
        kafka: config.kafka.is_embedded(),
    };
    let names = Names {
        bucket: config.s3.bucket.clone(),
        topics: TopicNames::new(config.kafka.topic_prefix.clone())
            .all()
            .into(),
    };
    // Half of the reserve is for what is no command: snapshots, copies, imports.
    let kept_free = config.embedded.reserve_bytes / 2;
    let s3 = Settings {
        store: Options {
            min_free_bytes: kept_free,
            ..Options::default()
        },
        immutable: Some(IMMUTABLE.to_owned()),
        now_ms: || crate::clock::now().as_millisecond(),
    };
    let stack = EmbeddedStack::start_with(&config.data_dir, parts, &names, s3)
        .with_context(|| format!("cannot start on {}", config.data_dir.display()))?;
    if parts.kafka {
        tracing::info!(
            "the embedded Kafka broker keeps 5 MiB per partition and forgets everything at exit; \
             the log keeps every event"
        );
    }
    Ok(stack)
}

async fn run(
    config: &Config,
    stack: &EmbeddedStack,
    io: IoRuntime,
    begun: Instant,
) -> anyhow::Result<Ending> {
    let metrics = crate::metrics::install().context("cannot install the metrics")?;
    // Checked before anything takes part in the log: a port in use is the commonest mistake.
    http::try_to_listen(&config.http)?;
    let escalations = Escalations::default();
    // Polled from here on: a store that is away at start is waited for, and whoever wants the process to
    // end is heard meanwhile. As process 1 of a container it would else ignore SIGTERM.
    let ended = escalations.wait_for_end();
    tokio::pin!(ended);
    let stores = tokio::select! {
        stores = stores::connect(config, stack.endpoints(), &io) => stores?,
        ending = &mut ended => {
            tracing::info!(%ending, "stopping before the stores were reached");
            return Ok(ending);
        }
    };
    let node = node::name(stack.data_dir())?;
    let collector = config.telemetry.otlp_endpoint.as_deref();
    let direct = collector.is_some_and(proxy::is_loopback);
    let traces = crate::telemetry::export::start(&config.telemetry, &node, direct, io.handle())
        .map_err(anyhow::Error::msg)
        .context("cannot export traces")?;
    let partitions = stores.log.partitions();
    let about = http::about(config, stack.endpoints(), node.clone(), partitions);
    let mut running = assembly::start(config, stores, io.clone(), &escalations, node);
    let recent = Arc::new(Recent::default());
    let sampled = housekeeping::sample_metrics(&io, recent.clone(), metrics.clone());
    running.housekeeping.push(sampled);
    let issuer = http::issuer(config).map(Arc::new);
    if let Some(issuer) = &issuer {
        let ca = config.auth.oidc.ca.clone();
        let kept = signing_keys::keep(&io, issuer.clone(), ca);
        running.housekeeping.push(kept);
    }
    let limits = HttpLimits::new(http::settings(config), http::tokens(&config.auth))
        .with_required_token(config.auth.is_required())
        .with_issuer(issuer)
        .with_audit(running.audit.clone());
    let limits = Arc::new(limits);
    if let Some(looked_at) = token_file::look_at(&io, &config.auth, limits.clone()) {
        running.housekeeping.push(looked_at);
    }
    let state = web::Data::new(HttpState {
        service: running.service.clone(),
        metrics,
        recent,
        about,
        limits: limits.clone(),
    });
    let (server, listening) = crate::http::server(state.clone())
        .await
        .with_context(|| format!("cannot listen on {}", http::wanted(&config.http)))?;
    let places = announce(config, stack, &listening)?;
    let handle = server.handle();
    let serving = actix_rt::spawn(server);
    let shown = crate::telemetry::for_people(&config.telemetry)
        .then(|| actix_rt::spawn(card::show(places, state, begun)));
    let ending = ended.await;
    if let Some(shown) = shown {
        shown.abort();
    }
    tracing::info!(%ending, "stopping");
    shutdown::in_order(running, limits, handle, serving, ending.patience()).await;
    if let Some(traces) = traces {
        traces.end(shutdown::TRACES_PATIENCE).await;
    }
    Ok(ending)
}

/// Announces the addresses: in `endpoints.json` for programs, with keys that can read the bucket
/// but not change it; in the log where no card is shown; and to the caller.
fn announce(
    config: &Config,
    stack: &EmbeddedStack,
    listening: &Listening,
) -> anyhow::Result<Places> {
    let (http, admin) = http::urls(&config.http, listening);
    let embedded = stack.endpoints();
    let written = Endpoints {
        pid: std::process::id(),
        http: http.clone(),
        admin: admin.clone(),
        s3: embedded.s3_reader.clone(),
        postgres: embedded.postgres_reader.clone(),
        kafka: embedded.kafka.clone(),
    };
    if stack.data_dir().is_some() {
        written
            .write(&config.data_dir)
            .with_context(|| format!("cannot write to {}", config.data_dir.display()))?;
    }
    let file = (stack.data_dir()).map(|_| config.data_dir.join(endpoints::FILE));
    let places = Places {
        parts: places(config, embedded),
        endpoints: file.map(|f| f.display().to_string()),
        http,
        admin,
    };
    if !crate::telemetry::for_people(&config.telemetry) {
        for (part, place) in &places.parts {
            tracing::info!(part, place, "{part} is at {place}");
        }
        tracing::info!(api = %places.http, docs = %format!("{}/docs", places.http),
            console = %format!("{}/console", places.whole()), endpoints = places.endpoints, "serving");
    }
    Ok(places)
}

/// The addresses of the parts, for the card; without secrets.
fn places(config: &Config, embedded: &EmbeddedEndpoints) -> Vec<(&'static str, String)> {
    let named = [
        embedded.s3.as_ref().map(|s3| s3.endpoint.clone()),
        embedded.postgres.as_deref().and_then(host_of),
        embedded.kafka.clone(),
    ];
    let names = ["S3", "PostgreSQL", "Kafka"];
    let parts = config.parts().into_iter().zip(names).zip(named);
    parts
        .map(|(((_, configured), name), embedded)| match embedded {
            Some(place) => (name, format!("embedded, {place}")),
            None => (name, configured),
        })
        .collect()
}

/// Host and port of a connection string, without the credentials.
fn host_of(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    Some(format!(
        "{}:{}",
        url.host_str()?,
        url.port().unwrap_or(5432)
    ))
}

#[cfg(test)]
pub(crate) use self::http::settings as http_settings;
