//! Paths, methods, media types and statuses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode, Version};

use super::body::{self, BodyError};
use super::budget::Budget;
use super::load::{Held, Slot};
use super::{App, Gate, Reviewer, review};
use crate::admission::{Answer, Question};
use crate::telemetry::{Metrics, metrics};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const METRICS: HeaderValue = HeaderValue::from_static(metrics::CONTENT_TYPE);

/// Everything: reviews and probes.
pub fn router<R: Reviewer>(app: &App<R>) -> Router {
    Router::new()
        .route("/validate", post(async |app, request| answer::<R>(app, Question::Verdict, request).await))
        .route("/mutate", post(async |app, request| answer::<R>(app, Question::Pins, request).await))
        .route("/validate-policy", post(validate_policy::<R>))
        .merge(probe_routes())
        .fallback(async || text(StatusCode::NOT_FOUND, "no such path\n"))
        .with_state(app.clone())
}

/// What anybody may ask: health, readiness, metrics. Reviews are answered on the TLS port alone, and only to callers
/// with a client certificate where those are demanded.
pub fn probes<R: Reviewer>(app: &App<R>) -> Router {
    let refused =
        async || text(StatusCode::FORBIDDEN, "reviews need TLS and the client certificate, if one is demanded\n");
    Router::new()
        .route("/validate", post(refused))
        .route("/mutate", post(refused))
        .route("/validate-policy", post(refused))
        .merge(probe_routes())
        .fallback(async || text(StatusCode::NOT_FOUND, "no such path\n"))
        .with_state(app.clone())
}

/// What a process without reviews answers: health, readiness by `gate` until it is about to end, metrics.
pub(super) fn bare_probes(gate: Gate, metrics: Arc<Metrics>, draining: Arc<AtomicBool>) -> Router {
    let ready = move || {
        let state = if draining.load(Ordering::Acquire) { Err("shutting down".to_owned()) } else { gate() };
        readiness(state)
    };
    Router::new()
        .route("/healthz", get(async || text(StatusCode::OK, "ok\n")))
        .route("/readyz", get(async move || ready()))
        .route("/metrics", get(async move || build(StatusCode::OK, METRICS, metrics.encode())))
        .fallback(async || text(StatusCode::NOT_FOUND, "no such path\n"))
}

fn probe_routes<R: Reviewer>() -> Router<App<R>> {
    Router::new()
        .route("/healthz", get(async || text(StatusCode::OK, "ok\n")))
        .route("/readyz", get(readyz::<R>))
        .route("/metrics", get(metrics::<R>))
}

async fn answer<R: Reviewer>(State(app): State<App<R>>, question: Question, request: Request) -> Response {
    let started = Instant::now();
    let budget = Budget::of_query(request.uri().query());
    let (body, held, slot) = match accept(&app, question, request, budget).await {
        Ok(accepted) => accepted,
        Err(response) => return response,
    };
    let left = budget.work.saturating_sub(started.elapsed());
    respond(review::answer(&app, question, body, held, slot, left, budget.margin).await)
}

async fn validate_policy<R: Reviewer>(State(app): State<App<R>>, request: Request) -> Response {
    let budget = Budget::of_query(request.uri().query());
    let question = Question::Policy;
    match accept(&app, question, request, budget).await {
        Ok((body, _held, _slot)) => respond(review::at_once(&app, question, &body, R::validate_policy)),
        Err(response) => response,
    }
}

/// Takes a review in: media type, body, and a place among those in flight; or the response that refuses it.
async fn accept<R: Reviewer>(
    app: &App<R>,
    question: Question,
    request: Request,
    budget: Budget,
) -> Result<(Bytes, Held, Slot), Response> {
    if !is_json(request.headers()) {
        return Err(text(StatusCode::UNSUPPORTED_MEDIA_TYPE, "reviews are sent as application/json\n"));
    }
    let version = request.version();
    let limits = &app.0.limits;
    let time = limits.body_time.min(budget.work);
    let (body, held) = body::read(request.into_body(), &app.0.load, limits.body, time)
        .await
        .map_err(|error| refuse_body(error, version))?;
    let Some(slot) = Slot::take(&app.0.load) else {
        app.0.metrics.shed();
        let overloaded = |reviewer: &R, body: &[u8]| reviewer.overloaded(question, body);
        return Err(respond(review::at_once(app, question, &body, overloaded)));
    };
    Ok((body, held, slot))
}

/// `application/json`, with parameters or without (RFC 9110 section 8.3.1).
fn is_json(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        let essence = value.split_once(';').map_or(value, |(essence, _)| essence);
        essence.trim().eq_ignore_ascii_case("application/json")
    })
}

fn refuse_body(error: BodyError, version: Version) -> Response {
    tracing::warn!(%error, "refused a request body");
    // The rest of the body is not waited for, so the connection can carry nothing more.
    last_of_connection(text(error.status(), format!("{error}\n")), version)
}

/// Tells the client that this answer is the last on its connection. HTTP/2 has frames of its own for it.
fn last_of_connection(mut response: Response, version: Version) -> Response {
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

async fn readyz<R: Reviewer>(State(app): State<App<R>>) -> Response {
    readiness(app.ready())
}

fn readiness(state: Result<(), String>) -> Response {
    match state {
        Ok(()) => text(StatusCode::OK, "ok\n"),
        Err(missing) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {missing}\n")),
    }
}

async fn metrics<R: Reviewer>(State(app): State<App<R>>) -> Response {
    build(StatusCode::OK, METRICS, app.0.metrics.encode())
}

fn respond(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let media_type = if status == StatusCode::OK { JSON } else { TEXT };
    build(status, media_type, answer.body)
}

fn text(status: StatusCode, text: impl Into<Body>) -> Response {
    build(status, TEXT, text)
}

fn build(status: StatusCode, media_type: HeaderValue, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}
