//! Uploads: who sends them, what they are, and what became of them.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::header::{IF_NONE_MATCH, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::auth::{Writer, Writers};
use super::check::check;
use super::disk::{DiskError, Name, Place, Stored};
use super::extension::Upload;
use super::{Inner, Store, client};
use crate::server::load::Slot;
use crate::server::{Peer, body, build, last_of_connection, text};

/// For a body to arrive.
const BODY_TIME: Duration = Duration::from_secs(20);
/// What a document has besides its signature, in bytes.
const ENVELOPE: usize = 4096;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// How an answer looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    /// As registries tell errors (OCI distribution-spec, "Error codes").
    Json,
}

/// What is to be stored.
struct Item {
    content: Vec<u8>,
    name: Option<Name>,
    number: Option<usize>,
}

/// Why an upload is not taken.
struct Refused {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// The body was not read to its end, so the connection can carry nothing more.
    unread: bool,
}

impl Refused {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), unread: false }
    }

    fn unread(mut self) -> Self {
        self.unread = true;
        self
    }
}

/// `PUT /sigstore/…/signature-<n>`: the bytes of a signature, for a number that is free.
pub(super) async fn signature(store: &Store, place: Place, number: usize, request: Request) -> Response {
    if request.headers().get(IF_NONE_MATCH).is_none_or(|value| value != "*") {
        // Without it a client would expect that what is there is replaced, as PUT does elsewhere.
        let message = "signatures are never replaced: send If-None-Match: *\n";
        return last_of_connection(text(StatusCode::PRECONDITION_REQUIRED, message), request.version());
    }
    let limit = store.0.signatures.limits().size;
    let read = move |body: &Bytes| Ok(Item { content: body.to_vec(), name: None, number: Some(number) });
    take(store, place, request, limit, Form::Text, read).await
}

/// `PUT /extensions/v2/…/signatures/<digest>`: a document with a signature.
pub(super) async fn document(store: &Store, place: Place, request: Request) -> Response {
    let limit = store.0.signatures.limits().size.saturating_mul(3) / 2 + ENVELOPE;
    let named = place.clone();
    let read = move |body: &Bytes| {
        let upload =
            Upload::read(&named, body).map_err(|why| Refused::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", why))?;
        Ok(Item { content: upload.content, name: upload.name, number: None })
    };
    take(store, place, request, limit, Form::Json, read).await
}

async fn take(
    store: &Store,
    place: Place,
    request: Request,
    limit: usize,
    form: Form,
    read: impl FnOnce(&Bytes) -> Result<Item, Refused> + Send + 'static,
) -> Response {
    let version = request.version();
    let response = match try_take(store, place.clone(), request, limit, read).await {
        Ok(stored) => respond(&place, &stored, form),
        Err(refused) => {
            let unread = refused.unread;
            let response = refuse(&refused, form);
            if unread { last_of_connection(response, version) } else { response }
        }
    };
    store.0.metrics.store.upload(response.status().as_u16());
    response
}

async fn try_take(
    store: &Store,
    place: Place,
    request: Request,
    limit: usize,
    read: impl FnOnce(&Bytes) -> Result<Item, Refused> + Send + 'static,
) -> Result<Stored, Refused> {
    let peer = request.extensions().get::<Arc<Peer>>().cloned();
    let writer = admit(store, &place, request.headers(), peer.as_deref()).await?;
    let slot = Slot::take(&store.0.load).ok_or_else(|| {
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, "TOOMANYREQUESTS", "too many uploads at once, try again").unread()
    })?;
    let (body, held) = body::read(request.into_body(), &store.0.load, limit, BODY_TIME)
        .await
        .map_err(|error| Refused::new(error.status(), "SIZE_INVALID", error.to_string()).unread())?;
    let stored = store.blocking(
        |inner| &inner.writing,
        move |inner| {
            // Given back when this is done, and not when the client goes away meanwhile.
            let _both = (slot, held);
            let item = read(&body)?;
            keep(inner, &place, &item, &writer, peer.as_deref())
        },
    );
    let failed = || Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "the upload failed");
    stored.await.unwrap_or_else(|| Err(failed()))
}

