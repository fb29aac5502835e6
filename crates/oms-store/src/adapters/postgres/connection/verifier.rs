//! Verifies the server's certificate as far as it is asked.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::tls::Verify;

/// A certificate whose authority is not trusted. rustls does not say whose it is.
#[derive(Debug, thiserror::Error)]
#[error("issued by {issuer}, which is not trusted here")]
pub struct Untrusted {
    /// The name of the authority, or `itself`.
    pub issuer: String,
}

/// Verifies a server's certificate.
#[derive(Debug)]
pub(super) struct Verifier {
    pub verify: Verify,
    pub roots: RootCertStore,
    /// The certificates of a named file: a server's own may be among them, without an authority.
    pub known: Vec<CertificateDer<'static>>,
    pub provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.verify == Verify::Nothing {
            return Ok(ServerCertVerified::assertion());
        }
        let certificate = ParsedCertificate::try_from(end_entity)?;
        // A self-signed one that was named is trusted as it is, as with OpenSSL; webpki would refuse
        // it as an authority in place of a server.
        if !self.known.contains(end_entity) {
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                &self.roots,
                intermediates,
                now,
                algorithms,
            )
            .map_err(|error| whose(error, end_entity))?;
        }
        if self.verify == Verify::Name {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// Adds to an unknown issuer its name.
fn whose(error: Error, certificate: &CertificateDer<'_>) -> Error {
    let parsed = Certificate::from_der(certificate).ok();
    let signed_itself = parsed
        .as_ref()
        .is_some_and(|parsed| parsed.tbs_certificate.issuer == parsed.tbs_certificate.subject);
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {}
        // An authority's certificate in place of a server's: what `openssl req -x509` makes.
        Error::InvalidCertificate(CertificateError::Other(_)) if signed_itself => {}
        error => return error,
    }
    let issuer = match parsed {
        _ if signed_itself => "itself".to_owned(),
        Some(parsed) => parsed.tbs_certificate.issuer.to_string(),
        None => "an authority whose name cannot be read".to_owned(),
    };
    let untrusted = OtherError(Arc::new(Untrusted { issuer }));
    Error::InvalidCertificate(CertificateError::Other(untrusted))
}
