//! The cluster's folder: created by `initdb`, and started from.
//!
//! ```text
//! postgres/password      of the superuser `oms`, made once
//! postgres/port          kept, so that the URL survives restarts
//! postgres/data/         the cluster, owned by the server's account
//! postgres/run/          its socket, the account's too
//! postgres/postgres.log  what the server says
//! ```

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::Instant;
use tokio_postgres::{Client, NoTls};

use super::PostgresError;
use super::account::{Account, Handed};
use super::binaries::Binaries;
use super::process::{clear_the_way, end, tie_to_us};
use super::reader::{READER, allow_reader};
use super::settings::SETTINGS;
use crate::files::{read_text, secret, write_private};
use crate::ports;
use crate::s3::segment::sync_dir;
use crate::{EmbeddedError, private};

/// Name of the superuser.
const USER: &str = "oms";

/// Name of the service's database.
const DATABASE: &str = "oms";

/// Length of the password in characters.
const PASSWORD_LEN: usize = 32;

/// Interval between two checks whether the server is ready: a start takes 80 ms.
const READY_POLL: Duration = Duration::from_millis(5);

/// A server that was killed replays its write-ahead log before it accepts connections; with 2 GB of
/// it that takes some tens of seconds.
const READY_DEADLINE: Duration = Duration::from_secs(180);

/// Attempts to start, in case the port was just taken or a killed server's last processes still
/// run.
const LAUNCH_TRIES: usize = 10;

/// Pause between these attempts.
const LAUNCH_PAUSE: Duration = Duration::from_millis(200);

/// Longest path of a Unix socket in bytes, without the terminating NUL.
const MAX_SOCKET_PATH: usize = 107;

/// A log file of this size is renamed at a start.
const MAX_LOG_BYTES: u64 = 16 << 20;

/// How much of the end of the log an error shows.
const LOG_TAIL_BYTES: u64 = 2048;

/// An existing cluster.
pub struct Cluster {
    dir: PathBuf,
    binaries: Binaries,
    account: Account,
    password: String,
    reader_password: String,
    port: u16,
}

impl Cluster {
    /// Opens the cluster in `dir`, which is created if necessary; starts nothing.
    pub async fn open(dir: &Path) -> Result<Self, EmbeddedError> {
        private::create_dir(dir).map_err(EmbeddedError::io("create", dir))?;
        let dir = fs::canonicalize(dir).map_err(EmbeddedError::io("find", dir))?;
        let data = dir.join("data");
        let version = read_text(&data.join("PG_VERSION"))?.and_then(|v| v.trim().parse().ok());
        let account = Account::choose(&data)?;
        let cluster = Self {
            binaries: Binaries::find(version)?.within_reach(&account)?,
            account,
            password: secret(&dir.join("password"), PASSWORD_LEN)?,
            reader_password: secret(&dir.join("reader_password"), PASSWORD_LEN)?,
            port: 0,
            dir,
        };
        if version.is_none() {
            cluster.initdb().await?;
        }
        Ok(cluster)
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// URL of the database, including the password, which needs no escaping.
    pub fn url(&self) -> String {
        format!(
            "postgresql://{USER}:{}@127.0.0.1:{}/{DATABASE}",
            self.password, self.port
        )
    }

    /// The same of the role that only reads.
    pub fn reader_url(&self) -> String {
        format!(
            "postgresql://{READER}:{}@127.0.0.1:{}/{DATABASE}",
            self.reader_password, self.port
        )
    }

    /// Creates a folder that belongs to the server's account.
    fn make_dir(&self, path: &Path) -> Result<Handed, EmbeddedError> {
        private::create_dir(path).map_err(EmbeddedError::io("create", path))?;
        self.account.give(path)?;
        self.account.hand(path)
    }

    /// A command for a server program, under its account.
    fn command(&self, name: &str, handed: &[&Handed]) -> Command {
        let mut command = Command::new(self.binaries.program(name));
        for (variable, _) in std::env::vars_os() {
            // PGDATA, PGPORT and the like are meant for another server.
            if variable.to_string_lossy().starts_with("PG") {
                command.env_remove(variable);
            }
        }
        self.account.apply(&mut command, handed);
        // Our own folder may be inaccessible to that account, and older versions of PostgreSQL
        // change back to the folder they were started in by its path.
        command
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null());
        command
    }

