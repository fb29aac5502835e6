//! Builds the adapters with their decorators. Only S3 has to be available, for the description of
//! the store; where PostgreSQL leads every partition, PostgreSQL is enough.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::clock::{SystemClock, new_uuid};
use crate::config::Config;
use crate::config::endpoints::s3_settings as settings_of;
use crate::config::postgres::PostgresConfig;
use crate::config::problems::{ConfigError, Problem};
use crate::domain::time::Clock;
use crate::embedded::{Endpoints, S3Endpoint};
use crate::log::identity::LogId;
use crate::log::lead::Lead;
use crate::migration::unread::{Unproven, UnreadBucket};
use crate::service::DependencyHealth;
use crate::store::adapters::kafka::{KafkaSettings, KafkaTransport};
use crate::store::adapters::postgres::commits::PostgresCommitStore;
use crate::store::adapters::postgres::connection::Purpose;
use crate::store::adapters::postgres::connection::environment::Environment;
use crate::store::adapters::postgres::connection::tls::Verify;
use crate::store::adapters::postgres::migration::PostgresMigration;
use crate::store::adapters::postgres::{Fitness, Postgres, PostgresSettings};
use crate::store::adapters::s3::{S3ObjectStore, S3Settings};
use crate::store::error::StoreErrorKind;
use crate::store::halts::Halts;
use crate::store::health::Health;
use crate::store::io_runtime::IoRuntime;
use crate::store::log::log_objects::{DerivedObjects, RepairObjects};
use crate::store::log::log_reader::{LogReader, describe_store};
use crate::store::metered::MeteredObjectStore;
use crate::store::ports::migration_table::MigrationTable as _;
use crate::store::ports::object_store::ObjectStore;
use crate::store::probe::{ProbeError, probe};

/// Pause between two attempts to reach S3.
const S3_PAUSE: Duration = Duration::from_secs(1);

/// For so long keys and rights that S3 refuses are tried again: those just made are not known
/// everywhere at once.
const S3_DENIED_PATIENCE: Duration = Duration::from_secs(10);

/// Pause before a PostgreSQL that seems never to be of use is asked again.
const POSTGRES_PAUSE: Duration = Duration::from_secs(2);

/// Everything outside this process, ready to be called.
pub struct Stores {
    /// The bucket, for everything but the log.
    pub objects: Arc<dyn ObjectStore>,
    /// The log in the bucket.
    pub log: Arc<LogReader>,
    /// The bucket with the right to replace and remove objects, for repair alone; the embedded
    /// endpoint refuses that to all others.
    pub repair_objects: RepairObjects,
    /// Whether PostgreSQL may lead while the bucket has not been read.
    pub unread: UnreadBucket,
    /// Connects on first use.
    pub postgres: Postgres,
    /// Connects on first use.
    pub kafka: Arc<KafkaTransport>,
    pub topics: crate::store::ports::transport::TopicNames,
    pub health: DependencyHealth,
    /// What does not go on.
    pub halts: Halts,
}

/// Builds the adapters; waits for S3 as long as it takes, and refuses a bucket that is not safe.
pub async fn connect(
    config: &Config,
    embedded: &Endpoints,
    io: &IoRuntime,
) -> anyhow::Result<Stores> {
    let now: fn() -> jiff::Timestamp = || SystemClock.now();
    let health = DependencyHealth {
        s3: Arc::new(Health::new(now)),
        postgres: Arc::new(Health::new(now)),
        kafka: Arc::new(Health::new(now)),
    };
    let settings = s3_settings(config, embedded.s3.as_ref())?;
    let bucket = Arc::new(S3ObjectStore::new(&settings)?);
    let mender = s3_settings(config, embedded.s3_mender.as_ref())?;
    // metered ∘ I/O runtime ∘ rust-s3. Nothing retries here: the callers know what may be repeated.
    let metered = |bucket| -> Arc<dyn ObjectStore> {
        let health = health.s3.clone();
        Arc::new(MeteredObjectStore::new(bucket, io.clone(), health))
    };
    let whole = metered(bucket.clone());
    // From here on only the writer writes the log, and only repair changes it.
    let objects: Arc<dyn ObjectStore> = Arc::new(DerivedObjects::of(whole.clone()));
    let mending = metered(Arc::new(S3ObjectStore::new(&mender)?));
    let postgres = postgres_settings(config, embedded)?;
    // Certificates that cannot be read, for example.
    let postgres = Postgres::new(postgres, io.clone(), health.postgres.clone())
        .map_err(|error| wrong_address(error.message))?;
    warn_of_open_way(&config.postgres, &config.environment);
    refuse_unfit(&postgres).await?;
    let wanted = config.log.partitions;
    let unread = UnreadBucket {
        ordered: config.migration.lead_without_bucket,
        known_leads: super::known_leads::load(&config.data_dir)?,
    };
    let prepared = prepare_bucket(&bucket, &objects, wanted, io, (&postgres, &unread)).await?;
    let partitions = prepared.partitions;
    if partitions != config.log.partitions {
        tracing::info!(
            partitions,
            configured = config.log.partitions,
            "the store keeps the number of partitions it was made with"
        );
    }
    let log = LogReader::new(
        whole.clone(),
        settings.bucket.clone(),
        partitions,
        config.log.cache_bytes,
    );
    let log = match prepared.id {
        Some(id) => log.with_id(id),
        None => log,
    };
    let log = match prepared.read {
        true => log,
        false => log.with_bucket_unread(),
    };
    let log = Arc::new(log.with_postgres(Arc::new(PostgresCommitStore::new(postgres.clone()))));
    let kafka_settings = kafka_settings(config, embedded)?;
    let topics = kafka_settings.topics();
    let kafka = KafkaTransport::new(kafka_settings, io.clone(), health.kafka.clone())?;
    Ok(Stores {
        objects,
        log,
        repair_objects: RepairObjects::of(mending),
        unread,
        postgres,
        kafka: Arc::new(kafka),
        topics,
        health,
        halts: Halts::new(crate::clock::now),
    })
}

