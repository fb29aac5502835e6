//! Makes a client of TLS: reads authorities, certificate and key.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::{load_certs_from_paths, load_native_certs};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Refused;
use super::tls::{Roots, TlsSettings, Verify};
use super::verifier::Verifier;
use crate::adapters::tls as files;

/// Group and others.
const OTHERS: u32 = 0o077;

/// What connects with TLS as it is asked.
pub(in super::super) fn client(tls: &TlsSettings) -> Result<MakeRustlsConnect, Refused> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = match (tls.at_least_13, tls.at_most_12) {
        (true, _) => vec![&TLS13],
        (_, true) => vec![&TLS12],
        _ => vec![&TLS13, &TLS12],
    };
    let (roots, known) = match tls.verify {
        Verify::Nothing => (RootCertStore::empty(), Vec::new()),
        _ => roots(tls)?,
    };
    let verifier = Verifier {
        verify: tls.verify,
        roots,
        known,
        provider: provider.clone(),
    };
    let unusable = |e: rustls::Error| Refused(format!("TLS cannot be used: {e}"));
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &tls.client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates("sslcert", certificate)?;
            let key = private_key(key)?;
            builder.with_client_auth_cert(chain, key).map_err(|e| {
                Refused::parameter("sslcert", format!("and `sslkey` cannot be used: {e}"))
            })?
        }
    };
    config.enable_sni = tls.sni;
    if tls.direct {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(MakeRustlsConnect::new(config))
}

/// Whom to trust, and the certificates of a named file.
fn roots(tls: &TlsSettings) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), Refused> {
    let mut store = RootCertStore::empty();
    if let Roots::File(path) = &tls.roots {
        let found = certificates("sslrootcert", path)?;
        let (taken, _) = store.add_parsable_certificates(found.clone());
        if taken == 0 {
            let reason = format!(
                "names {}: none of its certificates is usable",
                path.display()
            );
            return Err(Refused::parameter("sslrootcert", reason));
        }
        return Ok((store, found));
    }
    let found = match &tls.system {
        (None, None) => load_native_certs(),
        (file, dir) => {
            let found = load_certs_from_paths(file.as_deref(), dir.as_deref());
            if found.certs.is_empty() {
                let why = found.errors.first().map(|e| format!(": {e}"));
                return Err(Refused(format!(
                    "SSL_CERT_FILE and SSL_CERT_DIR name no certificates{}",
                    why.unwrap_or_default()
                )));
            }
            found
        }
    };
    let (taken, _) = store.add_parsable_certificates(found.certs);
    if taken == 0 {
        tracing::debug!("the system has no certificate authorities; the public ones are trusted");
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Ok((store, Vec::new()))
}

fn certificates(name: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Refused> {
    files::certificates(path).map_err(|e| Refused::parameter(name, format!("names {e}")))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Refused> {
    let key = files::private_key(path);
    if std::fs::metadata(path).is_ok_and(|about| about.mode() & OTHERS != 0) {
        tracing::warn!(
            file = %path.display(),
            "others can read the key of PostgreSQL's client certificate: chmod 0600"
        );
    }
    key.map_err(|e| Refused::parameter("sslkey", format!("names {e}")))
}
