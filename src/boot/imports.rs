//! The importer of the sources in `[migration.sources]`.

use std::sync::Arc;

use crate::actors::import::appender::Appender;
use crate::actors::import::{Importer, Source};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::domain::time::Clock;
use crate::import::spec::SourceSpec;
use crate::store::adapters::postgres::import_journal::PostgresImportJournal;
use crate::store::adapters::postgres::source::PostgresSource;
use crate::store::adapters::postgres::{Postgres, PostgresSettings};
use crate::store::health::Health;
use crate::store::io_runtime::IoRuntime;

/// The importer of every configured source. Connects to a source only when its import is started.
/// `own` is our database, for checkpoints and parked rows. A source whose certificates cannot be read
/// is left out, and said.
pub fn importer(
    config: &Config,
    own: Postgres,
    appender: Arc<dyn Appender>,
    io: &IoRuntime,
) -> Importer {
    let mut sources = Vec::new();
    for (name, configured) in &config.migration.sources {
        let spec = SourceSpec {
            max_event_bytes: config.migration.max_event_bytes,
            ..configured.spec(name)
        };
        let settings = PostgresSettings {
            statement_timeout: config.postgres.statement_timeout,
            ..configured.settings(&config.environment)
        };
        let health = Arc::new(Health::new(|| SystemClock.now()));
        let events = match PostgresSource::new(spec.clone(), &settings, io.clone(), health) {
            Ok(events) => events,
            Err(error) => {
                tracing::error!(source = name, %error, "this source cannot be imported");
                continue;
            }
        };
        sources.push(Source {
            spec,
            events: Arc::new(events),
        });
    }
    Importer::new(
        sources,
        Arc::new(PostgresImportJournal::new(own)),
        appender,
        Arc::new(SystemClock),
    )
}
