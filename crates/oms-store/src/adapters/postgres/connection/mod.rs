//! From what people write to a connection: every form of libpq's connection strings, and what other
//! drivers make of them, read by one parser for the pool, the configuration and `oms doctor`.
//!
//! * [`written`]: a text taken apart into names and values; nothing outside of it is looked at
//! * [`parameters`]: what each name means, and why some are refused; [`foreign`]: names of other drivers
//! * [`environment`]: libpq's variables, handed in; [`service_file`] and [`password_file`], which they
//!   name
//! * [`tls`]: what is asked of TLS, by [`tls_parameters`]; [`trust`] makes a client of rustls of it, with
//!   [`verifier`]
//!
//! A refusal names the parameter, the reason and what to write instead; it never quotes a value.

pub mod environment;
mod foreign;
mod parameters;
mod password_file;
mod service_file;
pub mod tls;
mod tls_parameters;
mod trust;
mod verifier;
pub mod written;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, Host, SslMode, SslNegotiation};

use self::environment::Environment;
use self::tls::TlsSettings;
use self::written::Written;

pub(super) use self::trust::client;
pub(super) use self::verifier::Untrusted;

/// Why a connection string cannot be used, and what would be right. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub(super) String);

impl Refused {
    fn parameter(name: &str, reason: impl std::fmt::Display) -> Self {
        Self(format!("`{name}` {reason}"))
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The service's own database, which it writes to.
    Own,
    /// Somebody else's, from which events are imported: reading is enough.
    Source,
}

/// Certificates that are named outside of the connection string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM file of the authorities to trust, as `sslrootcert`.
    pub ca: Option<PathBuf>,
    /// PEM file of the certificate to show, as `sslcert`.
    pub client_cert: Option<PathBuf>,
    /// PEM file of its key, as `sslkey`.
    pub client_key: Option<PathBuf>,
}

/// A connection string that was understood.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Hosts, account, database and session; the mode of TLS is set.
    pub config: Config,
    /// What is asked of TLS; `None` without.
    pub tls: Option<TlsSettings>,
}

impl Connection {
    /// Reads a connection string; what it leaves open comes from `environment` as with libpq.
    pub fn of(
        text: &str,
        files: &CertificateFiles,
        environment: &Environment,
        purpose: Purpose,
    ) -> Result<Self, Refused> {
        let mut given = Written::parse(text)?.given();
        parameters::add_files(&mut given, files)?;
        service_file::add(&mut given, environment)?;
        parameters::add_environment(&mut given, environment);
        let (mut config, asked) = parameters::read(&given, purpose)?;
        if config.get_hosts().is_empty() {
            return Err(Refused(
                "names no host: postgres://user:password@host:5432/db, or host=… among key=value \
                 pairs"
                    .into(),
            ));
        }
        let tls = asked.settle(&config, environment)?;
        match &tls {
            None => config.ssl_mode(SslMode::Disable),
            Some(tls) if tls.required => config.ssl_mode(SslMode::Require),
            Some(_) => config.ssl_mode(SslMode::Prefer),
        };
        if tls.is_none() && config.get_channel_binding() == ChannelBinding::Require {
            let why = "is `require`, which needs TLS, and TLS is off: set sslmode to verify-full";
            return Err(Refused::parameter("channel_binding", why));
        }
        if tls.as_ref().is_some_and(|tls| tls.direct) {
            config.ssl_negotiation(SslNegotiation::Direct);
        }
        if config.get_password().is_none() {
            let named = given.get("passfile").map(|given| given.value.as_str());
            if let Some(password) = password_file::find(&config, named, environment)? {
                config.password(password);
            }
        }
        Ok(Self { config, tls })
    }

    /// Whether every host is this machine.
    pub fn is_here(&self) -> bool {
        is_here(&self.config)
    }
}

/// Whether every host is a socket or a loopback address.
fn is_here(config: &Config) -> bool {
    let addresses = config.get_hostaddrs();
    if !addresses.is_empty() {
        return addresses.iter().all(std::net::IpAddr::is_loopback);
    }
    config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            let address = name.parse::<std::net::IpAddr>();
            name == "localhost" || address.is_ok_and(|address| address.is_loopback())
        }
    })
}

/// Whether this host is the folder of a socket, where TLS is not spoken.
fn is_socket(host: &Host) -> bool {
    matches!(host, Host::Unix(_))
}
