//! Poolers in front of a server: whoever comes next is given the connection as it was left.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use crate::postgres::as_server_user;

/// One connection, lent to one client after the other; nothing is reset in between. All clients
/// have to be of the same database and role.
pub struct Lender {
    port: u16,
    task: tokio::task::JoinHandle<()>,
}

/// The code in place of a version with which a client asks for TLS.
const SSL_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();

impl Lender {
    /// In front of the server whose socket is in `dir`.
    pub async fn start(dir: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = listener.local_addr().expect("address").port();
        let socket = dir.join(".s.PGSQL.5432");
        let task = tokio::spawn(async move {
            let mut server: Option<(UnixStream, Vec<u8>)> = None;
            loop {
                let (mut client, _) = listener.accept().await.expect("accept");
                let Some(startup) = startup(&mut client).await else {
                    continue;
                };
                let (server, greeting) = match &mut server {
                    Some(server) => server,
                    none => {
                        let mut to = UnixStream::connect(&socket).await.expect("connect");
                        to.write_all(&startup).await.expect("startup");
                        let greeting = greeting(&mut to).await;
                        none.insert((to, greeting))
                    }
                };
                if client.write_all(greeting).await.is_ok() {
                    lend(&mut client, server).await;
                }
            }
        });
        Self { port, task }
    }

    /// URL of a database through it.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The message a client begins with, after being told that there is no TLS.
async fn startup(client: &mut TcpStream) -> Option<Vec<u8>> {
    loop {
        let mut head = [0; 8];
        client.read_exact(&mut head).await.ok()?;
        let (len, code) = head.split_at(4);
        if code == SSL_REQUEST {
            client.write_all(b"N").await.ok()?;
            continue;
        }
        let len = u32::from_be_bytes(len.try_into().ok()?) as usize;
        let mut message = head.to_vec();
        message.resize(len, 0);
        client.read_exact(&mut message[8..]).await.ok()?;
        return Some(message);
    }
}

/// A message with its type and length.
async fn message(from: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut message = vec![0; 5];
    from.read_exact(&mut message).await.ok()?;
    let len = u32::from_be_bytes(message[1..].try_into().ok()?) as usize;
    message.resize(len + 1, 0);
    from.read_exact(&mut message[5..]).await.ok()?;
    Some(message)
}

/// Everything a server says before it is ready.
async fn greeting(server: &mut UnixStream) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let message = message(server).await.expect("a greeting");
        let ready = message[0] == b'Z';
        all.extend(message);
        if ready {
            return all;
        }
    }
}

/// Until the client says goodbye, which the server does not hear.
async fn lend(client: &mut TcpStream, server: &mut UnixStream) {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let upward = async {
        while let Some(message) = message(&mut from_client).await {
            if message[0] == b'X' {
                return;
            }
            to_server.write_all(&message).await.expect("server");
        }
    };
    let downward = async {
        // Whole messages, or a part of one would be lost with the client.
        while let Some(message) = message(&mut from_server).await {
            if to_client.write_all(&message).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = upward => {}
        () = downward => {}
    }
}

/// A real pgbouncer in transaction mode with one connection to the server.
pub struct PgBouncer {
    port: u16,
    process: Child,
    dir: tempfile::TempDir,
}

impl PgBouncer {
    /// The program: what `OMS_TEST_PGBOUNCER` names, else an installed one.
    pub fn program() -> Option<PathBuf> {
        if let Some(named) = std::env::var_os("OMS_TEST_PGBOUNCER") {
            let named = PathBuf::from(named);
            assert!(
                named.exists(),
                "OMS_TEST_PGBOUNCER: {} is not there",
                named.display()
            );
            return Some(named);
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
            .map(|dir| dir.join("pgbouncer"))
            .find(|program| program.exists())
    }

    /// In front of the server whose socket is in `socket_dir`.
    pub async fn start(program: &Path, socket_dir: &Path) -> Self {
        Self::start_ignoring(program, socket_dir, "").await
    }

    /// The same; it takes these parameters with which a session begins, and does nothing with them.
    pub async fn start_ignoring(program: &Path, socket_dir: &Path, parameters: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        // A port that was free a moment ago.
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
            listener.local_addr().expect("address").port()
        };
        let config = format!(
            "[databases]\n* = host={} port=5432 user=postgres\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = transaction\ndefault_pool_size = 1\n\
             ignore_startup_parameters = {parameters}\n",
            socket_dir.display()
        );
        let file = dir.path().join("pgbouncer.ini");
        std::fs::write(&file, config).expect("config");
        // It does not run as root, no more than the server does.
        use std::os::unix::fs::PermissionsExt as _;
        let readable = |path: &Path, mode| {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(path, permissions).expect("permissions");
        };
        readable(dir.path(), 0o755);
        readable(&file, 0o644);
        let mut command = Command::new(program);
        as_server_user(&mut command)
            .arg(&file)
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
        let process = command.spawn().expect("pgbouncer");
        let mut bouncer = Self { port, process, dir };
        crate::eventually("pgbouncer listens", || async {
            TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        let ended = bouncer.process.try_wait().expect("its state");
        assert!(
            ended.is_none(),
            "pgbouncer ended: {ended:?}, {:?}",
            bouncer.dir
        );
        bouncer
    }

    /// URL of a database through it.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
