//! A real PostgreSQL from the binaries on the machine: one cluster per test binary, one database
//! per test; a cluster of its own for a test that stops it.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use oms_store::adapters::postgres::{Postgres, PostgresSettings};
use oms_store::health::Health;

use crate::certificates::Leaf;

/// A running cluster. It ends with the process, whatever way that ends.
pub struct Cluster {
    dir: PathBuf,
    /// Where it listens, if not on its socket alone.
    port: Option<u16>,
    server: Mutex<Option<Child>>,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The cluster shared by the tests of this binary.
pub fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(Cluster::start)
}

/// Settings of a fresh database in the shared cluster.
pub fn fresh() -> PostgresSettings {
    shared().fresh()
}

/// A client of these settings.
pub fn connect(settings: &PostgresSettings) -> Postgres {
    let health = Arc::new(Health::new(crate::now));
    Postgres::new(settings.clone(), crate::io(), health).expect("settings")
}

/// Runs a statement as the service would.
pub async fn execute(settings: &PostgresSettings, sql: &'static str) {
    connect(settings)
        .run("test", move |client| Box::pin(client.batch_execute(sql)))
        .await
        .expect(sql);
}

/// A connection past the service's client; its driver ends with it.
pub async fn session(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .expect("connect");
    tokio::spawn(connection);
    client
}

fn binaries() -> PathBuf {
    let on_path = std::env::var_os("PATH")
        .into_iter()
        .flat_map(|p| std::env::split_paths(&p).collect::<Vec<_>>());
    let mut installed: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path().join("bin"))
        .collect();
    installed.sort_by_key(|p| {
        let version = p
            .parent()
            .and_then(|v| v.file_name()?.to_str()?.parse().ok());
        std::cmp::Reverse(version.unwrap_or(0_u32))
    });
    on_path
        .chain(installed)
        .find(|dir| dir.join("initdb").exists() && dir.join("postgres").exists())
        .expect("PostgreSQL server binaries on PATH or under /usr/lib/postgresql")
}

