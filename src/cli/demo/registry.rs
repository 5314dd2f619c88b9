//! A registry in memory: the reading half of the OCI distribution specification with its referrers API. Filled once, then
//! served to anybody, as `docker-registry` without accounts would.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::domain::digest::Digest;

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Everything one repository holds.
#[derive(Debug, Default)]
struct Repository {
    /// By digest. Every manifest of the demo is of one media type.
    manifests: BTreeMap<String, Bytes>,
    tags: BTreeMap<String, String>,
    blobs: BTreeMap<String, Bytes>,
    /// Subject → descriptors of what refers to it.
    referrers: BTreeMap<String, Vec<Value>>,
}

/// All repositories by path.
#[derive(Debug, Default)]
pub(super) struct Registry(BTreeMap<String, Repository>);

impl Registry {
    /// Builds and pushes a tiny image that differs from every other by `content`; gives its digest.
    pub(super) fn push_image(&mut self, path: &str, tag: &str, content: &str) -> Digest {
        // The end of a tar archive and nothing before it: an empty file system.
        let layer = vec![0; 1024];
        let config = json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Labels": {"io.podseal.demo": content}},
            "rootfs": {"type": "layers", "diff_ids": [Digest::sha256(&layer).as_str()]},
        });
        let layer = self.push_blob(path, "application/vnd.oci.image.layer.v1.tar", layer);
        let config = self.push_blob(path, CONFIG, config.to_string());
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        self.push_manifest(path, Some(tag), &manifest)
    }

    /// Attaches a document to a digest, as a referrer: an artifact of this type with one layer.
    pub(super) fn attach(&mut self, path: &str, subject: &Digest, artifact_type: &str, document: Vec<u8>) {
        let size = self.0.get(path).and_then(|r| r.manifests.get(subject.as_str())).map_or(0, Bytes::len);
        let config = self.push_blob(path, EMPTY, "{}");
        let layer = self.push_blob(path, artifact_type, document);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": artifact_type, "config": config,
            "layers": [layer],
            "subject": {"mediaType": MANIFEST, "digest": subject.as_str(), "size": size},
        });
        let digest = self.push_manifest(path, None, &manifest);
        let descriptor = json!({
            "mediaType": MANIFEST, "digest": digest.as_str(), "size": manifest.to_string().len(),
            "artifactType": artifact_type,
        });
        let referrers = &mut self.repository(path).referrers;
        referrers.entry(subject.as_str().to_owned()).or_default().push(descriptor);
    }

    /// Pushes a manifest with one layer that carries annotations, under a tag of its own.
    pub(super) fn push_annotated(
        &mut self,
        path: &str,
        tag: &str,
        media_type: &str,
        content: Vec<u8>,
        annotations: &Value,
    ) {
        let config = self.push_blob(path, CONFIG, "{}");
        let mut layer = self.push_blob(path, media_type, content);
        if let Some(layer) = layer.as_object_mut() {
            layer.insert("annotations".to_owned(), annotations.clone());
        }
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        self.push_manifest(path, Some(tag), &manifest);
    }

    fn push_manifest(&mut self, path: &str, tag: Option<&str>, manifest: &Value) -> Digest {
        let bytes = Bytes::from(manifest.to_string());
        let digest = Digest::sha256(&bytes);
        let repository = self.repository(path);
        repository.manifests.insert(digest.as_str().to_owned(), bytes);
        if let Some(tag) = tag {
            repository.tags.insert(tag.to_owned(), digest.as_str().to_owned());
        }
        digest
    }

    /// Gives the descriptor.
    fn push_blob(&mut self, path: &str, media_type: &str, content: impl Into<Bytes>) -> Value {
        let bytes: Bytes = content.into();
        let digest = Digest::sha256(&bytes);
        let size = bytes.len();
        self.repository(path).blobs.insert(digest.as_str().to_owned(), bytes);
        json!({"mediaType": media_type, "digest": digest.as_str(), "size": size})
    }

    fn repository(&mut self, path: &str) -> &mut Repository {
        self.0.entry(path.to_owned()).or_default()
    }

    /// Everything pushed so far, to be served; HEAD is answered as GET without the body.
    pub(super) fn router(self) -> Router {
        Router::new()
            .route("/v2/", get(async || answer(StatusCode::OK, "application/json", None, "{}")))
            .route("/v2/{*rest}", get(serve))
            .fallback(async || error(StatusCode::NOT_FOUND, "UNSUPPORTED", "this registry only has the v2 API"))
            .with_state(Arc::new(self))
    }
}

async fn serve(State(registry): State<Arc<Registry>>, Path(rest): Path<String>) -> Response {
    if rest == "_catalog" {
        let names: Vec<_> = registry.0.keys().collect();
        return answer(StatusCode::OK, "application/json", None, json!({"repositories": names}).to_string());
    }
    let unknown = || error(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "no such repository");
    // Repository paths have slashes, so the last two parts say what is asked for.
    let Some((head, reference)) = rest.rsplit_once('/') else { return unknown() };
    let Some((path, kind)) = head.rsplit_once('/') else { return unknown() };
    let Some(repository) = registry.0.get(path) else { return unknown() };
    match kind {
        "manifests" => manifest(repository, reference),
        "blobs" => match repository.blobs.get(reference) {
            Some(bytes) => answer(StatusCode::OK, "application/octet-stream", Some(reference), bytes.clone()),
            None => error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "no such blob"),
        },
        "referrers" => {
            let found = repository.referrers.get(reference).map_or(&[][..], Vec::as_slice);
            let list = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": found});
            answer(StatusCode::OK, INDEX, None, list.to_string())
        }
        "tags" if reference == "list" => {
            let tags: Vec<_> = repository.tags.keys().collect();
            answer(StatusCode::OK, "application/json", None, json!({"name": path, "tags": tags}).to_string())
        }
        _ => unknown(),
    }
}

fn manifest(repository: &Repository, reference: &str) -> Response {
    let digest = repository.tags.get(reference).map_or(reference, String::as_str);
    match repository.manifests.get(digest) {
        Some(bytes) => answer(StatusCode::OK, MANIFEST, Some(digest), bytes.clone()),
        None => error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "no such tag or manifest"),
    }
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let body = json!({"errors": [{"code": code, "message": message}]});
    answer(status, "application/json", None, body.to_string())
}

fn answer(status: StatusCode, media_type: &'static str, digest: Option<&str>, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    if let Some(value) = digest.and_then(|d| HeaderValue::from_str(d).ok()) {
        response.headers_mut().insert(CONTENT_DIGEST, value);
    }
    response
}
