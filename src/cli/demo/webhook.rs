//! The real webhook over TLS, and a client that asks it as a Kubernetes API server does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::config::OWN_NAMESPACE;
use super::failed;
use super::services::{Authority, address, listen};
use crate::admission::{Admission, AdmissionConfig, Templates};
use crate::cli::documents::Configuration;
use crate::source::SourceConfig;
use crate::source::registry::Upstream;
use crate::telemetry::Metrics;
use crate::verify::{Verifier, VerifyConfig};
use crate::webhook::tls::Pem;
use crate::webhook::{App, Limits, Timing, Tls, serve};

/// What podseal answered to one review.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) allowed: bool,
    /// 403 for a verdict, 503 when it could not decide, 0 when allowed.
    pub(super) code: u16,
    /// Its words: of a denial the message, of an allowance what the audit log keeps.
    pub(super) words: String,
    pub(super) warnings: Vec<String>,
}

/// A webhook that runs, and the way to it.
pub(super) struct Webhook {
    pub(super) address: SocketAddr,
    client: reqwest::Client,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Webhook {
    /// Starts it with these policies, whitelist and keys, and waits until it is ready.
    pub(super) async fn start(mut configuration: Configuration, authority: &Authority) -> Result<Self, String> {
        let metrics = Arc::new(Metrics::new());
        let inputs = Arc::new(configuration.inputs());
        let upstream = Arc::new(Upstream::new(SourceConfig::default())?);
        let verifier = Arc::new(Verifier::new(
            VerifyConfig::default(),
            upstream,
            Arc::new(configuration.objects),
            metrics.clone(),
        ));
        let exempt_namespaces = vec!["kube-system".to_owned(), OWN_NAMESPACE.to_owned()];
        let config = AdmissionConfig { exempt_namespaces, templates: Templates::Warn, ..AdmissionConfig::default() };
        let admission = Admission::new(config, verifier, inputs, metrics.clone());
        let routes = App::new(admission, metrics.clone(), Limits::default()).routes();

        let (certificate, key) = authority.certificate()?;
        let pem =
            Pem { certificate: certificate.pem().into_bytes(), key: key.serialize_pem().into_bytes(), client_ca: None };
        let tls = Tls::new(&pem, metrics).map_err(failed("start the webhook"))?;
        let listener = listen().await?;
        let address = address(&listener)?;
        let (stop, mut stopping) = watch::channel(false);
        let timing = Timing { drain_delay: Duration::ZERO, drain: Duration::from_secs(2), ..Timing::default() };
        let task = tokio::spawn(serve(listener, Some(tls), routes, timing, async move {
            // A sender that is gone means that the demo is over, too.
            let _ = stopping.wait_for(|stop| *stop).await;
        }));
        let webhook = Self { address, client: client(authority)?, stop, task };
        webhook.wait().await?;
        Ok(webhook)
    }

    /// Asks for `/readyz`; this also opens the connection, as an API server keeps one open.
    async fn wait(&self) -> Result<(), String> {
        let response = self.client.get(format!("https://{}/readyz", self.address)).send().await;
        let status = response.map_err(failed("reach the webhook"))?.status();
        if status.is_success() { Ok(()) } else { Err(format!("the webhook is not ready: status {status}")) }
    }

    /// Sends a review and takes the time until the answer is there.
    pub(super) async fn ask(&self, review: &Value) -> Result<(Answer, Duration), String> {
        let request = self
            .client
            .post(format!("https://{}/validate?timeout=10s", self.address))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(review.to_string());
        let started = Instant::now();
        let response = request.send().await.map_err(failed("ask the webhook"))?;
        let body = response.bytes().await.map_err(failed("read the webhook's answer"))?;
        let took = started.elapsed();
        Ok((read(&body, review)?, took))
    }

    /// Ends it: what is in flight is answered first.
    pub(super) async fn stop(self) {
        drop(self.client);
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

fn client(authority: &Authority) -> Result<reqwest::Client, String> {
    let ca = reqwest::Certificate::from_pem(authority.pem().as_bytes()).map_err(failed("read the authority"))?;
    reqwest::Client::builder()
        .tls_certs_only([ca])
        .https_only(true)
        .no_proxy()
        .timeout(Duration::from_secs(15))
        .build()
        .map_err(failed("set up a client"))
}

#[derive(Deserialize)]
struct Review {
    response: Response,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    status: Option<Status>,
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(default)]
    audit_annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Status {
    code: u16,
    message: String,
}

fn read(body: &[u8], review: &Value) -> Result<Answer, String> {
    let Review { response } = serde_json::from_slice(body).map_err(failed("read the webhook's answer"))?;
    if review.pointer("/request/uid").and_then(Value::as_str) != Some(&response.uid) {
        return Err("the webhook answered another question".to_owned());
    }
    let images = response.audit_annotations.get("images").cloned().unwrap_or_default();
    let (code, words) = response.status.map_or((0, images), |status| (status.code, status.message));
    Ok(Answer { allowed: response.allowed, code, words, warnings: response.warnings })
}