    /// Creates the cluster under another name first, so that an incomplete one is never started.
    async fn initdb(&self) -> Result<(), EmbeddedError> {
        let unfinished = self.dir.join("data.new");
        match fs::remove_dir_all(&unfinished) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(EmbeddedError::io("remove", &unfinished)(e));
            }
            _ => {}
        }
        let data = self.make_dir(&unfinished)?;
        let password_file = self.dir.join("initdb.password");
        write_private(&password_file, self.password.as_bytes())?;
        self.account.give(&password_file)?;
        let password = self.account.hand(&password_file)?;
        let output = self
            .command("initdb", &[&data, &password])
            .arg("--pgdata")
            .arg(data.name())
            .arg("--pwfile")
            .arg(password.name())
            .args(["--username", USER, "--auth", "scram-sha-256"])
            // Text is ordered by bytes, the same on every machine.
            .args(["--encoding", "UTF8", "--locale", "C"])
            .output()
            .await;
        fs::remove_file(&password_file).map_err(EmbeddedError::io("remove", &password_file))?;
        let output = output.map_err(EmbeddedError::io("run", &self.binaries.program("initdb")))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(PostgresError::Initdb(said).into());
        }
        fs::rename(&unfinished, self.data()).map_err(EmbeddedError::io("rename", &unfinished))?;
        Ok(sync_dir(&self.dir)?)
    }

    /// Starts the server and waits until the database accepts connections.
    pub async fn launch(&mut self) -> Result<Child, EmbeddedError> {
        clear_the_way(&self.data()).await?;
        let mut tries = 1;
        loop {
            self.port = self.choose_port()?;
            let log_from = self.log_len();
            let mut child = self.spawn()?;
            match self.wait_ready(&mut child).await {
                Ok(()) => {
                    ports::keep(&self.dir.join("port"), self.port)?;
                    return Ok(child);
                }
                Err(error) => {
                    let ended = matches!(child.try_wait(), Ok(Some(_)));
                    end(child).await;
                    let log = self.log_tail(log_from);
                    // The port was just taken, or the last processes of a killed server still run.
                    let passing = log.contains("Address already in use")
                        || log.contains("pre-existing shared memory block");
                    if !(ended && passing) || tries == LAUNCH_TRIES {
                        return Err(if ended {
                            PostgresError::DidNotStart(log).into()
                        } else {
                            error
                        });
                    }
                }
            }
            tries += 1;
            tokio::time::sleep(LAUNCH_PAUSE).await;
        }
    }

    /// The port of the last start if it is free, else another.
    fn choose_port(&self) -> Result<u16, EmbeddedError> {
        let listener = ports::listen(&self.dir.join("port"))?;
        let address = listener.local_addr();
        address
            .map(|a| a.port())
            .map_err(EmbeddedError::io("find a port for", &self.dir))
    }

    fn spawn(&self) -> Result<Child, EmbeddedError> {
        let run = self.make_dir(&self.dir.join("run"))?;
        let data = self.account.hand(&self.data())?;
        let socket_dir = run.name();
        let socket = socket_dir.join(format!(".s.PGSQL.{}", self.port));
        let socket_dir = if socket.as_os_str().len() <= MAX_SOCKET_PATH {
            socket_dir.as_os_str()
        } else {
            "".as_ref()
        };
        let log = self.open_log()?;
        let failed = EmbeddedError::io("run", &self.binaries.program("postgres"));
        let mut command = self.command("postgres", &[&data, &run]);
        command.arg("-D").arg(data.name()).arg("-k").arg(socket_dir);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        let (out, err) = match log.try_clone() {
            Ok(clone) => (clone, log),
            Err(e) => return Err(failed(e)),
        };
        command.stdout(out).stderr(err);
        // Ctrl-C goes to all programs in the terminal's process group; while the service stops it
        // still needs the server.
        command.process_group(0);
        tie_to_us(&mut command);
        command.spawn().map_err(failed)
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("postgres.log")
    }

    fn log_len(&self) -> u64 {
        fs::metadata(self.log_path()).map_or(0, |m| m.len())
    }

    fn open_log(&self) -> Result<File, EmbeddedError> {
        let path = self.log_path();
        if self.log_len() > MAX_LOG_BYTES {
            let aside = self.dir.join("postgres.log.old");
            fs::rename(&path, aside).map_err(EmbeddedError::io("rename", &path))?;
        }
        let opened = private::options().append(true).create(true).open(&path);
        let file = opened.map_err(EmbeddedError::io("open", &path))?;
        private::close_file(&file, &path).map_err(EmbeddedError::io("close", &path))?;
        Ok(file)
    }

    /// The end of what the server has logged since byte `from`.
    fn log_tail(&self, from: u64) -> String {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(self.log_path())?;
            let len = file.metadata()?.len();
            // The log was renamed meanwhile: all of it is new.
            let from = if from > len { 0 } else { from };
            file.seek(SeekFrom::Start(
                from.max(len.saturating_sub(LOG_TAIL_BYTES)),
            ))?;
            let mut tail = Vec::new();
            file.read_to_end(&mut tail)?;
            Ok(tail)
        };
        match read() {
            Ok(tail) => String::from_utf8_lossy(&tail).trim().to_owned(),
            Err(e) => format!("its log cannot be read: {e}"),
        }
    }

    /// Waits until the server accepts connections and has the database.
    async fn wait_ready(&self, child: &mut Child) -> Result<(), EmbeddedError> {
        let deadline = Instant::now() + READY_DEADLINE;
        loop {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(PostgresError::DidNotStart(status.to_string()).into());
            }
            match self.ensure_database().await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    // 57P03: it is starting up. No code: it does not listen yet.
                    let starting = error.code().is_none_or(|c| c.code() == "57P03");
                    if !starting || Instant::now() > deadline {
                        let text = error
                            .as_db_error()
                            .map_or_else(|| error.to_string(), |e| e.message().to_owned());
                        return Err(PostgresError::DoesNotAnswer(text).into());
                    }
                }
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }

    /// The database, and the role that reads it.
    async fn ensure_database(&self) -> Result<(), tokio_postgres::Error> {
        self.within("postgres", async |client| {
            let exists = "SELECT 1 FROM pg_database WHERE datname = $1";
            if client.query_opt(exists, &[&DATABASE]).await?.is_none() {
                client
                    .batch_execute(&format!("CREATE DATABASE {DATABASE}"))
                    .await?;
            }
            Ok(())
        })
        .await?;
        self.within(DATABASE, async |client| {
            allow_reader(client, USER, &self.reader_password).await
        })
        .await
    }

    async fn within(
        &self,
        database: &str,
        act: impl AsyncFnOnce(&Client) -> Result<(), tokio_postgres::Error>,
    ) -> Result<(), tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::Config::new()
            .host("127.0.0.1")
            .port(self.port)
            .user(USER)
            .password(&self.password)
            .dbname(database)
            .connect(NoTls)
            .await?;
        let connection = tokio::spawn(connection);
        let outcome = act(&client).await;
        drop(client);
        // It ends with its client; a failure does not matter then.
        connection.await.ok();
        outcome
    }
}
