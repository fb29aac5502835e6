//! Listens on loopback, with threads and a runtime of its own, so that the service's arbiters and
//! I/O runtime never wait for the endpoint that they use.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::access::Access;
use super::error::ChangeError;
use super::guard::Who;
use super::service::Endpoint;
use super::shared::Options;
use super::store::LogStore;
use crate::files::{random_key, secret};
use crate::ports;
use crate::{EmbeddedError, S3Endpoint, private};

/// Serving threads at most: a small PUT takes one about 50 µs, so that with four the single writer
/// behind them is the limit.
const MAX_THREADS: usize = 4;

/// Open connections at most; more wait to be accepted. The service's own pool has a few dozen.
const MAX_CONNECTIONS: usize = 1024;

/// How long requests in progress may take when the endpoint stops.
const GRACE: Duration = Duration::from_secs(5);

/// Pause after a failed accept, for example without free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The only region; S3's default.
const REGION: &str = "us-east-1";

/// Lengths of AWS's keys, so that every client accepts them.
const ACCESS_KEY_LEN: usize = 20;
const SECRET_KEY_LEN: usize = 40;

/// Settings of an endpoint.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Sizes and limits of the store.
    pub store: Options,
    /// Objects whose keys have this prefix are immutable: only repair's keys can replace or remove
    /// them. `None`: there are none.
    pub immutable: Option<String>,
    /// The clock for the objects' times: milliseconds since 1970.
    pub now_ms: fn() -> i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            store: Options::default(),
            immutable: None,
            now_ms: machine_time,
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the machine's clock, for whoever has no other"
)]
fn machine_time() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

/// An access key with its secret key.
#[derive(Clone)]
struct Pair {
    access: String,
    secret: String,
}

impl Pair {
    fn random() -> Self {
        Self {
            access: random_key(ACCESS_KEY_LEN),
            secret: random_key(SECRET_KEY_LEN),
        }
    }

    /// The pair in files of `dir` whose names begin with `prefix`, created on first use.
    fn kept(dir: &Path, prefix: &str) -> Result<Self, EmbeddedError> {
        let kept = |name: &str, len| secret(&dir.join(format!("{prefix}{name}")), len);
        Ok(Self {
            access: kept("access_key", ACCESS_KEY_LEN)?,
            secret: kept("secret_key", SECRET_KEY_LEN)?,
        })
    }
}

/// The running endpoint; stopped when dropped.
pub struct S3Server {
    endpoint: S3Endpoint,
    reader: Pair,
    mender: Pair,
    store: Option<Arc<LogStore>>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl S3Server {
    /// Opens the store in `dir` and serves it, with `bucket` created. Keys (except repair's) and
    /// port are stored in `dir`; the port changes only if another program uses it.
    pub fn start(dir: &Path, bucket: &str) -> Result<Self, EmbeddedError> {
        Self::start_with(dir, bucket, Settings::default())
    }

    /// [`S3Server::start`] with other settings.
    pub fn start_with(dir: &Path, bucket: &str, settings: Settings) -> Result<Self, EmbeddedError> {
        let Settings {
            store: options,
            immutable,
            now_ms,
        } = settings;
        private::create_dir(dir).map_err(EmbeddedError::io("create", dir))?;
        let store = Arc::new(LogStore::open(&dir.join("store"), options)?);
        // The files of the only key pair that earlier versions had, and handed out.
        let reader = Pair::kept(dir, "")?;
        let own = Pair::kept(dir, "service_")?;
        let mender = Pair::random();
        let listener = listen(dir)?;
        let address = listener
            .local_addr()
            .map_err(EmbeddedError::io("listen for", dir))?;
        let mut s3 = S3ServiceBuilder::new(Endpoint::new(
            store.clone(),
            REGION.into(),
            immutable,
            now_ms,
        ));
        let (mut auth, mut keys) = (SimpleAuth::new(), HashMap::new());
        for (pair, who) in [
            (&reader, Who::Reader),
            (&own, Who::Service),
            (&mender, Who::Mender),
        ] {
            auth.register(pair.access.clone(), pair.secret.clone().into());
            keys.insert(pair.access.clone(), who);
        }
        s3.set_auth(auth);
        s3.set_access(Access { keys });
        let service = s3.build();

        let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(MAX_THREADS));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("s3-endpoint")
            // s3s logs every 404 and 412 as an error, but the log finds its end by them. Internal
            // errors reach the client, and the store's own threads log them.
            .on_thread_start(|| {
                let quiet = tracing::subscriber::NoSubscriber::default();
                std::mem::forget(tracing::subscriber::set_default(quiet));
            })
            .enable_all()
            .build()
            .map_err(EmbeddedError::io("start a runtime for", dir))?;
        let (stop, stopped) = watch::channel(false);
        let (made, ready) = std::sync::mpsc::sync_channel(1);
        let (making, name) = (store.clone(), bucket.to_owned());
        let thread = std::thread::Builder::new()
            .name("s3-endpoint".into())
            .spawn(move || {
                let bucket = runtime.block_on(making.create_bucket(&name, now_ms()));
                drop(making);
                // The receiver is gone if `start` has failed; then there is nothing to serve.
                if made.send(bucket).is_err() {
                    return;
                }
                // On a worker thread, so that tasks spawned from it stay on the same worker.
                let serving = runtime.spawn(serve(listener, service, stopped));
                if let Err(error) = runtime.block_on(serving) {
                    tracing::error!(%error, "the embedded S3 endpoint ended");
                }
                runtime.shutdown_timeout(GRACE);
            })
            .map_err(EmbeddedError::io("start a thread for", dir))?;
        match ready.recv() {
            Ok(Ok(()) | Err(ChangeError::BucketExists)) => {}
            Ok(Err(e)) => return Err(EmbeddedError::Bucket(e)),
            Err(_) => return Err(EmbeddedError::Bucket(ChangeError::Closed)),
        }
        Ok(Self {
            endpoint: S3Endpoint {
                endpoint: format!("http://{address}"),
                region: REGION.into(),
                bucket: bucket.into(),
                access_key: own.access,
                secret_key: own.secret,
            },
            reader,
            mender,
            store: Some(store),
            stop,
            thread: Some(thread),
        })
    }