/// PostgreSQL refuses to run as root.
pub fn as_server_user(command: &mut Command) -> &mut Command {
    if geteuid().is_root() {
        let user = User::from_name("postgres")
            .ok()
            .flatten()
            .expect("user postgres");
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

/// Makes the server's account the owner.
fn give_away(path: &Path) {
    if geteuid().is_root() {
        let user = User::from_name("postgres")
            .ok()
            .flatten()
            .expect("user postgres");
        nix::unistd::chown(path, Some(user.uid), Some(user.gid)).expect("chown");
    }
}

/// Removes what earlier runs left behind: a static is never dropped.
fn remove_leftovers() {
    for entry in std::fs::read_dir(std::env::temp_dir())
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name
            .strip_prefix("oms-pg-")
            .and_then(|r| r.split('-').next())
        else {
            continue;
        };
        if pid
            .parse()
            .is_ok_and(|pid| kill(Pid::from_raw(pid), None).is_err())
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl Cluster {
    /// Makes a cluster and starts its server.
    pub fn start() -> Self {
        let cluster = Self::make(None);
        cluster.resume();
        cluster
    }

    /// One that speaks TLS on a port of loopback and takes nothing else there. `client_ca`: the
    /// authority (PEM) of the certificates with which the account `guest` has to log in; `postgres`
    /// needs none.
    pub fn start_with_tls(server: &Leaf, client_ca: &str) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let cluster = Self::make(Some(port));
        let hba = "local all all trust\n\
                   hostssl all guest 127.0.0.1/32 cert\n\
                   hostssl all all 127.0.0.1/32 trust\n";
        let settings = "ssl = on\nssl_ca_file = 'clients.crt'\n";
        for (name, text) in [
            ("server.crt", server.certificate.as_str()),
            ("server.key", &server.key),
            ("clients.crt", client_ca),
            ("pg_hba.conf", hba),
            ("postgresql.auto.conf", settings),
        ] {
            let path = cluster.dir.join(name);
            std::fs::write(&path, text).expect(name);
            let own = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&path, own).expect(name);
            give_away(&path);
        }
        cluster.resume();
        cluster
    }

    fn make(port: Option<u16>) -> Self {
        remove_leftovers();
        let n = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("oms-pg-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        give_away(&dir);
        let output = as_server_user(&mut Command::new(binaries().join("initdb")))
            .args([
                "-N",
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "-D",
            ])
            .arg(&dir)
            .current_dir("/")
            .output()
            .expect("initdb");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Self {
            dir,
            port,
            server: Mutex::new(None),
        }
    }

    /// Starts the server again.
    pub fn resume(&self) {
        let mut server = self.server.lock().expect("lock");
        assert!(server.is_none(), "it runs");
        *server = Some(spawn(&self.dir, self.port));
        let deadline = std::time::Instant::now() + crate::DEADLINE;
        while !self.is_ready() {
            assert!(
                std::time::Instant::now() < deadline,
                "PostgreSQL does not start"
            );
            std::thread::yield_now();
        }
    }

    /// The server writes its state as the last line of its pid file.
    fn is_ready(&self) -> bool {
        std::fs::read_to_string(self.dir.join("postmaster.pid")).is_ok_and(|pid| {
            pid.lines()
                .last()
                .is_some_and(|state| state.trim() == "ready")
        })
    }

    /// Stops the server at once, cutting every connection.
    pub fn stop(&self) {
        let server = self.server.lock().map(|mut s| s.take());
        if let Ok(Some(mut child)) = server {
            let pid = Pid::from_raw(child.id().try_into().expect("pid"));
            kill(pid, Signal::SIGINT).expect("signal");
            child.wait().expect("end of the server");
        }
    }

    /// URL of a database of this cluster.
    pub fn url(&self, database: &str) -> String {
        let dir = self.dir.display().to_string().replace('/', "%2F");
        let port = self.port.map(|port| format!(":{port}"));
        let port = port.unwrap_or_default();
        format!("postgresql://postgres@{dir}{port}/{database}")
    }

    /// The port of loopback on which it listens, if it was started with one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The folder of the server's socket.
    pub fn socket_dir(&self) -> &Path {
        &self.dir
    }

    /// Settings of a database that does not exist yet: the service makes it.
    pub fn fresh(&self) -> PostgresSettings {
        let n = NUMBER.fetch_add(1, Ordering::Relaxed);
        PostgresSettings {
            url: self.url(&format!("test_{n}")),
            ..PostgresSettings::default()
        }
    }

    /// Runs statements in the `postgres` database, as its superuser.
    pub async fn administer(&self, sql: &str) {
        let (client, connection) =
            tokio_postgres::connect(&self.url("postgres"), tokio_postgres::NoTls)
                .await
                .expect("connect");
        let driver = tokio::spawn(connection);
        client.batch_execute(sql).await.expect(sql);
        drop(client);
        driver.await.expect("driver").expect("connection");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Starts the server from a thread that lives as long as the process, because the signal that ties
/// the server to us fires when the thread that spawned it ends.
fn spawn(dir: &Path, port: Option<u16>) -> Child {
    let dir = dir.to_owned();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut command = Command::new(binaries().join("postgres"));
        as_server_user(&mut command)
            .arg("-D")
            .arg(&dir)
            .arg("-k")
            .arg(&dir)
            .args(["-c", "max_connections=200", "-c"])
            .args(match port {
                None => vec!["listen_addresses=".to_owned()],
                Some(port) => vec![
                    "listen_addresses=127.0.0.1".to_owned(),
                    "-p".to_owned(),
                    port.to_string(),
                ],
            })
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // SAFETY: prctl is async-signal-safe and touches nothing of the parent.
        unsafe {
            command.pre_exec(|| {
                nix::sys::prctl::set_pdeathsig(Signal::SIGINT).map_err(std::io::Error::from)
            });
        }
        sender
            .send(command.spawn().expect("postgres"))
            .expect("receiver");
        loop {
            std::thread::park();
        }
    });
    receiver.recv().expect("a server")
}
