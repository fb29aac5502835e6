//! Every route, in one table, from which the application is configured, tokens are checked and the
//! OpenAPI document is built, so that the three cannot differ.

use std::sync::Arc;

use actix_web::http::Method;
use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, Route, guard, web};
use utoipa::OpenApi;

use super::auth::Access;
use super::door::Door;
use super::limits::HttpLimits;
use super::middleware::RequestPipeline;
use super::problem::{self, Problem};
use super::{
    about, admin, audit, batch, classes, commands, console, databases, docs, events, health,
    instances, jobs, log, migration, query, recent, streams,
};

#[derive(Debug, Clone, Copy)]
pub struct RouteSpec {
    pub method: &'static str,
    /// Its path, with parameters in braces.
    pub path: &'static str,
    /// The role it requires.
    pub access: Access,
}

macro_rules! routes {
    ($( $path:literal $([$guard:ident])? {
        $( $method:ident $access:ident => $module:ident :: $handler:ident; )+
    } )+) => {
        /// Every route of the API.
        pub const ROUTES: &[RouteSpec] = &[$($(RouteSpec {
            method: stringify!($method),
            path: $path,
            access: Access::$access,
        },)+)+];

        /// The handlers' annotations, combined.
        #[derive(OpenApi)]
        #[openapi(paths($($($module::$handler),+),+))]
        pub struct Document;

        fn add_routes(cfg: &mut web::ServiceConfig, limits: &Arc<HttpLimits>, door: Door) {
            $(if door.serves($path) {
                let methods = vec![$((Method::$method, Access::$access)),+];
                let resource = web::resource($path)
                    $(.guard(guard::$guard()))?
                    $(.route(method(Method::$method).to($module::$handler)))+
                    .default_service(other_methods(&methods));
                cfg.service(resource.wrap(RequestPipeline::new(limits.clone(), $path, methods)));
            })+
        }
    };
}

routes! {
    "/api/v1/databases" {
        POST Write => databases::create;
        GET Read => databases::list;
    }
    "/api/v1/databases/{db}" {
        GET Read => databases::get;
        DELETE Write => databases::delete;
    }
    "/api/v1/databases/{db}/history" {
        GET Read => databases::history;
    }
    "/api/v1/databases/{db}/classes" {
        POST Write => classes::create;
        GET Read => classes::list;
    }
    "/api/v1/databases/{db}/classes/{class}" {
        GET Read => classes::get;
        PUT Write => classes::replace;
        DELETE Write => classes::delete;
    }
    "/api/v1/databases/{db}/classes/{class}/history" {
        GET Read => classes::history;
    }
    "/api/v1/databases/{db}/classes/{class}/instances" {
        POST Write => instances::create;
        GET Read => instances::list;
    }
    // Instances may be named `query` and `batch`: only a POST means these two.
    "/api/v1/databases/{db}/classes/{class}/instances/query" [Post] {
        POST Read => query::query;
    }
    "/api/v1/databases/{db}/classes/{class}/instances/batch" [Post] {
        POST Write => batch::batch;
    }
    "/api/v1/databases/{db}/classes/{class}/instances/{id}" {
        GET Read => instances::get;
        PATCH Write => instances::patch;
        DELETE Write => instances::delete;
    }
    "/api/v1/databases/{db}/classes/{class}/instances/{id}/history" {
        GET Read => instances::history;
    }
    "/api/v1/streams/{type}/{id}/events" {
        POST Write => streams::append;
        GET Read => streams::read;
    }
    "/api/v1/events" {
        GET Read => events::feed;
    }
    "/api/v1/commands/{command_id}" {
        GET Read => commands::get;
    }
    "/api/v1/log/{partition}/{offset}" {
        GET Read => log::commit;
    }
    "/api/v1/me" {
        GET Known => about::me;
    }
    "/api/v1/admin/service" {
        GET Admin => about::service;
    }
    "/api/v1/admin/metrics" {
        GET Admin => recent::recent;
    }
    "/api/v1/admin/migration" {
        GET Admin => migration::status;
    }
    "/api/v1/admin/migration/mode" {
        POST Admin => migration::switch_mode;
    }
    "/api/v1/admin/migration/history" {
        GET Admin => migration::history;
    }
    "/api/v1/admin/migration/switches/{id}" {
        GET Admin => migration::switch;
        DELETE Admin => migration::cancel;
    }
    "/api/v1/admin/migration/backfill" {
        POST Admin => jobs::backfill;
        GET Admin => jobs::last_backfill;
    }
    "/api/v1/admin/migration/backfill/{job}" {
        GET Admin => jobs::get_backfill;
    }
    "/api/v1/admin/migration/verify" {
        POST Admin => jobs::verify;
        GET Admin => jobs::last_verify;
    }
    "/api/v1/admin/migration/verify/{job}" {
        GET Admin => jobs::get_verify;
    }
    "/api/v1/admin/migration/repair" {
        POST Admin => jobs::repair;
        GET Admin => jobs::last_repair;
    }
    "/api/v1/admin/migration/repair/{job}" {
        GET Admin => jobs::get_repair;
    }
    "/api/v1/admin/migration/archive" {
        POST Admin => jobs::archive;
        GET Admin => jobs::last_archive;
    }
    "/api/v1/admin/migration/archive/{job}" {
        GET Admin => jobs::get_archive;
    }
    "/api/v1/admin/actors" {
        GET Admin => admin::actors;
    }
    "/api/v1/admin/actors/kill" {
        POST Admin => admin::kill;
    }
    "/api/v1/admin/actors/failpoints" {
        POST Admin => admin::arm_failpoint;
        GET Admin => admin::failpoints;
    }
    "/api/v1/admin/chaos/clock" {
        PUT Admin => admin::shift_clock;
    }
    "/api/v1/admin/audit" {
        GET Admin => audit::list;
    }
    "/api/v1/admin/outbox" {
        GET Admin => admin::outbox;
    }
    "/api/v1/admin/outbox/dead" {
        GET Admin => admin::dead_letters;
    }
    "/api/v1/admin/outbox/dead/{id}/requeue" {
        POST Admin => admin::requeue;
    }
    "/api/v1/admin/outbox/dead/{id}/discard" {
        POST Admin => admin::discard;
    }
    "/api/v1/admin/projections" {
        GET Admin => admin::projections;
    }
    "/api/v1/admin/projections/{name}/rebuild" {
        POST Admin => admin::rebuild;
    }
    "/health" {
        GET Public => health::health;
    }
    "/health/live" {
        GET Public => health::live;
    }
    "/health/ready" {
        GET Public => health::ready;
    }
    "/metrics" {
        GET Public => health::metrics;
    }
}

