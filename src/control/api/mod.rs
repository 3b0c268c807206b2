//! The HTTP API: requests of people and dashboards in, what the database and the bucket hold out.
//!
//! One table, [`operations`], says which calls there are; the router, the check of keys and the `OpenAPI` document are
//! made from it. Whatever goes wrong is answered with a problem document of RFC 9457.

pub mod settings;
pub mod operations;
pub mod openapi;
pub mod problem;
pub mod extract;
pub mod access;
pub mod page;

// What can be asked for.
pub mod health;
pub mod catalogue;
pub mod runs;
pub mod values;
pub mod assets;

// How it is served.
pub mod lambda;
pub mod serve;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header::{CACHE_CONTROL, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;
use sqlx::PgPool;

use crate::request::Rules;
use crate::storage::ObjectStorage;
use access::Writers;
use problem::Problem;

/// What every call can reach.
#[derive(Clone)]
pub struct Api {
    /// The database.
    pub pool: PgPool,
    /// Where the values of metrics lie.
    pub storage: Arc<dyn ObjectStorage>,
    /// What is registered is held against them, as the worker will.
    pub rules: Arc<Rules>,
    /// Who may write.
    pub writers: Writers,
}

/// The whole API.
pub fn router(api: Api) -> Router {
    let body_bytes = api.rules.body_bytes;
    let mut router = Router::new();
    for operation in operations::operations() {
        let handler = match operation.writes() {
            // Before the body is read: whoever may not write does not get to send one.
            true => operation.handler.route_layer(from_fn_with_state(api.clone(), access::check)),
            false => operation.handler,
        };
        router = router.route(operation.path, handler);
    }
    for asset in assets::ASSETS {
        router = router.route(asset.path, axum::routing::get(async move || asset.response()));
    }
    router
        .route(openapi::PATH, axum::routing::get(openapi::serve))
        .fallback(async || Problem::no_such_path())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(DefaultBodyLimit::max(body_bytes))
        .layer(map_response(with_headers))
        .with_state(api)
}

/// Answers change with the next run, and no browser shall guess what they are.
async fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
