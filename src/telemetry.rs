//! Logging, the panic hook, and the export of traces.
//!
//! * [`lines`]: log lines say which trace they belong to
//! * [`export`]: sends spans to a collector; [`otlp`]: in which form

pub mod export;
mod lines;
mod otlp;

use std::backtrace::Backtrace;
use std::backtrace::BacktraceStatus;
use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;

use metrics::counter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::actors::supervision::guard;
use crate::config::telemetry::{LogFormat, TelemetryConfig};
use crate::metrics::PANICS;

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level or its directives are malformed.
    #[error("telemetry.log_level: {0}")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// Logging is set up already in this process.
    #[error("logs are set up twice: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Libraries that log at INFO what we log ourselves.
const TALKATIVE: [&str; 1] = ["actix_server"];

/// The configured level; for [`TALKATIVE`] libraries `warn`, unless the directives name them.
fn filter(level: &str) -> Result<EnvFilter, TelemetryError> {
    let mut filter = EnvFilter::try_new(level)?;
    if filter.max_level_hint() > Some(LevelFilter::WARN) {
        for library in TALKATIVE.into_iter().filter(|l| !level.contains(l)) {
            filter = filter.add_directive(format!("{library}=warn").parse()?);
        }
    }
    Ok(filter)
}

fn format(config: &TelemetryConfig, terminal: bool) -> LogFormat {
    config.log_format.unwrap_or(if terminal {
        LogFormat::Text
    } else {
        LogFormat::Json
    })
}

/// Whether a person reads the log: it is text on a terminal.
pub fn for_people(config: &TelemetryConfig) -> bool {
    let terminal = io::stderr().is_terminal();
    terminal && format(config, terminal) == LogFormat::Text
}

/// Logs to standard error (standard output is for results) and installs the panic hook.
pub fn init(config: &TelemetryConfig) -> Result<(), TelemetryError> {
    let filter = filter(&config.log_level)?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // A log that cannot be written, for example on a full disk, is no reason to stop: the
        // report of the error goes the same way, and panics if that is closed.
        .log_internal_errors(false)
        .with_writer(io::stderr);
    let terminal = io::stderr().is_terminal();
    match format(config, terminal) {
        LogFormat::Text => subscriber
            .with_ansi(terminal)
            .map_event_format(|lines| lines::Text(lines.with_ansi(terminal)))
            .finish()
            .try_init()?,
        LogFormat::Json => subscriber
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .map_event_format(lines::Json)
            .finish()
            .try_init()?,
    }
    std::panic::set_hook(Box::new(on_panic));
    Ok(())
}

/// Names the actor that panicked, tells its guard where, counts and logs it. Runs while the thread
/// unwinds, so it must not panic itself.
fn on_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("no message");
    let place = panic.location().map_or_else(
        || "unknown place".to_owned(),
        |l| format!("{}:{}", l.file(), l.line()),
    );
    guard::note_panic(place.clone());
    let actor = guard::current_actor();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    counter!(PANICS, "in" => if actor.is_some() { "actor" } else { "other" }).increment(1);
    let actor = actor.as_deref().unwrap_or("none");
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        tracing::error!(%place, actor, thread, backtrace = %trace, "panicked: {message}");
    } else {
        tracing::error!(%place, actor, thread, "panicked: {message}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics_exporter_prometheus::PrometheusBuilder;

    #[test]
    fn a_panic_is_counted_by_where_it_happened() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(on_panic));
        metrics::with_local_recorder(&recorder, || {
            let caught = std::panic::catch_unwind(|| panic!("on purpose"));
            assert!(caught.is_err());
        });
        std::panic::set_hook(before);
        let line = format!("{PANICS}{{in=\"other\"}} 1");
        assert!(handle.render().contains(&line), "{}", handle.render());
    }
}
