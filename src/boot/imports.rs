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
use crate::store::error::StoreError;
use crate::store::health::Health;
use crate::store::io_runtime::IoRuntime;

/// The importer of every configured source. Connects to a source only when its import is started.
/// `own` is our database, for checkpoints and parked rows. Fails only on a malformed address.
pub fn importer(
    config: &Config,
    own: Postgres,
    appender: Arc<dyn Appender>,
    io: &IoRuntime,
) -> Result<Importer, StoreError> {
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
        let events = PostgresSource::new(spec.clone(), &settings, io.clone(), health)?;
        sources.push(Source {
            spec,
            events: Arc::new(events),
        });
    }
    Ok(Importer::new(
        sources,
        Arc::new(PostgresImportJournal::new(own)),
        appender,
        Arc::new(SystemClock),
    ))
}
