//! A private PostgreSQL cluster in the data directory, run from the server programs installed on
//! the machine.
//!
//! It listens on loopback with a password (so that `psql` and every client library can connect)
//! and lives no longer than this process: the kernel ends it when the thread that started it is
//! gone, also after `kill -9`. That thread starts it again should it end by itself.

pub mod account;
pub mod binaries;
mod cluster;
mod process;
mod programs;
mod reader;
mod settings;

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use self::cluster::Cluster;
use super::EmbeddedError;

/// Why there is no PostgreSQL.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No server programs.
    #[error(
        "no PostgreSQL server found on PATH or in /usr/lib/postgresql: install the package \
         `postgresql` (Debian, Ubuntu) or `postgresql-server` (Fedora, RHEL), or name the folder \
         of `postgres` and `initdb` in {}, or configure the URL of a running server",
        binaries::BIN_VARIABLE
    )]
    NotInstalled,
    /// The folder named does not hold them.
    #[error(
        "{variable} names {dir}, which does not hold working `postgres` and `initdb`",
        variable = binaries::BIN_VARIABLE
    )]
    NotInNamedFolder {
        /// The folder.
        dir: PathBuf,
    },
    /// The cluster is of another version.
    #[error(
        "the cluster was made by PostgreSQL {cluster}, found is version {found}: install version \
         {cluster} beside it, or remove the cluster to build a new one from the log"
    )]
    OtherVersion {
        /// Major version of the cluster.
        cluster: u32,
        /// Major version found.
        found: u32,
    },
    /// Root, and nobody to run it as.
    #[error(
        "PostgreSQL does not run as root and there is neither an account `postgres` nor `nobody`"
    )]
    NoAccount,
    /// The account cannot run the server programs, and they cannot be copied for it.
    #[error(
        "PostgreSQL runs as {account} here, which cannot run the programs in {dir}, and no copy of \
         them can be made for it: {why}; install PostgreSQL where everybody may run it, or configure \
         the URL of a running server"
    )]
    OutOfReach {
        /// The folder of the programs.
        dir: PathBuf,
        /// The account.
        account: String,
        /// Why there is no copy.
        why: String,
    },
    /// `initdb` failed.
    #[error("initdb failed: {0}")]
    Initdb(String),
    /// The server ended while it started.
    #[error("PostgreSQL did not start: {0}")]
    DidNotStart(String),
    /// The server does not answer.
    #[error("PostgreSQL does not take connections: {0}")]
    DoesNotAnswer(String),
    /// A server of an earlier run is still there.
    #[error("an earlier PostgreSQL server (process {0}) has the cluster and does not end")]
    StillRunning(i32),
}

/// The running server; stops when dropped.
pub struct PostgresServer {
    url: String,
    reader_url: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl PostgresServer {
    /// Starts the cluster in `dir`, making it if need be, with a database `oms`. Blocks until it
    /// takes connections.
    pub fn start(dir: &Path) -> Result<Self, EmbeddedError> {
        let dir = dir.to_owned();
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let failed = EmbeddedError::io("start a thread for", &dir);
        // The kernel ties the server's life to the thread that starts it, so that thread stays.
        let thread = std::thread::Builder::new()
            .name("embedded-postgres".into())
            .spawn(move || run(&dir, &ready, stopped))
            .map_err(failed)?;
        let (url, reader_url) = match started.recv() {
            Ok(outcome) => outcome?,
            Err(_) => {
                let text = "its thread ended".to_owned();
                return Err(PostgresError::DidNotStart(text).into());
            }
        };
        Ok(Self {
            url,
            reader_url,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// URL of the database, with the password.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same for a role that only reads.
    pub fn reader_url(&self) -> &str {
        &self.reader_url
    }

    /// Ends the server in order: sessions are cut off, data is written.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        // Gone already: nothing to stop.
        self.stop.take().map(|stop| stop.send(()).ok());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the embedded PostgreSQL panicked");
        }
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.shut_down();
    }
}

type Ready = std::sync::mpsc::SyncSender<Result<(String, String), EmbeddedError>>;

fn run(dir: &Path, ready: &Ready, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(EmbeddedError::io("start a runtime for", dir));
    // Whoever started us waits for exactly one answer.
    let tell = |outcome| ready.send(outcome).is_ok();
    match runtime {
        Ok(runtime) => runtime.block_on(async {
            let started = async {
                let mut cluster = Cluster::open(dir).await?;
                let child = cluster.launch().await?;
                Ok((cluster, child))
            };
            match started.await {
                Ok((cluster, child)) => {
                    if tell(Ok((cluster.url(), cluster.reader_url()))) {
                        process::supervise(cluster, child, stopped).await;
                    } else {
                        process::end(child).await;
                    }
                }
                Err(error) => {
                    tell(Err(error));
                }
            }
        }),
        Err(error) => {
            tell(Err(error));
        }
    }
}