async fn admit(store: &Store, place: &Place, headers: &HeaderMap, peer: Option<&Peer>) -> Result<Writer, Refused> {
    store.0.writers.admit(headers, peer).await.map_err(|refusal| {
        tracing::warn!(client = %client(peer), repository = place.path(), "an upload is refused: {refusal}");
        let status = refusal.status();
        let code = match status {
            StatusCode::UNAUTHORIZED => "UNAUTHORIZED",
            StatusCode::FORBIDDEN => "DENIED",
            _ => "UNAVAILABLE",
        };
        Refused::new(status, code, refusal.to_string()).unread()
    })
}

/// Checks and stores; and says so in the log, whether or not the client still waits for the answer.
fn keep(inner: &Inner, place: &Place, item: &Item, writer: &Writer, peer: Option<&Peer>) -> Result<Stored, Refused> {
    let too_large = DiskError::TooLarge(inner.signatures.limits().size);
    if item.content.len() > inner.signatures.limits().size {
        return Err(on_disk(&too_large));
    }
    let said = check(place, &item.content)
        .map_err(|why| Refused::new(StatusCode::UNPROCESSABLE_ENTITY, "MANIFEST_INVALID", why))?;
    if !inner.census.has_room() {
        let max = inner.census.max();
        let message = format!("the store has {max} signatures, and no more are kept (--max-total)");
        return Err(Refused::new(StatusCode::INSUFFICIENT_STORAGE, "UNAVAILABLE", message));
    }
    let stored = match item.number {
        Some(number) => inner.signatures.append_as(place, &item.content, number),
        None => inner.signatures.append(place, &item.content, item.name.as_ref()),
    };
    let stored = stored.map_err(|error| on_disk(&error))?;
    if stored.new {
        inner.metrics.store.signatures(inner.census.added());
    }
    tracing::info!(
        user = %writer.name, by = writer.by, client = %client(peer), repository = place.path(), digest = %place.digest(),
        name = %stored.name, number = stored.number, new = stored.new, issuers = %said.issuers.join(","),
        reference = %super::auth::printable(&said.reference), "signature uploaded"
    );
    Ok(stored)
}

fn on_disk(error: &DiskError) -> Refused {
    let (status, code) = match error {
        DiskError::Empty => (StatusCode::BAD_REQUEST, "SIZE_INVALID"),
        DiskError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"),
        DiskError::NotNext { .. } => (StatusCode::PRECONDITION_FAILED, "NAME_INVALID"),
        DiskError::TooMany(_) => (StatusCode::CONFLICT, "DENIED"),
        DiskError::NameTaken(_) => (StatusCode::CONFLICT, "NAME_INVALID"),
        DiskError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "TOOMANYREQUESTS"),
        DiskError::Full => {
            tracing::error!("a signature cannot be stored: {error}");
            (StatusCode::INSUFFICIENT_STORAGE, "UNAVAILABLE")
        }
        DiskError::Io { .. } => {
            // Paths and causes are for the log.
            tracing::error!("a signature cannot be stored: {error}");
            let message = "the signature cannot be stored; the store's log says why";
            return Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", message);
        }
    };
    Refused::new(status, code, error.to_string())
}

fn respond(place: &Place, stored: &Stored, form: Form) -> Response {
    let status = if stored.new { StatusCode::CREATED } else { StatusCode::OK };
    let name = format!("{}@{}", place.digest(), stored.name);
    let mut response = match form {
        Form::Text => text(status, format!("signature-{} {name}\n", stored.number)),
        Form::Json => build(status, JSON, serde_json::json!({"name": name}).to_string()),
    };
    if let Ok(location) = HeaderValue::from_str(&format!("/sigstore/{place}/signature-{}", stored.number)) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn refuse(refused: &Refused, form: Form) -> Response {
    let mut response = match form {
        Form::Text => text(refused.status, format!("{}\n", refused.message)),
        Form::Json => {
            let errors = serde_json::json!({"errors": [{"code": refused.code, "message": refused.message}]});
            build(refused.status, JSON, errors.to_string())
        }
    };
    let headers = response.headers_mut();
    match refused.status {
        StatusCode::UNAUTHORIZED => drop(headers.insert(WWW_AUTHENTICATE, Writers::challenge())),
        StatusCode::SERVICE_UNAVAILABLE => drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("1"))),
        _ => {}
    }
    response
}
