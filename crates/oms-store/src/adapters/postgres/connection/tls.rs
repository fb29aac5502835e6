//! What is asked of TLS, with libpq's meaning of the words; only where nothing is said it is stricter.

use std::path::PathBuf;
use std::str::FromStr;

use tokio_postgres::Config;

use super::environment::Environment;
use super::{Refused, is_here, is_socket};

/// Values of `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Disable,
    /// `allow` too.
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "disable" => Self::Disable,
            "allow" | "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => {
                return Err(
                    "must be disable, allow, prefer, require, verify-ca or verify-full".into(),
                );
            }
        })
    }
}

/// What of the server's certificate is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// Nothing: whoever answers is taken for the server.
    Nothing,
    /// That a trusted authority issued it.
    Issuer,
    /// That, and that it stands for the host.
    Name,
}

/// Which authorities are trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// Those in a PEM file.
    File(PathBuf),
    /// Those of the system, or the public ones where it has none.
    System,
}

/// What is asked of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// What is verified.
    pub verify: Verify,
    /// Whether a server without TLS is refused.
    pub required: bool,
    /// By which authorities.
    pub roots: Roots,
    /// PEM files of the certificate to show and its key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Whether TLS begins without asking first (PostgreSQL 17).
    pub direct: bool,
    /// Whether the name of the host is told to the server.
    pub sni: bool,
    /// TLS 1.3 alone.
    pub at_least_13: bool,
    /// TLS 1.2 alone.
    pub at_most_12: bool,
    /// File and folder that take the place of the system's authorities.
    pub system: (Option<PathBuf>, Option<PathBuf>),
}

/// What was read of TLS, before it is held to the hosts.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub mode: Option<Mode>,
    pub roots: Option<Roots>,
    /// Whether authorities or a certificate are named by more than the environment.
    pub explicit: bool,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// No certificate is shown.
    pub silent: bool,
    /// The host's name is not told.
    pub nameless: bool,
    pub direct: bool,
    pub at_least_13: bool,
    pub at_most_12: bool,
}

impl Asked {
    /// What holds for these hosts; `None` without TLS.
    pub fn settle(
        self,
        config: &Config,
        environment: &Environment,
    ) -> Result<Option<TlsSettings>, Refused> {
        let hosts = config.get_hosts();
        // As libpq: TLS is not spoken on a socket, whatever was asked for.
        if hosts.iter().all(is_socket) && config.get_hostaddrs().is_empty() {
            return Ok(None);
        }
        let mode = self.mode.unwrap_or(
            // Nothing is said: safe on the way to another machine, without TLS on this one.
            match self.explicit || self.direct || !is_here(config) {
                true => Mode::VerifyFull,
                false => Mode::Disable,
            },
        );
        if self.direct && matches!(mode, Mode::Disable | Mode::Prefer) {
            let reason = "direct goes with sslmode=require, verify-ca or verify-full";
            return Err(Refused::parameter("sslnegotiation", reason));
        }
        if mode == Mode::Disable {
            return Ok(None);
        }
        if self.roots == Some(Roots::System) && mode != Mode::VerifyFull {
            let reason = "system goes with sslmode=verify-full: anybody gets a certificate from a \
                          public authority, so the name has to be verified";
            return Err(Refused::parameter("sslrootcert", reason));
        }
        let required = mode != Mode::Prefer;
        if required && hosts.iter().any(is_socket) {
            let reason = "names sockets beside addresses: TLS is not spoken on a socket; give one \
                          kind of them, or sslmode=disable";
            return Err(Refused::parameter("host", reason));
        }
        if self.at_least_13 && self.at_most_12 {
            let reason = "is below ssl_min_protocol_version";
            return Err(Refused::parameter("ssl_max_protocol_version", reason));
        }
        let client = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(Refused::parameter(
                    "sslcert",
                    "goes with `sslkey`, the key of that certificate",
                ));
            }
            (None, Some(_)) => {
                return Err(Refused::parameter(
                    "sslkey",
                    "goes with `sslcert`, the certificate of that key",
                ));
            }
        };
        let verify = match (mode, &self.roots) {
            (Mode::VerifyFull, _) => Verify::Name,
            (Mode::VerifyCa, _) | (Mode::Require, Some(_)) => Verify::Issuer,
            _ => Verify::Nothing,
        };
        Ok(Some(TlsSettings {
            verify,
            required,
            roots: self.roots.unwrap_or(Roots::System),
            client: client.filter(|_| !self.silent),
            direct: self.direct,
            sni: !self.nameless,
            at_least_13: self.at_least_13,
            at_most_12: self.at_most_12,
            system: (
                environment.path("SSL_CERT_FILE"),
                environment.path("SSL_CERT_DIR"),
            ),
        }))
    }
}
