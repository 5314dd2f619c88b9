//! The page for people: keys, repositories, and who made which signature.
//!
//! Made on the server, without scripts and without anything from elsewhere. Lists are cut into pages, and signatures are
//! verified for the page that shows them alone, so that a store with many is not slower to look at.

mod frame;
mod html;
mod query;
mod verdict;
mod views;

use std::time::SystemTime;

use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use http::{HeaderValue, StatusCode};

use self::query::Query;
pub(super) use self::verdict::Verdicts;
use super::{Inner, Store};
use crate::server::{build, text};

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// The page that a query asks for.
pub(super) async fn answer(store: &Store, query: Option<&str>) -> Response {
    let query = Query::read(query.unwrap_or_default());
    match store.blocking(|inner| &inner.pages, move |inner| make(inner, &query)).await {
        Some(Ok((status, page))) => with_policy(build(status, HTML, page)),
        Some(Err(error)) => {
            tracing::error!("the page cannot be made: {error}");
            text(StatusCode::INTERNAL_SERVER_ERROR, "the store cannot be read; its log says why\n")
        }
        None => text(StatusCode::INTERNAL_SERVER_ERROR, "the page cannot be made\n"),
    }
}

fn make(inner: &Inner, query: &Query) -> Result<(StatusCode, String), super::disk::DiskError> {
    let walk = inner.census.look()?;
    let keys = inner.keys.look();
    // Keys expire while their files stay as they are.
    let certificates = keys.ring.keys(SystemTime::now());
    match &query.repository {
        None => Ok((StatusCode::OK, views::overview(&walk, &keys, &certificates, query, inner.writers.is_empty()))),
        Some(path) => Ok(views::repository(inner, &walk, &keys, &certificates, path, query)),
    }
}

/// Nothing but this very style sheet is loaded, run, framed or sent anywhere.
fn with_policy(mut response: Response) -> Response {
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(frame::policy()) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
