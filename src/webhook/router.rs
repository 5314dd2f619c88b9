//! Paths, methods, media types and statuses.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode, Version};

use super::budget::Budget;
use super::{App, Reviewer, review};
use crate::admission::{Answer, Question};
use crate::server::body::{self, BodyError};
use crate::server::load::{Held, Slot};
use crate::server::{build, last_of_connection, probe_routes, text};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Everything: reviews and probes.
pub fn router<R: Reviewer>(app: &App<R>) -> Router {
    Router::new()
        .route("/validate", post(async |app, request| answer::<R>(app, Question::Verdict, request).await))
        .route("/mutate", post(async |app, request| answer::<R>(app, Question::Pins, request).await))
        .route("/validate-policy", post(validate_policy::<R>))
        .merge(probes_of(app))
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
        .merge(probes_of(app))
        .fallback(async || text(StatusCode::NOT_FOUND, "no such path\n"))
        .with_state(app.clone())
}

fn probes_of<R: Reviewer>(app: &App<R>) -> Router<App<R>> {
    let ready = {
        let app = app.clone();
        move || app.ready()
    };
    probe_routes(ready, Arc::clone(&app.0.metrics))
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

fn respond(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let media_type = if status == StatusCode::OK { JSON } else { TEXT };
    build(status, media_type, answer.body)
}