    /// Its address, with the service's own keys.
    pub fn endpoint(&self) -> &S3Endpoint {
        &self.endpoint
    }

    /// Its address, with the read-only keys.
    pub fn reader(&self) -> S3Endpoint {
        self.with(&self.reader)
    }

    /// Its address, with the keys for repair, which are valid as long as this server runs.
    pub fn mender(&self) -> S3Endpoint {
        self.with(&self.mender)
    }

    fn with(&self, keys: &Pair) -> S3Endpoint {
        S3Endpoint {
            access_key: keys.access.clone(),
            secret_key: keys.secret.clone(),
            ..self.endpoint.clone()
        }
    }

    /// Finishes the requests in progress, then closes the store.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        // Without a receiver the thread has ended already.
        self.stop.send(true).ok();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the embedded S3 endpoint panicked");
        }
        self.store = None;
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// Listens on the stored port, or on a new one, which is stored.
fn listen(dir: &Path) -> Result<TcpListener, EmbeddedError> {
    let path = dir.join("port");
    let listener = ports::listen(&path)?;
    let port = listener
        .set_nonblocking(true)
        .and_then(|()| listener.local_addr())
        .map_err(EmbeddedError::io("listen for", dir))?
        .port();
    ports::keep(&path, port)?;
    Ok(listener)
}

/// Returns when the endpoint is to stop; a dropped sender means the same.
async fn told(stopped: &mut watch::Receiver<bool>) {
    stopped.wait_for(|stop| *stop).await.ok();
}

async fn serve(listener: TcpListener, service: S3Service, mut stopped: watch::Receiver<bool>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the embedded S3 endpoint cannot listen");
            return;
        }
    };
    let mut connections = JoinSet::new();
    let for_each = stopped.clone();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, service.clone(), for_each.clone()));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            // How a connection ends does not matter here.
            Some(_) = connections.join_next() => {}
            () = told(&mut stopped) => break,
        }
    }
    drop(listener);
    let finished = async { while connections.join_next().await.is_some() {} };
    // Requests still in progress are cut off with the runtime.
    tokio::time::timeout(GRACE, finished).await.ok();
}

async fn connection(
    stream: TcpStream,
    service: S3Service,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let http = auto::Builder::new(TokioExecutor::new()).http1_only();
    let connection = http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended.map_err(io::Error::other),
        () = told(&mut stopped) => connection.as_mut().graceful_shutdown(),
    }
    connection.await.map_err(io::Error::other)
}
