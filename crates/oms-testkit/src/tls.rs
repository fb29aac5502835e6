//! TLS in front of a server that speaks none, and certificates as files.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::certificates::{Authority, Leaf};

/// PEM files that are removed with this value.
pub struct PemFiles(TempDir);

/// The files of a certificate and its key.
pub struct LeafFiles {
    /// The certificate.
    pub cert: PathBuf,
    /// Its key, which only the owner may read.
    pub key: PathBuf,
}

impl Default for PemFiles {
    fn default() -> Self {
        Self(TempDir::new().expect("a directory"))
    }
}

impl PemFiles {
    /// The file of an authority.
    pub fn authority(&self, authority: &Authority) -> PathBuf {
        self.write("ca", &authority.pem())
    }

    /// The files of a certificate.
    pub fn leaf(&self, leaf: &Leaf) -> LeafFiles {
        LeafFiles {
            cert: self.write("cert", &leaf.certificate),
            key: self.write("key", &leaf.key),
        }
    }

    fn write(&self, what: &str, pem: &str) -> PathBuf {
        let path = self
            .0
            .path()
            .join(format!("{what}-{}.pem", crate::new_uuid()));
        write_private(&path, pem);
        path
    }
}

fn write_private(path: &Path, text: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.expect("a file")
        .write_all(text.as_bytes())
        .expect("written");
}

/// TLS on loopback in front of a server that speaks none; ends with this value.
pub struct TlsFront {
    /// Its port.
    pub port: u16,
    task: tokio::task::JoinHandle<()>,
}

impl TlsFront {
    /// Begins with the certificate of the server and, if clients must show a certificate, the authority
    /// that signs theirs.
    pub async fn start(target: SocketAddr, leaf: &Leaf, clients: Option<&Authority>) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(config(leaf, clients)));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A client that does not trust ends the handshake.
                    let Ok(mut client) = acceptor.accept(client).await else {
                        return;
                    };
                    let mut server = TcpStream::connect(target).await.expect("the server");
                    // Either end may break off.
                    tokio::io::copy_bidirectional(&mut client, &mut server)
                        .await
                        .ok();
                });
            }
        });
        Self { port, task }
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn config(leaf: &Leaf, clients: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions of TLS");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der()).expect("an authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    let cert = CertificateDer::from_pem_slice(leaf.certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).expect("a key");
    builder
        .with_single_cert(vec![cert.expect("a certificate")], key)
        .expect("an identity")
}
