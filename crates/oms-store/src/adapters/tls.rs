//! What a client of a store trusts, and the certificate by which it is known itself.

use std::error::Error as StdError;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};

/// Files of a client's TLS, all PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// The client's own certificate with those that sign it; goes with `client_key`.
    pub client_cert: Option<PathBuf>,
    /// The key of `client_cert`, not encrypted.
    pub client_key: Option<PathBuf>,
}

/// A file that cannot be used; names it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct TlsFileError {
    path: PathBuf,
    why: String,
}

impl TlsFileError {
    fn new(path: &Path, why: &dyn Display) -> Self {
        Self {
            path: path.to_owned(),
            why: why.to_string(),
        }
    }
}

/// The configuration of a client that verifies the server's certificate and its name.
pub fn client_config(files: &TlsFiles) -> Result<ClientConfig, TlsFileError> {
    let roots = match &files.ca {
        Some(ca) => named_roots(ca)?,
        None => system_roots(),
    };
    client_config_with(roots, files)
}

/// The configuration of a client of others than the store: it trusts the system's authorities and
/// those that are named for the store, and shows no certificate.
pub fn client_config_of_others(files: &TlsFiles) -> Result<ClientConfig, TlsFileError> {
    let mut roots = system_roots();
    if let Some(ca) = &files.ca {
        roots.extend(named_roots(ca)?.roots);
    }
    client_config_with(roots, &TlsFiles::default())
}

fn client_config_with(
    roots: RootCertStore,
    files: &TlsFiles,
) -> Result<ClientConfig, TlsFileError> {
    // `ring` has the default versions of TLS, which is the only way to fail here.
    let builder =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(rustls::DEFAULT_VERSIONS)
            .map_err(|e| TlsFileError::new(Path::new("TLS"), &e))?
            .with_root_certificates(roots);
    let (Some(cert), Some(key)) = (&files.client_cert, &files.client_key) else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(cert)?;
    builder
        .with_client_auth_cert(chain, private_key(key)?)
        .map_err(|e| TlsFileError::new(cert, &e))
}

/// The certificates of a file, as authorities.
pub fn named_roots(path: &Path) -> Result<RootCertStore, TlsFileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|e| TlsFileError::new(path, &e))?;
    }
    Ok(roots)
}

/// The system's authorities, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`; where there are none,
/// as in an image without them, the public ones that this program brings.
pub fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some of the system's certificates cannot be read");
    }
    let mut roots = RootCertStore::empty();
    // Those of a system that are no certificates are of no use to anybody.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

/// The certificates of a PEM file, one at least.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let pem = std::fs::read(path).map_err(|e| TlsFileError::new(path, &e))?;
    let found = rustls_pemfile::certs(&mut pem.as_slice()).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if found.is_empty() => Err(TlsFileError::new(
            path,
            &"there is no certificate in it, in PEM",
        )),
        Ok(found) => Ok(found),
        Err(error) => Err(TlsFileError::new(path, &error)),
    }
}

/// The key of a PEM file.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    let pem = std::fs::read(path).map_err(|e| TlsFileError::new(path, &e))?;
    match rustls_pemfile::private_key(&mut pem.as_slice()) {
        Ok(Some(key)) => Ok(key),
        Ok(None) => Err(TlsFileError::new(
            path,
            &"there is no unencrypted key in it, in PEM (`openssl pkey -in KEY -out PLAIN` takes the \
              password away)",
        )),
        Err(error) => Err(TlsFileError::new(path, &error)),
    }
}

/// What a certificate's refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateRefusal {
    /// It is too old or too new: time, or a renewal, will heal it.
    Expired,
    /// Waiting does not help.
    Untrusted,
    /// It is the server that does not accept the client's certificate, or asks for one.
    Ours,
}

/// Whether a failure to connect comes from the server's certificate, found among its causes.
pub fn certificate_refusal(error: &(dyn StdError + 'static)) -> Option<CertificateRefusal> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref::<rustls::Error>() {
            Some(rustls::Error::InvalidCertificate(refused)) => return Some(judge(refused)),
            Some(rustls::Error::AlertReceived(alert)) => {
                return is_about_ours(*alert).then_some(CertificateRefusal::Ours);
            }
            Some(_) => return None,
            None => {}
        }
        // An I/O error hides what it holds: its source is that of its content.
        let held = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        cause = match held {
            Some(held) => Some(held as &(dyn StdError + 'static)),
            None => error.source(),
        };
    }
    None
}

/// Whether the server says by this that it wants another certificate of the client's.
pub fn is_about_ours(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateRequired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied
    )
}

fn judge(refused: &CertificateError) -> CertificateRefusal {
    match refused {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => CertificateRefusal::Expired,
        _ => CertificateRefusal::Untrusted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let dir = std::env::temp_dir().join(format!("oms-tls-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let empty = dir.join("empty.pem");
        std::fs::write(&empty, "nothing").unwrap();
        let missing = dir.join("missing.pem");
        for path in [&empty, &missing] {
            let files = TlsFiles {
                ca: Some(path.clone()),
                ..TlsFiles::default()
            };
            let refused = client_config(&files).unwrap_err().to_string();
            assert!(refused.contains(path.to_str().unwrap()), "{refused}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn only_time_heals_a_certificate() {
        let held = |refused| {
            let error = rustls::Error::InvalidCertificate(refused);
            std::io::Error::new(std::io::ErrorKind::InvalidData, error)
        };
        let expired = held(CertificateError::Expired);
        assert_eq!(
            certificate_refusal(&expired),
            Some(CertificateRefusal::Expired)
        );
        let unknown = held(CertificateError::UnknownIssuer);
        let wrapped = std::io::Error::other(unknown);
        assert_eq!(
            certificate_refusal(&wrapped),
            Some(CertificateRefusal::Untrusted)
        );
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(certificate_refusal(&refused), None);
    }
}
