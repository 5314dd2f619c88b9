//! A signature store: files over plain HTTP, as nginx would serve them. Signatures protect themselves, so it needs no TLS.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use bytes::Bytes;
use http::StatusCode;

use crate::domain::digest::Digest;

/// Signatures by `<repository path>@<algorithm>=<hex>/signature-<n>`.
#[derive(Debug, Default)]
pub(super) struct Store(BTreeMap<String, Bytes>);

impl Store {
    /// Adds the next signature of a digest in a repository.
    pub(super) fn add(&mut self, path: &str, digest: &Digest, signature: Vec<u8>) {
        let directory = format!("{path}@{}={}/", digest.algorithm_name(), digest.hex());
        let number = self.0.keys().filter(|name| name.starts_with(&directory)).count() + 1;
        self.0.insert(format!("{directory}signature-{number}"), signature.into());
    }

    /// Everything added so far, to be served below `/sigstore/`.
    pub(super) fn router(self) -> Router {
        Router::new().route("/sigstore/{*name}", get(serve)).with_state(Arc::new(self))
    }
}

async fn serve(State(store): State<Arc<Store>>, Path(name): Path<String>) -> (StatusCode, Bytes) {
    // skopeo asks with two slashes when the configured URL ends in one, and file servers take them for one.
    match store.0.get(name.trim_start_matches('/')) {
        Some(signature) => (StatusCode::OK, signature.clone()),
        None => (StatusCode::NOT_FOUND, Bytes::from_static(b"no such signature\n")),
    }
}
