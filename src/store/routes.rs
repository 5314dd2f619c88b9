//! Paths, methods and statuses of what is read.

use axum::extract::{Request, State};
use axum::response::Response;
use http::header::{ALLOW, CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::disk::{DiskError, Place};
use super::extension::List;
use super::paths::{Target, is_cosign_key, target};
use super::{Store, bytes_of, file, page, room, upload};
use crate::server::{build, text};
use crate::telemetry::Asked;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// What containers/image announces a registry with this API by; a front may pass it on.
const ANNOUNCEMENT: &str = "x-registry-supports-signatures";

const READ: &str = "GET, HEAD";
const READ_AND_WRITE: &str = "GET, HEAD, PUT";

/// Answers one request.
pub(super) async fn answer(State(store): State<Store>, request: Request) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let writes = request.method() == Method::PUT;
    let (asked, response) = match target(request.uri().path()) {
        None => (Asked::Other, text(StatusCode::NOT_FOUND, "no such path\n")),
        Some(Target::Index) if reads => (Asked::Page, page::answer(&store, request.uri().query()).await),
        Some(Target::Index) => (Asked::Page, not_allowed(READ)),
        Some(Target::Key(name)) if reads => (Asked::Key, key(&store, &name, request.headers()).await),
        Some(Target::Key(_)) => (Asked::Key, not_allowed(READ)),
        Some(Target::Signature(place, number)) => {
            let response = match () {
                () if reads => signature(&store, place, number, request.headers()).await,
                () if writes => upload::signature(&store, place, number, request).await,
                () => not_allowed(READ_AND_WRITE),
            };
            (Asked::Signature, response)
        }
        Some(Target::Extension(place)) => {
            let response = match () {
                () if reads => list(&store, place).await,
                () if writes => upload::document(&store, place, request).await,
                () => not_allowed(READ_AND_WRITE),
            };
            (Asked::Extension, response)
        }
    };
    store.0.metrics.store.request(asked, response.status().as_u16());
    response
}

fn not_allowed(methods: &'static str) -> Response {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("only {methods} here\n"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}

async fn signature(store: &Store, place: Place, number: usize, asked: &HeaderMap) -> Response {
    let read = match store.0.signatures.read_at_once(&place, number) {
        Some(read) => Some(Ok(read)),
        None => store.blocking(|inner| &inner.reading, move |inner| inner.signatures.read(&place, number)).await,
    };
    match read {
        Some(Ok(Some(blob))) => {
            let (content, modified) = bytes_of(blob);
            file::answer(asked, content, modified, "application/octet-stream")
        }
        Some(Ok(None)) => text(StatusCode::NOT_FOUND, "no such signature\n"),
        Some(Err(error)) => failed(&error),
        None => text(StatusCode::INTERNAL_SERVER_ERROR, "the signature cannot be read\n"),
    }
}

/// A reader must not take this for "no such signature": that would end its list.
fn failed(error: &DiskError) -> Response {
    tracing::error!("a signature cannot be read: {error}");
    text(StatusCode::INTERNAL_SERVER_ERROR, "the signature cannot be read; the store's log says why\n")
}

async fn list(store: &Store, place: Place) -> Response {
    let listed = store.blocking(
        |inner| &inner.reading,
        move |inner| {
            let kept = inner.signatures.list(&place)?;
            let answered = room::answered(&place, &kept, &inner.known, &inner.keys);
            Ok::<_, DiskError>(serde_json::to_vec(&List::of(&place, &answered)).unwrap_or_default())
        },
    );
    match listed.await {
        Some(Ok(body)) => {
            let mut response = build(StatusCode::OK, JSON, body);
            let headers = response.headers_mut();
            headers.insert(ANNOUNCEMENT, HeaderValue::from_static("1"));
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            response
        }
        Some(Err(error)) => failed(&error),
        None => text(StatusCode::INTERNAL_SERVER_ERROR, "the signatures cannot be read\n"),
    }
}

async fn key(store: &Store, name: &str, asked: &HeaderMap) -> Response {
    let keys = match store.0.keys.fresh() {
        Some(keys) => Some(keys),
        None => store.blocking(|inner| &inner.reading, |inner| inner.keys.look()).await,
    };
    let Some(found) = keys.as_ref().and_then(|keys| keys.files.get(name)) else {
        return text(StatusCode::NOT_FOUND, "no such key file\n");
    };
    let media_type = if is_cosign_key(name) { "text/plain; charset=utf-8" } else { "application/pgp-keys" };
    file::answer(asked, found.content.clone(), found.modified, media_type)
}
