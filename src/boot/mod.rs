//! The composition root: the one place that knows every part. Puts the service together from its
//! configuration, runs it until it is told to stop, and takes it apart in order.
//!
//! * [`stores`]: addresses → adapters in their decorators
//! * [`assembly`]: adapters → actors → use cases
//! * [`http`]: the HTTP server's settings; [`descriptors`]: how many files may be open
//! * [`jobs`]: the jobs of the migration
//! * [`shutdown`]: when to stop, and in which order

mod assembly;
mod backfill;
mod descriptors;
mod heard;
mod housekeeping;
mod http;
pub mod imports;
mod jobs;
mod node;
mod shutdown;
mod stores;

use std::process::ExitCode;
use std::sync::Arc;

use actix_web::web;
use anyhow::Context;

use self::shutdown::{Ending, Escalations};
use crate::config::Config;
use crate::config::endpoints::{self, Endpoints};
use crate::embedded::s3::server::Settings;
use crate::embedded::s3::store::Options;
use crate::embedded::{EmbeddedStack, Names, Parts};
use crate::http::{Edge, HttpState};
use crate::store::io_runtime::IoRuntime;
use crate::store::ports::object_store::IMMUTABLE;
use crate::store::ports::transport::TopicNames;

/// Threads of the I/O runtime: they wait more than they work, and two keep one slow poll from
/// stalling everyone else's.
const IO_THREADS: usize = 2;

/// Runs the service until it is told to stop; the exit code says why it ended: 0 when asked to,
/// [`crate::actors::supervision::policy::EXIT_ESCALATED`] when an actor failed beyond its limit.
pub fn serve(mut config: Config) -> anyhow::Result<ExitCode> {
    // Before anything is opened, and before the embedded PostgreSQL inherits it.
    descriptors::provide(&mut config)?;
    let stack = start_embedded(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(IO_THREADS)
        .thread_name("oms-io")
        .enable_all()
        .build()
        .context("cannot start the I/O runtime")?;
    let io = IoRuntime::new(runtime.handle().clone());
    let ending = actix::System::new().block_on(run(&config, &stack, io))?;
    // A call that does not end must not keep the process: its outcome is settled at the next start.
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

async fn run(config: &Config, stack: &EmbeddedStack, io: IoRuntime) -> anyhow::Result<Ending> {
    let metrics = crate::metrics::install().context("cannot install the metrics")?;
    // Before anything takes part in the log: a port that is taken is the commonest mistake.
    drop(
        std::net::TcpListener::bind((config.http.host.as_str(), config.http.port)).with_context(
            || format!("cannot listen on {}:{}", config.http.host, config.http.port),
        )?,
    );
    let escalations = Escalations::default();
    let stores = stores::connect(config, stack.endpoints(), &io).await?;
    let node = node::name(stack.data_dir())?;
    let running = assembly::start(config, stores, io, &escalations, node);
    let edge = Edge::new(http::settings(config), http::tokens(config));
    let edge = Arc::new(edge.with_audit(running.audit.clone()));
    let state = web::Data::new(HttpState {
        service: running.service.clone(),
        metrics,
        edge: edge.clone(),
    });
    let (server, addresses) = crate::http::server(state)
        .await
        .with_context(|| format!("cannot listen on {}:{}", config.http.host, config.http.port))?;
    announce(config, stack, &addresses)?;
    let handle = server.handle();
    let serving = actix_rt::spawn(server);
    let ending = escalations.wait_for_end().await;
    tracing::info!(%ending, "stopping");
    shutdown::in_order(running, edge, handle, serving, ending.patience()).await;
    Ok(ending)
}

/// Says where everything is: in the log, and in `endpoints.json` for programs, which may read the
/// bucket with what stands there and not change it.
fn announce(
    config: &Config,
    stack: &EmbeddedStack,
    addresses: &[std::net::SocketAddr],
) -> anyhow::Result<()> {
    let scheme = if config.http.tls_cert.is_some() {
        "https"
    } else {
        "http"
    };
    let port = addresses.first().map_or(config.http.port, |a| a.port());
    let host = match config.http.host.as_str() {
        "0.0.0.0" | "::" | "localhost" => "127.0.0.1",
        host => host,
    };
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    let http = format!("{scheme}://{host}:{port}");
    let embedded = stack.endpoints();
    let written = Endpoints {
        pid: std::process::id(),
        http: http.clone(),
        s3: embedded.s3_reader.clone(),
        postgres: embedded.postgres.clone(),
        kafka: embedded.kafka.clone(),
    };
    if stack.data_dir().is_some() {
        written
            .write(&config.data_dir)
            .with_context(|| format!("cannot write to {}", config.data_dir.display()))?;
    }
    for (part, place) in config.parts() {
        tracing::info!(part, place);
    }
    let file = (stack.data_dir()).map(|_| config.data_dir.join(endpoints::FILE));
    tracing::info!(api = %http, docs = %format!("{http}/docs"),
        endpoints = file.map(|f| f.display().to_string()), "serving");
    Ok(())
}

#[cfg(test)]
pub(crate) use self::http::settings as http_settings;
