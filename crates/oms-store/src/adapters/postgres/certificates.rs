//! Certificates that are not accepted, by us or by the server: whose fault it is, and whether waiting
//! helps.

use std::error::Error as _;
use std::io;

use rustls::{CertificateError, Error as TlsError};
use tokio_postgres::Error;

use super::connection::Untrusted;
use crate::adapters::tls::is_about_ours;

/// What is wrong about the certificates of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CertificateProblem {
    /// What it is and what to do.
    pub message: String,
    /// What becomes of it.
    pub outlook: Outlook,
}

/// What becomes of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outlook {
    /// It stays so until somebody changes a setting.
    Lasting,
    /// Somebody has to do something, perhaps at the server.
    Open,
    /// Time or a renewal heals it.
    Passing,
}

/// What tokio-postgres says of a server that answers "no" to TLS.
const NO_TLS: &str = "server does not support TLS";

/// Why connecting failed, if it was because of certificates.
pub(super) fn problem(error: &Error) -> Option<CertificateProblem> {
    let mut cause = error.source();
    while let Some(found) = cause {
        if found.to_string() == NO_TLS {
            return Some(CertificateProblem {
                message: "the server offers no TLS and so has no certificate to verify; without \
                          `sslmode` that is asked of every host that is not this machine: turn on \
                          `ssl` at the server, or write sslmode=disable to go without"
                    .into(),
                outlook: Outlook::Lasting,
            });
        }
        let inner = found
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        let tls = found.downcast_ref::<TlsError>();
        let tls = tls.or_else(|| inner?.downcast_ref::<TlsError>());
        if let Some(tls) = tls {
            return judge(tls);
        }
        cause = found.source();
    }
    None
}

fn judge(error: &TlsError) -> Option<CertificateProblem> {
    use CertificateError as Why;
    let told = |outlook, message: String| Some(CertificateProblem { message, outlook });
    let why = match error {
        TlsError::InvalidCertificate(why) => why,
        TlsError::AlertReceived(alert) if is_about_ours(*alert) => {
            return told(
                Outlook::Open,
                format!(
                    "the server does not accept our certificate ({alert:?}): look at `sslcert` \
                     (`postgres.client_cert`) here and at ssl_ca_file there"
                ),
            );
        }
        _ => return None,
    };
    let not = "the server's certificate is not accepted:";
    match why {
        Why::Other(other) => {
            let untrusted = other.0.downcast_ref::<Untrusted>();
            match untrusted {
                Some(untrusted) => told(
                    Outlook::Lasting,
                    format!(
                        "{not} it is {untrusted} (unknown issuer); name the certificate of that \
                         authority (PEM) with `sslrootcert` or `postgres.ca`"
                    ),
                ),
                None => told(Outlook::Open, format!("{not} {other}")),
            }
        }
        Why::UnknownIssuer => told(Outlook::Lasting, format!("{not} unknown issuer")),
        Why::NotValidForName | Why::NotValidForNameContext { .. } => told(
            Outlook::Lasting,
            format!(
                "{not} wrong name: {why}; connect by a name that it stands for, or verify its \
                 authority alone (sslmode=verify-ca)"
            ),
        ),
        Why::Expired | Why::ExpiredContext { .. } => told(
            Outlook::Passing,
            format!("{not} it has expired ({why}); it has to be renewed at the server"),
        ),
        Why::NotValidYet | Why::NotValidYetContext { .. } => told(
            Outlook::Passing,
            format!("{not} it is not valid yet ({why}): is the clock right, here and there?"),
        ),
        why => told(Outlook::Open, format!("{not} {why}")),
    }
}

#[cfg(test)]
mod tests {
    use rustls::AlertDescription;

    use super::*;

    #[test]
    fn only_what_may_heal_by_itself_is_waited_for() {
        for (why, outlook) in [
            (CertificateError::NotValidForName, Outlook::Lasting),
            (CertificateError::UnknownIssuer, Outlook::Lasting),
            (CertificateError::Expired, Outlook::Passing),
            (CertificateError::NotValidYet, Outlook::Passing),
            (CertificateError::Revoked, Outlook::Open),
        ] {
            let told = judge(&TlsError::InvalidCertificate(why)).expect("about a certificate");
            assert!(told.message.contains("certificate"), "{}", told.message);
            assert_eq!(told.outlook, outlook, "{}", told.message);
        }
        let ours = judge(&TlsError::AlertReceived(AlertDescription::UnknownCA));
        assert!(ours.is_some_and(
            |ours| ours.outlook == Outlook::Open && ours.message.contains("our certificate")
        ));
        let other = judge(&TlsError::AlertReceived(AlertDescription::InternalError));
        assert_eq!(other, None);
    }
}