/// Says it when PostgreSQL is on another machine, and whoever is between can pretend to be it.
fn warn_of_open_way(postgres: &PostgresConfig, environment: &Environment) {
    let settings = postgres.settings(environment);
    let way = settings.and_then(|settings| settings.connection(Purpose::Own).ok());
    let open = way.is_some_and(|way| {
        let verified = way.tls.as_ref().map(|tls| tls.verify);
        !way.is_here() && matches!(verified, None | Some(Verify::Nothing))
    });
    if open {
        tracing::warn!(
            "the way to PostgreSQL is not verified: sslmode asks for no TLS, or for one that takes \
             anybody for the server; sslmode=verify-full with postgres.ca verifies it"
        );
    }
}

/// Fails the start on a PostgreSQL that can never be used, such as one that cannot store every
/// text, or whose certificate is not accepted. One that does not answer may be used later.
async fn refuse_unfit(postgres: &Postgres) -> anyhow::Result<()> {
    let mut fitness = postgres.check_fitness().await;
    if matches!(fitness, Ok(Fitness::Untrusted(_))) {
        // A server that cannot take another connection answers as one without TLS does.
        tokio::time::sleep(POSTGRES_PAUSE).await;
        fitness = postgres.check_fitness().await;
    }
    match fitness {
        Ok(Fitness::Fit) => Ok(()),
        Ok(Fitness::Untrusted(why)) => Err(wrong_address(why).into()),
        Err(e) if e.kind == StoreErrorKind::Invalid => {
            anyhow::bail!("PostgreSQL cannot be used: {}", e.message)
        }
        Err(error) if error.kind == StoreErrorKind::Denied => {
            tracing::warn!(%error, "PostgreSQL does not let the service in yet");
            Ok(())
        }
        Err(error) => {
            tracing::debug!(%error, "PostgreSQL does not answer yet");
            Ok(())
        }
    }
}

/// The configuration is at fault: no later attempt would go better.
fn wrong_address(message: String) -> ConfigError {
    ConfigError {
        problems: vec![Problem {
            key: "postgres.url".into(),
            message,
            origin: None,
        }],
    }
}

/// What is known of the log before it is opened.
struct Prepared {
    partitions: u16,
    id: Option<LogId>,
    /// Whether the bucket said so, rather than PostgreSQL.
    read: bool,
}

