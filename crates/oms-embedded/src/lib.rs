#![doc = include_str!("../README.md")]
//!
//! # In `oms`
//!
//! It is what `oms serve` starts by itself when nothing is configured. Embedded never means another
//! code path: the service speaks to all three through the clients it uses in production. When the
//! process ends nothing of S3 and PostgreSQL is lost, and everything of Kafka ([`kafka`]).
//!
//! ```text
//! DATA/lock            one process at a time
//! DATA/endpoints.json  where everything listens, with keys that read; written by the service
//! DATA/s3/             keys, port, store/ with the segments
//! DATA/postgres/       password, port, the cluster
//! ```
//!
//! All of it is its owner's alone, whatever the umask is ([`private`]).

pub mod endpoint;
pub mod files;
pub mod kafka;
mod only;
pub mod postgres;
pub mod private;
pub mod s3;
pub mod space;

use std::fs::canonicalize;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

pub use self::endpoint::S3Endpoint;
use self::kafka::KafkaServer;
use self::only::{NotAlone, OnlyOne};
use self::postgres::PostgresServer;
use self::s3::server::{S3Server, Settings};

/// With less room than this a start that failed has failed for want of it: a cluster that was killed
/// writes a segment or two of its write-ahead log, of 16 MiB each, before it takes connections.
const START_BYTES: u64 = 32 << 20;

/// Locked by the process that uses the data directory.
const LOCK: &str = "lock";

/// Which parts to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// S3.
    pub s3: bool,
    /// PostgreSQL.
    pub postgres: bool,
    /// Kafka.
    pub kafka: bool,
}

impl Parts {
    /// All three.
    pub const ALL: Self = Self {
        s3: true,
        postgres: true,
        kafka: true,
    };

    /// Whether one of them keeps data on a disk.
    fn keep_data(self) -> bool {
        self.s3 || self.postgres
    }
}

/// What is made in the parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The bucket.
    pub bucket: String,
    /// Kafka's topics.
    pub topics: Vec<String>,
}

/// Where the parts that were started listen. Holds secrets: not `Debug`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Endpoints {
    /// S3, with the service's own keys: never handed out.
    pub s3: Option<S3Endpoint>,
    /// S3, with the keys that are handed out: they read.
    pub s3_reader: Option<S3Endpoint>,
    /// S3, with keys that also replace and remove what is in the log: for repair, in this process.
    pub s3_mender: Option<S3Endpoint>,
    /// URL of the PostgreSQL database, with the password of its owner.
    pub postgres: Option<String>,
    /// The same with that of a role that reads: to be handed out.
    pub postgres_reader: Option<String>,
    /// Kafka's `bootstrap.servers`.
    pub kafka: Option<String>,
}

/// The embedded stack could not be started.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The file system, the network or the system refused.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process runs on the data directory.
    #[error(
        "the data directory {0} is in use by another process; stop it or choose another with --data-dir"
    )]
    InUse(PathBuf),
    /// The S3 store.
    #[error("embedded S3: {0}")]
    Store(#[from] s3::error::LogStoreError),
    /// The bucket could not be made.
    #[error("embedded S3: cannot make the bucket: {0}")]
    Bucket(s3::error::ChangeError),
    /// PostgreSQL.
    #[error("embedded PostgreSQL: {0}")]
    Postgres(#[from] postgres::PostgresError),
    /// Kafka.
    #[error("embedded Kafka: {0}")]
    Kafka(rdkafka::error::KafkaError),
    /// A part did not start on a disk without room.
    #[error(
        "the disk of {dir} is full, {free} bytes are left: make room on it, not by deleting in \
         {dir}, and start again"
    )]
    NoRoom {
        /// The data directory.
        dir: PathBuf,
        /// Bytes that are left.
        free: u64,
        /// What failed.
        source: Box<EmbeddedError>,
    },
    /// The code that starts a part panicked.
    #[error("starting {0} panicked")]
    Panicked(&'static str),
}

