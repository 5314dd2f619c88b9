//! Uploads: who sends them, what they are, and what became of them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::header::{IF_NONE_MATCH, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::body::Body as _;

use super::auth::{Refusal, Writer, Writers};
use super::check::check;
use super::disk::{Choice, DiskError, Name, Place, Rules, Stored};
use super::extension::Upload;
use super::share::Newcomer;
use super::{Inner, Store, client};
use crate::server::body::BodyError;
use crate::server::load::Slot;
use crate::server::{Peer, body, build, last_of_connection, text};

/// For a body to arrive.
const BODY_TIME: Duration = Duration::from_secs(20);
/// Of a refused body.
const MAX_DISCARDED: usize = 4 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(5);
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

    /// The same once the client has sent what it wanted to send, as far as that is bearable.
    async fn after(mut self, request: Request) -> Self {
        self.unread = !body::discard(request.into_body(), MAX_DISCARDED, DISCARD_TIME).await;
        self
    }
}

/// `PUT /sigstore/…/signature-<n>`: the bytes of a signature, for a number that is free.
pub(super) async fn signature(store: &Store, place: Place, number: usize, request: Request) -> Response {
    if request.headers().get(IF_NONE_MATCH).is_none_or(|value| value != "*") {
        // Without it a client would expect that what is there is replaced, as PUT does elsewhere.
        let version = request.version();
        let message = "signatures are never replaced: send If-None-Match: *";
        let refused = Refused::new(StatusCode::PRECONDITION_REQUIRED, "DENIED", message).after(request).await;
        let response = refuse(&refused, Form::Text);
        store.0.metrics.store.upload(response.status().as_u16());
        return if refused.unread { last_of_connection(response, version) } else { response };
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
    // Of the body itself nothing may be borrowed while something is waited for.
    let (headers, announced) = (request.headers().clone(), request.body().size_hint().lower());
    let (writer, slot) = match enter(store, &place, headers, announced <= limit as u64, peer.as_deref()).await {
        Ok(entered) => entered,
        Err(refused) => return Err(refused.after(request).await),
    };
    let (body, held) = body::read(request.into_body(), &store.0.load, limit, BODY_TIME)
        .await
        .map_err(|error| Refused { unread: true, ..Refused::new(error.status(), "SIZE_INVALID", error.to_string()) })?;
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

/// What is looked at before the body: who writes, how much, and whether there is room for one more.
async fn enter(
    store: &Store,
    place: &Place,
    headers: HeaderMap,
    fits: bool,
    peer: Option<&Peer>,
) -> Result<(Writer, Slot), Refused> {
    let writer = admit(store, place, &headers, peer).await?;
    if !fits {
        let message = BodyError::TooLarge.to_string();
        return Err(Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", message));
    }
    let crowded = "too many uploads at once, try again";
    let slot = Slot::take(&store.0.load);
    let slot = slot.ok_or_else(|| Refused::new(StatusCode::SERVICE_UNAVAILABLE, "TOOMANYREQUESTS", crowded))?;
    Ok((writer, slot))
}

async fn admit(store: &Store, place: &Place, headers: &HeaderMap, peer: Option<&Peer>) -> Result<Writer, Refused> {
    store.0.writers.admit(headers, peer).await.map_err(|refusal| {
        store.0.metrics.store.turned_away(refusal.reason());
        // Strangers can ask as often as they like, and would fill the log.
        if matches!(refusal, Refusal::Forbidden(_)) {
            tracing::warn!(client = %client(peer), repository = place.path(), "an upload is refused: {refusal}");
        } else {
            tracing::debug!(client = %client(peer), repository = place.path(), "an upload is refused: {refusal}");
        }
        let status = refusal.status();
        let code = match status {
            StatusCode::UNAUTHORIZED => "UNAUTHORIZED",
            StatusCode::FORBIDDEN => "DENIED",
            StatusCode::TOO_MANY_REQUESTS => "TOOMANYREQUESTS",
            _ => "UNAVAILABLE",
        };
        Refused::new(status, code, refusal.to_string())
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
    if inner.known_keys_only {
        by_known_key(inner, &item.content)?;
    }
    let newcomer = Newcomer {
        cores: &inner.cores,
        known: &inner.known,
        places: inner.signatures.limits().signatures,
        folder: &inner.keys,
        place,
        content: &item.content,
        said: &said,
    };
    // What is there already takes no room.
    if !inner.census.has_room() && !is_there(inner, &newcomer)? {
        let max = inner.census.max();
        let message = format!("the store has {max} signatures, and no more are kept (--max-total)");
        return Err(Refused::new(StatusCode::INSUFFICIENT_STORAGE, "UNAVAILABLE", message));
    }
    let choice = Choice { name: item.name.as_ref(), number: item.number };
    let rules = Rules { same: &|kept| newcomer.is(kept), objection: &|kept| newcomer.objection(kept) };
    let stored = inner.signatures.append_unless(place, &item.content, choice, &rules);
    let stored = stored.map_err(|error| on_disk(&error))?;
    if stored.new {
        inner.metrics.store.signatures(inner.census.added());
    }
    tracing::info!(
        user = %writer.name, by = writer.by, client = %client(peer), repository = place.path(), digest = %place.digest(),
        name = %stored.name, number = stored.number, new = stored.new, issuers = %said.issuers.join(","),
        reference = %super::auth::loggable(&said.reference), "signature uploaded"
    );
    Ok(stored)
}

fn by_known_key(inner: &Inner, content: &[u8]) -> Result<(), Refused> {
    let verified = inner.keys.look().ring.verify(content, SystemTime::now());
    verified.map(drop).map_err(|error| {
        let message = format!("no key of /keys verifies the signature, and this store takes no others: {error}");
        Refused::new(StatusCode::UNPROCESSABLE_ENTITY, "MANIFEST_UNVERIFIED", message)
    })
}

fn is_there(inner: &Inner, newcomer: &Newcomer<'_>) -> Result<bool, Refused> {
    let kept = inner.signatures.list(newcomer.place).map_err(|error| on_disk(&error))?;
    Ok(kept.iter().any(|kept| newcomer.is(kept)))
}

fn on_disk(error: &DiskError) -> Refused {
    let (status, code) = match error {
        DiskError::Empty => (StatusCode::BAD_REQUEST, "SIZE_INVALID"),
        DiskError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"),
        DiskError::NotNext { .. } => (StatusCode::PRECONDITION_FAILED, "NAME_INVALID"),
        DiskError::TooMany(_) | DiskError::Refused(_) => (StatusCode::CONFLICT, "DENIED"),
        DiskError::NameTaken(_) => (StatusCode::CONFLICT, "NAME_INVALID"),
        DiskError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "TOOMANYREQUESTS"),
        DiskError::Full => {
            tracing::error!("a signature cannot be stored: {error}");
            (StatusCode::INSUFFICIENT_STORAGE, "UNAVAILABLE")
        }
        DiskError::NotAllowed { .. } | DiskError::Io { .. } => {
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
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
            drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("1")));
        }
        _ => {}
    }
    response
}