/// Adds every route that is served behind this door, and the 404 for everything else.
pub fn configure(cfg: &mut web::ServiceConfig, limits: &Arc<HttpLimits>, door: Door) {
    add_routes(cfg, limits, door);
    let get = vec![(Method::GET, Access::Public)];
    let hidden = |path: &'static str| {
        let pipeline = RequestPipeline::new(limits.clone(), path, get.clone());
        (
            web::resource(path).default_service(other_methods(&get)),
            pipeline,
        )
    };
    // Not described in the document, because they are the document.
    let (document, pipeline) = hidden("/openapi.json");
    cfg.service(
        document
            .route(method(Method::GET).to(docs::json_document))
            .wrap(pipeline),
    );
    let (docs, pipeline) = hidden("/docs/{tail:.*}");
    cfg.service(
        docs.route(method(Method::GET).to(docs::docs))
            .wrap(pipeline),
    );
    if door.serves("/console") {
        // Files only: their data comes through the API.
        let (files, pipeline) = hidden("/console/{tail:.*}");
        cfg.service(
            files
                .route(method(Method::GET).to(console::file))
                .wrap(pipeline),
        );
        let (entrance, pipeline) = hidden("/console");
        cfg.service(
            entrance
                .route(method(Method::GET).to(console::to_console))
                .wrap(pipeline),
        );
    }
    for path in ["/", "/docs"] {
        let (entrance, pipeline) = hidden(path);
        cfg.service(
            entrance
                .route(method(Method::GET).to(docs::to_docs))
                .wrap(pipeline),
        );
    }
    let pipeline = RequestPipeline::new(limits.clone(), "unmatched", vec![]);
    cfg.service(
        web::resource("/{unmatched:.*}")
            .default_service(web::route().to(move |req| not_found(req, door)))
            .wrap(pipeline),
    );
}

/// A method's route; GET also serves HEAD, whose body the server omits.
fn method(method: Method) -> Route {
    if method == Method::GET {
        web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
    } else {
        web::method(method)
    }
}

/// The answer to methods that a resource does not have: OPTIONS gets the list of methods, others
/// get 405 with it.
fn other_methods(methods: &[(Method, Access)]) -> Route {
    let own: Vec<String> = methods.iter().map(|(m, _)| m.to_string()).collect();
    web::route().to(move |req: HttpRequest| {
        let names = allowed(&own, req.path());
        async move {
            let allow =
                HeaderValue::try_from(&names).map_err(|e| Problem::internal(e.to_string()))?;
            if req.method() == Method::OPTIONS {
                return Ok(HttpResponse::NoContent()
                    .insert_header((ALLOW, allow))
                    .finish());
            }
            let detail = format!("{} takes {names}", req.path());
            Err(Problem::new(problem::METHOD_NOT_ALLOWED, detail).with_header(ALLOW, allow))
        }
    })
}

/// The methods that a path takes: those of its resource, and those of another that it means with
/// these methods alone, as the instance called `batch` and the batch.
fn allowed(own: &[String], path: &str) -> String {
    let mut names: Vec<&str> = own.iter().map(String::as_str).collect();
    let more = ROUTES.iter().filter(|route| is_at(route.path, path));
    for route in more {
        if !names.contains(&route.method) {
            names.push(route.method);
        }
    }
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.push("OPTIONS");
    names.join(", ")
}

/// Whether a path is one of those that a pattern stands for.
fn is_at(pattern: &str, path: &str) -> bool {
    let (mut parts, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (parts.next(), given.next()) {
            (None, None) => return true,
            (Some(part), Some(given)) if part == given || part.starts_with('{') => {}
            _ => return false,
        }
    }
}

async fn not_found(req: HttpRequest, door: Door) -> Result<HttpResponse, Problem> {
    let path = req.path();
    let detail = if door.serves(path) {
        format!("there is nothing at {path}")
    } else {
        format!("{path} is served where administrators listen, not here (http.admin_port)")
    };
    Err(Problem::new(problem::ROUTE_NOT_FOUND, detail))
}

#[cfg(test)]
mod tests;