/// Checks that the bucket exists and that its put-if-absent works, and reads the store's number of
/// partitions.
async fn prepare_bucket(
    bucket: &Arc<S3ObjectStore>,
    objects: &Arc<dyn ObjectStore>,
    partitions: u16,
    io: &IoRuntime,
    (postgres, unread): (&Postgres, &UnreadBucket),
) -> anyhow::Result<Prepared> {
    let mut told = false;
    let mut denied_since = None;
    loop {
        let (bucket, objects) = (bucket.clone(), objects.clone());
        let attempt = io.run("s3", "prepare bucket", async move {
            bucket.ensure_bucket().await?;
            match probe(&*objects, new_uuid()).await {
                Ok(()) => {}
                // A bucket that holds a store was checked when that was created, and reads still
                // work.
                Err(ProbeError::Store(e)) if e.kind == StoreErrorKind::Full => {
                    tracing::error!(error = %e, "S3 has no room left; reads go on if it holds a store already");
                }
                Err(ProbeError::Store(e)) => return Err(e),
                Err(unfit @ ProbeError::Unfit(_)) => return Ok(Err(unfit)),
            }
            Ok(Ok(
                describe_store(&*objects, partitions, SystemClock.now(), LogId(new_uuid())).await?
            ))
        });
        match attempt.await {
            Ok(Ok(description)) => {
                return Ok(Prepared {
                    partitions: description.partitions,
                    id: description.id,
                    read: true,
                });
            }
            Ok(Err(unfit)) => return Err(unfit).context("the bucket cannot be used"),
            Err(e) if e.is_transient() => {
                match led_by_postgres(postgres, unread).await {
                    Some(Ok(prepared)) => {
                        tracing::warn!(error = %e, partitions = prepared.partitions,
                            "S3 does not answer; PostgreSQL leads, so the service starts without it");
                        return Ok(prepared);
                    }
                    Some(Err(why)) if !told => {
                        told = true;
                        tracing::error!(
                            "PostgreSQL's rows say that it leads, and the bucket cannot \
                            be read: {why}. The service waits for S3; if you know that PostgreSQL \
                            leads, start with `migration.lead_without_bucket = true`"
                        );
                    }
                    _ => {}
                }
                tracing::warn!(error = %e, "waiting for S3");
                tokio::time::sleep(S3_PAUSE).await;
            }
            Err(e)
                if e.kind == StoreErrorKind::Denied
                    && denied_since.get_or_insert_with(Instant::now).elapsed()
                        < S3_DENIED_PATIENCE =>
            {
                tracing::warn!(error = %e, "S3 refuses the service; it is asked again for some seconds");
                tokio::time::sleep(S3_PAUSE).await;
            }
            Err(e) => return Err(e).context("the bucket cannot be used"),
        }
    }
}

/// The description of the log in PostgreSQL, if that answers, leads all partitions, and may be
/// trusted without the bucket, which then is only a copy and may be unavailable.
async fn led_by_postgres(
    postgres: &Postgres,
    unread: &UnreadBucket,
) -> Option<Result<Prepared, Unproven>> {
    let migration = PostgresMigration::new(postgres.clone());
    let rows = migration.rows().await.ok()?;
    let all = !rows.is_empty()
        && rows
            .values()
            .all(|seen| seen.row.stage.lead() == Lead::Postgres);
    if !all {
        return None;
    }
    for (partition, seen) in &rows {
        if let Err(why) = unread.may_lead(*partition, &seen.row) {
            return Some(Err(why));
        }
    }
    Some(Ok(Prepared {
        partitions: u16::try_from(rows.len()).ok()?,
        id: migration.log_id().await.ok()?,
        read: false,
    }))
}

/// The configured bucket with its keys, else the embedded one.
fn s3_settings(config: &Config, embedded: Option<&S3Endpoint>) -> anyhow::Result<S3Settings> {
    if let Some(settings) = config.s3.settings() {
        return Ok(settings);
    }
    let s3 = embedded.context("no S3 was started")?;
    Ok(settings_of(s3, config.s3.request_timeout))
}

/// The configured database, else the embedded one.
pub fn postgres_settings(
    config: &Config,
    embedded: &Endpoints,
) -> anyhow::Result<PostgresSettings> {
    if let Some(settings) = config.postgres.settings(&config.environment) {
        return Ok(settings);
    }
    let url = embedded.postgres.clone();
    Ok(PostgresSettings {
        url: url.context("no PostgreSQL was started")?,
        ..config.postgres.limits()
    })
}

/// The configured brokers, else the embedded one.
pub fn kafka_settings(config: &Config, embedded: &Endpoints) -> anyhow::Result<KafkaSettings> {
    let bootstrap = match &config.kafka.bootstrap {
        Some(bootstrap) => bootstrap.clone(),
        None => embedded.kafka.clone().context("no Kafka was started")?,
    };
    Ok(KafkaSettings {
        bootstrap,
        topic_prefix: config.kafka.topic_prefix.clone(),
        partitions: config.kafka.partitions,
        replication: config.kafka.replication,
        transactions: config.kafka.transactions,
        extra: config.kafka.options.0.clone(),
        ..KafkaSettings::default()
    })
}
