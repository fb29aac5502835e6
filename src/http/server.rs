//! The listening server.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use actix_web::dev::Server;
use actix_web::{App, HttpServer, web};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::edge::TlsFiles;
use super::{HttpState, configure};

/// Connections the system may queue while all workers are busy accepting.
const BACKLOG: u32 = 2_048;

/// Binds the server as `state.edge.settings` say. It serves once the returned `Server` is awaited
/// (or spawned), and listens for no signals: to stop it, call [`super::Edge::close_streams`], then
/// `server.handle().stop(true)`, which lets requests in flight end.
///
/// Errors: the address cannot be bound, the certificate or key cannot be read.
pub fn server(state: web::Data<HttpState>) -> io::Result<(Server, Vec<SocketAddr>)> {
    let settings = state.edge.settings.clone();
    let app_state = state;
    let server = HttpServer::new(move || {
        let state = app_state.clone();
        App::new().configure(move |cfg| configure(cfg, state))
    })
    .workers(settings.workers.max(1))
    .max_connections(settings.max_connections)
    .backlog(BACKLOG)
    .keep_alive(settings.keep_alive)
    .client_request_timeout(settings.head_timeout)
    .client_disconnect_timeout(settings.head_timeout)
    .shutdown_timeout(settings.shutdown_timeout.as_secs())
    .disable_signals();
    let address = (settings.host.as_str(), settings.port);
    let server = match &settings.tls {
        Some(files) => server.bind_rustls_0_23(address, tls(files)?)?,
        None => server.bind(address)?,
    };
    let addresses = server.addrs();
    Ok((server.run(), addresses))
}

fn tls(files: &TlsFiles) -> io::Result<ServerConfig> {
    let certificates = read_certificates(&files.certificate)?;
    let key = read_key(&files.key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(io::Error::other)
}

fn open(path: &Path) -> io::Result<io::BufReader<std::fs::File>> {
    match std::fs::File::open(path) {
        Ok(file) => Ok(io::BufReader::new(file)),
        Err(error) => Err(io::Error::new(
            error.kind(),
            format!("{}: {error}", path.display()),
        )),
    }
}

fn missing(path: &Path, what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{} holds no {what} in PEM form", path.display()),
    )
}

fn read_certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = rustls_pemfile::certs(&mut open(path)?).collect::<Result<_, _>>()?;
    if certificates.is_empty() {
        return Err(missing(path, "certificate"));
    }
    Ok(certificates)
}

fn read_key(path: &Path) -> io::Result<PrivateKeyDer<'static>> {
    rustls_pemfile::private_key(&mut open(path)?)?.ok_or_else(|| missing(path, "private key"))
}
