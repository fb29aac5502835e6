//! A private PostgreSQL cluster in the data directory, run from the server programs installed on
//! the machine.
//!
//! It listens on loopback with a password, so that `psql` and every client library can connect. It
//! ends with this process, also after `kill -9`: the kernel signals it when the thread that started
//! it is gone. That thread restarts it if it ends by itself.

pub mod account;
pub mod binaries;
mod cluster;
mod process;
mod programs;
mod reader;
mod settings;
mod supervise;

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use self::cluster::Cluster;
use super::EmbeddedError;

/// Why PostgreSQL could not be started.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No server programs were found.
    #[error(
        "no PostgreSQL server found on PATH or in /usr/lib/postgresql: install the package \
         `postgresql` (Debian, Ubuntu) or `postgresql-server` (Fedora, RHEL), or name the folder \
         of `postgres` and `initdb` in {}, or configure the URL of a running server",
        binaries::BIN_VARIABLE
    )]
    NotInstalled,
    /// The folder named by the environment variable does not have them.
    #[error(
        "{variable} names {dir}, which does not hold working `postgres` and `initdb`",
        variable = binaries::BIN_VARIABLE
    )]
    NotInNamedFolder {
        /// The folder.
        dir: PathBuf,
    },
    /// The cluster has another version than the programs.
    #[error(
        "the cluster was made by PostgreSQL {cluster}, found is version {found}: install version \
         {cluster} beside it, or remove the cluster to build a new one from the log"
    )]
    OtherVersion {
        /// Major version of the cluster.
        cluster: u32,
        /// Major version of the programs found.
        found: u32,
    },
    /// This process is root, and there is no account to run the server under.
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
        /// Why copying failed.
        why: String,
    },
    /// `initdb` failed.
    #[error("initdb failed: {0}")]
    Initdb(String),
    /// The server ended while it was starting.
    #[error("PostgreSQL did not start: {0}")]
    DidNotStart(String),
    /// The server does not answer.
    #[error("PostgreSQL does not take connections: {0}")]
    DoesNotAnswer(String),
    /// A server of an earlier run is still running.
    #[error("an earlier PostgreSQL server (process {0}) has the cluster and does not end")]
    StillRunning(i32),
}

/// The running server; stopped when dropped.
pub struct PostgresServer {
    url: String,
    reader_url: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl PostgresServer {
    /// Starts the cluster in `dir`, which is created if necessary, with a database `oms`. Blocks
    /// until it accepts connections.
    pub fn start(dir: &Path) -> Result<Self, EmbeddedError> {
        let dir = dir.to_owned();
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let failed = EmbeddedError::io("start a thread for", &dir);
        // The kernel ends the server with the thread that started it, so that thread must stay.
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

    /// URL of the database, including the password.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same for a role that only reads.
    pub fn reader_url(&self) -> &str {
        &self.reader_url
    }

    /// Stops the server with a fast shutdown: sessions are ended, data is written.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        // The thread has ended already.
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
    // The caller of `start` waits for exactly one answer.
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
                        supervise::supervise(cluster, child, stopped).await;
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
