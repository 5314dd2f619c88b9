//! The floor: what any webhook of these crates costs. axum and hyper over rustls with aws-lc-rs, on a multi-threaded tokio,
//! all as podseal has them; no logs, no metrics, no limits. It reads uid, namespace and the containers' images into a small
//! struct (no tree), and says yes.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Serves until it is killed; the first line on standard output is the address.
pub fn run(certificate: &Path, key: &Path) -> ExitCode {
    let config = config(certificate, key);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let router = Router::new().route("/validate", post(validate));
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (acceptor, service) = (acceptor.clone(), TowerToHyperService::new(router.clone()));
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    // The load generator ends connections as it likes.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                }
            });
        }
    })
}

fn config(certificate: &Path, key: &Path) -> ServerConfig {
    let chain = CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    builder.with_no_client_auth().with_single_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
}

#[derive(Deserialize)]
struct Review {
    request: Request,
}

#[derive(Deserialize)]
struct Request {
    uid: String,
    namespace: String,
    object: Pod,
}

#[derive(Deserialize)]
struct Pod {
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    image: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Yes<'a>,
}

#[derive(Serialize)]
struct Yes<'a> {
    uid: &'a str,
    allowed: bool,
}

async fn validate(body: Bytes) -> (StatusCode, [(HeaderName, &'static str); 1], Vec<u8>) {
    let json = [(CONTENT_TYPE, "application/json")];
    let Ok(Review { request }) = serde_json::from_slice::<Review>(&body) else {
        return (StatusCode::BAD_REQUEST, json, Vec::new());
    };
    let allowed = !request.namespace.is_empty() && request.object.spec.containers.iter().all(|c| !c.image.is_empty());
    let response = Yes { uid: &request.uid, allowed };
    let answer = Answer { api_version: "admission.k8s.io/v1", kind: "AdmissionReview", response };
    (StatusCode::OK, json, serde_json::to_vec(&answer).unwrap())
}
