//! The certificate of HTTPS, read again when its files change: whoever renews certificates (ACME,
//! cert-manager) replaces the files, and connections made from then on are shown the new one. A
//! pair that cannot be used, such as a certificate whose key is not there yet, changes nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::RwLock;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use crate::file_stamp::FileStamp;

/// Where certificate and key are.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// PEM file with the certificate chain.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
    /// PEM file with the authorities whose certificates clients have to show; read once.
    pub client_ca: Option<PathBuf>,
}

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How TLS is spoken with what is in these files. They are looked at until the configuration is
/// dropped; has to be called within a runtime.
///
/// Errors: the files cannot be read, or do not fit each other.
pub fn server_config(files: TlsFiles) -> io::Result<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let clients = match &files.client_ca {
        Some(path) => required_of_clients(path, provider.clone())?,
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let shown = Arc::new(Shown {
        current: RwLock::new(Arc::new(read(&files)?)),
    });
    drop(tokio::spawn(look(files, Arc::downgrade(&shown))));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Whoever connects has to show a certificate that one of these authorities issued.
fn required_of_clients(
    path: &Path,
    provider: Arc<CryptoProvider>,
) -> io::Result<Arc<dyn ClientCertVerifier>> {
    let unfit = |why: String| {
        let message = format!("{}: {why}", path.display());
        io::Error::new(io::ErrorKind::InvalidData, message)
    };
    let mut authorities = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        authorities
            .add(certificate)
            .map_err(|e| unfit(e.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider)
        .build()
        .map_err(|e| unfit(e.to_string()))
}

/// What connections are shown.
#[derive(Debug)]
struct Shown {
    current: RwLock<Arc<CertifiedKey>>,
}

impl Shown {
    fn take(&self, pair: io::Result<CertifiedKey>, certificate: &str) {
        match pair {
            Ok(pair) => {
                *self.current.write() = Arc::new(pair);
                tracing::info!(%certificate, "HTTPS shows the certificate that is in its file now");
            }
            Err(error) => tracing::warn!(
                %certificate, %error,
                "HTTPS keeps the certificate that it has: the one in its file cannot be used"
            ),
        }
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().clone())
    }
}

/// Looks at the files again and again.
async fn look(files: TlsFiles, shown: Weak<Shown>) {
    let certificate = files.certificate.display().to_string();
    let mut seen = stamps(&files);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(shown) = shown.upgrade() else {
            return;
        };
        // Not on this thread: a file system of another machine may keep it waiting.
        let files = files.clone();
        let changed = tokio::task::spawn_blocking(move || {
            // Before it is read, so that a file that changes meanwhile is read again.
            let now = stamps(&files);
            (now != seen).then(|| (now, read(&files)))
        });
        match changed.await {
            Ok(None) => {}
            Ok(Some((now, pair))) => {
                seen = now;
                shown.take(pair, &certificate);
            }
            Err(error) => tracing::error!(%error, "the certificate of HTTPS is not looked at"),
        }
    }
}

fn stamps(files: &TlsFiles) -> [Option<FileStamp>; 2] {
    [&files.certificate, &files.key].map(|path| FileStamp::of(path))
}

