//! The HTTP server's settings from the configuration.

use crate::config::Config;
use crate::config::auth::TokenRole;
use crate::config::roles::Role;
use crate::embedded::Endpoints;
use crate::http::{About, HttpSettings, Roles, TlsFiles, Token};

pub fn settings(config: &Config) -> HttpSettings {
    let http = &config.http;
    let tls = match (&http.tls_cert, &http.tls_key) {
        (Some(certificate), Some(key)) => Some(TlsFiles {
            certificate: certificate.clone(),
            key: key.clone(),
        }),
        _ => None,
    };
    HttpSettings {
        host: http.host.clone(),
        port: http.port,
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
        tls,
        cors_origins: http.cors_origins.clone(),
    }
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
pub fn tokens(config: &Config) -> Vec<Token> {
    let known = config.auth.tokens.iter();
    known
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
            })
        })
        .collect()
}
