//! The HTTP API: JSON over [`Service`], failures as RFC 9457 problems.
//!
//! A request passes [`middleware`] (request id, admission, token, deadline), is matched by
//! [`routes`] (the one table of them), has its ids, headers and body checked by [`path`],
//! [`headers`], [`json`] and [`extract`], is handled by the file named after its resource, and is
//! answered through [`respond`] ([`paging`]: lists in parts) or as a [`problem`].
//!
//! * [`mod@server`], [`wire`], [`connection`], [`outgoing`]: connections, their bytes and deadlines;
//!   [`certificate`]: what HTTPS shows, read again when it is renewed
//! * [`limits`]: settings and limits; [`auth`]: tokens, configured and signed by a provider, and roles; [`same_site`]: rejects web pages
//!   where there are no tokens; [`cors`]: which pages may read answers
//! * [`databases`], [`classes`], [`instances`], [`query`], [`batch`]: the ontology
//! * [`streams`], [`events`], [`sse`], [`commands`], [`mod@log`]: the events
//! * [`admin`], [`migration`], [`jobs`], [`health`]: operations; [`audit`], [`audited`]: who requested what
//! * [`about`]: the caller and this process; [`recent`]: its last hour
//! * [`console`]: the files of the web console, a client of this API
//! * [`openapi`]: the API's description; [`docs`]: its pages
//!
//! What cannot be a problem: a head that is not HTTP, too long or too slow is answered by actix
//! with an empty 400, 431 or 408 before there is a request.

pub mod about;
pub mod admin;
pub mod audit;
pub mod audited;
pub mod auth;
pub mod batch;
pub mod certificate;
pub mod classes;
pub mod commands;
pub mod connection;
pub mod console;
pub mod cors;
pub mod databases;
pub mod docs;
pub mod door;
pub mod events;
pub mod extract;
pub mod headers;
pub mod health;
pub mod instances;
pub mod jobs;
pub mod json;
pub mod limits;
pub mod log;
pub mod middleware;
pub mod migration;
pub mod openapi;
pub mod outgoing;
pub mod paging;
pub mod path;
pub mod problem;
pub mod query;
pub mod recent;
pub mod respond;
pub mod routes;
pub mod same_site;
pub mod server;
pub mod sse;
pub mod streams;
pub mod wire;

use std::sync::Arc;

use actix_web::web;

pub use about::About;
pub use auth::issuer::Issuer;
pub use auth::jwt::Expected;
pub use auth::{Roles, Token};
pub use certificate::TlsFiles;
pub use door::Door;
pub use limits::{HttpLimits, HttpSettings};
pub use server::{Listening, server};

use crate::metrics::recent::Recent;
use crate::service::Service;

pub struct HttpState {
    pub service: Arc<Service>,
    /// This process's metrics, from `metrics::install`.
    pub metrics: crate::metrics::Exporter,
    /// Their last hour.
    pub recent: Arc<Recent>,
    pub about: About,
    pub limits: Arc<HttpLimits>,
}

/// Adds the API, as far as it is served behind this door, to an application.
pub fn configure(cfg: &mut web::ServiceConfig, state: web::Data<HttpState>, door: Door) {
    routes::configure(cfg, &state.limits, door);
    cfg.app_data(web::Data::new(docs::Description(openapi::text)));
    cfg.app_data(state);
}

#[cfg(test)]
mod bodies_tests;
#[cfg(test)]
mod hostile_http2_tests;
#[cfg(test)]
mod hostile_tests;