impl EmbeddedError {
    /// Wraps an I/O error with what was attempted.
    pub fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

/// The data directory.
struct Home {
    dir: PathBuf,
    // Held, not read.
    _lock: OnlyOne,
}

impl Home {
    /// Makes it if need be, and takes it for this process alone.
    fn take(data_dir: &Path) -> Result<Self, EmbeddedError> {
        private::create_data_dir(data_dir, LOCK).map_err(EmbeddedError::io("create", data_dir))?;
        let dir = canonicalize(data_dir).map_err(EmbeddedError::io("find", data_dir))?;
        let path = dir.join(LOCK);
        let lock = OnlyOne::lock(&path).map_err(|why| match why {
            NotAlone::Held => EmbeddedError::InUse(dir.clone()),
            NotAlone::Io { what, source } => EmbeddedError::Io { what, path, source },
        })?;
        Ok(Self { dir, _lock: lock })
    }
}

/// The running stack. Stops when dropped; [`EmbeddedStack::stop`] says when.
pub struct EmbeddedStack {
    endpoints: Endpoints,
    s3: Option<S3Server>,
    postgres: Option<PostgresServer>,
    kafka: Option<KafkaServer>,
    // Held while it is used: the lock goes with it, last.
    home: Option<Home>,
}

impl EmbeddedStack {
    /// Starts `parts` with their data in `data_dir`, which is made if need be, and waits until all
    /// of them answer; bucket and topics are made. Blocks; S3 and PostgreSQL start beside each other.
    pub fn start(data_dir: &Path, parts: Parts, names: &Names) -> Result<Self, EmbeddedError> {
        Self::start_with(data_dir, parts, names, Settings::default())
    }

    /// The same, with S3 as `s3` says.
    pub fn start_with(
        data_dir: &Path,
        parts: Parts,
        names: &Names,
        s3: Settings,
    ) -> Result<Self, EmbeddedError> {
        Self::start_parts(data_dir, parts, names, s3).map_err(|source| {
            match space::free_bytes(data_dir) {
                Ok(free) if free < START_BYTES => EmbeddedError::NoRoom {
                    dir: data_dir.to_owned(),
                    free,
                    source: Box::new(source),
                },
                _ => source,
            }
        })
    }

    fn start_parts(
        data_dir: &Path,
        parts: Parts,
        names: &Names,
        settings: Settings,
    ) -> Result<Self, EmbeddedError> {
        let home = match Home::take(data_dir) {
            Ok(home) => Some(home),
            // Nothing that was asked for keeps anything on a disk.
            Err(EmbeddedError::Io { path, source, .. }) if !parts.keep_data() => {
                tracing::info!(path = %path.display(), why = %source,
                    "there is no data directory; nothing here needs one");
                None
            }
            Err(error) => return Err(error),
        };
        let dir = home.as_ref().map_or(data_dir, |home| &home.dir);
        let (s3, postgres, kafka) = thread::scope(|scope| {
            let postgres = parts
                .postgres
                .then(|| scope.spawn(|| PostgresServer::start(&dir.join("postgres"))));
            let s3 = parts
                .s3
                .then(|| S3Server::start_with(&dir.join("s3"), &names.bucket, settings));
            let kafka = parts.kafka.then(|| KafkaServer::start(&names.topics));
            let postgres = postgres.map(|started| {
                (started.join()).unwrap_or(Err(EmbeddedError::Panicked("PostgreSQL")))
            });
            (s3, postgres, kafka)
        });
        let (s3, postgres, kafka) = (s3.transpose()?, postgres.transpose()?, kafka.transpose()?);
        let endpoints = Endpoints {
            s3: s3.as_ref().map(|s3| s3.endpoint().clone()),
            s3_reader: s3.as_ref().map(|s3| s3.reader()),
            s3_mender: s3.as_ref().map(|s3| s3.mender()),
            postgres: postgres.as_ref().map(|p| p.url().to_owned()),
            postgres_reader: postgres.as_ref().map(|p| p.reader_url().to_owned()),
            kafka: kafka.as_ref().map(|k| k.bootstrap().to_owned()),
        };
        Ok(Self {
            endpoints,
            s3,
            postgres,
            kafka,
            home,
        })
    }

    /// The data directory; `None` when there is none, which only a stack does without that keeps
    /// nothing.
    pub fn data_dir(&self) -> Option<&Path> {
        self.home.as_ref().map(|home| home.dir.as_path())
    }

    /// Where the parts listen.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// Stops the parts: the transport, then the outbox, then the log, so that none outlives what
    /// it takes its data from. Blocks until all are gone.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        if let Some(kafka) = self.kafka.take() {
            kafka.stop();
        }
        if let Some(postgres) = self.postgres.take() {
            postgres.stop();
        }
        if let Some(s3) = self.s3.take() {
            s3.stop();
        }
    }
}

impl Drop for EmbeddedStack {
    fn drop(&mut self) {
        self.shut_down();
    }
}
