//! The listening server: takes connections from actix's workers, their bytes through
//! [`super::wire`], and passes requests to actix.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, Protocol};
use actix_service::{IntoServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::dev::{AppConfig, Server};
use actix_web::{App, Error, web};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::connection::{Connection, Patience, Version};
use super::door::Door;
use super::limits::{HttpLimits, HttpSettings};
use super::wire::{Socket, Wire};
use super::{HttpState, certificate, configure};

/// Connections that the system may queue while all workers are busy.
const BACKLOG: u32 = 2_048;

/// How much longer than the keep-alive the head of a request may take to begin: actix closes idle
/// connections itself, gracefully.
const IDLE_MARGIN: Duration = Duration::from_secs(5);

/// How much longer than ours actix's own deadlines are. Its clock ticks twice a second, so they may
/// be half a second early.
const ACTIX_MARGIN: Duration = Duration::from_secs(1);

/// Where a server listens.
#[derive(Debug, Clone)]
pub struct Listening {
    /// For everybody.
    pub callers: Vec<SocketAddr>,
    /// For administrators, where they have an address of their own.
    pub administrators: Vec<SocketAddr>,
}

/// Binds the server according to `state.limits.settings`. It serves once the returned `Server` is
/// awaited (or spawned), and listens for no signals: to stop it, call
/// [`super::HttpLimits::close_streams`], then `server.handle().stop(true)`, which lets requests in
/// flight end.
///
/// Errors: an address cannot be bound, certificate or key cannot be read or do not fit.
pub async fn server(state: web::Data<HttpState>) -> io::Result<(Server, Listening)> {
    let limits = state.limits.clone();
    serve(limits, move |cfg, door| configure(cfg, state.clone(), door)).await
}

/// [`server`] for any application.
pub async fn serve(
    limits: Arc<HttpLimits>,
    application: impl Fn(&mut web::ServiceConfig, Door) + Clone + Send + 'static,
) -> io::Result<(Server, Listening)> {
    let settings = limits.settings.clone();
    let tls = match &settings.tls {
        Some(files) => {
            let config = certificate::server_config(files.clone())?;
            Some(TlsAcceptor::from(Arc::new(config)))
        }
        None => None,
    };
    let workers = settings.workers.max(1);
    let mut builder = Server::build()
        .workers(workers)
        .max_concurrent_connections(settings.max_connections.div_ceil(workers))
        .backlog(BACKLOG)
        .shutdown_timeout(settings.shutdown_timeout.as_secs())
        .disable_signals();
    let stopping = builder.graceful_shutdown_signal();
    let (bound, listening) = bind(&settings).await?;
    for (listener, door) in bound {
        let (limits, application) = (limits.clone(), application.clone());
        let (tls, stopping) = (tls.clone(), stopping.clone());
        let settings = settings.clone();
        builder = builder.listen("http", listener.into_std()?, move || {
            let (limits, application) = (limits.clone(), application.clone());
            let (tls, stopping) = (tls.clone(), stopping.clone());
            let app = App::new()
                .configure(move |cfg| application(cfg, door))
                .into_factory();
            let app = app.map_err(|error: Error| error.error_response());
            let http = HttpService::build()
                .keep_alive(settings.keep_alive)
                .client_request_timeout(settings.head_timeout + ACTIX_MARGIN)
                .client_disconnect_timeout(settings.head_timeout + ACTIX_MARGIN)
                .graceful_shutdown_signal(move || {
                    let stopping = stopping.clone();
                    async move { stopping.notified().await }
                })
                .on_connect_ext(|wire: &Wire, extensions| {
                    extensions.insert(wire.connection().clone());
                });
            fn_service(move |stream| accept(stream, tls.clone(), limits.clone()))
                .and_then(http.finish(map_config(app, |()| AppConfig::default())))
        })?;
    }
    Ok((builder.run(), listening))
}

/// Listens for callers, and for administrators where they have a port of their own.
async fn bind(settings: &HttpSettings) -> io::Result<(Vec<(TcpListener, Door)>, Listening)> {
    let addresses = |listeners: &[TcpListener]| -> io::Result<Vec<SocketAddr>> {
        listeners.iter().map(TcpListener::local_addr).collect()
    };
    let callers = listeners(&settings.host, settings.port).await?;
    let (administrators, door) = match settings.admin_port {
        Some(port) => (listeners(&settings.admin_host, port).await?, Door::Callers),
        None => (Vec::new(), Door::All),
    };
    let listening = Listening {
        callers: addresses(&callers)?,
        administrators: addresses(&administrators)?,
    };
    let callers = callers.into_iter().map(|listener| (listener, door));
    let administrators = administrators.into_iter().map(|l| (l, Door::All));
    Ok((callers.chain(administrators).collect(), listening))
}

/// Listens on all addresses of a name that can be bound; an error if there is none.
async fn listeners(host: &str, port: u16) -> io::Result<Vec<TcpListener>> {
    let mut bound = Vec::new();
    let mut failed = None;
    for address in lookup_host((host, port)).await? {
        match listen(address) {
            Ok(listener) => bound.push(listener),
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) if bound.is_empty() => Err(error),
        None if bound.is_empty() => {
            let message = format!("{host} has no address");
            Err(io::Error::new(io::ErrorKind::AddrNotAvailable, message))
        }
        _ => Ok(bound),
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Otherwise a restart would have to wait until the previous process's connections have timed
    // out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Turns an accepted connection into what actix serves.
async fn accept(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    limits: Arc<HttpLimits>,
) -> Result<(Wire, Protocol, Option<SocketAddr>), DispatchError> {
    let open = limits.open_connection();
    let peer = stream.peer_addr().ok();
    // Answers are written whole: delaying packets to merge them gains nothing.
    stream.set_nodelay(true)?;
    let socket = match tls {
        None => Socket::Plain(stream),
        Some(tls) => {
            let shaken = timeout(limits.settings.head_timeout, tls.accept(stream)).await;
            Socket::Tls(Box::new(
                shaken.map_err(|_| DispatchError::SlowRequestTimeout)??,
            ))
        }
    };
    let (version, protocol) = match &socket {
        Socket::Tls(tls) if tls.get_ref().1.alpn_protocol() == Some(b"h2") => {
            (Version::Two, Protocol::Http2)
        }
        _ => (Version::One, Protocol::Http1),
    };
    let patience = Patience {
        head: limits.settings.head_timeout,
        idle: limits.settings.keep_alive + IDLE_MARGIN,
        write: limits.settings.write_timeout,
    };
    let connection = Connection::new(version, patience);
    Ok((Wire::new(socket, connection, limits, open), protocol, peer))
}
