//! The HTTP server's settings from the configuration.

use std::net::{SocketAddr, TcpListener};

use anyhow::Context as _;

use crate::config::Config;
use crate::config::auth::{AuthConfig, TokenRole};
use crate::config::http::HttpConfig;
use crate::config::oidc::PRINCIPAL_PREFIX;
use crate::config::roles::Role;
use crate::embedded::Endpoints;
use crate::http::{About, Expected, HttpSettings, Issuer, Listening, Roles, TlsFiles, Token};

pub fn settings(config: &Config) -> HttpSettings {
    let http = &config.http;
    let tls = match (&http.tls_cert, &http.tls_key) {
        (Some(certificate), Some(key)) => Some(TlsFiles {
            certificate: certificate.clone(),
            key: key.clone(),
            client_ca: http.client_ca.clone(),
        }),
        _ => None,
    };
    HttpSettings {
        host: http.host.clone(),
        port: http.port,
        admin_host: http.admin_host.clone(),
        admin_port: http.admin_port,
        workers: http.workers,
        max_body_bytes: http.max_body_bytes,
        max_in_flight: http.max_in_flight,
        max_body_bytes_in_flight: http.max_body_bytes_in_flight,
        max_response_bytes_in_flight: http.max_response_bytes_in_flight,
        max_streams: http.max_streams,
        max_streams_per_principal: http.max_streams_per_principal,
        max_connections: http.max_connections,
        request_deadline: http.request_deadline,
        head_timeout: http.head_timeout,
        body_timeout: http.body_timeout,
        write_timeout: http.write_timeout,
        keep_alive: http.keep_alive,
        shutdown_timeout: http.shutdown_timeout,
        hsts: (tls.is_some() && !http.is_loopback() && !http.hsts.is_zero()).then_some(http.hsts),
        tls,
        cors_origins: http.cors_origins.clone(),
    }
}

/// Whether the addresses can be had, before anything takes part in the log: a port in use is the
/// commonest mistake.
pub fn try_to_listen(http: &HttpConfig) -> anyhow::Result<()> {
    let own = http.admin_port.map(|port| (http.admin_host.as_str(), port));
    for (host, port) in [(http.host.as_str(), http.port)].into_iter().chain(own) {
        TcpListener::bind((host, port))
            .with_context(|| format!("cannot listen on {host}:{port}"))?;
    }
    Ok(())
}

/// The addresses that are asked for.
pub fn wanted(http: &HttpConfig) -> String {
    let callers = format!("{}:{}", http.host, http.port);
    match http.admin_port {
        Some(port) => format!("{callers} and {}:{port}", http.admin_host),
        None => callers,
    }
}

/// Base URLs for callers, and for administrators where they have an address of their own.
pub fn urls(http: &HttpConfig, listening: &Listening) -> (String, Option<String>) {
    let scheme = if http.tls_cert.is_some() {
        "https"
    } else {
        "http"
    };
    let url = |host: &str, addresses: &[SocketAddr]| {
        let port = addresses.first().map(SocketAddr::port)?;
        let host = match host {
            "0.0.0.0" | "::" | "localhost" => "127.0.0.1".to_owned(),
            host if host.contains(':') => format!("[{host}]"),
            host => host.to_owned(),
        };
        Some(format!("{scheme}://{host}:{port}"))
    };
    let callers = url(&http.host, &listening.callers);
    let administrators = url(&http.admin_host, &listening.administrators);
    (callers.unwrap_or_default(), administrators)
}

/// What the API says about this process.
pub fn about(config: &Config, embedded: &Endpoints, node: String, partitions: u16) -> About {
    let own = embedded.s3.as_ref().map(|s3| s3.endpoint.clone());
    About {
        version: env!("CARGO_PKG_VERSION"),
        node,
        roles: [
            (Role::Api, "api"),
            (Role::Relay, "relay"),
            (Role::Projection, "projection"),
        ]
        .into_iter()
        .filter_map(|(role, name)| config.roles.has(role).then_some(name))
        .collect(),
        chaos: config.chaos.enabled,
        partitions,
        bucket: config.s3.bucket.clone(),
        s3_endpoint: own.or_else(|| config.s3.endpoint.clone()),
        sources: config.migration.sources.keys().cloned().collect(),
    }
}

/// The configured tokens with their roles.
pub fn tokens(auth: &AuthConfig) -> Vec<Token> {
    auth.all_tokens()
        // Malformed hashes were refused when the configuration was checked.
        .filter_map(|t| {
            Some(Token {
                name: t.name.as_str().into(),
                sha256: t.hash()?,
                roles: Roles {
                    read: t.roles.contains(&TokenRole::Read),
                    write: t.roles.contains(&TokenRole::Write),
                    admin: t.roles.contains(&TokenRole::Admin),
                },
                expires: t.expires,
            })
        })
        .collect()
}

/// The provider whose tokens are taken too, if there is one.
pub fn issuer(config: &Config) -> Option<Issuer> {
    let oidc = &config.auth.oidc;
    Some(Issuer::new(Expected {
        issuer: oidc.issuer.clone()?,
        audience: oidc.audience.clone(),
        principal_claim: oidc.principal_claim.clone(),
        principal_prefix: PRINCIPAL_PREFIX,
        roles_claim: oidc.roles_claim.clone(),
        read: oidc.read.clone(),
        write: oidc.write.clone(),
        admin: oidc.admin.clone(),
        // At most ten minutes, by the configuration's check.
        skew_seconds: i64::try_from(oidc.clock_skew.as_secs()).unwrap_or(0),
    }))
}
