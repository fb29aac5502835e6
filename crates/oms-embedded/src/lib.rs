#![doc = include_str!("../README.md")]
//!
//! # In `oms`
//!
//! `oms serve` starts it when nothing is configured. The code path is the same as in production:
//! the service uses all three through its ordinary clients. When the process ends, the data of S3
//! and PostgreSQL stay, and Kafka's messages are lost ([`kafka`]).
//!
//! ```text
//! DATA/lock            one process at a time
//! DATA/endpoints.json  where everything listens, with keys that read; written by the service
//! DATA/s3/             keys, port, store/ with the segments
//! DATA/postgres/       password, port, the cluster
//! ```
//!
//! All of it is accessible to its owner only, whatever the umask is ([`private`]).

pub mod endpoint;
pub mod files;
pub mod kafka;
mod only;
mod ports;
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

/// With less free space than this, a failed start is attributed to the full disk: a cluster that
/// was killed writes one or two segments of its write-ahead log, 16 MiB each, before it accepts
/// connections.
const START_BYTES: u64 = 32 << 20;

/// File that is locked by the process that uses the data directory.
const LOCK: &str = "lock";

/// The parts to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// Whether to start the S3 endpoint.
    pub s3: bool,
    /// Whether to start PostgreSQL.
    pub postgres: bool,
    /// Whether to start the Kafka broker.
    pub kafka: bool,
}

impl Parts {
    /// All three.
    pub const ALL: Self = Self {
        s3: true,
        postgres: true,
        kafka: true,
    };

    /// Whether one of them stores data on disk.
    fn keep_data(self) -> bool {
        self.s3 || self.postgres
    }
}

/// Names of what is created in the parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The bucket.
    pub bucket: String,
    /// Kafka's topics.
    pub topics: Vec<String>,
}

/// Addresses of the started parts. Contains secrets, therefore not `Debug`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Endpoints {
    /// S3, with the service's own keys, which must not be handed out.
    pub s3: Option<S3Endpoint>,
    /// S3, with read-only keys, which may be handed out.
    pub s3_reader: Option<S3Endpoint>,
    /// S3, with keys that can also replace and remove objects of the log: for repair, in this
    /// process.
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
    /// The file system, the network or the operating system failed.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// The file or directory concerned.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Another process uses the data directory.
    #[error(
        "the data directory {0} is in use by another process; stop it or choose another with --data-dir"
    )]
    InUse(PathBuf),
    /// The S3 store failed.
    #[error("embedded S3: {0}")]
    Store(#[from] s3::error::LogStoreError),
    /// The bucket could not be created.
    #[error("embedded S3: cannot make the bucket: {0}")]
    Bucket(s3::error::ChangeError),
    /// PostgreSQL failed.
    #[error("embedded PostgreSQL: {0}")]
    Postgres(#[from] postgres::PostgresError),
    /// Kafka failed.
    #[error("embedded Kafka: {0}")]
    Kafka(rdkafka::error::KafkaError),
    /// A part did not start because the disk is full.
    #[error(
        "the disk of {dir} is full, {free} bytes are left: make room on it, not by deleting in \
         {dir}, and start again"
    )]
    NoRoom {
        /// The data directory.
        dir: PathBuf,
        /// Free bytes.
        free: u64,
        /// The error of the part.
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

/// The locked data directory.
struct Home {
    dir: PathBuf,
    // Held for its `Drop`.
    _lock: OnlyOne,
}

impl Home {
    /// Creates it if necessary, and locks it for this process.
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

/// The running stack. Stops when dropped; [`EmbeddedStack::stop`] waits for the end.
pub struct EmbeddedStack {
    endpoints: Endpoints,
    s3: Option<S3Server>,
    postgres: Option<PostgresServer>,
    kafka: Option<KafkaServer>,
    // Held while the parts run: the lock is released last.
    home: Option<Home>,
}

impl EmbeddedStack {
    /// Starts `parts` with their data in `data_dir`, which is created if necessary, and waits until
    /// all of them answer; creates bucket and topics. Blocks; S3 and PostgreSQL start concurrently.
    pub fn start(data_dir: &Path, parts: Parts, names: &Names) -> Result<Self, EmbeddedError> {
        Self::start_with(data_dir, parts, names, Settings::default())
    }

    /// [`Self::start`] with settings of the S3 endpoint.
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
            // None of the requested parts stores data on disk.
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

    /// The data directory; `None` if there is none, which is possible only if no part stores data.
    pub fn data_dir(&self) -> Option<&Path> {
        self.home.as_ref().map(|home| home.dir.as_path())
    }

    /// Addresses of the parts.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// Stops Kafka, then PostgreSQL, then S3, so that no part outlives the one that it gets its
    /// data from. Blocks until all have stopped.
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