fn read(files: &TlsFiles) -> io::Result<CertifiedKey> {
    let (certificates, key) = (
        read_certificates(&files.certificate)?,
        read_key(&files.key)?,
    );
    CertifiedKey::from_der(certificates, key, &ring::default_provider()).map_err(|e| {
        let (certificate, key) = (files.certificate.display(), files.key.display());
        let message = format!("{certificate} with {key}: {e}");
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::Instant;

    use oms_testkit::certificates::{Authority, Leaf};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    struct Pair {
        certificate: String,
        key: String,
        der: Vec<u8>,
    }

    fn made() -> Pair {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Pair {
            certificate: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
            der: made.cert.der().to_vec(),
        }
    }

    /// Puts a file in the place of another one, as whoever renews certificates does.
    fn replace(path: &Path, text: &str) {
        let new = path.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, path).unwrap();
    }

    fn shows(shown: &Shown) -> Vec<u8> {
        shown.current.read().cert[0].to_vec()
    }

    async fn until_shown(shown: &Shown, wanted: &[u8]) {
        let begun = Instant::now();
        while shows(shown) != wanted {
            assert!(begun.elapsed() < Duration::from_secs(30), "never shown");
            tokio::time::sleep(LOOK_EVERY / 20).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewed_certificate_is_shown_when_its_key_is_there_too() {
        let folder = std::env::temp_dir().join(format!("oms-renewed-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let files = TlsFiles {
            certificate: folder.join("tls.crt"),
            key: folder.join("tls.key"),
            client_ca: None,
        };
        let [first, second] = [made(), made()];
        replace(&files.certificate, &first.certificate);
        replace(&files.key, &first.key);
        let shown = Arc::new(Shown {
            current: RwLock::new(Arc::new(read(&files).unwrap())),
        });
        let looking = tokio::spawn(look(files.clone(), Arc::downgrade(&shown)));
        // Time goes on only while everybody waits: by now it knows what is there.
        tokio::time::sleep(LOOK_EVERY / 2).await;
        replace(&files.certificate, &second.certificate);
        tokio::time::sleep(2 * LOOK_EVERY).await;
        assert_eq!(shows(&shown), first.der, "without its key it is of no use");
        replace(&files.key, &second.key);
        until_shown(&shown, &second.der).await;
        // What cannot be read changes nothing, and what comes after it is seen.
        std::fs::remove_file(&files.certificate).unwrap();
        tokio::time::sleep(2 * LOOK_EVERY).await;
        assert_eq!(shows(&shown), second.der);
        replace(&files.certificate, &first.certificate);
        replace(&files.key, &first.key);
        until_shown(&shown, &first.der).await;
        drop(shown);
        looking.await.unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }

    /// Asks for something over HTTPS, with this certificate and its key; whether it was answered.
    async fn answered(at: &str, authority: &Authority, own: Option<&Leaf>) -> bool {
        let ca = reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap();
        let mut client = reqwest::Client::builder()
            .use_rustls_tls()
            .no_proxy()
            .add_root_certificate(ca);
        if let Some(leaf) = own {
            let pem = format!("{}{}", leaf.certificate, leaf.key);
            client = client.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
        }
        client.build().unwrap().get(at).send().await.is_ok()
    }

    #[tokio::test]
    async fn law_13_where_certificates_are_asked_for_nobody_is_heard_without_one_of_the_right_authority()
     {
        let folder = tempfile::tempdir().unwrap();
        let [ours, theirs] = ["ours", "theirs"].map(Authority::new);
        let server = ours.issue("oms", &["127.0.0.1"]);
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let files = TlsFiles {
            certificate: write("tls.crt", &server.certificate),
            key: write("tls.key", &server.key),
            client_ca: Some(write("clients.pem", &ours.pem())),
        };
        let mut config = server_config(files).unwrap();
        config.alpn_protocols.clear();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = format!("https://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // Those that are refused end here.
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
                let mut head = [0; 1024];
                if stream.read(&mut head).await.is_ok_and(|read| read > 0) {
                    stream.write_all(answer).await.unwrap();
                    stream.shutdown().await.unwrap();
                }
            }
        });
        let (right, wrong) = (ours.issue("a client", &[]), theirs.issue("a client", &[]));
        assert!(answered(&at, &ours, Some(&right)).await);
        assert!(!answered(&at, &ours, None).await);
        assert!(!answered(&at, &ours, Some(&wrong)).await);
        let expired = ours.issue_expired("a client", &[]);
        assert!(!answered(&at, &ours, Some(&expired)).await);
        serving.abort();
    }

    #[test]
    fn a_certificate_with_another_ones_key_is_refused_at_the_start() {
        let folder = std::env::temp_dir().join(format!("oms-unfit-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let files = TlsFiles {
            certificate: folder.join("tls.crt"),
            key: folder.join("tls.key"),
            client_ca: None,
        };
        replace(&files.certificate, &made().certificate);
        replace(&files.key, &made().key);
        let refused = read(&files).unwrap_err().to_string();
        assert!(
            refused.contains("tls.crt") && refused.contains("tls.key"),
            "{refused}"
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
