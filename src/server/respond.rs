//! Answers that every listener gives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, StatusCode, Version};

use super::Gate;
use crate::telemetry::{Metrics, metrics};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const METRICS: HeaderValue = HeaderValue::from_static(metrics::CONTENT_TYPE);

/// What a process without reviews answers: health, readiness by `gate` until it is about to end, metrics.
pub(super) fn bare_probes(gate: Gate, metrics: Arc<Metrics>, draining: Arc<AtomicBool>) -> Router {
    let ready = move || if draining.load(Ordering::Acquire) { Err("shutting down".to_owned()) } else { gate() };
    probe_routes(ready, metrics).fallback(async || text(StatusCode::NOT_FOUND, "no such path\n"))
}

/// Health, readiness and metrics.
pub(crate) fn probe_routes<S: Clone + Send + Sync + 'static>(
    ready: impl Fn() -> Result<(), String> + Clone + Send + Sync + 'static,
    metrics: Arc<Metrics>,
) -> Router<S> {
    Router::new()
        .route("/healthz", get(async || text(StatusCode::OK, "ok\n")))
        .route("/readyz", get(async move || readiness(ready())))
        .route("/metrics", get(async move || build(StatusCode::OK, METRICS, metrics.encode())))
}

/// Tells the client that this answer is the last on its connection. HTTP/2 has frames of its own for it.
pub(crate) fn last_of_connection(mut response: Response, version: Version) -> Response {
    if version < Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The same routes, but that while the process is about to end each answer is the last on its connection.
///
/// API servers ask webhooks by HTTP/1.1, and do not ask again when a connection that they have just sent a review on is
/// closed: the review fails. So it is the answer that ends a connection, not the end of the drain, which finds only those
/// that nobody has used for as long as the drain was delayed.
pub(super) fn with_farewell(routes: Router, draining: &Arc<AtomicBool>) -> Router {
    let draining = Arc::clone(draining);
    routes.layer(middleware::from_fn(move |request: Request, next: Next| {
        let draining = Arc::clone(&draining);
        async move {
            let version = request.version();
            let response = next.run(request).await;
            if draining.load(Ordering::Acquire) { last_of_connection(response, version) } else { response }
        }
    }))
}

fn readiness(state: Result<(), String>) -> Response {
    match state {
        Ok(()) => text(StatusCode::OK, "ok\n"),
        Err(missing) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {missing}\n")),
    }
}

/// An answer in plain text.
pub(crate) fn text(status: StatusCode, text: impl Into<Body>) -> Response {
    build(status, TEXT, text)
}

/// An answer.
pub(crate) fn build(status: StatusCode, media_type: HeaderValue, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}
